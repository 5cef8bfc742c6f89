//! `cubicle audit PATH...`

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;

use anstyle::{AnsiColor, Style};
use cubicle_audit::network::Profile;
use cubicle_audit::verdict::output::{self as forms, Alike};
use cubicle_audit::verdict::{
    Finding, Options, Report, Severity, Standing, Suppression, Tenancy, audit, live_with, selector,
};
use cubicle_core::level::Level;
use cubicle_core::problem::Problem;
use cubicle_core::report::Verdict;
use cubicle_core::scan::ScanRule;

use super::sources::{Sources, tell};
use crate::commands::template::scan;
use crate::commands::{read_input, read_large, shortened};
use crate::context::Context;
use crate::exit::Outcome;
use crate::output::table::wrap;
use crate::output::{self, Format, Printer, safe};

/// How the manifests are judged.
#[derive(Debug, clap::Args)]
pub(crate) struct Judging {
    /// A known layout: cubicle, jupyterhub, hatchery, kubeflow, agent-sandbox [default: recognised]
    #[arg(long, value_name = "LAYOUT")]
    preset: Option<String>,

    /// Labels of the pods, or of the namespaces, of workspaces, as kubectl takes them
    #[arg(long, value_name = "SELECTOR", conflicts_with = "preset")]
    tenants: Option<String>,

    /// The level that workspaces are measured by: basic, standard, strict, sandboxed, dedicated
    #[arg(long, value_name = "LEVEL", default_value = "standard")]
    level: String,

    /// The network plugin, for what the standards leave open: standard, cilium, calico, ...
    #[arg(long, value_name = "PLUGIN", default_value = "standard")]
    profile: String,

    /// A registry that images may come from; may be given more than once [default: any]
    #[arg(long = "registry", value_name = "HOST[/PATH]")]
    registries: Vec<String>,

    /// An address of the API server; may be given more than once
    #[arg(long = "api-server", value_name = "ADDRESS:PORT")]
    api_server: Vec<SocketAddr>,

    /// What Trivy or Grype found in an image, as JSON; may be given more than once
    #[arg(long = "scan", value_name = "FILE")]
    scans: Vec<PathBuf>,

    /// The lowest severity of a finding with a fix that an image may not hold
    #[arg(long = "scan-refuse", value_name = "SEVERITY", default_value = "critical")]
    scan_refuse: String,
}

impl Judging {
    pub(crate) fn options(&self) -> Result<Options, Problem> {
        let profile: Profile = self.profile.parse().map_err(|_| {
            let names: Vec<&str> = Profile::ALL.iter().map(|profile| profile.name()).collect();
            Problem::bad_input(format!("\"{}\" is not a profile", self.profile), format!("use {}", names.join(", ")))
        })?;
        Ok(Options {
            tenancy: Tenancy {
                preset: self.preset.as_deref().map(str::parse).transpose()?,
                selector: self.tenants.as_deref().map(selector).transpose()?,
            },
            level: self.level.parse::<Level>()?,
            profile,
            registries: self.registries.clone(),
            api_server: self.api_server.clone(),
            scans: self.scans.iter().map(|file| scan(file)).collect::<Result<_, _>>()?,
            scan_rule: ScanRule { refuse: self.scan_refuse.parse()?, ..ScanRule::default() },
            now: Some(jiff::Timestamp::now()),
        })
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Check {
    /// Files or folders of YAML or JSON; - reads standard input
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,

    /// Read the cluster of KUBECONFIG instead, without changing it; what this account may not
    /// list is unknown
    #[arg(long, conflicts_with = "paths")]
    live: bool,

    #[command(flatten)]
    judging: Judging,

    /// Print the smallest change that closes each finding
    #[arg(long)]
    fix: bool,

    /// A report of an earlier run (--format json): its findings are lived with
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,

    /// Excuses: a list of {finding, object, reason, until} as YAML or JSON
    #[arg(long, value_name = "FILE")]
    suppressions: Option<PathBuf>,

    /// What makes the exit code 1 or 3: breached, unproven (both), never
    #[arg(long, value_name = "VERDICT", default_value = "unproven")]
    fail_on: FailOn,
}

/// What counts as a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum FailOn {
    Breached,
    Unproven,
    Never,
}

impl Check {
    pub(crate) fn run(self, context: &Context) -> Result<Outcome, Problem> {
        let options = self.judging.options()?;
        let (mut snapshot, counted) = if self.live {
            super::live::read()?
        } else if self.paths.is_empty() {
            return Err(Problem::bad_input(
                "nothing is named to audit",
                "name files or folders: cubicle audit PATH... (- reads standard input), or a cluster: --live",
            ));
        } else {
            (Sources { paths: self.paths.clone() }.read_silently()?, BTreeMap::new())
        };
        if snapshot.objects.is_empty() && snapshot.unread.is_empty() {
            tell(&snapshot);
            let named = self.paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
            let named = match named.as_str() {
                "" => "the cluster",
                "-" => "standard input",
                other => other,
            };
            return Err(Problem::bad_input(
                format!("there is no Kubernetes object in {named}"),
                "name files or folders with manifests, or pipe `helm template` into `cubicle audit -`",
            ));
        }
        let mut report = audit(&mut snapshot, &options);
        report.unknown_kinds.extend(counted);
        tell(&snapshot);
        self.live_with(&mut report)?;
        if self.fix {
            output::write(&super::fixes::text(&report))?;
        } else {
            print(context, &report)?;
        }
        self.outcome(&report)
    }

