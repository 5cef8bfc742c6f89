//! What is counted is told, under the names that dashboards ask for. Counters are of the process, so each test looks at
//! labels that no other one uses, or at how much they grew.

use std::collections::HashMap;
use std::time::Duration;

use cubicle_core::report::Report;
use cubicle_core::workspace::{Step, Workspace};
use cubicle_metrics::launches::{Outcome, Proof};
use cubicle_metrics::{CONTENT_TYPE, controller, engine, hub, launches, serve, whole};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Samples by name with labels; labels come in the order in which they are declared.
fn samples(text: &str) -> HashMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').expect("a sample");
            (name.to_owned(), value.parse().expect("a number"))
        })
        .collect()
}

fn told(text: &str, name: &str) -> f64 {
    samples(text).get(name).copied().unwrap_or_default()
}

#[test]
fn requests_are_counted_by_route_and_methods_are_few() {
    let before = hub::text();
    hub::answered("GET", "/workspaces/{id}", 200, Duration::from_millis(3));
    hub::answered("GET", "/workspaces/{id}", 200, Duration::from_millis(5));
    for made_up in ["BREW", "get", "X".repeat(5000).as_str()] {
        hub::answered(made_up, "/workspaces/{id}", 405, Duration::ZERO);
    }
    let after = hub::text();
    let grew = |name: &str| told(&after, name) - told(&before, name);
    let request = |method: &str, status: u16| {
        format!("cubicle_http_requests_total{{method=\"{method}\",route=\"/workspaces/{{id}}\",status=\"{status}\"}}")
    };
    assert_eq!((grew(&request("GET", 200)), grew(&request("other", 405))), (2.0, 3.0), "{after}");
    assert_eq!(grew("cubicle_http_request_seconds_count{route=\"/workspaces/{id}\"}"), 5.0);
    let took = grew("cubicle_http_request_seconds_sum{route=\"/workspaces/{id}\"}");
    assert!((took - 0.008).abs() < 1e-9, "seconds, not {took}");
    assert!(!after.contains("BREW") && !after.contains("XXX"));
}

#[test]
fn what_is_open_is_counted_while_it_lives() {
    let open = || told(&hub::text(), "cubicle_websockets_open");
    let before = open();
    let (one, two) = (hub::websocket_opens(), hub::websocket_opens());
    assert_eq!(open() - before, 2.0);
    drop(one);
    assert_eq!(open() - before, 1.0);
    drop(two);
    assert_eq!(open(), before);
    let request = hub::request_begins();
    assert!(told(&hub::text(), "cubicle_http_requests_in_flight") >= 1.0);
    drop(request);
}

#[test]
fn a_part_is_ready_or_it_is_not() {
    hub::ready("a part of this test", true);
    assert_eq!(told(&hub::text(), "cubicle_ready{part=\"a part of this test\"}"), 1.0);
    hub::ready("a part of this test", false);
    assert_eq!(samples(&hub::text())["cubicle_ready{part=\"a part of this test\"}"], 0.0);
}

fn workspace(state: &str) -> Workspace {
    let text = json!({
        "id": "w-000000000000", "name": "a name", "owner": {"id": "u-000000000000", "name": "somebody"},
        "template": "jupyterlab", "level": "standard", "engine": "local", "state": state, "reason": "", "pid": null,
        "created_at": "2026-01-01T00:00:00Z", "opened_at": null, "last_activity": null, "stops_at": null,
    });
    serde_json::from_value(text).expect("a workspace")
}

#[test]
fn every_state_is_told_and_nobodys_name() {
    let states = ["pending", "proving", "running", "stopping", "stopped", "refused", "failed"];
    let mut all: Vec<Workspace> = states.iter().map(|state| workspace(state)).collect();
    all.push(workspace("running"));
    hub::workspaces(&all);
    let text = hub::text();
    for state in states {
        let expected = if state == "running" { 2.0 } else { 1.0 };
        assert_eq!(told(&text, &format!("cubicle_workspaces{{state=\"{state}\"}}")), expected, "{state}");
    }
    for secret in ["w-000000000000", "u-000000000000", "somebody", "a name", "jupyterlab"] {
        assert!(!text.contains(secret), "{secret}");
    }
    // What is gone is told as none, not left as it was.
    hub::workspaces(&[]);
    assert_eq!(samples(&hub::text())["cubicle_workspaces{state=\"running\"}"], 0.0);
}

