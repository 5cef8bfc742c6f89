//! Public tables of expected answers, where `CUBICLE_CORPORA` names the folder that holds them.

use std::path::PathBuf;

use cubicle_audit::rbac::{Binding, Identity, Request, Rights, Role, Rule, Subject, uncovered};
use serde::Deserialize;
use serde_json::Value;

/// A file of the corpora; none where they are not told.
fn corpus(file: &str) -> Option<PathBuf> {
    // Tests run in the folder of their crate, people name folders from the root.
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    Some(root.join(std::env::var_os("CUBICLE_CORPORA")?).join(file))
}

/// The lines of a corpus; none where there is no corpus.
fn lines(file: &str) -> Option<Vec<Value>> {
    let path = corpus(file)?;
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    Some(
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"))).collect(),
    )
}

fn read<T: for<'de> Deserialize<'de>>(value: &Value) -> T {
    T::deserialize(value).unwrap_or_else(|error| panic!("{value}: {error}"))
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

fn request(value: &Value) -> Request {
    if value["resourceRequest"] == Value::Bool(false) {
        return Request::Path { verb: text(value, "verb"), path: text(value, "path") };
    }
    Request::Resource {
        verb: text(value, "verb"),
        group: text(value, "apiGroup"),
        resource: text(value, "resource"),
        subresource: text(value, "subresource"),
        name: text(value, "name"),
        namespace: text(value, "namespace"),
    }
}

fn rights(case: &Value) -> Rights {
    let roles = ["roles", "clusterRoles"].iter().flat_map(|kind| list(&case[*kind]));
    let bindings = ["roleBindings", "clusterRoleBindings"].iter().flat_map(|kind| list(&case[*kind]));
    let rules = |role: &Value| list(&role["rules"]).iter().map(read::<Rule>).collect();
    let subjects = |binding: &Value| list(&binding["subjects"]).iter().map(read::<Subject>).collect();
    Rights::new(
        roles.map(|role| Role {
            namespace: text(&role["metadata"], "namespace"),
            name: text(&role["metadata"], "name"),
            rules: rules(&role),
            ..Role::default()
        }),
        bindings.map(|binding| Binding {
            namespace: text(&binding["metadata"], "namespace"),
            name: text(&binding["metadata"], "name"),
            subjects: subjects(&binding),
            cluster_role: binding["roleRef"]["kind"] == "ClusterRole",
            role: text(&binding["roleRef"], "name"),
        }),
    )
}

#[test]
fn authorizer() {
    let Some(cases) = lines("kubernetes-rbac/authorizer.jsonl") else { return };
    let (mut agree, mut all) = (0, 0);
    let mut wrong = Vec::new();
    for case in &cases {
        let mut judge = |expected: bool, answer: bool, asked: &Value| {
            all += 1;
            if expected == answer {
                agree += 1;
            } else {
                wrong.push(format!("{asked}: {answer}"));
            }
        };
        if case["test"] == "TestRuleMatches" {
            let rule: Rule = read(&case["rule"]);
            for asked in list(&case["requests"]) {
                judge(asked["expected"] == Value::Bool(true), rule.allows(&request(&asked)), &asked);
            }
            continue;
        }
        let rights = rights(case);
        for (list_name, expected) in [("allow", true), ("deny", false)] {
            for asked in list(&case[list_name]) {
                let groups: Vec<String> =
                    list(&asked["groups"]).iter().filter_map(|group| group.as_str().map(str::to_owned)).collect();
                let identity = Identity::exactly(&text(&asked, "user"), groups.iter().map(String::as_str));
                judge(expected, rights.allowed(&identity, &request(&asked)).is_some(), &asked);
            }
        }
    }
    println!("kubernetes-rbac/authorizer: agree {agree}/{all}");
    assert!(all > 0 && wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn covers() {
    let Some(cases) = lines("kubernetes-rbac/covers.jsonl") else { return };
    let mut wrong = Vec::new();
    for case in &cases {
        let rules = |key: &str| list(&case[key]).iter().map(read::<Rule>).collect::<Vec<_>>();
        let left = uncovered(&rules("ownerRules"), &rules("servantRules"));
        let expected = rules("expectedUncoveredRules");
        let same = left.len() == expected.len() && left.iter().all(|rule| expected.contains(rule));
        if !same || left.is_empty() != (case["expectedCovered"] == Value::Bool(true)) {
            wrong.push(format!("{}: {left:?}", case["name"]));
        }
    }
    println!("kubernetes-rbac/covers: agree {}/{}", cases.len() - wrong.len(), cases.len());
    assert!(!cases.is_empty() && wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn pod_security_standards() {
    use cubicle_audit::pod_security::violations;

    let Some(cases) = lines("pod-security-standards/cases.jsonl") else { return };
    let Some(path) = corpus("pod-security-standards/pods.json") else { return };
    let pods = std::fs::read_to_string(path).unwrap_or_default();
    let pods: std::collections::HashMap<String, String> = serde_json::from_str(&pods).unwrap_or_default();
    let mut wrong = Vec::new();
    for case in &cases {
        let yaml = pods.get(&text(case, "pod")).map_or("", String::as_str);
        let pod: Value = serde_norway::from_str(yaml).unwrap_or_default();
        let level = text(case, "level").parse().unwrap_or_else(|problem| panic!("{problem}"));
        let version = text(case, "version").parse().unwrap_or_else(|problem| panic!("{problem}"));
        let admitted = violations(&pod, level, version).map(|found| found.is_empty());
        if admitted != Ok(case["expect"] == "pass") {
            wrong.push(format!("{case}: {admitted:?}"));
        }
    }
    println!("pod-security-standards: agree {}/{}", cases.len() - wrong.len(), cases.len());
    assert!(!cases.is_empty() && wrong.is_empty(), "{wrong:#?}");
}
