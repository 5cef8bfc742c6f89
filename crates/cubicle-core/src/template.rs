//! Templates: what can be launched. One schema for YAML files and custom resources.

use serde::{Deserialize, Serialize};

use crate::level::Level;
use crate::name::TemplateName;
use crate::problem::Problem;
use crate::quantity::{Bytes, MilliCpu};
use crate::scan::Scan;

/// The version of the document schema.
pub const API_VERSION: &str = "cubicle.dev/v1alpha1";

/// A template document, as `cubicle template apply -f FILE` reads it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Template {
    /// Always [`API_VERSION`].
    pub api_version: String,
    /// Always `Template`.
    pub kind: String,
    /// The name.
    pub metadata: Metadata,
    /// What is launched.
    pub spec: TemplateSpec,
}

/// The part of an object's metadata that a template has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metadata {
    /// The template's name.
    pub name: TemplateName,
}

/// What is launched and within which limits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TemplateSpec {
    /// One line for the gallery.
    #[serde(default)]
    pub description: String,
    /// An image name (`jupyterlab`) or digest (`sha256:...`) known to the engine.
    pub image: String,
    /// What a scanner found in the image. `cubicle template apply` writes it where the document
    /// says `image: {name, scan: FILE}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scan: Option<Scan>,
    /// The command; empty means the image's own.
    #[serde(default)]
    pub command: Vec<String>,
    /// The TCP port inside the workspace that the hub forwards to.
    #[serde(default = "default_port")]
    pub port: u16,
    /// Below which path the notebook server serves: `/`, or the path of a portal, which begins and
    /// ends with `/`.
    #[serde(default = "default_base_path", skip_serializing_if = "is_default_base_path")]
    pub base_path: String,
    /// The isolation level.
    #[serde(default = "default_level")]
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
    pub datasets: Vec<Dataset>,
    /// When an idle workspace is stopped.
    #[serde(default)]
    pub idle: Idle,
    /// Who may launch it; empty means everybody.
    #[serde(default)]
    pub groups: Vec<String>,
    /// What happens when a wall of a running workspace turns out to be down. Only the engine on
    /// Kubernetes proves by itself and acts on this.
    #[serde(default, skip_serializing_if = "OnBreach::is_default")]
    pub on_breach: OnBreach,
}

/// What happens when a wall of a running workspace turns out to be down.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnBreach {
    /// It is said: to its user, in its status, as an event.
    Warn,
    /// And nobody gets in until the wall holds again; what runs goes on.
    #[default]
    Close,
    /// And it is stopped.
    Stop,
}

impl OnBreach {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Limits of one workspace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Resources {
    /// Processor time.
    pub cpu: MilliCpu,
    /// Memory, without swap.
    pub memory: Bytes,
    /// Processes and threads.
    pub pids: u32,
    /// Size of `/tmp`, which is in memory and counts towards it.
    pub ephemeral_storage: Bytes,
}

impl Default for Resources {
    fn default() -> Self {
        Self { cpu: MilliCpu(1000), memory: Bytes(2 << 30), pids: 512, ephemeral_storage: Bytes(256 << 20) }
    }
}

/// The home volume.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Home {
    /// Hard size limit of a home that is made for this template.
    pub size: Bytes,
    /// Where it is mounted.
    pub mount_path: String,
    /// Promise more space than the host has; launches then stop at a host reserve.
    pub overcommit: bool,
}

impl Default for Home {
    fn default() -> Self {
        Self { size: Bytes(2 << 30), mount_path: "/home/user".to_owned(), overcommit: true }
    }
}

/// Where the workspace may connect to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Egress {
    /// The mode; must not be weaker than the level's.
    pub mode: EgressMode,
    /// Hosts that `allow-list` lets through: `host`, `host:port`, `*.domain`.
    #[serde(default)]
    pub allow: Vec<String>,
}

/// How far a workspace may connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EgressMode {
    /// Any public host, nothing private.
    Walled,
    /// Only listed hosts, and of these only public addresses.
    AllowList,
    /// No proxy at all.
    None,
}

/// A read-only data set of the site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Dataset {
    /// The name under which the administrator registered it.
    pub name: String,
    /// Where it is mounted.
    pub mount_path: String,
}

/// When an idle workspace is stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Idle {
    /// Seconds without a user's activity, written `30m`, `1h`, `90s`.
    pub after: Duration,
    /// The longest that a busy kernel keeps an unattended workspace alive.
    pub max_busy: Duration,
}

