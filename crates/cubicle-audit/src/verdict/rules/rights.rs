//! What a workspace may ask the API server for, and what it could become by it.

use serde_json::json;

use super::super::finding::{Cause, Severity};
use super::super::fix::Fix;
use super::super::scene::{Scene, target};
use super::super::tenancy::{Preset, Workspace};
use crate::rbac::manifests::asks_for_token;
use crate::rbac::{
    ANONYMOUS, AUTHENTICATED, Grant, Identity, Named, Power, Request, Rule, SERVICE_ACCOUNTS, Step, SubjectKind,
    UNAUTHENTICATED,
};

const RBAC: &str = "rbac.authorization.k8s.io";

pub(super) fn token(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    let template = &workspace.template;
    let mounted = template.mounts_token(scene.account(template));
    let asked = asks_for_token(&template.pod);
    if !mounted && !asked {
        return;
    }
    let account = format!("{}/{}", template.namespace, template.service_account());
    let (pointer, sentence) = if asked {
        ("/spec/volumes", format!("read a token of service account {account} from a volume that asks for one"))
    } else {
        let pointer = "/spec/automountServiceAccountToken";
        (pointer, format!("read the token of service account {account}, which is mounted into the workspace"))
    };
    let fix =
        if asked { None } else { scene.set_in_pod(workspace, "/spec/automountServiceAccountToken", json!(false)) };
    let cause = Cause::breach(Severity::High, pointer, sentence).fixed_by(fix);
    causes.push(scene.in_pod(workspace, pointer, cause));
}

/// Paths that everybody may ask for, and reviews of oneself.
fn is_harmless(rule: &Rule) -> bool {
    let only = |list: &[String], allowed: &[&str]| list.iter().all(|one| allowed.contains(&one.as_str()));
    let paths = rule.resources.is_empty()
        && only(&rule.verbs, &["get"])
        && rule.non_resource_urls.iter().all(|path| {
            ["/api", "/apis", "/healthz", "/livez", "/readyz", "/openapi", "/version", "/.well-known"]
                .iter()
                .any(|known| path.trim_end_matches('*').trim_end_matches('/') == *known)
        });
    let reviews = rule.non_resource_urls.is_empty()
        && only(&rule.verbs, &["create"])
        && only(&rule.resources, &["selfsubjectaccessreviews", "selfsubjectrulesreviews", "selfsubjectreviews"]);
    paths || reviews
}

fn told(rule: &Rule) -> String {
    if !rule.non_resource_urls.is_empty() {
        return format!("{} {}", rule.verbs.join(", "), rule.non_resource_urls.join(", "));
    }
    let of = rule.api_groups.iter().filter(|group| !group.is_empty()).cloned().collect::<Vec<_>>().join(", ");
    let suffix = if of.is_empty() { String::new() } else { format!(" of {of}") };
    format!("{} {}{suffix}", rule.verbs.join(", "), rule.resources.join(", "))
}

/// Puts a cause at the binding that gives a right, with the binding's removal as its fix.
fn at_binding(scene: &Scene<'_>, grant: &Grant<'_>, cause: Cause) -> Cause {
    let kind = if grant.binding.namespace.is_empty() { "ClusterRoleBinding" } else { "RoleBinding" };
    at_named(scene, kind, &grant.binding.namespace, &grant.binding.name, cause)
}

fn at_named(scene: &Scene<'_>, kind: &'static str, namespace: &str, name: &str, cause: Cause) -> Cause {
    let named = Named { kind, namespace: namespace.to_owned(), name: name.to_owned() };
    let id = scene.manifests.object(kind, namespace, name);
    let object = id.and_then(|id| scene.snapshot.object(id));
    let location = object.map(|object| scene.location(object.source));
    let fix = object.map(|object| match id.is_some_and(|id| scene.is_made(id)) {
        true => Fix::Setting { text: format!("keep {named} from being made") },
        false => Fix::Delete { target: target(object) },
    });
    cause.at(named.to_string(), location).fixed_by(fix)
}

fn describe(grant: &Grant<'_>) -> String {
    let place = if grant.scope.is_empty() { "everywhere".to_owned() } else { format!("in {}", grant.scope) };
    let bound = if grant.binding.namespace.is_empty() {
        format!("ClusterRoleBinding {}", grant.binding.name)
    } else {
        format!("RoleBinding {}/{}", grant.binding.namespace, grant.binding.name)
    };
    format!("{bound} gives role {}: {} {place}", grant.role.name, told(grant.rule))
}

