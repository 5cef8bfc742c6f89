//! What a verdict is worth when not everything could be read.

use cubicle_core::report::Verdict;

use crate::network::cluster::changes_the_network;
use crate::snapshot::{Snapshot, verifies_signatures};

/// Why nothing can be said for certain, and whether a breach is uncertain too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unseen {
    /// Why, for people.
    pub(super) reason: String,
    /// Whether what was not read could take a breach back: a policy or a quota may stand there,
    /// while no further role makes a right go away.
    pub(super) hides_walls: bool,
}

impl Unseen {
    /// What is left of a verdict.
    pub(super) fn weaken(&self, verdict: Verdict) -> Verdict {
        match verdict {
            Verdict::Held => Verdict::Unproven,
            Verdict::Breached if self.hides_walls => Verdict::Unproven,
            other => other,
        }
    }
}

/// What a guarantee depends on and could not be read; none when everything that it depends on
/// was.
pub(super) fn unseen(snapshot: &Snapshot, alias: &str) -> Option<Unseen> {
    let mut reasons: Vec<&str> = Vec::new();
    let mut hides_walls = false;
    for unread in snapshot.unread.iter().filter(|unread| matters(alias, &unread.group, &unread.kind)) {
        reasons.push(&unread.reason);
        hides_walls |= is_wall(&unread.kind)
            || changes_the_network(&unread.group, &unread.kind)
            || verifies_signatures(&unread.group, &unread.kind);
    }
    if !reasons.is_empty() {
        reasons.sort_unstable();
        reasons.dedup();
        let more = reasons.len().saturating_sub(3);
        let mut reason = format!("unknown: {}", reasons.iter().take(3).copied().collect::<Vec<_>>().join("; "));
        if more > 0 {
            reason.push_str(&format!("; and {more} kinds more"));
        }
        return Some(Unseen { reason, hides_walls });
    }
    // A document that could not be read may hold anything.
    snapshot.is_broken().then(|| Unseen {
        reason: "unknown: nothing that was read breaks it, but not everything could be read".to_owned(),
        hides_walls: false,
    })
}

/// Whether an object of this kind takes something away from a tenant.
fn is_wall(kind: &str) -> bool {
    matches!(
        kind,
        "NetworkPolicy"
            | "AdminNetworkPolicy"
            | "BaselineAdminNetworkPolicy"
            | "ClusterNetworkPolicy"
            | "Namespace"
            | "ResourceQuota"
            | "LimitRange"
            | "ServiceAccount"
            | "PriorityClass"
            | "RuntimeClass"
            | "ValidatingAdmissionPolicy"
            | "ValidatingAdmissionPolicyBinding"
    )
}

/// Whether a guarantee's verdict may change with objects of a kind. What is not in the table
/// changes everything.
fn matters(alias: &str, group: &str, kind: &str) -> bool {
    let family = alias.split('-').next().unwrap_or_default();
    let is = |list: &[&str]| list.contains(&alias);
    let is_network = || family == "NW" || is(&["CP-02", "CP-14", "NS-08", "NS-09", "NS-10", "SV-02", "SV-12", "SV-14"]);
    match kind {
        _ if verifies_signatures(group, kind) => is(&["IM-03"]),
        _ if changes_the_network(group, kind) || group.ends_with("networking.k8s.io") => is_network(),
        "Role" | "ClusterRole" | "RoleBinding" | "ClusterRoleBinding" | "ServiceAccount" | "Secret" | "ConfigMap" => {
            family == "CP" || is(&["NS-06", "NS-09", "NS-11", "NS-12", "SV-04", "SV-09", "SV-15"])
        }
        "NetworkPolicy"
        | "AdminNetworkPolicy"
        | "BaselineAdminNetworkPolicy"
        | "ClusterNetworkPolicy"
        | "Node"
        | "Service"
        | "Endpoints"
        | "EndpointSlice" => is_network(),
        "ResourceQuota" => is(&["CP-12", "NS-03", "NS-04", "NS-10", "NN-04"]),
        "LimitRange" => is(&["NS-05", "NN-01", "NN-02", "NN-04"]),
        "PriorityClass" => is(&["CP-12"]),
        "RuntimeClass" => is(&["ND-06"]),
        "ResourceClaim" | "ResourceClaimTemplate" | "ResourceSlice" | "DeviceClass" | "DeviceTaintRule" => {
            is(&["ND-08", "NN-11"])
        }
        "PersistentVolume" | "PersistentVolumeClaim" | "StorageClass" => family == "SV" || is(&["NS-09", "NN-04"]),
        "ValidatingAdmissionPolicy"
        | "ValidatingAdmissionPolicyBinding"
        | "ValidatingWebhookConfiguration"
        | "MutatingAdmissionPolicy"
        | "MutatingAdmissionPolicyBinding"
        | "MutatingWebhookConfiguration" => is(&["CP-12", "CP-13", "NS-07", "NS-10", "IM-01", "IM-02", "IM-03"]),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::Unread;

    fn without(kind: &str) -> Snapshot {
        let reason = format!("this account may not list {kind}");
        let unread = vec![Unread { group: String::new(), kind: kind.to_owned(), reason }];
        Snapshot { unread, ..Snapshot::default() }
    }

    #[test]
    fn a_hidden_policy_leaves_nothing_of_a_verdict_on_the_network() {
        let unseen = unseen(&without("NetworkPolicy"), "NW-01").expect("it matters");
        assert_eq!(unseen.reason, "unknown: this account may not list NetworkPolicy");
        assert_eq!(unseen.weaken(Verdict::Held), Verdict::Unproven);
        assert_eq!(unseen.weaken(Verdict::Breached), Verdict::Unproven);
    }

    #[test]
    fn a_hidden_role_can_only_give_more() {
        let unseen = unseen(&without("ClusterRole"), "CP-06").expect("it matters");
        assert_eq!(unseen.weaken(Verdict::Held), Verdict::Unproven);
        assert_eq!(unseen.weaken(Verdict::Breached), Verdict::Breached);
    }

    #[test]
    fn what_does_not_matter_changes_nothing_and_what_is_not_known_matters() {
        assert_eq!(unseen(&without("ResourceQuota"), "CT-01"), None);
        assert!(unseen(&without("Pod"), "CT-01").is_some());
        assert!(unseen(&without("Surprise"), "CT-01").is_some());
        assert_eq!(unseen(&Snapshot::default(), "CT-01"), None);
    }
}