#[test]
fn launches_are_told_by_step_end_and_verdict() {
    let before = launches::text();
    for step in Step::ALL {
        launches::step_done(step, Duration::from_millis(1500));
    }
    for outcome in [Outcome::Open, Outcome::Refused, Outcome::Refused, Outcome::Failed] {
        launches::ended(outcome);
    }
    let guarantee = |id: &str, verdict: &str| {
        json!({"id": id, "alias": "XX-01", "layer": "workload", "place": "pod", "sentence": "", "mechanism": "",
               "verdict": verdict, "reason": "secret", "evidence": [], "references": []})
    };
    let report: Report = serde_json::from_value(json!({
        "workspace": "w-000000000000", "engine": "local", "level": "standard", "template": "jupyterlab",
        "started_at": "2026-01-01T00:00:00Z", "duration_ms": 2500,
        "summary": {"held": 1, "breached": 1, "unproven": 1, "absent": 1, "not_claimed": 1},
        "guarantees": [guarantee("a", "held"), guarantee("b", "breached"), guarantee("c", "unproven"),
                       guarantee("d", "absent"), guarantee("e", "not_claimed")],
    }))
    .expect("a report");
    launches::proven(&report, Proof::Gate);
    launches::proven(&report, Proof::Later);
    let after = launches::text();
    let grew = |name: &str| told(&after, name) - told(&before, name);
    for step in ["request", "plan", "build", "prove", "open"] {
        assert_eq!(grew(&format!("cubicle_launch_step_seconds_count{{step=\"{step}\"}}")), 1.0, "{step}");
        assert_eq!(grew(&format!("cubicle_launch_step_seconds_sum{{step=\"{step}\"}}")), 1.5, "{step}");
    }
    for (outcome, expected) in [("open", 1.0), ("refused", 2.0), ("failed", 1.0)] {
        assert_eq!(grew(&format!("cubicle_launches_total{{outcome=\"{outcome}\"}}")), expected, "{outcome}");
    }
    for (id, verdict) in [("a", "held"), ("b", "breached"), ("c", "unproven"), ("d", "absent")] {
        assert_eq!(grew(&format!("cubicle_verdicts_total{{guarantee=\"{id}\",verdict=\"{verdict}\"}}")), 2.0, "{id}");
    }
    // What is not promised has no verdict.
    assert!(!after.contains("guarantee=\"e\"") && !after.contains("secret"), "{after}");
    for phase in ["gate", "later"] {
        assert_eq!(grew(&format!("cubicle_proof_seconds_sum{{phase=\"{phase}\"}}")), 2.5, "{phase}");
    }
}

#[test]
fn what_an_engine_has_left_is_told_in_bytes() {
    let stock =
        engine::Stock { homes: 3, homes_used: 1 << 40, disk_free: u64::MAX, ranges_taken: 2, ranges_free: 65_534 };
    let text = engine::text(stock);
    for (name, expected) in [
        ("cubicle_engine_homes", 3.0),
        ("cubicle_engine_homes_used_bytes", (1_u64 << 40) as f64),
        // More than is told is told as the most, never as less than none.
        ("cubicle_engine_disk_free_bytes", i64::MAX as f64),
        ("cubicle_engine_id_ranges{state=\"taken\"}", 2.0),
        ("cubicle_engine_id_ranges{state=\"free\"}", 65_534.0),
    ] {
        assert_eq!(told(&text, name), expected, "{name}");
    }
}

#[test]
fn a_controller_tells_what_it_did_and_whether_it_leads() {
    controller::reconciled("workspace", true);
    controller::reconciled("workspace", true);
    controller::reconciled("workspace", false);
    controller::leads(true);
    let text = controller::text();
    assert_eq!(told(&text, "cubicle_controller_reconciles_total{kind=\"workspace\",outcome=\"ok\"}"), 2.0, "{text}");
    assert_eq!(told(&text, "cubicle_controller_reconciles_total{kind=\"workspace\",outcome=\"error\"}"), 1.0);
    assert_eq!(told(&text, "cubicle_controller_leads"), 1.0);
    controller::leads(false);
    assert_eq!(samples(&controller::text())["cubicle_controller_leads"], 0.0);
}

#[test]
fn parts_put_together_have_one_end() {
    let text = whole(&[hub::text(), engine::text(engine::Stock::default()), launches::text()]);
    assert!(text.ends_with("# EOF\n"));
    assert_eq!(text.matches("# EOF").count(), 1);
}

async fn ask(address: std::net::SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("connected");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    answer
}

#[tokio::test]
async fn the_listener_tells_one_thing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let address = listener.local_addr().expect("an address");
    let serving = tokio::spawn(serve(listener, || async { whole(&["a_sample 1\n".to_owned()]) }));
    let request = |line: &str| format!("{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let answer = ask(address, &request("GET /metrics")).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.contains(&format!("content-type: {CONTENT_TYPE}\r\n")), "{answer}");
    assert!(answer.ends_with("\r\n\r\na_sample 1\n# EOF\n"), "{answer}");
    for (line, status) in
        [("GET /", "404"), ("GET /metrics/x", "404"), ("POST /metrics", "405"), ("DELETE /metrics", "405")]
    {
        let answer = ask(address, &request(line)).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{line}: {answer}");
        assert!(!answer.contains("a_sample"), "{line}");
    }
    // A head without end is cut off, and clients that say nothing take no more than their share.
    let answer = ask(address, &format!("GET /metrics HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(32 << 10))).await;
    assert!(answer.starts_with("HTTP/1.1 431 ") || answer.is_empty(), "{answer}");
    let mut silent = Vec::new();
    for _ in 0..15 {
        silent.push(TcpStream::connect(address).await.expect("connected"));
    }
    assert!(ask(address, &request("GET /metrics")).await.contains("a_sample"));
    serving.abort();
}
