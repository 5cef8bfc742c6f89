//! A pod as the checks read it: typed once, so that a field of the wrong type is an error and
//! never an absent field.

use cubicle_core::problem::Problem;
use serde_json::Value;

/// What kind of container it is, which decides its list in the specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Runs before the others, or beside them when it restarts always.
    Init,
    /// The usual kind.
    Main,
    /// Added to a running pod.
    Ephemeral,
}

/// A container and where it stands.
#[derive(Debug, Clone, Copy)]
pub struct Container<'a> {
    /// Its object.
    pub value: &'a Value,
    /// Which list it is in.
    pub role: Role,
    index: usize,
}

/// A pod, or the template of one.
#[derive(Debug, Clone, Copy)]
pub struct Pod<'a> {
    value: &'a Value,
}

/// A member that is there and not null: Go reads null as absent.
pub(crate) fn member<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    value.get(name).filter(|value| !value.is_null())
}

/// A member of a member.
pub(crate) fn deep<'a>(value: &'a Value, names: &[&str]) -> Option<&'a Value> {
    names.iter().try_fold(value, |value, name| member(value, name))
}

/// A text, or the empty one: Go cannot tell them apart.
pub(crate) fn text<'a>(value: &'a Value, names: &[&str]) -> &'a str {
    deep(value, names).and_then(Value::as_str).unwrap_or_default()
}

/// The entries of a list; none when it is absent.
pub(crate) fn list<'a>(value: &'a Value, names: &[&str]) -> &'a [Value] {
    deep(value, names).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

impl<'a> Pod<'a> {
    /// Reads a pod or a pod template.
    ///
    /// # Errors
    /// A field that a check reads has the wrong type.
    pub fn new(value: &'a Value) -> Result<Self, Problem> {
        let pod = Self { value };
        pod.check_types()?;
        Ok(pod)
    }

    /// The specification.
    pub fn spec(&self) -> &'a Value {
        self.value.get("spec").unwrap_or(&Value::Null)
    }

    /// The annotations, in no order.
    pub fn annotations(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        deep(self.value, &["metadata", "annotations"])
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
    }

    /// One annotation.
    pub fn annotation(&self, key: &str) -> Option<&'a str> {
        self.annotations().find(|(own, _)| *own == key).map(|(_, value)| value)
    }

    /// The pod's own security context.
    pub fn security(&self) -> Option<&'a Value> {
        member(self.spec(), "securityContext")
    }

    /// Every container of every kind.
    pub fn containers(&self) -> impl Iterator<Item = Container<'a>> {
        let spec = self.spec();
        [Role::Init, Role::Main, Role::Ephemeral].into_iter().flat_map(move |role| {
            list(spec, &[role.list()]).iter().enumerate().map(move |(index, value)| Container { value, role, index })
        })
    }

    /// Whether the pod runs on Windows, by its own word.
    pub fn is_windows(&self) -> bool {
        text(self.spec(), &["os", "name"]) == "windows"
    }

    /// Whether the pod asks for a user namespace.
    pub fn has_user_namespace(&self) -> bool {
        deep(self.spec(), &["hostUsers"]) == Some(&Value::Bool(false))
    }

    fn check_types(&self) -> Result<(), Problem> {
        let spec = self.spec();
        if !spec.is_object() {
            return Err(wrong("/spec", "an object", spec));
        }
        for name in ["hostNetwork", "hostPID", "hostIPC", "hostUsers", "shareProcessNamespace"] {
            want(spec, "/spec", &[name], Kind::Boolean)?;
        }
        want(spec, "/spec", &["automountServiceAccountToken"], Kind::Boolean)?;
        want(spec, "/spec", &["volumes"], Kind::List)?;
        want(spec, "/spec", &["os"], Kind::Object)?;
        want(spec, "/spec", &["securityContext", "sysctls"], Kind::List)?;
        security_types(spec, "/spec")?;
        for (index, volume) in list(spec, &["volumes"]).iter().enumerate() {
            if !volume.is_object() {
                return Err(wrong(&format!("/spec/volumes/{index}"), "an object", volume));
            }
        }
        for role in [Role::Init, Role::Main, Role::Ephemeral] {
            want(spec, "/spec", &[role.list()], Kind::List)?;
        }
        for container in self.containers() {
            let at = container.pointer();
            if !container.value.is_object() {
                return Err(wrong(&at, "an object", container.value));
            }
            want(container.value, &at, &["name"], Kind::Text)?;
            want(container.value, &at, &["ports"], Kind::List)?;
            security_types(container.value, &at)?;
            for name in ["privileged", "allowPrivilegeEscalation", "readOnlyRootFilesystem"] {
                want(container.value, &at, &["securityContext", name], Kind::Boolean)?;
            }
            want(container.value, &at, &["securityContext", "procMount"], Kind::Text)?;
            for name in ["add", "drop"] {
                want(container.value, &at, &["securityContext", "capabilities", name], Kind::List)?;
            }
            for (index, port) in list(container.value, &["ports"]).iter().enumerate() {
                want(port, &format!("{at}/ports/{index}"), &["hostPort"], Kind::Integer)?;
            }
        }
        Ok(())
    }
}

