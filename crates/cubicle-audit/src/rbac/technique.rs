//! What a single right can be turned into.
//!
//! Sources: <https://kubernetes.io/docs/concepts/security/rbac-good-practices/> and the API
//! server's own checks (a role may be written by who covers it or holds `escalate`, bound by who
//! covers it or holds `bind`).

use super::covers::uncovered;
use super::escalate::{Found, Power};
use super::rights::{Grant, Rights};
use super::rule::{Request, Rule};
use super::subject::{Identity, MASTERS};
use super::world::{Admission, World};

const RBAC: &str = "rbac.authorization.k8s.io";

/// Kinds whose template becomes pods.
const WORKLOADS: &[(&str, &str)] = &[
    ("", "replicationcontrollers"),
    ("apps", "deployments"),
    ("apps", "daemonsets"),
    ("apps", "statefulsets"),
    ("apps", "replicasets"),
    ("batch", "jobs"),
    ("batch", "cronjobs"),
];

/// Kinds by which the API server asks others, or is replaced by them.
const INTERCEPTORS: &[(&str, &str)] =
    &[("admissionregistration.k8s.io", "mutatingwebhookconfigurations"), ("apiregistration.k8s.io", "apiservices")];

/// Kinds that only refuse: who writes them can take a wall down.
const ADMISSION: &[(&str, &str)] = &[
    ("admissionregistration.k8s.io", "validatingwebhookconfigurations"),
    ("admissionregistration.k8s.io", "validatingadmissionpolicies"),
    ("admissionregistration.k8s.io", "validatingadmissionpolicybindings"),
    ("admissionregistration.k8s.io", "mutatingadmissionpolicies"),
    ("admissionregistration.k8s.io", "mutatingadmissionpolicybindings"),
];

/// The names a rule is restricted to, for a verb on a resource; none when it does not give it.
fn names<'a>(rule: &'a Rule, verb: &str, group: &str, resource: &str) -> Option<&'a [String]> {
    let request = |name: &str| Request::resource(verb, group, resource, "").named(name);
    if rule.allows(&request("")) && rule.resource_names.is_empty() {
        return Some(&[]);
    }
    let first = rule.resource_names.first()?;
    rule.allows(&request(first)).then_some(rule.resource_names.as_slice())
}

/// Whether a rule gives a verb on every object of a resource.
fn gives(rule: &Rule, verb: &str, group: &str, resource: &str) -> bool {
    names(rule, verb, group, resource).is_some_and(<[String]>::is_empty)
}

fn gives_any(rule: &Rule, verbs: &[&str], group: &str, resource: &str) -> bool {
    verbs.iter().any(|verb| gives(rule, verb, group, resource))
}

/// Whether some other rule, in force wherever `scope` is, gives this too.
fn also(grants: &[Grant<'_>], scope: &str, verbs: &[&str], group: &str, resource: &str) -> bool {
    grants.iter().any(|grant| {
        (grant.scope.is_empty() || grant.scope == scope)
            && verbs.iter().any(|verb| names(grant.rule, verb, group, resource).is_some())
    })
}

fn act(namespace: &str, account: &str) -> Power {
    Power::Act { identity: Identity::service_account(namespace, account) }
}

/// Everything that one rule gives directly.
pub(super) fn of_grant(rights: &Rights, world: &World, grant: &Grant<'_>, all: &[Grant<'_>]) -> Vec<Found> {
    let mut found = Vec::new();
    let rule = grant.rule;
    if grant.scope.is_empty() {
        cluster_wide(rule, &mut found);
        impersonation(rights, rule, &mut found);
        certificates(rule, all, rights, &mut found);
        if let Some(only) = names(rule, "impersonate", "", "serviceaccounts") {
            for namespace in world.namespaces() {
                impersonate_accounts(world, namespace, only, &mut found);
            }
        }
    }
    role_writes(rights, world, grant, all, &mut found);
    let namespaces: Vec<&str> = if grant.scope.is_empty() { world.namespaces().collect() } else { vec![grant.scope] };
    for namespace in namespaces {
        in_namespace(world, rule, namespace, all, &mut found);
        if !grant.scope.is_empty()
            && let Some(only) = names(rule, "impersonate", "", "serviceaccounts")
        {
            impersonate_accounts(world, namespace, only, &mut found);
        }
    }
    found
}