impl Default for Idle {
    fn default() -> Self {
        Self { after: Duration(3600), max_busy: Duration(24 * 3600) }
    }
}

/// A duration in whole seconds, written `90s`, `30m`, `2h` or `7d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Duration(pub u64);

impl TryFrom<String> for Duration {
    type Error = Problem;

    fn try_from(text: String) -> Result<Self, Problem> {
        let units = [('s', 1), ('m', 60), ('h', 3600), ('d', 86400)];
        units
            .into_iter()
            .find_map(|(unit, seconds)| {
                let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
                (1..=31_536_000).contains(&number.checked_mul(seconds)?).then_some(Self(number * seconds))
            })
            .ok_or_else(|| {
                let shown: String = text.chars().take(40).flat_map(char::escape_default).collect();
                Problem::bad_input(
                    format!("\"{shown}\" is not a duration between one second and one year"),
                    "write a whole number and s, m, h or d, for example 30m",
                )
            })
    }
}

impl From<Duration> for String {
    fn from(value: Duration) -> Self {
        for (unit, seconds) in [('d', 86400), ('h', 3600), ('m', 60)] {
            if value.0.is_multiple_of(seconds) {
                return format!("{}{unit}", value.0 / seconds);
            }
        }
        format!("{}s", value.0)
    }
}

/// The port that a template without one has.
pub fn default_port() -> u16 {
    8888
}

/// The base path that a template without one has.
pub fn default_base_path() -> String {
    "/".to_owned()
}

fn is_default_base_path(path: &str) -> bool {
    path == "/"
}

/// The level that a template without one has.
pub fn default_level() -> Level {
    Level::Standard
}

impl Template {
    /// Checks what the schema cannot express. Names the field, the rule and the remedy.
    pub fn validate(&self) -> Result<(), Problem> {
        let field = |name: &str, rule: String, remedy: &str| {
            Err(Problem::bad_input(format!("template \"{}\": {name} {rule}", self.metadata.name), remedy))
        };
        if self.api_version != API_VERSION {
            return field(
                "apiVersion",
                format!("is \"{}\"", self.api_version.escape_default()),
                "use cubicle.dev/v1alpha1",
            );
        }
        if self.kind != "Template" {
            return field("kind", format!("is \"{}\"", self.kind.escape_default()), "use Template");
        }
        let spec = &self.spec;
        if spec.image.is_empty()
            || spec.image.len() > 255
            || spec.image.chars().any(|c| c.is_control() || c.is_whitespace())
        {
            return field(
                "spec.image",
                "is empty, too long or has white space".to_owned(),
                "name an image of `cubicle image list`",
            );
        }
        if spec.port < 1024 {
            return field(
                "spec.port",
                format!("is {}; a tenant cannot listen below 1024", spec.port),
                "use 1024 to 65535",
            );
        }
        if !is_base_path(&spec.base_path) {
            return field(
                "spec.basePath",
                format!("is \"{}\"", spec.base_path.escape_default()),
                "use / or a path like /lw-workspace/proxy/, of letters, digits, - . _ and ~, with a slash at both ends",
            );
        }
        if spec.resources.memory.0 < 128 << 20 {
            return field("spec.resources.memory", format!("is {}", spec.resources.memory), "give at least 128Mi");
        }
        if spec.resources.cpu.0 < 50 {
            return field("spec.resources.cpu", format!("is {}", spec.resources.cpu), "give at least 50m");
        }
        if !(32..=65_536).contains(&spec.resources.pids) {
            return field("spec.resources.pids", format!("is {}", spec.resources.pids), "use 32 to 65536");
        }
        if spec.home.size.0 < 16 << 20 {
            return field("spec.home.size", format!("is {}", spec.home.size), "give at least 16Mi");
        }
        mount_path("spec.home.mountPath", &spec.home.mount_path)
            .and_then(|()| {
                spec.datasets.iter().try_for_each(|set| mount_path("spec.datasets.mountPath", &set.mount_path))
            })
            .map_err(|problem| Problem {
                what: format!("template \"{}\": {}", self.metadata.name, problem.what),
                ..problem
            })?;
        if let Some(egress) = &spec.egress {
            let chosen = match spec.level {
                Level::Strict => EgressMode::AllowList,
                _ => EgressMode::Walled,
            };
            if egress.mode < chosen {
                return field(
                    "spec.egress.mode",
                    format!("is weaker than level {} promises", spec.level),
                    "choose allow-list or none, or a lower level",
                );
            }
            if egress.mode != EgressMode::AllowList && !egress.allow.is_empty() {
                return field(
                    "spec.egress.allow",
                    "is set without mode allow-list".to_owned(),
                    "set egress.mode: allow-list",
                );
            }
        }
        Ok(())
    }

