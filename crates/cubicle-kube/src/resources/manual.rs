//! Holds docs/reference/resources.md to the definitions. To write it anew after a change:
//! `UPDATE_MANUAL=1 cargo test -p cubicle-kube manual`.

use std::collections::BTreeMap;
use std::path::Path;
use std::{env, fs};

use serde_json::Value;

use super::definitions;

const INTRODUCTION: &str = "\
# Custom resources

The kinds of group `cubicle.dev`, as `cubicle controller crds` prints them and the chart installs them. A
`Template` is the document that `cubicle template apply` reads on one machine too. People write `Template` and
`Workspace`; the others are the hub's records, and their names are digests of secrets.

`[]` after a field is one element of a list, `{}` one value of a map. A field with a default may be left out.
This page is what the program's definitions say.
";

/// The page as it should be.
fn manual() -> String {
    let mut text = INTRODUCTION.to_owned();
    for definition in definitions() {
        let definition = serde_json::to_value(&definition).expect("definitions are JSON");
        let spec = &definition["spec"];
        let version = &spec["versions"][0];
        let schema = &version["schema"]["openAPIV3Schema"];
        let short: Vec<String> =
            list(&spec["names"]["shortNames"]).map(|name| format!(", short `{}`", word(name))).collect();
        text.push_str(&format!(
            "\n## {}\n\n{}\n\n`{}.{}`, version `{}`, {}{}.\n\n| field | type | needed | meaning |\n|---|---|---|---|\n",
            word(&spec["names"]["kind"]),
            escaped(word(&schema["description"])),
            word(&spec["names"]["plural"]),
            word(&spec["group"]),
            word(&version["name"]),
            match word(&spec["scope"]) {
                "Cluster" => "of the cluster",
                _ => "of a namespace",
            },
            short.concat(),
        ));
        for part in ["spec", "status"] {
            fields(&schema["properties"][part], part, list(&schema["required"]).any(|name| name == part), &mut text);
        }
    }
    text
}

/// One row for this field, and one for each below it.
fn fields(schema: &Value, path: &str, needed: bool, text: &mut String) {
    if schema.is_null() {
        return;
    }
    let default = match &schema["default"] {
        // The fields of an object have their own.
        Value::Null | Value::Object(_) => String::new(),
        value => format!("`{}`", escaped(&value.to_string())),
    };
    let needed = if needed { "yes".to_owned() } else { default };
    text.push_str(&format!("| `{path}` | {} | {needed} | {} |\n", kind(schema), meaning(schema)));
    let required: Vec<&str> = list(&schema["required"]).map(word).collect();
    for (name, inner) in properties(schema) {
        fields(inner, &format!("{path}.{name}"), required.contains(&name), text);
    }
    for (inner, mark) in [(&schema["items"], "[]"), (&schema["additionalProperties"], "{}")] {
        let required: Vec<&str> = list(&inner["required"]).map(word).collect();
        for (name, inner) in properties(inner) {
            fields(inner, &format!("{path}{mark}.{name}"), required.contains(&name), text);
        }
    }
}

fn kind(schema: &Value) -> String {
    let inner = |inner: &Value| match word(&inner["type"]) {
        "" => "anything".to_owned(),
        name => name.to_owned(),
    };
    if let Some(choices) = schema["enum"].as_array() {
        let choices: Vec<String> =
            choices.iter().filter_map(Value::as_str).map(|choice| format!("`{choice}`")).collect();
        return choices.join(", ");
    }
    match word(&schema["type"]) {
        "array" => format!("list of {}", inner(&schema["items"])),
        "object" if schema["additionalProperties"].is_object() => {
            format!("map of {}", inner(&schema["additionalProperties"]))
        }
        "" if schema["x-kubernetes-int-or-string"] == true => "integer or string".to_owned(),
        _ => inner(schema),
    }
}

/// The description, the bounds, and the rules with the message that a refusal has.
fn meaning(schema: &Value) -> String {
    let description = escaped(word(&schema["description"]));
    let mut parts = vec![description.strip_suffix('.').unwrap_or(&description).to_owned()];
    for (key, says) in [
        ("minimum", "at least"),
        ("maximum", "at most"),
        ("minLength", "characters, at least"),
        ("maxLength", "characters, at most"),
        ("minItems", "entries, at least"),
        ("maxItems", "entries, at most"),
    ] {
        if let Some(bound) = schema[key].as_f64() {
            parts.push(format!("{says} {bound}"));
        }
    }
    if let Some(pattern) = schema["pattern"].as_str() {
        parts.push(format!("matches `{}`", pattern.replace('|', "\\|")));
    }
    parts.extend(list(&schema["x-kubernetes-validations"]).map(|rule| escaped(word(&rule["message"]))));
    parts.retain(|part| !part.is_empty());
    parts.join("; ")
}

/// The fields by name: serde_json keeps another order when some other crate asks it to.
fn properties(schema: &Value) -> BTreeMap<&str, &Value> {
    schema["properties"].as_object().into_iter().flatten().map(|(name, inner)| (name.as_str(), inner)).collect()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Text for a cell of a table.
fn escaped(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "\\<").replace('\n', " ")
}

#[test]
fn the_manual_says_what_the_definitions_say() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/resources.md");
    if env::var_os("UPDATE_MANUAL").is_some() {
        fs::create_dir_all(file.parent().expect("a folder")).expect("the folder can be made");
        fs::write(&file, manual()).expect("the page can be written");
    }
    let written = fs::read_to_string(&file).unwrap_or_default();
    assert!(
        written == manual(),
        "docs/reference/resources.md is stale: run `UPDATE_MANUAL=1 cargo test -p cubicle-kube manual`"
    );
}
