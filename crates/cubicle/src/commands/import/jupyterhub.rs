//! KubeSpawner's `profile_list` and the values of Zero to JupyterHub.
//!
//! Keys as in jupyterhub/helm-chart/values.schema.yaml of zero-to-jupyterhub-k8s 4 and the traits of
//! KubeSpawner 7.

use std::path::Path;

use cubicle_audit::snapshot::{Node, Value};
use cubicle_core::problem::Problem;
use cubicle_core::quantity::Bytes;
use cubicle_core::template::{Duration, Template};

use super::blank;
use super::reading::{Reading, Rule, Rules, below};
use super::spawner::{self, Choice};
use Rule::{By, Read};

const CHART: &str = "this configures the chart's own pods; Cubicle's chart has values of its own";
const POD: &str = "the engine writes the pod; what a tenant's pod may hold is the wall itself";

const ROOT: Rules = &[
    ("singleuser", Read),
    ("hub", Read),
    ("cull", Read),
    ("profile_list", Read),
    ("fullnameOverride", By("the chart's values", CHART)),
    ("nameOverride", By("the chart's values", CHART)),
    ("enabled", By("the chart's values", CHART)),
    ("imagePullSecret", By("`cubicle image import`", "images are imported by digest; nothing is pulled at a launch")),
    ("imagePullSecrets", By("`cubicle image import`", "images are imported by digest; nothing is pulled at a launch")),
    (
        "proxy",
        By("`cubicle hub` or `cubicle proxy`", "the proxy is a part of the hub; its TLS and limits are options of it"),
    ),
    ("rbac", By("the chart's values", CHART)),
    ("scheduling", By("the chart's values", CHART)),
    ("prePuller", By("`cubicle image import`", "images are there before a launch")),
    ("ingress", By("the chart's values", CHART)),
    ("httpRoute", By("the chart's values", CHART)),
    ("debug", By("CUBICLE_LOG", "what is logged is a setting of the process")),
    ("global", By("the chart's values", CHART)),
    ("custom", By("nothing", "only code in hub.extraConfig reads it")),
];

const SINGLEUSER: Rules = &[
    ("podNameTemplate", By("opaque names", "names made of user names collide")),
    ("extraTolerations", By("the chart's values", POD)),
    ("nodeSelector", By("the chart's values", POD)),
    ("extraNodeAffinity", By("the chart's values", POD)),
    ("extraPodAffinity", By("the chart's values", POD)),
    ("extraPodAntiAffinity", By("the chart's values", POD)),
    ("networkTools", By("default deny", "nothing has to rewrite packets in the pod")),
    ("cloudMetadata", Read),
    ("networkPolicy", Read),
    ("events", By("the launch page", "the steps of a launch are told as they happen")),
    ("extraAnnotations", By("nothing", POD)),
    ("extraLabels", By("nothing", POD)),
    ("extraFiles", By("the image", "files that every user gets belong into the image or a data set")),
    ("extraEnv", By("ENV in the image", "templates hold no environment, so that nobody keeps a secret in one")),
    ("lifecycleHooks", By("the image", "what runs at the start or end belongs into the image's command")),
    ("initContainers", Read),
    ("extraContainers", Read),
    ("allowPrivilegeEscalation", Read),
    ("uid", By("uid 1000 inside", "every workspace has a range of uids of its own outside")),
    ("fsGid", By("the home's owner", "a home is its user's alone")),
    ("serviceAccountName", By("no service account", "a workspace has no token of the cluster's API")),
    ("storage", Read),
    ("image", Read),
    ("startTimeout", By("the hub's own bound", "a launch that is not proven in time is refused")),
    ("cpu", Read),
    ("memory", Read),
    ("extraResource", By("spec.resources", "limits that a template does not have are not asked for")),
    ("cmd", Read),
    ("defaultUrl", By("the image's own command", "the image opens JupyterLab")),
    ("extraPodConfig", By("nothing", POD)),
    ("profileList", Read),
];

const STORAGE: Rules = &[
    ("type", By("a home volume", "every user has one, with a hard size limit")),
    ("extraLabels", By("nothing", POD)),
    ("extraAnnotations", By("nothing", POD)),
    ("extraVolumes", By("spec.datasets", "shared volumes are read-only data sets that the administrator registers")),
    ("extraVolumeMounts", Read),
    ("capacity", Read),
    ("homeMountPath", Read),
    ("dynamic", By("the engine's volumes", "the engine makes the volume")),
    ("static", By("the engine's volumes", "one claim for all users lets them fill, and find, each other's files")),
];

