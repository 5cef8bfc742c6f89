//! What a cluster can enforce: asked and tried where that changes nothing, and read from the last
//! proof of a workspace where only a pod can try.

use cubicle_core::engine::{DoctorFinding, DoctorStatus};
use cubicle_core::problem::Problem;
use cubicle_core::report::{Report, Verdict};
use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicyBinding;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod};
use k8s_openapi::api::node::v1::RuntimeClass;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{ListParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use crate::names::COMPONENT;
use crate::registry::unanswered;
use crate::resources::{Template, Workspace};

/// The first minor version with image volumes and user namespaces for everybody.
const LEAST_MINOR: u32 = 36;

/// What only a pod can try, by the guarantee that tries it, and whether level standard needs it.
const TRIED_BY_PROOFS: [(&str, &str, bool); 6] = [
    ("network-policy", "network.other-workspace", true),
    ("network-policy-same-node", "network.other-workspace-same-node", true),
    ("network-policy-at-pod-start", "network.start-up-window", true),
    ("network-policy-to-api-server", "control-plane.api-server", true),
    ("user-namespaces", "container.root-user", true),
    ("system-call-filter", "container.system-call-filter", true),
];

fn finding(mechanism: &str, status: DoctorStatus, required: bool, detail: impl Into<String>) -> DoctorFinding {
    DoctorFinding { mechanism: mechanism.to_owned(), status, detail: detail.into(), required }
}

fn yes_or_no(truth: bool) -> DoctorStatus {
    if truth { DoctorStatus::Available } else { DoctorStatus::Absent }
}

/// Examines the cluster as whoever asks: an administrator, who may list nodes and dry-run pods.
/// `namespace` is the release's, `canaries` and `references` the namespaces of those.
///
/// # Errors
/// When the API server does not answer.
pub async fn examine(
    client: &Client,
    namespace: &str,
    canaries: &str,
    references: &str,
) -> Result<Vec<DoctorFinding>, Problem> {
    let mut findings = vec![version(client).await?, definitions(client).await];
    let nodes = Api::<Node>::all(client.clone());
    let nodes = nodes.list(&ListParams::default()).await.map_err(|error| unanswered(&error))?.items;
    findings.push(on_every_node(client, &nodes, canaries, "canary").await);
    findings.push(on_every_node(client, &nodes, references, "reference").await);
    findings.push(pod_security(client, canaries).await);
    findings.push(admission(client).await);
    findings.extend(storage(client).await);
    findings.push(runtimes(client).await);
    findings.extend(proofs(client, namespace).await);
    Ok(findings)
}

async fn version(client: &Client) -> Result<DoctorFinding, Problem> {
    let info = client.apiserver_version().await.map_err(|error| unanswered(&error))?;
    let minor: String = info.minor.chars().take_while(char::is_ascii_digit).collect();
    let new = minor.parse::<u32>().is_ok_and(|minor| minor >= LEAST_MINOR);
    Ok(finding("version", yes_or_no(new), true, format!("{}; 1.{LEAST_MINOR} or newer is needed", info.git_version)))
}

async fn definitions(client: &Client) -> DoctorFinding {
    let one = ListParams::default().limit(1);
    let workspaces = Api::<Workspace>::all(client.clone());
    let templates = Api::<Template>::all(client.clone());
    match tokio::try_join!(workspaces.list(&one), templates.list(&one)) {
        Ok(_) => finding("custom-resources", DoctorStatus::Available, true, "Workspace and Template are served"),
        Err(error) => finding("custom-resources", DoctorStatus::Absent, true, format!("install the chart: {error}")),
    }
}

async fn on_every_node(client: &Client, nodes: &[Node], namespace: &str, component: &str) -> DoctorFinding {
    let name = format!("{component}-on-every-node");
    let pods = Api::<Pod>::namespaced(client.clone(), namespace);
    let pods = match pods.list(&ListParams::default().labels(&format!("{COMPONENT}={component}"))).await {
        Ok(pods) => pods.items,
        Err(error) => return finding(&name, DoctorStatus::Untested, true, error.to_string()),
    };
    let ready = |node: &str| {
        pods.iter().any(|pod| {
            let there = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == Some(node);
            let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
            there && conditions.into_iter().any(|one| one.type_ == "Ready" && one.status == "True")
        })
    };
    let without: Vec<String> = nodes.iter().map(ResourceExt::name_any).filter(|node| !ready(node)).collect();
    let detail = match without.is_empty() {
        true => format!("ready on {} nodes", nodes.len()),
        false => format!("none is ready on {}; no workspace opens there", without.join(", ")),
    };
    finding(&name, yes_or_no(without.is_empty()), true, detail)
}

/// A privileged pod where only restricted ones may be; nothing is made.
async fn pod_security(client: &Client, namespace: &str) -> DoctorFinding {
    let pod = serde_json::from_value::<Pod>(json!({
        "metadata": {"name": "doctor-privileged"},
        "spec": {"containers": [{"name": "c", "image": "none", "securityContext": {"privileged": true}}]},
    }));
    let Ok(pod) = pod else { return finding("pod-security", DoctorStatus::Untested, true, "no pod to try with") };
    let parameters = PostParams { dry_run: true, ..PostParams::default() };
    match Api::<Pod>::namespaced(client.clone(), namespace).create(&parameters, &pod).await {
        Err(kube::Error::Api(status)) if status.code == 403 && status.message.contains("PodSecurity") => finding(
            "pod-security",
            DoctorStatus::Available,
            true,
            "a privileged pod was refused in a restricted namespace",
        ),
        Ok(_) => {
            finding("pod-security", DoctorStatus::Absent, true, format!("a privileged pod was let into {namespace}"))
        }
        Err(error) => finding("pod-security", DoctorStatus::Untested, true, error.to_string()),
    }
}

async fn admission(client: &Client) -> DoctorFinding {
    const BINDINGS: [&str; 3] = ["cubicle-workspace-pods", "cubicle-tenant-walls", "cubicle-tenant-namespaces"];
    let api = Api::<ValidatingAdmissionPolicyBinding>::all(client.clone());
    let mut missing = Vec::new();
    for name in BINDINGS {
        match api.get_opt(name).await {
            Ok(Some(_)) => {}
            Ok(None) => missing.push(name),
            Err(error) => return finding("admission-policies", DoctorStatus::Untested, false, error.to_string()),
        }
    }
    let detail = match missing.is_empty() {
        true => "all are bound: administrators cannot weaken a workspace by mistake".to_owned(),
        false => format!("not bound: {}; proofs still see what changes", missing.join(", ")),
    };
    finding("admission-policies", yes_or_no(missing.is_empty()), false, detail)
}

async fn storage(client: &Client) -> Vec<DoctorFinding> {
    const DEFAULT: &str = "storageclass.kubernetes.io/is-default-class";
    let classes = match Api::<StorageClass>::all(client.clone()).list(&ListParams::default()).await {
        Ok(classes) => classes.items,
        Err(error) => return vec![finding("storage-class", DoctorStatus::Untested, true, error.to_string())],
    };
    let default = classes.iter().find(|class| class.annotations().get(DEFAULT).is_some_and(|value| value == "true"));
    let Some(class) = default else {
        let detail = "no default; set storageClass in the settings";
        return vec![finding("storage-class", DoctorStatus::Absent, true, detail)];
    };
    let grows = class.allow_volume_expansion == Some(true);
    let detail = if grows { "homes can grow" } else { "the default class does not let homes grow" };
    vec![
        finding("storage-class", DoctorStatus::Available, true, format!("{} by default", class.name_any())),
        finding("volume-expansion", yes_or_no(grows), false, detail),
    ]
}

async fn runtimes(client: &Client) -> DoctorFinding {
    match Api::<RuntimeClass>::all(client.clone()).list(&ListParams::default()).await {
        Ok(classes) if classes.items.is_empty() => {
            finding("runtime-classes", DoctorStatus::Absent, false, "none; levels sandboxed and dedicated need one")
        }
        Ok(classes) => {
            let names: Vec<String> = classes.items.iter().map(ResourceExt::name_any).collect();
            finding("runtime-classes", DoctorStatus::Available, false, names.join(", "))
        }
        Err(error) => finding("runtime-classes", DoctorStatus::Untested, false, error.to_string()),
    }
}

/// From the newest report of a workspace.
async fn proofs(client: &Client, namespace: &str) -> Vec<DoctorFinding> {
    let maps = Api::<ConfigMap>::namespaced(client.clone(), namespace).list(&ListParams::default()).await;
    let reports = maps.iter().flat_map(|list| &list.items).filter_map(|map| {
        let text = map.data.as_ref()?.get("report.json")?;
        serde_json::from_str::<Report>(text).ok()
    });
    let newest = reports.max_by_key(|report| report.started_at);
    let judged = TRIED_BY_PROOFS.map(|(mechanism, guarantee, required)| {
        let seen = newest.as_ref().and_then(|report| {
            let one = report.guarantees.iter().find(|one| one.id == guarantee)?;
            Some((report, one))
        });
        let Some((report, one)) = seen else {
            return finding(mechanism, DoctorStatus::Untested, required, "launch a workspace: its proof tries it");
        };
        let by = format!("{guarantee} of {} at {}", report.workspace, report.started_at.strftime("%F %H:%M:%SZ"));
        match one.verdict {
            Verdict::Held => finding(mechanism, DoctorStatus::Available, required, format!("tried: {by}")),
            Verdict::Breached => finding(mechanism, DoctorStatus::Absent, required, format!("{by}: {}", one.reason)),
            _ => finding(mechanism, DoctorStatus::Untested, required, format!("{by}: {}", one.reason)),
        }
    });
    judged.to_vec()
}
