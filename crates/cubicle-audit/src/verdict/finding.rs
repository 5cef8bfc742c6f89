//! What an audit finds: a wall that is not there, who stands before it, and how to build it.

use cubicle_core::report::Verdict;
use serde::{Deserialize, Serialize};

use super::fix::Fix;

/// Where a finding stands.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Location {
    /// The file; `-` is standard input, `live` a cluster.
    pub file: String,
    /// The line, from 1; 0 for the whole file.
    pub line: u32,
    /// The column, from 1; 0 for the whole line.
    pub column: u32,
}

impl std::fmt::Display for Location {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line {
            0 => formatter.write_str(&self.file),
            line => write!(formatter, "{}:{line}", self.file),
        }
    }
}

/// How much a breach weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// A second wall is missing; the first stands.
    Low,
    /// A tenant learns or takes what is not theirs.
    Medium,
    /// A tenant reaches another tenant, the node or the control plane.
    High,
}

/// One cause by which a guarantee is not given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// The guarantee's id.
    pub guarantee: String,
    /// Its research id.
    pub alias: String,
    /// Breached, or unproven where the manifests cannot tell.
    pub verdict: Verdict,
    /// How much it weighs.
    pub severity: Severity,
    /// What the tenant could do, in one sentence.
    pub sentence: String,
    /// The object at fault, `Kind namespace/name`; empty when something is missing altogether.
    pub object: String,
    /// Where; none when there is no object.
    pub location: Option<Location>,
    /// How one sees it: a pair of pods, or the steps of a path.
    pub witness: Vec<String>,
    /// What tells this cause from others of the guarantee; the same for like objects.
    pub cause: String,
    /// The workspaces that it concerns, sorted; at most [`MOST_NAMED`] are named.
    pub workspaces: Vec<String>,
    /// How many they are.
    pub workspace_count: usize,
    /// The smallest change that closes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<Fix>,
    /// The same for the same cause in every run: what baselines and suppressions name.
    pub fingerprint: String,
    /// The admission policy that refuses what would breach it, with its message.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub refused: Option<String>,
    /// Why somebody lives with it, if somebody said so.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub suppressed: Option<String>,
}

/// How many causes of one guarantee are listed; what is found beyond them is counted in one finding more.
pub const MOST_FOUND: usize = 10_000;

/// How many workspaces a finding names.
pub const MOST_NAMED: usize = 5;

impl Finding {
    /// The object at fault, in words.
    pub fn at_fault(&self) -> &str {
        if self.object.is_empty() { "an object that is missing" } else { &self.object }
    }

    /// What the tenant could do, as far as one knows: "could ...", "may ...", or "would ..." where
    /// admission refuses it.
    pub fn claim(&self) -> String {
        let word = match (self.verdict, &self.refused) {
            (Verdict::Breached, _) => "could",
            (_, None) => "may",
            (_, Some(_)) => "would, if admission did not refuse it,",
        };
        format!("{word} {}", self.sentence)
    }

    /// Whether it counts towards the result.
    pub fn counts(&self) -> bool {
        self.suppressed.is_none()
    }
}

/// What a rule says about one workspace; findings of the same cause are put together.
#[derive(Debug, Clone)]
pub(crate) struct Cause {
    pub(crate) verdict: Verdict,
    pub(crate) severity: Severity,
    pub(crate) sentence: String,
    pub(crate) object: String,
    pub(crate) location: Option<Location>,
    pub(crate) witness: Vec<String>,
    pub(crate) fix: Option<Fix>,
    pub(crate) refused: Option<String>,
    /// Tells this cause from others of the same guarantee and object; no line number, so that a
    /// baseline survives edits elsewhere in the file.
    pub(crate) key: String,
}

impl Cause {
    pub(crate) fn breach(severity: Severity, key: impl Into<String>, sentence: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Breached,
            severity,
            sentence: sentence.into(),
            object: String::new(),
            location: None,
            witness: Vec::new(),
            fix: None,
            refused: None,
            key: key.into(),
        }
    }

    pub(crate) fn unproven(key: impl Into<String>, sentence: impl Into<String>) -> Self {
        Self { verdict: Verdict::Unproven, ..Self::breach(Severity::Low, key, sentence) }
    }

    pub(crate) fn at(mut self, object: impl Into<String>, location: Option<Location>) -> Self {
        self.object = object.into();
        self.location = location;
        self
    }

    pub(crate) fn seen(mut self, witness: impl IntoIterator<Item = String>) -> Self {
        self.witness.extend(witness);
        self
    }

    pub(crate) fn fixed_by(mut self, fix: impl Into<Option<Fix>>) -> Self {
        self.fix = fix.into();
        self
    }
}
