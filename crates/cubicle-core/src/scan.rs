//! Findings of an image scanner, imported: whether an image holds known exploits that have a fix.
//!
//! Cubicle has no list of vulnerabilities of its own. It takes what Trivy or Grype has written,
//! checks that it is about this very image and not too old, and holds it against the site's rule.

mod grype;
mod trivy;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::problem::Problem;
use crate::report::{Evidence, GuaranteeReport, Verdict};
use crate::template::Duration;

/// The guarantee that a scan decides.
pub const GUARANTEE: &str = "image.known-exploits";

/// Findings that are kept, the weightiest first; the counts are of all.
const MOST_KEPT: usize = 200;

/// The longest text that is kept of a finding.
const LONGEST: usize = 120;

/// How much a vulnerability weighs, as the scanner says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The scanner does not know.
    Unknown,
    /// Hardly anything.
    Negligible,
    /// Low.
    Low,
    /// Medium.
    Medium,
    /// High.
    High,
    /// Critical.
    Critical,
}

impl Severity {
    const ALL: [Self; 6] = [Self::Unknown, Self::Negligible, Self::Low, Self::Medium, Self::High, Self::Critical];
}

impl fmt::Display for Severity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Unknown => "unknown",
            Self::Negligible => "negligible",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        })
    }
}

impl FromStr for Severity {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        Self::ALL.into_iter().find(|one| one.to_string().eq_ignore_ascii_case(text)).ok_or_else(|| {
            Problem::bad_input(
                format!("\"{}\" is not a severity", printable(text)),
                "use unknown, negligible, low, medium, high or critical",
            )
        })
    }
}

/// One vulnerability.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Vulnerability {
    /// For example `CVE-2024-3094`.
    pub id: String,
    /// The package.
    pub package: String,
    /// Its version in the image.
    pub version: String,
    /// The version without it; empty where there is none yet.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub fixed: String,
    /// How much it weighs.
    pub severity: Severity,
}

/// How many there are of one severity.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Count {
    /// All.
    pub all: usize,
    /// Those that have a fix.
    pub fixable: usize,
}

/// What a scanner found in one image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Scan {
    /// `trivy` or `grype`.
    pub scanner: String,
    /// Every digest by which the scanner named the image, `sha256:` and 64 hexadecimal digits.
    pub digests: Vec<String>,
    /// When it looked; none where it does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scanned_at: Option<Timestamp>,
    /// How many there are of each severity.
    pub counts: BTreeMap<Severity, Count>,
    /// The weightiest, at most 200.
    pub vulnerabilities: Vec<Vulnerability>,
    /// Secrets that it saw, as rule and file; never the secret itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<String>,
}

/// When a site refuses an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ScanRule {
    /// The lowest severity that is refused.
    pub refuse: Severity,
    /// Whether only what has a fix counts.
    pub fixable_only: bool,
    /// How old a scan may be: new vulnerabilities become known every day.
    pub max_age: Duration,
    /// Whether an image without a usable scan is refused.
    pub required: bool,
}

impl Default for ScanRule {
    fn default() -> Self {
        Self { refuse: Severity::Critical, fixable_only: true, max_age: Duration(30 * 86_400), required: false }
    }
}

/// What a rule says about an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// Held, breached, unproven; not claimed where there is no scan and none is required.
    pub verdict: Verdict,
    /// Why, in one sentence.
    pub reason: String,
    /// What the scan said, as evidence.
    evidence: Option<(String, Timestamp)>,
    /// Whether a workspace with this image may be opened.
    pub opens: bool,
}

impl Scan {
    /// Reads what Trivy (`--format json`) or Grype (`-o json`) has written.
    ///
    /// # Errors
    /// It is neither.
    pub fn parse(bytes: &[u8]) -> Result<Self, Problem> {
        let document: serde_json::Value = serde_json::from_slice(bytes).map_err(|error| {
            Problem::bad_input(
                format!("the scan is not JSON: {}", printable(&error.to_string())),
                "write it with `trivy image --format json` or `grype -o json`",
            )
        })?;
        let read = trivy::read(&document).or_else(|| grype::read(&document));
        read.ok_or_else(|| {
            Problem::bad_input(
                "the scan is neither Trivy's nor Grype's",
                "write it with `trivy image --format json` or `grype -o json`",
            )
        })
    }

    /// Puts findings together as a scan.
    fn of(
        scanner: &str,
        digests: impl IntoIterator<Item = String>,
        scanned_at: Option<Timestamp>,
        mut found: Vec<Vulnerability>,
    ) -> Self {
        let mut counts: BTreeMap<Severity, Count> = BTreeMap::new();
        for one in &found {
            let count = counts.entry(one.severity).or_default();
            count.all += 1;
            count.fixable += usize::from(!one.fixed.is_empty());
        }
        // What has a fix first: it is what a site acts on.
        found.sort_by(|one, other| {
            let weight = |one: &Vulnerability| (std::cmp::Reverse(one.severity), one.fixed.is_empty());
            weight(one).cmp(&weight(other)).then_with(|| (&one.id, &one.package).cmp(&(&other.id, &other.package)))
        });
        found.dedup();
        found.truncate(MOST_KEPT);
        let mut digests: Vec<String> = digests.into_iter().collect();
        digests.sort_unstable();
        digests.dedup();
        let secrets = Vec::new();
        Self { scanner: scanner.to_owned(), digests, scanned_at, counts, vulnerabilities: found, secrets }
    }

