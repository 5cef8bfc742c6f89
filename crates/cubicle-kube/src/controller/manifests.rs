//! What the manifests alone say of a workspace that was just proven from inside. Where the two say
//! the opposite one of them is wrong: a wall that nothing enforces, or one that stands by something
//! that nobody wrote down.
//!
//! Only guarantees are compared that the pod, its namespace and what stands in it decide alone.
//! What other pods, services, nodes and roles decide takes the whole cluster, which a look at one
//! workspace does not read: `cubicle audit --live` does.

use cubicle_audit::network::changes_the_network;
use cubicle_audit::snapshot::{Snapshot, Unread};
use cubicle_audit::verdict::{self, Disagreement, Options, Tenancy};
use cubicle_core::level::Level;
use cubicle_core::problem::Problem;
use cubicle_core::report::Report;
use k8s_openapi::api::core::v1::{LimitRange, Namespace, Pod, ResourceQuota, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::ListParams;
use kube::runtime::events::EventType;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::Context;
use super::status::set;
use crate::names::WORKSPACE;
use crate::resources::{Workspace, WorkspaceStatus};

/// The condition that holds while manifests and proof agree.
const CONDITION: &str = "ManifestsAgree";
const AGREE: &str = "ManifestsAndProofAgree";
const DISAGREE: &str = "ManifestsAndProofDisagree";

/// Research ids of what is compared.
const COMPARED: [&str; 34] = [
    "CP-01", "NS-03", "NS-04", "NS-05", "NS-08", "ND-04", "ND-05", "NW-07", "NW-12", "NW-13", "NW-14", "NW-15",
    "NW-16", "NW-18", "NW-19", "CT-01", "CT-02", "CT-03", "CT-04", "CT-05", "CT-18", "CT-21", "CT-22", "CT-23",
    "CT-24", "CT-25", "IM-01", "IM-04", "SV-10", "NN-01", "NN-02", "NN-04", "NN-07", "NN-08",
];

/// The group of the policies of whole clusters.
const CLUSTER_POLICIES: &str = "policy.networking.k8s.io";

/// Compares, and tells the result as a condition, as warnings and, when it is news, as an event.
/// A comparison that could not be made changes nothing: the proof stands without it.
pub(super) async fn compare(
    context: &Context,
    workspace: &Workspace,
    pod: &Pod,
    (level, proof): (Level, &Report),
    status: &mut WorkspaceStatus,
) {
    let found = match around(context, pod).await {
        Ok((objects, unread)) => disagreements(&objects, unread, &workspace.name_any(), level, proof),
        Err(error) => {
            tracing::debug!(%error, workspace = workspace.name_any(), "the manifests could not be compared");
            return;
        }
    };
    let told: Vec<String> = match found {
        Ok(found) => found.iter().map(|one| format!("{}: {}", one.guarantee, one.meaning)).collect(),
        Err(problem) => {
            tracing::debug!(problem = problem.what, "the manifests could not be compared");
            return;
        }
    };
    let agree = told.is_empty();
    let code = if agree { AGREE } else { DISAGREE };
    let message = if agree { "no guarantee has opposite answers".to_owned() } else { told.join("; ") };
    let before = status.conditions.iter().find(|one| one.type_ == CONDITION).map(|one| one.status == "True");
    set(status, workspace.metadata.generation, CONDITION, agree, code, &message);
    status.warnings.extend(told.into_iter().map(|one| one.chars().take(500).collect::<String>()));
    // Agreement at the first look is no news.
    if before.unwrap_or(true) != agree {
        let kind = if agree { EventType::Normal } else { EventType::Warning };
        context.tell(workspace, kind, code, &message).await;
        tracing::info!(workspace = workspace.name_any(), agree, message, "manifests and proof were compared");
    }
}

/// The pod and what stands in its namespace, and the kinds that may decide with it and are not read.
async fn around(context: &Context, pod: &Pod) -> Result<(Vec<Value>, Vec<Unread>), kube::Error> {
    let namespace = pod.namespace().unwrap_or_default();
    let client = &context.client;
    let everything = ListParams::default();
    let policies = Api::<NetworkPolicy>::namespaced(client.clone(), &namespace);
    let quotas = Api::<ResourceQuota>::namespaced(client.clone(), &namespace);
    let limits = Api::<LimitRange>::namespaced(client.clone(), &namespace);
    let accounts = Api::<ServiceAccount>::namespaced(client.clone(), &namespace);
    let namespaces = Api::<Namespace>::all(client.clone());
    let (policies, quotas, limits, accounts, namespace, groups) = tokio::try_join!(
        policies.list(&everything),
        quotas.list(&everything),
        limits.list(&everything),
        accounts.list(&everything),
        namespaces.get(&namespace),
        client.list_api_groups(),
    )?;
    let mut objects = vec![json!(pod), json!(namespace)];
    objects.extend(policies.items.iter().map(|one| json!(one)));
    objects.extend(quotas.items.iter().map(|one| json!(one)));
    objects.extend(limits.items.iter().map(|one| json!(one)));
    objects.extend(accounts.items.iter().map(|one| json!(one)));
    Ok((objects, unread(groups.groups.iter().map(|group| group.name.as_str()))))
}

/// Groups whose policies may open or close what the namespace's own policies say, and that are
/// not read here: with one of them no verdict on the network is compared.
fn unread<'a>(groups: impl Iterator<Item = &'a str>) -> Vec<Unread> {
    groups
        .filter_map(|group| {
            let kind = match group {
                CLUSTER_POLICIES => "ClusterNetworkPolicy",
                _ if changes_the_network(group, "*") => "*",
                _ => return None,
            };
            let reason = format!("objects of {group} are not read here");
            Some(Unread { group: group.to_owned(), kind: kind.to_owned(), reason })
        })
        .collect()
}

