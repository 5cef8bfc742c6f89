//! What workspaces have in common, found without comparing each with each.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use super::rules::host_user;
use super::tenancy::Workspace;

/// Workspaces that share something, as indices: the first of each of two tenants. Whoever looks for one of
/// another tenant finds it among them.
type Sharers = Vec<usize>;

/// The index.
pub(crate) struct Sharing<'a> {
    workspaces: &'a [Workspace],
    namespaces: HashMap<&'a str, Sharers>,
    volumes: HashMap<String, Sharers>,
    users: HashMap<Option<i64>, Sharers>,
    groups: Vec<Group<'a>>,
}

/// Workspaces that the network does not tell apart, by namespace in the order of the input.
#[derive(Default)]
struct Group<'a> {
    order: Vec<&'a str>,
    members: HashMap<&'a str, Sharers>,
}

impl<'a> Sharing<'a> {
    /// `groups` are the workspaces, as indices, that the network does not tell apart.
    pub(crate) fn new(workspaces: &'a [Workspace], groups: &BTreeMap<u32, Vec<usize>>) -> Self {
        let namespaces = HashMap::new();
        let mut sharing =
            Self { workspaces, namespaces, volumes: HashMap::new(), users: HashMap::new(), groups: Vec::new() };
        for (at, workspace) in workspaces.iter().enumerate() {
            add(workspaces, sharing.namespaces.entry(workspace.template.namespace.as_str()).or_default(), at);
            for key in volumes(workspace).filter_map(|volume| key(workspace, volume)) {
                add(workspaces, sharing.volumes.entry(key).or_default(), at);
            }
            if let Some(user) = host_user(workspace) {
                add(workspaces, sharing.users.entry(user).or_default(), at);
            }
        }
        sharing.groups = groups.values().map(|members| group(workspaces, members)).collect();
        sharing
    }

    /// Of each group a workspace of another tenant in the same namespace, and one in another.
    pub(crate) fn neighbours(&self, workspace: &Workspace) -> Vec<&'a Workspace> {
        let own = workspace.template.namespace.as_str();
        let mut found = Vec::new();
        for group in &self.groups {
            found.extend(self.other(group.members.get(own), workspace));
            let elsewhere = group.order.iter().filter(|namespace| **namespace != own);
            found.extend(elsewhere.filter_map(|one| self.other(group.members.get(one), workspace)).next());
        }
        found
    }

    /// Whether a namespace is a tenant's.
    pub(crate) fn is_tenants(&self, namespace: &str) -> bool {
        self.namespaces.contains_key(namespace)
    }

    /// The first workspace of another tenant in the same namespace.
    pub(crate) fn with_namespace(&self, workspace: &Workspace) -> Option<&'a Workspace> {
        self.other(self.namespaces.get(workspace.template.namespace.as_str()), workspace)
    }

    /// The first workspace of another tenant that has the same volume: a claim of its namespace, or the same
    /// folder of a file server.
    pub(crate) fn with_volume(&self, workspace: &Workspace, volume: &Value) -> Option<&'a Workspace> {
        self.other(self.volumes.get(&key(workspace, volume)?), workspace)
    }

    /// The first workspace of another tenant that has this user id on the node too.
    pub(crate) fn with_user(&self, workspace: &Workspace, user: Option<i64>) -> Option<&'a Workspace> {
        self.other(self.users.get(&user), workspace)
    }

    fn other(&self, sharers: Option<&Sharers>, workspace: &Workspace) -> Option<&'a Workspace> {
        let mut others = sharers?.iter().filter_map(|at| self.workspaces.get(*at));
        others.find(|other| other.tenant != workspace.tenant)
    }
}

fn add(workspaces: &[Workspace], sharers: &mut Sharers, at: usize) {
    let is_known = |known: &usize| workspaces[*known].tenant == workspaces[at].tenant;
    if sharers.len() < 2 && !sharers.iter().any(is_known) {
        sharers.push(at);
    }
}

fn group<'a>(workspaces: &'a [Workspace], members: &[usize]) -> Group<'a> {
    let mut group = Group::default();
    for at in members {
        let namespace = workspaces[*at].template.namespace.as_str();
        let sharers = group.members.entry(namespace).or_default();
        if sharers.is_empty() {
            group.order.push(namespace);
        }
        add(workspaces, sharers, *at);
    }
    group
}

fn volumes(workspace: &Workspace) -> impl Iterator<Item = &Value> {
    workspace.template.pod["spec"]["volumes"].as_array().into_iter().flatten()
}

fn key(workspace: &Workspace, volume: &Value) -> Option<String> {
    match volume["persistentVolumeClaim"]["claimName"].as_str() {
        Some(claim) => Some(format!("{}/{claim}", workspace.template.namespace)),
        None => volume["nfs"].is_object().then(|| volume["nfs"].to_string()),
    }
}