const HUB: Rules = &[
    ("config", Read),
    ("revisionHistoryLimit", By("the chart's values", CHART)),
    ("service", By("the chart's values", CHART)),
    ("baseUrl", By("CUBICLE_URL", "the hub has an origin of its own")),
    ("cookieSecret", By("the hub's own keys", "the hub makes them")),
    ("initContainers", By("the chart's values", CHART)),
    ("fsGid", By("the chart's values", CHART)),
    ("nodeSelector", By("the chart's values", CHART)),
    ("tolerations", By("the chart's values", CHART)),
    ("concurrentSpawnLimit", By("the engine's room", "launches wait for the room that there is")),
    ("consecutiveFailureLimit", By("nothing", "a failed launch fails alone; the hub goes on")),
    ("activeServerLimit", By("the engine's room", "launches wait for the room that there is")),
    ("deploymentStrategy", By("the chart's values", CHART)),
    ("db", By("the hub's own records", "accounts and sessions are kept without a database server")),
    ("labels", By("the chart's values", CHART)),
    ("annotations", By("the chart's values", CHART)),
    ("command", By("the chart's values", CHART)),
    ("args", By("the chart's values", CHART)),
    ("extraConfig", By("nothing", "Python that runs inside the hub could do all that the hub can")),
    ("extraFiles", By("the chart's values", CHART)),
    ("extraEnv", By("the chart's values", CHART)),
    ("extraContainers", By("the chart's values", CHART)),
    ("extraVolumes", By("the chart's values", CHART)),
    ("extraVolumeMounts", By("the chart's values", CHART)),
    ("image", By("the chart's values", CHART)),
    ("resources", By("the chart's values", CHART)),
    ("podSecurityContext", By("the chart's values", CHART)),
    ("containerSecurityContext", By("the chart's values", CHART)),
    ("lifecycle", By("the chart's values", CHART)),
    ("services", By("an API token", "a service is an account with a token of its own")),
    ("pdb", By("the chart's values", CHART)),
    ("networkPolicy", By("the chart's values", CHART)),
    ("allowNamedServers", By("nothing", "workspaces always have names")),
    ("namedServerLimitPerUser", By("the engine's room", "launches wait for the room that there is")),
    ("authenticatePrometheus", By("a listener of its own", "metrics are not on the public address")),
    ("redirectToServer", By("the hub's first page", "it lists the user's workspaces")),
    ("shutdownOnLogout", By("spec.idle", "a workspace lives on until it is idle")),
    ("templatePaths", By("nothing", "pages are part of the program")),
    ("templateVars", By("nothing", "pages are part of the program")),
    ("livenessProbe", By("the chart's values", CHART)),
    ("readinessProbe", By("the chart's values", CHART)),
    ("existingSecret", By("the chart's values", CHART)),
    ("serviceAccount", By("the chart's values", CHART)),
    ("extraPodSpec", By("the chart's values", CHART)),
    ("loadRoles", By("roles of accounts", "roles are a property of accounts: `cubicle user`")),
];

const CULL: Rules = &[
    ("enabled", Read),
    ("users", By("nothing", "accounts stay; `cubicle user disable` ends one")),
    ("adminUsers", By("spec.idle", "administrators' workspaces are idle like everybody's")),
    ("removeNamedServers", By("nothing", "a stopped workspace keeps its name and home")),
    ("timeout", Read),
    ("every", By("the engine's idle watch", "it looks by itself")),
    ("concurrency", By("the engine's idle watch", "it looks by itself")),
    ("maxAge", Read),
];

/// Refuses a `jupyterhub_config.py`: it is a program, and programs of a file are not run.
pub(super) fn refuse_program(file: &Path, bytes: &[u8]) -> Result<(), Problem> {
    let head = String::from_utf8_lossy(bytes.get(..64 << 10).unwrap_or(bytes));
    let program = file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("py"))
        || head.lines().any(|line| {
            line.starts_with("c = get_config")
                || (line.starts_with("c.") && line.contains('='))
                || line.starts_with("import ")
        });
    if !program {
        return Ok(());
    }
    Err(Problem::bad_input(
        format!("{} is a Python program, and is not run: it could do anything", file.display()),
        "give the chart's values (`helm get values RELEASE`), or what c.KubeSpawner.profile_list holds, written with \
         json.dumps, as a file",
    ))
}

