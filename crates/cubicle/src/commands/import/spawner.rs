//! What KubeSpawner calls a profile: traits, and choices that override them.

use cubicle_audit::snapshot::{Node, Value};
use cubicle_core::problem::Problem;
use cubicle_core::quantity::{Bytes, MilliCpu};
use cubicle_core::template::{Duration, TemplateSpec};

use super::reading::{Reading, Rule, Rules, below};
use Rule::{By, Read};

/// More templates than this are no gallery.
const MOST_TEMPLATES: usize = 200;

/// What was chosen so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Choice {
    pub(super) title: String,
    pub(super) slug: Option<String>,
    pub(super) image: Option<String>,
    pub(super) command: Vec<String>,
    pub(super) cpu: Option<MilliCpu>,
    pub(super) memory: Option<Bytes>,
    pub(super) port: Option<u16>,
    pub(super) home: Option<Bytes>,
    pub(super) mount_path: Option<String>,
    pub(super) idle: Option<Duration>,
    pub(super) max_busy: Option<Duration>,
    pub(super) groups: Vec<String>,
}

impl Choice {
    /// Writes it over a template's defaults.
    pub(super) fn fill(self, spec: &mut TemplateSpec) {
        spec.image = self.image.unwrap_or_else(|| spec.image.clone());
        spec.command = self.command;
        spec.resources.cpu = self.cpu.unwrap_or(spec.resources.cpu);
        spec.resources.memory = self.memory.unwrap_or(spec.resources.memory);
        spec.port = self.port.unwrap_or(spec.port);
        spec.home.size = self.home.unwrap_or(spec.home.size);
        spec.home.mount_path = self.mount_path.unwrap_or_else(|| spec.home.mount_path.clone());
        spec.idle.after = self.idle.unwrap_or(spec.idle.after);
        spec.idle.max_busy = self.max_busy.unwrap_or(spec.idle.max_busy).max(spec.idle.after);
        spec.groups = self.groups;
    }
}

const POD: &str = "the engine writes the pod; what a tenant's pod may hold is the wall itself";

const TRAITS: Rules = &[
    ("image", Read),
    ("image_spec", Read),
    ("cpu_limit", Read),
    ("mem_limit", Read),
    ("cpu_guarantee", By("spec.resources", "what is limited is also what is set aside")),
    ("mem_guarantee", By("spec.resources", "what is limited is also what is set aside")),
    ("port", Read),
    ("cmd", Read),
    ("args", By("the image's own command", "the image finds port and token in its environment")),
    ("storage_capacity", Read),
    ("storage_class", By("the engine's volumes", "the engine makes the volume")),
    ("storage_pvc_ensure", By("a home volume", "every user has one")),
    ("storage_access_modes", By("the engine's volumes", "the engine makes the volume")),
    ("storage_selector", By("the engine's volumes", "the engine makes the volume")),
    ("storage_extra_labels", By("nothing", POD)),
    ("pvc_name_template", By("opaque names", "names made of user names collide")),
    ("pod_name_template", By("opaque names", "names made of user names collide")),
    ("slug_scheme", By("opaque names", "names made of user names collide")),
    ("namespace", By("a namespace per workspace", "one shared namespace lets users reach each other")),
    ("enable_user_namespaces", By("a namespace per workspace", "there always is one")),
    ("user_namespace_template", By("a namespace per workspace", "there always is one")),
    ("environment", By("ENV in the image", "templates hold no environment, so that nobody keeps a secret in one")),
    ("default_url", By("the image's own command", "the image opens JupyterLab")),
    ("start_timeout", By("the hub's own bound", "a launch that is not proven in time is refused")),
    ("http_timeout", By("the hub's own bound", "a launch that is not proven in time is refused")),
    ("uid", By("uid 1000 inside", "every workspace has a range of uids of its own outside")),
    ("gid", By("gid 1000 inside", "every workspace has a range of gids of its own outside")),
    ("fs_gid", By("the home's owner", "a home is its user's alone")),
    ("supplemental_gids", By("gid 1000 inside", "no group is shared between workspaces")),
    ("image_pull_policy", By("the image's digest", "a digest needs no policy")),
    ("image_pull_secrets", By("`cubicle image import`", "nothing is pulled at a launch")),
    ("node_selector", By("the chart's values", POD)),
    ("node_affinity_preferred", By("the chart's values", POD)),
    ("node_affinity_required", By("the chart's values", POD)),
    ("pod_affinity_preferred", By("the chart's values", POD)),
    ("pod_affinity_required", By("the chart's values", POD)),
    ("pod_anti_affinity_preferred", By("the chart's values", POD)),
    ("pod_anti_affinity_required", By("the chart's values", POD)),
    ("tolerations", By("the chart's values", POD)),
    ("priority_class_name", By("the chart's values", POD)),
    ("scheduler_name", By("the chart's values", POD)),
    ("runtime_class_name", By("spec.level", "the level chooses the runtime")),
    ("service_account", By("no service account", "a workspace has no token of the cluster's API")),
    ("automount_service_account_token", Read),
    ("allow_privilege_escalation", Read),
    ("privileged", Read),
    ("volumes", By("spec.datasets", "shared volumes are read-only data sets that the administrator registers")),
    ("volume_mounts", Read),
    ("working_dir", By("the home", "a notebook starts in its home")),
    ("lifecycle_hooks", By("the image", "what runs at the start or end belongs into the image's command")),
    ("init_containers", Read),
    ("extra_containers", Read),
    ("extra_resource_limits", Read),
    ("extra_resource_guarantees", By("spec.resources", "what is limited is also what is set aside")),
    ("extra_labels", By("nothing", POD)),
    ("extra_annotations", By("nothing", POD)),
    ("extra_pod_config", By("nothing", POD)),
    ("extra_container_config", By("nothing", POD)),
    ("container_security_context", By("every level", POD)),
    ("pod_security_context", By("every level", POD)),
    ("profile_list", Read),
    ("profile_form_template", By("the gallery", "templates are shown by the hub")),
    ("allowed_groups", Read),
];

