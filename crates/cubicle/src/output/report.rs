//! How a report reads: by layer, worst news spelled out.

use anstyle::{AnsiColor, Style};
use cubicle_core::guarantee::Layer;
use cubicle_core::report::{GuaranteeReport, Report, Summary, Verdict};

use super::table::wrap;
use super::{Printer, safe};

/// Columns before the sentence: two of margin, the verdict, and the catalogue's id.
const INDENT: usize = 2 + 13 + 7;

/// The layer's name for people.
pub(crate) fn layer_title(layer: Layer) -> &'static str {
    match layer {
        Layer::ControlPlane => "Control plane",
        Layer::Workload => "Workload",
        Layer::PlatformServices => "Platform services",
    }
}

/// The verdict in words.
pub(crate) fn verdict_word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Held => "held",
        Verdict::Breached => "BREACHED",
        Verdict::Unproven => "unproven",
        Verdict::Absent => "absent",
        Verdict::NotClaimed => "not claimed",
    }
}

fn verdict_style(verdict: Verdict) -> Style {
    let colour = match verdict {
        Verdict::Held => AnsiColor::Green,
        Verdict::Breached => return Style::new().fg_color(Some(AnsiColor::Red.into())).bold(),
        Verdict::Unproven => AnsiColor::Yellow,
        Verdict::Absent | Verdict::NotClaimed => return Style::new().dimmed(),
    };
    Style::new().fg_color(Some(colour.into()))
}

/// A whole report. With `verbose` every guarantee shows its mechanism and its evidence.
pub(crate) fn text(printer: &Printer, report: &Report, verbose: bool) -> String {
    let heading = format!(
        "{}  {}  level {}  engine {}\nproven {} in {} ms:\n",
        report.workspace,
        report.template,
        report.level,
        report.engine,
        report.started_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        report.duration_ms,
    );
    let carried = report.carried().map(|carried| {
        let (count, oldest) = (carried.count, carried.oldest.strftime("%Y-%m-%dT%H:%M:%SZ"));
        format!("  {count} of them were not tried again; the oldest evidence is of {oldest}\n")
    });
    let room = printer.width.map_or(usize::MAX, |width| width.saturating_sub(2).max(20));
    let mut text = format!("{heading}  {}\n", wrap(&counts(&report.summary), room, 2));
    text.push_str(&carried.unwrap_or_default());
    for layer in [Layer::ControlPlane, Layer::Workload, Layer::PlatformServices] {
        let mut members: Vec<&GuaranteeReport> =
            report.guarantees.iter().filter(|guarantee| guarantee.layer == layer).collect();
        if members.is_empty() {
            continue;
        }
        members.sort_by_key(|guarantee| urgency(guarantee.verdict));
        text.push_str(&format!("\n{}\n", printer.paint(layer_title(layer), Style::new().bold())));
        for guarantee in members {
            one(printer, &mut text, guarantee, verbose);
        }
    }
    text
}

/// What needs attention comes first; within one verdict the catalogue's order stays.
fn urgency(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Breached => 0,
        Verdict::Unproven => 1,
        Verdict::Held => 2,
        Verdict::Absent => 3,
        Verdict::NotClaimed => 4,
    }
}

/// The counts that are not zero; "held" always.
fn counts(summary: &Summary) -> String {
    let all = [
        (summary.held, "held", true),
        (summary.breached, "breached", false),
        (summary.unproven, "unproven", false),
        (summary.absent, "absent", false),
        (summary.not_claimed, "not claimed", false),
    ];
    let shown = all.into_iter().filter(|(count, _, always)| *always || *count > 0);
    shown.map(|(count, word, _)| format!("{count} {word}")).collect::<Vec<_>>().join(", ")
}

fn one(printer: &Printer, text: &mut String, guarantee: &GuaranteeReport, verbose: bool) {
    let room = printer.width.map_or(usize::MAX, |width| width.saturating_sub(INDENT).max(20));
    let verdict = verdict_word(guarantee.verdict);
    text.push_str(&format!(
        "  {}{}{:<7}{}\n",
        printer.paint(verdict, verdict_style(guarantee.verdict)),
        " ".repeat(13_usize.saturating_sub(verdict.len())),
        safe::line(&guarantee.alias),
        wrap(&safe::line(&guarantee.sentence), room, INDENT),
    ));
    let mut more = |label: &str, value: &str| {
        if !value.is_empty() {
            let line = wrap(&safe::line(&format!("{label}{value}")), room, INDENT + 2);
            text.push_str(&format!("{}{}\n", " ".repeat(INDENT), printer.paint(&line, Style::new().dimmed())));
        }
    };
    if verbose || matches!(guarantee.verdict, Verdict::Breached | Verdict::Unproven) {
        more("", &guarantee.id);
        more("", &guarantee.reason);
    }
    if verbose {
        more("mechanism: ", &guarantee.mechanism);
        for evidence in &guarantee.evidence {
            more(
                "tried: ",
                &format!(
                    "{} from {}: {} ({} us)",
                    evidence.attempt, evidence.from, evidence.outcome, evidence.duration_us
                ),
            );
            let control = evidence.control.trim_end_matches('.');
            more("control: ", &format!("{control}: {}", evidence.control_outcome));
        }
        more("see: ", &guarantee.references.join(", "));
    }
}