/// Reads the whole file: values, the same below `jupyterhub:` as umbrella charts have it, or a list.
pub(super) fn read(reading: &mut Reading, root: &Node) {
    let mut base = Choice::default();
    if matches!(root.value, Value::List(_)) {
        let profiles = Some(("profile_list".to_owned(), root));
        return templates(reading, root.line, base, profiles);
    }
    let (path, values) = match (root.entries(), root.get("jupyterhub")) {
        ([_], Some(inner)) => ("jupyterhub", inner),
        _ => ("", root),
    };
    let mut profiles = None;
    let entries = reading.entries(values, path, ROOT);
    for (key, entry) in &entries {
        match &*entry.key {
            "singleuser" => {
                if let Some(found) = singleuser(reading, key, &entry.node, &mut base) {
                    profiles = Some(found);
                }
            }
            "hub" => hub(reading, key, &entry.node, &mut base, &mut profiles),
            "cull" => cull(reading, key, &entry.node, &mut base),
            "profile_list" => profiles = Some((key.clone(), &entry.node)),
            _ => {}
        }
    }
    templates(reading, values.line, base, profiles);
}

fn singleuser<'a>(reading: &mut Reading, path: &str, node: &'a Node, base: &mut Choice) -> Option<(String, &'a Node)> {
    let mut profiles = None;
    for (key, entry) in reading.entries(node, path, SINGLEUSER) {
        let (line, value) = (entry.line, &entry.node);
        match &*entry.key {
            "profileList" => profiles = Some((key, value)),
            "image" => image(reading, &key, value, base),
            "cpu" | "memory" => limits(reading, &key, &entry.key, value, base),
            "storage" => storage(reading, &key, value, base),
            "cmd" => spawner::command(reading, &key, line, value, base),
            "initContainers" | "extraContainers" => {
                for (position, container) in reading.items(&key, value).iter().enumerate() {
                    reading.container(&format!("{key}[{position}]"), container);
                }
            }
            "allowPrivilegeEscalation" if reading.flag(&key, value) => {
                reading.refused(&key, line, "no level lets a process gain rights by a set-uid program");
            }
            "allowPrivilegeEscalation" => reading.replaced(&key, line, "every level", "it is never allowed"),
            "cloudMetadata" => {
                let open = value.get("blockWithIptables").and_then(Node::bool) == Some(false);
                let why = "the metadata service is out of reach at every level, and that is proven";
                let why = if open { format!("{why}; it was open") } else { why.to_owned() };
                reading.replaced(&key, line, "every level", &why);
            }
            "networkPolicy" => network(reading, &key, line, value),
            _ => {}
        }
    }
    profiles
}

fn network(reading: &mut Reading, key: &str, line: u32, node: &Node) {
    let off = node.get("enabled").and_then(Node::bool) == Some(false);
    let rules = ["egress", "ingress", "egressAllowRules"].iter().any(|name| node.get(name).is_some());
    if off {
        reading.refused(
            key,
            line,
            "a workspace without a network policy reaches other users; default deny cannot be turned off",
        );
    } else if rules {
        reading.replaced(
            key,
            line,
            "spec.egress",
            "rules by address become names: set egress.mode: allow-list with the hosts; ingress is the hub's alone",
        );
    } else {
        reading.replaced(key, line, "default deny", "every workspace has it");
    }
}

fn image(reading: &mut Reading, path: &str, node: &Node, base: &mut Choice) {
    const KEYS: Rules = &[
        ("name", Read),
        ("tag", Read),
        ("pullPolicy", By("the image's digest", "a digest needs no policy")),
        ("pullSecrets", By("`cubicle image import`", "nothing is pulled at a launch")),
    ];
    let (mut name, mut tag) = (None, None);
    for (key, entry) in reading.entries(node, path, KEYS) {
        let text = reading.scalar(&key, &entry.node).filter(|text| !text.is_empty());
        reading.carried(&key, entry.line, "spec.image");
        if &*entry.key == "name" { name = text } else { tag = text }
    }
    match (name, tag) {
        (Some(name), Some(tag)) => base.image = Some(format!("{name}:{tag}")),
        (Some(name), None) => base.image = Some(name),
        (None, Some(_)) => reading.wrong(node.line, format!("{path}.tag is set without {path}.name")),
        (None, None) => {}
    }
}

