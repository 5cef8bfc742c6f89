//! The stylesheet, the script and the logo, built into the binary.
//!
//! Their names hold a digest of their content, so browsers may keep them for ever.

use std::sync::LazyLock;

use sha2::{Digest as _, Sha256};

/// The `Cache-Control` of every asset.
pub const CACHE_CONTROL: &str = "public, max-age=31536000, immutable";

/// One file that pages link.
#[derive(Debug, Clone)]
pub struct Asset {
    /// The last part of its path: `cubicle.DIGEST.css`.
    pub name: String,
    /// Its `Content-Type`.
    pub content_type: &'static str,
    /// Its content.
    pub content: &'static [u8],
}

static STYLE: LazyLock<Asset> =
    LazyLock::new(|| asset("css", "text/css; charset=utf-8", include_bytes!("../../assets/cubicle.css")));
static SCRIPT: LazyLock<Asset> =
    LazyLock::new(|| asset("js", "text/javascript; charset=utf-8", include_bytes!("../../assets/cubicle.js")));
static LOGO: LazyLock<Asset> =
    LazyLock::new(|| asset("svg", "image/svg+xml", include_bytes!("../../assets/cubicle.svg")));

fn asset(extension: &str, content_type: &'static str, content: &'static [u8]) -> Asset {
    let digest: String = Sha256::digest(content).iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    Asset { name: format!("cubicle.{digest}.{extension}"), content_type, content }
}

/// The asset of this name.
pub fn find(name: &str) -> Option<&'static Asset> {
    all().into_iter().find(|asset| asset.name == name)
}

/// All assets.
pub fn all() -> [&'static Asset; 3] {
    [&STYLE, &SCRIPT, &LOGO]
}

/// The stylesheet's name.
pub(super) fn style() -> &'static str {
    &STYLE.name
}

/// The script's name.
pub(super) fn script() -> &'static str {
    &SCRIPT.name
}

/// The logo's name.
pub(super) fn logo() -> &'static str {
    &LOGO.name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assets_are_found_by_their_whole_name_only() {
        assert_eq!(find(style()).map(|asset| asset.content_type), Some("text/css; charset=utf-8"));
        for name in ["", "cubicle.css", "../cubicle.css", "cubicle"] {
            assert!(find(name).is_none(), "{name}");
        }
    }
}
