//! Equal causes of many workspaces become one finding.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use cubicle_core::guarantee::Guarantee;
use cubicle_core::report::Verdict;

use super::finding::{Cause, Finding, MOST_FOUND, MOST_NAMED};
use super::fix::Fix;
use super::rules;
use super::scene::Scene;

/// A finding with every workspace that it concerns.
pub(super) struct Gathered {
    pub(super) finding: Finding,
    pub(super) all: BTreeSet<String>,
    /// Hashes of the manifests of its fix.
    fixed: HashSet<u64>,
}

impl Gathered {
    fn new(guarantee: &Guarantee, mut cause: Cause) -> Self {
        let fix = cause.fix.take();
        let mut gathered = Self { finding: finding(guarantee, cause), all: BTreeSet::new(), fixed: HashSet::new() };
        gathered.fix(fix);
        gathered
    }

    /// One object may be at fault for several namespaces: each needs its manifests.
    fn fix(&mut self, fix: Option<Fix>) {
        let more = match fix {
            Some(Fix::Manifests { objects }) => objects,
            other => {
                self.finding.fix = self.finding.fix.take().or(other);
                return;
            }
        };
        let mut objects = match self.finding.fix.take() {
            None => Vec::new(),
            Some(Fix::Manifests { objects }) => objects,
            other => {
                self.finding.fix = other;
                return;
            }
        };
        objects.extend(more.into_iter().filter(|object| self.fixed.insert(stable_hash(&[&object.to_string()]))));
        self.finding.fix = Some(Fix::Manifests { objects });
    }
}

/// What is found beyond [`MOST_FOUND`] causes of a guarantee: counted, and weighed like the worst of it.
struct Rest {
    count: usize,
    first: Cause,
    all: BTreeSet<String>,
}

impl Rest {
    fn add(rest: &mut Option<Self>, cause: Cause, title: String) {
        match rest {
            None => *rest = Some(Self { count: 1, first: cause, all: BTreeSet::from([title]) }),
            Some(rest) => {
                rest.count += 1;
                rest.all.insert(title);
                let weight = |cause: &Cause| (cause.verdict == Verdict::Breached, cause.severity);
                if weight(&cause) > weight(&rest.first) {
                    rest.first = cause;
                }
            }
        }
    }

    fn gathered(mut self, guarantee: &Guarantee) -> Gathered {
        let count = self.count;
        self.first.sentence = format!("{} ({count} more findings like the others are not listed)", self.first.sentence);
        // Another number is another finding: a baseline does not hide what comes anew.
        self.first.key = format!("{count} findings that are not listed");
        self.first.fix = None;
        Gathered { all: self.all, ..Gathered::new(guarantee, self.first) }
    }
}

/// Runs a rule over every workspace and puts equal causes together.
pub(super) fn gather(scene: &Scene<'_>, guarantee: &Guarantee, rule: rules::Rule) -> Vec<Gathered> {
    let mut by_cause: BTreeMap<(String, String, Verdict), Gathered> = BTreeMap::new();
    let mut rest = None;
    for workspace in scene.workspaces {
        let mut causes = Vec::new();
        rule(scene, workspace, &mut causes);
        for mut cause in causes {
            let title = workspace.title();
            let key = (cause.object.clone(), cause.key.clone(), cause.verdict);
            if let Some(gathered) = by_cause.get_mut(&key) {
                gathered.all.insert(title);
                gathered.fix(cause.fix.take());
            } else if by_cause.len() < MOST_FOUND {
                let mut gathered = Gathered::new(guarantee, cause);
                gathered.all.insert(title);
                by_cause.insert(key, gathered);
            } else {
                Rest::add(&mut rest, cause, title);
            }
        }
    }
    let mut gathered: Vec<Gathered> = by_cause.into_values().collect();
    gathered.extend(rest.map(|rest| rest.gathered(guarantee)));
    for one in &mut gathered {
        one.finding.workspace_count = one.all.len();
        one.finding.workspaces = one.all.iter().take(MOST_NAMED).cloned().collect();
    }
    gathered.sort_by_key(|one| (one.finding.verdict != Verdict::Breached, std::cmp::Reverse(one.finding.severity)));
    gathered
}

fn finding(guarantee: &Guarantee, cause: Cause) -> Finding {
    let breached = if cause.verdict == Verdict::Breached { "breached" } else { "unproven" };
    let fingerprint = stable_hash(&[guarantee.id, &cause.object, &cause.key, breached]);
    Finding {
        guarantee: guarantee.id.to_owned(),
        alias: guarantee.alias.to_owned(),
        verdict: cause.verdict,
        severity: cause.severity,
        sentence: cause.sentence,
        object: cause.object,
        location: cause.location,
        witness: cause.witness,
        cause: cause.key,
        workspaces: Vec::new(),
        workspace_count: 0,
        fix: cause.fix,
        fingerprint: format!("{}-{fingerprint:016x}", guarantee.alias),
        refused: cause.refused,
        suppressed: None,
    }
}

/// FNV-1a, which is the same in every version of every program: baselines are kept for years.
fn stable_hash(parts: &[&str]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in parts.iter().flat_map(|part| part.bytes().chain([0])) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::super::finding::Severity;
    use super::*;

    fn cause(severity: Severity, key: &str) -> Cause {
        Cause::breach(severity, key, "do harm")
    }

    #[test]
    fn what_is_not_listed_is_counted_and_weighs_like_the_worst_of_it() {
        let guarantee = cubicle_core::catalogue::all().first().expect("a catalogue");
        let mut rest = None;
        Rest::add(&mut rest, Cause::unproven("open", "do little"), "one".to_owned());
        Rest::add(&mut rest, cause(Severity::High, "worst"), "two".to_owned());
        Rest::add(&mut rest, cause(Severity::Low, "least"), "two".to_owned());
        let gathered = rest.expect("a rest").gathered(guarantee);
        assert_eq!((gathered.finding.verdict, gathered.finding.severity), (Verdict::Breached, Severity::High));
        assert_eq!(gathered.all.len(), 2);
        assert!(gathered.finding.sentence.contains("3 more findings"), "{}", gathered.finding.sentence);
    }

    #[test]
    fn manifests_that_several_workspaces_need_stand_there_once() {
        let guarantee = cubicle_core::catalogue::all().first().expect("a catalogue");
        let fix = |names: &[&str]| {
            Some(Fix::Manifests { objects: names.iter().map(|name| serde_json::json!({"name": name})).collect() })
        };
        let mut gathered = Gathered::new(guarantee, Cause { fix: fix(&["a", "a", "b"]), ..cause(Severity::High, "k") });
        gathered.fix(fix(&["b", "c"]));
        gathered.fix(None);
        assert_eq!(gathered.finding.fix, fix(&["a", "b", "c"]));
    }
}
