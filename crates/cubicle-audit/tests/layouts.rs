//! Known layouts: what is known to be wrong with each is found, with its line.

use std::path::{Path, PathBuf};

use cubicle_audit::snapshot::{Snapshot, read};
use cubicle_audit::verdict::{Finding, Options, Report, audit};
use cubicle_core::report::Verdict;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/layouts").join(name)
}

fn judge(name: &str) -> (Report, String) {
    let path = file(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut snapshot: Snapshot = read::read(&[path]);
    assert!(snapshot.is_complete(), "{name}: {:?}", snapshot.problems);
    (audit(&mut snapshot, &Options::default()), text)
}

fn line_of<'a>(finding: &Finding, text: &'a str) -> &'a str {
    let line = finding.location.as_ref().map_or(0, |location| location.line);
    text.lines().nth(line.saturating_sub(1) as usize).unwrap_or_default().trim()
}

/// Every expectation: the research id, a part of the sentence, and a part of the line (or of the
/// object, where the thing at fault has no line of its own).
#[track_caller]
fn found(report: &Report, text: &str, alias: &str, sentence: &str, line: &str) {
    let of_guarantee: Vec<_> = report.findings.iter().filter(|finding| finding.alias == alias).collect();
    let found = of_guarantee.iter().any(|finding| {
        finding.verdict == Verdict::Breached
            && finding.sentence.contains(sentence)
            && (line_of(finding, text).contains(line) || finding.object.contains(line))
    });
    let told: Vec<String> = of_guarantee
        .iter()
        .map(|finding| {
            format!("{:?} {} [{}] {}", finding.verdict, finding.sentence, line_of(finding, text), finding.object)
        })
        .collect();
    assert!(found, "{alias} \"{sentence}\" at \"{line}\" is not among {told:#?}");
}

#[track_caller]
fn held(report: &Report, alias: &str) {
    let ruling = report.guarantees.iter().find(|ruling| ruling.alias == alias);
    let verdict = ruling.map(|ruling| ruling.verdict);
    assert_eq!(verdict, Some(Verdict::Held), "{alias}: {ruling:?}");
}

#[test]
fn zero_to_jupyterhub() {
    let (report, text) = judge("zero-to-jupyterhub.yaml");
    assert_eq!((report.preset.as_deref(), report.workspaces, report.tenants), (Some("jupyterhub"), 2, 2));
    let block = "- to:";
    found(&report, &text, "NW-14", "169.254.170.2 port 80", block);
    found(&report, &text, "NW-14", "169.254.170.23", block);
    found(&report, &text, "NW-14", "169.254.169.252", block);
    found(&report, &text, "NW-15", "168.63.129.16", block);
    found(&report, &text, "NW-15", "100.100.100.200", block);
    found(&report, &text, "NW-16", "100.64.0.0/10", block);
    for range in ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"] {
        found(&report, &text, "NW-24", range, "- ports:");
    }
    found(&report, &text, "CT-25", "block-cloud-metadata", "singleuser:");
    held(&report, "NW-12");
    held(&report, "CP-01");
    held(&report, "NW-22");
    held(&report, "NW-03");
}

#[test]
fn a_policy_in_the_wrong_namespace() {
    let (report, text) = judge("user-namespaces.yaml");
    found(&report, &text, "NS-08", "no policy there denies by default", "apiVersion: networking.k8s.io/v1");
    found(&report, &text, "NW-01", "another tenant's workspace", "Namespace jupyter-");
    let witness = report.findings.iter().flat_map(|finding| &finding.witness);
    assert!(
        witness.into_iter().any(|line| line.contains("NetworkPolicy jhub/singleuser") && line.contains("stands in"))
    );
}

#[test]
fn hatchery() {
    let (report, text) = judge("hatchery.yaml");
    assert_eq!((report.preset.as_deref(), report.workspaces), (Some("hatchery"), 2));
    found(&report, &text, "CP-01", "read the token", "Pod of hatchery");
    found(&report, &text, "CT-25", "fuse-container", "Pod of hatchery");
    found(&report, &text, "ND-04", "appear on the node", "Pod of hatchery");
    found(&report, &text, "SV-10", "API_KEY", "Pod of hatchery");
    found(&report, &text, "SV-12", "get that user's notebook", "- to:");
    found(&report, &text, "SV-12", "launch or end that user's workspace", "- to:");
    found(&report, &text, "NW-22", "Deployment gen3/ambassador-deployment", "- to:");
    found(&report, &text, "NW-16", "192.168.0.0/16", "- to:");
    found(&report, &text, "NW-16", "100.64.0.0/10", "- to:");
    found(&report, &text, "NW-24", "pods that are not the cluster's name server", "- to:");
    found(&report, &text, "CP-15", "read every secret of the cluster", "apiVersion: rbac.authorization.k8s.io/v1");
    found(&report, &text, "NS-01", "share namespace jupyter-pods", "Namespace jupyter-pods");
    held(&report, "NW-12");
    held(&report, "NS-08");
}

#[test]
fn kubeflow() {
    let (report, text) = judge("kubeflow.yaml");
    assert_eq!((report.preset.as_deref(), report.tenants), (Some("kubeflow"), 2));
    found(&report, &text, "NW-01", "another tenant's workspace", "Namespace");
    found(&report, &text, "CP-01", "default-editor", "kubeflow");
    found(&report, &text, "CP-06", "run commands in pods", "RoleBinding");
    found(&report, &text, "CP-07", "secrets", "RoleBinding");
    found(&report, &text, "SV-12", "kubeflow-userid", "Namespace");
    held(&report, "NS-01");
}

#[test]
fn agent_sandbox() {
    let (report, text) = judge("agent-sandbox.yaml");
    assert_eq!((report.preset.as_deref(), report.workspaces), (Some("agent-sandbox"), 2));
    found(&report, &text, "NW-16", "100.64.0.0/10", "NetworkPolicy sandboxes/python-network-policy");
    found(&report, &text, "NW-15", "100.100.100.200", "python-network-policy");
    found(&report, &text, "CT-04", "by default", "agent-sandbox");
    held(&report, "CP-01");
    held(&report, "NW-12");
    held(&report, "NW-14");
    held(&report, "NW-03");
}
