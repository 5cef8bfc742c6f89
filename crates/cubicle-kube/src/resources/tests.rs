use cubicle_core::template as core;

use super::*;

const DEFAULT: &str = include_str!("../../../cubicle-local/src/default_template.json");

#[test]
fn a_template_file_is_the_same_on_both_engines() {
    let local: core::Template = serde_json::from_str(DEFAULT).expect("the local engine reads it");
    let custom: Template = serde_json::from_str(DEFAULT).expect("it is a custom resource");
    assert_eq!(custom.document().expect("valid"), local);
    let written = Template::from_document(&local).expect("written");
    assert_eq!(written.document().expect("valid"), local);
}

#[test]
fn both_schemas_have_the_same_defaults() {
    let least = serde_json::json!({
        "apiVersion": "cubicle.dev/v1alpha1", "kind": "Template",
        "metadata": {"name": "least"}, "spec": {"image": "jupyterlab"}
    });
    let local: core::Template = serde_json::from_value(least.clone()).expect("local");
    let custom: Template = serde_json::from_value(least).expect("custom");
    assert_eq!(custom.document().expect("valid"), local);
}

#[test]
fn what_the_schema_lets_through_is_still_refused_by_the_rules() {
    let mut custom: Template = serde_json::from_str(DEFAULT).expect("reads");
    custom.spec.resources.cpu = Quantity::Written("x".to_owned());
    assert!(custom.document().expect_err("refused").what.contains("\"x\""));
    let mut custom: Template = serde_json::from_str(DEFAULT).expect("reads");
    custom.spec.home.mount_path = "/etc".to_owned();
    assert!(custom.document().expect_err("refused").what.contains("spec.home.mountPath"));
}

#[test]
fn the_definitions_are_known() {
    insta::assert_json_snapshot!(definitions());
}

/// Structural schemas have a type everywhere, and the API server refuses rules whose cost it
/// cannot bound: every list and text that a rule walks has a bound.
#[test]
fn every_rule_walks_something_bounded() {
    fn walk(value: &serde_json::Value, path: &str) {
        if let Some(rules) = value.get("x-kubernetes-validations") {
            let text = value.get("type").and_then(serde_json::Value::as_str) == Some("string");
            assert!(!text || value.get("maxLength").is_some(), "{path} has rules and no bound: {rules}");
        }
        match value {
            serde_json::Value::Object(map) => map.iter().for_each(|(key, value)| walk(value, &format!("{path}.{key}"))),
            serde_json::Value::Array(list) => list.iter().for_each(|value| walk(value, path)),
            _ => {}
        }
    }
    for definition in definitions() {
        walk(&serde_json::to_value(&definition).expect("json"), &definition.spec.names.kind);
    }
}

#[test]
fn a_workspace_edited_by_hand_is_refused_with_the_field() {
    let workspace = |id: &str, owner: &str| {
        Workspace::new(
            id,
            WorkspaceSpec {
                template: "jupyterlab".to_owned(),
                owner: OwnerSpec { id: owner.to_owned(), name: "alice".to_owned() },
                name: String::new(),
                team: None,
                run: true,
                launch: 0,
                verify: 0,
                member: false,
                delete_home: false,
            },
        )
    };
    assert!(workspace("w-0123456789ab", "u-0123456789ab").identity().is_ok());
    assert!(workspace(&"w".repeat(253), "u-0123456789ab").identity().is_err());
    let problem = workspace("w-0123456789ab", "../../etc").identity().expect_err("refused");
    assert!(problem.what.contains("spec.owner.id"), "{}", problem.what);
}
