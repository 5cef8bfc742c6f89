//! The smallest change that closes a finding, as something one can apply.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// One step of a JSON patch (RFC 6902).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum Operation {
    /// Sets a member, or inserts into a list.
    Add {
        /// Where, as a JSON pointer.
        path: String,
        /// What.
        value: Value,
    },
    /// Sets a member that is there.
    Replace {
        /// Where.
        path: String,
        /// What.
        value: Value,
    },
    /// Takes a member away.
    Remove {
        /// Where.
        path: String,
    },
}

/// Which object a patch is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    /// For example `apps/v1`.
    pub api_version: String,
    /// The kind.
    pub kind: String,
    /// Empty for cluster-scoped kinds.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// The name.
    pub name: String,
}

/// A change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Fix {
    /// A change of an object that is there.
    Patch {
        /// The object.
        target: Target,
        /// The steps, in order.
        operations: Vec<Operation>,
    },
    /// Objects to add.
    Manifests {
        /// The objects.
        objects: Vec<Value>,
    },
    /// An object to delete.
    Delete {
        /// The object.
        target: Target,
    },
    /// A setting of the chart or program that writes the object: the object itself is made anew
    /// each time.
    Setting {
        /// What to set, as one line or a few.
        text: String,
    },
}

/// Sets a value in an object, making the parents that are missing; the steps of a patch for it.
///
/// The last token `-` appends to a list.
pub(crate) fn set(object: &Value, pointer: &str, value: Value) -> Vec<Operation> {
    let tokens: Vec<&str> = pointer.split('/').skip(1).collect();
    let mut at = String::new();
    for (depth, token) in tokens.iter().enumerate() {
        let next = format!("{at}/{token}");
        let last = depth + 1 == tokens.len();
        let there = object.pointer(&next).filter(|value| !value.is_null());
        match (there, last) {
            (Some(_), true) if *token != "-" => return vec![Operation::Replace { path: next, value }],
            (None, true) | (Some(_), true) => return vec![Operation::Add { path: next, value }],
            (Some(_), false) => at = next,
            (None, false) => {
                // The rest of the path is made in one step, so that no empty parent is left over.
                let made = tokens.get(depth + 1..).unwrap_or_default().iter().rev().fold(value, |inner, token| {
                    if *token == "-" || *token == "0" {
                        return Value::Array(vec![inner]);
                    }
                    let mut map = Map::new();
                    map.insert(token.replace("~1", "/").replace("~0", "~"), inner);
                    Value::Object(map)
                });
                return vec![Operation::Add { path: next, value: made }];
            }
        }
    }
    Vec::new()
}

/// Applies a patch.
///
/// # Errors
/// A step that points at nothing.
pub fn apply(object: &mut Value, operations: &[Operation]) -> Result<(), String> {
    for operation in operations {
        let (path, value) = match operation {
            Operation::Add { path, value } | Operation::Replace { path, value } => (path, Some(value)),
            Operation::Remove { path } => (path, None),
        };
        let (parent, token) = path.rsplit_once('/').ok_or_else(|| format!("{path} is no pointer"))?;
        let token = token.replace("~1", "/").replace("~0", "~");
        let parent = object.pointer_mut(parent).ok_or_else(|| format!("there is no parent of {path}"))?;
        match (parent, value) {
            (Value::Object(map), Some(value)) => {
                map.insert(token, value.clone());
            }
            (Value::Object(map), None) => {
                map.remove(&token).ok_or_else(|| format!("there is nothing at {path}"))?;
            }
            (Value::Array(items), Some(value)) if token == "-" => items.push(value.clone()),
            (Value::Array(items), value) => {
                let index: usize = token.parse().map_err(|_| format!("{path} is no place in a list"))?;
                match (value, operation) {
                    (Some(value), Operation::Replace { .. }) => {
                        *items.get_mut(index).ok_or_else(|| format!("there is nothing at {path}"))? = value.clone();
                    }
                    (Some(value), _) if index <= items.len() => items.insert(index, value.clone()),
                    (None, _) if index < items.len() => {
                        items.remove(index);
                    }
                    _ => return Err(format!("there is nothing at {path}")),
                }
            }
            _ => return Err(format!("the parent of {path} holds nothing")),
        }
    }
    Ok(())
}

impl Fix {
    /// A patch as a JSON value, or the objects.
    pub fn document(&self) -> Value {
        match self {
            Self::Patch { operations, .. } => json!(operations),
            Self::Manifests { objects } => json!(objects),
            Self::Delete { target } => json!({"delete": target}),
            Self::Setting { text } => json!(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_missing_path_is_made_in_one_step() {
        let pod = json!({"spec": {"containers": [{"name": "a"}]}});
        let steps = set(&pod, "/spec/containers/0/securityContext/capabilities/drop", json!(["ALL"]));
        assert_eq!(
            steps,
            [Operation::Add {
                path: "/spec/containers/0/securityContext".to_owned(),
                value: json!({"capabilities": {"drop": ["ALL"]}})
            }]
        );
    }

    #[test]
    fn a_value_that_is_there_is_replaced() {
        let pod = json!({"spec": {"hostNetwork": true}});
        assert_eq!(
            set(&pod, "/spec/hostNetwork", json!(false)),
            [Operation::Replace { path: "/spec/hostNetwork".to_owned(), value: json!(false) }]
        );
    }

    #[test]
    fn steps_that_point_nowhere_are_errors() {
        let mut pod = json!({"spec": {"list": [1]}});
        for path in ["/no/parent", "/spec/list/7", "/spec/list/x", "/spec/gone", "x"] {
            assert!(apply(&mut pod, &[Operation::Remove { path: path.to_owned() }]).is_err(), "{path}");
        }
    }

    proptest! {
        /// What `set` makes, `apply` carries out: the value stands where it was wanted.
        #[test]
        fn set_then_apply_sets(
            path in prop::collection::vec(prop::sample::select(&["a", "b", "x~1y"][..]), 1..5),
            there in prop::collection::vec(prop::sample::select(&["a", "b", "x~1y"][..]), 0..4),
        ) {
            let mut object = json!({});
            let steps = set(&object, &format!("/{}", there.join("/")), json!({}));
            if !there.is_empty() {
                apply(&mut object, &steps).map_err(TestCaseError::fail)?;
            }
            let pointer = format!("/{}", path.join("/"));
            let steps = set(&object, &pointer, json!(7));
            apply(&mut object, &steps).map_err(TestCaseError::fail)?;
            prop_assert_eq!(object.pointer(&pointer), Some(&json!(7)));
        }
    }
}
