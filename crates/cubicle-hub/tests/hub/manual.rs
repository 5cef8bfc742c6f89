//! Holds docs/reference/api.md to the hub's own description. To write it anew after a change:
//! `UPDATE_MANUAL=1 cargo test -p cubicle-hub manual`.

use std::collections::BTreeMap;
use std::path::Path;
use std::{env, fs};

use axum::http::Method;
use serde_json::Value;

use crate::site::Site;

const INTRODUCTION: &str = "\
# The HTTP interface

The hub describes itself at `/api/v1/openapi.json` (OpenAPI 3.1); this page is that document. Programs send
`Authorization: Bearer TOKEN` with a token of the account; the hub's own pages use their session's cookie.
Bodies are JSON of at most 256 KiB. What goes wrong is answered as `application/problem+json` (RFC 9457): the
schema [Problem](#problem) names the input, the rule and the remedy.
";

/// The page as it should be.
fn manual(document: &Value) -> String {
    let mut text =
        format!("{INTRODUCTION}\n## Routes\n\n| request | what | body | query | answer |\n|---|---|---|---|---|\n");
    for (path, item) in object(&document["paths"]) {
        for (method, operation) in object(item) {
            let body = content(&operation["requestBody"]).unwrap_or_default();
            let query: Vec<String> = list(&operation["parameters"])
                .filter(|parameter| parameter["in"] == "query")
                .map(|parameter| {
                    format!("`{}`: {}", word(&parameter["name"]), escaped(word(&parameter["description"])))
                })
                .collect();
            let answers: Vec<String> = object(&operation["responses"])
                .filter(|(status, _)| *status != "default")
                .map(|(status, answer)| format!("{status} {}", content(answer).unwrap_or_default()).trim().to_owned())
                .collect();
            text.push_str(&format!(
                "| `{} {path}` | {} | {body} | {} | {} |\n",
                method.to_uppercase(),
                escaped(word(&operation["summary"])),
                query.join("; "),
                answers.join("; "),
            ));
        }
    }
    text.push_str("\n## Schemas\n");
    for (name, schema) in object(&document["components"]["schemas"]) {
        text.push_str(&format!("\n### {name}\n\n"));
        if let Some(description) = schema["description"].as_str() {
            text.push_str(&format!("{}\n\n", escaped(description)));
        }
        if object(&schema["properties"]).next().is_none() {
            text.push_str(&format!("{}.\n", kind(schema)));
            continue;
        }
        text.push_str("| field | type | always there, or needed | meaning |\n|---|---|---|---|\n");
        fields(schema, "", &mut text);
    }
    text
}

/// One row for each field of an object, and for those of objects in it.
fn fields(schema: &Value, path: &str, text: &mut String) {
    let required: Vec<&str> = list(&schema["required"]).map(word).collect();
    for (name, field) in object(&schema["properties"]) {
        let path = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        text.push_str(&format!(
            "| `{path}` | {} | {} | {} |\n",
            kind(field),
            if required.contains(&name) { "yes" } else { "" },
            escaped(word(&field["description"])),
        ));
        fields(field, &path, text);
        fields(&field["items"], &format!("{path}[]"), text);
    }
}

/// The type of a schema, with a link when it has a name.
fn kind(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|reference| reference.rsplit('/').next()) {
        return format!("[{name}](#{})", name.to_lowercase());
    }
    if let Some(choices) = schema["enum"].as_array() {
        let choices: Vec<String> =
            choices.iter().filter_map(Value::as_str).map(|choice| format!("`{choice}`")).collect();
        return choices.join(", ");
    }
    for key in ["oneOf", "anyOf", "allOf"] {
        if let Some(kinds) = schema[key].as_array() {
            return kinds.iter().map(kind).collect::<Vec<_>>().join(" or ");
        }
    }
    let name = match &schema["type"] {
        Value::Array(names) => names.iter().map(word).collect::<Vec<_>>().join(" or "),
        Value::String(name) if name == "array" => return format!("list of {}", kind(&schema["items"])),
        Value::String(name) => name.clone(),
        _ => "anything".to_owned(),
    };
    match schema["format"].as_str() {
        Some(format) => format!("{name} ({format})"),
        None => name,
    }
}

/// What a body or an answer holds.
fn content(holder: &Value) -> Option<String> {
    let (media, content) = object(&holder["content"]).next()?;
    let schema = kind(&content["schema"]);
    Some(match media {
        "application/json" => schema,
        "text/event-stream" => format!("events, each a {schema}"),
        _ => "text".to_owned(),
    })
}

/// The members by name: serde_json keeps another order when some other crate asks it to.
fn object(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let members: BTreeMap<&str, &Value> =
        value.as_object().into_iter().flatten().map(|(name, value)| (name.as_str(), value)).collect();
    members.into_iter()
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

#[tokio::test]
async fn the_manual_says_what_the_hub_says() {
    let site = Site::start().await;
    let mut browser = site.signed_in("alice").await;
    let document = browser.fetch(Method::GET, &site.url("/api/v1/openapi.json"), None).await.json();
    let manual = manual(&document);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/api.md");
    if env::var_os("UPDATE_MANUAL").is_some() {
        fs::create_dir_all(file.parent().expect("a folder")).expect("the folder can be made");
        fs::write(&file, &manual).expect("the page can be written");
    }
    let written = fs::read_to_string(&file).unwrap_or_default();
    assert!(
        written == manual,
        "docs/reference/api.md is stale: run `UPDATE_MANUAL=1 cargo test -p cubicle-hub manual`"
    );
}
