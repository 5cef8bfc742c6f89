//! A ValidatingAdmissionPolicy with one of its bindings.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::constraints::is_about;
use super::expression::{Doubt, Evaluator, Expression, Names};
use super::{Answer, Asked, GROUP, Refusal};
use crate::rbac::Selector;
use crate::snapshot::{Node, Object, Snapshot};

/// A policy, bound so that it denies.
pub(super) struct Policy {
    /// `ValidatingAdmissionPolicy name (file:line), in force by binding name`, for people.
    pub(super) title: String,
    constraints: Node,
    narrowed: Option<Node>,
    conditions: Vec<Expression>,
    variables: Vec<(String, Expression)>,
    validations: Vec<(Expression, String)>,
    parameters: Parameters,
}

/// What a binding gives a policy as `params`.
enum Parameters {
    /// Nothing: the policy takes none.
    None,
    /// These, by namespace where they have one: the policy is asked once with each.
    Found(Vec<(Option<String>, Value)>),
    /// It cannot be told from what was read.
    Unknown,
}

/// Every pair of a policy and a binding of it that denies.
pub(super) fn policies(snapshot: &Snapshot, evaluator: &Evaluator) -> Vec<Policy> {
    let by_name: BTreeMap<&str, &Object> =
        snapshot.of_kind(GROUP, "ValidatingAdmissionPolicy").map(|(_, object)| (&*object.name, object)).collect();
    let bindings = snapshot.of_kind(GROUP, "ValidatingAdmissionPolicyBinding");
    let bound = bindings.filter_map(|(_, binding)| {
        let spec = &binding.value["spec"];
        let denies = spec["validationActions"].items().iter().any(|action| action.text() == Some("Deny"));
        let policy = by_name.get(spec.text_at("policyName")?).filter(|_| denies)?;
        Policy::new(snapshot, policy, binding, evaluator)
    });
    bound.collect()
}

impl Policy {
    fn new(snapshot: &Snapshot, policy: &Object, binding: &Object, evaluator: &Evaluator) -> Option<Self> {
        let spec = &policy.value["spec"];
        let texts = |key: &str| -> Vec<(String, Expression, String)> {
            let one = |item: &Node| {
                let name = item.text_at("name").unwrap_or_default().to_owned();
                let text = item.text_at("expression").unwrap_or_default();
                let message = item.text_at("message").unwrap_or_default().trim();
                let message =
                    if message.is_empty() { format!("failed expression: {text}") } else { message.to_owned() };
                (name, evaluator.compile(text), message)
            };
            spec[key].items().iter().map(one).collect()
        };
        let validations: Vec<(Expression, String)> =
            texts("validations").into_iter().map(|(_, expression, message)| (expression, message)).collect();
        if validations.is_empty() {
            return None;
        }
        Some(Self {
            title: format!(
                "ValidatingAdmissionPolicy {} ({}), in force by binding {}",
                policy.name,
                place(snapshot, policy),
                binding.name
            ),
            constraints: spec.get("matchConstraints")?.clone(),
            narrowed: binding.value["spec"].get("matchResources").filter(|node| !node.is_null()).cloned(),
            conditions: texts("matchConditions").into_iter().map(|(_, expression, _)| expression).collect(),
            variables: texts("variables").into_iter().map(|(name, expression, _)| (name, expression)).collect(),
            validations,
            parameters: parameters(snapshot, spec, &binding.value["spec"]),
        })
    }

    /// Whether it looks at an object at all.
    pub(super) fn is_about(&self, asked: &Asked<'_>) -> bool {
        is_about(&self.constraints, asked, true)
            && self.narrowed.as_ref().is_none_or(|narrowed| is_about(narrowed, asked, false))
    }

    /// What it says to an object.
    pub(super) fn answer(&self, asked: &Asked<'_>, evaluator: &Evaluator) -> Answer {
        let nothing = [(None, Value::Null)];
        let parameters = match &self.parameters {
            Parameters::None => &nothing[..],
            Parameters::Found(all) => all,
            Parameters::Unknown => {
                return Answer::Unknown(format!("{}: its parameters are not among the manifests", self.title));
            }
        };
        let mut worst = Answer::Admitted { by: self.title.clone() };
        for (namespace, value) in parameters {
            if namespace.as_deref().is_some_and(|namespace| namespace != asked.namespace) {
                continue;
            }
            match self.with(asked, value, evaluator) {
                refused @ Answer::Refused(_) => return refused,
                Answer::Unknown(why) => worst = Answer::Unknown(why),
                Answer::DependsOnRequester(why) if !matches!(worst, Answer::Unknown(_)) => {
                    worst = Answer::DependsOnRequester(why);
                }
                _ => {}
            }
        }
        worst
    }