pub(super) fn anonymous(scene: &Scene<'_>, _: &Workspace, causes: &mut Vec<Cause>) {
    let nobody = Identity::exactly(ANONYMOUS, [UNAUTHENTICATED]);
    for grant in scene.manifests.rights.grants(&nobody) {
        if is_harmless(grant.rule) {
            continue;
        }
        let sentence = format!("{} without any credential", told(grant.rule));
        let cause = Cause::breach(Severity::High, told(grant.rule), sentence).seen([describe(&grant)]);
        causes.push(at_binding(scene, &grant, cause));
    }
}

pub(super) fn own_account(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    let identity = scene.identity(workspace);
    for grant in scene.manifests.rights.grants(&identity) {
        if is_harmless(grant.rule) {
            continue;
        }
        let sentence = format!("{} with the service account of its pod", told(grant.rule));
        let key = format!("{}:{}", grant.scope, told(grant.rule));
        let cause = Cause::breach(Severity::Medium, key, sentence).seen([describe(&grant)]);
        causes.push(at_binding(scene, &grant, cause));
    }
}

/// The steps of a path, for people.
fn steps(path: &[Step]) -> impl Iterator<Item = String> {
    path.iter().map(|step| {
        let by = step.binding.as_ref().map(|binding| format!(" [{binding}]")).unwrap_or_default();
        format!("{} {}{by}", step.by, step.act)
    })
}

pub(super) fn escalation(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    let escalation = scene.escalation(&scene.identity(workspace));
    for reached in &escalation.reached {
        // Single accounts are told by the guarantees below; a namespace of its own is no gain
        // beyond them.
        let (severity, gain) = match &reached.power {
            Power::ClusterAdmin => (Severity::High, "become administrator of the cluster".to_owned()),
            Power::Node => (Severity::High, "become root on a node".to_owned()),
            Power::Admission => (Severity::High, "change what the API server admits".to_owned()),
            Power::NamespaceAdmin { namespace } => {
                (Severity::High, format!("become administrator of namespace {namespace}"))
            }
            Power::Secrets { .. } | Power::Act { .. } => continue,
        };
        let first = reached.path.iter().find_map(|step| step.binding.as_ref());
        let key = format!("{:?}", reached.power);
        let cause = Cause::breach(severity, key, gain).seen(steps(&reached.path));
        causes.push(match first {
            Some(named) => at_named(scene, named.kind, &named.namespace, &named.name, cause),
            None => cause,
        });
    }
}

/// Looks for a right anywhere: in the whole cluster or in any namespace.
pub(super) fn any_of(
    scene: &Scene<'_>,
    workspace: &Workspace,
    severity: Severity,
    wanted: &[(&str, &str, &str, &str)],
    causes: &mut Vec<Cause>,
) {
    let identity = scene.identity(workspace);
    for grant in scene.manifests.rights.grants(&identity) {
        for (verb, group, resource, sentence) in wanted {
            let request = Request::resource(verb, group, resource, grant.scope);
            let named = grant.rule.resource_names.first().map(|name| request.clone().named(name));
            if !grant.rule.allows(&request) && !named.is_some_and(|named| grant.rule.allows(&named)) {
                continue;
            }
            let place = if grant.scope.is_empty() { "anywhere".to_owned() } else { format!("in {}", grant.scope) };
            let key = format!("{}:{verb} {resource}", grant.scope);
            let cause = Cause::breach(severity, key, format!("{sentence} {place}")).seen([describe(&grant)]);
            causes.push(at_binding(scene, &grant, cause));
        }
    }
}

pub(super) fn run_pods(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    let wanted = [
        ("create", "", "pods", "start pods"),
        ("patch", "", "pods", "change the image of pods"),
        ("create", "", "pods/exec", "run commands in pods"),
        ("create", "", "pods/attach", "attach to pods"),
        ("create", "", "pods/portforward", "open ports of pods"),
        ("patch", "", "pods/ephemeralcontainers", "add containers to pods"),
        ("create", "apps", "deployments", "start pods by deployments"),
        ("create", "apps", "daemonsets", "start pods on every node"),
        ("create", "apps", "statefulsets", "start pods by stateful sets"),
        ("create", "batch", "jobs", "start pods by jobs"),
        ("create", "batch", "cronjobs", "start pods by cron jobs"),
    ];
    any_of(scene, workspace, Severity::High, &wanted, causes);
}

