//! Who are the tenants, and which pods are their workspaces.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use cubicle_core::problem::Problem;

use crate::rbac::Selector;
use crate::rbac::manifests::labels;
use crate::snapshot::Snapshot;
use crate::workload::{Template, templates, without_makers};

/// A layout whose workspaces are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Preset {
    /// Cubicle's own.
    Cubicle,
    /// JupyterHub with KubeSpawner, as Zero to JupyterHub installs it.
    JupyterHub,
    /// Gen3's Hatchery.
    Hatchery,
    /// Kubeflow notebooks in profiles.
    Kubeflow,
    /// Kubernetes' agent-sandbox.
    AgentSandbox,
}

impl Preset {
    /// All of them, in the order in which they are looked for.
    pub const ALL: [Self; 5] = [Self::Cubicle, Self::Hatchery, Self::JupyterHub, Self::AgentSandbox, Self::Kubeflow];
}

impl fmt::Display for Preset {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Cubicle => "cubicle",
            Self::JupyterHub => "jupyterhub",
            Self::Hatchery => "hatchery",
            Self::Kubeflow => "kubeflow",
            Self::AgentSandbox => "agent-sandbox",
        })
    }
}

impl FromStr for Preset {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let same = |preset: &Self| preset.to_string() == text;
        match text {
            "z2jh" => Ok(Self::JupyterHub),
            "gen3" => Ok(Self::Hatchery),
            _ => Self::ALL.into_iter().find(same).ok_or_else(|| {
                Problem::bad_input(
                    format!("\"{text}\" is not a preset"),
                    "use cubicle, jupyterhub, hatchery, kubeflow or agent-sandbox",
                )
            }),
        }
    }
}

/// How workspaces are told from everything else.
#[derive(Debug, Clone, Default)]
pub struct Tenancy {
    /// A known layout; none to recognise one.
    pub preset: Option<Preset>,
    /// Labels of the pods, or of the namespaces, of workspaces.
    pub selector: Option<Selector>,
}

