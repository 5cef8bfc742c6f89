//! Guarantees that mean something on Kubernetes only. Their probes belong to that engine.

mod attempts;
mod control_plane;
mod tenancy;
mod workload;

use super::entry::Entry;

pub(super) use attempts::{InCluster, attempts, is_tried_in_pods};

/// All of them, in groups.
pub(super) const GROUPS: [&[Entry]; 3] = [control_plane::ENTRIES, tenancy::ENTRIES, workload::ENTRIES];

/// One entry: id, alias, layer and place, sentence, mechanism, static rule, live probe,
/// positive control, references.
macro_rules! kubernetes {
    ($id:literal, $alias:literal, $layer:ident, $place:ident, $sentence:literal, $mechanism:literal, $rule:literal,
     $probe:literal, $control:literal, $references:expr) => {
        $crate::catalogue::entry::Entry {
            guarantee: $crate::guarantee::Guarantee {
                id: $id,
                alias: $alias,
                layer: $crate::guarantee::Layer::$layer,
                place: $crate::guarantee::Place::$place,
                engines: $crate::catalogue::entry::KUBERNETES,
                sentence: $sentence,
                mechanism: $mechanism,
                static_rule: $rule,
                live_probe: $probe,
                positive_control: $control,
                references: $references,
            },
            attempts: None,
        }
    };
}
use kubernetes;
