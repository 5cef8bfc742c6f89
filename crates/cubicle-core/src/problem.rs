//! What every refused input says: the input, the rule, and the remedy.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How an error is answered: decides the exit code of the command line and the HTTP status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProblemKind {
    /// The caller used it wrongly or gave bad input (exit 2, HTTP 400).
    BadInput,
    /// The thing named is not there (exit 4, HTTP 404).
    NotFound,
    /// The caller may not do this (exit 4, HTTP 403).
    NotAllowed,
    /// It contradicts the present state, for example a volume in use (exit 2, HTTP 409).
    Conflict,
    /// The machine has no room for it now (exit 5, HTTP 503).
    Exhausted,
    /// The engine failed (exit 5, HTTP 500).
    Engine,
}

impl ProblemKind {
    /// The word for it in documents and traces.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadInput => "bad_input",
            Self::NotFound => "not_found",
            Self::NotAllowed => "not_allowed",
            Self::Conflict => "conflict",
            Self::Exhausted => "exhausted",
            Self::Engine => "engine",
        }
    }
}

/// An error for people: `error: what` and `hint: remedy`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// What kind of answer this is.
    pub kind: ProblemKind,
    /// What went wrong, naming the input and the rule.
    pub what: String,
    /// What the reader can do about it; empty when there is nothing to do.
    #[serde(default)]
    pub remedy: String,
}

impl Problem {
    /// A problem of any kind.
    pub fn new(kind: ProblemKind, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { kind, what: what.into(), remedy: remedy.into() }
    }

    /// The input breaks a rule.
    pub fn bad_input(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(ProblemKind::BadInput, what, remedy)
    }

    /// The thing named is not there.
    pub fn not_found(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(ProblemKind::NotFound, what, remedy)
    }

    /// The request contradicts the present state.
    pub fn conflict(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(ProblemKind::Conflict, what, remedy)
    }

    /// The engine failed.
    pub fn engine(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(ProblemKind::Engine, what, remedy)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.what)
    }
}

impl std::error::Error for Problem {}
