//! The forms hold what they must, also for names that mean something in them.

use serde_json::{Value, json};

use super::*;
use crate::snapshot::Snapshot;
use crate::verdict::{Options, Report, audit};

fn report(name: &str) -> Report {
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "b"},
                     "spec": {"hostPID": true, "containers": [{"name": "<c> & \"d\"\u{1b}[2J", "image": "d"}]}});
    audit(&mut Snapshot::from_json("a folder/<x>.yaml", [&pod]), &Options::default())
}

#[test]
fn sarif_names_its_rules_and_places() {
    let log = sarif(&report("a"), "0.1.0");
    assert_eq!(log["version"], "2.1.0");
    let run = &log["runs"][0];
    let rules = run["tool"]["driver"]["rules"].as_array().cloned().unwrap_or_default();
    let results = run["results"].as_array().cloned().unwrap_or_default();
    assert!(!results.is_empty());
    for result in &results {
        let index = usize::try_from(result["ruleIndex"].as_u64().unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
        assert_eq!(rules.get(index).map(|rule| &rule["id"]), Some(&result["ruleId"]));
        assert!(["error", "warning", "note"].iter().any(|level| result["level"] == **level));
        assert!(result["message"]["text"].as_str().is_some_and(|text| !text.is_empty()));
        let place = &result["locations"][0]["physicalLocation"];
        assert!(place.is_null() || place["artifactLocation"]["uri"] == "a%20folder/%3Cx%3E.yaml");
        assert!(place["region"].is_null() || place["region"]["startLine"].as_u64() > Some(0));
    }
}

#[test]
fn junit_is_well_formed_and_counts() {
    let text = junit(&report("a"));
    let opened = text.matches("<testcase").count();
    assert!(text.contains(&format!("tests=\"{opened}\"")));
    assert_eq!(text.matches("<failure").count(), text.matches("</failure>").count());
    assert!(!text.contains('\u{1b}'));
    assert!(text.contains("&lt;c&gt; &amp; &quot;d&quot;"));
}

#[test]
fn a_page_runs_nothing_that_a_name_says() {
    let page = html(&report("a"));
    assert!(!page.contains("<c>"));
    assert!(!page.contains("<script"));
    assert!(!page.contains("http://") && !page.contains("src="));
    assert!(page.contains("<svg"));
}

#[test]
fn a_policy_report_counts_its_results() {
    let object = policy_report(&report("a"));
    let results = object["results"].as_array().cloned().unwrap_or_default();
    for word in ["pass", "fail", "warn", "error", "skip"] {
        let count = results.iter().filter(|result| result["result"] == word).count();
        assert_eq!(object["summary"][word], Value::from(count), "{word}");
    }
}

#[test]
fn a_thousand_workspaces_are_a_few_groups() {
    let mut objects = vec![];
    for number in 0..1000 {
        let name = format!("user-{number}");
        objects.push(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}));
        objects.push(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "notebook", "namespace": name},
                            "spec": {"containers": [{"name": "c", "image": "d"}]}}));
    }
    let report = audit(&mut Snapshot::from_json("x", &objects), &Options::default());
    assert_eq!((report.workspaces, report.tenants), (1000, 1000));
    assert_eq!(report.picture.groups.len(), 1);
    assert!(html(&report).matches("<line").count() < 50);
}
