//! Names and labels of everything that the controller makes.
//!
//! Names are made of opaque identifiers alone, so that no two tenants can collide and nothing a
//! person types becomes part of a name. A team's name is any text, so its namespace carries 130
//! bits of its hash.

use cubicle_core::engine::Activity;
use cubicle_core::level::Namespace;
use cubicle_core::name::{UserId, WorkspaceId};
use cubicle_core::trace::TraceParent;
use kube::ResourceExt;
use sha2::{Digest, Sha256};
use unicode_normalization::UnicodeNormalization;

use crate::resources::{Identity, Workspace};

/// On everything that the controller makes.
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "cubicle");
/// The condition of a workspace whose pod no node takes, in the words of a pod's own `PodScheduled`.
pub const SCHEDULED: &str = "Scheduled";
/// The workspace that an object belongs to.
pub const WORKSPACE: &str = "cubicle.dev/workspace";
/// Which doors a pod has: the name of the policy that opens them.
pub const DOORS: &str = "cubicle.dev/doors";
/// The user that an object belongs to; on a pod, the identifier of its [`Location`].
pub const OWNER: &str = "cubicle.dev/owner";
/// On a tenant's namespace and everything in it: the namespace's own name.
pub const TENANT: &str = "cubicle.dev/tenant";
/// What a pod of Cubicle's own is: `hub`, `controller`, `canary`, `reference`, `egress`.
pub const COMPONENT: &str = "app.kubernetes.io/component";
/// The well-known label of every namespace (KEP-2161).
pub const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";
/// Keeps a workspace until everything of it is gone.
pub const FINALIZER: &str = "cubicle.dev/workspace";
/// The name of what a tenant's namespace has one of: its quota, its limits, and the account of every pod in it.
pub const TENANT_OBJECT: &str = "tenant";
/// The name of the container.
pub const CONTAINER: &str = "workspace";

/// On a workspace that waits for somebody, for whoever lists them.
pub const POOL: &str = "cubicle.dev/pool";
/// The annotation of a namespace that is nobody's yet, and that alone lets the controller delete one.
pub const UNCLAIMED: &str = "cubicle.dev/unclaimed";

/// On a workspace: what hubs have seen its user do, as JSON.
pub const ACTIVITY: &str = "cubicle.dev/activity";

/// On a workspace: where its launch belongs in the hub's trace, as `LAUNCH/TRACEPARENT`. The number says of which
/// launch, so that one that somebody else begins is not told as a part of an earlier request.
pub const TRACE: &str = "cubicle.dev/trace";

/// Crockford's base 32, as the identifiers of `cubicle-core` use it.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// Digits of a hash in a name: 5 bits each.
const DIGITS: usize = 26;

/// Before the identifier that a namespace of one tenant is named with.
const NAMESPACE: &str = "cubicle-";
/// Before the identifier that a home is named with.
const HOME: &str = "home-";

/// Where a user's home is, and with it everything of theirs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The namespace.
    pub namespace: String,
    /// The opaque identifier that the home is named with, and that pods carry as their owner: the user's own,
    /// or the one of the warm workspace whose namespace became theirs. A pod's labels are part of what the
    /// network knows it by, so that they never change.
    pub tenant: String,
}

impl Location {
    /// Where a user is who was never anywhere else.
    pub fn of(tenancy: Namespace, identity: &Identity) -> Self {
        let tenant = identity.owner.id.to_string();
        let namespace = match (tenancy, &identity.team) {
            (Namespace::Shared, _) => "cubicle-shared".to_owned(),
            (Namespace::PerTeam, Some(team)) => format!("cubicle-t-{}", digits(team)),
            // Somebody without a team is a team of one.
            (Namespace::PerTeam | Namespace::PerUser, _) => format!("{NAMESPACE}{tenant}"),
        };
        Self { namespace, tenant }
    }

    /// Where a home of this name in this namespace is one tenant's alone; nothing for any other object.
    pub fn of_home(namespace: &str, home: &str) -> Option<Self> {
        let tenant: UserId = home.strip_prefix(HOME)?.parse().ok()?;
        let location = Self { namespace: format!("{NAMESPACE}{tenant}"), tenant: tenant.to_string() };
        (location.namespace == namespace).then_some(location)
    }

    /// The tenant whose namespace this is; nothing for one that several share.
    pub fn of_namespace(namespace: &str) -> Option<Self> {
        let tenant: UserId = namespace.strip_prefix(NAMESPACE)?.parse().ok()?;
        Some(Self { namespace: namespace.to_owned(), tenant: tenant.to_string() })
    }

    /// The claim of the home: it belongs to the user, not to a workspace.
    pub fn home(&self) -> String {
        format!("{HOME}{}", self.tenant)
    }
}

/// The map that holds a workspace's last report.
pub fn report(id: &WorkspaceId) -> String {
    format!("report-{id}")
}

/// What hubs have last seen the user of a workspace do.
pub fn activity(workspace: &Workspace) -> Option<Activity> {
    serde_json::from_str(workspace.annotations().get(ACTIVITY)?).ok()
}

