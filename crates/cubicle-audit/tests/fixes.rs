//! Applying a finding's change makes the finding go away, and the objects stay whole.

use std::path::Path;

use cubicle_audit::snapshot::{Snapshot, read};
use cubicle_audit::verdict::{Finding, Fix, Options, Target, Tenancy, apply, audit, selector};
use serde_json::Value;

fn objects(name: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/layouts").join(name);
    read::read(&[path]).objects.iter().map(cubicle_audit::snapshot::Object::json).collect()
}

fn findings(objects: &[Value], options: &Options) -> Vec<Finding> {
    let mut snapshot = Snapshot::from_json("test", objects);
    assert!(snapshot.is_complete(), "{:?}", snapshot.problems);
    audit(&mut snapshot, options).findings
}

fn is(object: &Value, target: &Target) -> bool {
    object["kind"] == target.kind.as_str()
        && object["metadata"]["name"] == target.name.as_str()
        && object["metadata"]["namespace"].as_str().unwrap_or_default() == target.namespace
}

/// Applies a change as kubectl would; none for one that a program's configuration needs.
fn applied(mut objects: Vec<Value>, fix: &Fix) -> Option<Vec<Value>> {
    match fix {
        Fix::Manifests { objects: new } => {
            for object in new {
                let same = |known: &Value| {
                    known["kind"] == object["kind"]
                        && known["metadata"]["name"] == object["metadata"]["name"]
                        && known["metadata"]["namespace"] == object["metadata"]["namespace"]
                };
                objects.retain(|known| !same(known));
                objects.push(object.clone());
            }
        }
        Fix::Patch { target, operations } => {
            let object = objects.iter_mut().find(|object| is(object, target)).unwrap_or_else(|| panic!("{target:?}"));
            apply(object, operations).unwrap_or_else(|error| panic!("{target:?} {operations:?}: {error}"));
        }
        Fix::Delete { target } => {
            let before = objects.len();
            objects.retain(|object| !is(object, target));
            assert_eq!(objects.len() + 1, before, "{target:?}");
        }
        Fix::Setting { .. } => return None,
    }
    Some(objects)
}

fn every_change_closes_its_finding(name: &str, options: &Options, at_least: usize) {
    let objects = objects(name);
    let mut tried = 0;
    let mut wrong = Vec::new();
    for finding in findings(&objects, options) {
        let Some(fix) = &finding.fix else { continue };
        let Some(changed) = applied(objects.clone(), fix) else { continue };
        tried += 1;
        if findings(&changed, options).iter().any(|left| left.fingerprint == finding.fingerprint) {
            wrong.push(format!("{} {}: {fix:?}", finding.alias, finding.sentence));
        }
    }
    assert!(wrong.is_empty(), "{name}: {wrong:#?}");
    assert!(tried >= at_least, "{name}: only {tried} changes were tried");
}

#[test]
fn of_shared_pods() {
    let selector = selector("user").unwrap_or_else(|problem| panic!("{problem}"));
    let options = Options { tenancy: Tenancy { selector: Some(selector), preset: None }, ..Options::default() };
    every_change_closes_its_finding("shared-pods.yaml", &options, 50);
}

#[test]
fn of_zero_to_jupyterhub() {
    every_change_closes_its_finding("zero-to-jupyterhub.yaml", &Options::default(), 10);
}

#[test]
fn of_user_namespaces() {
    every_change_closes_its_finding("user-namespaces.yaml", &Options::default(), 10);
}

#[test]
fn of_hatchery() {
    every_change_closes_its_finding("hatchery.yaml", &Options::default(), 10);
}

#[test]
fn of_kubeflow() {
    every_change_closes_its_finding("kubeflow.yaml", &Options::default(), 10);
}
