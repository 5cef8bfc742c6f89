//! "What isolates me" with the whole catalogue and long evidence.

use cubicle_core::catalogue;
use cubicle_core::guarantee::Guarantee;
use cubicle_core::level::{EngineKind, Level};
use cubicle_core::report::{Evidence, GuaranteeReport, Report, Summary, Verdict};
use cubicle_core::workspace::State;
use cubicle_hub::pages::isolation;

use crate::Rendered;
use crate::sample::{HOSTILE, at, frame, workspace, workspace_id};

fn verdict(number: usize, broken: bool) -> (Verdict, &'static str) {
    match (number, broken) {
        (1, true) => (Verdict::Breached, "the connection succeeded"),
        (20, true) => (Verdict::Unproven, "the control failed too, so the attempt says nothing"),
        (number, _) if number % 17 == 5 => (
            Verdict::NotClaimed,
            "level standard shares the machine's kernel; choose sandboxed for a kernel of its own",
        ),
        (number, _) if number % 13 == 4 => {
            (Verdict::Absent, "this kernel does not have it: the control got ENOSYS too")
        }
        _ => (Verdict::Held, "every attempt was stopped while the control worked"),
    }
}

fn guarantee(number: usize, entry: &Guarantee, broken: bool) -> GuaranteeReport {
    let (verdict, reason) = verdict(number, broken);
    let tries = if verdict == Verdict::NotClaimed { 0 } else { 1 + number % 4 };
    let evidence = (0..tries).map(|try_number| Evidence {
        attempt: if number == 7 {
            format!("{} {}", entry.live_probe, "0123456789abcdef".repeat(24))
        } else {
            entry.live_probe.to_owned()
        },
        from: "the workspace's first process, before any user code".to_owned(),
        control: entry.positive_control.to_owned(),
        control_outcome: if verdict == Verdict::Absent { "ENOSYS" } else { "connected in 180 µs" }.to_owned(),
        outcome: match (verdict, number) {
            (Verdict::Breached, _) => "connected".to_owned(),
            (_, 9) => HOSTILE.to_owned(),
            _ => "EPERM (operation not permitted)".to_owned(),
        },
        at: at("11:52:07"),
        duration_us: 85 + 700 * try_number as u64,
    });
    GuaranteeReport {
        id: entry.id.to_owned(),
        alias: entry.alias.to_owned(),
        layer: entry.layer,
        place: entry.place,
        sentence: entry.sentence.to_owned(),
        mechanism: entry.mechanism.to_owned(),
        verdict,
        reason: reason.to_owned(),
        evidence: evidence.collect(),
        references: entry.references.iter().map(|&reference| reference.to_owned()).collect(),
    }
}

/// The whole catalogue of the local engine, with one breached and one unproven when `broken`.
pub(crate) fn report(broken: bool) -> Report {
    let local = catalogue::all().iter().filter(|entry| entry.engines.contains(&EngineKind::Local));
    let guarantees: Vec<GuaranteeReport> =
        local.enumerate().map(|(number, entry)| guarantee(number, entry, broken)).collect();
    Report {
        workspace: workspace_id(2),
        engine: EngineKind::Local,
        level: Level::Standard,
        template: "jupyterlab".parse().expect("valid"),
        started_at: at("11:52:06"),
        duration_ms: 948,
        summary: Summary::of(&guarantees),
        guarantees,
    }
}

/// The pages.
pub(crate) fn pages() -> Vec<Rendered> {
    let view = |report, only| isolation::View {
        frame: frame(false),
        workspace: workspace(2, "Thesis, chapter 3", State::Running, ""),
        report,
        only,
        can_verify: true,
    };
    let mut refused = view(Some(report(true)), None);
    refused.workspace = workspace(2, HOSTILE, State::Refused, "2 promised guarantees were not proven");
    refused.can_verify = false;
    vec![
        ("isolation", isolation::render(&view(Some(report(false)), None))),
        ("isolation-refused", isolation::render(&refused)),
        ("isolation-held", isolation::render(&view(Some(report(true)), isolation::verdict_of_query("held")))),
        (
            "isolation-not-claimed",
            isolation::render(&view(Some(report(true)), isolation::verdict_of_query("not_claimed"))),
        ),
        ("isolation-no-breach", isolation::render(&view(Some(report(false)), isolation::verdict_of_query("breached")))),
        ("isolation-none", isolation::render(&view(None, None))),
    ]
}