/// What a power brings without asking the API server.
pub(super) fn of_power(world: &World, power: &Power) -> Vec<Found> {
    match power {
        Power::Node => world
            .all_pods()
            .filter(|pod| pod.token)
            .map(|pod| Found {
                technique: "steal_token_from_node",
                act: format!("reads the token of pod {}/{} where it runs", pod.namespace, pod.name),
                gives: act(&pod.namespace, &pod.account),
            })
            .collect(),
        Power::NamespaceAdmin { namespace } => {
            let mut found: Vec<Found> = world
                .accounts_in(namespace)
                .map(|account| Found {
                    technique: "token_request",
                    act: format!("requests a token of service account {namespace}/{account}"),
                    gives: act(namespace, account),
                })
                .collect();
            found.push(Found {
                technique: "read_secrets",
                act: format!("reads the secrets of namespace {namespace}"),
                gives: Power::Secrets { namespace: namespace.clone() },
            });
            found.extend(privileged_pod(world, namespace));
            found
        }
        Power::Secrets { namespace } => {
            let namespaces: Vec<&str> =
                if namespace.is_empty() { world.namespaces().collect() } else { vec![namespace] };
            namespaces
                .into_iter()
                .flat_map(|namespace| {
                    world.tokens_in(namespace).map(move |(secret, account)| Found {
                        technique: "read_token_secret",
                        act: format!("uses the token in secret {namespace}/{secret}"),
                        gives: act(namespace, account),
                    })
                })
                .collect()
        }
        Power::Admission | Power::ClusterAdmin | Power::Act { .. } => Vec::new(),
    }
}

fn cluster_wide(rule: &Rule, found: &mut Vec<Found>) {
    let mut add = |technique, act: &str, gives| found.push(Found { technique, act: act.to_owned(), gives });
    if rule.is_everything() {
        add("all_rights", "may do everything already", Power::ClusterAdmin);
    }
    if gives_any(rule, &["get", "create"], "", "nodes/proxy") {
        add("nodes_proxy", "runs commands in any pod through a kubelet (nodes/proxy)", Power::Node);
    }
    for (group, resource) in INTERCEPTORS {
        if gives_any(rule, &["create", "update", "patch"], group, resource) {
            add(
                "intercept_requests",
                &format!("has the API server send it requests to rewrite ({resource})"),
                Power::ClusterAdmin,
            );
        }
    }
    for (group, resource) in ADMISSION {
        if gives_any(rule, &["create", "update", "patch", "delete"], group, resource) {
            add("change_admission", &format!("changes what is admitted ({resource})"), Power::Admission);
        }
    }
    if gives_any(rule, &["list", "watch"], "", "secrets") {
        add("read_secrets", "reads the secrets of every namespace", Power::Secrets { namespace: String::new() });
    }
}

fn impersonation(rights: &Rights, rule: &Rule, found: &mut Vec<Found>) {
    if let Some(only) = names(rule, "impersonate", "", "groups")
        && (only.is_empty() || only.iter().any(|name| name == MASTERS))
    {
        found.push(Found {
            technique: "impersonate",
            act: format!("impersonates the group {MASTERS}"),
            gives: Power::ClusterAdmin,
        });
    }
    for (resource, is_group) in [("users", false), ("groups", true)] {
        let Some(only) = names(rule, "impersonate", "", resource) else { continue };
        for identity in rights.subjects() {
            let name = if is_group {
                match identity.groups.first().filter(|_| identity.user.is_empty()) {
                    Some(group) => group,
                    None => continue,
                }
            } else if identity.user.is_empty() {
                continue;
            } else {
                &identity.user
            };
            if only.is_empty() || only.contains(name) {
                let act = format!("impersonates {identity}");
                found.push(Found { technique: "impersonate", act, gives: Power::Act { identity } });
            }
        }
    }
}

fn impersonate_accounts(world: &World, namespace: &str, only: &[String], found: &mut Vec<Found>) {
    for account in world.accounts_in(namespace).filter(|name| only.is_empty() || only.iter().any(|one| one == name)) {
        found.push(Found {
            technique: "impersonate",
            act: format!("impersonates service account {namespace}/{account}"),
            gives: act(namespace, account),
        });
    }
}