/// Reads a label selector as `kubectl -l` takes it: `a=b,c!=d,e in (f,g),h,!i`.
///
/// # Errors
/// A requirement that is none of these.
pub fn selector(text: &str) -> Result<Selector, Problem> {
    let bad = |part: &str| {
        Problem::bad_input(format!("\"{part}\" is no requirement of labels"), "write a=b, a!=b, a, !a or a in (b,c)")
    };
    let mut selector = Selector::default();
    let mut depth = 0_u32;
    let parts = text.split(|character: char| {
        match character {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        character == ',' && depth == 0
    });
    for part in parts.map(str::trim).filter(|part| !part.is_empty()) {
        let mut expression = |key: &str, operator: &str, values: Vec<String>| {
            if key.is_empty() || key.contains(char::is_whitespace) {
                return Err(bad(part));
            }
            let (key, operator) = (key.to_owned(), operator.to_owned());
            selector.match_expressions.push(crate::rbac::Requirement { key, operator, values });
            Ok(())
        };
        let list = |text: &str| -> Option<Vec<String>> {
            let inner = text.trim().strip_prefix('(')?.strip_suffix(')')?;
            Some(inner.split(',').map(|value| value.trim().to_owned()).collect())
        };
        if let Some((key, values)) = part.split_once(" notin ") {
            expression(key.trim(), "NotIn", list(values).ok_or_else(|| bad(part))?)?;
        } else if let Some((key, values)) = part.split_once(" in ") {
            expression(key.trim(), "In", list(values).ok_or_else(|| bad(part))?)?;
        } else if let Some((key, value)) = part.split_once("!=") {
            expression(key.trim(), "NotIn", vec![value.trim().to_owned()])?;
        } else if let Some((key, value)) = part.split_once('=') {
            expression(key.trim(), "In", vec![value.trim_start_matches('=').trim().to_owned()])?;
        } else if let Some(key) = part.strip_prefix('!') {
            expression(key.trim(), "DoesNotExist", Vec::new())?;
        } else {
            expression(part, "Exists", Vec::new())?;
        }
    }
    if selector.match_expressions.is_empty() {
        return Err(Problem::bad_input("the selector of tenants is empty", "write a=b, a!=b, a, !a or a in (b,c)"));
    }
    Ok(selector)
}

/// A pod that a tenant works in.
#[derive(Debug, Clone)]
pub(super) struct Workspace {
    /// The pod.
    pub(super) template: Template,
    /// Who works in it.
    pub(super) tenant: String,
}

impl Workspace {
    /// `namespace/name`.
    pub(super) fn title(&self) -> String {
        format!("{}/{}", self.template.namespace, self.template.name)
    }
}

/// Namespaces that belong to the cluster.
pub(crate) fn is_system(namespace: &str) -> bool {
    namespace.starts_with("kube-") || matches!(namespace, "calico-system" | "tigera-operator" | "gatekeeper-system")
}

/// What was recognised.
#[derive(Debug, Clone, Default)]
pub(super) struct Recognised {
    /// The workspaces, by namespace and name.
    pub(super) workspaces: Vec<Workspace>,
    /// Every pod, workspaces among them.
    pub(super) templates: Vec<Template>,
    /// The layout, if it is a known one.
    pub(super) preset: Option<Preset>,
    /// How they were told, as a sentence.
    pub(super) how: String,
}

/// Finds the workspaces. A layout whose pods are made by a program at run time is completed by
/// two representatives, as that program would make them.
pub(super) fn recognise(snapshot: &mut Snapshot, tenancy: &Tenancy) -> Recognised {
    let preset = match (&tenancy.selector, tenancy.preset) {
        (Some(_), preset) | (None, preset @ Some(_)) => preset,
        (None, None) => Preset::ALL.into_iter().find(|preset| preset.is_here(snapshot)),
    };
    let completed = preset.map_or(0, |preset| preset.complete(snapshot));
    let mut templates = without_makers(snapshot, templates(snapshot));
    // Their pods were made above.
    templates.retain(|template| !matches!(template.kind.as_str(), "Notebook" | "Sandbox" | "SandboxTemplate"));
    let namespaces: BTreeMap<String, BTreeMap<String, String>> =
        snapshot.of_kind("", "Namespace").map(|(_, object)| (object.name.to_string(), labels(object))).collect();
    let nothing = BTreeMap::new();
    let mut workspaces = Vec::new();
    for template in &templates {
        let of_namespace = namespaces.get(&template.namespace).unwrap_or(&nothing);
        let tenant = match (&tenancy.selector, preset) {
            (Some(selector), _) if selector.matches(of_namespace) => Some(template.namespace.clone()),
            // Pods of one name in two namespaces are two tenants.
            (Some(selector), _) => {
                selector.matches(&template.labels).then(|| format!("{}/{}", template.namespace, template.name))
            }
            (None, Some(preset)) => preset.tenant(template, of_namespace),
            (None, None) => (!is_system(&template.namespace)).then(|| template.namespace.clone()),
        };
        if let Some(tenant) = tenant {
            workspaces.push(Workspace { template: template.clone(), tenant });
        }
    }
    workspaces.sort_by(|one, other| {
        (&one.template.namespace, &one.template.name).cmp(&(&other.template.namespace, &other.template.name))
    });
    let how = match (&tenancy.selector, preset) {
        (Some(_), _) => "workspaces are what the selector of tenants matches".to_owned(),
        (None, Some(preset)) if completed > 0 => {
            format!("preset {preset}; no workspace is running, so two were made up as it would make them")
        }
        (None, Some(preset)) => format!("preset {preset}"),
        (None, None) => "no known layout: every namespace that holds pods counts as a tenant (name one with --preset, or select with --tenants)".to_owned(),
    };
    Recognised { workspaces, templates, preset, how }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(text: &str, labels: &[(&str, &str)]) -> bool {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        selector(text).unwrap_or_else(|problem| panic!("{text}: {problem}")).matches(&labels)
    }

    #[test]
    fn selectors_are_those_of_kubectl() {
        assert!(matches("a=b", &[("a", "b")]));
        assert!(matches("a==b", &[("a", "b")]));
        assert!(!matches("a=b,c", &[("a", "b")]));
        assert!(matches("a in (b, c),!d", &[("a", "c")]));
        assert!(matches("a notin (b)", &[]));
        assert!(matches("a!=b", &[("a", "c")]));
        for bad in ["", ",", "=b", "a b", "a in b"] {
            assert!(selector(bad).is_err(), "{bad}");
        }
    }
}
