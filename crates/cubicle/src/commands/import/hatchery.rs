//! `hatchery.json` of Gen3. Keys as in hatchery/config.go of uc-cdis/hatchery.

use cubicle_audit::snapshot::Node;
use cubicle_core::quantity::{Bytes, MilliCpu};
use cubicle_core::template::{Duration, Template};

use super::blank;
use super::reading::{Reading, Rule, Rules};
use Rule::{By, Read};

const PAY: &str =
    "pay models choose a cloud account; a workspace runs where its engine runs, and usage is counted per user";

const ROOT: Rules = &[
    ("user-namespace", By("a namespace per workspace", "one shared namespace lets users reach each other")),
    ("default-pay-model", By("nothing", PAY)),
    ("pay-models", By("nothing", PAY)),
    ("pay-models-dynamodb-table", By("nothing", PAY)),
    ("pay-models-dynamodb-arn", By("nothing", PAY)),
    ("skip-node-selector", By("the chart's values", "nodes are chosen for all workspaces, not per file")),
    ("use-internal-services-url", By("spec.egress", "a workspace reaches no internal service unless it is listed")),
    ("license-user-maps-dynamodb-table", By("spec.groups", "seats are the members of a group")),
    ("license-user-maps-global-secondary-index", By("spec.groups", "seats are the members of a group")),
    ("license", By("spec.groups", "seats are the members of a group")),
    ("sub-dir", By("an origin per workspace", "a path on the portal's origin gives notebooks the portal's cookies")),
    ("containers", Read),
    ("user-volume-size", Read),
    ("sidecar", Read),
    ("more-configs", By("`cubicle image import`", "compose files name images; import them and write a template each")),
    ("prisma", By("`cubicle verify`", "walls are proven from inside instead of watched by an agent")),
    ("nextflow-global", By("nothing", "jobs in a cloud account need its keys in the notebook")),
    ("pricing", By("usage per user", "hours of CPU and memory are counted; prices are the site's")),
];

const SIDECAR: Rules = &[
    ("cpu-limit", By("nothing", "the sidecar is refused")),
    ("memory-limit", By("nothing", "the sidecar is refused")),
    ("image", Read),
    ("env", By("nothing", "the sidecar is refused")),
    ("args", By("nothing", "the sidecar is refused")),
    ("command", By("nothing", "the sidecar is refused")),
    ("lifecycle-pre-stop", By("nothing", "the sidecar is refused")),
];

const CONTAINER: Rules = &[
    ("name", Read),
    ("gpu", Read),
    ("cpu-limit", Read),
    ("memory-limit", Read),
    ("image", Read),
    ("pull_policy", By("the image's digest", "a digest needs no policy")),
    ("env", By("ENV in the image", "templates hold no environment, so that nobody keeps a secret in one")),
    ("target-port", Read),
    ("args", Read),
    ("command", Read),
    ("path-rewrite", Read),
    ("use-tls", By("a socket that the engine connects", "nothing between hub and notebook crosses a network unproven")),
    (
        "ready-probe",
        By("the proof before the start", "a workspace opens when its walls are proven and its port answers"),
    ),
    ("lifecycle-pre-stop", By("the image", "what runs at the end belongs into the image's command")),
    ("lifecycle-post-start", By("the image", "what runs at the start belongs into the image's command")),
    ("user-uid", By("uid 1000 inside", "every workspace has a range of uids of its own outside")),
    ("group-uid", By("gid 1000 inside", "every workspace has a range of gids of its own outside")),
    ("fs-gid", By("the home's owner", "a home is its user's alone")),
    ("user-volume-location", Read),
    (
        "gen3-volume-location",
        By("nothing", "keys of the data commons do not lie in a volume; upload one into the home"),
    ),
    ("use-shared-memory", By("spec.resources.memory", "/dev/shm is there and counts towards the memory")),
    ("friends", Read),
    ("nextflow", By("nothing", "jobs in a cloud account need its keys in the notebook")),
    ("license", By("spec.groups", "seats are the members of a group; the licence file belongs into a data set")),
    ("authz", Read),
];

/// Reads the whole file.
pub(super) fn read(reading: &mut Reading, root: &Node) {
    let entries = reading.entries(root, "", ROOT);
    let mut home = None;
    for (key, entry) in &entries {
        match &*entry.key {
            "user-volume-size" => {
                home = reading.parsed(key, &entry.node, Bytes::parse);
                reading.carried(key, entry.line, "spec.home.size");
            }
            "sidecar" => sidecar(reading, key, entry.line, &entry.node),
            _ => {}
        }
    }
    for (key, entry) in entries.iter().filter(|(_, entry)| &*entry.key == "containers") {
        for (position, container) in reading.items(key, &entry.node).iter().enumerate() {
            self::container(reading, &format!("{key}[{position}]"), container, home);
        }
    }
}