pub(super) fn read_secrets(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    let wanted = [
        ("get", "", "secrets", "read secrets"),
        ("list", "", "secrets", "read all secrets"),
        ("watch", "", "secrets", "read all secrets as they change"),
    ];
    any_of(scene, workspace, Severity::High, &wanted, causes);
}

pub(super) fn mint_tokens(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    let wanted = [
        ("create", "", "serviceaccounts/token", "make tokens of service accounts"),
        ("impersonate", "", "serviceaccounts", "act as service accounts"),
        ("impersonate", "", "users", "act as users"),
        ("impersonate", "", "groups", "act as members of groups"),
        ("update", "certificates.k8s.io", "certificatesigningrequests/approval", "approve certificates"),
        ("sign", "certificates.k8s.io", "signers", "sign certificates"),
    ];
    any_of(scene, workspace, Severity::High, &wanted, causes);
}

pub(super) fn act_on_nodes(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    let wanted = [
        ("get", "", "nodes/proxy", "run commands in any pod through the kubelets"),
        ("create", "", "nodes/proxy", "run commands in any pod through the kubelets"),
        ("patch", "", "nodes", "relabel nodes"),
        ("patch", "", "nodes/status", "change what nodes report"),
        ("patch", "", "pods/status", "change what pods report"),
        ("create", "", "pods/binding", "place pods on nodes"),
    ];
    any_of(scene, workspace, Severity::High, &wanted, causes);
}

pub(super) fn change_admission(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    const ADMISSION: &str = "admissionregistration.k8s.io";
    let wanted = [
        ("create", ADMISSION, "mutatingwebhookconfigurations", "have every request rewritten by its own server"),
        ("create", ADMISSION, "validatingwebhookconfigurations", "have every request shown to its own server"),
        ("patch", ADMISSION, "validatingadmissionpolicies", "change admission policies"),
        ("delete", ADMISSION, "validatingadmissionpolicybindings", "take admission policies out of force"),
        ("create", "apiextensions.k8s.io", "customresourcedefinitions", "add kinds to the API"),
        ("create", "apiregistration.k8s.io", "apiservices", "answer for a part of the API"),
        ("patch", "flowcontrol.apiserver.k8s.io", "flowschemas", "take the API server's time from others"),
    ];
    any_of(scene, workspace, Severity::High, &wanted, causes);
}

pub(super) fn list_cluster(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    let wanted = [
        ("list", "", "namespaces", "list who else has a namespace"),
        ("list", "", "nodes", "list the nodes"),
        ("list", "", "persistentvolumes", "list everybody's volumes"),
        ("list", "storage.k8s.io", "storageclasses", "list the storage classes"),
        ("list", "scheduling.k8s.io", "priorityclasses", "list the priority classes"),
    ];
    let mut found = Vec::new();
    any_of(scene, workspace, Severity::Low, &wanted, &mut found);
    // These kinds have no namespace: a right in one gives nothing.
    causes.extend(found.into_iter().filter(|cause| cause.key.starts_with(':')));
}

pub(super) fn edit_walls(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    let mut wanted = Vec::new();
    for (group, resource, what) in [
        ("", "resourcequotas", "quotas"),
        ("", "limitranges", "limit ranges"),
        ("networking.k8s.io", "networkpolicies", "network policies"),
        ("", "namespaces", "namespaces and their labels"),
        (RBAC, "rolebindings", "role bindings"),
    ] {
        let sentence = ["create", "patch", "update", "delete"].map(|verb| (verb, format!("{verb} {what}")));
        wanted.extend(sentence.map(|(verb, sentence)| (verb, group, resource, sentence)));
    }
    let wanted: Vec<(&str, &str, &str, &str)> =
        wanted.iter().map(|(verb, group, resource, sentence)| (*verb, *group, *resource, sentence.as_str())).collect();
    any_of(scene, workspace, Severity::High, &wanted, causes);
}

pub(super) fn spoof_labels(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    let wanted = [
        ("patch", "", "pods", "give pods labels that network policies trust"),
        ("create", "", "pods", "start pods with labels that network policies trust"),
        ("patch", "", "namespaces", "give namespaces labels that network policies trust"),
    ];
    any_of(scene, workspace, Severity::High, &wanted, causes);
}

