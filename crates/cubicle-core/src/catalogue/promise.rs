//! Which level promises what, per engine.

use super::kubernetes::is_tried_in_pods;
use super::on;
use crate::level::{EngineKind, Image, Kernel, Level, Network};

/// Guarantees that only a stronger choice in one dimension brings.
const NEEDS_USER_NAMESPACE: &[&str] = &["container.host-root", "container.shared-ids"];
const NEEDS_PINNED_IMAGE: &[&str] = &["image.pinned"];
const NEEDS_ALLOW_LIST: &[&str] = &["egress.not-listed"];

/// Guarantees that no level of the local engine promises, each for the reason in its text.
const NEVER_LOCAL: &[&str] = &[
    "node.core-helper",
    "node.own-machine",
    "node.side-channels",
    "container.security-module",
    "neighbour.disk-io",
    "neighbour.memory-bandwidth",
    // Nothing is tried: a scan that the template brings decides.
    crate::scan::GUARANTEE,
];

/// On Kubernetes a walled workspace reaches public hosts without a proxy.
const DIRECT: &str = "network.internet";
const THROUGH_THE_PROXY: &str = "egress.";

/// The ids of everything that a level promises on an engine; nothing where the engine cannot
/// provide the level, or is not there yet.
pub fn promised(level: Level, engine: EngineKind) -> Vec<&'static str> {
    if level.missing_on(engine).is_some() {
        return Vec::new();
    }
    let choices = level.choices();
    on(engine)
        .map(|guarantee| guarantee.id)
        .filter(|id| match engine {
            EngineKind::Local => !NEVER_LOCAL.contains(id),
            EngineKind::Kubernetes => {
                is_tried_in_pods(id)
                    && (choices.network != Network::Walled || *id != DIRECT)
                    && (choices.network >= Network::AllowList || !id.starts_with(THROUGH_THE_PROXY))
            }
        })
        .filter(|id| choices.kernel >= Kernel::UserNamespace || !NEEDS_USER_NAMESPACE.contains(id))
        .filter(|id| choices.image >= Image::DigestPinned || !NEEDS_PINNED_IMAGE.contains(id))
        .filter(|id| choices.network >= Network::AllowList || !NEEDS_ALLOW_LIST.contains(id))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::GUARANTEES;
    use super::*;

    #[test]
    fn the_table_names_existing_guarantees() {
        for id in [NEEDS_USER_NAMESPACE, NEEDS_PINNED_IMAGE, NEEDS_ALLOW_LIST, NEVER_LOCAL].concat() {
            assert!(GUARANTEES.iter().any(|guarantee| guarantee.id == id), "{id}");
        }
    }
}
