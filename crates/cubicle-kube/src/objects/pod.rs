//! The pod of a workspace. Every field that has a default is written out, so that the admitted
//! pod can be compared field by field.

use cubicle_core::problem::Problem;
use cubicle_core::quantity::{Bytes, MilliCpu};
use cubicle_core::template::EgressMode;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::tenant::{labels, needs_user_namespace};
use super::{PROBE_FOLDER, Request, USER, typed};
use crate::names::{CONTAINER, DOORS, OWNER, TENANT_OBJECT, WORKSPACE};

/// Size of `/dev/shm`.
const SHARED_MEMORY: &str = "64Mi";
/// What the container may write to its log and its termination message, on the node's disk.
const DISK: &str = "64Mi";
/// How long a notebook has to save, in seconds.
const GRACE: i64 = 10;

pub(super) fn pod(request: &Request<'_>) -> Result<Pod, Problem> {
    let mut labels = labels(request);
    labels[WORKSPACE] = json!(request.identity.id.as_str());
    labels[DOORS] = json!(super::doors_name(request));
    labels[OWNER] = json!(request.location.tenant);
    let spec = &request.template.spec;
    let image = request.image()?;
    let pull = request.settings.image_pull_policy;
    let mut volumes = vec![
        json!({"name": "probe", "image": {"reference": request.settings.probe_image, "pullPolicy": pull}}),
        json!({"name": "home", "persistentVolumeClaim": {"claimName": request.location.home()}}),
        json!({"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": spec.resources.ephemeral_storage}}),
        json!({"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": SHARED_MEMORY}}),
    ];
    let mut mounts = vec![
        json!({"name": "probe", "mountPath": PROBE_FOLDER, "readOnly": true}),
        json!({"name": "home", "mountPath": spec.home.mount_path}),
        json!({"name": "tmp", "mountPath": "/tmp"}),
        json!({"name": "shm", "mountPath": "/dev/shm"}),
    ];
    for (index, dataset) in spec.datasets.iter().enumerate() {
        let name = format!("data-{index}");
        let reference = request.settings.datasets.get(&dataset.name);
        volumes.push(json!({"name": name, "image": {"reference": reference, "pullPolicy": pull}}));
        mounts.push(json!({"name": name, "mountPath": dataset.mount_path, "readOnly": true}));
    }
    let mut manifest = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": request.identity.id.as_str(),
            "namespace": request.namespace(),
            "labels": labels,
            "annotations": {"cubicle.dev/launch": request.launch.to_string()},
            "ownerReferences": [request.owner()],
        },
        "spec": {
            "serviceAccountName": TENANT_OBJECT,
            "serviceAccount": TENANT_OBJECT,
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "hostUsers": !needs_user_namespace(request),
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": GRACE,
            "schedulerName": "default-scheduler",
            "preemptionPolicy": "PreemptLowerPriority",
            "priority": 0,
            // What admission would add by itself.
            "tolerations": [
                {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
                {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
            ],
            "securityContext": {
                "runAsNonRoot": true,
                "runAsUser": USER,
                "runAsGroup": USER,
                "fsGroup": USER,
                "fsGroupChangePolicy": "OnRootMismatch",
                // Groups that the image's /etc/group would add do not count.
                "supplementalGroupsPolicy": "Strict",
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [{
                "name": CONTAINER,
                "image": image.reference,
                "imagePullPolicy": pull,
                "command": [format!("{PROBE_FOLDER}/cubicle-probe")],
                "args": arguments(request),
                "workingDir": "/",
                "resources": resources(request),
                "securityContext": {
                    "allowPrivilegeEscalation": false,
                    "capabilities": {"drop": ["ALL"]},
                    "privileged": false,
                    "procMount": "Default",
                    "readOnlyRootFilesystem": true,
                    "runAsNonRoot": true,
                    "runAsUser": USER,
                    "runAsGroup": USER,
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
                "terminationMessagePath": "/dev/termination-log",
                "terminationMessagePolicy": "File",
                "volumeMounts": mounts,
            }],
            "volumes": volumes,
        },
    });
    if request.template.egress().mode == EgressMode::Walled {
        manifest["spec"]["dnsPolicy"] = json!("ClusterFirst");
    } else {
        // No name server at all: names are resolved by the egress proxy, or by nobody.
        manifest["spec"]["dnsPolicy"] = json!("None");
        manifest["spec"]["dnsConfig"] = json!({"nameservers": ["127.0.0.1"]});
    }
    typed(manifest)
}

/// What a twin may use: it proves and does nothing else.
pub(super) const TWIN_CPU: MilliCpu = MilliCpu(500);
pub(super) const TWIN_MEMORY: Bytes = Bytes(256 << 20);

/// A pod like the workspace's own on the same node, in which no user code ever runs: later proofs
/// are made in it. The walls around a pod hang on its namespace, labels, account and node, and it
/// has all of these; beside hostile code, which could disturb a proof, it would see no more. Its doors and its account are
/// those that the pod was made with, whatever would be made now.
pub(super) fn twin(request: &Request<'_>, of: &Pod) -> Result<Pod, Problem> {
    let node = of.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default();
    let mut twin = serde_json::to_value(pod(request)?)
        .map_err(|error| Problem::engine(format!("the twin cannot be written: {error}"), ""))?;
    twin["metadata"]["name"] = json!(super::twin_name(&request.identity.id));
    let mut labels = twin["metadata"]["labels"].take();
    if let Some(labels) = labels.as_object_mut() {
        labels.remove(DOORS);
        labels.extend(of.labels().get(DOORS).map(|doors| (DOORS.to_owned(), json!(doors))));
    }
    twin["metadata"]["labels"] = labels;
    for field in ["serviceAccountName", "serviceAccount"] {
        twin["spec"][field] = json!(of.spec.as_ref().and_then(|spec| spec.service_account_name.as_ref()));
    }
    twin["spec"]["affinity"] = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
        "nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}],
    }}});
    twin["spec"]["terminationGracePeriodSeconds"] = json!(1);
    twin["spec"]["containers"][0]["resources"] = json!({
        "requests": {"cpu": "10m", "memory": TWIN_MEMORY.to_string(), "ephemeral-storage": DISK},
        "limits": {"cpu": TWIN_CPU.to_string(), "memory": TWIN_MEMORY.to_string(), "ephemeral-storage": DISK},
    });
    typed(twin)
}

/// The gate's command line: nothing in it is secret.
fn arguments(request: &Request<'_>) -> Vec<String> {
    let key: String = request.gate_key.iter().map(|byte| format!("{byte:02x}")).collect();
    let window: Vec<String> = request.window.iter().map(ToString::to_string).collect();
    [
        "door".to_owned(),
        format!("--port={}", request.template.spec.port),
        format!("--key={key}"),
        format!("--workspace={}", request.uid),
        format!("--launch={}", request.launch),
        format!("--window={}", window.join(",")),
    ]
    .to_vec()
}

fn resources(request: &Request<'_>) -> Value {
    let resources = &request.template.spec.resources;
    let share = resources.cpu.0.div_ceil(u64::from(request.settings.cpu_overcommit));
    json!({
        "requests": {"cpu": MilliCpu(share).to_string(), "memory": resources.memory.to_string(), "ephemeral-storage": DISK},
        "limits": {"cpu": resources.cpu.to_string(), "memory": resources.memory.to_string(), "ephemeral-storage": DISK},
    })
}
