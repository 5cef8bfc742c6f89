//! The corners of the standards, one by one.

use super::*;

#[test]
fn a_named_port_without_destination_is_legal_and_means_nothing_for_addresses() {
    let mut a = pod("x", "a", &json!({"app": "a"}));
    a["spec"]["containers"] = json!([{"name": "c", "ports": [{"name": "web", "containerPort": 8080}]}]);
    let spec = json!({"podSelector": {"matchLabels": {"app": "b"}}, "policyTypes": ["Egress"], "egress": [{"ports": [{"port": "web"}]}]});
    let mut engine = engine(&[a, pod("x", "b", &json!({"app": "b"})), policy("x", "p", &spec)], Profile::Standard);
    assert_eq!(verdict(&mut engine, "x/b", "x/a", Protocol::Tcp, 8080), YES);
    assert_eq!(verdict(&mut engine, "x/b", "x/a", Protocol::Tcp, 80), NO);
    assert_eq!(verdict(&mut engine, "x/b", "8.8.8.8", Protocol::Tcp, 8080), NO);
}

#[test]
fn an_exception_of_one_rule_does_not_undo_another() {
    let spec = json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [
        {"to": [{"ipBlock": {"cidr": "8.0.0.0/8", "except": ["8.8.8.0/24"]}}]},
        {"to": [{"ipBlock": {"cidr": "8.8.8.8/32"}}]},
    ]});
    let mut engine = engine(&[pod("x", "a", &json!({})), policy("x", "p", &spec)], Profile::Standard);
    assert_eq!(verdict(&mut engine, "x/a", "8.8.8.8", Protocol::Tcp, 443), YES);
    assert_eq!(verdict(&mut engine, "x/a", "8.8.8.9", Protocol::Tcp, 443), NO);
    assert_eq!(verdict(&mut engine, "x/a", "8.8.9.9", Protocol::Tcp, 443), YES);
}

#[test]
fn aws_leaves_pods_without_an_owner_alone() {
    let spec = json!({"podSelector": {}, "policyTypes": ["Ingress"]});
    let mut owned = pod("x", "owned", &json!({}));
    owned["metadata"]["ownerReferences"] = json!([{"kind": "StatefulSet", "name": "s"}]);
    let objects = [pod("x", "bare", &json!({})), owned, policy("x", "p", &spec)];
    for (profile, bare) in [(Profile::AwsVpcCni, YES), (Profile::Calico, NO), (Profile::None, YES)] {
        let mut engine = engine(&objects, profile);
        assert_eq!(verdict(&mut engine, "x/owned", "x/bare", Protocol::Tcp, 80), bare, "{profile}");
    }
}

#[test]
fn workloads_become_pods_that_speak_with_each_other() {
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "x"},
        "spec": {"replicas": 3, "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": []}}},
    });
    let spec = json!({"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress"]});
    let mut engine = engine(&[deployment, policy("x", "p", &spec)], Profile::Standard);
    assert_eq!(verdict(&mut engine, "x/web-1", "x/web-2", Protocol::Tcp, 80), NO);
    assert_eq!(verdict(&mut engine, "x/web-1", "x/web-1", Protocol::Tcp, 80), YES);
}

#[test]
fn what_the_server_refuses_protects_nobody_and_opens_nothing() {
    let spec = json!({"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{"ports": [{"port": 70000}]}]});
    let mut engine =
        engine(&[pod("x", "a", &json!({})), pod("x", "b", &json!({})), policy("x", "p", &spec)], Profile::Standard);
    assert_eq!(engine.cluster().problems.len(), 1);
    assert_eq!(verdict(&mut engine, "x/a", "x/b", Protocol::Tcp, 80), OPEN);
}

#[test]
fn refusals_name_the_input_the_rule_and_the_remedy() {
    let cases = [
        (
            json!({"podSelector": {"matchExpressions": [{"key": "a", "operator": "Like", "values": ["b"]}]}}),
            "\"Like\" is no operator",
        ),
        (json!({"podSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}}), "operator In needs values"),
        (
            json!({"podSelector": {"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]}}),
            "takes no values",
        ),
        (json!({"podSelector": {"matchLabels": {"a": true}}}), "must be text but is a boolean"),
        (json!({"ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0"}}]}]}), "is no block of addresses"),
        (
            json!({"ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/9"]}}]}]}),
            "is no part of",
        ),
        (
            json!({"ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}, "podSelector": {}}]}]}),
            "either an ipBlock or selectors",
        ),
        (json!({"ingress": [{"from": [{}]}]}), "this peer is empty"),
        (json!({"ingress": [{"ports": [{"port": 70000}]}]}), "70000 is no port"),
        (json!({"ingress": [{"ports": [{"port": 0}]}]}), "0 is no port"),
        (json!({"ingress": [{"ports": [{"port": 80, "endPort": 79}]}]}), "endPort 79 is below port 80"),
        (json!({"ingress": [{"ports": [{"port": "web", "endPort": 90}]}]}), "does not go with a named port"),
        (json!({"ingress": [{"ports": [{"endPort": 90}]}]}), "endPort needs a port"),
        (json!({"ingress": [{"ports": [{"port": "80"}]}]}), "is no name of a port"),
        (json!({"ingress": [{"ports": [{"protocol": "ICMP"}]}]}), "is no protocol"),
        (json!({"policyTypes": ["ingress"]}), "is no policy type"),
        (json!({"ingress": {}}), "ingress must be a list but is a mapping"),
    ];
    for (spec, expected) in cases {
        let cluster = cluster(&[policy("x", "p", &spec)]);
        assert_eq!(cluster.problems.len(), 1, "{spec}: {:?}", cluster.problems);
        let problem = &cluster.problems[0];
        assert!(problem.what.contains(expected), "{spec}: {}", problem.what);
        assert!(
            problem.what.contains("the API server refuses this NetworkPolicy") && !problem.remedy.is_empty(),
            "{problem:?}"
        );
        assert!(!cluster.policies[0].valid);
    }
}

#[test]
fn a_misspelt_field_is_told() {
    let cluster = cluster(&[policy("x", "p", &json!({"podSelector": {}, "ingres": []}))]);
    assert!(cluster.problems[0].what.contains("\"ingres\" is no field here"), "{:?}", cluster.problems);
    assert!(cluster.policies[0].valid);
}

#[test]
fn the_reason_tells_what_is_open() {
    let mut host = pod("x", "host", &json!({}));
    host["spec"]["hostNetwork"] = json!(true);
    let spec = json!({"podSelector": {}, "policyTypes": ["Ingress"]});
    let mut engine = engine(&[host, pod("x", "a", &json!({})), policy("x", "p", &spec)], Profile::Standard);
    let verdict = engine.explain(End::Pod(1), End::Pod(0), Protocol::Tcp, 80);
    assert!(verdict.may && !verdict.must);
    assert!(verdict.reason.contains("what policies mean for a pod on its host's network"), "{}", verdict.reason);
}

#[test]
fn kinds_that_change_the_network_leave_everything_open() {
    let network = json!({"apiVersion": "k8s.ovn.org/v1", "kind": "UserDefinedNetwork", "metadata": {"name": "n", "namespace": "x"}});
    let mut engine = engine(&[network, pod("x", "a", &json!({})), pod("x", "b", &json!({}))], Profile::Standard);
    assert_eq!(verdict(&mut engine, "x/a", "x/b", Protocol::Tcp, 80), OPEN);
}
