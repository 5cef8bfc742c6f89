//! What a workspace reaches, and who reaches it.

mod addresses;
mod ipv6;
mod neighbours;
mod platform;
mod services;

pub(in crate::verdict::rules) use addresses::{
    api_server, cloud_fabric, credential_doors, internet, mail, metadata_ipv4, metadata_ipv6, name_servers,
    private_ranges,
};
pub(in crate::verdict::rules) use ipv6::ipv6;
pub(in crate::verdict::rules) use neighbours::{
    inbound, notebook_port, other_workspace, other_workspace_near, other_workspace_sctp, other_workspace_udp,
};
pub(in crate::verdict::rules) use platform::{host_pods, other_user_route, platform_ports};
pub(in crate::verdict::rules) use services::{balancers, node_ports, services};

use serde_json::{Value, json};

use super::tenancy::{deny_all, misplaced};
use crate::network::port::{PortSet, Protocol};
use crate::network::{Match, Reach};
use crate::verdict::finding::{Cause, Severity};
use crate::verdict::fix::Fix;
use crate::verdict::scene::Scene;
use crate::verdict::tenancy::Workspace;
use crate::verdict::wire::{Culprit, Target};
use crate::workload::Template;

/// What is decided about a connection: on every plugin, on some, or never.
pub(super) fn certainty(reach: &Reach, protocol: Protocol, port: Option<u16>) -> Match {
    let has = |set: &PortSet| match port {
        Some(port) => set.contains(protocol, port),
        None => !set.intervals(protocol).is_empty(),
    };
    match (has(&reach.may), has(&reach.must)) {
        (_, true) => Match::Yes,
        (true, false) => Match::Maybe,
        (false, false) => Match::No,
    }
}

/// A cause of the right verdict: where the standards leave it to the plugin, only a probe knows.
pub(super) fn reached(certainty: Match, severity: Severity, key: String, sentence: String) -> Option<Cause> {
    match certainty {
        Match::No => None,
        Match::Yes => Some(Cause::breach(severity, key, sentence)),
        Match::Maybe => Some(Cause::unproven(
            key,
            format!(
                "{sentence}: the standard leaves it to the network plugin, or an address is not told (a live probe knows)"
            ),
        )),
    }
}

/// Puts a cause at the rule that lets a connection through, with the change that closes it.
pub(super) fn at_rule(scene: &Scene<'_>, workspace: &Workspace, target: &Target, cause: Cause) -> Cause {
    let namespace = &workspace.template.namespace;
    if workspace.template.pod["spec"]["hostNetwork"] == Value::Bool(true) {
        let cause = cause.seen(["it uses the network of its node: no policy applies to it".to_owned()]);
        return scene.in_pod(workspace, "/spec/hostNetwork", cause);
    }
    match scene.wire.culprit(scene, workspace, target) {
        Some(culprit) => {
            let mut cause = cause;
            cause.key = format!("{}:{}", cause.key, culprit.key());
            let fix = culprit.fix(scene, target);
            let Culprit { title, location, .. } = culprit;
            cause.seen([format!("let through by {title} at {location}")]).at(title, Some(location)).fixed_by(fix)
        }
        None => {
            let location = scene.namespace(namespace).map(|(object, _)| scene.location(object.source));
            let stray: Vec<String> = misplaced(scene, workspace)
                .into_iter()
                .map(|(_, object)| {
                    let title = crate::verdict::scene::title(object);
                    format!("{title} fits this workspace's labels, but stands in another namespace")
                })
                .collect();
            let witness = if stray.is_empty() {
                vec![format!("no policy selects {} for this direction", workspace.title())]
            } else {
                stray
            };
            let objects =
                if matches!(target, Target::Address(_)) { vec![walled(workspace)] } else { vec![deny_all(namespace)] };
            cause.seen(witness).at(format!("Namespace {namespace}"), location).fixed_by(Fix::Manifests { objects })
        }
    }
}

/// Everything private, so that nothing but public addresses is left.
pub(crate) const PRIVATE_V4: &[&str] =
    &["10.0.0.0/8", "100.64.0.0/10", "168.63.129.16/32", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"];

/// The same of IPv6.
pub(crate) const PRIVATE_V6: &[&str] = &["fc00::/7", "fe80::/10"];

/// A policy that lets a workspace reach public addresses and the cluster's name server, and
/// lets nobody in.
fn walled(workspace: &Workspace) -> Value {
    let template = &workspace.template;
    let dns = json!({
        "to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
                "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}],
        "ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}],
    });
    let blocks = json!([
        {"ipBlock": {"cidr": "0.0.0.0/0", "except": PRIVATE_V4}},
        {"ipBlock": {"cidr": "2000::/3"}},
    ]);
    let ports = json!([
        {"protocol": "TCP", "port": 1, "endPort": 24},
        {"protocol": "TCP", "port": 26, "endPort": 52},
        {"protocol": "TCP", "port": 54, "endPort": 65535},
    ]);
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "walled", "namespace": template.namespace},
        "spec": {
            "podSelector": {},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [],
            "egress": [dns, {"to": blocks, "ports": ports}],
        },
    })
}

/// Ports of a protocol other than that of names, and whether they are surely open.
fn beyond_names(reach: &Reach) -> Match {
    let names = PortSet::range(Protocol::Tcp, 53, 53).union(&PortSet::range(Protocol::Udp, 53, 53));
    match (reach.may.difference(&names).is_empty(), reach.must.difference(&names).is_empty()) {
        (_, false) => Match::Yes,
        (false, true) => Match::Maybe,
        (true, true) => Match::No,
    }
}

/// Pods that belong to no tenant, each once.
fn platform<'a>(scene: &'a Scene<'_>) -> impl Iterator<Item = &'a Template> {
    scene.platform.iter().copied()
}

pub(in crate::verdict::rules) fn second_interface(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    let annotations = &workspace.template.pod["metadata"]["annotations"];
    for key in ["k8s.v1.cni.cncf.io/networks", "k8s.ovn.org/open-default-ports"] {
        if annotations[key].is_string() {
            let pointer = format!("/metadata/annotations/{}", key.replace('/', "~1"));
            let cause =
                Cause::breach(Severity::High, key, format!("use a network that policies do not see: annotation {key}"));
            let fix = scene.change_pod(workspace, vec![(pointer.clone(), None)]);
            causes.push(scene.in_pod(workspace, &pointer, cause).fixed_by(fix));
        }
    }
}
