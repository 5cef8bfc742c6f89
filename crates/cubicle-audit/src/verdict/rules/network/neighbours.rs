//! Workspaces of other tenants, and who may come in.

use super::{at_rule, certainty, platform, reached};
use crate::network::Match;
use crate::network::port::Protocol;
use crate::verdict::finding::{Cause, Severity};
use crate::verdict::scene::Scene;
use crate::verdict::tenancy::{Preset, Workspace, is_system};
use crate::verdict::wire::Target;
use crate::workload::Template;

/// The first workspace of another tenant that a workspace reaches, in either relation.
fn pair(
    scene: &Scene<'_>,
    workspace: &Workspace,
    protocol: Protocol,
    inbound: bool,
) -> Option<(String, Match, Template)> {
    let mut best: Option<(String, Match, Template)> = None;
    for other in scene.sharing.neighbours(workspace) {
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

pub(in crate::verdict::rules) fn other_workspace(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    neighbour(scene, workspace, causes, Protocol::Tcp, false);
}

/// What a node's own datapath must keep apart. Policies do not ask where pods run, and where they
/// will run no manifest tells: it is the same matrix, and a live probe asks on one node.
pub(in crate::verdict::rules) fn other_workspace_near(
    scene: &Scene<'_>,
    workspace: &Workspace,
    causes: &mut Vec<Cause>,
) {
    let Some((told, open, other)) = pair(scene, workspace, Protocol::Tcp, false) else { return };
    let sentence = "open TCP connections to another tenant's workspace on its own node".to_owned();
    if let Some(cause) = reached(open, Severity::High, "near".to_owned(), sentence) {
        causes.push(at_rule(scene, workspace, &Target::Pod(Box::new(other)), cause.seen([told])));
    }
}

pub(in crate::verdict::rules) fn other_workspace_udp(
    scene: &Scene<'_>,
    workspace: &Workspace,
    causes: &mut Vec<Cause>,
) {
    neighbour(scene, workspace, causes, Protocol::Udp, false);
}

pub(in crate::verdict::rules) fn other_workspace_sctp(
    scene: &Scene<'_>,
    workspace: &Workspace,
    causes: &mut Vec<Cause>,
) {
    neighbour(scene, workspace, causes, Protocol::Sctp, false);
}

pub(in crate::verdict::rules) fn inbound(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    neighbour(scene, workspace, causes, Protocol::Tcp, true);
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

pub(in crate::verdict::rules) fn notebook_port(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
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