    fn number(&self, rule: &ScanRule) -> usize {
        let of = |count: &Count| if rule.fixable_only { count.fixable } else { count.all };
        // A severity that the scanner does not know may be any.
        let counts = |severity: Severity| severity >= rule.refuse;
        self.counts.iter().filter(|(severity, _)| counts(**severity)).map(|(_, count)| of(count)).sum()
    }
}

impl ScanRule {
    /// Judges an image that has these digests by its scan.
    pub fn judge(&self, scan: Option<&Scan>, digests: &[String], now: Timestamp) -> Judgement {
        let unproven =
            |reason: String| Judgement { verdict: Verdict::Unproven, reason, evidence: None, opens: !self.required };
        let Some(scan) = scan else {
            if self.required {
                return unproven("no scan of the image was given, and the site requires one".to_owned());
            }
            return Judgement {
                verdict: Verdict::NotClaimed,
                reason: "no scan of the image was given".to_owned(),
                evidence: None,
                opens: true,
            };
        };
        if !scan.digests.iter().any(|digest| digests.contains(digest)) {
            let named = scan.digests.first().map_or("names no digest", String::as_str);
            let own = digests.first().map_or("an image without a digest", String::as_str);
            return unproven(format!("the scan is not about this image: it {named}, and this is {own}"));
        }
        let Some(at) = scan.scanned_at else {
            return unproven("the scan does not say when it was made".to_owned());
        };
        let age = now.as_second().saturating_sub(at.as_second());
        // A clock that is a little behind is no forgery.
        if age < -300 {
            return unproven(format!("the scan was made in the future, at {at}"));
        }
        if age > i64::try_from(self.max_age.0).unwrap_or(i64::MAX) {
            let days = String::from(self.max_age);
            return unproven(format!("the scan of {at} is older than {days}; scan the image again"));
        }
        let number = scan.number(self);
        let kind = if self.fixable_only { "with a fix" } else { "known" };
        let counted = format!("{} {kind}, {} or worse, by {} of {at}", number, self.refuse, scan.scanner);
        let evidence = Some((counted.clone(), at));
        if number == 0 {
            return Judgement { verdict: Verdict::Held, reason: counted, evidence, opens: true };
        }
        let worst = scan.vulnerabilities.iter().filter(|one| one.severity >= self.refuse);
        let named: Vec<String> = worst
            .filter(|one| !self.fixable_only || !one.fixed.is_empty())
            .take(3)
            .map(|one| format!("{} in {} {}", one.id, one.package, one.version))
            .collect();
        let reason = format!("the image holds {}: {counted}", named.join(", "));
        Judgement { verdict: Verdict::Breached, reason, evidence, opens: false }
    }
}

impl Judgement {
    /// Writes the judgement into the guarantees of a report.
    pub fn enter(&self, guarantees: &mut [GuaranteeReport]) {
        for one in guarantees.iter_mut().filter(|one| one.id == GUARANTEE) {
            self.enter_one(one);
        }
    }

    /// The guarantee alone, for the report of a launch that ends before anything is built.
    pub fn alone(&self) -> Vec<GuaranteeReport> {
        let found = crate::catalogue::find(GUARANTEE);
        let mut guarantees: Vec<GuaranteeReport> = found.map(GuaranteeReport::of).into_iter().collect();
        self.enter(&mut guarantees);
        guarantees
    }

    fn enter_one(&self, one: &mut GuaranteeReport) {
        // What the site does not require and nobody could judge is told, and stops nothing.
        let told_only = self.verdict == Verdict::Unproven && self.opens;
        one.verdict = if told_only { Verdict::NotClaimed } else { self.verdict };
        one.reason.clone_from(&self.reason);
        one.evidence = self
            .evidence
            .iter()
            .map(|(outcome, at)| Evidence {
                attempt: "imported scan".to_owned(),
                from: "the scanner".to_owned(),
                control: "the digest that the scan names is the image's".to_owned(),
                control_outcome: "equal".to_owned(),
                outcome: outcome.clone(),
                at: *at,
                duration_us: 0,
            })
            .collect();
    }
}

/// Every digest in a text: `name@sha256:...`, `sha256:...`, or a folder that is named by 64
/// hexadecimal digits, as the images of one machine are.
fn digests_in(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split(|character: char| !character.is_ascii_hexdigit())
        .filter(|part| part.len() == 64)
        .map(|part| format!("sha256:{}", part.to_ascii_lowercase()))
}

/// Text of a scanner, made safe to show and bounded.
fn printable(text: &str) -> String {
    text.chars().take(LONGEST).map(|one| if one.is_control() { ' ' } else { one }).collect()
}

#[cfg(test)]
mod tests;
