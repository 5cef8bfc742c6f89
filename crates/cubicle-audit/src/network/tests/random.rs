//! Small clusters in which everything happens often.

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use crate::network::Profile;

fn labels() -> impl Strategy<Value = Value> {
    (select(&["a", "b", "c"][..]), proptest::option::of(select(&["x", "y"][..]))).prop_map(|(app, tier)| match tier {
        None => json!({"app": app}),
        Some(tier) => json!({"app": app, "tier": tier}),
    })
}

fn selector() -> impl Strategy<Value = Value> {
    let expression = prop_oneof![
        Just(json!({"key": "app", "operator": "In", "values": ["a", "b"]})),
        Just(json!({"key": "app", "operator": "NotIn", "values": ["a"]})),
        Just(json!({"key": "tier", "operator": "Exists"})),
        Just(json!({"key": "tier", "operator": "DoesNotExist"})),
        Just(json!({"key": "tier", "operator": "NotIn", "values": ["x"]})),
    ];
    prop_oneof![
        3 => Just(json!({})),
        3 => labels().prop_map(|labels| json!({"matchLabels": labels})),
        2 => expression.prop_map(|expression| json!({"matchExpressions": [expression]})),
    ]
}

fn namespace_selector() -> impl Strategy<Value = Value> {
    prop_oneof![
        2 => Just(json!({})),
        2 => select(&["m", "n", "o"][..]).prop_map(|name| json!({"matchLabels": {"kubernetes.io/metadata.name": name}})),
        1 => Just(json!({"matchLabels": {"team": "t"}})),
        1 => Just(json!({"matchExpressions": [{"key": "team", "operator": "DoesNotExist"}]})),
    ]
}

fn block() -> impl Strategy<Value = &'static str> {
    select(
        &[
            "0.0.0.0/0",
            "10.0.0.0/30",
            "10.0.0.2/32",
            "10.0.0.0/8",
            "192.168.0.0/24",
            "8.8.8.8/32",
            "::/0",
            "fd00::/64",
            "2001:db8::/32",
        ][..],
    )
}

fn ports() -> impl Strategy<Value = Value> {
    let port = prop_oneof![
        Just(json!({"port": 80})),
        Just(json!({"port": 53, "protocol": "UDP"})),
        Just(json!({"port": 79, "endPort": 81})),
        Just(json!({"port": "web"})),
        Just(json!({"protocol": "SCTP"})),
    ];
    prop_oneof![2 => Just(json!([])), 3 => proptest::collection::vec(port, 1..3).prop_map(Value::Array)]
}

fn network_peers() -> impl Strategy<Value = Value> {
    let with_block = (block(), any::<bool>()).prop_map(|(block, hole)| match (block, hole) {
        ("0.0.0.0/0", true) => json!({"ipBlock": {"cidr": block, "except": ["10.0.0.0/8"]}}),
        ("10.0.0.0/8", true) => json!({"ipBlock": {"cidr": block, "except": ["10.0.0.0/30", "10.0.0.5/32"]}}),
        _ => json!({"ipBlock": {"cidr": block}}),
    });
    let peer = prop_oneof![
        2 => selector().prop_map(|pods| json!({"podSelector": pods})),
        1 => namespace_selector().prop_map(|namespaces| json!({"namespaceSelector": namespaces})),
        2 => (selector(), namespace_selector()).prop_map(|(pods, namespaces)| json!({"podSelector": pods, "namespaceSelector": namespaces})),
        2 => with_block,
    ];
    prop_oneof![1 => Just(json!([])), 4 => proptest::collection::vec(peer, 1..3).prop_map(Value::Array)]
}

fn network_policy() -> impl Strategy<Value = Value> {
    let rules = |key: &'static str| {
        proptest::collection::vec(
            (network_peers(), ports()).prop_map(move |(peers, ports)| json!({key: peers, "ports": ports})),
            0..3,
        )
    };
    let types = prop_oneof![
        Just(json!(["Ingress"])),
        Just(json!(["Egress"])),
        Just(json!(["Ingress", "Egress"])),
        Just(Value::Null),
    ];
    (select(&["m", "n", "o"][..]), selector(), rules("from"), rules("to"), types, proptest::bool::weighted(0.1)).prop_map(
        |(namespace, pods, ingress, egress, types, invalid)| {
            let mut spec = json!({"podSelector": pods, "ingress": ingress, "egress": egress, "policyTypes": types});
            if invalid {
                spec["policyTypes"] = json!(["Ingress", "Sideways"]);
            }
            json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"namespace": namespace}, "spec": spec})
        },
    )
}

