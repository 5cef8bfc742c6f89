//! What a workspace reaches, and who reaches it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Value, json};

use super::super::finding::{Cause, Severity};
use super::super::fix::Fix;
use super::super::scene::Scene;
use super::super::tenancy::{Preset, Workspace, is_system};
use super::super::wire::{Culprit, Target};
use super::tenancy::{deny_all, misplaced};
use crate::network::port::{PortSet, Protocol};
use crate::network::{Match, Reach};
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
                    let title = super::super::scene::title(object);
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

/// Dials an address.
fn dial(
    scene: &Scene<'_>,
    workspace: &Workspace,
    causes: &mut Vec<Cause>,
    (address, protocol, port, severity): (&str, Protocol, u16, Severity),
    sentence: &str,
) {
    let Ok(address) = address.parse::<IpAddr>() else { return };
    let Some(reach) = scene.wire.out(workspace, address) else { return };
    let certainty = certainty(&reach, protocol, Some(port));
    let key = format!("{address}:{port}");
    if let Some(cause) = reached(certainty, severity, key, sentence.to_owned()) {
        let shown = if address.is_ipv6() { format!("[{address}]") } else { address.to_string() };
        let cause = cause.seen([format!("{} -> {shown}:{port} {protocol}", workspace.title())]);
        causes.push(at_rule(scene, workspace, &Target::Address(address), cause));
    }
}

/// Dials a port that should be closed for every public address.
fn port(
    scene: &Scene<'_>,
    workspace: &Workspace,
    causes: &mut Vec<Cause>,
    (address, protocol, port): (&str, Protocol, u16),
    sentence: &str,
) {
    let Ok(address) = address.parse::<IpAddr>() else { return };
    let Some(reach) = scene.wire.out(workspace, address) else { return };
    let open = certainty(&reach, protocol, Some(port));
    if let Some(cause) = reached(open, Severity::Low, format!("{protocol} {port}"), sentence.to_owned()) {
        let cause = cause.seen([format!("{} -> {address}:{port} {protocol}", workspace.title())]);
        causes.push(at_rule(scene, workspace, &Target::Port(address, protocol, port), cause));
    }
}

pub(super) fn metadata_ipv4(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    let sentence = "ask the cloud's metadata address 169.254.169.254 for the node's credentials";
    dial(scene, workspace, causes, ("169.254.169.254", Protocol::Tcp, 80, Severity::High), sentence);
}

pub(super) fn metadata_ipv6(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    let sentence = "ask the cloud's metadata address fd00:ec2::254 for the node's credentials";
    dial(scene, workspace, causes, ("fd00:ec2::254", Protocol::Tcp, 80, Severity::High), sentence);
}

pub(super) fn credential_doors(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    for (address, port, whose) in [
        ("169.254.170.2", 80, "a task's credentials (Amazon ECS)"),
        ("169.254.170.23", 80, "a pod's credentials (Amazon EKS Pod Identity)"),
        ("fd00:ec2::23", 80, "a pod's credentials (Amazon EKS Pod Identity)"),
        ("169.254.169.252", 80, "the node's metadata (Google GKE)"),
        ("169.254.169.254", 988, "the node's metadata (Google GKE)"),
    ] {
        let sentence = format!("ask {address} port {port} for {whose}");
        dial(scene, workspace, causes, (address, Protocol::Tcp, port, Severity::High), &sentence);
    }
}

