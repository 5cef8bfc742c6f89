//! What the cluster's own admission would say to an object: ValidatingAdmissionPolicies, evaluated.
//!
//! Only what is evaluated to the end is an answer. An expression that uses a function which is not
//! known here, a field that is not there, who asks, or too much time, leaves the answer open. So does
//! a mutating policy or webhook, where the object would be refused as it stands: it may be another
//! one by then. Fields and evaluation as <https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/>
//! has them.

mod constraints;
mod expression;
mod form;
mod policy;

use std::collections::BTreeMap;

use serde_json::Value;

use crate::snapshot::Snapshot;
use expression::{Evaluator, with_stack};
use policy::{Policy, policies};

pub(crate) use form::{TokenVolume, admitted_form};

const GROUP: &str = "admissionregistration.k8s.io";

/// What admission says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// No policy is about such an object.
    NotAsked,
    /// Every policy about it lets it pass.
    Admitted {
        /// A policy that was asked, for people.
        by: String,
    },
    /// A policy refuses it.
    Refused(Refusal),
    /// It depends on who asks.
    DependsOnRequester(String),
    /// It cannot be told; why.
    Unknown(String),
}

/// Who refuses an object, and in which words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// `ValidatingAdmissionPolicy name (file:line), in force by binding name`.
    pub(crate) policy: String,
    /// The policy's message.
    pub(crate) message: String,
}

/// An object that somebody asks the API server to make.
pub(crate) struct Asked<'a> {
    /// The object, as it reaches the validating policies.
    pub(crate) object: &'a Value,
    /// Its kind, for example `Pod`.
    pub(crate) kind: &'a str,
    /// Its resource in the core group, for example `pods`.
    pub(crate) resource: &'a str,
    /// Its namespace.
    pub(crate) namespace: &'a str,
    /// The labels of the namespace as they are written; none where nobody wrote the namespace down.
    pub(crate) namespace_labels: Option<&'a BTreeMap<String, String>>,
}

impl Asked<'_> {
    fn labels(&self) -> BTreeMap<String, String> {
        let own = self.object["metadata"]["labels"].as_object().into_iter().flatten();
        own.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
    }

    fn labels_of_namespace(&self) -> BTreeMap<String, String> {
        let mut labels = self.namespace_labels.cloned().unwrap_or_default();
        labels.insert("kubernetes.io/metadata.name".to_owned(), self.namespace.to_owned());
        labels
    }
}

/// The policies of a cluster that deny something.
pub(crate) struct Admission {
    policies: Vec<Policy>,
    evaluator: Evaluator,
    /// What may change an object before the policies see it, for people.
    changes: Option<String>,
}

impl Admission {
    /// Reads them. Compiling happens here, once.
    pub(crate) fn new(snapshot: &Snapshot) -> Self {
        let evaluator = Evaluator::new();
        let policies = with_stack(|| policies(snapshot, &evaluator)).unwrap_or_else(Vec::new);
        let mutating = ["MutatingAdmissionPolicyBinding", "MutatingWebhookConfiguration"];
        let first = mutating.into_iter().find_map(|kind| snapshot.of_kind(GROUP, kind).next());
        let changes = first.map(|(_, object)| format!("{} {}", object.kind, object.name));
        Self { policies, evaluator, changes }
    }

    /// Whether no policy denies anything.
    pub(crate) fn is_silent(&self) -> bool {
        self.policies.is_empty()
    }

    /// What admission says to an object that somebody makes.
    pub(crate) fn asks(&self, asked: &Asked<'_>) -> Answer {
        let concerned: Vec<&Policy> = self.policies.iter().filter(|policy| policy.is_about(asked)).collect();
        let Some(first) = concerned.first() else { return Answer::NotAsked };
        let mut answer = Answer::Admitted { by: first.title.clone() };
        let answers = with_stack(|| {
            let each = concerned.iter().map(|policy| policy.answer(asked, &self.evaluator));
            each.collect::<Vec<_>>()
        });
        let Some(answers) = answers else {
            return Answer::Unknown(format!("{}: evaluating it failed", first.title));
        };
        for one in answers {
            // The first refusal is told; without one, the first doubt.
            match (&answer, one) {
                (_, Answer::Refused(refusal)) => {
                    return match &self.changes {
                        None => Answer::Refused(refusal),
                        Some(changes) => Answer::Unknown(format!(
                            "{} refuses it as it stands, and {changes} may change it first",
                            refusal.policy
                        )),
                    };
                }
                (Answer::Admitted { .. } | Answer::DependsOnRequester(_), one @ Answer::Unknown(_))
                | (Answer::Admitted { .. }, one @ Answer::DependsOnRequester(_)) => answer = one,
                _ => {}
            }
        }
        answer
    }
}

#[cfg(test)]
mod tests;
