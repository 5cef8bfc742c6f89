//! What a cluster holds that rights can be turned into: accounts, pods, namespaces, tokens.

use std::collections::{BTreeMap, BTreeSet};

use super::subject::Identity;

/// How far a namespace lets a pod reach into its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Admission {
    /// Pod Security is not enforced, or enforces `privileged`.
    #[default]
    Anything,
    /// `baseline` is enforced: no host path, no privileged container.
    Baseline,
    /// `restricted` is enforced.
    Restricted,
}

/// A pod that runs, or that a workload will start.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RunningPod {
    /// Its namespace.
    pub namespace: String,
    /// Its name, or that of its workload.
    pub name: String,
    /// Its service account.
    pub account: String,
    /// Whether the account's token is mounted in it.
    pub token: bool,
}

/// The parts of a cluster that an escalation can use.
#[derive(Debug, Clone, Default)]
pub struct World {
    /// Service accounts by namespace; `default` exists in every namespace.
    accounts: BTreeMap<String, BTreeSet<String>>,
    /// Pods.
    pods: BTreeSet<RunningPod>,
    /// What each namespace lets in.
    admission: BTreeMap<String, Admission>,
    /// Long-lived tokens: (namespace, name of the secret) and the account that it is for.
    tokens: BTreeMap<(String, String), String>,
    /// Whether kube-system holds the map by which EKS makes people administrators.
    aws_auth: bool,
}

impl World {
    /// A namespace and what its labels let in.
    pub fn namespace(&mut self, name: &str, admission: Admission) {
        self.admission.insert(name.to_owned(), admission);
        self.account(name, "default");
    }

    /// A service account.
    pub fn account(&mut self, namespace: &str, name: &str) {
        if namespace.is_empty() || name.is_empty() {
            return;
        }
        let accounts = self.accounts.entry(namespace.to_owned()).or_default();
        accounts.insert("default".to_owned());
        accounts.insert(name.to_owned());
    }

    /// A pod.
    pub fn pod(&mut self, pod: RunningPod) {
        self.account(&pod.namespace, &pod.account);
        self.pods.insert(pod);
    }

    /// A secret that holds an account's token.
    pub fn token_secret(&mut self, namespace: &str, secret: &str, account: &str) {
        self.account(namespace, account);
        self.tokens.insert((namespace.to_owned(), secret.to_owned()), account.to_owned());
    }

    /// A ConfigMap; only `kube-system/aws-auth` matters.
    pub fn config_map(&mut self, namespace: &str, name: &str) {
        self.aws_auth |= namespace == "kube-system" && name == "aws-auth";
    }

    /// Every account that somebody named by a binding could have, so that rights given to an
    /// account whose manifest is absent are followed too.
    pub fn identities<'a>(&mut self, all: impl IntoIterator<Item = &'a Identity>) {
        for identity in all {
            if let Some((namespace, name)) = identity.as_service_account() {
                self.account(namespace, name);
            }
        }
    }

    pub(super) fn namespaces(&self) -> impl Iterator<Item = &str> {
        self.accounts.keys().map(String::as_str)
    }

    pub(super) fn accounts_in(&self, namespace: &str) -> impl Iterator<Item = &str> {
        self.accounts.get(namespace).into_iter().flatten().map(String::as_str)
    }

    pub(super) fn pods_in(&self, namespace: &str) -> impl Iterator<Item = &RunningPod> {
        self.pods.iter().filter(move |pod| pod.namespace == namespace)
    }

    pub(super) fn all_pods(&self) -> impl Iterator<Item = &RunningPod> {
        self.pods.iter()
    }

    pub(super) fn tokens_in(&self, namespace: &str) -> impl Iterator<Item = (&str, &str)> {
        let from = (namespace.to_owned(), String::new());
        self.tokens
            .range(from..)
            .take_while(move |((own, _), _)| own == namespace)
            .map(|((_, secret), account)| (secret.as_str(), account.as_str()))
    }

    pub(super) fn admission(&self, namespace: &str) -> Admission {
        self.admission.get(namespace).copied().unwrap_or_default()
    }

    pub(super) fn has_aws_auth(&self) -> bool {
        self.aws_auth
    }

    /// Every account of the cluster.
    pub fn every_account(&self) -> impl Iterator<Item = Identity> {
        self.accounts
            .iter()
            .flat_map(|(namespace, names)| names.iter().map(move |name| Identity::service_account(namespace, name)))
    }
}
