//! Services, node ports, load balancers, and what Ingresses and routes let in.

use super::*;
use crate::network::place::with_port;

fn labelled(namespace: &str, name: &str, app: &str, ports: &Value) -> Value {
    let mut pod = pod(namespace, name, &json!({"app": app}));
    pod["spec"]["containers"] = json!([{"name": "c", "ports": ports}]);
    pod
}

fn service(namespace: &str, name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": namespace}, "spec": spec})
}

fn object(kind: &str, version: &str, namespace: &str, name: &str, spec: &Value) -> Value {
    json!({"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": namespace}, "spec": spec})
}

fn node() -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}, "status": {"addresses": [{"type": "InternalIP", "address": "192.168.0.1"}]}})
}

/// May and must of `from` dialling `to` with its port, and why.
fn dial(engine: &mut Engine, from: &str, to: &str) -> ((bool, bool), String) {
    let (place, port) = with_port(to).unwrap_or_else(|error| panic!("{to}: {error}"));
    let source = from.parse().unwrap_or_else(|error| panic!("{from}: {error}"));
    let verdict = engine
        .answer(&source, &place, Protocol::Tcp, port.as_ref())
        .unwrap_or_else(|error| panic!("{from} -> {to}: {error}"));
    ((verdict.may, verdict.must), verdict.reason)
}

/// Database pods behind a service, a policy that lets port 5432 of them in from the app.
fn database() -> Vec<Value> {
    vec![
        labelled("x", "db", "db", &json!([{"name": "sql", "containerPort": 5432}])),
        labelled("x", "app", "app", &json!([])),
        labelled("x", "other", "other", &json!([])),
        service(
            "x",
            "data",
            &json!({"clusterIP": "10.96.0.5", "selector": {"app": "db"}, "ports": [{"port": 80, "targetPort": "sql"}]}),
        ),
        policy(
            "x",
            "db",
            &json!({"podSelector": {"matchLabels": {"app": "db"}}, "policyTypes": ["Ingress"],
            "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "app"}}}], "ports": [{"port": 5432}]}]}),
        ),
    ]
}

#[test]
fn a_policy_acts_on_the_pod_behind_a_service_and_on_its_port() {
    for to in
        ["x/Service/data:80", "x/data:80", "data.x.svc:80", "data.x.svc.cluster.local:80", "10.96.0.5:80", "x/data"]
    {
        let mut engine = engine(&database(), Profile::Standard);
        assert_eq!(dial(&mut engine, "x/app", to).0, YES, "{to}");
        assert_eq!(dial(&mut engine, "x/other", to).0, NO, "{to}");
    }
    let mut engine = engine(&database(), Profile::Standard);
    assert_eq!(dial(&mut engine, "x/app", "10.96.0.5:81"), (NO, "the service has no such port".to_owned()));
    let reason = dial(&mut engine, "x/app", "x/data:80").1;
    assert!(reason.contains("through service x/data port 80 to x/db port 5432"), "{reason}");
}

#[test]
fn without_its_policy_the_service_is_open() {
    let mut objects = database();
    objects.retain(|object| object["kind"] != "NetworkPolicy");
    assert_eq!(dial(&mut engine(&objects, Profile::Standard), "x/other", "x/data:80").0, YES);
}

#[test]
fn a_service_leads_to_all_its_backends_and_to_no_finished_one() {
    let mut objects = database();
    let mut second = labelled("x", "db-2", "db", &json!([{"name": "sql", "containerPort": 5433}]));
    objects.push(second.clone());
    // 5433 is not allowed, and which backend answers is not the client's choice.
    assert_eq!(dial(&mut engine(&objects, Profile::Standard), "x/app", "x/data:80").0, OPEN);
    second["status"] = json!({"phase": "Failed"});
    objects.pop();
    objects.push(second);
    assert_eq!(dial(&mut engine(&objects, Profile::Standard), "x/app", "x/data:80").0, YES);
    objects.retain(|object| object["metadata"]["name"] != "db");
    let (verdict, reason) = dial(&mut engine(&objects, Profile::Standard), "x/app", "x/data:80");
    assert_eq!(verdict, (false, false));
    assert!(reason.contains("nothing is behind it"), "{reason}");
}

#[test]
fn of_a_headless_service_the_client_chooses_the_port() {
    let mut objects = database();
    objects[3]["spec"]["clusterIP"] = json!("None");
    let mut engine = engine(&objects, Profile::Standard);
    assert_eq!(dial(&mut engine, "x/app", "x/Service/data:5432").0, YES);
    assert_eq!(dial(&mut engine, "x/app", "x/Service/data:80").0, NO);
}

#[test]
fn a_block_of_service_addresses_opens_on_some_plugins_only() {
    let mut objects = database();
    objects.push(policy(
        "x",
        "out",
        &json!({"podSelector": {"matchLabels": {"app": "app"}}, "policyTypes": ["Egress"],
        "egress": [{"to": [{"ipBlock": {"cidr": "10.96.0.0/12"}}]}]}),
    ));
    objects[0]["status"] = json!({"podIP": "10.244.0.7"});
    assert_eq!(dial(&mut engine(&objects, Profile::Standard), "x/app", "x/data:80").0, OPEN);
}

#[test]
fn manual_endpoints_lead_to_pods_of_anyone_and_out() {
    let mut victim = labelled("y", "victim", "victim", &json!([]));
    victim["status"] = json!({"podIP": "10.244.0.9"});
    let slice = |addresses: Value| {
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": "data-1", "namespace": "x", "labels": {"kubernetes.io/service-name": "data"}},
            "endpoints": [{"addresses": addresses}], "ports": [{"port": 9000}]})
    };
    let without = service("x", "data", &json!({"clusterIP": "10.96.0.5", "ports": [{"port": 80}]}));
    let isolate = policy(
        "y",
        "p",
        &json!({"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{"ports": [{"port": 9000}]}]}),
    );
    let app = labelled("x", "app", "app", &json!([]));
    let objects = [victim.clone(), without.clone(), slice(json!(["10.244.0.9"])), app.clone(), isolate];
    let mut reached = engine(&objects, Profile::Standard);
    let (verdict, reason) = dial(&mut reached, "x/app", "10.96.0.5:80");
    assert_eq!(verdict, YES);
    assert!(reason.contains("y/victim port 9000"), "{reason}");
    // The same as an Endpoints object, now to an address outside, which a policy closes.
    let endpoints = json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "data", "namespace": "x"},
        "subsets": [{"addresses": [{"ip": "8.8.8.8"}], "ports": [{"port": 443}]}]});
    let closed = policy("x", "out", &json!({"podSelector": {}, "policyTypes": ["Egress"]}));
    let objects = [without.clone(), endpoints.clone(), app.clone()];
    assert_eq!(dial(&mut engine(&objects, Profile::Standard), "x/app", "x/data:80").0, YES);
    let objects = [without, endpoints, app, closed];
    assert_eq!(dial(&mut engine(&objects, Profile::Standard), "x/app", "x/data:80").0, NO);
}

