//! Grype's JSON. Source: `grype/presenter/models/document.go` of anchore/grype.

use serde::Deserialize;
use serde_json::Value;

use super::{Scan, Severity, Vulnerability, digests_in, printable};

#[derive(Deserialize)]
struct Document {
    matches: Vec<Match>,
    source: Source,
    descriptor: Descriptor,
}

#[derive(Deserialize)]
struct Match {
    vulnerability: Found,
    artifact: Artifact,
}

#[derive(Deserialize)]
struct Found {
    id: String,
    #[serde(default)]
    severity: String,
    #[serde(default)]
    fix: Fix,
}

#[derive(Default, Deserialize)]
struct Fix {
    #[serde(default)]
    versions: Option<Vec<String>>,
    #[serde(default)]
    state: String,
}

#[derive(Deserialize)]
struct Artifact {
    name: String,
    #[serde(default)]
    version: String,
}

#[derive(Deserialize)]
struct Source {
    target: Value,
}

#[derive(Deserialize)]
struct Descriptor {
    name: String,
    #[serde(default)]
    timestamp: Option<String>,
}

/// None where it is not Grype's.
pub(super) fn read(document: &Value) -> Option<Scan> {
    let document = Document::deserialize(document).ok().filter(|document| document.descriptor.name == "grype")?;
    let target = &document.source.target;
    // A folder is named by its path alone, an image in several ways.
    let single = [target, &target["userInput"], &target["imageID"], &target["manifestDigest"]];
    let listed = target["repoDigests"].as_array().into_iter().flatten();
    let digests: Vec<String> =
        single.into_iter().chain(listed).filter_map(Value::as_str).flat_map(digests_in).collect();
    let found = document
        .matches
        .into_iter()
        .map(|one| {
            let versions = one.vulnerability.fix.versions.unwrap_or_default();
            // Where the state is `fixed` without a version there is a fix all the same.
            let is_fixed = one.vulnerability.fix.state == "fixed";
            let fixed = match versions.first() {
                Some(version) => printable(version),
                None if is_fixed => "a later version".to_owned(),
                None => String::new(),
            };
            Vulnerability {
                id: printable(&one.vulnerability.id),
                package: printable(&one.artifact.name),
                version: printable(&one.artifact.version),
                fixed,
                severity: one.vulnerability.severity.parse().unwrap_or(Severity::Unknown),
            }
        })
        .collect();
    Some(Scan::of("grype", digests, document.descriptor.timestamp.and_then(|text| text.parse().ok()), found))
}