fn disagreements(
    objects: &[Value],
    unread: Vec<Unread>,
    id: &str,
    level: Level,
    proof: &Report,
) -> Result<Vec<Disagreement>, Problem> {
    let selector = verdict::selector(&format!("{WORKSPACE}={id}"))?;
    let options = Options { tenancy: Tenancy { preset: None, selector: Some(selector) }, level, ..Options::default() };
    let mut snapshot = Snapshot::from_json("cluster", objects);
    snapshot.unread = unread;
    let audit = verdict::audit(&mut snapshot, &options);
    let compared = |one: &Disagreement| COMPARED.contains(&one.alias.as_str());
    Ok(verdict::disagreements(&audit, proof).into_iter().filter(compared).collect())
}

#[cfg(test)]
mod tests {
    use cubicle_core::catalogue;
    use cubicle_core::level::EngineKind;
    use cubicle_core::report::{GuaranteeReport, Summary, Verdict};

    use super::*;
    use crate::objects::tests::{identity, request, settings, template};
    use crate::objects::{pod, tenant};

    /// Everything that Cubicle itself makes for one workspace.
    fn made() -> Vec<Value> {
        let (settings, identity, template) = (settings(), identity(), template());
        let location = crate::names::Location::of(settings.tenancy, &identity);
        let request = request(&settings, &identity, &location, &template);
        let (tenant, pod) = (tenant(&request).expect("made"), pod(&request).expect("made"));
        vec![
            json!(tenant.namespace),
            json!(tenant.quota),
            json!(tenant.limits),
            json!(tenant.account),
            json!(tenant.deny),
            json!(tenant.doors),
            json!(pod),
        ]
    }

    /// A proof that found everything held but these.
    fn proof(other: &[(&str, Verdict)]) -> Report {
        let guarantees: Vec<GuaranteeReport> = catalogue::on(EngineKind::Kubernetes)
            .map(|guarantee| {
                let verdict = other.iter().find(|(alias, _)| *alias == guarantee.alias).map(|(_, verdict)| *verdict);
                GuaranteeReport { verdict: verdict.unwrap_or(Verdict::Held), ..GuaranteeReport::of(guarantee) }
            })
            .collect();
        Report {
            workspace: identity().id,
            engine: EngineKind::Kubernetes,
            level: Level::Standard,
            template: "jupyterlab".parse().expect("valid"),
            started_at: jiff::Timestamp::UNIX_EPOCH,
            duration_ms: 0,
            summary: Summary::of(&guarantees),
            guarantees,
        }
    }

    fn told(objects: &[Value], unread: Vec<Unread>, proof: &Report) -> Vec<(String, Verdict)> {
        disagreements(objects, unread, identity().id.as_str(), Level::Standard, proof)
            .expect("compared")
            .into_iter()
            .map(|one| (one.alias, one.from_manifests))
            .collect()
    }

    #[test]
    fn what_cubicle_makes_agrees_with_a_proof_that_finds_everything_held() {
        assert_eq!(told(&made(), Vec::new(), &proof(&[])), []);
    }

    #[test]
    fn a_wall_that_nothing_enforces_is_told() {
        let breached: Vec<(&str, Verdict)> = COMPARED.iter().map(|alias| (*alias, Verdict::Breached)).collect();
        let told = told(&made(), Vec::new(), &proof(&breached));
        // Whatever is compared at this level is held by what Cubicle makes: no entry is idle.
        let missing: Vec<&&str> = COMPARED.iter().filter(|alias| told.iter().all(|(one, _)| one != *alias)).collect();
        assert_eq!(missing, [] as [&&str; 0]);
        assert!(told.iter().all(|(_, manifests)| *manifests == Verdict::Held), "{told:?}");
    }

    #[test]
    fn a_wall_that_no_manifest_has_is_told() {
        let mut objects = made();
        objects.retain(|object| object["kind"] != "NetworkPolicy");
        let found = told(&objects, Vec::new(), &proof(&[]));
        assert!(found.contains(&("NW-12".to_owned(), Verdict::Breached)), "{found:?}");
        let mut objects = made();
        for object in objects.iter_mut().filter(|object| object["kind"] == "Pod") {
            object["spec"]["hostPID"] = json!(true);
        }
        assert_eq!(told(&objects, Vec::new(), &proof(&[])), [("CT-22".to_owned(), Verdict::Breached)]);
    }

    #[test]
    fn with_policies_that_are_not_read_no_verdict_on_the_network_is_compared() {
        let mut objects = made();
        objects.retain(|object| object["kind"] != "NetworkPolicy");
        for groups in [["apps", "cilium.io"], ["batch", CLUSTER_POLICIES]] {
            let unread = unread(groups.into_iter());
            assert_eq!(unread.len(), 1);
            let network = |found: Vec<(String, Verdict)>| found.iter().any(|(alias, _)| alias.starts_with("NW-"));
            assert!(!network(told(&objects, unread.clone(), &proof(&[]))));
            assert!(!network(told(&made(), unread, &proof(&[("NW-12", Verdict::Breached)]))));
        }
        assert_eq!(unread(["apps", "networking.k8s.io"].into_iter()), []);
    }
}