#[test]
fn a_name_for_a_service_is_that_service_and_another_name_is_anywhere() {
    let mut objects = database();
    objects.push(service("y", "alias", &json!({"type": "ExternalName", "externalName": "data.x.svc.cluster.local"})));
    objects.push(service("y", "out", &json!({"type": "ExternalName", "externalName": "example.com"})));
    let mut reached = engine(&objects, Profile::Standard);
    assert_eq!(dial(&mut reached, "x/app", "y/alias:80").0, YES);
    assert_eq!(dial(&mut reached, "x/other", "y/alias:80").0, NO);
    assert_eq!(dial(&mut reached, "x/other", "y/out:443").0, YES);
    objects.push(policy("x", "out", &json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"to": [{"ipBlock": {"cidr": "8.0.0.0/8"}}]}]})));
    assert_eq!(dial(&mut engine(&objects, Profile::Standard), "x/other", "y/out:443").0, OPEN);
}

#[test]
fn a_node_port_may_show_the_pod_the_node() {
    let mut objects = database();
    objects[3]["spec"]["type"] = json!("NodePort");
    objects[3]["spec"]["ports"][0]["nodePort"] = json!(30080);
    objects.push(node());
    let mut reached = engine(&objects, Profile::Standard);
    // The source may be seen as the node, which the policy does not let in.
    assert_eq!(dial(&mut reached, "x/app", "192.168.0.1:30080").0, OPEN);
    // Nothing of this kind is let in from the other, but a pod's own node always may be.
    assert_eq!(dial(&mut reached, "x/other", "192.168.0.1:30080").0, OPEN);
    objects[3]["spec"]["externalTrafficPolicy"] = json!("Local");
    let mut reached = engine(&objects, Profile::Standard);
    assert_eq!(dial(&mut reached, "x/app", "192.168.0.1:30080").0, YES);
    assert_eq!(dial(&mut reached, "x/other", "192.168.0.1:30080").0, NO);
    assert_eq!(dial(&mut reached, "8.8.8.8", "192.168.0.1:30080").0, NO);
    objects.retain(|object| object["kind"] != "NetworkPolicy");
    let mut reached = engine(&objects, Profile::Standard);
    assert_eq!(dial(&mut reached, "x/other", "192.168.0.1:30080").0, YES);
    assert_eq!(dial(&mut reached, "8.8.8.8", "192.168.0.1:30080").0, YES);
    assert_eq!(dial(&mut reached, "x/other", "192.168.0.1:30081").0, YES, "a port of the node itself");
}