/// A client certificate in any name but that of the masters' group, which the API server refuses.
fn certificates(rule: &Rule, all: &[Grant<'_>], rights: &Rights, found: &mut Vec<Found>) {
    const GROUP: &str = "certificates.k8s.io";
    let Some(only) = names(rule, "approve", GROUP, "signers") else { return };
    let client =
        |name: &String| name == "kubernetes.io/kube-apiserver-client" || name == "kubernetes.io/*" || name == "*";
    let approves = only.is_empty() || only.iter().any(client);
    let creates = also(all, "", &["create"], GROUP, "certificatesigningrequests");
    let updates = also(all, "", &["update", "patch"], GROUP, "certificatesigningrequests/approval");
    if !approves || !creates || !updates {
        return;
    }
    for identity in rights.subjects() {
        if !identity.groups.contains(MASTERS) {
            let act = format!("approves its own certificate in the name of {identity}");
            found.push(Found { technique: "approve_certificate", act, gives: Power::Act { identity } });
        }
    }
}

/// Writing roles and bindings beyond what one holds.
fn role_writes(rights: &Rights, world: &World, grant: &Grant<'_>, all: &[Grant<'_>], found: &mut Vec<Found>) {
    let rule = grant.rule;
    let everywhere = grant.scope.is_empty();
    let scopes: Vec<&str> = if everywhere { world.namespaces().collect() } else { vec![grant.scope] };
    let writes = ["update", "patch"];
    if everywhere
        && names(rule, "escalate", RBAC, "clusterroles").is_some()
        && also(all, "", &writes, RBAC, "clusterroles")
    {
        // Whoever edits a role they hold need not bind it; a role nobody holds must be bound.
        let act = "adds every right to a cluster role (escalate)".to_owned();
        found.push(Found { technique: "escalate", act, gives: Power::ClusterAdmin });
    }
    for scope in &scopes {
        if names(rule, "escalate", RBAC, "roles").is_some() && also(all, scope, &writes, RBAC, "roles") {
            found.push(Found {
                technique: "escalate",
                act: format!("adds every right to a role in {scope} (escalate)"),
                gives: Power::NamespaceAdmin { namespace: (*scope).to_owned() },
            });
        }
    }
    let Some(only) = names(rule, "bind", RBAC, "clusterroles") else {
        bind_roles(rights, grant, all, &scopes, found);
        return;
    };
    let strong = bindable(rights, only);
    if everywhere && strong && also(all, "", &["create", "update", "patch"], RBAC, "clusterrolebindings") {
        let act = "binds cluster-admin to itself in the whole cluster (bind)".to_owned();
        found.push(Found { technique: "bind", act, gives: Power::ClusterAdmin });
    }
    for scope in &scopes {
        if strong && also(all, scope, &["create", "update", "patch"], RBAC, "rolebindings") {
            found.push(Found {
                technique: "bind",
                act: format!("binds a cluster role with every right to itself in {scope} (bind)"),
                gives: Power::NamespaceAdmin { namespace: (*scope).to_owned() },
            });
        }
    }
    bind_roles(rights, grant, all, &scopes, found);
}

/// Binding a Role of the namespace that gives everything there.
fn bind_roles(rights: &Rights, grant: &Grant<'_>, all: &[Grant<'_>], scopes: &[&str], found: &mut Vec<Found>) {
    let Some(only) = names(grant.rule, "bind", RBAC, "roles") else { return };
    for scope in scopes {
        let strong = rights.roles().any(|role| {
            role.namespace == **scope
                && (only.is_empty() || only.contains(&role.name))
                && role.rules.iter().any(Rule::is_everything)
        });
        if strong && also(all, scope, &["create", "update", "patch"], RBAC, "rolebindings") {
            found.push(Found {
                technique: "bind",
                act: format!("binds a role with every right to itself in {scope} (bind)"),
                gives: Power::NamespaceAdmin { namespace: (*scope).to_owned() },
            });
        }
    }
}

/// Whether a cluster role that may be bound gives everything. Without names it is cluster-admin,
/// which every cluster has.
fn bindable(rights: &Rights, only: &[String]) -> bool {
    let everything = Rule {
        verbs: vec!["*".to_owned()],
        api_groups: vec!["*".to_owned()],
        resources: vec!["*".to_owned()],
        ..Rule::default()
    };
    only.is_empty()
        || only.iter().any(|name| {
            name == "cluster-admin"
                || rights
                    .role("", name)
                    .is_some_and(|role| uncovered(&role.rules, std::slice::from_ref(&everything)).is_empty())
        })
}

