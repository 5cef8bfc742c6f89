//! Default deny, and exactly the doors.

use cubicle_core::problem::Problem;
use cubicle_core::template::EgressMode;
use cubicle_egress::addresses::SPECIAL;
use ipnet::IpNet;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde_json::{Value, json};

use super::tenant::labels;
use super::{Request, typed};
use crate::names::{COMPONENT, DOORS, NAMESPACE_NAME, digits};

/// Where the egress proxy listens.
pub(crate) const EGRESS_PORT: u16 = 3128;
/// TCP ports on public hosts that a walled workspace has no use for: name servers other than
/// the cluster's, and mail.
const CLOSED_TCP: &[u16] = &[25, 53, 465, 587];
/// The same for UDP.
const CLOSED_UDP: &[u16] = &[53];

/// Nobody in, nobody out, for every pod of the namespace, whatever its labels.
pub(super) fn deny(request: &Request<'_>) -> Result<NetworkPolicy, Problem> {
    typed(json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "default-deny", "namespace": request.namespace(), "labels": labels(request)},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
    }))
}

/// The one door in, and the ways out that the egress mode allows.
pub(super) fn doors(request: &Request<'_>) -> Result<NetworkPolicy, Problem> {
    let name = doors_name(request);
    let mut spec = opened(request);
    spec["podSelector"] = json!({"matchLabels": {DOORS: name}});
    typed(json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": request.namespace(), "labels": labels(request)},
        "spec": spec,
    }))
}

/// The name of the policy, from what it opens: one with this name opens the same for everybody who is labelled so, and
/// one that other settings or another template ask for leaves the doors of what runs as they are.
pub(crate) fn doors_name(request: &Request<'_>) -> String {
    format!("doors-{}", digits(&opened(request).to_string()))
}

/// All that the policy says but whom it is for.
fn opened(request: &Request<'_>) -> Value {
    let system = &request.settings.system_namespace;
    let out = match request.template.egress().mode {
        EgressMode::Walled => vec![public(request), name_server(request)],
        EgressMode::AllowList => vec![json!({
            "to": [pods(&request.settings.egress_namespace, "egress")],
            "ports": [{"protocol": "TCP", "port": EGRESS_PORT}],
        })],
        EgressMode::None => Vec::new(),
    };
    let mut spec = json!({
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{
            "from": [pods(system, "hub"), pods(system, "controller")],
            "ports": [{"protocol": "TCP", "port": request.template.spec.port}],
        }],
    });
    // An API server leaves an empty list out, and what stands is compared to the word.
    if !out.is_empty() {
        spec["egress"] = json!(out);
    }
    spec
}

fn pods(namespace: &str, component: &str) -> Value {
    json!({
        "namespaceSelector": {"matchLabels": {NAMESPACE_NAME: namespace}},
        "podSelector": {"matchLabels": {"app.kubernetes.io/name": "cubicle", COMPONENT: component}},
    })
}

fn name_server(request: &Request<'_>) -> Value {
    let server = &request.settings.name_server;
    json!({
        "to": [{
            "namespaceSelector": {"matchLabels": {NAMESPACE_NAME: server.namespace}},
            "podSelector": {"matchLabels": server.labels},
        }],
        "ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}],
    })
}

/// Any public host, nothing private.
fn public(request: &Request<'_>) -> Value {
    let blocks = ["0.0.0.0/0", "2000::/3"].into_iter().filter_map(|text| text.parse::<IpNet>().ok()).map(|block| {
        let denied = request.settings.denied.iter().copied();
        let within: Vec<IpNet> = SPECIAL
            .iter()
            .map(|row| row.network)
            .chain(denied)
            .filter(|network| block.contains(network) && *network != block)
            .collect();
        // Smaller networks inside larger ones say nothing more.
        let except: Vec<String> = IpNet::aggregate(&within).iter().map(ToString::to_string).collect();
        json!({"ipBlock": {"cidr": block.to_string(), "except": except}})
    });
    let mut ports = ranges("TCP", CLOSED_TCP);
    ports.extend(ranges("UDP", CLOSED_UDP));
    json!({"to": blocks.collect::<Vec<_>>(), "ports": ports})
}

/// All ports but these.
fn ranges(protocol: &str, closed: &[u16]) -> Vec<Value> {
    let mut first = 1;
    let mut ranges = Vec::new();
    for port in closed {
        if *port > first {
            ranges.push(json!({"protocol": protocol, "port": first, "endPort": port - 1}));
        }
        first = port.saturating_add(1);
    }
    ranges.push(json!({"protocol": protocol, "port": first, "endPort": u16::MAX}));
    ranges
}
