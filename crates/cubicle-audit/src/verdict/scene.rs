//! Everything that the rules look at, indexed once.

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;

use cubicle_core::scan::{Scan, ScanRule};
use jiff::Timestamp;
use serde_json::Value;

use super::Options;
use super::finding::{Cause, Location};
use super::fix::{Fix, Operation, Target, set};
use super::rules;
use super::sharing::Sharing;
use super::tenancy::{Preset, Recognised, Workspace};
use super::wire::Wire;
use crate::admission::{Admission, Answer};
use crate::network::cluster::Cluster;
use crate::rbac::manifests::labels;
use crate::rbac::{Escalation, Identity, Manifests, Selector, escalate};
use crate::snapshot::{Object, ObjectId, Snapshot, SourceRef};
use crate::workload::{Owners, Template};

/// What the rules look at.
pub(crate) struct Scene<'a> {
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) workspaces: &'a [Workspace],
    pub(crate) sharing: Sharing<'a>,
    pub(crate) templates: &'a [Template],
    pub(crate) manifests: &'a Manifests,
    pub(crate) preset: Option<Preset>,
    pub(crate) registries: &'a [String],
    pub(crate) scans: &'a [Scan],
    /// The site's rule about images and the time; none when there is no scan.
    pub(crate) scan_rule: Option<(&'a ScanRule, Timestamp)>,
    owners: Owners<'a>,
    /// The first object that was not read but made up.
    pub(crate) first_made: usize,
    pub(crate) wire: Wire,
    pub(crate) admission: Admission,
    answers: RefCell<HashMap<ObjectId, Answer>>,
    /// Workspaces that the network does not tell apart, by class, as indices.
    pub(crate) groups: BTreeMap<u32, Vec<usize>>,
    /// Pods that belong to no tenant.
    pub(crate) platform: Vec<&'a Template>,
    /// Policies that select nothing in their own namespace, with their selectors.
    pub(crate) strays: Vec<(ObjectId, &'a Object, Selector)>,
    by_object: HashMap<ObjectId, &'a Template>,
    kinds: HashMap<(String, String), Vec<(ObjectId, &'a Object)>>,
    accounts: HashMap<(String, String), &'a Object>,
    namespaces: HashMap<String, (&'a Object, BTreeMap<String, String>)>,
    in_namespace: HashMap<(&'static str, String), Vec<(ObjectId, &'a Object)>>,
    escalations: RefCell<HashMap<Identity, Rc<Escalation>>>,
    launchers: OnceCell<Vec<Identity>>,
}

impl<'a> Scene<'a> {
    pub(crate) fn new(
        snapshot: &'a Snapshot,
        recognised: &'a Recognised,
        manifests: &'a Manifests,
        options: &'a Options,
        (first_made, cluster): (usize, Cluster),
    ) -> Self {
        let workspaces = recognised.workspaces.as_slice();
        let own = |object: &Object| object.namespace.as_deref().unwrap_or("default").to_owned();
        let accounts =
            snapshot.of_kind("", "ServiceAccount").map(|(_, object)| ((own(object), object.name.to_string()), object));
        let namespaces =
            snapshot.of_kind("", "Namespace").map(|(_, object)| (object.name.to_string(), (object, labels(object))));
        let mut in_namespace: HashMap<(&'static str, String), Vec<(ObjectId, &Object)>> = HashMap::new();
        for (group, kind) in [("", "ResourceQuota"), ("", "LimitRange"), ("networking.k8s.io", "NetworkPolicy")] {
            for (id, object) in snapshot.of_kind(group, kind) {
                in_namespace.entry((kind, own(object))).or_default().push((id, object));
            }
        }
        let wire = Wire::new(cluster, options.profile, &options.api_server);
        let mut groups: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for (at, workspace) in workspaces.iter().enumerate() {
            if let Some(class) = wire.class(&workspace.template) {
                groups.entry(class).or_default().push(at);
            }
        }
        let owned: HashSet<ObjectId> = workspaces.iter().map(|one| one.template.object).collect();
        let mut kinds: HashMap<(String, String), Vec<(ObjectId, &Object)>> = HashMap::new();
        for (id, object) in (0_u32..).map(ObjectId).zip(&snapshot.objects) {
            let group = object.api_version.rsplit_once('/').map_or("", |(group, _)| group);
            kinds.entry((group.to_owned(), object.kind.to_string())).or_default().push((id, object));
        }
        Self {
            sharing: Sharing::new(workspaces, &groups),
            platform: recognised.templates.iter().filter(|one| !owned.contains(&one.object)).collect(),
            strays: strays(snapshot, &recognised.templates),
            by_object: recognised.templates.iter().map(|one| (one.object, one)).collect(),
            kinds,
            wire,
            admission: Admission::new(snapshot),
            answers: RefCell::default(),
            groups,
            accounts: accounts.collect(),
            namespaces: namespaces.collect(),
            in_namespace,
            escalations: RefCell::default(),
            launchers: OnceCell::new(),
            scans: &options.scans,
            scan_rule: options.now.filter(|_| !options.scans.is_empty()).map(|now| (&options.scan_rule, now)),
            owners: Owners::new(snapshot),
            snapshot,
            workspaces,
            templates: &recognised.templates,
            manifests,
            preset: recognised.preset,
            registries: &options.registries,
            first_made,
        }
    }

    /// All objects of a kind of an API group.
    pub(crate) fn of_kind(&self, group: &str, kind: &str) -> impl Iterator<Item = (ObjectId, &'a Object)> {
        self.kinds.get(&(group.to_owned(), kind.to_owned())).into_iter().flatten().copied()
    }

    /// The accounts of the program that makes workspaces.
    pub(crate) fn launchers(&self) -> &[Identity] {
        self.launchers.get_or_init(|| rules::launchers(self))
    }

    /// The pods that an object makes.
    pub(crate) fn template(&self, object: ObjectId) -> Option<&'a Template> {
        self.by_object.get(&object).copied()
    }

    pub(crate) fn account(&self, template: &Template) -> Option<&'a Object> {
        self.accounts.get(&(template.namespace.clone(), template.service_account().to_owned())).copied()
    }

    pub(crate) fn identity(&self, workspace: &Workspace) -> Identity {
        Identity::service_account(&workspace.template.namespace, workspace.template.service_account())
    }

    pub(crate) fn namespace(&self, name: &str) -> Option<&(&'a Object, BTreeMap<String, String>)> {
        self.namespaces.get(name)
    }

    /// The quotas, limit ranges or network policies of a namespace.
    pub(crate) fn objects(&self, kind: &'static str, namespace: &str) -> &[(ObjectId, &'a Object)] {
        self.in_namespace.get(&(kind, namespace.to_owned())).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn escalation(&self, identity: &Identity) -> Rc<Escalation> {
        if let Some(known) = self.escalations.borrow().get(identity) {
            return Rc::clone(known);
        }
        let found = Rc::new(escalate(&self.manifests.rights, &self.manifests.world, identity));
        self.escalations.borrow_mut().insert(identity.clone(), Rc::clone(&found));
        found
    }

    /// What admission says to a workspace's pod.
    pub(crate) fn admits(&self, workspace: &Workspace) -> Answer {
        if self.admission.is_silent() {
            return Answer::NotAsked;
        }
        let id = workspace.template.object;
        if let Some(known) = self.answers.borrow().get(&id) {
            return known.clone();
        }
        let answer = super::rules::admission::of_pod(self, workspace);
        self.answers.borrow_mut().insert(id, answer.clone());
        answer
    }

    pub(crate) fn location(&self, source: SourceRef) -> Location {
        Location { file: self.snapshot.file(source.file).to_owned(), line: source.line, column: source.column }
    }

    /// Whether an object was made up, as its layout's program would make it.
    pub(crate) fn is_made(&self, id: ObjectId) -> bool {
        id.0 as usize >= self.first_made
    }

    /// Puts a cause at a place of a workspace's pod.
    pub(crate) fn in_pod(&self, workspace: &Workspace, pointer: &str, cause: Cause) -> Cause {
        let template = &workspace.template;
        let place = self.snapshot.object(template.object).map(|object| {
            let source = object.place(&template.in_object(pointer));
            self.location(source)
        });
        // Pods that one program makes have one cause: the object's own name is left out.
        let title = if self.is_made(template.object) {
            format!("{} of {}", template.kind, self.preset.map_or_else(String::new, |preset| preset.to_string()))
        } else {
            template.title()
        };
        let mut cause = cause.at(title, place);
        super::rules::admission::weigh(&mut cause, &self.admits(workspace));
        cause
    }

    /// A patch of a workspace's pod, or what to set where a program makes the pod.
    pub(crate) fn set_in_pod(&self, workspace: &Workspace, pointer: &str, value: Value) -> Option<Fix> {
        self.change_pod(workspace, vec![(pointer.to_owned(), Some(value))])
    }

    /// The same for several fields; no value takes the field away.
    pub(crate) fn change_pod(&self, workspace: &Workspace, changes: Vec<(String, Option<Value>)>) -> Option<Fix> {
        let template = &workspace.template;
        let object = self.snapshot.object(template.object)?;
        if self.is_made(template.object) {
            let lines: Vec<String> = changes
                .into_iter()
                .map(|(pointer, value)| {
                    let field = pointer.trim_start_matches('/').replace('/', ".");
                    match value {
                        Some(value) => format!("{field}: {value}"),
                        None => format!("{field}: leave it out"),
                    }
                })
                .collect();
            let program = self.preset.map_or_else(String::new, |preset| format!(" by {preset}"));
            return Some(Fix::Setting { text: format!("in the pods made{program}, {}", lines.join("; ")) });
        }
        // Who made the pod would make it again as it was: the change belongs there.
        let written = self.owners.written(self.snapshot, object);
        let (object, prefix) = match written.and_then(|(id, pointer)| Some((self.snapshot.object(id)?, pointer))) {
            Some(written) => written,
            None => (object, template.pointer),
        };
        let mut json = object.json();
        let mut operations = Vec::new();
        for (pointer, value) in changes {
            let path = format!("{prefix}{pointer}");
            let steps = match value {
                Some(value) => set(&json, &path, value),
                None if json.pointer(&path).is_some() => vec![Operation::Remove { path }],
                None => Vec::new(),
            };
            super::fix::apply(&mut json, &steps).ok()?;
            operations.extend(steps);
        }
        Some(Fix::Patch { target: target(object), operations })
    }

    /// A patch of any object.
    pub(crate) fn set_in(&self, id: ObjectId, pointer: &str, value: Value) -> Option<Fix> {
        let object = self.snapshot.object(id)?;
        if self.is_made(id) {
            let field = pointer.trim_start_matches('/').replace('/', ".");
            return Some(Fix::Setting {
                text: format!("in {}, which is made at run time, {field}: {value}", title(object)),
            });
        }
        let operations = set(&object.json(), pointer, value);
        Some(Fix::Patch { target: target(object), operations })
    }
}

/// Policies that were meant for pods of another namespace: their selector fits nothing in their
/// own.
fn strays<'a>(snapshot: &'a Snapshot, templates: &[Template]) -> Vec<(ObjectId, &'a Object, Selector)> {
    let mut by_namespace: HashMap<&str, Vec<&Template>> = HashMap::new();
    for template in templates {
        by_namespace.entry(&template.namespace).or_default().push(template);
    }
    let mut strays = Vec::new();
    for (id, object) in snapshot.of_kind("networking.k8s.io", "NetworkPolicy") {
        let selector = object.value["spec"]["podSelector"].to_json();
        let Ok(selector) = serde_json::from_value::<Selector>(selector) else { continue };
        let everything = selector.match_labels.is_empty() && selector.match_expressions.is_empty();
        let own = by_namespace.get(object.namespace.as_deref().unwrap_or("default"));
        let at_home = own.is_some_and(|own| own.iter().any(|one| selector.matches(&one.labels)));
        if !everything && !at_home {
            strays.push((id, object, selector));
        }
    }
    strays
}

/// How a patch names an object.
pub(crate) fn target(object: &Object) -> Target {
    Target {
        api_version: object.api_version.to_string(),
        kind: object.kind.to_string(),
        namespace: object.namespace.as_deref().unwrap_or_default().to_owned(),
        name: object.name.to_string(),
    }
}

/// `Kind namespace/name`.
pub(crate) fn title(object: &Object) -> String {
    match object.namespace.as_deref() {
        Some(namespace) => format!("{} {namespace}/{}", object.kind, object.name),
        None => format!("{} {}", object.kind, object.name),
    }
}
