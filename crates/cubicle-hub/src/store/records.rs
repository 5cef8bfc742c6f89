//! What the hub keeps, whoever keeps it.

use std::str::FromStr;

use cubicle_core::name::{UserId, UserName};
use cubicle_core::problem::{Problem, ProblemKind};
use cubicle_core::workspace::Owner;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::secret::Digest;

/// One person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    /// What volumes and ownership hang on.
    pub(crate) id: UserId,
    /// What the person signs in with.
    pub(crate) name: UserName,
    /// What it may do.
    pub(crate) role: Role,
    /// May not sign in.
    pub(crate) disabled: bool,
    /// Whether there is a password.
    pub(crate) has_password: bool,
    /// For templates that are restricted.
    pub(crate) groups: Vec<String>,
    /// Who vouches for the person; none for a local account.
    pub(crate) identity: Option<Identity>,
    /// For programs: nobody signs in to it.
    pub(crate) service: bool,
    /// When it was made.
    pub(crate) created_at: Timestamp,
}

/// An account to be made.
#[derive(Debug, Clone)]
pub(crate) struct NewAccount {
    /// What it is called.
    pub(crate) name: UserName,
    /// What it may do.
    pub(crate) role: Role,
    /// For templates that are restricted.
    pub(crate) groups: Vec<String>,
    /// Who vouches for the person.
    pub(crate) identity: Option<Identity>,
    /// For programs.
    pub(crate) service: bool,
}

impl NewAccount {
    /// A local account of a person without groups.
    pub(crate) fn local(name: UserName, role: Role) -> Self {
        Self { name, role, groups: Vec::new(), identity: None, service: false }
    }
}

/// As whom a provider knows a person. Two providers' people are two accounts, whatever they are
/// called: only the pair says who somebody is (OpenID Connect Core 1.0, 5.7).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// Who vouches.
    pub(crate) issuer: String,
    /// For whom.
    pub(crate) subject: String,
}

/// What an account may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Role {
    /// Sees everything and manages accounts.
    Admin,
    /// Sees every workspace's state and report and the record of events; launches nothing and
    /// opens nobody's notebook.
    Auditor,
    /// Launches workspaces and sees the own ones.
    #[default]
    User,
}

impl Role {
    /// As it is written.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Auditor => "auditor",
            Self::User => "user",
        }
    }
}

impl FromStr for Role {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        match text {
            "admin" => Ok(Self::Admin),
            "auditor" => Ok(Self::Auditor),
            "user" => Ok(Self::User),
            other => {
                let shown: String = other.chars().take(40).flat_map(char::escape_default).collect();
                Err(Problem::bad_input(format!("\"{shown}\" is not a role"), "use admin, auditor or user"))
            }
        }
    }
}

impl Account {
    /// The account as the owner of workspaces.
    pub(crate) fn owner(&self) -> Owner {
        Owner { id: self.id.clone(), name: self.name.clone() }
    }
}

/// A live session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Session {
    /// The digest of the cookie: the session's key.
    pub(crate) digest: Digest,
    /// Whose it is.
    pub(crate) account: Account,
    /// The issuer of the provider by which it began.
    pub(crate) issuer: Option<String>,
    /// When it ends by itself.
    pub(crate) expires_at: Timestamp,
}

/// How a session began, when a provider vouched for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Vouched {
    /// The provider's issuer.
    pub(crate) issuer: String,
    /// The provider's own session, when it names it.
    pub(crate) session: Option<String>,
}

/// What a workspace cookie stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Granted {
    /// The session it hangs on.
    pub(crate) session: Digest,
    /// When that ends by itself.
    pub(crate) expires_at: Timestamp,
}

/// What a token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Scope {
    /// Only look.
    Read,
    /// Look, launch, stop and delete.
    Write,
}

impl Scope {
    /// As it is written.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

impl FromStr for Scope {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        match text {
            "read" => Ok(Self::Read),
            "write" => Ok(Self::Write),
            other => Err(Problem::bad_input(
                format!("\"{}\" is not a scope of a token", other.escape_default()),
                "use read or write",
            )),
        }
    }
}

/// A token without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ApiToken {
    /// Names the token when it is deleted.
    pub(crate) id: String,
    /// What its owner calls it.
    pub(crate) name: String,
    /// What it may do.
    pub(crate) scope: Scope,
    /// When it was made.
    pub(crate) created_at: Timestamp,
    /// When it ends.
    pub(crate) expires_at: Timestamp,
    /// When it was last used, to the minute.
    pub(crate) used_at: Option<Timestamp>,
}

/// How many tokens an account may have.
pub(super) const MOST_TOKENS: i64 = 50;

pub(super) fn unknown(name: &str) -> Problem {
    let shown: String = name.chars().take(40).flat_map(char::escape_default).collect();
    Problem::not_found(format!("there is no user \"{shown}\""), "list the users with `cubicle user list`")
}

pub(super) fn taken(name: &UserName, by: &str) -> Problem {
    Problem::conflict(
        format!("user name \"{name}\" is taken by \"{by}\"; names that differ only in case or form are one"),
        "choose another name",
    )
}

pub(super) fn known_already() -> Problem {
    Problem::conflict("this person has an account already", "sign in again")
}

pub(super) fn no_link() -> Problem {
    Problem::conflict("the account is disabled, so a sign-in link would not work", "enable the account first")
}

pub(super) fn no_session() -> Problem {
    Problem::new(ProblemKind::NotAllowed, "this account is disabled", "ask an administrator")
}

pub(super) fn too_many_tokens(count: i64) -> Problem {
    Problem::conflict(format!("an account may have {MOST_TOKENS} tokens, and this one has {count}"), "delete one first")
}
