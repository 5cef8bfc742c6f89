//! A `ClusterPolicyReport`, for the dashboards that read those.

use cubicle_core::report::Verdict;
use serde_json::{Value, json};

use super::super::{Finding, Report, Severity};

/// The report as a `wgpolicyk8s.io/v1alpha2` object.
pub fn policy_report(report: &Report) -> Value {
    let mut results: Vec<Value> = report.findings.iter().map(result).collect();
    for ruling in &report.guarantees {
        let word = match ruling.verdict {
            Verdict::Held => "pass",
            Verdict::NotClaimed | Verdict::Absent => "skip",
            Verdict::Unproven if !report.findings.iter().any(|finding| finding.guarantee == ruling.id) => "error",
            Verdict::Breached | Verdict::Unproven => continue,
        };
        results.push(json!({
            "source": "cubicle",
            "policy": ruling.id,
            "rule": ruling.alias,
            "category": ruling.layer,
            "result": word,
            "message": ruling.reason,
        }));
    }
    let count = |word: &str| results.iter().filter(|result| result["result"] == word).count();
    let summary = json!({
        "pass": count("pass"), "fail": count("fail"), "warn": count("warn"),
        "error": count("error"), "skip": count("skip"),
    });
    json!({
        "apiVersion": "wgpolicyk8s.io/v1alpha2",
        "kind": "ClusterPolicyReport",
        "metadata": {"name": "cubicle-audit", "labels": {"app.kubernetes.io/managed-by": "cubicle"}},
        "summary": summary,
        "results": results,
    })
}

fn result(finding: &Finding) -> Value {
    let (kind, rest) = finding.object.split_once(' ').unwrap_or((finding.object.as_str(), ""));
    let (namespace, name) = rest.split_once('/').unwrap_or(("", rest));
    let word = match (finding.counts(), finding.verdict) {
        (false, _) => "skip",
        (true, Verdict::Breached) => "fail",
        (true, _) => "warn",
    };
    let mut result = json!({
        "source": "cubicle",
        "policy": finding.guarantee,
        "rule": finding.alias,
        "result": word,
        "severity": match finding.severity {
            Severity::High => "high",
            Severity::Medium => "medium",
            Severity::Low => "low",
        },
        "message": format!("A workspace {}.", finding.claim()),
        "properties": {
            "fingerprint": finding.fingerprint,
            "workspaces": finding.workspace_count.to_string(),
            "location": finding.location.as_ref().map(ToString::to_string).unwrap_or_default(),
        },
    });
    // A name with a space is a sentence and no object.
    if !name.is_empty() && !name.contains(' ') {
        let mut resource = json!({"kind": kind, "name": name});
        if !namespace.is_empty() {
            resource["namespace"] = json!(namespace);
        }
        result["resources"] = json!([resource]);
    }
    result
}