/// The annotation for this launch.
pub fn trace_of(launch: i64, place: TraceParent) -> String {
    format!("{launch}/{place}")
}

/// Where the present launch of a workspace belongs. Whoever may write the object may write this: two numbers are
/// read from it, and anything else is none.
pub fn trace(workspace: &Workspace) -> Option<TraceParent> {
    let (launch, place) = workspace.annotations().get(TRACE)?.split_once('/')?;
    (launch.parse() == Ok(workspace.spec.launch)).then(|| place.parse().ok()).flatten()
}

/// 130 bits of the hash of a text, as part of a name.
pub(crate) fn digits(text: &str) -> String {
    let normal: String = text.nfc().collect();
    let hash = Sha256::digest(normal.as_bytes());
    hash.iter().map(|byte| char::from(ALPHABET[usize::from(byte & 31)])).take(DIGITS).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use cubicle_core::workspace::Owner;
    use proptest::prelude::*;

    use super::*;

    fn identity(owner: &str, team: Option<&str>) -> Identity {
        Identity {
            id: "w-0123456789ab".parse().expect("valid"),
            owner: Owner { id: owner.parse().expect("valid"), name: "alice".parse().expect("valid") },
            template: "jupyterlab".parse().expect("valid"),
            team: team.map(str::to_owned),
        }
    }

    fn namespace(tenancy: Namespace, identity: &Identity) -> String {
        Location::of(tenancy, identity).namespace
    }

    #[test]
    fn a_home_says_where_its_user_is() {
        let derived = Location::of(Namespace::PerUser, &identity("u-0123456789ab", None));
        assert_eq!(Location::of_home(&derived.namespace, &derived.home()), Some(derived.clone()));
        assert_eq!(Location::of_namespace(&derived.namespace), Some(derived));
        for (namespace, home) in [
            ("cubicle-u-0123456789ac", "home-u-0123456789ab"),
            ("cubicle-shared", "home-u-0123456789ab"),
            ("cubicle-u-0123456789ab", "u-0123456789ab"),
            ("cubicle-u-0123456789ab", "home-../u-0123456789ab"),
        ] {
            assert_eq!(Location::of_home(namespace, home), None, "{namespace} {home}");
        }
        assert_eq!(Location::of_namespace("cubicle-shared"), None);
    }

    fn is_label(name: &str) -> bool {
        name.len() <= 63
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && !name.starts_with('-')
            && !name.ends_with('-')
    }

    #[test]
    fn teams_that_look_alike_do_not_meet() {
        let teams = ["a-b", "a_b", "A-b", "a b", "ab", "", "u-0123456789ab", &"x".repeat(64), &"x".repeat(63), "é"];
        let names: BTreeSet<String> = teams
            .iter()
            .map(|team| namespace(Namespace::PerTeam, &identity("u-0123456789ab", Some(team))))
            .chain([namespace(Namespace::PerTeam, &identity("u-0123456789ab", None))])
            .collect();
        assert_eq!(names.len(), teams.len() + 1);
        assert!(names.iter().all(|name| is_label(name)), "{names:?}");
    }

    #[test]
    fn one_spelling_is_one_team() {
        let name = |team| namespace(Namespace::PerTeam, &identity("u-0123456789ab", Some(team)));
        assert_eq!(name("caf\u{e9}"), name("cafe\u{301}"));
    }

    proptest! {
        #[test]
        fn no_two_users_share_a_namespace(one in "u-[a-z0-9]{12}", two in "u-[a-z0-9]{12}", team in ".{0,70}") {
            let of = |owner: &str| namespace(Namespace::PerUser, &identity(owner, Some(&team)));
            prop_assert_eq!(one == two, of(&one) == of(&two));
            prop_assert!(is_label(&of(&one)));
            prop_assert!(is_label(&Location::of(Namespace::PerUser, &identity(&one, None)).home()));
            prop_assert!(is_label(&namespace(Namespace::PerTeam, &identity(&one, Some(&team)))));
        }
    }

    #[test]
    fn a_launch_has_its_own_place_in_a_trace_and_garbage_is_none() {
        let place: TraceParent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse().expect("a place");
        let annotated = |launch: i64, text: &str| {
            let workspace: Workspace = serde_json::from_value(serde_json::json!({
                "apiVersion": "cubicle.dev/v1alpha1",
                "kind": "Workspace",
                "metadata": {"name": "w-0123456789ab", "annotations": {TRACE: text}},
                "spec": {"template": "desk", "owner": {"id": "u-ba9876543210", "name": "alice"}, "launch": launch},
            }))
            .expect("a workspace");
            trace(&workspace)
        };
        assert_eq!(annotated(3, &trace_of(3, place)), Some(place));
        assert_eq!(annotated(4, &trace_of(3, place)), None, "an earlier launch's");
        for garbage in ["", "/", "3/", "3", "3/garbage", "3/00-zz", &place.to_string(), "x/00-1-1-1", "3/\u{0}"] {
            assert_eq!(annotated(3, garbage), None, "{garbage:?}");
        }
        let long = format!("3/{}", "0".repeat(200_000));
        assert_eq!(annotated(3, &long), None);
    }
}
