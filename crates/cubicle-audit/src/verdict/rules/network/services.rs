//! Services as a way to what is behind them.

use super::platform::{is_name_server, needed};
use super::{at_rule, reached};
use crate::network::port::Protocol;
use crate::network::{Door, Match};
use crate::verdict::finding::{Cause, Severity};
use crate::verdict::scene::Scene;
use crate::verdict::tenancy::Workspace;
use crate::verdict::wire::{ServiceDoor, Target};
use crate::workload::Template;

/// Findings of one kind that are told of one workspace.
const MOST_TOLD: usize = 20;

pub(in crate::verdict::rules) fn services(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    for other in scene.sharing.neighbours(workspace) {
        for door in scene.wire.services_of(&other.template) {
            let open = scene.wire.served(workspace, door, Door::Inside);
            let sentence = "reach another tenant's workspace through its service";
            if let Some(cause) = reached(open, Severity::High, "service".to_owned(), sentence.to_owned()) {
                let told = format!("{} -> service {} -> {}", workspace.title(), door.name, other.title());
                let target = Target::Pod(Box::new(other.template.clone()));
                causes.push(at_rule(scene, workspace, &target, cause.seen([told])));
                return;
            }
        }
    }
}

pub(in crate::verdict::rules) fn node_ports(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    let nodes = scene.wire.node_addresses();
    let ways: Vec<Door> = match nodes.is_empty() {
        true => vec![Door::Node(None)],
        false => nodes.into_iter().map(|node| Door::Node(Some(node))).collect(),
    };
    let published = scene.wire.doors().iter().filter(|door| door.port.node_port.is_some());
    through(scene, workspace, causes, published, |_| ways.clone(), "a port of every node");
    let begun = causes.len();
    for port in scene.wire.host_ports() {
        if causes.len() - begun >= MOST_TOLD {
            return;
        }
        let Some(template) = scene.template(port.object).filter(|one| !is_own(scene, workspace, one)) else { continue };
        let open = ways.iter().map(|way| scene.wire.served_by_host_port(workspace, port, *way)).max();
        let title = template.title();
        let sentence = format!("reach {title} through port {} of its node", port.host_port);
        let key = format!("{title}:{}", port.host_port);
        if let Some(cause) = reached(open.unwrap_or(Match::No), Severity::Medium, key, sentence) {
            let told = format!("{} -> node:{} -> {title}:{}", workspace.title(), port.host_port, port.port);
            causes.push(at_rule(scene, workspace, &Target::Pod(Box::new(template.clone())), cause.seen([told])));
        }
    }
}

pub(in crate::verdict::rules) fn balancers(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
    let outer = scene.wire.doors().iter().filter(|door| !door.outer.is_empty());
    let ways = |door: &ServiceDoor| door.outer.iter().map(|address| Door::Outside(*address)).collect();
    through(scene, workspace, causes, outer, ways, "an outer address");
}

/// Whether a pod is the workspace itself or another of its tenant.
fn is_own(scene: &Scene<'_>, workspace: &Workspace, template: &Template) -> bool {
    template.object == workspace.template.object
        || scene
            .workspaces
            .iter()
            .any(|other| other.template.object == template.object && other.tenant == workspace.tenant)
}

/// Judges ways around the cluster's own network to services of others.
fn through<'a>(
    scene: &Scene<'_>,
    workspace: &Workspace,
    causes: &mut Vec<Cause>,
    doors: impl Iterator<Item = &'a ServiceDoor>,
    ways: impl Fn(&ServiceDoor) -> Vec<Door>,
    what: &str,
) {
    let begun = causes.len();
    for door in doors {
        if causes.len() - begun >= MOST_TOLD {
            return;
        }
        let mut behind = door.backends.iter().filter_map(|object| scene.template(*object));
        let is_meant =
            |one: &&Template| !is_own(scene, workspace, one) && !is_name_server(one) && !is_needed(scene, door, one);
        let Some(template) = behind.find(is_meant) else { continue };
        let open = ways(door).into_iter().map(|way| scene.wire.served(workspace, door, way)).max();
        let title = template.title();
        let sentence = format!("reach {title} through {what} that leads to service {}", door.name);
        let key = format!("{} {} {}", door.name, door.port.protocol, door.port.port);
        if let Some(cause) = reached(open.unwrap_or(Match::No), Severity::Medium, key, sentence) {
            let source = scene.snapshot.object(door.object).map(|object| scene.location(object.source));
            let place = source.map_or_else(String::new, |place| format!(" ({place})"));
            let told = format!("{} -> service {}{place} -> {title}", workspace.title(), door.name);
            causes.push(at_rule(scene, workspace, &Target::Pod(Box::new(template.clone())), cause.seen([told])));
        }
    }
}

/// Whether a layout's workspaces need this door anyway.
fn is_needed(scene: &Scene<'_>, door: &ServiceDoor, template: &Template) -> bool {
    door.port.protocol == Protocol::Tcp
        && needed(scene.preset).iter().any(|(key, value, port)| {
            template.labels.get(*key).is_some_and(|own| own == value) && door.targets.contains(port)
        })
}