fn limits(reading: &mut Reading, path: &str, which: &str, node: &Node, base: &mut Choice) {
    const KEYS: Rules =
        &[("limit", Read), ("guarantee", By("spec.resources", "what is limited is also what is set aside"))];
    for (key, entry) in reading.entries(node, path, KEYS) {
        spawner::limit(reading, &key, entry.line, &entry.node, which == "cpu", base);
    }
}

fn storage(reading: &mut Reading, path: &str, node: &Node, base: &mut Choice) {
    for (key, entry) in reading.entries(node, path, STORAGE) {
        match &*entry.key {
            "capacity" => {
                base.home = reading.parsed(&key, &entry.node, Bytes::parse);
                reading.carried(&key, entry.line, "spec.home.size");
            }
            "homeMountPath" => {
                base.mount_path = reading.scalar(&key, &entry.node);
                reading.carried(&key, entry.line, "spec.home.mountPath");
            }
            _ => spawner::mounts(reading, &key, entry.line, &entry.node),
        }
    }
}

fn cull(reading: &mut Reading, path: &str, node: &Node, base: &mut Choice) {
    let off = node.get("enabled").and_then(Node::bool) == Some(false);
    for (key, entry) in reading.entries(node, path, CULL) {
        let seconds = |reading: &mut Reading| {
            let parse = |text: &str| {
                if text == "0" { Ok(None) } else { Duration::try_from(format!("{text}s")).map(Some) }
            };
            reading.parsed(&key, &entry.node, parse).flatten()
        };
        match &*entry.key {
            "enabled" if off => {
                reading.replaced(
                    &key,
                    entry.line,
                    "spec.idle.after",
                    "an idle workspace is always stopped in the end; its home stays",
                );
            }
            "enabled" => reading.replaced(&key, entry.line, "spec.idle", "an idle workspace is always stopped"),
            "timeout" => {
                base.idle = seconds(reading).filter(|_| !off).or(base.idle);
                reading.carried(&key, entry.line, "spec.idle.after");
            }
            _ => match seconds(reading) {
                Some(age) => {
                    base.max_busy = Some(age);
                    reading.replaced(
                        &key,
                        entry.line,
                        "spec.idle.maxBusy",
                        "only a workspace that nobody looks at ends at that age",
                    );
                }
                None => reading.replaced(&key, entry.line, "nothing", "it is off"),
            },
        }
    }
}

fn hub<'a>(
    reading: &mut Reading,
    path: &str,
    node: &'a Node,
    base: &mut Choice,
    profiles: &mut Option<(String, &'a Node)>,
) {
    for (key, entry) in reading.entries(node, path, HUB) {
        for class in entry.node.entries() {
            let path = below(&key, &class.key);
            if &*class.key == "KubeSpawner" {
                if let Some(list) = class.node.get("profile_list") {
                    *profiles = Some((below(&path, "profile_list"), list));
                }
                spawner::traits(reading, &path, &class.node, base);
                continue;
            }
            let by = match &*class.key {
                "JupyterHub" => "`cubicle hub`",
                name if name.contains("Authenticator") => "the hub's sign-in",
                _ => "nothing",
            };
            for option in class.node.entries() {
                let why = "it configures a Python class of JupyterHub; set what it is for in the hub";
                reading.replaced(&below(&path, &option.key), option.line, by, why);
            }
        }
    }
}

/// One template per profile and choice; one from the base alone when there are no profiles.
fn templates(reading: &mut Reading, line: u32, base: Choice, profiles: Option<(String, &Node)>) {
    let mut made: Vec<(u32, Choice)> = Vec::new();
    match profiles {
        Some((key, list)) => spawner::profiles(reading, &key, list, &base, &mut made),
        None => made.push((line, base)),
    }
    for (line, choice) in made {
        let title = if choice.title.is_empty() { "JupyterHub".to_owned() } else { choice.title.clone() };
        let Some(name) = reading.name(choice.slug.as_deref().unwrap_or(&title)) else { return };
        let mut template: Template = blank(name, &title);
        choice.fill(&mut template.spec);
        reading.template(line, template);
    }
}