const PROFILE: Rules = &[
    ("display_name", Read),
    ("slug", Read),
    ("description", By("spec.description", "it is one line: the profile's name and its choices")),
    ("default", By("the gallery's order", "no template is chosen beforehand")),
    ("kubespawner_override", Read),
    ("profile_options", Read),
    ("allowed_groups", Read),
];

const OPTION: Rules = &[
    ("display_name", By("spec.description", "every combination is a template")),
    ("choices", Read),
    ("unlisted_choice", By("a template per image", "an image that nobody named is an image that nobody checked")),
    ("dynamic_image_building", By("`cubicle image import`", "images are built elsewhere and imported")),
];

const CHOICE: Rules = &[
    ("display_name", Read),
    ("description", By("spec.description", "it is one line: the profile's name and its choices")),
    ("default", By("the gallery's order", "no template is chosen beforehand")),
    ("kubespawner_override", Read),
];

/// A size of memory as traitlets read it: K, M, G and T are powers of 1024 there.
fn memory(text: &str) -> Result<Bytes, Problem> {
    match text.strip_suffix(['K', 'M', 'G', 'T']) {
        Some(_) => Bytes::parse(&format!("{text}i")),
        None => Bytes::parse(text),
    }
}

/// A limit of CPU or memory.
pub(super) fn limit(reading: &mut Reading, key: &str, line: u32, node: &Node, cpu: bool, into: &mut Choice) {
    let field = if cpu { "spec.resources.cpu" } else { "spec.resources.memory" };
    if node.is_null() {
        return reading.replaced(key, line, field, "every workspace has a limit: the default");
    }
    if cpu {
        into.cpu = reading.parsed(key, node, MilliCpu::parse).or(into.cpu);
    } else {
        into.memory = reading.parsed(key, node, memory).or(into.memory);
    }
    reading.carried(key, line, field);
}

/// The command: what starts JupyterHub's single-user server has no place here.
pub(super) fn command(reading: &mut Reading, key: &str, line: u32, node: &Node, into: &mut Choice) {
    let words = reading.texts(key, node);
    if words.is_empty() || words.iter().any(|word| word.contains("jupyter") || word.contains("start-")) {
        let why =
            "the single-user server asks JupyterHub who may enter; here the hub does, and the image starts Jupyter";
        return reading.replaced(key, line, "the image's own command", why);
    }
    into.command = words;
    reading.carried(key, line, "spec.command");
}

/// Volume mounts: one that is Bidirectional is refused by name.
pub(super) fn mounts(reading: &mut Reading, key: &str, line: u32, node: &Node) {
    let mut refused = false;
    // A list, or a mapping of names to mounts.
    let mounts = node.items().iter().chain(node.entries().iter().map(|entry| &entry.node));
    for mount in mounts.filter(|mount| mount.text_at("mountPropagation") == Some("Bidirectional")) {
        let at: String =
            mount.text_at("mountPath").unwrap_or("a volume").chars().take(80).flat_map(char::escape_default).collect();
        reading.refused(
            key,
            mount.line,
            &format!("{at} is mounted Bidirectional: its mounts reach the node and every pod"),
        );
        refused = true;
    }
    if !refused {
        reading.replaced(
            key,
            line,
            "spec.datasets",
            "shared volumes are read-only data sets that the administrator registers",
        );
    }
}

