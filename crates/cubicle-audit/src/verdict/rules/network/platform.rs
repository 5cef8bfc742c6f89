//! Pods of the platform: its own, and those on the network of their nodes.

use serde_json::Value;

use super::{at_rule, beyond_names, certainty, platform, reached};
use crate::network::Reach;
use crate::network::port::{PortSet, Protocol};
use crate::verdict::finding::{Cause, Severity};
use crate::verdict::scene::Scene;
use crate::verdict::tenancy::{Preset, Workspace, is_system};
use crate::verdict::wire::Target;
use crate::workload::Template;

pub(super) fn is_name_server(template: &Template) -> bool {
    is_system(&template.namespace)
        && template
            .labels
            .get("k8s-app")
            .is_some_and(|app| app == "kube-dns" || app == "coredns" || app == "node-local-dns")
}

pub(in crate::verdict::rules) fn host_pods(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
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
pub(super) fn needed(preset: Option<Preset>) -> &'static [(&'static str, &'static str, u16)] {
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

pub(in crate::verdict::rules) fn platform_ports(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
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

pub(in crate::verdict::rules) fn other_user_route(scene: &Scene<'_>, workspace: &Workspace, causes: &mut Vec<Cause>) {
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
