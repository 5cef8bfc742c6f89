//! Static rules about services, node ports and addresses: with the mechanism held, without it not.

use cubicle_audit::snapshot::Snapshot;
use cubicle_audit::verdict::{Fix, Options, Report, Tenancy, apply, audit, selector};
use cubicle_core::report::Verdict;
use serde_json::{Value, json};

fn judge(objects: &[Value]) -> Report {
    let selector = selector("user").unwrap_or_else(|problem| panic!("{problem}"));
    let options = Options { tenancy: Tenancy { selector: Some(selector), preset: None }, ..Options::default() };
    let mut snapshot = Snapshot::from_json("test", objects);
    assert!(snapshot.is_complete(), "{:?}", snapshot.problems);
    audit(&mut snapshot, &options)
}

fn verdict(report: &Report, alias: &str) -> Verdict {
    let ruling = report.guarantees.iter().find(|ruling| ruling.alias == alias);
    ruling.map_or(Verdict::NotClaimed, |ruling| ruling.verdict)
}

fn sentences(report: &Report, alias: &str) -> Vec<String> {
    report.findings.iter().filter(|one| one.alias == alias).map(|one| one.sentence.clone()).collect()
}

fn object(kind: &str, version: &str, namespace: &str, name: &str) -> Value {
    json!({"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": namespace}})
}

fn workspace(user: &str, address: &str) -> Value {
    let mut pod = object("Pod", "v1", user, "notebook");
    pod["metadata"]["labels"] = json!({"user": user});
    pod["spec"] = json!({"containers": [{"name": "notebook", "image": "i", "ports": [{"containerPort": 8888}]}]});
    pod["status"] = json!({"podIP": address});
    pod
}

fn policy(namespace: &str, name: &str, spec: &Value) -> Value {
    let mut policy = object("NetworkPolicy", "networking.k8s.io/v1", namespace, name);
    policy["spec"] = spec.clone();
    policy
}

fn service(namespace: &str, name: &str, spec: &Value) -> Value {
    let mut service = object("Service", "v1", namespace, name);
    service["spec"] = spec.clone();
    service
}

fn walls(user: &str) -> Value {
    policy(user, "walls", &json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}))
}

/// Two workspaces and their walls, the platform's web server with the service, and its wall.
fn cluster(of: &Value) -> Vec<Value> {
    let mut web = object("Pod", "v1", "platform", "web");
    web["metadata"]["labels"] = json!({"app": "web"});
    web["spec"] = json!({"containers": [{"name": "web", "image": "i"}]});
    web["status"] = json!({"podIP": "10.0.9.1"});
    let closed = policy("platform", "web", &json!({"podSelector": {}, "policyTypes": ["Ingress"]}));
    vec![
        workspace("a", "10.0.1.1"),
        workspace("b", "10.0.2.1"),
        walls("a"),
        walls("b"),
        web,
        closed,
        service("platform", "web", of),
    ]
}

fn without(objects: &[Value], kind: &str) -> Vec<Value> {
    objects.iter().filter(|object| object["kind"] != kind).cloned().collect()
}

#[test]
fn neighbours_on_one_node_and_over_ipv6() {
    let plain = json!({"selector": {"app": "web"}, "ports": [{"port": 80}]});
    let objects = cluster(&plain);
    assert_eq!(verdict(&judge(&objects), "NW-02"), Verdict::Held);
    assert_eq!(verdict(&judge(&without(&objects, "NetworkPolicy")), "NW-02"), Verdict::Breached);
    // Over IPv6: closed by a policy without rules, open where only IPv4 was thought of.
    let mut dual = objects;
    for at in [0, 1] {
        let v4 = dual[at]["status"]["podIP"].clone();
        dual[at]["status"] = json!({"podIP": v4, "podIPs": [{"ip": v4}, {"ip": format!("fd00::{at}")}]});
    }
    assert_eq!(verdict(&judge(&dual), "NW-07"), Verdict::Held);
    dual.push(policy(
        "a",
        "out",
        &json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"to": [{"ipBlock": {"cidr": "::/0"}}]}]}),
    ));
    let report = judge(&dual);
    assert_eq!(verdict(&report, "NW-07"), Verdict::Breached);
    let told = sentences(&report, "NW-07");
    assert!(
        told.iter().any(|one| one.contains("fc00::/7")) && told.iter().any(|one| one.contains("closed over IPv4")),
        "{told:?}"
    );
}

