//! The custom resource `Template`: the same document as on one machine, field by field.
//!
//! `cubicle-core` keeps the meaning; this mirror exists for the schema that the API server
//! enforces, and a test holds that both read and write the same documents.

// KubeSchema copies each type into a private function, where `pub` reaches nobody.
#![allow(unreachable_pub)]

use cubicle_core::level::Level;
use cubicle_core::problem::Problem;
use cubicle_core::template as core;
use kube::{CustomResource, KubeSchema};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::Condition;

/// What is launched and within which limits.
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "cubicle.dev",
    version = "v1alpha1",
    kind = "Template",
    plural = "templates",
    shortname = "ctpl",
    category = "cubicle",
    status = "TemplateStatus",
    derive = "PartialEq",
    doc = "A template: what can be launched.",
    annotation("helm.sh/resource-policy", "keep"),
    validation = Rule::new("self.metadata.name.size() <= 63 && !self.metadata.name.contains('.')")
        .message("metadata.name must be a DNS label of at most 63 characters, without dots"),
    printcolumn(name = "Level", type_ = "string", json_path = ".spec.level"),
    printcolumn(name = "Image", type_ = "string", json_path = ".spec.image"),
    printcolumn(name = "CPU", type_ = "string", json_path = ".spec.resources.cpu"),
    printcolumn(name = "Memory", type_ = "string", json_path = ".spec.resources.memory"),
    printcolumn(
        name = "Accepted",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Accepted\")].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        priority = "1",
        json_path = ".status.conditions[?(@.type==\"Accepted\")].message"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.egress) || self.level != 'strict' || self.egress.mode != 'walled'")
        .message("spec.egress.mode is weaker than level strict promises; choose allow-list or none, or a lower level"),
    validation = Rule::new("!has(self.egress) || self.egress.mode == 'allow-list' || self.egress.allow.size() == 0")
        .message("spec.egress.allow is set without mode allow-list; set egress.mode: allow-list")
)]
pub struct TemplateSpec {
    /// One line for the gallery.
    #[serde(default)]
    #[schemars(length(max = 1024))]
    pub description: String,
    /// The name of an image that the site lists, a digest, or a reference with a digest.
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(validation = Rule::new("!self.matches('\\\\s')").message("spec.image has white space"))]
    pub image: String,
    /// What a scanner found in the image, as `cubicle template scan` prints it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "scan")]
    pub scan: Option<serde_json::Value>,
    /// The command; empty means the image's own.
    #[serde(default)]
    #[schemars(length(max = 256))]
    pub command: Vec<String>,
    /// The TCP port inside the workspace that the hub forwards to.
    #[serde(default = "core::default_port")]
    #[schemars(range(min = 1024, max = 65535))]
    pub port: u16,
    /// Below which path the notebook server serves: `/`, or the path of a portal.
    #[serde(default = "core::default_base_path")]
    #[schemars(length(max = 255), regex(pattern = r"^/([A-Za-z0-9._~-]+/)*$"))]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "!self.split('/').exists(part, part == '.' || part == '..')",
        "message": "spec.basePath must not hold . or .."
    }]))]
    pub base_path: String,
    /// The isolation level.
    #[serde(default = "core::default_level")]
    #[schemars(schema_with = "level")]
    pub level: Level,
    /// Limits.
    #[serde(default)]
    pub resources: Resources,
    /// The home volume.
    #[serde(default)]
    pub home: Home,
    /// Where the workspace may connect to; the level's choice when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<Egress>,
    /// Read-only data sets, by name.
    #[serde(default)]
    #[schemars(length(max = 32))]
    pub datasets: Vec<Dataset>,
    /// When an idle workspace is stopped.
    #[serde(default)]
    pub idle: Idle,
    /// Who may launch it; empty means everybody.
    #[serde(default)]
    #[schemars(length(max = 256))]
    pub groups: Vec<String>,
    /// What happens when a wall of a running workspace turns out to be down.
    #[serde(default)]
    #[schemars(schema_with = "on_breach")]
    pub on_breach: core::OnBreach,
}

/// Limits of one workspace.
#[derive(JsonSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Resources {
    /// Processor time: `2`, `500m`. A bare fraction must be quoted.
    #[schemars(schema_with = "cpu")]
    pub cpu: Quantity,
    /// Memory, without swap.
    #[schemars(schema_with = "memory")]
    pub memory: Quantity,
    /// Processes and threads.
    #[schemars(range(min = 32, max = 65536))]
    pub pids: u32,
    /// Size of `/tmp`, which is in memory and counts towards it.
    #[schemars(schema_with = "quantity")]
    pub ephemeral_storage: Quantity,
}

/// The home volume.
#[derive(JsonSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Home {
    /// Size of the claim that is made for the user's home.
    #[schemars(schema_with = "home_size")]
    pub size: Quantity,
    /// Where it is mounted.
    #[schemars(length(min = 2, max = 255), regex(pattern = r"^(/[^/\x00-\x1f]+)+$"))]
    #[schemars(extend("x-kubernetes-validations" = [
        {
            "rule": "!self.split('/').exists(part, part == '.' || part == '..')",
            "message": "spec.home.mountPath must not hold . or .."
        },
        {
            "rule": "!['proc', 'sys', 'dev', 'tmp', 'usr', 'bin', 'lib', 'etc', '.cubicle'].exists(root, self.split('/')[1] == root)",
            "message": "spec.home.mountPath must be outside /proc, /sys, /dev, /tmp, /usr, /bin, /lib, /etc and /.cubicle"
        }
    ]))]
    pub mount_path: String,
    /// Promise more space than the machine has. On Kubernetes the storage class decides.
    pub overcommit: bool,
}