fn sidecar(reading: &mut Reading, key: &str, line: u32, node: &Node) {
    reading.entries(node, key, SIDECAR);
    let image: String =
        node.text_at("image").unwrap_or_default().chars().take(200).flat_map(char::escape_default).collect();
    reading.refused(
        key,
        line,
        &format!("\"{image}\" runs privileged and as root beside every user; give its data as spec.datasets"),
    );
    // Hatchery's code, not the file, mounts it so.
    reading.refused(
        &format!("{key} (mount /data)"),
        line,
        &format!("\"{image}\" mounts /data Bidirectional: its mounts reach the node and every pod"),
    );
}

fn container(reading: &mut Reading, path: &str, node: &Node, home: Option<Bytes>) {
    let title = node.text_at("name").unwrap_or("imported");
    let Some(name) = reading.name(title) else { return };
    let mut template = blank(name.clone(), title);
    if let Some(size) = home {
        template.spec.home.size = size;
    }
    if node.get("image").is_none() {
        reading.wrong(node.line, format!("{path}.image is missing"));
    }
    let (mut command, mut arguments) = (None, None);
    for (key, entry) in reading.entries(node, path, CONTAINER) {
        let (line, value) = (entry.line, &entry.node);
        let spec = &mut template.spec;
        match &*entry.key {
            "name" => reading.carried(&key, line, "metadata.name, spec.description"),
            "image" => {
                spec.image = reading.scalar(&key, value).unwrap_or_default();
                reading.carried(&key, line, "spec.image");
            }
            "cpu-limit" => {
                spec.resources.cpu = reading.parsed(&key, value, MilliCpu::parse).unwrap_or(spec.resources.cpu);
                reading.carried(&key, line, "spec.resources.cpu");
            }
            "memory-limit" => {
                spec.resources.memory = reading.parsed(&key, value, Bytes::parse).unwrap_or(spec.resources.memory);
                reading.carried(&key, line, "spec.resources.memory");
            }
            "target-port" => match value.integer().and_then(|port| u16::try_from(port).ok()) {
                Some(port @ 1024..) => {
                    spec.port = port;
                    reading.carried(&key, line, "spec.port");
                }
                Some(_) => reading.replaced(
                    &key,
                    line,
                    "spec.port 8888",
                    "nobody in a workspace may listen below 1024; the image finds its port in CUBICLE_PORT",
                ),
                None => reading.wrong(line, format!("{key} must be a port from 1 to 65535")),
            },
            "gpu" if reading.flag(&key, value) => reading.refused(&key, line, "no engine passes a GPU on yet"),
            "gpu" => reading.replaced(&key, line, "nothing", "it is off"),
            "user-volume-location" => {
                spec.home.mount_path = reading.scalar(&key, value).unwrap_or_default();
                reading.carried(&key, line, "spec.home.mountPath");
            }
            "path-rewrite" => {
                spec.base_path = reading.scalar(&key, value).unwrap_or_else(|| "/".to_owned());
                reading.carried(&key, line, "spec.basePath");
            }
            "command" => command = Some((key.clone(), line, reading.texts(&key, value))),
            "args" => arguments = Some((key.clone(), line, reading.texts(&key, value))),
            "friends" => {
                for (position, friend) in reading.items(&key, value).iter().enumerate() {
                    reading.container(&format!("{key}[{position}]"), friend);
                }
            }
            // Whoever could not launch it before must not be able to now.
            "authz" => {
                spec.groups = vec![name.to_string()];
                reading.replaced(
                    &key,
                    line,
                    &format!("spec.groups: [{name}]"),
                    "nobody asks the policy engine; only members of this group may launch it",
                );
            }
            _ => {}
        }
    }
    start(reading, &mut template, command, arguments);
    reading.template(node.line, template);
}

/// A key, its line, and the words.
type Words = Option<(String, u32, Vec<String>)>;

/// Command and arguments: Jupyter's are the image's business, everything else is carried over.
fn start(reading: &mut Reading, template: &mut Template, command: Words, arguments: Words) {
    let words: Vec<&String> = [&command, &arguments].into_iter().flatten().flat_map(|(_, _, words)| words).collect();
    let seconds = words.iter().find_map(|word| word.split_once("shutdown_no_activity_timeout=")?.1.parse::<u64>().ok());
    let idle = seconds.and_then(|seconds| Duration::try_from(format!("{seconds}s")).ok());
    if let Some(idle) = idle {
        template.spec.idle.after = idle;
    }
    let jupyter = words
        .iter()
        .any(|word| word.contains("App.") || word.contains("jupyter") || word.ends_with("start-notebook.sh"));
    if !jupyter {
        template.spec.command = words.into_iter().cloned().collect();
    }
    for (key, line, words) in [command, arguments].into_iter().flatten() {
        if words.is_empty() {
            reading.replaced(&key, line, "nothing", "it is empty");
        } else if !jupyter {
            reading.carried(&key, line, "spec.command");
        } else {
            let of_idle = idle.is_some() && words.iter().any(|word| word.contains("shutdown_no_activity_timeout="));
            let by = if of_idle { "the image's own command, and spec.idle.after" } else { "the image's own command" };
            reading.replaced(
                &key,
                line,
                by,
                "the image starts Jupyter on CUBICLE_PORT below CUBICLE_BASE with CUBICLE_TOKEN; without a token it would be open",
            );
        }
    }
}