    /// Marks what is lived with.
    fn live_with(&self, report: &mut Report) -> Result<(), Problem> {
        let baseline = match &self.baseline {
            None => BTreeSet::new(),
            Some(path) => {
                let earlier: Report = serde_json::from_slice(&read_large(path)?).map_err(|error| {
                    Problem::bad_input(
                        format!("{} is not a report of `cubicle audit`: {}", path.display(), shortened(error)),
                        "make one with `cubicle audit PATH... --format json`",
                    )
                })?;
                earlier.findings.into_iter().map(|finding| finding.fingerprint).collect()
            }
        };
        let suppressions: Vec<Suppression> = match &self.suppressions {
            None => Vec::new(),
            Some(path) => serde_norway::from_str(&read_input(path)?).map_err(|error| {
                Problem::bad_input(
                    format!("{} is not a list of suppressions: {}", path.display(), shortened(error)),
                    "write a list of {finding, object, reason, until: YYYY-MM-DD}; object may be left out",
                )
            })?,
        };
        let today = jiff::tz::Offset::UTC.to_datetime(jiff::Timestamp::now()).date();
        for note in live_with(report, &baseline, &suppressions, today)? {
            output::note(&format!("note: {note}"));
        }
        Ok(())
    }

    fn outcome(&self, report: &Report) -> Result<Outcome, Problem> {
        match report.result {
            Standing::Breached if self.fail_on != FailOn::Never => Ok(Outcome::No),
            _ if report.is_broken() => Err(Problem::bad_input(
                "not everything could be read, so the result is not clean",
                "correct what is told above",
            )),
            Standing::Unproven | Standing::Unknown if self.fail_on == FailOn::Unproven => Ok(Outcome::Undecided),
            _ => Ok(Outcome::Done),
        }
    }
}

/// Prints a report in the form that was asked for.
fn print(context: &Context, report: &Report) -> Result<(), Problem> {
    let json = |value: &serde_json::Value| {
        serde_json::to_string_pretty(value)
            .map(|text| format!("{}\n", safe::json(&text)))
            .map_err(|error| Problem::engine(format!("the answer is not JSON: {error}"), ""))
    };
    match context.printer.format {
        Format::Text | Format::Json => context.printer.print(report, |printer| text(printer, report)),
        Format::Sarif => output::write(&json(&forms::sarif(report, env!("CARGO_PKG_VERSION")))?),
        Format::Junit => output::write(&forms::junit(report)),
        Format::Html => output::write(&forms::html(report)),
        Format::Policyreport => output::write(&json(&forms::policy_report(report))?),
    }
}

fn style(verdict: Verdict) -> Style {
    let colour = match verdict {
        Verdict::Held => AnsiColor::Green,
        Verdict::Breached => AnsiColor::Red,
        Verdict::Unproven => AnsiColor::Yellow,
        Verdict::Absent | Verdict::NotClaimed => AnsiColor::BrightBlack,
    };
    Style::new().fg_color(Some(colour.into()))
}

/// How many findings are shown in text: who has more reads them as JSON or HTML.
const MOST_SHOWN: usize = 60;

/// How many of them may be of one guarantee: a thousand images without a digest are one
/// thing to do.
const MOST_OF_ONE: usize = 5;

/// How many kinds that could not be read are named.
const MOST_UNREAD: usize = 8;

fn text(printer: &Printer, report: &Report) -> String {
    let bold = Style::new().bold();
    let dimmed = Style::new().dimmed();
    let mut text = String::new();
    let counting: Vec<&Finding> = report.findings.iter().filter(|finding| finding.counts()).collect();
    let mut last = String::new();
    let like = forms::alike(counting.iter().copied());
    let (mut shown, mut of_one) = (0, 0);
    for (at, alike) in like.iter().enumerate() {
        let finding = alike.first;
        if shown == MOST_SHOWN {
            let left = like.len() - at;
            text.push_str(&format!("\n... and {left} findings more: --format json or html has all\n"));
            break;
        }
        if finding.guarantee != last {
            last.clone_from(&finding.guarantee);
            of_one = 0;
            let sentence =
                report.guarantees.iter().find(|one| one.id == finding.guarantee).map(|one| one.sentence.as_str());
            let title = format!("{} {}", finding.alias, finding.guarantee);
            let sentence = sentence.unwrap_or_default();
            // Where the line is too short for both, the sentence has its own.
            let fits = printer.width.is_none_or(|width| title.len() + 2 + sentence.len() <= width);
            let gap = if fits { "  " } else { "\n  " };
            let room = printer.width.map_or(usize::MAX, |width| width.saturating_sub(2).max(30));
            let sentence = if fits { sentence.to_owned() } else { wrap(sentence, room, 2) };
            text.push_str(&format!("\n{}{gap}{}\n", printer.paint(&title, bold), printer.paint(&sentence, dimmed)));
        }
        of_one += 1;
        if of_one <= MOST_OF_ONE {
            shown += 1;
            text.push_str(&one(printer, alike));
        }
        let ends = like.get(at + 1).is_none_or(|next| next.first.guarantee != last);
        if ends && of_one > MOST_OF_ONE {
            let left = of_one - MOST_OF_ONE;
            let findings = if left == 1 { "finding" } else { "findings" };
            text.push_str(&format!(
                "  ... and {left} {findings} more of {}: --format json or html has all\n",
                finding.alias
            ));
        }
    }
    let suppressed = report.findings.len() - counting.len();
    if suppressed > 0 {
        let findings = if suppressed == 1 { "finding is" } else { "findings are" };
        text.push_str(&format!("\n{suppressed} {findings} lived with (baseline or suppression)\n"));
    }
    if !report.unknown_kinds.is_empty() {
        let kinds: Vec<String> = report.unknown_kinds.iter().map(|(kind, count)| format!("{kind} ({count})")).collect();
        let line = format!("Not understood: {}", kinds.join(", "));
        text.push_str(&format!("\n{}\n", printer.paint(&safe::line(&line), dimmed)));
    }
    text.push_str(&format!("\n{}\n", tally(printer, report)));
    text
}

fn one(printer: &Printer, alike: &Alike<'_>) -> String {
    let (finding, others) = (alike.first, &alike.others);
    let word = match (finding.verdict, finding.severity) {
        _ if finding.refused.is_some() => "refused",
        (Verdict::Breached, Severity::High) => "high",
        (Verdict::Breached, Severity::Medium) => "medium",
        (Verdict::Breached, Severity::Low) => "low",
        _ => "unproven",
    };
    let room = printer.width.map_or(usize::MAX, |width| width.saturating_sub(12).max(30));
    let sentence = wrap(&safe::line(&finding.claim()), room, 12);
    let mut text = format!("  {}{}\n", printer.paint(&format!("{word:<10}"), style(finding.verdict)), sentence);
    let mut line = |label: &str, value: &str| {
        text.push_str(&format!("    {label:<8}{}\n", wrap(&safe::line(value), room, 12)));
    };
    let place = finding.location.as_ref().map(|location| format!("  {location}")).unwrap_or_default();
    if !finding.object.is_empty() {
        line("at", &format!("{}{place}", finding.object));
    }
    if let Some(refused) = &finding.refused {
        line("by", refused);
    }
    for (number, step) in finding.witness.iter().enumerate() {
        line(if number == 0 { "seen" } else { "" }, step);
    }
    if !others.is_empty() {
        let plural = if others.len() == 1 { "object" } else { "objects" };
        line("", &format!("and alike at {} other {plural}", others.len()));
    }
    let all = alike.workspaces();
    let named: Vec<String> = finding.workspaces.iter().take(2).cloned().collect();
    let more = all.saturating_sub(named.len());
    let named = named.join(", ");
    match more {
        0 => line("for", &named),
        more => line("for", &format!("{named} and {more} more")),
    }
    text
}

fn tally(printer: &Printer, report: &Report) -> String {
    let summary = &report.summary;
    let part = |count: usize, word: &str, verdict: Verdict| printer.paint(&format!("{count} {word}"), style(verdict));
    let parts = [
        part(summary.held, "held", Verdict::Held),
        part(summary.breached, "breached", Verdict::Breached),
        part(summary.unproven, "unproven", Verdict::Unproven),
        part(summary.not_claimed, "not claimed", Verdict::NotClaimed),
    ];
    let plural = |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
    let mut lines = vec![
        format!("Guarantees: {}", parts.join(", ")),
        format!(
            "{} of {}, {} read, level {}, network plugin {}",
            plural(report.workspaces, "workspace"),
            plural(report.tenants, "tenant"),
            plural(report.objects, "object"),
            report.level,
            report.profile,
        ),
        format!("Workspaces: {}", safe::line(&report.how)),
    ];
    for unread in report.unread.iter().take(MOST_UNREAD) {
        lines.push(format!("Unknown: {}", safe::line(&unread.reason)));
    }
    if report.unread.len() > MOST_UNREAD {
        lines.push(format!("Unknown: {} kinds more", report.unread.len() - MOST_UNREAD));
    }
    if !report.complete {
        lines.push("Not everything could be read: this result is not clean.".to_owned());
    } else if report.workspaces == 0 {
        lines
            .push("No workspace was found: nothing is proven. Name the tenants with --tenants or --preset.".to_owned());
    } else if summary.breached > 0 {
        lines.push("The smallest change for each finding: --fix".to_owned());
    }
    let verdict = match report.result {
        Standing::Clean => Verdict::Held,
        Standing::Breached => Verdict::Breached,
        Standing::Unproven | Standing::Unknown => Verdict::Unproven,
    };
    lines.push(format!("Result: {}", printer.paint(&report.result.to_string(), style(verdict))));
    lines.join("\n")
}