    /// The egress mode and list that hold: the template's, else the level's.
    pub fn egress(&self) -> Egress {
        self.spec.egress.clone().unwrap_or(Egress {
            mode: if self.spec.level == Level::Strict { EgressMode::AllowList } else { EgressMode::Walled },
            allow: Vec::new(),
        })
    }
}

/// A path that needs no encoding and means one place only.
fn is_base_path(path: &str) -> bool {
    let plain = |part: &str| {
        !matches!(part, "" | "." | "..")
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
    };
    path == "/"
        || (path.len() <= 255
            && path
                .strip_prefix('/')
                .and_then(|rest| rest.strip_suffix('/'))
                .is_some_and(|rest| rest.split('/').all(plain)))
}

/// A path that a volume may be mounted at: absolute, plain, and outside what the sandbox owns.
fn mount_path(field: &str, path: &str) -> Result<(), Problem> {
    const RESERVED: [&str; 9] = ["/proc", "/sys", "/dev", "/tmp", "/usr", "/bin", "/lib", "/etc", "/.cubicle"];
    let plain = path.starts_with('/')
        && path.len() > 1
        && path.len() <= 255
        && path.split('/').skip(1).all(|part| !part.is_empty() && part != "." && part != "..")
        && !path.chars().any(char::is_control);
    let reserved = RESERVED.iter().any(|root| path == *root || path.starts_with(&format!("{root}/")));
    if plain && !reserved {
        return Ok(());
    }
    Err(Problem::bad_input(
        format!("{field} \"{}\" is not a free absolute path", path.escape_default()),
        "use a path like /home/user or /data/name, without \"..\" and outside /proc, /sys, /dev, /tmp, /usr, /bin, /lib, /etc",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(level: Level, egress: Option<Egress>) -> Template {
        Template {
            api_version: API_VERSION.to_owned(),
            kind: "Template".to_owned(),
            metadata: Metadata { name: "t".parse().expect("valid") },
            spec: TemplateSpec {
                description: String::new(),
                image: "jupyterlab".to_owned(),
                scan: None,
                command: Vec::new(),
                port: 8888,
                base_path: default_base_path(),
                level,
                resources: Resources::default(),
                home: Home::default(),
                egress,
                datasets: Vec::new(),
                idle: Idle::default(),
                groups: Vec::new(),
                on_breach: OnBreach::default(),
            },
        }
    }

    #[test]
    fn egress_is_never_weaker_than_the_level() {
        let open = Some(Egress { mode: EgressMode::Walled, allow: Vec::new() });
        assert!(document(Level::Strict, open.clone()).validate().is_err());
        assert!(document(Level::Standard, open).validate().is_ok());
        assert_eq!(document(Level::Strict, None).egress().mode, EgressMode::AllowList);
    }

    #[test]
    fn mount_paths_stay_out_of_the_sandbox() {
        for path in ["", "/", "home", "/home/../etc", "/proc/x", "/etc", "/a//b", "/a\n"] {
            assert!(mount_path("f", path).is_err(), "{path}");
        }
        assert!(mount_path("f", "/home/user").is_ok());
    }

    #[test]
    fn base_paths_mean_one_place() {
        for path in ["/", "/lw-workspace/proxy/", "/a.b/~c/"] {
            assert!(is_base_path(path), "{path}");
        }
        for path in ["", "//", "/a", "a/", "/a//b/", "/../", "/a/./", "/%2e/", "/a b/", "/\u{e9}/", "/a?/", "/a\n/"] {
            assert!(!is_base_path(path), "{path:?}");
        }
    }

    #[test]
    fn durations_have_a_unit_and_a_bound() {
        for text in ["", "1", "0s", "-1m", "2y", "999d", "99999999999999999999s"] {
            assert!(Duration::try_from(text.to_owned()).is_err(), "{text}");
        }
        assert_eq!(Duration::try_from("30m".to_owned()).expect("valid").0, 1800);
        assert_eq!(String::from(Duration(1800)), "30m");
    }
}