#[test]
fn addresses_of_balancers_and_external_ones_lead_to_the_service() {
    let mut objects = database();
    objects[3]["spec"]["type"] = json!("LoadBalancer");
    objects[3]["spec"]["externalIPs"] = json!(["8.8.8.8"]);
    objects[3]["spec"]["externalTrafficPolicy"] = json!("Local");
    objects[3]["status"] = json!({"loadBalancer": {"ingress": [{"ip": "203.0.113.7"}]}});
    for address in ["8.8.8.8:80", "203.0.113.7:80"] {
        let mut engine = engine(&objects, Profile::Standard);
        assert_eq!(dial(&mut engine, "x/other", address).0, NO, "{address}");
        assert_eq!(dial(&mut engine, "x/app", address).0, YES, "{address}");
        assert_eq!(dial(&mut engine, "9.9.9.9", address).0, NO, "{address}");
    }
}

#[test]
fn a_port_of_the_node_leads_to_the_pod_that_takes_it() {
    let mut web = labelled("x", "web", "web", &json!([{"containerPort": 8080, "hostPort": 80}]));
    web["spec"]["nodeName"] = json!("n1");
    let app = labelled("x", "app", "app", &json!([]));
    let closed = policy("x", "p", &json!({"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress"]}));
    let objects = [node(), web.clone(), app.clone()];
    let (verdict, reason) = dial(&mut engine(&objects, Profile::Standard), "x/app", "192.168.0.1:80");
    assert_eq!(verdict, YES);
    assert!(reason.contains("x/web port 8080"), "{reason}");
    // Isolated, only the node itself might still be let in.
    let objects = [node(), web, app, closed];
    assert_eq!(dial(&mut engine(&objects, Profile::Standard), "x/app", "192.168.0.1:80").0, OPEN);
}

