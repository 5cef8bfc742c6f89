//! What a provider says about a person, and what that makes of them here.

use cubicle_core::name::UserName;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::settings::ProviderSettings;
use crate::store::{Identity, Role};

/// How many groups of a person are kept, and how long each may be, in characters.
const MOST_GROUPS: usize = 200;
const LONGEST_GROUP: usize = 128;

/// A person as a provider knows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Person {
    /// Who, for ever.
    pub(crate) identity: Identity,
    /// What they are called there; may change, may be anything.
    pub(crate) called: Option<String>,
    /// What they may do here.
    pub(crate) role: Role,
    /// For templates that are restricted.
    pub(crate) groups: Vec<String>,
    /// The provider's own session.
    pub(crate) session: Option<String>,
}

impl Person {
    /// Reads verified claims.
    pub(super) fn of(settings: &ProviderSettings, subject: &str, claims: &Map<String, Value>) -> Self {
        let roles = texts(claims.get(&settings.roles_claim));
        let holds = |wanted: &[String]| wanted.iter().any(|role| roles.contains(&role.as_str()));
        let role = if holds(&settings.admin_roles) {
            Role::Admin
        } else if holds(&settings.auditor_roles) {
            Role::Auditor
        } else {
            Role::User
        };
        let groups = groups(texts(claims.get(&settings.groups_claim)));
        let text = |name: &str| claims.get(name).and_then(Value::as_str).map(str::to_owned);
        Self {
            identity: Identity { issuer: settings.issuer.clone(), subject: subject.to_owned() },
            called: text(&settings.name_claim).or_else(|| text("preferred_username")),
            role,
            groups,
            session: text("sid").filter(|session| session.len() <= 255),
        }
    }
}

/// The texts of a claim that is a list or one text.
fn texts(claim: Option<&Value>) -> Vec<&str> {
    match claim {
        Some(Value::String(text)) => vec![text],
        Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// Each group once and in order. What cannot be a group's name is left out.
pub(super) fn groups<'text>(given: impl IntoIterator<Item = &'text str>) -> Vec<String> {
    let plain =
        |text: &&str| !text.is_empty() && text.chars().count() <= LONGEST_GROUP && !text.chars().any(char::is_control);
    let mut groups: Vec<String> = given.into_iter().filter(plain).map(str::to_owned).collect();
    groups.sort();
    groups.dedup();
    groups.truncate(MOST_GROUPS);
    groups
}

/// The names to try for a new account, the best one first. Names are for people to read: nothing
/// hangs on them, and a taken one is never shared.
pub(crate) fn name_of(person: &Person, provider: &str) -> Vec<UserName> {
    let wanted: String = person
        .called
        .as_deref()
        .unwrap_or_default()
        .chars()
        .map(|character| if character.is_alphanumeric() || "._-@".contains(character) { character } else { '-' })
        .skip_while(|character| !character.is_alphanumeric())
        .take(24)
        .collect();
    let wanted = wanted.replace("..", ".");
    // For who has no usable name there; also the last resort, because it is never taken.
    let hash = Sha256::digest(format!("{}\n{}", person.identity.issuer, person.identity.subject).as_bytes());
    let hash: String = hash.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    let mut names = vec![wanted.clone(), format!("{wanted}@{provider}")];
    names.extend((2..10).map(|number| format!("{wanted}-{number}@{provider}")));
    names.push(format!("{hash}@{provider}"));
    names.into_iter().filter_map(|name| name.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn settings() -> ProviderSettings {
        let text = "providers: [{name: campus, issuer: 'https://a.example.org', clientId: x, adminRoles: [ops], \
                    auditorRoles: [audit]}]";
        super::super::settings::tests::read(text).expect("valid").providers.remove(0)
    }

    fn person(claims: Value) -> Person {
        let Value::Object(claims) = claims else { panic!("an object") };
        Person::of(&settings(), "4711", &claims)
    }

    #[test]
    fn roles_and_groups_come_from_claims_of_any_shape() {
        let both = person(json!({"roles": ["audit", "ops"], "groups": ["b", "a", "b", 7, "", "x\ny"], "sid": "s"}));
        assert_eq!((both.role, both.session.as_deref()), (Role::Admin, Some("s")));
        assert_eq!(both.groups, ["a", "b"]);
        assert_eq!(person(json!({"roles": "audit", "groups": "one"})).role, Role::Auditor);
        for odd in [json!({}), json!({"roles": {"ops": true}}), json!({"roles": [["ops"]]}), json!({"roles": "OPS"})] {
            assert_eq!(person(odd).role, Role::User);
        }
        let many: Vec<String> = (0..10_000).map(|number| format!("g{number}")).collect();
        assert_eq!(person(json!({"groups": many})).groups.len(), MOST_GROUPS);
    }

    #[test]
    fn everybody_gets_a_name() {
        let names = |called: &str| -> Vec<String> {
            name_of(&person(json!({"preferred_username": called})), "campus").into_iter().map(String::from).collect()
        };
        assert_eq!(names("alice")[..3], ["alice", "alice@campus", "alice-2@campus"]);
        assert_eq!(names("Ada Lovelace <ada@example.org>")[0], "Ada-Lovelace--ada@exampl");
        assert_eq!(names("..//..").len(), 1);
        assert_eq!(names("\u{202e}\n\0").len(), 1);
        assert!(names(&"x".repeat(9000)).iter().all(|name| name.len() <= 64));
        assert!(names("").last().is_some_and(|name| name.ends_with("@campus")));
    }
}
