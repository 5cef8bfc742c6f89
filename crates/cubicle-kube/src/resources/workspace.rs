//! The custom resource `Workspace`: one launched template for one user.

// KubeSchema copies each type into a private function, where `pub` reaches nobody.
#![allow(unreachable_pub)]

use std::collections::BTreeMap;

use cubicle_core::level::Level;
use cubicle_core::name::{TemplateName, UserId, UserName, WorkspaceId};
use cubicle_core::problem::Problem;
use cubicle_core::report::Summary;
use cubicle_core::workspace::{Owner, Progress, State, Step};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
use kube::{CustomResource, KubeSchema, ResourceExt};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::Condition;

/// What is wanted. The hub writes it; nothing else does.
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "cubicle.dev",
    version = "v1alpha1",
    kind = "Workspace",
    plural = "workspaces",
    shortname = "cws",
    category = "cubicle",
    status = "WorkspaceStatus",
    derive = "PartialEq",
    doc = "A workspace: one launched template for one user.",
    annotation("helm.sh/resource-policy", "keep"),
    validation = Rule::new("self.metadata.name.matches('^w-[a-z0-9]{12}$')")
        .message("metadata.name must be w- and 12 lower-case letters or digits; the hub makes such names"),
    selectable = ".spec.owner.id",
    printcolumn(name = "User", type_ = "string", json_path = ".spec.owner.name"),
    printcolumn(name = "Template", type_ = "string", json_path = ".spec.template"),
    printcolumn(name = "State", type_ = "string", json_path = ".status.state"),
    printcolumn(name = "Held", type_ = "integer", json_path = ".status.summary.held"),
    printcolumn(name = "Breached", type_ = "integer", json_path = ".status.summary.breached"),
    printcolumn(name = "Unproven", type_ = "integer", json_path = ".status.summary.unproven"),
    printcolumn(name = "Level", type_ = "string", priority = "1", json_path = ".status.level"),
    printcolumn(name = "Namespace", type_ = "string", priority = "1", json_path = ".status.namespace"),
    printcolumn(name = "Node", type_ = "string", priority = "1", json_path = ".status.node"),
    printcolumn(name = "Reason", type_ = "string", priority = "1", json_path = ".status.reason"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.template == oldSelf.template").message("spec.template cannot change; make another workspace"),
    validation = Rule::new("self.owner == oldSelf.owner || (has(oldSelf.member) && oldSelf.member && !(has(self.member) && self.member))").message("spec.owner cannot change; make another workspace"),
    validation = Rule::new("(has(self.team) == has(oldSelf.team) && (!has(self.team) || self.team == oldSelf.team)) || (has(oldSelf.member) && oldSelf.member)").message("spec.team cannot change; make another workspace"),
    validation = Rule::new("!(has(self.member) && self.member) || (has(oldSelf.member) && oldSelf.member)").message("spec.member: what is somebody's cannot become a member of the pool"),
    validation = Rule::new("self.launch >= oldSelf.launch").message("spec.launch only grows"),
    validation = Rule::new("self.verify >= oldSelf.verify").message("spec.verify only grows")
)]
pub struct WorkspaceSpec {
    /// What is launched.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub template: String,
    /// Whose it is.
    pub owner: OwnerSpec,
    /// What the user calls it.
    #[serde(default)]
    #[schemars(length(max = 128))]
    pub name: String,
    /// The team whose namespace it lives in, where the site has one namespace per team.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub team: Option<String>,
    /// Whether it is to run.
    #[serde(default = "yes")]
    pub run: bool,
    /// Counts launches: a larger number launches a stopped, refused or failed one again.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub launch: i64,
    /// Grows when the walls of a running workspace are to be proven again now.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub verify: i64,
    /// Whether it waits, built and proven, for a user who is not known yet. Whoever launches its template
    /// claims it by writing `owner` and taking this away, once.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub member: bool,
    /// Whether the user's home goes with the workspace when that is deleted.
    #[serde(default)]
    pub delete_home: bool,
}

/// Whose a workspace is.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnerSpec {
    /// The opaque identifier; names of objects are made from it alone.
    #[schemars(regex(pattern = r"^u-[a-z0-9]{12}$"))]
    pub id: String,
    /// The name, for people.
    #[schemars(length(min = 1, max = 256))]
    pub name: String,
}