fn cluster_peer(direction: &'static str) -> BoxedStrategy<Value> {
    let inside = prop_oneof![
        namespace_selector().prop_map(|namespaces| json!({"namespaces": namespaces})),
        (selector(), namespace_selector())
            .prop_map(|(pods, namespaces)| json!({"pods": {"podSelector": pods, "namespaceSelector": namespaces}})),
        Just(json!({"strangers": {}})),
    ];
    if direction == "ingress" {
        return inside.boxed();
    }
    let outside = prop_oneof![
        block().prop_map(|block| json!({"networks": [block]})),
        Just(json!({"nodes": {"matchLabels": {"zone": "1"}}})),
        Just(json!({"domainNames": ["example.com."]})),
    ];
    prop_oneof![2 => inside, 1 => outside].boxed()
}

fn cluster_policy() -> impl Strategy<Value = Value> {
    let rule = |direction: &'static str| {
        let key = if direction == "ingress" { "from" } else { "to" };
        let protocols = prop_oneof![
            2 => Just(json!([])),
            1 => Just(json!([{"tcp": {"destinationPort": {"number": 80}}}])),
            1 => Just(json!([{"udp": {"destinationPort": {"range": {"start": 50, "end": 60}}}}])),
            1 => Just(json!([{"destinationNamedPort": "web"}])),
            1 => Just(json!([{"sctp": {}}])),
        ];
        (select(&["Accept", "Deny", "Pass"][..]), proptest::collection::vec(cluster_peer(direction), 1..3), protocols)
            .prop_map(move |(action, peers, protocols)| json!({"action": action, key: peers, "protocols": protocols}))
    };
    let subject = prop_oneof![
        namespace_selector().prop_map(|namespaces| json!({"namespaces": namespaces})),
        (selector(), namespace_selector())
            .prop_map(|(pods, namespaces)| json!({"pods": {"podSelector": pods, "namespaceSelector": namespaces}})),
    ];
    let rules = |direction: &'static str| proptest::collection::vec(rule(direction), 0..3);
    (
        select(&["Admin", "Admin", "Baseline"][..]),
        select(&[1, 1, 2, 3, 2000][..]),
        subject,
        rules("ingress"),
        rules("egress"),
    )
        .prop_map(|(tier, priority, subject, ingress, egress)| {
            json!({
                "apiVersion": "policy.networking.k8s.io/v1alpha2", "kind": "ClusterNetworkPolicy", "metadata": {},
                "spec": {"tier": tier, "priority": priority, "subject": subject, "ingress": ingress, "egress": egress},
            })
        })
}

fn pod() -> impl Strategy<Value = Value> {
    let addresses = prop_oneof![
        4 => (1..6_u8).prop_map(|last| json!([{"ip": format!("10.0.0.{last}")}])),
        1 => Just(Value::Null),
        1 => Just(json!([{"ip": "10.0.0.9"}, {"ip": "fd00::9"}])),
        1 => Just(json!([{"ip": "fd00::8"}])),
    ];
    let node = proptest::option::of(select(&[1_u8, 2][..]));
    let flags = (proptest::bool::weighted(0.15), proptest::bool::weighted(0.05), any::<bool>());
    let ports = select(vec![
        json!([]),
        json!([{"name": "web", "containerPort": 80}]),
        json!([{"name": "web", "containerPort": 81}, {"containerPort": 53, "protocol": "UDP", "name": "dns"}]),
    ]);
    (select(&["m", "n", "o"][..]), labels(), addresses, node, flags, ports).prop_map(
        |(namespace, labels, addresses, node, flags, ports)| {
            let (host_network, finished, owned) = flags;
            let mut pod = json!({
                "apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": namespace, "labels": labels},
                "spec": {"containers": [{"name": "c", "ports": ports}], "hostNetwork": host_network},
                "status": {"phase": if finished { "Succeeded" } else { "Running" }},
            });
            if !host_network {
                pod["status"]["podIPs"] = addresses;
            }
            if let Some(node) = node {
                pod["status"]["hostIP"] = json!(format!("192.168.0.{node}"));
                if owned {
                    pod["spec"]["nodeName"] = json!(format!("node-{node}"));
                }
            }
            if owned {
                pod["metadata"]["ownerReferences"] = json!([{"kind": "ReplicaSet", "name": "r", "controller": true}]);
            }
            pod
        },
    )
}

