//! From facts to verdicts: which guarantees of the catalogue the manifests give to each workspace.

mod disagree;
mod finding;
mod fix;
mod gather;
mod lived_with;
pub mod output;
pub mod picture;
mod preset;
mod rules;
mod scene;
mod sharing;
mod tenancy;
mod unread;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;

use cubicle_core::catalogue;
use cubicle_core::guarantee::{Guarantee, Layer, Place};
use cubicle_core::level::{EngineKind, Level};
use cubicle_core::report::{Summary, Verdict};
use cubicle_core::scan::{Scan, ScanRule};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::network::Profile;
use crate::network::cluster::{Cluster, Foreign};
use crate::pod_security::Pod;
use crate::rbac::Manifests;
use crate::snapshot::{InputProblem, Severity as InputSeverity, Snapshot, Unread};

pub use disagree::{Disagreement, disagreements};
pub use finding::{Finding, Location, MOST_FOUND, MOST_NAMED, Severity};
pub use fix::{Fix, Operation, Target, apply};
pub use lived_with::{Suppression, live_with};
pub use tenancy::{Preset, Tenancy, selector};

use gather::{Gathered, gather};
use picture::Picture;
use scene::Scene;
use tenancy::Recognised;

/// What an audit is told besides the manifests.
#[derive(Debug, Clone)]
pub struct Options {
    /// Who the tenants are.
    pub tenancy: Tenancy,
    /// The level that the workspaces are measured by.
    pub level: Level,
    /// How the network plugin decides what the standards leave open.
    pub profile: Profile,
    /// Registries that images may come from; empty for any.
    pub registries: Vec<String>,
    /// Addresses of the API server beyond those that the manifests tell.
    pub api_server: Vec<SocketAddr>,
    /// What scanners found in images.
    pub scans: Vec<Scan>,
    /// The site's rule about them.
    pub scan_rule: ScanRule,
    /// The time, for the age of scans; without it they are not looked at.
    pub now: Option<Timestamp>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            tenancy: Tenancy::default(),
            level: Level::Standard,
            profile: Profile::default(),
            registries: Vec::new(),
            api_server: Vec::new(),
            scans: Vec::new(),
            scan_rule: ScanRule::default(),
            now: None,
        }
    }
}

/// The verdict on one guarantee for all workspaces together.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ruling {
    /// The guarantee's id.
    pub id: String,
    /// Its research id.
    pub alias: String,
    /// Its layer.
    pub layer: Layer,
    /// Its place.
    pub place: Place,
    /// "A workspace cannot ..."
    pub sentence: String,
    /// The verdict: the worst of all workspaces.
    pub verdict: Verdict,
    /// Why.
    pub reason: String,
    /// How many workspaces the guarantee is not given to.
    pub workspaces: usize,
}

/// What is wrong with the input.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct InputNote {
    /// `note`, `warning` or `error`.
    pub severity: String,
    /// Where.
    pub location: Location,
    /// What.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

/// What an audit comes to, the findings that somebody lives with left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Everything was read, and every promise of the level that manifests can decide is held.
    Clean,
    /// A promise is not kept.
    Breached,
    /// Nothing is known to be breached, but something is left open.
    Unproven,
    /// Nothing is known to be breached, but not everything could be read.
    #[default]
    Unknown,
}

impl fmt::Display for Standing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Clean => "clean",
            Self::Breached => "breached",
            Self::Unproven => "unproven",
            Self::Unknown => "unknown",
        })
    }
}

/// Everything an audit says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// The level that was asked for.
    pub level: Level,
    /// How the network plugin was taken to decide.
    pub profile: String,
    /// The layout, if it is a known one.
    pub preset: Option<String>,
    /// How workspaces were told.
    pub how: String,
    /// How many workspaces there are.
    pub workspaces: usize,
    /// How many tenants.
    pub tenants: usize,
    /// How many objects were read.
    pub objects: usize,
    /// Whether everything could be read.
    pub complete: bool,
    /// What it comes to.
    #[serde(default)]
    pub result: Standing,
    /// The counts of the verdicts.
    pub summary: Summary,
    /// Every guarantee of the catalogue that exists on Kubernetes.
    pub guarantees: Vec<Ruling>,
    /// Causes, the weightiest first.
    pub findings: Vec<Finding>,
    /// What reaches what.
    pub picture: Picture,
    /// What is wrong with the input.
    pub problems: Vec<InputNote>,
    /// Kinds that are not understood, with how many there are.
    pub unknown_kinds: BTreeMap<String, usize>,
    /// Kinds that could not be read, with the reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unread: Vec<Unread>,
}

