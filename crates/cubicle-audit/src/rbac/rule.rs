//! One policy rule, and whether it allows a request.
//!
//! Semantics: <https://kubernetes.io/docs/reference/access-authn-authz/rbac/>. A rule is a
//! product of its lists; an empty list of resource names means every name, while an empty list
//! of anything else means nothing.

use serde::{Deserialize, Deserializer, Serialize};

/// Reads a list that may be absent or `null`, as Go writes an empty one.
pub(crate) fn list<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// A policy rule of a role.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rule {
    /// What may be done; `*` is everything.
    #[serde(deserialize_with = "list")]
    pub verbs: Vec<String>,
    /// API groups; the core group is the empty string, `*` is all.
    #[serde(deserialize_with = "list", skip_serializing_if = "Vec::is_empty")]
    pub api_groups: Vec<String>,
    /// Resources as `pods`, `pods/log`, `*/scale` or `*`.
    #[serde(deserialize_with = "list", skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    /// Names of single objects; empty means all.
    #[serde(deserialize_with = "list", skip_serializing_if = "Vec::is_empty")]
    pub resource_names: Vec<String>,
    /// Paths of the API server that are no resources; a final `*` stands for any ending.
    #[serde(rename = "nonResourceURLs", deserialize_with = "list", skip_serializing_if = "Vec::is_empty")]
    pub non_resource_urls: Vec<String>,
}

/// What somebody asks the API server to do.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Request {
    /// Something with an object or a kind of objects.
    Resource {
        /// For example `get`.
        verb: String,
        /// The API group; empty is the core group.
        group: String,
        /// For example `pods`.
        resource: String,
        /// For example `log`; empty when there is none.
        subresource: String,
        /// The object's name; empty for `list`, `create` and their like.
        name: String,
        /// The namespace; empty for cluster-scoped kinds and for all namespaces.
        namespace: String,
    },
    /// A path that is no resource, for example `/metrics`.
    Path {
        /// The HTTP method in lower case.
        verb: String,
        /// The path.
        path: String,
    },
}

impl Request {
    /// A request about all objects of a kind in a namespace; `resource` may have a subresource
    /// (`pods/log`).
    pub fn resource(verb: &str, group: &str, resource: &str, namespace: &str) -> Self {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        Self::Resource {
            verb: verb.to_owned(),
            group: group.to_owned(),
            resource: resource.to_owned(),
            subresource: subresource.to_owned(),
            name: String::new(),
            namespace: namespace.to_owned(),
        }
    }

    /// The same request about one object.
    #[must_use]
    pub fn named(self, to: &str) -> Self {
        match self {
            Self::Resource { verb, group, resource, subresource, namespace, .. } => {
                Self::Resource { verb, group, resource, subresource, name: to.to_owned(), namespace }
            }
            path @ Self::Path { .. } => path,
        }
    }

    /// The namespace that decides which role bindings count.
    pub(crate) fn namespace(&self) -> &str {
        match self {
            Self::Resource { namespace, .. } => namespace,
            Self::Path { .. } => "",
        }
    }
}

fn any_or(list: &[String], wanted: &str) -> bool {
    list.iter().any(|one| one == "*" || one == wanted)
}

/// Whether a pattern of a non-resource path stands for a path.
pub(crate) fn path_matches(pattern: &str, path: &str) -> bool {
    pattern == path || pattern.ends_with('*') && path.starts_with(pattern.trim_end_matches('*'))
}

impl Rule {
    /// Whether this rule, where it applies, allows the request.
    pub fn allows(&self, request: &Request) -> bool {
        match request {
            Request::Resource { verb, group, resource, subresource, name, .. } => {
                any_or(&self.verbs, verb)
                    && any_or(&self.api_groups, group)
                    && self.has_resource(resource, subresource)
                    && (self.resource_names.is_empty() || self.resource_names.contains(name))
            }
            Request::Path { verb, path } => {
                any_or(&self.verbs, verb) && self.non_resource_urls.iter().any(|pattern| path_matches(pattern, path))
            }
        }
    }

    fn has_resource(&self, resource: &str, subresource: &str) -> bool {
        self.resources.iter().any(|one| {
            if one == "*" {
                return true;
            }
            match one.split_once('/') {
                None => subresource.is_empty() && one == resource,
                Some((kind, part)) => {
                    !subresource.is_empty() && part == subresource && (kind == "*" || kind == resource)
                }
            }
        })
    }

    /// Whether the rule gives everything on every resource.
    pub fn is_everything(&self) -> bool {
        let star = |list: &[String]| list.iter().any(|one| one == "*");
        star(&self.verbs) && star(&self.api_groups) && star(&self.resources) && self.resource_names.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(verbs: &[&str], resources: &[&str]) -> Rule {
        let owned = |list: &[&str]| list.iter().map(|one| (*one).to_owned()).collect();
        Rule { verbs: owned(verbs), api_groups: owned(&[""]), resources: owned(resources), ..Rule::default() }
    }

    #[test]
    fn a_kind_does_not_bring_its_subresources() {
        let pods = rule(&["get"], &["pods"]);
        assert!(pods.allows(&Request::resource("get", "", "pods", "a")));
        assert!(!pods.allows(&Request::resource("get", "", "pods/log", "a")));
        assert!(rule(&["get"], &["*"]).allows(&Request::resource("get", "", "pods/log", "a")));
        assert!(rule(&["get"], &["*/log"]).allows(&Request::resource("get", "", "pods/log", "a")));
        assert!(!rule(&["get"], &["*/log"]).allows(&Request::resource("get", "", "pods", "a")));
    }

    #[test]
    fn a_named_rule_does_not_allow_a_list() {
        let mut named = rule(&["list"], &["secrets"]);
        named.resource_names = vec!["one".to_owned()];
        assert!(!named.allows(&Request::resource("list", "", "secrets", "a")));
        assert!(named.allows(&Request::resource("list", "", "secrets", "a").named("one")));
    }

    #[test]
    fn paths_match_by_prefix_only_with_a_star() {
        assert!(path_matches("/foo/*", "/foo/bar/one"));
        assert!(!path_matches("/foo/*", "/foo"));
        assert!(!path_matches("/foo", "/foo/"));
        assert!(path_matches("*", "/anything"));
    }
}
