//! Finds the pods that a selector can match without looking at all of them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::address::AddressSet;
use super::cluster::{Cluster, Namespace, NamespaceId, Pod};
use super::engine::{V4, V6};
use super::policy::Scope;
use super::selector::{Requirement, Selector, Symbol};

/// Lists of pods by namespace, by label and by address.
#[derive(Debug, Clone, Default)]
pub(super) struct Index {
    by_namespace: Vec<Vec<u32>>,
    by_label: FxHashMap<(Symbol, Symbol), Vec<u32>>,
    namespaces_by_label: FxHashMap<(Symbol, Symbol), Vec<NamespaceId>>,
    /// IPv4 first. Two pods may have one address: on the host's network, or in a listing of two moments.
    by_address: BTreeMap<(bool, u128), Vec<u32>>,
    without_address: Vec<u32>,
    /// The first of each name.
    by_name: FxHashMap<(NamespaceId, Arc<str>), u32>,
    all: Vec<u32>,
}

impl Index {
    pub(super) fn new(cluster: &Cluster) -> Self {
        let mut index = Self::default();
        index.by_namespace.resize_with(cluster.namespaces.len(), Vec::new);
        for (id, namespace) in (0..).map(NamespaceId).zip(&cluster.namespaces) {
            index.add_namespace(id, namespace);
        }
        for (number, pod) in (0..).zip(&cluster.pods) {
            index.add_pod(number, pod);
        }
        index
    }

    pub(super) fn add_namespace(&mut self, id: NamespaceId, namespace: &Namespace) {
        for label in namespace.labels.iter() {
            self.namespaces_by_label.entry(*label).or_default().push(id);
        }
    }

    pub(super) fn add_pod(&mut self, number: u32, pod: &Pod) {
        let namespace = pod.namespace.0 as usize;
        if self.by_namespace.len() <= namespace {
            self.by_namespace.resize_with(namespace + 1, Vec::new);
        }
        self.by_namespace[namespace].push(number);
        for label in pod.labels.iter() {
            self.by_label.entry(*label).or_default().push(number);
        }
        let mut has_address = false;
        for address in addresses(pod) {
            has_address = true;
            self.by_address.entry(key(address)).or_default().push(number);
        }
        if !has_address {
            self.without_address.push(number);
        }
        self.by_name.entry((pod.namespace, Arc::clone(&pod.name))).or_insert(number);
        self.all.push(number);
    }

    pub(super) fn remove_pod(&mut self, number: u32, pod: &Pod) {
        let without = |list: &mut Vec<u32>| list.retain(|known| *known != number);
        if let Some(list) = self.by_namespace.get_mut(pod.namespace.0 as usize) {
            without(list);
        }
        for label in pod.labels.iter() {
            self.by_label.get_mut(label).map(without);
        }
        for address in addresses(pod) {
            let key = key(address);
            if let Some(list) = self.by_address.get_mut(&key) {
                without(list);
                if list.is_empty() {
                    self.by_address.remove(&key);
                }
            }
        }
        if addresses(pod).next().is_none() {
            without(&mut self.without_address);
        }
        let name = (pod.namespace, Arc::clone(&pod.name));
        if self.by_name.get(&name) == Some(&number) {
            self.by_name.remove(&name);
        }
        without(&mut self.all);
    }

    /// The pod of this namespace and name.
    pub(super) fn named(&self, namespace: NamespaceId, name: &Arc<str>) -> Option<u32> {
        self.by_name.get(&(namespace, Arc::clone(name))).copied()
    }

    /// Whether some pod has an address of this family.
    pub(super) fn has_family(&self, v6: bool) -> bool {
        self.by_address.range((v6, 0)..=(v6, u128::MAX)).next().is_some()
    }

    /// The family that a pod has of which nothing is told: IPv4, unless all that are told have
    /// IPv6 alone.
    pub(super) fn usual_family(&self) -> u8 {
        if self.has_family(true) && !self.has_family(false) { V6 } else { V4 }
    }

    /// The pods at an address.
    pub(super) fn at(&self, address: IpAddr) -> &[u32] {
        self.by_address.get(&key(address)).map_or(&[], Vec::as_slice)
    }