/// What is. The controller alone writes it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkspaceStatus {
    /// Where it is in its life; `pending` until the controller has seen it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "state")]
    pub state: Option<State>,
    /// Why it is in that state.
    #[serde(default)]
    pub reason: String,
    /// The generation that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The launch that this status is about.
    #[serde(default)]
    pub launch: i64,
    /// The level that was promised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "level")]
    pub level: Option<Level>,
    /// The tenant's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The node that it runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The pod that was judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_uid: Option<String>,
    /// The nonce of the proof that was judged; the notebook's token is derived from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<String>,
    /// What the gate dials from its first instruction on, settled before the pod is made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub window: Vec<String>,
    /// Where the hub finds the notebook; there only while it is proven and running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<Route>,
    /// How many guarantees have which verdict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<Verdicts>,
    /// Since when it waits for somebody, with a notebook that answers nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_at: Option<Time>,
    /// When it was last opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opened_at: Option<Time>,
    /// When it was last proven.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proven_at: Option<Time>,
    /// The last `spec.verify` that was answered.
    #[serde(default)]
    pub verified: i64,
    /// The template as it was launched, as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 65536))]
    pub launched: Option<String>,
    /// Digests of the objects that were there when the walls were proven, by kind and name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub walls: BTreeMap<String, String>,
    /// When the launch began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begun_at: Option<MicroTime>,
    /// The five steps of the launch as they went.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub steps: Vec<StepEntry>,
    /// When it is stopped unless its user does something; set when that is near.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stops_at: Option<Time>,
    /// What its user should know now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub warnings: Vec<String>,
    /// `Accepted`, `Built`, `Proven`, `Open`.
    #[serde(default)]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// One event of a launch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepEntry {
    /// Which step.
    #[schemars(schema_with = "step")]
    pub step: Step,
    /// How far.
    #[schemars(schema_with = "progress")]
    pub state: Progress,
    /// What happened, in one sentence.
    pub message: String,
    /// Milliseconds since the launch began.
    pub elapsed_ms: u64,
}

/// Where the hub finds a notebook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Route {
    /// The pod's address.
    pub address: String,
    /// The port.
    pub port: u16,
}

/// How many guarantees have which verdict.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Verdicts {
    /// Held.
    pub held: u32,
    /// Breached.
    pub breached: u32,
    /// Unproven.
    pub unproven: u32,
    /// Absent.
    pub absent: u32,
    /// Not claimed.
    pub not_claimed: u32,
}

impl From<Summary> for Verdicts {
    fn from(summary: Summary) -> Self {
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Self {
            held: count(summary.held),
            breached: count(summary.breached),
            unproven: count(summary.unproven),
            absent: count(summary.absent),
            not_claimed: count(summary.not_claimed),
        }
    }
}

fn yes() -> bool {
    true
}

fn state(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "enum": ["pending", "proving", "running", "stopping", "stopped", "refused", "failed"]
    })
}

fn step(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "enum": ["request", "plan", "build", "prove", "open"]})
}

fn progress(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "enum": ["running", "done", "failed"]})
}

fn level(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "enum": Level::ALL.map(|level| level.to_string())})
}

/// The parts of a workspace that object names are made of, parsed: nothing else of a
/// hand-edited object ever becomes part of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The workspace.
    pub id: WorkspaceId,
    /// Whose it is.
    pub owner: Owner,
    /// What is launched.
    pub template: TemplateName,
    /// The team.
    pub team: Option<String>,
}

impl Workspace {
    /// Reads who and what it is.
    ///
    /// # Errors
    /// Names the field that no hub would have written.
    pub fn identity(&self) -> Result<Identity, Problem> {
        let id: WorkspaceId = self.name_any().parse()?;
        let field = |field: &'static str| {
            let id = id.clone();
            move |problem: Problem| {
                Problem::bad_input(format!("workspace \"{id}\": {field}: {}", problem.what), problem.remedy)
            }
        };
        let owner = &self.spec.owner;
        Ok(Identity {
            owner: Owner {
                id: owner.id.parse::<UserId>().map_err(field("spec.owner.id"))?,
                name: owner.name.parse::<UserName>().map_err(field("spec.owner.name"))?,
            },
            template: self.spec.template.parse().map_err(field("spec.template"))?,
            team: self.spec.team.clone(),
            id,
        })
    }
}
