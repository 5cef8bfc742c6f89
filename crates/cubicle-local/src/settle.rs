//! Settling: from a template and a record to the numbers and variables of one workspace.

use cubicle_core::plan::Limits;
use cubicle_core::template::Template;

use crate::images;
use crate::store::Row;

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

/// The whole environment of a notebook.
pub(crate) fn environment(row: &Row, image: &images::ImageSummary, with_proxy: bool) -> Vec<(String, String)> {
    let home = &row.private.template.spec.home.mount_path;
    let key: String = image.digest.trim_start_matches("sha256:").chars().take(12).collect();
    let base = format!("{home}/.local/cubicle/{key}");
    let mut environment = vec![
        ("HOME", home.clone()),
        ("USER", "user".to_owned()),
        ("LOGNAME", "user".to_owned()),
        ("SHELL", "/bin/bash".to_owned()),
        ("LANG", "C.UTF-8".to_owned()),
        ("PATH", format!("{base}/bin:/usr/local/bin:/usr/bin:/bin")),
        ("PYTHONUSERBASE", base),
        ("CUBICLE_PORT", row.private.template.spec.port.to_string()),
        ("CUBICLE_TOKEN", row.private.token.clone()),
    ];
    if with_proxy {
        for name in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"] {
            environment.push((name, EGRESS_PROXY.to_owned()));
        }
        for name in ["no_proxy", "NO_PROXY"] {
            environment.push((name, "localhost,127.0.0.1,::1".to_owned()));
        }
        // A site with its own package index says so to the engine; workspaces get the same.
        for name in ["PIP_INDEX_URL", "PIP_TRUSTED_HOST"] {
            if let Ok(value) = std::env::var(name) {
                environment.push((name, value));
            }
        }
    }
    environment.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// 256 random bits as text.
pub(crate) fn secret() -> String {
    rand::random::<[u8; 32]>().iter().map(|byte| format!("{byte:02x}")).collect()
}
