//! The static rule of each guarantee.

pub(crate) mod admission;
mod container;
mod exposure;
mod image;
mod network;
mod node;
mod placement;
mod platform;
mod rights;
pub(crate) mod signature;
mod storage;
mod tenancy;

pub(in crate::verdict) use container::host_user;
pub(crate) use network::PRIVATE_V4;
pub(in crate::verdict) use rights::launchers;

use cubicle_core::level::{Choices, Image, Kernel, Network, Node};

use super::finding::Cause;
use super::scene::Scene;
use super::tenancy::Workspace;

/// Looks at one workspace and says what of the guarantee is missing.
pub(crate) type Rule = fn(&Scene<'_>, &Workspace, &mut Vec<Cause>);

/// One guarantee that manifests can decide.
pub(crate) struct Entry {
    /// The research id, which finds it in the catalogue.
    pub(crate) alias: &'static str,
    /// Whether a level with these choices promises it.
    pub(crate) claimed: fn(&Choices) -> bool,
    /// The rule.
    pub(crate) rule: Rule,
}

const fn always(alias: &'static str, rule: Rule) -> Entry {
    Entry { alias, claimed: |_| true, rule }
}

const fn when(alias: &'static str, claimed: fn(&Choices) -> bool, rule: Rule) -> Entry {
    Entry { alias, claimed, rule }
}

/// Every rule, in the order of the catalogue.
pub(crate) const ENTRIES: &[Entry] = &[
    always("CP-01", rights::token),
    always("CP-03", rights::anonymous),
    always("CP-04", rights::own_account),
    always("CP-05", rights::escalation),
    always("CP-06", rights::run_pods),
    always("CP-07", rights::read_secrets),
    always("CP-08", rights::mint_tokens),
    always("CP-09", rights::act_on_nodes),
    always("CP-10", rights::change_admission),
    always("CP-11", rights::list_cluster),
    always("CP-12", tenancy::preempt),
    always("CP-13", placement::choose_node),
    always("CP-14", platform::etcd),
    always("CP-15", rights::launcher),
    when("NS-01", |choices| choices.namespace == cubicle_core::level::Namespace::PerUser, tenancy::own_namespace),
    always("NS-03", tenancy::quota),
    always("NS-04", tenancy::object_quota),
    always("NS-05", tenancy::limits),
    always("NS-06", rights::edit_walls),
    always("NS-07", tenancy::pod_security),
    always("NS-08", tenancy::default_deny),
    always("NS-09", exposure::borrowed),
    always("NS-10", exposure::publish),
    always("NS-11", rights::default_account),
    always("NS-12", rights::spoof_labels),
    always("ND-04", node::host_files),
    always("ND-05", node::runtime_sockets),
    when("ND-06", |choices| choices.kernel >= Kernel::Sandboxed, node::declared_kernel),
    when("ND-07", |choices| choices.node >= Node::Dedicated, node::own_machine),
    always("ND-08", node::devices),
    always("NW-19", container::raw_sockets),
    always("NW-25", network::second_interface),
    always("CT-01", container::root_user),
    when("CT-02", |choices| choices.kernel >= Kernel::UserNamespace, container::host_root),
    always("CT-03", container::privilege_by_exec),
    always("CT-04", container::capabilities),
    always("CT-05", container::system_call_filter),
    always("CT-18", container::process_files),
    always("CT-21", container::change_image),
    always("CT-22", container::host_namespaces),
    always("CT-23", container::other_processes),
    always("CT-24", container::security_module),
    always("CT-25", container::device_nodes),
    when("IM-01", |choices| choices.image >= Image::DigestPinned, image::pinned),
    always("IM-02", image::registry),
    always("IM-03", signature::verified),
    always("IM-04", image::user),
    always("SV-04", storage::other_claims),
    always("SV-06", storage::leave_home),
    always("SV-07", storage::other_homes),
    always("SV-10", storage::secrets_in_environment),
    always("NN-01", tenancy::processor),
    always("NN-02", tenancy::memory),
    always("NN-04", tenancy::temporary_files),
    when("NN-07", |choices| choices.kernel >= Kernel::UserNamespace, container::shared_ids),
    always("NN-08", tenancy::shared_memory),
    always("NW-01", network::other_workspace),
    always("NW-02", network::other_workspace_near),
    always("NW-03", network::inbound),
    always("NW-04", network::other_workspace_udp),
    always("NW-05", network::other_workspace_sctp),
    always("CP-02", network::api_server),
    always("NW-08", network::services),
    always("NW-07", network::ipv6),
    always("NW-09", network::node_ports),
    always("NW-10", network::host_pods),
    always("NW-11", network::balancers),
    always("NW-12", network::metadata_ipv4),
    always("NW-13", network::metadata_ipv6),
    always("NW-14", network::credential_doors),
    always("NW-15", network::cloud_fabric),
    always("NW-16", network::private_ranges),
    when("NW-17", |choices| choices.network >= Network::AllowList, network::internet),
    always("NW-18", network::mail),
    always("NW-22", network::platform_ports),
    always("NW-23", network::notebook_port),
    always("NW-24", network::name_servers),
    always("SV-12", network::other_user_route),
    always("SV-02", platform::metrics),
    always("SV-15", platform::logs),
    always("IM-06", image::secrets),
    always("IM-07", image::known_exploits),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_rule_belongs_to_one_guarantee() {
        let mut seen = BTreeSet::new();
        for entry in ENTRIES {
            assert!(cubicle_core::catalogue::find(entry.alias).is_some(), "{}", entry.alias);
            assert!(seen.insert(entry.alias), "{} twice", entry.alias);
        }
    }
}