pub(super) fn cloud_fabric(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    for (address, port, whose) in [
        ("168.63.129.16", 80, "Azure's fabric (WireServer)"),
        ("168.63.129.16", 32526, "Azure's fabric (host agent)"),
        ("100.100.100.200", 80, "Alibaba Cloud's metadata"),
        ("100.80.80.80", 80, "UCloud's metadata"),
        ("fe80::a9fe:a9fe", 80, "OpenStack's metadata"),
    ] {
        let sentence = format!("talk to {whose} at {address} port {port}");
        dial(scene, workspace, causes, (address, Protocol::Tcp, port, Severity::Medium), &sentence);
    }
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

pub(super) fn private_ranges(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    ranges(scene, workspace, causes, PRIVATE_V4.iter().chain(PRIVATE_V6), &|block, address, reach| {
        let sentence = format!("reach addresses of {block}, where nodes, pods and internal services are");
        let cause = reached(beyond_names(reach), Severity::High, block.to_string(), sentence)?;
        Some((cause, Target::Block(block, address)))
    });
}

/// What is said about one part of a range, and what to close for it.
type Judge<'a> = &'a dyn Fn(IpNet, IpAddr, &Reach) -> Option<(Cause, Target)>;

/// Judges one address of each part of each range that no rule tells apart; a rule that lets
/// several parts of a range through is told once.
fn ranges<'a>(
    scene: &Scene<'_>,
    workspace: &Workspace,
    causes: &mut Vec<Cause>,
    blocks: impl Iterator<Item = &'a &'a str>,
    judge: Judge<'_>,
) {
    for block in blocks {
        let Ok(block) = block.parse::<IpNet>() else { continue };
        let mut seen = BTreeSet::new();
        for address in scene.wire.parts(block) {
            let Some(reach) = scene.wire.out(workspace, address) else { continue };
            let Some((cause, target)) = judge(block, address, &reach) else { continue };
            let cause = cause.seen([format!("{} -> {address}", workspace.title())]);
            let cause = at_rule(scene, workspace, &target, cause);
            if seen.insert((cause.object.clone(), cause.key.clone())) {
                causes.push(cause);
            }
        }
    }
}

pub(super) fn internet(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    dial(scene, workspace, causes, ("1.1.1.1", Protocol::Tcp, 443, Severity::Medium), "reach any public address");
}

pub(super) fn mail(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    port(scene, workspace, causes, ("1.1.1.1", Protocol::Tcp, 25), "send mail to any public server");
}

pub(super) fn name_servers(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    let sentence = "ask any public name server, and send data out in names";
    port(scene, workspace, causes, ("8.8.8.8", Protocol::Udp, 53), sentence);
    ranges(scene, workspace, causes, PRIVATE_V4.iter(), &|block, address, reach| {
        let open = certainty(reach, Protocol::Udp, Some(53)).max(certainty(reach, Protocol::Tcp, Some(53)));
        let sentence = format!("reach port 53 of every address of {block}, not only the cluster's name server");
        let cause = reached(open, Severity::Medium, block.to_string(), sentence)?;
        Some((cause, Target::Names(block, address)))
    });
    // A door for names to every pod is a door to whoever listens there.
    let mut seen = BTreeSet::new();
    let others = scene.wire.neighbours(scene, workspace).into_iter().map(|other| &other.template);
    for template in others.chain(platform(scene).filter(|template| !is_name_server(template))) {
        let Some(reach) = scene.wire.between(&workspace.template, template) else { continue };
        let open = certainty(&reach, Protocol::Udp, Some(53)).max(certainty(&reach, Protocol::Tcp, Some(53)));
        let sentence = "reach port 53 of pods that are not the cluster's name server".to_owned();
        let Some(cause) = reached(open, Severity::Medium, "pods".to_owned(), sentence) else { continue };
        let cause = cause.seen([format!("{} -> {}/{}:53 UDP", workspace.title(), template.namespace, template.name)]);
        let cause = at_rule(scene, workspace, &Target::PodNames(Box::new(template.clone())), cause);
        if seen.insert((cause.object.clone(), cause.key.clone())) {
            causes.push(cause);
        }
    }
}

pub(super) fn api_server(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    let addresses = scene.wire.api_server(scene);
    if addresses.is_empty() {
        causes.push(Cause::unproven(
            "unknown",
            "reach the API server: its addresses are not among the manifests (name them with --api-server)",
        ));
    }
    for (address, port) in addresses {
        let sentence = format!("reach the API server at {address} port {port}");
        dial(scene, workspace, causes, (&address.to_string(), Protocol::Tcp, port, Severity::High), &sentence);
    }
}