fn in_namespace(world: &World, rule: &Rule, namespace: &str, all: &[Grant<'_>], found: &mut Vec<Found>) {
    if rule.is_everything() {
        found.push(Found {
            technique: "all_rights",
            act: format!("may do everything in {namespace} already"),
            gives: Power::NamespaceAdmin { namespace: namespace.to_owned() },
        });
        return;
    }
    pods(world, rule, namespace, all, found);
    if let Some(only) = names(rule, "create", "", "serviceaccounts/token") {
        for account in world.accounts_in(namespace).filter(|one| only.is_empty() || only.iter().any(|name| name == one))
        {
            found.push(Found {
                technique: "token_request",
                act: format!("requests a token of service account {namespace}/{account}"),
                gives: act(namespace, account),
            });
        }
    }
    if gives_any(rule, &["list", "watch"], "", "secrets") {
        found.push(Found {
            technique: "read_secrets",
            act: format!("reads the secrets of namespace {namespace}"),
            gives: Power::Secrets { namespace: namespace.to_owned() },
        });
    }
    if let Some(only) = names(rule, "get", "", "secrets") {
        for (secret, account) in world.tokens_in(namespace) {
            if only.is_empty() || only.iter().any(|name| name == secret) {
                found.push(Found {
                    technique: "read_token_secret",
                    act: format!("reads the token in secret {namespace}/{secret}"),
                    gives: act(namespace, account),
                });
            }
        }
        if only.is_empty() && also(all, namespace, &["create"], "", "secrets") {
            for account in world.accounts_in(namespace) {
                found.push(Found {
                    technique: "create_token_secret",
                    act: format!("creates a secret for the token of {namespace}/{account} and reads it"),
                    gives: act(namespace, account),
                });
            }
        }
    }
    if namespace == "kube-system"
        && world.has_aws_auth()
        && ["update", "patch"]
            .iter()
            .any(|verb| rule.allows(&Request::resource(verb, "", "configmaps", namespace).named("aws-auth")))
    {
        found.push(Found {
            technique: "aws_auth",
            act: "adds itself to system:masters in ConfigMap kube-system/aws-auth".to_owned(),
            gives: Power::ClusterAdmin,
        });
    }
    if gives_any(rule, &["update", "patch"], "", "namespaces")
        && world.admission(namespace) != Admission::Anything
        && starts_pods(all, namespace)
    {
        found.push(Found {
            technique: "relabel_namespace",
            act: format!("removes the Pod Security label of {namespace} and starts a privileged pod there"),
            gives: Power::Node,
        });
    }
}

fn starts_pods(all: &[Grant<'_>], namespace: &str) -> bool {
    also(all, namespace, &["create"], "", "pods")
        || WORKLOADS
            .iter()
            .any(|(group, resource)| also(all, namespace, &["create", "update", "patch"], group, resource))
}

/// Running code in pods: new ones, changed ones, and those that are there.
fn pods(world: &World, rule: &Rule, namespace: &str, all: &[Grant<'_>], found: &mut Vec<Found>) {
    let creates = gives(rule, "create", "", "pods");
    let workload = WORKLOADS
        .iter()
        .find(|(group, resource)| gives_any(rule, &["create", "update", "patch"], group, resource))
        .map(|(_, resource)| *resource);
    if creates || workload.is_some() {
        let what = if creates { "a pod".to_owned() } else { format!("pods through {}", workload.unwrap_or_default()) };
        for account in world.accounts_in(namespace) {
            found.push(Found {
                technique: "create_pods",
                act: format!("starts {what} in {namespace} that mounts the token of {namespace}/{account}"),
                gives: act(namespace, account),
            });
        }
        found.extend(privileged_pod(world, namespace));
        if also(all, "", &["create"], "", "persistentvolumes") && world.admission(namespace) != Admission::Anything {
            found.push(Found {
                technique: "host_path_volume",
                act: format!("creates a PersistentVolume on a host path and mounts it in {namespace}"),
                gives: Power::Node,
            });
        }
    }
    let enters: &[(&str, &[&str], &str)] = &[
        ("exec", &["create", "get"], "pods/exec"),
        ("attach", &["create", "get"], "pods/attach"),
        ("debug", &["update", "patch"], "pods/ephemeralcontainers"),
        ("change_image", &["update", "patch"], "pods"),
    ];
    for (technique, verbs, resource) in enters {
        let Some(only) = verbs.iter().find_map(|verb| names(rule, verb, "", resource)) else { continue };
        for pod in world.pods_in(namespace).filter(|pod| pod.token) {
            if only.is_empty() || only.contains(&pod.name) {
                found.push(Found {
                    technique,
                    act: format!("runs code in pod {namespace}/{} ({resource}) and reads its token", pod.name),
                    gives: act(namespace, &pod.account),
                });
            }
        }
    }
}

fn privileged_pod(world: &World, namespace: &str) -> Option<Found> {
    (world.admission(namespace) == Admission::Anything).then(|| Found {
        technique: "privileged_pod",
        act: format!("starts a privileged pod in {namespace}, where Pod Security does not refuse it"),
        gives: Power::Node,
    })
}