/// Where the workspace may connect to.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Egress {
    /// The mode; must not be weaker than the level's.
    #[schemars(schema_with = "egress_mode")]
    pub mode: core::EgressMode,
    /// Hosts that `allow-list` lets through: `host`, `host:port`, `*.domain`.
    #[serde(default)]
    #[schemars(length(max = 256))]
    pub allow: Vec<String>,
}

/// A read-only data set of the site.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Dataset {
    /// The name under which the administrator registered it.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Where it is mounted.
    #[schemars(length(min = 2, max = 255))]
    pub mount_path: String,
}

/// When an idle workspace is stopped.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Idle {
    /// Time without a user's activity, written `90s`, `30m`, `2h` or `7d`.
    #[schemars(regex(pattern = r"^[1-9][0-9]{0,8}[smhd]$"))]
    pub after: String,
    /// The longest that a busy kernel keeps an unattended workspace alive.
    #[schemars(regex(pattern = r"^[1-9][0-9]{0,8}[smhd]$"))]
    pub max_busy: String,
}

/// A quantity as it was written: a number or text. `cubicle-core` reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Quantity {
    /// `cpu: 2`
    Whole(u64),
    /// `cpu: 500m`
    Written(String),
}

/// What the controller says about a template.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TemplateStatus {
    /// The generation that the conditions are about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Accepted`: whether this cluster can provide it, and why not.
    #[serde(default)]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

impl Default for Resources {
    fn default() -> Self {
        let core::Resources { cpu, memory, pids, ephemeral_storage } = core::Resources::default();
        Self {
            cpu: Quantity::Written(cpu.to_string()),
            memory: Quantity::Written(memory.to_string()),
            pids,
            ephemeral_storage: Quantity::Written(ephemeral_storage.to_string()),
        }
    }
}

impl Default for Home {
    fn default() -> Self {
        let core::Home { size, mount_path, overcommit } = core::Home::default();
        Self { size: Quantity::Written(size.to_string()), mount_path, overcommit }
    }
}

impl Default for Idle {
    fn default() -> Self {
        let core::Idle { after, max_busy } = core::Idle::default();
        Self { after: after.into(), max_busy: max_busy.into() }
    }
}

fn level(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "enum": Level::ALL.map(|level| level.to_string())})
}

fn on_breach(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "enum": ["warn", "close", "stop"]})
}

fn egress_mode(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "enum": ["walled", "allow-list", "none"]})
}

/// `cubicle-core` reads it, and refuses what it does not know.
fn scan(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

fn quantity(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "x-kubernetes-int-or-string": true,
        "maxLength": 32,
        "pattern": r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$"
    })
}

/// A quantity with a least value.
fn at_least(generator: &mut SchemaGenerator, field: &str, least: &str) -> Schema {
    let mut schema = quantity(generator);
    schema.insert(
        "x-kubernetes-validations".to_owned(),
        serde_json::json!([{
            "rule": format!("quantity(string(self)).compareTo(quantity('{least}')) >= 0"),
            "message": format!("{field} must be at least {least}"),
        }]),
    );
    schema
}

fn cpu(generator: &mut SchemaGenerator) -> Schema {
    at_least(generator, "spec.resources.cpu", "50m")
}

fn memory(generator: &mut SchemaGenerator) -> Schema {
    at_least(generator, "spec.resources.memory", "128Mi")
}

fn home_size(generator: &mut SchemaGenerator) -> Schema {
    at_least(generator, "spec.home.size", "16Mi")
}

impl Template {
    /// The document that `cubicle-core` knows, checked by its rules.
    ///
    /// # Errors
    /// Names the field, the rule and the remedy.
    pub fn document(&self) -> Result<core::Template, Problem> {
        let name = self.metadata.name.clone().unwrap_or_default();
        let shown: String = name.chars().take(80).flat_map(char::escape_default).collect();
        let unreadable = |error: serde_json::Error| {
            Problem::bad_input(format!("template \"{shown}\": {error}"), "compare it with `cubicle template show`")
        };
        let document = serde_json::json!({
            "apiVersion": core::API_VERSION,
            "kind": "Template",
            "metadata": {"name": name},
            "spec": serde_json::to_value(&self.spec).map_err(unreadable)?,
        });
        let template: core::Template = serde_json::from_value(document).map_err(unreadable)?;
        template.validate()?;
        Ok(template)
    }

    /// The custom resource of a document.
    ///
    /// # Errors
    /// Only when the two schemas have drifted apart.
    pub fn from_document(template: &core::Template) -> Result<Self, Problem> {
        let failed =
            |error: serde_json::Error| Problem::engine(format!("the template has no custom resource: {error}"), "");
        let spec = serde_json::to_value(&template.spec).map_err(failed)?;
        Ok(Self::new(template.metadata.name.as_str(), serde_json::from_value(spec).map_err(failed)?))
    }
}