/// The first workspace of another tenant that a workspace reaches, in either relation.
fn pair(
    scene: &Scene<'_>,
    workspace: &Workspace,
    protocol: Protocol,
    inbound: bool,
) -> Option<(String, Match, Template)> {
    let mut best: Option<(String, Match, Template)> = None;
    for other in scene.wire.neighbours(scene, workspace) {
        let (from, to) = if inbound { (other, workspace) } else { (workspace, other) };
        let Some(reach) = scene.wire.between(&from.template, &to.template) else { continue };
        let open = certainty(&reach, protocol, None);
        if open > best.as_ref().map_or(Match::No, |(_, best, _)| *best) {
            let ports = reach.may.intervals(protocol);
            let shown: Vec<String> = ports
                .iter()
                .take(3)
                .map(|(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") })
                .collect();
            let told = format!("{} -> {} {protocol} {}", from.title(), to.title(), shown.join(", "));
            best = Some((told, open, other.template.clone()));
        }
        if open == Match::Yes {
            break;
        }
    }
    best
}

fn neighbour(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>, protocol: Protocol, inbound: bool) {
    let Some((told, open, other)) = pair(scene, workspace, protocol, inbound) else { return };
    let sentence = if inbound {
        format!("be reached by another tenant's workspace over {protocol}")
    } else {
        format!("open {protocol} connections to another tenant's workspace")
    };
    if let Some(cause) = reached(open, Severity::High, format!("{protocol}{inbound}"), sentence) {
        let target = if inbound { Target::From(Box::new(other)) } else { Target::Pod(Box::new(other)) };
        causes.push(at_rule(scene, workspace, &target, cause.seen([told])));
    }
}

pub(super) fn other_workspace(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    neighbour(scene, workspace, causes, Protocol::Tcp, false);
}

pub(super) fn other_workspace_udp(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    neighbour(scene, workspace, causes, Protocol::Udp, false);
}

pub(super) fn other_workspace_sctp(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    neighbour(scene, workspace, causes, Protocol::Sctp, false);
}

pub(super) fn inbound(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    neighbour(scene, workspace, causes, Protocol::Tcp, true);
}

pub(super) fn services(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    for other in scene.wire.neighbours(scene, workspace) {
        let own = other.template.namespace.as_str();
        let service = scene.of_kind("", "Service").find(|(_, object)| {
            let selector = object.value["spec"]["selector"].to_json();
            let map = selector.as_object().filter(|map| !map.is_empty());
            object.namespace.as_deref() == Some(own)
                && map.is_some_and(|map| {
                    map.iter().all(|(key, value)| other.template.labels.get(key).map(String::as_str) == value.as_str())
                })
        });
        let Some((_, service)) = service else { continue };
        let Some(reach) = scene.wire.between(&workspace.template, &other.template) else { continue };
        let open = certainty(&reach, Protocol::Tcp, None);
        let sentence = "reach another tenant's workspace through its service";
        if let Some(cause) = reached(open, Severity::High, "service".to_owned(), sentence.to_owned()) {
            let told = format!("{} -> service {own}/{} -> {}", workspace.title(), service.name, other.title());
            let target = Target::Pod(Box::new(other.template.clone()));
            causes.push(at_rule(scene, workspace, &target, cause.seen([told])));
            return;
        }
    }
}

/// Pods that belong to no tenant, each once.
fn platform<'a>(scene: &'a Scene<'_>) -> impl Iterator<Item = &'a Template> {
    scene.platform.iter().copied()
}

fn is_name_server(template: &Template) -> bool {
    is_system(&template.namespace)
        && template
            .labels
            .get("k8s-app")
            .is_some_and(|app| app == "kube-dns" || app == "coredns" || app == "node-local-dns")
}

pub(super) fn host_pods(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    for template in platform(scene).filter(|one| one.pod["spec"]["hostNetwork"] == Value::Bool(true)) {
        let Some(reach) = scene.wire.between(&workspace.template, template) else { continue };
        let title = template.title();
        let sentence = format!("reach {title}, which listens on the network of its node");
        if let Some(cause) = reached(certainty(&reach, Protocol::Tcp, None), Severity::Medium, title.clone(), sentence)
        {
            let cause = cause.seen([format!("{} -> {}/{}", workspace.title(), template.namespace, template.name)]);
            causes.push(at_rule(scene, workspace, &Target::Pod(Box::new(template.clone())), cause));
        }
    }
}

/// The doors that a layout's workspaces need: (labels of the pods, port).
fn needed(preset: Option<Preset>) -> &'static [(&'static str, &'static str, u16)] {
    match preset {
        Some(Preset::JupyterHub) => &[
            ("component", "hub", 8081),
            ("app.kubernetes.io/component", "hub", 8081),
            ("component", "proxy", 8000),
            ("app.kubernetes.io/component", "proxy", 8000),
            ("component", "autohttps", 8080),
            ("component", "autohttps", 8443),
            ("app.kubernetes.io/component", "autohttps", 8080),
            ("app.kubernetes.io/component", "autohttps", 8443),
        ],
        Some(Preset::Cubicle) => &[("app.kubernetes.io/component", "egress", 3128)],
        _ => &[],
    }
}

pub(super) fn platform_ports(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    for template in platform(scene) {
        let host = template.pod["spec"]["hostNetwork"] == Value::Bool(true);
        if host || is_name_server(template) {
            continue;
        }
        let Some(reach) = scene.wire.between(&workspace.template, template) else { continue };
        let mut allowed = PortSet::none();
        for (key, value, port) in needed(scene.preset) {
            if template.labels.get(*key).is_some_and(|own| own == value) {
                allowed = allowed.union(&PortSet::range(Protocol::Tcp, *port, *port));
            }
        }
        let rest = Reach { may: reach.may.difference(&allowed), must: reach.must.difference(&allowed) };
        let open = beyond_names(&rest);
        let title = template.title();
        if let Some(cause) =
            reached(open, Severity::High, title.clone(), format!("reach {title}, a part of the platform"))
        {
            let ports: Vec<String> = rest
                .may
                .intervals(Protocol::Tcp)
                .iter()
                .take(3)
                .map(|(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") })
                .collect();
            let told =
                format!("{} -> {}/{} TCP {}", workspace.title(), template.namespace, template.name, ports.join(", "));
            let target = Target::Pod(Box::new(template.clone()));
            causes.push(at_rule(scene, workspace, &target, cause.seen([told])));
        }
    }
}

/// Who is meant to reach a notebook.
fn is_front(scene: &Scene<'_>, template: &Template) -> bool {
    let has = |key: &str, values: &[&str]| template.labels.get(key).is_some_and(|own| values.contains(&own.as_str()));
    match scene.preset {
        Some(Preset::Cubicle) => has("app.kubernetes.io/component", &["hub", "controller"]),
        Some(Preset::JupyterHub) => {
            let parts = ["hub", "proxy", "autohttps"];
            has("component", &parts)
                || has("app.kubernetes.io/component", &parts)
                || has("hub.jupyter.org/network-access-singleuser", &["true"])
        }
        Some(Preset::Hatchery) => has("app", &["ambassador", "ambassador-gen3", "workspace-proxy", "hatchery"]),
        Some(Preset::Kubeflow) => {
            has("istio", &["ingressgateway"]) || has("app", &["istio-ingressgateway", "notebook-controller"])
        }
        Some(Preset::AgentSandbox) => has("app", &["sandbox-router"]),
        None => false,
    }
}

/// The port on which the notebook listens.
fn notebook_ports(workspace: &Workspace) -> Vec<u16> {
    let containers = workspace.template.pod["spec"]["containers"].as_array().into_iter().flatten();
    containers
        .flat_map(|container| container["ports"].as_array().into_iter().flatten())
        .filter_map(|port| u16::try_from(port["containerPort"].as_u64()?).ok())
        .collect()
}

pub(super) fn notebook_port(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    // Without a layout nobody knows who the front is.
    if scene.preset.is_none() {
        return;
    }
    for template in platform(scene).filter(|template| !is_front(scene, template) && !is_system(&template.namespace)) {
        let Some(reach) = scene.wire.between(template, &workspace.template) else { continue };
        let open = notebook_ports(workspace).into_iter().map(|port| certainty(&reach, Protocol::Tcp, Some(port))).max();
        let title = template.title();
        let sentence = format!("be reached on the notebook's port by {title}, which is not the proxy");
        let open = open.unwrap_or(Match::No);
        if let Some(cause) = reached(open, Severity::Medium, title, sentence) {
            let told = format!("{}/{} -> {}", template.namespace, template.name, workspace.title());
            causes.push(at_rule(scene, workspace, &Target::From(Box::new(template.clone())), cause.seen([told])));
        }
    }
}

pub(super) fn other_user_route(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    let Some(preset) = scene.preset else { return };
    for door in preset.trusting_doors() {
        for template in platform(scene) {
            if template.labels.get(door.label.0).is_none_or(|value| value != door.label.1) {
                continue;
            }
            let Some(reach) = scene.wire.between(&workspace.template, template) else { continue };
            let title = template.title();
            let open = certainty(&reach, Protocol::Tcp, Some(door.port));
            if let Some(cause) = reached(open, Severity::High, title.clone(), door.sentence.to_owned()) {
                let told = [
                    format!("{} -> {}/{}:{}", workspace.title(), template.namespace, template.name, door.port),
                    format!("{title} takes the caller's word for who they are"),
                ];
                let target = Target::Pod(Box::new(template.clone()));
                causes.push(at_rule(scene, workspace, &target, cause.seen(told)));
            }
        }
    }
}

pub(super) fn second_interface(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
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