/// Rights that every account has, or that the default account of a tenant's namespace has.
pub(super) fn default_account(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    let namespace = &workspace.template.namespace;
    for binding in scene.manifests.rights.bindings() {
        let Some(role) = scene.manifests.rights.role_of(binding) else { continue };
        let Some(rule) = role.rules.iter().find(|rule| !is_harmless(rule)) else { continue };
        if !binding.namespace.is_empty() && binding.namespace != *namespace {
            continue;
        }
        let whom = binding.subjects.iter().find_map(|subject| match subject.kind {
            SubjectKind::Group if subject.name == AUTHENTICATED => Some("everybody who has signed in"),
            SubjectKind::Group if subject.name == SERVICE_ACCOUNTS => Some("every service account"),
            SubjectKind::Group if subject.name == format!("{SERVICE_ACCOUNTS}:{namespace}") => {
                Some("every service account of the namespace")
            }
            SubjectKind::ServiceAccount => {
                let own = if subject.namespace.is_empty() { &binding.namespace } else { &subject.namespace };
                (subject.name == "default" && own == namespace).then_some("the default service account")
            }
            _ => None,
        });
        let Some(whom) = whom else { continue };
        let grant = Grant { rule, scope: &binding.namespace, binding, role };
        let sentence = format!("{} because {whom} may", told(rule));
        let cause = Cause::breach(Severity::Medium, whom, sentence).seen([describe(&grant)]);
        causes.push(at_binding(scene, &grant, cause));
    }
    let default = scene
        .of_kind("", "ServiceAccount")
        .find(|(_, object)| *object.name == *"default" && object.namespace.as_deref() == Some(namespace.as_str()));
    if let Some((id, object)) = default
        && object.value.get("imagePullSecrets").is_some_and(|list| !list.items().is_empty())
    {
        let location = scene.location(object.place("/imagePullSecrets"));
        let cause = Cause::breach(
            Severity::Low,
            "imagePullSecrets",
            "run private images with the pull secret of the default service account",
        );
        let fix = scene.set_in(id, "/imagePullSecrets", json!([]));
        causes.push(cause.at(super::super::scene::title(object), Some(location)).fixed_by(fix));
    }
}

/// The accounts of the program that makes workspaces: every pod is looked at for that.
pub(in crate::verdict) fn launchers(scene: &Scene<'_>) -> Vec<Identity> {
    let labels: &[(&str, &str)] = match scene.preset {
        Some(Preset::Cubicle) => {
            &[("app.kubernetes.io/component", "controller"), ("app.kubernetes.io/component", "hub")]
        }
        Some(Preset::JupyterHub) => &[("component", "hub"), ("app.kubernetes.io/component", "hub")],
        Some(Preset::Hatchery) => &[("app", "hatchery"), ("app", "ambassador"), ("app", "ambassador-gen3")],
        Some(Preset::Kubeflow) => &[("app", "jupyter-web-app"), ("app", "notebook-controller")],
        Some(Preset::AgentSandbox) => &[("app", "agent-sandbox-controller")],
        None => &[],
    };
    let mut found: Vec<Identity> = scene
        .templates
        .iter()
        .filter(|one| labels.iter().any(|(key, value)| one.labels.get(*key).is_some_and(|own| own == value)))
        .map(|one| Identity::service_account(&one.namespace, one.service_account()))
        .collect();
    found.sort();
    found.dedup();
    found
}

pub(super) fn launcher(scene: &Scene<'_>, _: &Workspace, causes: &mut Vec<Cause>) {
    for identity in scene.launchers() {
        for grant in scene.manifests.rights.grants(identity) {
            if !grant.scope.is_empty() {
                continue;
            }
            for (verb, group, resource, sentence) in [
                ("list", "", "secrets", "read every secret of the cluster"),
                ("create", "", "pods", "start pods in every namespace"),
                ("create", "", "pods/exec", "run commands in every pod"),
                ("get", "", "nodes/proxy", "run commands on nodes"),
                ("create", RBAC, "clusterrolebindings", "give out rights over the whole cluster"),
            ] {
                if !grant.rule.allows(&Request::resource(verb, group, resource, "")) {
                    continue;
                }
                let sentence = format!("{sentence} if it takes over the program that runs as {identity}");
                let key = format!("{}:{verb} {resource}", identity.user);
                let cause = Cause::breach(Severity::High, key, sentence).seen([describe(&grant)]);
                causes.push(at_binding(scene, &grant, cause));
            }
        }
    }
}