/// A service of any kind, and a slice of addresses for some.
fn service() -> impl Strategy<Value = Vec<Value>> {
    let ports = select(vec![
        json!([{"name": "a", "port": 80}]),
        json!([{"name": "a", "port": 8080, "targetPort": 80}]),
        json!([{"name": "a", "port": 8080, "targetPort": "web"}, {"name": "b", "port": 53, "protocol": "UDP"}]),
    ]);
    let kind = select(vec![
        json!({"clusterIP": "10.0.0.77"}),
        json!({"clusterIP": "None"}),
        json!({"type": "NodePort", "clusterIP": "10.0.0.77", "externalTrafficPolicy": "Local"}),
        json!({"type": "NodePort", "clusterIP": "10.0.0.77"}),
        json!({"type": "LoadBalancer", "clusterIP": "10.0.0.77", "externalIPs": ["8.8.8.8"], "externalTrafficPolicy": "Local"}),
        json!({"clusterIP": "10.0.0.77", "internalTrafficPolicy": "Local"}),
    ]);
    let addresses = proptest::option::weighted(
        0.4,
        proptest::collection::vec(select(&["10.0.0.1", "10.0.0.2", "10.0.0.77", "8.8.8.8"][..]), 1..3),
    );
    (select(&["m", "n", "o"][..]), proptest::option::weighted(0.8, labels()), ports, kind, addresses).prop_map(
        |(namespace, selector, ports, kind, addresses)| {
            let mut spec = kind;
            spec["ports"] = ports;
            if let Some(selector) = selector {
                spec["selector"] = selector;
            }
            let mut objects = vec![json!({
                "apiVersion": "v1", "kind": "Service", "metadata": {"namespace": namespace, "name": "served"}, "spec": spec,
            })];
            if let Some(addresses) = addresses {
                objects.push(json!({
                    "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                    "metadata": {"namespace": namespace, "name": "slice", "labels": {"kubernetes.io/service-name": "served"}},
                    "endpoints": [{"addresses": addresses}], "ports": [{"name": "a", "port": 81}],
                }));
            }
            objects
        },
    )
}

/// The objects of a cluster, all with names.
pub(super) fn objects() -> impl Strategy<Value = Vec<Value>> {
    let namespace = |name: &'static str| {
        prop_oneof![Just(json!({})), Just(json!({"team": "t"}))].prop_map(move |labels| {
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
        })
    };
    let nodes = proptest::bool::weighted(0.7).prop_map(|there| {
        if !there {
            return Vec::new();
        }
        vec![json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1", "labels": {"zone": "1"}},
            "status": {"addresses": [{"type": "InternalIP", "address": "192.168.0.1"}]},
        })]
    });
    (
        (namespace("m"), namespace("n")),
        nodes,
        proptest::collection::vec(pod(), 2..6),
        proptest::collection::vec(network_policy(), 0..4),
        proptest::collection::vec(cluster_policy(), 0..4),
        service(),
    )
        .prop_map(|(namespaces, nodes, pods, policies, cluster_policies, service)| {
            let mut objects = vec![namespaces.0, namespaces.1];
            objects.extend(nodes);
            objects.extend(service);
            for (at, mut object) in pods.into_iter().chain(policies).chain(cluster_policies).enumerate() {
                object["metadata"]["name"] = json!(format!("o{at}"));
                objects.push(object);
            }
            objects
        })
}

pub(super) fn profile() -> impl Strategy<Value = Profile> {
    prop_oneof![3 => Just(Profile::Standard), 2 => select(&Profile::ALL[..])]
}
