//! Settling: from a template and a record to the numbers and variables of one workspace.

use cubicle_core::notebook;
use cubicle_core::plan::Limits;
use cubicle_core::template::Template;

use crate::images;
use crate::store::Private;

/// First host uid that workspaces get; each has 65536 from `ID_BASE + slot * 65536`. Far above
/// what `/etc/subuid` hands out by default (100000 and up, 65536 per login account).
pub(crate) const ID_BASE: u32 = 0x1000_0000;
/// Where the egress proxy listens inside a workspace.
const EGRESS_PROXY: &str = "http://127.0.0.1:3128";

/// First host uid of a slot.
pub(crate) fn id_base(slot: u32) -> u32 {
    ID_BASE + slot * 65536
}

/// The limits that a template settles.
pub(crate) fn limits(template: &Template) -> Limits {
    let resources = &template.spec.resources;
    Limits {
        cpu: resources.cpu,
        memory: resources.memory,
        pids: resources.pids,
        ephemeral_storage: resources.ephemeral_storage,
        home: Some(template.spec.home.size),
    }
}

/// The whole environment of a notebook; `home_later` tells it to wait until its home is mounted.
pub(crate) fn environment(
    private: &Private,
    image: &images::ImageSummary,
    with_proxy: bool,
    home_later: bool,
) -> Vec<(String, String)> {
    let proxy = with_proxy.then_some(EGRESS_PROXY);
    let mut environment = notebook::environment(&private.template, &image.digest, &private.token, None, proxy);
    if with_proxy {
        // A site with its own package index says so to the engine; workspaces get the same.
        for name in ["PIP_INDEX_URL", "PIP_TRUSTED_HOST"] {
            if let Ok(value) = std::env::var(name) {
                environment.push((name.to_owned(), value));
            }
        }
    }
    if home_later {
        environment.push(("CUBICLE_HOME_LATER".to_owned(), "1".to_owned()));
    }
    environment
}

/// 256 random bits as text.
pub(crate) fn secret() -> String {
    rand::random::<[u8; 32]>().iter().map(|byte| format!("{byte:02x}")).collect()
}