    /// The pods whose addresses may be in a set: those that are, and those without one.
    pub(super) fn within(&self, set: &AddressSet) -> Vec<u32> {
        let mut pods: Vec<u32> = Vec::new();
        for (first, last) in set.ranges() {
            pods.extend(self.by_address.range(first..=last).flat_map(|(_, pods)| pods));
        }
        pods.extend(&self.without_address);
        pods.sort_unstable();
        pods.dedup();
        pods
    }

    pub(super) fn all(&self) -> &[u32] {
        &self.all
    }

    pub(super) fn in_namespace(&self, id: NamespaceId) -> &[u32] {
        self.by_namespace.get(id.0 as usize).map_or(&[], Vec::as_slice)
    }

    /// The pods that a scope and a selector match. `own` is the namespace of the policy; without
    /// it the scope "own" is every namespace.
    pub(super) fn select(
        &self,
        cluster: &Cluster,
        scope: &Scope,
        own: Option<NamespaceId>,
        pods: &Selector,
    ) -> Vec<u32> {
        let namespaces: Option<Vec<NamespaceId>> = match (scope, own) {
            (Scope::Own, None) => None,
            (Scope::Own, Some(id)) => Some(vec![id]),
            (Scope::Matching(selector), _) if selector.is_everything() => None,
            (Scope::Matching(selector), _) => Some(self.namespaces(cluster, selector)),
        };
        let by_label = shortest(pods, |label| self.by_label.get(&label).map_or(&[], Vec::as_slice));
        let in_namespaces: usize =
            namespaces.as_ref().map_or(self.all.len(), |list| list.iter().map(|id| self.in_namespace(*id).len()).sum());
        let matches = |number: &u32| pods.matches(&cluster.pods[*number as usize].labels);
        match (by_label, namespaces) {
            (Some(lists), namespaces) if lists.iter().map(|list| list.len()).sum::<usize>() < in_namespaces => {
                let is_there = |number: &u32| {
                    let namespace = cluster.pods[*number as usize].namespace;
                    namespaces.as_ref().is_none_or(|list| list.binary_search(&namespace).is_ok())
                };
                lists.into_iter().flatten().copied().filter(|number| is_there(number) && matches(number)).collect()
            }
            (_, None) => self.all.iter().copied().filter(matches).collect(),
            (_, Some(list)) => list.iter().flat_map(|id| self.in_namespace(*id)).copied().filter(matches).collect(),
        }
    }

    /// The namespaces that a selector matches, sorted.
    pub(super) fn namespaces(&self, cluster: &Cluster, selector: &Selector) -> Vec<NamespaceId> {
        let matches = |id: &NamespaceId| selector.matches(cluster.namespace_labels(*id));
        let mut found: Vec<NamespaceId> =
            match shortest(selector, |label| self.namespaces_by_label.get(&label).map_or(&[], Vec::as_slice)) {
                Some(lists) => lists.into_iter().flatten().copied().filter(matches).collect(),
                None => (0..u32::try_from(cluster.namespaces.len()).unwrap_or(u32::MAX))
                    .map(NamespaceId)
                    .filter(matches)
                    .collect(),
            };
        found.sort_unstable();
        found
    }
}

/// The lists of the requirement that names the fewest; none when no requirement names values.
fn shortest<'index, T>(
    selector: &Selector,
    list: impl Fn((Symbol, Symbol)) -> &'index [T],
) -> Option<Vec<&'index [T]>> {
    let candidates = selector.requirements().iter().filter_map(|requirement| match requirement {
        Requirement::In(key, values) => Some(values.iter().map(|value| list((*key, *value))).collect::<Vec<_>>()),
        _ => None,
    });
    candidates.min_by_key(|lists| lists.iter().map(|list| list.len()).sum::<usize>())
}

/// The addresses that packets of a pod have.
pub(super) fn addresses(pod: &Pod) -> impl Iterator<Item = IpAddr> {
    let of_node = pod.host_network.then_some(&pod.node_addresses).into_iter().flatten();
    let mut sorted: Vec<IpAddr> = pod.addresses.iter().chain(of_node).map(IpAddr::to_canonical).collect();
    sorted.sort_unstable();
    sorted.dedup();
    sorted.into_iter()
}

fn key(address: IpAddr) -> (bool, u128) {
    match address.to_canonical() {
        IpAddr::V4(v4) => (false, u32::from(v4).into()),
        IpAddr::V6(v6) => (true, v6.into()),
    }
}