/// A web pod behind a service and an Ingress, and a policy for it.
fn behind_ingress(from: &Value) -> Vec<Value> {
    vec![
        labelled("x", "web", "web", &json!([{"name": "http", "containerPort": 8080}])),
        service(
            "x",
            "web",
            &json!({"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]}),
        ),
        object(
            "Ingress",
            "networking.k8s.io/v1",
            "x",
            "front",
            &json!({"ingressClassName": "nginx",
            "rules": [{"http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "web", "port": {"name": "http"}}}}]}}]}),
        ),
        policy(
            "x",
            "web",
            &json!({"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress"], "ingress": [{"from": from}]}),
        ),
    ]
}

fn controller() -> Value {
    pod(
        "ingress-nginx",
        "controller-1",
        &json!({"app.kubernetes.io/name": "ingress-nginx", "app.kubernetes.io/component": "controller"}),
    )
}

#[test]
fn an_ingress_lets_in_what_its_controller_reaches() {
    let from_controller =
        json!([{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress-nginx"}}}]);
    let mut objects = behind_ingress(&from_controller);
    // Who the controller is decides, as long as it is not there.
    assert_eq!(dial(&mut engine(&objects, Profile::Standard), "x/Ingress/front", "x/web:8080").0, OPEN);
    objects.push(controller());
    let mut reached = engine(&objects, Profile::Standard);
    assert_eq!(dial(&mut reached, "x/Ingress/front", "x/web:8080").0, YES);
    assert_eq!(dial(&mut reached, "x/Ingress/front", "x/web:8081").0, NO, "it leads to one port");
    let mut objects = behind_ingress(&json!([{"podSelector": {}}]));
    objects.push(controller());
    assert_eq!(dial(&mut engine(&objects, Profile::Standard), "x/Ingress/front", "x/web:8080").0, NO);
    // A peer of everyone is everyone, whoever that is; all pods are not everyone.
    let open =
        |from: &Value| dial(&mut engine(&behind_ingress(from), Profile::Standard), "x/Ingress/front", "x/web:8080").0;
    assert_eq!(open(&json!([])), YES);
    assert_eq!(open(&json!([{"namespaceSelector": {}}])), OPEN);
}

#[test]
fn a_route_lets_in_what_the_pods_of_its_gateway_reach() {
    let route = |namespace: &str| {
        object(
            "HTTPRoute",
            "gateway.networking.k8s.io/v1",
            namespace,
            "route",
            &json!({
                "parentRefs": [{"name": "gate", "namespace": "infra"}],
                "rules": [{"backendRefs": [{"name": "web", "namespace": "x", "port": 80}]}],
            }),
        )
    };
    let gate = pod("infra", "gate-pod", &json!({"gateway.networking.k8s.io/gateway-name": "gate"}));
    let from_infra = json!([{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "infra"}}}]);
    let mut objects = behind_ingress(&from_infra);
    objects.extend([gate, route("x")]);
    let mut reached = engine(&objects, Profile::Standard);
    assert_eq!(dial(&mut reached, "x/HTTPRoute/route", "x/web:8080").0, YES);
    assert_eq!(dial(&mut reached, "infra/Gateway/gate", "x/web:8080").0, YES);
    // From another namespace it needs a grant.
    objects.pop();
    objects.push(route("y"));
    let read = cluster(&objects);
    assert!(
        read.problems.iter().any(|problem| problem.what.contains("no ReferenceGrant in namespace x")),
        "{:?}",
        read.problems
    );
    assert_eq!(dial(&mut Engine::new(read, Profile::Standard), "y/HTTPRoute/route", "x/web:8080").0, NO);
    objects.push(object("ReferenceGrant", "gateway.networking.k8s.io/v1beta1", "x", "grant", &json!({
        "from": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": "y"}], "to": [{"group": "", "kind": "Service"}],
    })));
    assert_eq!(dial(&mut engine(&objects, Profile::Standard), "y/HTTPRoute/route", "x/web:8080").0, YES);
}

#[test]
fn a_named_port_that_no_pod_has_is_told() {
    let spec = |name: &str| json!({"podSelector": {"matchLabels": {"app": "db"}}, "policyTypes": ["Ingress"], "ingress": [{"ports": [{"port": name}]}]});
    let with = |name: &str| {
        let objects = [
            labelled("x", "db", "db", &json!([{"name": "sql", "containerPort": 5432}])),
            policy("x", "p", &spec(name)),
        ];
        cluster(&objects).problems
    };
    assert_eq!(with("sql"), []);
    let problems = with("web");
    assert_eq!(problems.len(), 1);
    assert!(problems[0].what.contains("has a TCP port named \"web\""), "{problems:?}");
}

#[test]
fn what_the_server_refuses_of_a_service_is_told() {
    for (spec, expected) in [
        (json!({"ports": [{"port": 70000}]}), "70000 is no port"),
        (json!({"ports": [{"port": 80, "targetPort": 0.5}]}), "is no port"),
        (json!({"ports": [{}]}), "has no port"),
        (json!({"type": "Cluster", "ports": [{"port": 80}]}), "is no type of a service"),
        (json!({"type": "ExternalName"}), "has no externalName"),
        (json!({"clusterIP": "10.0.0", "ports": [{"port": 80}]}), "is no address"),
    ] {
        let problems = cluster(&[service("x", "s", &spec)]).problems;
        assert_eq!(problems.len(), 1, "{spec}: {problems:?}");
        assert!(problems[0].what.contains(expected), "{spec}: {problems:?}");
    }
}
