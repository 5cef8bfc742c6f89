//! Who asks: users, groups and service accounts.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The group of everybody who has signed in.
pub const AUTHENTICATED: &str = "system:authenticated";
/// The group of everybody who has not.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// The name of everybody who has not signed in.
pub const ANONYMOUS: &str = "system:anonymous";
/// The group that no authorisation is asked for: the API server lets it do everything.
pub const MASTERS: &str = "system:masters";
/// The group of all service accounts; with `:NAMESPACE`, of all in a namespace.
pub const SERVICE_ACCOUNTS: &str = "system:serviceaccounts";

const ACCOUNT: &str = "system:serviceaccount:";

/// Somebody with the groups that count.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Identity {
    /// The user name, `system:serviceaccount:NAMESPACE:NAME` for a service account; empty for a
    /// group alone.
    pub user: String,
    /// The groups.
    pub groups: BTreeSet<String>,
}

impl Identity {
    /// A service account with the groups that every one has.
    pub fn service_account(namespace: &str, name: &str) -> Self {
        Self::user(&format!("{ACCOUNT}{namespace}:{name}"), [])
    }

    /// A user with these groups and those that the API server adds by itself.
    pub fn user<'a>(name: &str, groups: impl IntoIterator<Item = &'a str>) -> Self {
        let mut groups: BTreeSet<String> = groups.into_iter().map(str::to_owned).collect();
        if name == ANONYMOUS {
            groups.insert(UNAUTHENTICATED.to_owned());
        } else {
            groups.insert(AUTHENTICATED.to_owned());
        }
        if let Some((namespace, _)) = name.strip_prefix(ACCOUNT).and_then(|rest| rest.split_once(':')) {
            groups.insert(SERVICE_ACCOUNTS.to_owned());
            groups.insert(format!("{SERVICE_ACCOUNTS}:{namespace}"));
        }
        Self { user: name.to_owned(), groups }
    }

    /// A user with exactly these groups.
    pub fn exactly<'a>(name: &str, groups: impl IntoIterator<Item = &'a str>) -> Self {
        Self { user: name.to_owned(), groups: groups.into_iter().map(str::to_owned).collect() }
    }

    /// Namespace and name, if this is a service account.
    pub fn as_service_account(&self) -> Option<(&str, &str)> {
        self.user.strip_prefix(ACCOUNT)?.split_once(':')
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((namespace, name)) = self.as_service_account() {
            return write!(formatter, "service account {namespace}/{name}");
        }
        if !self.user.is_empty() {
            return write!(formatter, "user {}", self.user);
        }
        let groups: Vec<&str> = self.groups.iter().map(String::as_str).collect();
        write!(formatter, "group {}", groups.join(", "))
    }
}

/// The kinds of subject that a binding may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum SubjectKind {
    /// By user name.
    User,
    /// By group.
    Group,
    /// A service account.
    ServiceAccount,
    /// Something that the API server does not know: nobody is it.
    #[serde(other)]
    Other,
}

/// A subject of a binding.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Subject {
    /// What it is.
    pub kind: SubjectKind,
    /// Its name.
    pub name: String,
    /// The namespace of a service account; empty means that of the binding.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
}

impl Subject {
    /// Whether a binding in `namespace` (empty for the whole cluster) with this subject counts
    /// for somebody.
    pub fn is(&self, identity: &Identity, namespace: &str) -> bool {
        match self.kind {
            SubjectKind::User => identity.user == self.name,
            SubjectKind::Group => identity.groups.contains(&self.name),
            SubjectKind::ServiceAccount => {
                let own = if self.namespace.is_empty() { namespace } else { &self.namespace };
                !own.is_empty() && identity.as_service_account() == Some((own, self.name.as_str()))
            }
            SubjectKind::Other => false,
        }
    }

    /// The subject as somebody who could ask; none for one that the API server does not know.
    pub fn identity(&self, namespace: &str) -> Option<Identity> {
        match self.kind {
            SubjectKind::User => Some(Identity::user(&self.name, [])),
            SubjectKind::Group => Some(Identity::exactly("", [self.name.as_str()])),
            SubjectKind::ServiceAccount => {
                let own = if self.namespace.is_empty() { namespace } else { &self.namespace };
                Some(Identity::service_account(own, &self.name))
            }
            SubjectKind::Other => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_accounts_have_their_groups() {
        let account = Identity::service_account("a", "default");
        let groups: Vec<&str> = account.groups.iter().map(String::as_str).collect();
        assert_eq!(groups, ["system:authenticated", "system:serviceaccounts", "system:serviceaccounts:a"]);
        assert_eq!(account.as_service_account(), Some(("a", "default")));
    }

    #[test]
    fn a_subject_without_a_namespace_is_of_the_binding() {
        let subject = Subject { kind: SubjectKind::ServiceAccount, name: "x".to_owned(), namespace: String::new() };
        assert!(subject.is(&Identity::service_account("a", "x"), "a"));
        assert!(!subject.is(&Identity::service_account("b", "x"), "a"));
        assert!(!subject.is(&Identity::service_account("", "x"), ""));
    }
}