#[test]
fn node_ports_and_ports_of_nodes() {
    let published = json!({"type": "NodePort", "externalTrafficPolicy": "Local", "selector": {"app": "web"},
        "ports": [{"port": 80, "nodePort": 30080}]});
    let objects = cluster(&published);
    assert_eq!(verdict(&judge(&objects), "NW-09"), Verdict::Held);
    let open = without(&objects, "NetworkPolicy");
    let report = judge(&open);
    assert_eq!(verdict(&report, "NW-09"), Verdict::Breached);
    assert!(
        sentences(&report, "NW-09")[0].contains("Pod platform/web through a port of every node"),
        "{:?}",
        sentences(&report, "NW-09")
    );
    // Not published, nothing is reached that way.
    let plain = cluster(&json!({"selector": {"app": "web"}, "ports": [{"port": 80}]}));
    assert_eq!(verdict(&judge(&without(&plain, "NetworkPolicy")), "NW-09"), Verdict::Held);
    // Sources that may be seen as a node are the plugin's affair.
    let unclear = json!({"type": "NodePort", "selector": {"app": "web"}, "ports": [{"port": 80, "nodePort": 30080}]});
    assert_eq!(verdict(&judge(&cluster(&unclear)), "NW-09"), Verdict::Unproven);
    let mut taken = without(&plain, "NetworkPolicy");
    taken[2]["spec"]["containers"][0]["ports"] = json!([{"containerPort": 80, "hostPort": 80}]);
    assert_eq!(verdict(&judge(&taken), "NW-09"), Verdict::Breached);
}

#[test]
fn load_balancers_and_external_addresses() {
    let mut objects = cluster(&json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local",
        "allocateLoadBalancerNodePorts": false, "selector": {"app": "web"}, "ports": [{"port": 80}]}));
    objects[6]["status"] = json!({"loadBalancer": {"ingress": [{"ip": "203.0.113.7"}]}});
    assert_eq!(verdict(&judge(&objects), "NW-11"), Verdict::Held);
    let mut open = without(&objects, "NetworkPolicy");
    assert_eq!(verdict(&judge(&open), "NW-11"), Verdict::Breached);
    open[3]["status"] = json!({});
    open[3]["spec"]["type"] = json!("ClusterIP");
    assert_eq!(verdict(&judge(&open), "NW-11"), Verdict::Held);
}

/// Applies the change of the first finding of a guarantee.
fn fixed(mut objects: Vec<Value>, report: &Report, alias: &str) -> Vec<Value> {
    let fix = report.findings.iter().find(|one| one.alias == alias).and_then(|one| one.fix.clone());
    let is = |object: &Value, target: &cubicle_audit::verdict::Target| {
        object["kind"] == target.kind.as_str() && object["metadata"]["name"] == target.name.as_str()
    };
    match fix {
        Some(Fix::Delete { target }) => objects.retain(|object| !is(object, &target)),
        Some(Fix::Manifests { objects: new }) => objects.extend(new),
        Some(Fix::Patch { target, operations }) => {
            for object in objects.iter_mut().filter(|object| is(object, &target)) {
                apply(object, &operations).unwrap_or_else(|error| panic!("{error}"));
            }
        }
        other => panic!("{alias}: {other:?}"),
    }
    objects
}

