//! Addresses outside that no workspace should reach.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use super::platform::is_name_server;
use super::{PRIVATE_V4, PRIVATE_V6, at_rule, beyond_names, certainty, platform, reached};
use crate::network::Reach;
use crate::network::port::Protocol;
use crate::verdict::finding::{Cause, Severity};
use crate::verdict::scene::Scene;
use crate::verdict::tenancy::Workspace;
use crate::verdict::wire::Target;

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

pub(in crate::verdict::rules) fn metadata_ipv4(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    let sentence = "ask the cloud's metadata address 169.254.169.254 for the node's credentials";
    dial(scene, workspace, causes, ("169.254.169.254", Protocol::Tcp, 80, Severity::High), sentence);
}

pub(in crate::verdict::rules) fn metadata_ipv6(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    let sentence = "ask the cloud's metadata address fd00:ec2::254 for the node's credentials";
    dial(scene, workspace, causes, ("fd00:ec2::254", Protocol::Tcp, 80, Severity::High), sentence);
}

pub(in crate::verdict::rules) fn credential_doors(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
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

pub(in crate::verdict::rules) fn cloud_fabric(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
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

pub(in crate::verdict::rules) fn private_ranges(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    ranges(scene, workspace, causes, PRIVATE_V4.iter().chain(PRIVATE_V6), &|block, address, reach| {
        let sentence = format!("reach addresses of {block}, where nodes, pods and internal services are");
        let cause = reached(beyond_names(reach), Severity::High, block.to_string(), sentence)?;
        Some((cause, Target::Block(block, address)))
    });
}

/// What is said about one part of a range, and what to close for it.
pub(super) type Judge<'a> = &'a dyn Fn(IpNet, IpAddr, &Reach) -> Option<(Cause, Target)>;

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
        each_part(scene, workspace, causes, block, judge);
    }
}

/// The same for one range.
pub(super) fn each_part(
    scene: &Scene<'_>,
    workspace: &Workspace,
    causes: &mut Vec<Cause>,
    block: &str,
    judge: Judge<'_>,
) {
    let Ok(block) = block.parse::<IpNet>() else { return };
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

pub(in crate::verdict::rules) fn internet(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    dial(scene, workspace, causes, ("1.1.1.1", Protocol::Tcp, 443, Severity::Medium), "reach any public address");
}

pub(in crate::verdict::rules) fn mail(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    port(scene, workspace, causes, ("1.1.1.1", Protocol::Tcp, 25), "send mail to any public server");
}

pub(in crate::verdict::rules) fn name_servers(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
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
    let others = scene.sharing.neighbours(workspace).into_iter().map(|other| &other.template);
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

pub(in crate::verdict::rules) fn api_server(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
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
