//! What a site decides: one document, read when the controller starts.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use cubicle_core::level::{EngineKind, Image, Namespace};
use cubicle_core::name::TemplateName;
use cubicle_core::problem::Problem;
use cubicle_core::quantity::{Bytes, MilliCpu};
use cubicle_core::scan::{Judgement, ScanRule};
use cubicle_core::template::{Duration, Template};
use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The site's settings. Every name in it is an object of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Settings {
    /// With whom a tenant shares a namespace.
    #[serde(default = "per_user")]
    pub tenancy: Namespace,
    /// The version that Pod Security is pinned to, for example `v1.37`.
    #[serde(default = "pod_security_version")]
    pub pod_security_version: String,
    /// The namespace of hub and controller.
    #[serde(default = "system_namespace")]
    pub system_namespace: String,
    /// The namespace of the canaries; a tenant's like any other.
    #[serde(default = "canary_namespace")]
    pub canary_namespace: String,
    /// The namespace of the reference pods, which have no walls.
    #[serde(default = "reference_namespace")]
    pub reference_namespace: String,
    /// The namespace of the egress proxy, the only door of workspaces with an allow-list.
    #[serde(default = "egress_namespace")]
    pub egress_namespace: String,
    /// The pods of the cluster's name server.
    #[serde(default)]
    pub name_server: NameServer,
    /// Images by the name that templates use.
    #[serde(default)]
    pub images: BTreeMap<String, SiteImage>,
    /// Read-only data sets by name: images that hold nothing but files, by digest.
    #[serde(default)]
    pub datasets: BTreeMap<String, String>,
    /// The image that holds the probe, by digest.
    pub probe_image: String,
    /// `IfNotPresent`, `Always` or `Never`.
    #[serde(default)]
    pub image_pull_policy: PullPolicy,
    /// The storage class of homes; the cluster's default when absent.
    #[serde(default)]
    pub storage_class: Option<String>,
    /// Addresses beyond the private ones that a walled workspace must not reach: public
    /// addresses of the API server and of nodes.
    #[serde(default)]
    pub denied: Vec<IpNet>,
    /// How many times over a node's processors may be promised.
    #[serde(default = "overcommit")]
    pub cpu_overcommit: u32,
    /// The kubelet's `podPidsLimit`, as the site has set it on every node; the gate tries it. Without it
    /// nodes must allow no more than a template says.
    #[serde(default)]
    pub pids_limit: Option<u32>,
    /// What one tenant may have.
    #[serde(default)]
    pub quota: Quota,
    /// Annotations that the site's own machinery may add to a workspace's pod.
    #[serde(default)]
    pub allowed_annotations: Vec<String>,
    /// Between two proofs of a running workspace, in seconds.
    #[serde(default = "verify_every")]
    pub verify_every: u32,
    /// How long a pod may take until its gate runs: for a node that has to be made, and an image that has to come.
    #[serde(default = "start_patience")]
    pub start_patience: Duration,
    /// When an image is refused for what a scanner found in it.
    #[serde(default)]
    pub image_scan: ScanRule,
    /// Workspaces that are built before anybody asks.
    #[serde(default)]
    pub warm: Warm,
}

/// How many workspaces wait for users who have no home yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Warm {
    /// How many of each template.
    pub members: BTreeMap<TemplateName, u32>,
    /// How old the evidence of one may be when somebody claims it, at most a day.
    pub max_age: Duration,
}

impl Default for Warm {
    fn default() -> Self {
        Self { members: BTreeMap::new(), max_age: MOST_AGE }
    }
}

/// The oldest evidence that a launch may rest on.
const MOST_AGE: Duration = Duration(24 * 3600);
/// How long a pod may take to start.
const PATIENCE: RangeInclusive<Duration> = Duration(30)..=Duration(3600);
/// The most that may wait in one cluster: each is a pod with all that its template asks for.
const MOST_MEMBERS: u32 = 1000;

/// The pods of the cluster's name server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct NameServer {
    /// Their namespace.
    pub namespace: String,
    /// Their labels.
    pub labels: BTreeMap<String, String>,
}