/// Traits of KubeSpawner.
pub(super) fn traits(reading: &mut Reading, path: &str, node: &Node, into: &mut Choice) {
    for (key, entry) in reading.entries(node, path, TRAITS) {
        let (line, value) = (entry.line, &entry.node);
        match &*entry.key {
            "image" | "image_spec" => {
                into.image = reading.scalar(&key, value).or(into.image.take());
                reading.carried(&key, line, "spec.image");
            }
            "cpu_limit" => limit(reading, &key, line, value, true, into),
            "mem_limit" => limit(reading, &key, line, value, false, into),
            "port" => match value.integer().and_then(|port| u16::try_from(port).ok()) {
                Some(port @ 1024..) => {
                    into.port = Some(port);
                    reading.carried(&key, line, "spec.port");
                }
                _ => reading.wrong(line, format!("{key} must be a port from 1024 to 65535")),
            },
            "cmd" => command(reading, &key, line, value, into),
            "storage_capacity" => {
                into.home = reading.parsed(&key, value, Bytes::parse);
                reading.carried(&key, line, "spec.home.size");
            }
            "privileged" if reading.flag(&key, value) => {
                reading.refused(&key, line, "a privileged notebook owns the node and every user on it");
            }
            "allow_privilege_escalation" if reading.flag(&key, value) => {
                reading.refused(&key, line, "no level lets a process gain rights by a set-uid program");
            }
            "automount_service_account_token" if reading.flag(&key, value) => {
                reading.refused(&key, line, "a workspace has no token of the cluster's API");
            }
            "privileged" | "allow_privilege_escalation" | "automount_service_account_token" => {
                reading.replaced(&key, line, "every level", "it is never allowed");
            }
            "volume_mounts" => mounts(reading, &key, line, value),
            "init_containers" | "extra_containers" => {
                // A list, or a mapping of names to containers.
                let containers: Vec<&Node> =
                    value.items().iter().chain(value.entries().iter().map(|entry| &entry.node)).collect();
                for (position, container) in containers.into_iter().enumerate() {
                    reading.container(&format!("{key}[{position}]"), container);
                }
            }
            "extra_resource_limits" => {
                reading.refused(&key, line, "no engine passes a GPU or another device on yet");
            }
            "allowed_groups" => {
                into.groups = reading.texts(&key, value);
                reading.carried(&key, line, "spec.groups");
            }
            // The list itself is read by whoever found it.
            _ => {}
        }
    }
}

/// The profiles of a list, and what each of their choices makes of them.
pub(super) fn profiles(reading: &mut Reading, path: &str, list: &Node, base: &Choice, made: &mut Vec<(u32, Choice)>) {
    // A list, or a mapping of names to profiles as newer charts have it.
    let items: Vec<(String, &Node)> = match &list.value {
        Value::Map(entries) => entries.iter().map(|entry| (below(path, &entry.key), &entry.node)).collect(),
        _ => reading.items(path, list).iter().enumerate().map(|(at, item)| (format!("{path}[{at}]"), item)).collect(),
    };
    for (path, profile) in items {
        let mut choice = base.clone();
        let mut options = None;
        for (key, entry) in reading.entries(profile, &path, PROFILE) {
            let (line, value) = (entry.line, &entry.node);
            match &*entry.key {
                "display_name" => {
                    choice.title = reading.scalar(&key, value).unwrap_or_default();
                    reading.carried(&key, line, "metadata.name, spec.description");
                }
                "slug" => {
                    choice.slug = reading.scalar(&key, value);
                    reading.carried(&key, line, "metadata.name");
                }
                "allowed_groups" => {
                    choice.groups = reading.texts(&key, value);
                    reading.carried(&key, line, "spec.groups");
                }
                "kubespawner_override" => traits(reading, &key, value, &mut choice),
                _ => options = Some((key, value)),
            }
        }
        let mut chosen = vec![choice];
        if let Some((key, node)) = options {
            for option in node.entries() {
                let path = below(&key, &option.key);
                chosen = self::choices(reading, &path, &option.node, chosen);
            }
        }
        if made.len() + chosen.len() > MOST_TEMPLATES {
            reading
                .wrong(profile.line, format!("{path} makes more than {MOST_TEMPLATES} templates of all its choices"));
            return;
        }
        made.extend(chosen.into_iter().map(|choice| (profile.line, choice)));
    }
}

/// Every choice of one option with everything chosen before.
fn choices(reading: &mut Reading, path: &str, option: &Node, before: Vec<Choice>) -> Vec<Choice> {
    let entries = reading.entries(option, path, OPTION);
    let Some((key, entry)) = entries.iter().find(|(_, entry)| &*entry.key == "choices") else { return before };
    let mut after = Vec::new();
    for one in &before {
        for choice in entry.node.entries() {
            let path = below(key, &choice.key);
            let mut chosen = one.clone();
            let mut title = choice.key.to_string();
            for (key, entry) in reading.entries(&choice.node, &path, CHOICE) {
                if &*entry.key == "display_name" {
                    title = reading.scalar(&key, &entry.node).unwrap_or(title);
                    reading.carried(&key, entry.line, "spec.description");
                } else {
                    traits(reading, &key, &entry.node, &mut chosen);
                }
            }
            chosen.title = format!("{}, {title}", chosen.title);
            chosen.slug = chosen.slug.map(|slug| format!("{slug}-{}", choice.key));
            after.push(chosen);
            if after.len() > MOST_TEMPLATES {
                return after;
            }
        }
    }
    if after.is_empty() { before } else { after }
}
