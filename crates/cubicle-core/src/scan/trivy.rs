//! Trivy's JSON. Source: `pkg/types/report.go` and `pkg/fanal/types` of aquasecurity/trivy,
//! `SchemaVersion` 2.

use serde::Deserialize;
use serde_json::Value;

use super::{Scan, Severity, Vulnerability, digests_in, printable};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Report {
    schema_version: u32,
    #[serde(default)]
    created_at: Option<String>,
    #[serde(default)]
    artifact_name: String,
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    results: Option<Vec<Part>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Metadata {
    #[serde(rename = "ImageID", default)]
    image_id: String,
    #[serde(default)]
    repo_digests: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Part {
    #[serde(default)]
    target: String,
    #[serde(default)]
    secrets: Option<Vec<Secret>>,
    #[serde(default)]
    vulnerabilities: Option<Vec<Found>>,
}

/// What it is and where; `Match` and `Code` hold the secret itself and are not read.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Secret {
    #[serde(rename = "RuleID", default)]
    rule: String,
    #[serde(default)]
    start_line: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Found {
    #[serde(rename = "VulnerabilityID")]
    id: String,
    #[serde(default)]
    pkg_name: String,
    #[serde(default)]
    installed_version: String,
    #[serde(default)]
    fixed_version: String,
    #[serde(default)]
    severity: String,
}

/// None where it is not Trivy's.
pub(super) fn read(document: &Value) -> Option<Scan> {
    let report = Report::deserialize(document).ok().filter(|report| report.schema_version == 2)?;
    let names = [report.artifact_name, report.metadata.image_id];
    let digests = names.iter().chain(report.metadata.repo_digests.iter().flatten()).flat_map(|name| digests_in(name));
    let parts = report.results.unwrap_or_default();
    let mut secrets: Vec<String> = parts
        .iter()
        .flat_map(|part| part.secrets.iter().flatten().map(move |one| (part, one)))
        .map(|(part, one)| printable(&format!("{} in {} line {}", one.rule, part.target, one.start_line)))
        .take(super::MOST_KEPT)
        .collect();
    secrets.sort_unstable();
    secrets.dedup();
    let found = parts.into_iter().flat_map(|part| part.vulnerabilities.unwrap_or_default());
    let found = found
        .map(|one| Vulnerability {
            id: printable(&one.id),
            package: printable(&one.pkg_name),
            version: printable(&one.installed_version),
            fixed: printable(&one.fixed_version),
            severity: one.severity.parse().unwrap_or(Severity::Unknown),
        })
        .collect();
    let digests: Vec<String> = digests.collect();
    let scan = Scan::of("trivy", digests, report.created_at.and_then(|text| text.parse().ok()), found);
    Some(Scan { secrets, ..scan })
}