impl Report {
    /// What it comes to now: findings may have been marked as lived with.
    pub fn standing(&self) -> Standing {
        let counts = |verdict| self.findings.iter().any(|one| one.counts() && one.verdict == verdict);
        if counts(Verdict::Breached) {
            Standing::Breached
        } else if !self.complete {
            Standing::Unknown
        } else if counts(Verdict::Unproven) || self.workspaces == 0 {
            Standing::Unproven
        } else {
            Standing::Clean
        }
    }

    /// Whether a document is broken, and not only a kind unreadable.
    pub fn is_broken(&self) -> bool {
        self.problems.iter().any(|problem| problem.severity == "error")
    }
}

/// Judges a snapshot. What a known layout's program makes at run time is added to it.
pub fn audit(snapshot: &mut Snapshot, options: &Options) -> Report {
    let objects = snapshot.objects.len();
    let recognised = tenancy::recognise(snapshot, &options.tenancy);
    let manifests = Manifests::new(snapshot, &recognised.templates);
    snapshot.problems.extend(manifests.problems.iter().cloned());
    let malformed = malformed(snapshot, &recognised);
    snapshot.problems.extend(malformed);
    let cluster = Cluster::new(snapshot);
    snapshot.problems.extend(cluster.problems.iter().cloned());
    let foreign: Vec<InputProblem> = cluster.foreign.iter().filter_map(|one| foreign(snapshot, one)).collect();
    snapshot.problems.extend(foreign);
    let snapshot = &*snapshot;
    let scene = Scene::new(snapshot, &recognised, &manifests, options, (objects, cluster));
    let choices = options.level.choices();
    let mut guarantees = Vec::new();
    let mut findings = Vec::new();
    for guarantee in catalogue::on(EngineKind::Kubernetes) {
        let entry = rules::ENTRIES.iter().find(|entry| entry.alias == guarantee.alias);
        let ruling = match entry {
            None => ruling(guarantee, Verdict::NotClaimed, "manifests cannot tell; a live probe can", 0),
            Some(entry) if !(entry.claimed)(&choices) => {
                ruling(guarantee, Verdict::NotClaimed, &format!("level {} does not promise it", options.level), 0)
            }
            Some(entry) if entry.alias == "IM-02" && options.registries.is_empty() => {
                ruling(guarantee, Verdict::NotClaimed, "no list of registries was given (--registry)", 0)
            }
            Some(entry) if entry.alias == "IM-03" && !rules::signature::is_meant(snapshot) => {
                let why = format!(
                    "level {} does not promise it, and no policy that verifies signatures was found",
                    options.level
                );
                ruling(guarantee, Verdict::NotClaimed, &why, 0)
            }
            Some(entry) if entry.alias == "IM-07" && scene.scan_rule.is_none() => {
                ruling(guarantee, Verdict::NotClaimed, "no scan of the images was given (--scan)", 0)
            }
            // Scanners list the secrets that they see, and do not say whether they looked.
            Some(entry) if entry.alias == "IM-06" && scene.scans.iter().all(|scan| scan.secrets.is_empty()) => {
                ruling(guarantee, Verdict::NotClaimed, "no scan that lists secrets was given (--scan)", 0)
            }
            Some(_) if recognised.workspaces.is_empty() => {
                ruling(guarantee, Verdict::Unproven, "no workspace was found", 0)
            }
            Some(entry) => {
                let mut found = gather(&scene, guarantee, entry.rule);
                let unseen = unread::unseen(snapshot, entry.alias);
                for one in &mut found {
                    if let Some(unseen) = unseen.as_ref().filter(|unseen| unseen.hides_walls) {
                        one.finding.verdict = unseen.weaken(one.finding.verdict);
                        one.finding.witness.push(unseen.reason.clone());
                    }
                }
                let seen = worst(&found);
                let verdict = unseen.as_ref().map_or(seen, |unseen| unseen.weaken(seen));
                let concerned: BTreeSet<&String> = found.iter().flat_map(|one| &one.all).collect();
                let reason = match (verdict, found.first()) {
                    (Verdict::Unproven, None) => unseen.map(|unseen| unseen.reason).unwrap_or_default(),
                    (Verdict::Held, _) | (_, None) => {
                        format!("nothing in the manifests breaks it for {} workspaces", recognised.workspaces.len())
                    }
                    (_, Some(first)) => first.finding.claim(),
                };
                let ruling = ruling(guarantee, verdict, &reason, concerned.len());
                findings.extend(found.into_iter().map(|one| one.finding));
                ruling
            }
        };
        guarantees.push(ruling);
    }
    let weight = |finding: &Finding| (finding.verdict != Verdict::Breached, std::cmp::Reverse(finding.severity));
    findings.sort_by(|one, other| {
        let place = |finding: &Finding| (finding.alias.clone(), finding.cause.clone(), finding.location.clone());
        weight(one).cmp(&weight(other)).then_with(|| place(one).cmp(&place(other)))
    });
    let tenants: BTreeSet<&str> = recognised.workspaces.iter().map(|one| one.tenant.as_str()).collect();
    let mut report = Report {
        level: options.level,
        profile: options.profile.name().to_owned(),
        preset: recognised.preset.map(|preset| preset.to_string()),
        how: recognised.how.clone(),
        workspaces: recognised.workspaces.len(),
        tenants: tenants.len(),
        objects,
        complete: snapshot.is_complete(),
        result: Standing::default(),
        summary: count(&guarantees),
        guarantees,
        findings,
        picture: picture::picture(&scene),
        problems: snapshot.problems.iter().map(|problem| note(snapshot, problem)).collect(),
        unknown_kinds: snapshot
            .unknown_kinds()
            .into_iter()
            .map(|((version, kind), count)| (format!("{version} {kind}"), count))
            .collect(),
        unread: snapshot.unread.clone(),
    };
    report.result = report.standing();
    report
}

