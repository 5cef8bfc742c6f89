//! Follows changes without starting over: one pod or one policy at a time.

use super::Match;
use super::cluster::{NamespaceId, Pod};
use super::engine::{Engine, PodState, PolicyState, as_number};
use super::policy::{Policy, Scope};

impl Engine {
    /// The namespace of this name; a new one, with the label of its name, if it is not there.
    pub fn namespace(&mut self, name: &str) -> NamespaceId {
        if let Some(known) = self.cluster.find_namespace(name) {
            return known;
        }
        let id = self.cluster.namespace(name);
        self.index.add_namespace(id, &self.cluster.namespaces[id.0 as usize]);
        id
    }

    /// Adds a pod, or replaces the one of this namespace and name. Gives its number.
    pub fn set_pod(&mut self, pod: Pod) -> u32 {
        let number = match self.index.named(pod.namespace, &pod.name) {
            Some(number) => {
                self.remove_pod(number);
                self.cluster.pods[number as usize] = pod;
                number
            }
            None => {
                self.cluster.pods.push(pod);
                as_number(self.cluster.pods.len() - 1)
            }
        };
        self.index.add_pod(number, &self.cluster.pods[number as usize]);
        // What addresses mean depends on the nodes that pods tell of.
        self.forget_outside();
        if self.family_changed() {
            return number;
        }
        let pod = &self.cluster.pods[number as usize];
        let mut members = [Vec::new(), Vec::new()];
        for (peer, value) in self.peers.iter() {
            for (list, matches) in members.iter_mut().zip(self.matches_pod(value, pod)) {
                if matches != Match::No {
                    list.push((peer, matches));
                }
            }
        }
        let selects = |policy: &Policy| {
            let in_scope = match &policy.namespaces {
                Scope::Own => policy.namespace == Some(pod.namespace),
                Scope::Matching(selector) => selector.matches(self.cluster.namespace_labels(pod.namespace)),
            };
            in_scope && policy.pods.matches(&pod.labels)
        };
        let policies: Vec<u32> = (0..)
            .zip(self.policies.iter().zip(&self.cluster.policies))
            .filter(|(_, (state, policy))| state.present && selects(policy))
            .map(|(number, _)| number)
            .collect();
        for policy in &policies {
            self.policies[*policy as usize].selected.push(number);
        }
        let members = members.map(|list| self.members.add(list).0);
        let class = self.class_of(number as usize, members, &policies);
        let state = PodState { class, members, policies, present: true };
        match self.pods.get_mut(number as usize) {
            Some(known) => *known = state,
            None => self.pods.push(state),
        }
        number
    }

    /// Removes a pod.
    pub fn remove_pod(&mut self, number: u32) {
        let Some(state) = self.pods.get_mut(number as usize).filter(|state| state.present) else { return };
        state.present = false;
        self.index.remove_pod(number, &self.cluster.pods[number as usize]);
        for policy in std::mem::take(&mut self.pods[number as usize].policies) {
            self.policies[policy as usize].selected.retain(|pod| *pod != number);
        }
        // What addresses mean depends on the nodes that pods tell of.
        self.forget_outside();
        self.family_changed();
    }

    /// Adds a policy, or replaces the one of this kind, namespace and name. Gives its number.
    pub fn set_policy(&mut self, policy: Policy) -> u32 {
        let same = |known: &Policy| {
            known.kind == policy.kind && known.namespace == policy.namespace && known.name == policy.name
        };
        let number = match self.cluster.policies.iter().position(same) {
            Some(number) => {
                self.cluster.policies[number] = policy;
                number
            }
            None => {
                self.cluster.policies.push(policy);
                self.policies.push(PolicyState::default());
                self.cluster.policies.len() - 1
            }
        };
        let known_peers = self.peers.len();
        let state = self.compile(number);
        let mut touched = self.unselect(number);
        for pod in &state.selected {
            self.pods[*pod as usize].policies.push(as_number(number));
        }
        touched.extend(&state.selected);
        self.policies[number] = state;
        for peer in known_peers..self.peers.len() {
            for (pod, matches) in self.matching(as_number(peer)) {
                let members = self.pods[pod as usize].members;
                for (family, matches) in matches.into_iter().enumerate().filter(|(_, matches)| *matches != Match::No) {
                    // New numbers are the highest, so the list stays sorted.
                    let mut list = self.members.get(members[family]).clone();
                    list.push((as_number(peer), matches));
                    self.pods[pod as usize].members[family] = self.members.add(list).0;
                }
                touched.push(pod);
            }
        }
        if self.peers.len() > known_peers {
            self.forget_outside();
        }
        self.classify(touched);
        as_number(number)
    }

    /// Removes a policy.
    pub fn remove_policy(&mut self, number: u32) {
        if self.policies.get(number as usize).is_some_and(|state| state.present) {
            let touched = self.unselect(number as usize);
            self.policies[number as usize] = PolicyState::default();
            self.classify(touched);
        }
    }

    fn unselect(&mut self, number: usize) -> Vec<u32> {
        let selected = std::mem::take(&mut self.policies[number].selected);
        for pod in &selected {
            self.pods[*pod as usize].policies.retain(|policy| *policy != as_number(number));
        }
        selected
    }

    fn classify(&mut self, mut pods: Vec<u32>) {
        pods.sort_unstable();
        pods.dedup();
        for pod in pods {
            let state = &self.pods[pod as usize];
            let (members, policies) = (state.members, state.policies.clone());
            self.pods[pod as usize].class = self.class_of(pod as usize, members, &policies);
        }
    }

    /// Starts over when the family that unknown pods have is another now; that is rare.
    fn family_changed(&mut self) -> bool {
        let family = self.index.usual_family();
        if family == self.usual_family {
            return false;
        }
        self.usual_family = family;
        self.build();
        true
    }
}
