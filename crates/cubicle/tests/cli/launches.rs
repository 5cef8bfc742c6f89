//! `launch --wait` and `verify`: the exit code says what became of the walls.

use cubicle_core::report::Verdict;
use serde_json::{Value, json};

use crate::fixtures::{ID, report, workspace};
use crate::program::{Machine, Ran};
use crate::stand_in::{self, done};

fn steps(last: &str) -> Vec<Value> {
    let mut events: Vec<Value> = ["request", "plan", "build"]
        .iter()
        .enumerate()
        .flat_map(|(number, step)| {
            let at = number * 10;
            [
                json!({ "step": step, "state": "running", "message": "begun", "elapsed_ms": at }),
                json!({ "step": step, "state": "done", "message": format!("{step} is done"), "elapsed_ms": at + 5 }),
            ]
        })
        .collect();
    events.push(json!({ "step": "prove", "state": last, "message": "every wall was tried", "elapsed_ms": 400 }));
    events
}

/// Launches, with an engine where the workspace ends in `state` with a report of `verdicts`.
fn launch(state: &'static str, verdicts: &'static [Verdict], format: &str) -> Ran {
    let machine = Machine::new();
    machine.file("run/url", "http://127.0.0.1:8200\n");
    stand_in::hub(&machine, |request, body| {
        assert_eq!(request, "POST /api/v1/workspaces");
        assert_eq!(*body, json!({ "template": "jupyterlab", "name": "", "user": "admin" }));
        (202, workspace("pending"))
    });
    stand_in::engine(&machine, move |call, _| match call["call"].as_str() {
        Some("events") => {
            let events = steps(if state == "running" { "done" } else { "failed" });
            [done(()), events].concat()
        }
        Some("workspace") => done(workspace(state)),
        Some("report") => done(report(verdicts)),
        other => panic!("unexpected call {other:?}"),
    });
    machine.run(["launch", "jupyterlab", "--wait", "--format", format])
}

#[test]
fn an_open_workspace_is_0() {
    insta::assert_snapshot!(launch("running", &[], "text"));
}

#[test]
fn json_has_the_last_state_alone() {
    let ran = launch("running", &[], "json");
    assert_eq!(ran.code, 0);
    let shown: Value = serde_json::from_str(&ran.output).expect("one document");
    insta::assert_json_snapshot!(shown);
}

#[test]
fn a_breached_wall_is_1_whatever_else_is_unproven() {
    let ran = launch("refused", &[Verdict::Held, Verdict::Unproven, Verdict::Breached], "text");
    assert_eq!(ran.code, 1);
    insta::assert_snapshot!(ran);
}

#[test]
fn an_unproven_wall_is_3() {
    assert_eq!(launch("refused", &[Verdict::Held, Verdict::Unproven], "text").code, 3);
}

#[test]
fn a_refusal_without_a_reason_is_not_success() {
    assert_eq!(launch("refused", &[Verdict::Held], "text").code, 3);
}

#[test]
fn a_failed_engine_is_5() {
    let ran = launch("failed", &[], "text");
    assert_eq!(ran.code, 5);
    insta::assert_snapshot!(ran);
}

#[test]
fn unknown_template_and_user_are_4() {
    for what in ["template", "user"] {
        let machine = Machine::new();
        stand_in::hub(&machine, move |_, _| {
            let detail = format!("there is no {what} \"nothing\"");
            (404, json!({ "title": "Not found", "status": 404, "detail": detail, "remedy": "list them" }))
        });
        let ran = machine.run(["launch", "nothing", "--user", "nobody"]);
        assert_eq!((ran.code, ran.output.as_str()), (4, ""));
        assert_eq!(ran.errors, format!("error: there is no {what} \"nothing\"\nhint: list them\n"));
    }
}

fn verify(verdicts: &'static [Verdict], arguments: &[&'static str]) -> Ran {
    let machine = Machine::new();
    stand_in::engine(&machine, move |call, _| {
        assert_eq!(call["call"], "verify");
        done(report(verdicts))
    });
    machine.run(["verify", ID].into_iter().chain(arguments.iter().copied()))
}

#[test]
fn verify_answers_with_the_worst_verdict() {
    assert_eq!(verify(&[Verdict::Held, Verdict::Absent, Verdict::NotClaimed], &[]).code, 0);
    assert_eq!(verify(&[Verdict::Held, Verdict::Unproven], &[]).code, 3);
    assert_eq!(verify(&[Verdict::Breached, Verdict::Unproven], &[]).code, 1);
    assert_eq!(verify(&[Verdict::Breached], &["--format", "json"]).code, 1);
}

#[test]
fn a_report_is_grouped_by_layer_with_the_worst_first() {
    let all =
        &[Verdict::Held, Verdict::NotClaimed, Verdict::Unproven, Verdict::Held, Verdict::Breached, Verdict::Absent];
    insta::assert_snapshot!("report_short", verify(all, &[]));
    insta::assert_snapshot!("report_verbose", verify(all, &["--verbose"]));
}

#[test]
fn verify_passes_on_the_ids_of_the_catalogue() {
    let machine = Machine::new();
    stand_in::engine(&machine, |call, _| {
        assert_eq!(call["only"], json!(["network.other-workspace", "network.other-workspace"]));
        done(report(&[Verdict::Held]))
    });
    let ran = machine.run(["verify", ID, "--guarantee", "NW-01", "network.other-workspace"]);
    assert_eq!(ran.code, 0, "{}", ran.errors);
    let unknown = machine.run(["verify", ID, "--guarantee", "NW-99"]);
    assert_eq!(unknown.code, 4);
}
