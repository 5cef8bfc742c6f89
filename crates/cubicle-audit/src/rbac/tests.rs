//! Escalation, technique by technique: each right yields its power, and loses it when the right
//! is taken away.

use super::*;

fn owned(list: &[&str]) -> Vec<String> {
    list.iter().map(|one| (*one).to_owned()).collect()
}

fn rule(verbs: &[&str], group: &str, resources: &[&str]) -> Rule {
    Rule { verbs: owned(verbs), api_groups: owned(&[group]), resources: owned(resources), ..Rule::default() }
}

/// Eve holds the rules in a namespace, or everywhere when it is empty.
fn held_by_eve(scope: &str, rules: Vec<Rule>) -> Rights {
    let subject = Subject { kind: SubjectKind::ServiceAccount, name: "eve".to_owned(), namespace: "user".to_owned() };
    let role = Role { name: "eves".to_owned(), rules, ..Role::default() };
    let binding = Binding {
        namespace: scope.to_owned(),
        name: "eves".to_owned(),
        subjects: vec![subject],
        cluster_role: true,
        role: "eves".to_owned(),
    };
    Rights::new([role], [binding])
}

/// A namespace of users that enforces `restricted`, a platform that enforces nothing.
fn world() -> World {
    let mut world = World::default();
    world.namespace("user", Admission::Restricted);
    world.account("user", "eve");
    world.namespace("platform", Admission::Anything);
    world.account("platform", "hub");
    world.token_secret("platform", "hub-token", "hub");
    for (namespace, name, account) in [("user", "notebook", "eve"), ("platform", "hub", "hub")] {
        world.pod(RunningPod {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            account: account.to_owned(),
            token: true,
        });
    }
    world
}

fn eve() -> Identity {
    Identity::service_account("user", "eve")
}

fn hub() -> Power {
    Power::Act { identity: Identity::service_account("platform", "hub") }
}

fn reaches(scope: &str, rules: Vec<Rule>, power: &Power) -> bool {
    escalate(&held_by_eve(scope, rules), &world(), &eve()).way_to(power).is_some()
}

#[test]
fn no_right_reaches_nothing() {
    let harmless = rule(&["get", "list", "watch"], "", &["pods", "configmaps", "services"]);
    assert!(escalate(&held_by_eve("", vec![harmless]), &world(), &eve()).reached.is_empty());
}