/// An image that the site offers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SiteImage {
    /// Where nodes have it from: `registry/name@sha256:...`.
    pub reference: String,
    /// What a template without a command starts.
    #[serde(default)]
    pub command: Vec<String>,
}

/// When nodes fetch an image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PullPolicy {
    /// When it is not on the node. A digest names the same bytes everywhere.
    #[default]
    IfNotPresent,
    /// At every start, so that the registry checks who may have it.
    Always,
    /// Never: images are imported into the nodes.
    Never,
}

/// What one tenant may have, all workspaces together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Quota {
    /// Pods.
    pub pods: u32,
    /// Processor time.
    pub cpu: MilliCpu,
    /// Memory.
    pub memory: Bytes,
    /// Volumes.
    pub volumes: u32,
    /// Space of all volumes.
    pub storage: Bytes,
    /// Space on nodes' disks.
    pub ephemeral_storage: Bytes,
}

impl Default for NameServer {
    fn default() -> Self {
        Self {
            namespace: "kube-system".to_owned(),
            labels: BTreeMap::from([("k8s-app".to_owned(), "kube-dns".to_owned())]),
        }
    }
}

impl Default for Quota {
    fn default() -> Self {
        Self {
            pods: 4,
            cpu: MilliCpu(8000),
            memory: Bytes(16 << 30),
            volumes: 4,
            storage: Bytes(64 << 30),
            ephemeral_storage: Bytes(8 << 30),
        }
    }
}

fn per_user() -> Namespace {
    Namespace::PerUser
}

fn pod_security_version() -> String {
    "v1.37".to_owned()
}

fn system_namespace() -> String {
    "cubicle-system".to_owned()
}

fn canary_namespace() -> String {
    "cubicle-canary".to_owned()
}

fn reference_namespace() -> String {
    "cubicle-reference".to_owned()
}

fn egress_namespace() -> String {
    "cubicle-egress".to_owned()
}

fn verify_every() -> u32 {
    300
}

/// What Zero to JupyterHub gives a server (`singleuser.startTimeout`).
fn start_patience() -> Duration {
    Duration(300)
}

fn overcommit() -> u32 {
    4
}

/// Whether a reference names its content.
pub fn is_pinned(reference: &str) -> bool {
    reference.split_once("@sha256:").is_some_and(|(name, hash)| {
        !name.is_empty()
            && hash.len() == 64
            && hash.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    })
}

