//! Workspaces and reports to answer with.

use cubicle_core::report::{Report, Summary, Verdict};
use serde_json::{Value, json};

pub(crate) const ID: &str = "w-0123456789ab";

/// A workspace in a state.
pub(crate) fn workspace(state: &str) -> Value {
    json!({
        "id": ID,
        "name": "my notes",
        "owner": { "id": "u-0123456789ab", "name": "Zoë" },
        "template": "jupyterlab",
        "level": "standard",
        "engine": "local",
        "state": state,
        "reason": if state == "running" { "" } else { "because of the test" },
        "pid": (state == "running").then_some(4711),
        "created_at": "2026-01-02T03:04:05Z",
        "opened_at": (state == "running").then_some("2026-01-02T03:04:06Z"),
        "last_activity": null,
        "stops_at": null,
        "warnings": ["the home is nearly full"],
    })
}

/// A report with one guarantee of each of these verdicts.
pub(crate) fn report(verdicts: &[Verdict]) -> Report {
    let guarantees: Vec<_> = verdicts
        .iter()
        .enumerate()
        .map(|(number, verdict)| {
            let value = json!({
                "id": format!("network.example-{number}"),
                "alias": format!("NW-{number:02}"),
                "layer": if number % 2 == 0 { "workload" } else { "platform_services" },
                "place": "network",
                "sentence": "A workspace cannot open a TCP connection to another workspace of the same machine.",
                "mechanism": "It has no network interface but its own loopback.",
                "verdict": verdict,
                "reason": "the reason in one sentence",
                "evidence": [{
                    "attempt": "connect to 192.0.2.1:8888", "from": "the tenant", "control": "the same as root",
                    "control_outcome": "connected", "outcome": "ENETUNREACH", "at": "2026-01-02T03:04:05Z",
                    "duration_us": 120,
                }],
                "references": ["man 7 network_namespaces"],
            });
            serde_json::from_value(value).expect("a guarantee")
        })
        .collect();
    Report {
        workspace: ID.parse().expect("valid"),
        engine: cubicle_core::level::EngineKind::Local,
        level: cubicle_core::level::Level::Standard,
        template: "jupyterlab".parse().expect("valid"),
        started_at: "2026-01-02T03:04:05Z".parse().expect("valid"),
        duration_ms: 412,
        summary: Summary::of(&guarantees),
        guarantees,
    }
}
