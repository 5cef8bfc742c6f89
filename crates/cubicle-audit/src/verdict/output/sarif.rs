//! SARIF 2.1.0, for code hosts and editors.

use cubicle_core::report::Verdict;
use serde_json::{Value, json};

use super::super::{Finding, Report, Severity};

/// The report as a SARIF log. `version` is that of the program.
pub fn sarif(report: &Report, version: &str) -> Value {
    let rules: Vec<Value> = report
        .guarantees
        .iter()
        .map(|ruling| {
            json!({
                "id": ruling.id,
                "name": ruling.alias,
                "shortDescription": {"text": ruling.sentence},
                "properties": {"layer": ruling.layer, "place": ruling.place, "verdict": ruling.verdict},
            })
        })
        .collect();
    let results: Vec<Value> = report.findings.iter().map(|finding| result(report, finding)).collect();
    let notes: Vec<Value> = report
        .problems
        .iter()
        .map(|problem| {
            json!({
                "level": if problem.severity == "error" { "error" } else { "warning" },
                "message": {"text": format!("{}: {}", problem.location, problem.what)},
            })
        })
        .collect();
    json!({
        "$schema": "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {"name": "cubicle-audit", "semanticVersion": version, "rules": rules}},
            "columnKind": "unicodeCodePoints",
            "invocations": [{"executionSuccessful": report.complete, "toolExecutionNotifications": notes}],
            "results": results,
        }],
    })
}

fn result(report: &Report, finding: &Finding) -> Value {
    let level = match (finding.verdict, finding.severity) {
        (Verdict::Breached, Severity::High) => "error",
        (Verdict::Breached, Severity::Medium) => "warning",
        _ => "note",
    };
    let mut text = format!("A workspace {}.", finding.claim());
    if let Some(refused) = &finding.refused {
        text.push_str(&format!(" Refused by {refused}."));
    }
    for line in &finding.witness {
        text.push('\n');
        text.push_str(line);
    }
    let mut location = json!({"logicalLocations": [{"fullyQualifiedName": finding.object, "kind": "resource"}]});
    if let Some(place) = &finding.location {
        location["physicalLocation"] = json!({"artifactLocation": {"uri": uri(&place.file)}});
        if place.line > 0 {
            let mut region = json!({"startLine": place.line});
            if place.column > 0 {
                region["startColumn"] = json!(place.column);
            }
            location["physicalLocation"]["region"] = region;
        }
    }
    let mut result = json!({
        "ruleId": finding.guarantee,
        "level": level,
        "message": {"text": text},
        "locations": [location],
        "partialFingerprints": {"cubicleFinding/v1": finding.fingerprint},
        "properties": {
            "verdict": finding.verdict,
            "severity": finding.severity,
            "workspaces": finding.workspaces,
            "workspaceCount": finding.workspace_count,
            "fix": finding.fix,
        },
    });
    if let Some(index) = report.guarantees.iter().position(|ruling| ruling.id == finding.guarantee) {
        result["ruleIndex"] = json!(index);
    }
    if let Some(reason) = &finding.suppressed {
        result["suppressions"] = json!([{"kind": "external", "justification": reason}]);
    }
    result
}

/// A path as a relative reference (RFC 3986): what is no plain character is written as its bytes.
fn uri(path: &str) -> String {
    let mut uri = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            uri.push_str(&format!("%{byte:02X}"));
        }
    }
    uri
}
