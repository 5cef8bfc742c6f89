//! Known layouts: how to recognise them, and what their programs make at run time.

mod hatchery;
mod jupyterhub;
mod kubeflow;
mod sandbox;

use std::collections::BTreeMap;

use serde_json::Value;

use super::tenancy::Preset;
use crate::snapshot::{Object, Snapshot, SourceRef};
use crate::workload::{Template, templates};

const CUBICLE_WORKSPACE: &str = "cubicle.dev/workspace";
const CUBICLE_OWNER: &str = "cubicle.dev/owner";

/// An object that holds an answer to "who told you that?".
#[derive(Debug, Clone)]
pub(super) struct Made {
    /// The object as the layout's program would make it.
    pub(super) object: Value,
    /// Where what it was made from stands.
    pub(super) from: SourceRef,
}

impl Preset {
    /// Whether a snapshot looks like this layout.
    pub(super) fn is_here(self, snapshot: &Snapshot) -> bool {
        match self {
            Self::Cubicle => templates(snapshot).iter().any(|one| one.labels.contains_key(CUBICLE_WORKSPACE)),
            Self::JupyterHub => jupyterhub::is_here(snapshot),
            Self::Hatchery => hatchery::is_here(snapshot),
            Self::Kubeflow => kubeflow::is_here(snapshot),
            Self::AgentSandbox => sandbox::is_here(snapshot),
        }
    }

    /// Adds what the layout's program would make; how many workspaces were made up.
    pub(super) fn complete(self, snapshot: &mut Snapshot) -> usize {
        let made = match self {
            Self::Cubicle => Vec::new(),
            Self::JupyterHub => jupyterhub::make(snapshot),
            Self::Hatchery => hatchery::make(snapshot),
            Self::Kubeflow => kubeflow::make(snapshot),
            Self::AgentSandbox => sandbox::make(snapshot),
        };
        let pods = made.iter().filter(|made| made.object["kind"] == "Pod").count();
        for Made { object, from } in made {
            add(snapshot, &object, from);
        }
        pods
    }

    /// Whose workspace a pod is; none when it is not one.
    pub(super) fn tenant(self, template: &Template, namespace: &BTreeMap<String, String>) -> Option<String> {
        let label = |key: &str| template.labels.get(key);
        match self {
            Self::Cubicle => {
                label(CUBICLE_WORKSPACE)?;
                Some(label(CUBICLE_OWNER).unwrap_or(&template.namespace).clone())
            }
            Self::JupyterHub => jupyterhub::tenant(template),
            Self::Hatchery => hatchery::tenant(template, namespace),
            Self::Kubeflow => kubeflow::tenant(template, namespace),
            Self::AgentSandbox => sandbox::tenant(template),
        }
    }

    /// What in this layout takes a caller's word for who they are, told by the labels of its
    /// pods: (labels, what it trusts, what one does with it).
    pub(super) fn trusting_doors(self) -> &'static [Door] {
        match self {
            Self::Hatchery => hatchery::DOORS,
            Self::Kubeflow => kubeflow::DOORS,
            Self::Cubicle | Self::JupyterHub | Self::AgentSandbox => &[],
        }
    }
}

/// A service that believes a header.
#[derive(Debug, Clone, Copy)]
pub(super) struct Door {
    /// A label of its pods and the value.
    pub(super) label: (&'static str, &'static str),
    /// The port it listens on.
    pub(super) port: u16,
    /// What a tenant sends and gets.
    pub(super) sentence: &'static str,
}

fn add(snapshot: &mut Snapshot, json: &Value, from: SourceRef) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let metadata = &json["metadata"];
    let namespace = metadata["namespace"].as_str().map(Into::into);
    snapshot.objects.push(Object {
        api_version: text(&json["apiVersion"]).into(),
        kind: text(&json["kind"]).into(),
        namespace,
        name: text(&metadata["name"]).into(),
        value: crate::snapshot::Node::from_json(json),
        source: from,
    });
}

/// A YAML or JSON mapping that stands as text in another object.
fn embedded(text: &str) -> Value {
    // Read as an object of its own, so that it is read as all YAML here is.
    let name = "embedded".to_owned();
    let bytes = if text.trim_start().starts_with('{') {
        text.as_bytes().to_vec()
    } else {
        format!("apiVersion: v1\nkind: Embedded\nmetadata: {{name: embedded}}\n{text}").into_bytes()
    };
    if let Ok(json) = serde_json::from_slice::<Value>(&bytes) {
        return json;
    }
    let read = Snapshot::from_files(vec![crate::snapshot::File { name, bytes }]);
    read.objects.first().map(Object::json).unwrap_or_default()
}

/// What a ConfigMap or Secret holds under a key, decoded.
fn held(object: &Object, key: &str) -> Option<String> {
    if let Some(text) = object.value["stringData"].text_at(key) {
        return Some(text.to_owned());
    }
    let text = object.value["data"].text_at(key)?;
    if &*object.kind != "Secret" {
        return Some(text.to_owned());
    }
    decode_base64(text)
}

fn decode_base64(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut held) = (0_u32, 0_u32);
    for byte in text.bytes().filter(|byte| !byte.is_ascii_whitespace() && *byte != b'=') {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        held = held << 6 | u32::from(value);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits & 0xff) as u8);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_decoded() {
        assert_eq!(decode_base64("aGVsbG8=").as_deref(), Some("hello"));
        assert_eq!(decode_base64("aGVs\nbG8").as_deref(), Some("hello"));
        assert_eq!(decode_base64("%"), None);
    }

    #[test]
    fn embedded_text_is_yaml_or_json() {
        assert_eq!(embedded("a:\n  b: 1\n")["a"]["b"], 1);
        assert_eq!(embedded("{\"a\": {\"b\": 1}}")["a"]["b"], 1);
        assert_eq!(embedded("a: [")["a"], Value::Null);
    }
}
