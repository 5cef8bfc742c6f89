//! Names and identifiers: what a person types is a name, what a volume or route hangs on is
//! an opaque identifier, so that no two people can ever collide.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization;

use crate::problem::Problem;

/// Letters of generated identifiers: lower case, valid in a DNS label; Crockford's base 32.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

fn encode(random: &[u8]) -> String {
    random.iter().map(|byte| char::from(ALPHABET[usize::from(byte & 31)])).collect()
}

macro_rules! text_type {
    ($name:ident, $parse:path) => {
        impl $name {
            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = Problem;

            fn from_str(text: &str) -> Result<Self, Problem> {
                $parse(text).map($name)
            }
        }

        impl TryFrom<String> for $name {
            type Error = Problem;

            fn try_from(text: String) -> Result<Self, Problem> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.0
            }
        }
    };
}

/// What a person is called and signs in with.
///
/// 1 to 64 characters: letters and digits of any script, and `.`, `_`, `-`, `@` after the
/// first. Kept in Unicode normalization form C. Names are compared by [`UserName::key`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UserName(String);

text_type!(UserName, parse_user_name);

impl UserName {
    /// The form under which two names count as the same: NFKC with full case folding, so that
    /// `Alice`, `alice` and a full-width spelling are one key.
    pub fn key(&self) -> String {
        let folded: String = caseless::default_case_fold_str(&self.0.nfkc().collect::<String>());
        folded.nfkc().collect()
    }
}

fn parse_user_name(text: &str) -> Result<String, Problem> {
    const RULE: &str = "use 1 to 64 letters or digits, and '.', '_', '-' or '@' after the first";
    let shown: String = text.chars().take(40).flat_map(char::escape_default).collect();
    let refuse = |why: String| Err(Problem::bad_input(format!("user name \"{shown}\" {why}"), RULE));
    let name: String = text.nfc().collect();
    let count = name.chars().count();
    if count == 0 || count > 64 {
        return refuse(format!("has {count} characters; the rule is 1 to 64"));
    }
    for (position, character) in name.chars().enumerate() {
        let allowed = character.is_alphanumeric()
            || unicode_normalization::char::is_combining_mark(character)
            || matches!(character, '.' | '_' | '-' | '@');
        if !allowed || (position == 0 && !character.is_alphanumeric()) {
            return refuse(format!(
                "has {} (U+{:04X}) at position {}, which is not allowed there",
                character.escape_default(),
                u32::from(character),
                position + 1
            ));
        }
    }
    if name.contains("..") {
        return refuse("contains \"..\"".to_owned());
    }
    Ok(name)
}

/// The opaque identifier of a user: volumes and ownership hang on it, never on the name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UserId(String);

text_type!(UserId, parse_user_id);

impl UserId {
    /// A new identifier from random bytes.
    pub fn from_random(random: [u8; 12]) -> Self {
        Self(format!("u-{}", encode(&random)))
    }
}

fn parse_user_id(text: &str) -> Result<String, Problem> {
    parse_identifier(text, "u-", "user id")
}

/// The identifier of a workspace: a DNS label, because it is the first label of its origin.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct WorkspaceId(String);

text_type!(WorkspaceId, parse_workspace_id);

impl WorkspaceId {
    /// A new identifier from random bytes.
    pub fn from_random(random: [u8; 12]) -> Self {
        Self(format!("w-{}", encode(&random)))
    }
}

fn parse_workspace_id(text: &str) -> Result<String, Problem> {
    parse_identifier(text, "w-", "workspace id")
}

fn parse_identifier(text: &str, prefix: &str, noun: &str) -> Result<String, Problem> {
    let rest = text.strip_prefix(prefix).unwrap_or_default();
    if rest.len() == 12 && rest.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()) {
        return Ok(text.to_owned());
    }
    let shown: String = text.chars().take(40).flat_map(char::escape_default).collect();
    Err(Problem::not_found(
        format!("\"{shown}\" is not a {noun}; one is {prefix} and 12 lower-case letters or digits"),
        "list the known ones with `cubicle list`",
    ))
}

/// The name of a template: a DNS label of RFC 1123, as Kubernetes object names are.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TemplateName(String);

text_type!(TemplateName, parse_template_name);

fn parse_template_name(text: &str) -> Result<String, Problem> {
    let edge = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let valid = !text.is_empty()
        && text.len() <= 63
        && text.bytes().all(|byte| edge(byte) || byte == b'-')
        && text.bytes().next().is_some_and(edge)
        && text.bytes().last().is_some_and(edge);
    if valid {
        return Ok(text.to_owned());
    }
    let shown: String = text.chars().take(40).flat_map(char::escape_default).collect();
    Err(Problem::bad_input(
        format!("template name \"{shown}\" is not a DNS label"),
        "use 1 to 63 lower-case letters, digits or '-', beginning and ending with a letter or digit",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_user_names_are_refused_with_the_rule() {
        for name in ["", "a/b", "a\0b", "..", "a..b", "\u{1f600}", "a\u{202e}b", "-a", "a b", &"a".repeat(300)] {
            let problem = name.parse::<UserName>().expect_err(name);
            assert!(problem.what.starts_with("user name \""), "{}", problem.what);
            assert!(!problem.what.chars().any(char::is_control));
            assert!(!problem.remedy.is_empty());
        }
    }

    #[test]
    fn names_that_look_the_same_share_one_key() {
        let key = |name: &str| name.parse::<UserName>().expect("valid").key();
        assert_eq!(key("Alice"), key("alice"));
        assert_eq!(key("caf\u{e9}"), key("cafe\u{301}"));
        assert_eq!(key("\u{ff41}lice"), key("alice"));
        assert_ne!(key("a-b"), key("a_b"));
    }

    #[test]
    fn identifiers_round_trip() {
        let id = WorkspaceId::from_random([7; 12]);
        assert_eq!(id.as_str().parse::<WorkspaceId>().expect("valid"), id);
        assert!("w-../../etc/pa".parse::<WorkspaceId>().is_err());
    }
}