/// Kinds that undo every verdict on the network.
fn foreign(snapshot: &Snapshot, one: &Foreign) -> Option<InputProblem> {
    Some(InputProblem {
        severity: InputSeverity::Warning,
        source: snapshot.object(one.first)?.source,
        what: format!(
            "{} {} ({}) change the network in ways that are not known here; no verdict on the network is certain",
            one.count, one.kind, one.api_version
        ),
        remedy: "prove the network's walls by a live probe".to_owned(),
    })
}

/// Pods with fields of the wrong type: no check can read them.
fn malformed(snapshot: &Snapshot, recognised: &Recognised) -> Vec<InputProblem> {
    recognised
        .templates
        .iter()
        .filter_map(|template| {
            let problem = Pod::new(&template.pod).err()?;
            let object = snapshot.object(template.object)?;
            Some(InputProblem {
                severity: InputSeverity::Error,
                source: object.source,
                what: format!("{}: {}", template.title(), problem.what),
                remedy: problem.remedy,
            })
        })
        .collect()
}

fn note(snapshot: &Snapshot, problem: &InputProblem) -> InputNote {
    InputNote {
        severity: match problem.severity {
            InputSeverity::Note => "note",
            InputSeverity::Warning => "warning",
            InputSeverity::Error => "error",
        }
        .to_owned(),
        location: Location {
            file: snapshot.file(problem.source.file).to_owned(),
            line: problem.source.line,
            column: problem.source.column,
        },
        what: problem.what.clone(),
        remedy: problem.remedy.clone(),
    }
}

fn ruling(guarantee: &Guarantee, verdict: Verdict, reason: &str, workspaces: usize) -> Ruling {
    Ruling {
        id: guarantee.id.to_owned(),
        alias: guarantee.alias.to_owned(),
        layer: guarantee.layer,
        place: guarantee.place,
        sentence: guarantee.sentence.to_owned(),
        verdict,
        reason: reason.to_owned(),
        workspaces,
    }
}

fn worst(found: &[Gathered]) -> Verdict {
    if found.iter().any(|one| one.finding.verdict == Verdict::Breached) {
        Verdict::Breached
    } else if found.is_empty() {
        Verdict::Held
    } else {
        Verdict::Unproven
    }
}

fn count(guarantees: &[Ruling]) -> Summary {
    let of = |verdict| guarantees.iter().filter(|ruling| ruling.verdict == verdict).count();
    Summary {
        held: of(Verdict::Held),
        breached: of(Verdict::Breached),
        unproven: of(Verdict::Unproven),
        absent: of(Verdict::Absent),
        not_claimed: of(Verdict::NotClaimed),
    }
}