    fn with(&self, asked: &Asked<'_>, parameter: &Value, evaluator: &Evaluator) -> Answer {
        let kind = json!({"group": "", "version": "v1", "kind": asked.kind});
        let resource = json!({"group": "", "version": "v1", "resource": asked.resource});
        // What is left out is not known, and asking for it is an error: `userInfo` and `options`.
        let request = json!({
            "operation": "CREATE", "namespace": asked.namespace, "name": asked.object["metadata"]["name"],
            "kind": kind, "requestKind": kind, "resource": resource, "requestResource": resource,
            "subResource": "", "requestSubResource": "", "dryRun": false,
        });
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": asked.namespace, "labels": asked.labels_of_namespace()},
        });
        let mut names = Names::new(vec![
            ("object", asked.object),
            ("oldObject", &Value::Null),
            ("request", &request),
            ("params", parameter),
            ("namespaceObject", &namespace),
        ]);
        let mut doubt = None;
        for condition in &self.conditions {
            match condition.value(&names, evaluator) {
                Ok(cel::Value::Bool(true)) => {}
                // One condition that is not met is enough, whatever the others are.
                Ok(cel::Value::Bool(false)) => return Answer::Admitted { by: self.title.clone() },
                other => doubt = Some(self.doubt(other.err())),
            }
        }
        if let Some(doubt) = doubt {
            return doubt;
        }
        for (name, expression) in &self.variables {
            names.define(name, expression, evaluator);
        }
        for (expression, message) in &self.validations {
            match expression.value(&names, evaluator) {
                Ok(cel::Value::Bool(true)) => {}
                Ok(cel::Value::Bool(false)) => {
                    return Answer::Refused(Refusal { policy: self.title.clone(), message: message.clone() });
                }
                other => {
                    let new = self.doubt(other.err());
                    doubt = match doubt {
                        Some(known @ Answer::Unknown(_)) => Some(known),
                        _ => Some(new),
                    };
                }
            }
        }
        doubt.unwrap_or_else(|| Answer::Admitted { by: self.title.clone() })
    }

    fn doubt(&self, doubt: Option<Doubt>) -> Answer {
        match doubt {
            Some(Doubt::Requester) => Answer::DependsOnRequester(format!("{}: it depends on who asks", self.title)),
            Some(Doubt::Other(why)) => Answer::Unknown(format!("{}: {why}", self.title)),
            None => Answer::Unknown(format!("{}: an expression is neither true nor false", self.title)),
        }
    }
}

fn place(snapshot: &Snapshot, object: &Object) -> String {
    match object.source.line {
        0 => snapshot.file(object.source.file).to_owned(),
        line => format!("{}:{line}", snapshot.file(object.source.file)),
    }
}

/// The objects that a binding names as parameters. One that is not there may be elsewhere: what the
/// policy then does is not told.
fn parameters(snapshot: &Snapshot, policy: &Node, binding: &Node) -> Parameters {
    let Some(kind) = policy.get("paramKind").filter(|node| !node.is_null()) else { return Parameters::None };
    let Some(reference) = binding.get("paramRef").filter(|node| !node.is_null()) else { return Parameters::Unknown };
    let (version, kind) = (kind.text_at("apiVersion").unwrap_or_default(), kind.text_at("kind").unwrap_or_default());
    let selector = reference.get("selector").filter(|node| !node.is_null());
    let selector = selector.map(|node| serde_json::from_value::<Selector>(node.to_json()));
    let is_meant = |object: &&Object| {
        let in_namespace = reference.text_at("namespace").is_none_or(|one| object.namespace.as_deref() == Some(one));
        let by_name = reference.text_at("name").is_none_or(|name| *object.name == *name);
        let by_label = match &selector {
            None => reference.text_at("name").is_some(),
            Some(Ok(selector)) => selector.matches(&crate::rbac::manifests::labels(object)),
            Some(Err(_)) => false,
        };
        *object.api_version == *version && *object.kind == *kind && in_namespace && by_name && by_label
    };
    let anywhere = reference.text_at("namespace").is_some();
    let own = |object: &Object| object.namespace.as_deref().filter(|_| !anywhere).map(str::to_owned);
    let found: Vec<(Option<String>, Value)> =
        snapshot.objects.iter().filter(is_meant).map(|object| (own(object), object.json())).collect();
    if found.is_empty() { Parameters::Unknown } else { Parameters::Found(found) }
}