#[test]
fn every_technique_needs_all_of_its_rights() {
    const RBAC: &str = "rbac.authorization.k8s.io";
    const CERTIFICATES: &str = "certificates.k8s.io";
    let namespace = |name: &str| Power::NamespaceAdmin { namespace: name.to_owned() };
    let cases: Vec<(&str, &str, Vec<Rule>, Power)> = vec![
        ("create pods", "platform", vec![rule(&["create"], "", &["pods"])], hub()),
        ("create jobs", "platform", vec![rule(&["create"], "batch", &["jobs"])], hub()),
        ("patch deployments", "platform", vec![rule(&["patch"], "apps", &["deployments"])], hub()),
        ("exec", "platform", vec![rule(&["create"], "", &["pods/exec"])], hub()),
        ("exec by get", "platform", vec![rule(&["get"], "", &["pods/exec"])], hub()),
        ("debug", "platform", vec![rule(&["patch"], "", &["pods/ephemeralcontainers"])], hub()),
        ("change image", "platform", vec![rule(&["update"], "", &["pods"])], hub()),
        ("token request", "platform", vec![rule(&["create"], "", &["serviceaccounts/token"])], hub()),
        ("read token", "platform", vec![rule(&["get"], "", &["secrets"])], hub()),
        ("list token", "platform", vec![rule(&["list"], "", &["secrets"])], hub()),
        ("impersonate", "platform", vec![rule(&["impersonate"], "", &["serviceaccounts"])], hub()),
        ("masters", "", vec![rule(&["impersonate"], "", &["groups"])], Power::ClusterAdmin),
        ("nodes proxy", "", vec![rule(&["get"], "", &["nodes/proxy"])], hub()),
        (
            "bind",
            "",
            vec![rule(&["bind"], RBAC, &["clusterroles"]), rule(&["create"], RBAC, &["clusterrolebindings"])],
            Power::ClusterAdmin,
        ),
        (
            "bind in a namespace",
            "platform",
            vec![rule(&["bind"], RBAC, &["clusterroles"]), rule(&["create"], RBAC, &["rolebindings"])],
            namespace("platform"),
        ),
        (
            "escalate",
            "",
            vec![rule(&["escalate"], RBAC, &["clusterroles"]), rule(&["patch"], RBAC, &["clusterroles"])],
            Power::ClusterAdmin,
        ),
        (
            "escalate in a namespace",
            "platform",
            vec![rule(&["escalate"], RBAC, &["roles"]), rule(&["patch"], RBAC, &["roles"])],
            namespace("platform"),
        ),
        (
            "webhook",
            "",
            vec![rule(&["create"], "admissionregistration.k8s.io", &["mutatingwebhookconfigurations"])],
            Power::ClusterAdmin,
        ),
        (
            "policy",
            "",
            vec![rule(&["delete"], "admissionregistration.k8s.io", &["validatingadmissionpolicybindings"])],
            Power::Admission,
        ),
        ("privileged pod", "platform", vec![rule(&["create"], "", &["pods"])], Power::Node),
        (
            "relabel",
            "",
            vec![rule(&["patch"], "", &["namespaces"]), rule(&["create"], "apps", &["daemonsets"])],
            Power::Node,
        ),
    ];
    for (name, scope, rules, power) in cases {
        assert!(reaches(scope, rules.clone(), &power), "{name}: with all rights");
        for left_out in 0..rules.len() {
            let mut fewer = rules.clone();
            fewer.remove(left_out);
            let still = reaches(scope, fewer, &power);
            // The platform's own namespace is open, so that starting pods alone gives a node there.
            assert!(!still || name == "relabel" && left_out == 0, "{name}: without its rule {left_out}");
        }
    }
    let certificate = vec![
        rule(&["create"], CERTIFICATES, &["certificatesigningrequests"]),
        rule(&["update"], CERTIFICATES, &["certificatesigningrequests/approval"]),
        rule(&["approve"], CERTIFICATES, &["signers"]),
    ];
    let mut rights = held_by_eve("", certificate);
    let boss = Binding {
        namespace: String::new(),
        name: "boss".to_owned(),
        subjects: vec![Subject { kind: SubjectKind::User, name: "boss".to_owned(), namespace: String::new() }],
        cluster_role: true,
        role: "eves".to_owned(),
    };
    rights = Rights::new(
        rights.roles().cloned().collect::<Vec<_>>(),
        rights.bindings().iter().cloned().chain([boss]).collect::<Vec<_>>(),
    );
    let as_boss = Power::Act { identity: Identity::user("boss", []) };
    assert!(escalate(&rights, &world(), &eve()).way_to(&as_boss).is_some());
}

#[test]
fn pod_security_keeps_pods_from_the_node() {
    let rules = vec![rule(&["create"], "", &["pods"])];
    assert!(!reaches("user", rules.clone(), &Power::Node));
    let with_volume = rules.into_iter().chain([rule(&["create"], "", &["persistentvolumes"])]).collect();
    assert!(reaches("", with_volume, &Power::Node));
}

#[test]
fn the_witness_is_a_chain_of_what_was_reached_before() {
    let mut rights = held_by_eve("platform", vec![rule(&["create"], "", &["pods/exec"])]);
    let hubs = Binding {
        namespace: String::new(),
        name: "hub".to_owned(),
        subjects: vec![Subject {
            kind: SubjectKind::ServiceAccount,
            name: "hub".to_owned(),
            namespace: "platform".to_owned(),
        }],
        cluster_role: true,
        role: "admin".to_owned(),
    };
    let admin = Role { name: "admin".to_owned(), rules: vec![rule(&["*"], "*", &["*"])], ..Role::default() };
    rights = Rights::new(
        rights.roles().cloned().chain([admin]).collect::<Vec<_>>(),
        rights.bindings().iter().cloned().chain([hubs]).collect::<Vec<_>>(),
    );
    let escalation = escalate(&rights, &world(), &eve());
    let path = escalation.way_to(&Power::ClusterAdmin).map(<[Step]>::to_vec).unwrap_or_default();
    let told: Vec<String> = path.iter().map(|step| format!("{} {}", step.by, step.act)).collect();
    assert_eq!(
        told,
        [
            "service account user/eve runs code in pod platform/hub (pods/exec) and reads its token",
            "service account platform/hub may do everything already"
        ]
    );
}

#[test]
fn a_named_right_reaches_only_what_it_names() {
    let mut named = rule(&["create"], "", &["serviceaccounts/token"]);
    named.resource_names = owned(&["other"]);
    assert!(!reaches("platform", vec![named.clone()], &hub()));
    named.resource_names = owned(&["hub"]);
    assert!(reaches("platform", vec![named], &hub()));
}

#[test]
fn masters_are_asked_nothing() {
    let master = Identity::user("root", [MASTERS]);
    let escalation = escalate(&Rights::default(), &world(), &master);
    assert!(escalation.way_to(&Power::ClusterAdmin).is_some());
}