impl Settings {
    /// Reads and checks the document.
    ///
    /// # Errors
    /// Names the field, the rule and the remedy.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        let settings: Self = serde_norway::from_str(text)
            .map_err(|error| Problem::bad_input(format!("the settings: {error}"), "see docs/kubernetes.md"))?;
        settings.check()?;
        Ok(settings)
    }

    fn check(&self) -> Result<(), Problem> {
        let pinned = |field: &str, reference: &str| {
            if is_pinned(reference) {
                return Ok(());
            }
            Err(Problem::bad_input(
                format!("the settings: {field} \"{}\" has no digest", reference.escape_default()),
                "write NAME@sha256:DIGEST; `cubicle image export` prints it",
            ))
        };
        pinned("probeImage", &self.probe_image)?;
        for (name, image) in &self.images {
            pinned(&format!("images.{name}"), &image.reference)?;
        }
        for (name, reference) in &self.datasets {
            pinned(&format!("datasets.{name}"), reference)?;
        }
        if self.verify_every < 10 {
            return Err(Problem::bad_input("the settings: verifyEvery is below 10 seconds", "300 is the default"));
        }
        let members = self.warm.members.values().fold(0_u32, |sum, count| sum.saturating_add(*count));
        if members > 0 && self.tenancy != Namespace::PerUser {
            return Err(Problem::bad_input(
                "the settings: warm.members needs a namespace of its own for each user",
                "set tenancy: per-user, or leave warm out",
            ));
        }
        if members > MOST_MEMBERS {
            return Err(Problem::bad_input(
                format!("the settings: warm.members are {members} together"),
                format!("hold {MOST_MEMBERS} at most: each is a pod with all that its template asks for"),
            ));
        }
        if self.warm.max_age > MOST_AGE {
            return Err(Problem::bad_input(
                format!("the settings: warm.maxAge is {}", String::from(self.warm.max_age)),
                "a launch rests on evidence of one day at most: write 24h or less",
            ));
        }
        if !PATIENCE.contains(&self.start_patience) {
            return Err(Problem::bad_input(
                format!("the settings: startPatience is {}", String::from(self.start_patience)),
                "give a pod between 30s and 1h to start",
            ));
        }
        if self.cpu_overcommit == 0 {
            return Err(Problem::bad_input("the settings: cpuOvercommit is 0", "1 promises every processor once"));
        }
        Ok(())
    }

    /// The image and command of a template, as the level asks for them.
    ///
    /// # Errors
    /// When the site does not know the image, or it is not pinned though the level says so.
    pub fn image(&self, template: &Template) -> Result<SiteImage, Problem> {
        let spec = &template.spec;
        let refuse = |why: &str, remedy: &str| {
            Problem::bad_input(
                format!(
                    "template \"{}\": spec.image \"{}\" {why}",
                    template.metadata.name,
                    spec.image.escape_default()
                ),
                remedy,
            )
        };
        let image = match self.images.get(&spec.image) {
            Some(known) => known.clone(),
            None if is_pinned(&spec.image) => SiteImage { reference: spec.image.clone(), command: Vec::new() },
            None if spec.level.choices().image == Image::Any && spec.image.contains('/') => {
                SiteImage { reference: spec.image.clone(), command: Vec::new() }
            }
            None => {
                return Err(refuse(
                    "is neither an image of this site nor NAME@sha256:DIGEST",
                    "name one of the settings' images, or pin it by digest",
                ));
            }
        };
        let command = if spec.command.is_empty() { image.command } else { spec.command.clone() };
        if command.is_empty() {
            return Err(refuse("comes without a command", "give spec.command, or a command in the settings' images"));
        }
        Ok(SiteImage { reference: image.reference, command })
    }

    /// Refuses what this cluster cannot give.
    ///
    /// # Errors
    /// Names the field, the rule and the remedy.
    pub fn can_provide(&self, template: &Template) -> Result<(), Problem> {
        let name = &template.metadata.name;
        let spec = &template.spec;
        if let Some(missing) = spec.level.missing_on(EngineKind::Kubernetes) {
            return Err(Problem::bad_input(
                format!("template \"{name}\": level {} {missing}", spec.level),
                "choose basic, standard or strict",
            ));
        }
        if self.tenancy < spec.level.choices().namespace {
            return Err(Problem::bad_input(
                format!(
                    "template \"{name}\": level {} promises a namespace per user, and this site shares them",
                    spec.level
                ),
                "choose level basic, or set tenancy: per-user",
            ));
        }
        let within = |field: &str, asked: u64, most: u64| {
            if asked <= most {
                return Ok(());
            }
            Err(Problem::bad_input(
                format!("template \"{name}\": {field} is more than a tenant's quota"),
                "ask for less, or raise the settings' quota",
            ))
        };
        within("spec.resources.cpu", spec.resources.cpu.0, self.quota.cpu.0)?;
        within("spec.resources.memory", spec.resources.memory.0, self.quota.memory.0)?;
        within("spec.home.size", spec.home.size.0, self.quota.storage.0)?;
        for dataset in &spec.datasets {
            if !self.datasets.contains_key(&dataset.name) {
                return Err(Problem::not_found(
                    format!("template \"{name}\": there is no data set \"{}\"", dataset.name.escape_default()),
                    "add it to the settings' datasets",
                ));
            }
        }
        self.image(template).map(|_| ())
    }

    /// What the site's rule says about a template's image now.
    ///
    /// # Errors
    /// The site has no such image.
    pub fn judge_image(&self, template: &Template) -> Result<Judgement, Problem> {
        let reference = self.image(template)?.reference;
        let digest = reference.split_once('@').map(|(_, digest)| digest.to_owned());
        let digests: Vec<String> = digest.into_iter().collect();
        Ok(self.image_scan.judge(template.spec.scan.as_ref(), &digests, Timestamp::now()))
    }
}