impl<'a> Container<'a> {
    /// Its name, or its place when it has none.
    pub fn name(&self) -> String {
        match text(self.value, &["name"]) {
            "" => format!("number {} of {}", self.index + 1, self.role.list()),
            name => name.to_owned(),
        }
    }

    /// Its security context.
    pub fn security(&self) -> Option<&'a Value> {
        member(self.value, "securityContext")
    }

    /// Where it stands in the pod, as a JSON pointer.
    pub fn pointer(&self) -> String {
        format!("/spec/{}/{}", self.role.list(), self.index)
    }
}

impl Role {
    /// The name of the list in the specification.
    pub fn list(self) -> &'static str {
        match self {
            Self::Init => "initContainers",
            Self::Main => "containers",
            Self::Ephemeral => "ephemeralContainers",
        }
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Boolean,
    Integer,
    Text,
    List,
    Object,
}

/// What pods and containers have in common.
fn security_types(owner: &Value, at: &str) -> Result<(), Problem> {
    want(owner, at, &["securityContext"], Kind::Object)?;
    want(owner, at, &["securityContext", "runAsNonRoot"], Kind::Boolean)?;
    want(owner, at, &["securityContext", "runAsUser"], Kind::Integer)?;
    want(owner, at, &["securityContext", "windowsOptions", "hostProcess"], Kind::Boolean)?;
    for name in ["seccompProfile", "appArmorProfile", "seLinuxOptions"] {
        want(owner, at, &["securityContext", name], Kind::Object)?;
        for field in ["type", "user", "role"] {
            want(owner, at, &["securityContext", name, field], Kind::Text)?;
        }
    }
    Ok(())
}

fn want(owner: &Value, at: &str, names: &[&str], kind: Kind) -> Result<(), Problem> {
    let Some(value) = deep(owner, names) else { return Ok(()) };
    let (fits, noun) = match kind {
        Kind::Boolean => (value.is_boolean(), "true or false"),
        Kind::Integer => (value.as_i64().is_some(), "a whole number"),
        Kind::Text => (value.is_string(), "a text"),
        Kind::List => (value.is_array(), "a list"),
        Kind::Object => (value.is_object(), "an object"),
    };
    if fits { Ok(()) } else { Err(wrong(&format!("{at}/{}", names.join("/")), noun, value)) }
}

fn wrong(at: &str, noun: &str, value: &Value) -> Problem {
    let shown: String = value.to_string().chars().take(40).collect();
    Problem::bad_input(
        format!("{} must be {noun}, not {shown}", at.trim_start_matches('/').replace('/', ".")),
        "the API server refuses such a pod; correct the field",
    )
}