#[test]
fn addresses_of_others_behind_an_own_service() {
    let mut objects = cluster(&json!({"selector": {"app": "web"}, "ports": [{"port": 80}]}));
    assert_eq!(verdict(&judge(&objects), "NS-09"), Verdict::Held);
    let mut slice = object("EndpointSlice", "discovery.k8s.io/v1", "a", "stolen");
    slice["metadata"]["labels"] = json!({"kubernetes.io/service-name": "own"});
    slice["addressType"] = json!("IPv4");
    slice["endpoints"] = json!([{"addresses": ["10.0.2.1"]}]);
    slice["ports"] = json!([{"port": 8888}]);
    objects.push(service("a", "own", &json!({"ports": [{"port": 80}]})));
    objects.push(slice);
    let report = judge(&objects);
    assert_eq!(verdict(&report, "NS-09"), Verdict::Breached);
    assert!(
        sentences(&report, "NS-09")[0].contains("pod b/notebook of another namespace"),
        "{:?}",
        sentences(&report, "NS-09")
    );
    assert_eq!(verdict(&judge(&fixed(objects.clone(), &report, "NS-09")), "NS-09"), Verdict::Held);
    // An Ingress makes more of it, and says so at its own line.
    let mut ingress = object("Ingress", "networking.k8s.io/v1", "a", "door");
    ingress["spec"] = json!({"defaultBackend": {"service": {"name": "own", "port": {"number": 80}}}});
    objects.push(ingress);
    let told = sentences(&judge(&objects), "NS-09");
    assert!(told.iter().any(|one| one.contains("be led by Ingress door to pod b/notebook")), "{told:?}");
}

#[test]
fn taking_addresses_and_publishing() {
    let own = json!({"selector": {"user": "a"}, "ports": [{"port": 80}]});
    let mut objects = cluster(&json!({"selector": {"app": "web"}, "ports": [{"port": 80}]}));
    objects.push(service("a", "own", &own));
    assert_eq!(verdict(&judge(&objects), "NS-10"), Verdict::Held);
    objects[7]["spec"]["externalIPs"] = json!(["203.0.113.9"]);
    let report = judge(&objects);
    assert_eq!(verdict(&report, "NS-10"), Verdict::Breached);
    assert!(
        sentences(&report, "NS-10")[0].contains("take the address 203.0.113.9"),
        "{:?}",
        sentences(&report, "NS-10")
    );
    assert_eq!(verdict(&judge(&fixed(objects.clone(), &report, "NS-10")), "NS-10"), Verdict::Held);
    objects[7]["spec"] = json!({"type": "NodePort", "selector": {"user": "a"}, "ports": [{"port": 80}]});
    let report = judge(&objects);
    assert!(sentences(&report, "NS-10").iter().any(|one| one.contains("be reached from outside by Service a/own")));
    assert_eq!(verdict(&judge(&fixed(objects.clone(), &report, "NS-10")), "NS-10"), Verdict::Held);
    // Who may make services may take addresses, unless admission denies it.
    objects[7]["spec"] = own;
    let mut role = object("Role", "rbac.authorization.k8s.io/v1", "a", "services");
    role["rules"] = json!([{"apiGroups": [""], "resources": ["services"], "verbs": ["create"]}]);
    let mut binding = object("RoleBinding", "rbac.authorization.k8s.io/v1", "a", "services");
    binding["roleRef"] = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "services"});
    binding["subjects"] = json!([{"kind": "ServiceAccount", "name": "default", "namespace": "a"}]);
    let mut quota = object("ResourceQuota", "v1", "a", "none");
    quota["spec"] = json!({"hard": {"services.nodeports": "0", "services.loadbalancers": "0"}});
    objects.extend([role, binding, quota]);
    let report = judge(&objects);
    assert_eq!(verdict(&report, "NS-10"), Verdict::Unproven, "{:?}", sentences(&report, "NS-10"));
    assert_eq!(verdict(&judge(&fixed(objects.clone(), &report, "NS-10")), "NS-10"), Verdict::Held);
}
