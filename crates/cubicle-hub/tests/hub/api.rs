//! The REST interface and its description.

use axum::body::Body;
use axum::http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::site::Site;

#[tokio::test]
async fn the_description_lists_what_answers() {
    let site = Site::start().await;
    let mut browser = site.signed_in("alice").await;
    let document = browser.fetch(Method::GET, &site.url("/api/v1/openapi.json"), None).await.json();
    assert_eq!(document["openapi"], "3.1.0");
    let paths = document["paths"].as_object().expect("paths");
    assert!(paths.len() >= 20, "{}", paths.len());
    let mut identifiers = Vec::new();
    for (path, item) in paths {
        for (method, operation) in item.as_object().expect("operations") {
            identifiers.push(operation["operationId"].as_str().expect("an id").to_owned());
            assert!(!operation["summary"].as_str().expect("a summary").is_empty());
            assert!(operation["responses"].as_object().expect("responses").len() > 5, "{path}");
            for parameter in path.split('{').skip(1).filter_map(|rest| rest.split('}').next()) {
                let listed = operation["parameters"].as_array().expect("parameters");
                assert!(listed.iter().any(|one| one["name"] == parameter && one["in"] == "path"), "{path}");
            }
            // The route is there: whatever it says, it is not "no such route" or "no such method".
            let url =
                site.url(&path.replace("{id}", "w-000000000000").replace("{name}", "x").replace("{user_id}", "y"));
            let method: Method = method.to_uppercase().parse().expect("a method");
            let answer = browser.fetch(method.clone(), &url, None).await;
            assert_ne!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
            assert!(!answer.text().contains("there is nothing at"), "{method} {path}");
        }
        // A method that it does not have is a problem too.
        let answer = browser.fetch(Method::PATCH, &site.url(path), None).await;
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{path}");
        assert_eq!(answer.headers["content-type"], "application/problem+json", "{path}");
        assert!(answer.headers.contains_key("allow"), "{path}");
    }
    let count = identifiers.len();
    identifiers.sort();
    identifiers.dedup();
    assert_eq!(identifiers.len(), count, "an operation's identifier is used twice");
    for reference in references(&document) {
        let place = reference.strip_prefix("#").expect("a place in the document");
        assert!(document.pointer(place).is_some_and(Value::is_object), "{reference}");
    }
    assert!(document["components"]["securitySchemes"]["token"].is_object());
    if let Ok(path) = std::env::var("CUBICLE_TEST_OPENAPI") {
        std::fs::write(path, document.to_string()).expect("written");
    }
}

fn references(value: &Value) -> Vec<String> {
    match value {
        Value::Object(object) => object
            .iter()
            .flat_map(|(key, value)| match (key.as_str(), value) {
                ("$ref", Value::String(reference)) => vec![reference.clone()],
                (_, value) => references(value),
            })
            .collect(),
        Value::Array(items) => items.iter().flat_map(references).collect(),
        _ => Vec::new(),
    }
}

/// What is wrong with a value, by the part of JSON Schema that the description uses.
fn mismatch(document: &Value, schema: &Value, value: &Value, place: &str) -> Option<String> {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.rsplit('/').next().expect("a name");
        return mismatch(document, &document["components"]["schemas"][name], value, place);
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let allowed = match &schema["type"] {
        Value::String(one) => one == kind,
        Value::Array(some) => some.iter().any(|one| one == kind),
        _ => true,
    };
    if !allowed {
        return Some(format!("{place} is {kind}, described as {}", schema["type"]));
    }
    if let (Some(choices), false) = (schema["enum"].as_array(), value.is_null())
        && !choices.contains(value)
    {
        return Some(format!("{place} is {value}, not one of {choices:?}"));
    }
    if let Some(object) = value.as_object() {
        let properties = schema["properties"].as_object()?;
        for name in schema["required"].as_array().into_iter().flatten() {
            if !object.contains_key(name.as_str().expect("a name")) {
                return Some(format!("{place} has no {name}"));
            }
        }
        for (name, value) in object {
            let Some(schema) = properties.get(name) else {
                return Some(format!("{place}.{name} is not described"));
            };
            if let Some(found) = mismatch(document, schema, value, &format!("{place}.{name}")) {
                return Some(found);
            }
        }
    }
    let items = value.as_array().into_iter().flatten();
    items
        .enumerate()
        .find_map(|(position, item)| mismatch(document, &schema["items"], item, &format!("{place}[{position}]")))
}

#[tokio::test]
async fn answers_are_what_the_description_says() {
    let site = Site::start().await;
    site.add_user("root-of-all", true).await;
    let mut browser = site.signed_in("root-of-all").await;
    let id = site.launch(&mut browser).await;
    browser.fetch(Method::POST, &site.url("/api/v1/tokens"), Some(json!({"name": "x", "scope": "read"}))).await;
    let document = browser.fetch(Method::GET, &site.url("/api/v1/openapi.json"), None).await.json();
    for path in [
        "/templates",
        "/templates/jupyterlab",
        "/workspaces",
        "/workspaces/{id}",
        "/workspaces/{id}/report",
        "/workspaces/{id}/usage",
        "/users",
        "/users/me",
        "/users/root-of-all",
        "/tokens",
        "/guarantees",
        "/volumes",
        "/doctor",
    ] {
        let described = path.replace("/templates/jupyterlab", "/templates/{name}").replace("root-of-all", "{name}");
        let operation = &document["paths"][format!("/api/v1{described}")]["get"];
        let schema = &operation["responses"]["200"]["content"]["application/json"]["schema"];
        assert!(schema.is_object(), "{path}");
        let answer =
            browser.fetch(Method::GET, &site.url(&format!("/api/v1{}", path.replace("{id}", &id))), None).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text());
        assert_eq!(mismatch(&document, schema, &answer.json(), path), None);
    }
}

#[tokio::test]
async fn bad_input_names_the_input_the_rule_and_the_remedy() {
    let site = Site::start().await;
    let mut browser = site.signed_in("alice").await;
    let url = site.url("/api/v1/workspaces");
    for (body, status) in [
        (json!({"template": "absent"}), StatusCode::NOT_FOUND),
        (json!({"template": "../x"}), StatusCode::BAD_REQUEST),
        (json!({"template": "secret-lab"}), StatusCode::FORBIDDEN),
        (json!({"template": "jupyterlab", "name": "a".repeat(65)}), StatusCode::BAD_REQUEST),
        (json!({"template": "jupyterlab", "name": "a\u{202e}b"}), StatusCode::BAD_REQUEST),
        (json!({"template": "jupyterlab", "unknown": 1}), StatusCode::BAD_REQUEST),
        (json!([]), StatusCode::BAD_REQUEST),
    ] {
        let answer = browser.fetch(Method::POST, &url, Some(body.clone())).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.text());
        assert_eq!(answer.headers["content-type"], "application/problem+json");
        assert_eq!(answer.json()["status"], status.as_u16());
    }
    let plain = [("content-type", "text/plain"), ("accept", "application/json")];
    let answer = browser.send(Method::POST, &url, &plain, Body::from("{}")).await;
    assert_eq!(answer.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    for path in ["/api/v1/nothing", "/api/v2"] {
        let answer = browser.fetch(Method::GET, &site.url(path), None).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND);
        assert_eq!(answer.headers["content-type"], "application/problem+json");
    }
    let names = browser.fetch(Method::GET, &site.url("/api/v1/templates"), None).await.json();
    assert_eq!(names.as_array().expect("a list").len(), 1, "a template of another group is shown");
}

#[tokio::test]
async fn root_on_the_socket_is_the_administrator() {
    let site = Site::start().await;
    site.add_user("alice", false).await;
    let (status, _) = site.admin(Method::POST, "/api/v1/workspaces", Some(json!({"template": "jupyterlab"}))).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let launch = json!({"template": "jupyterlab", "user": "alice"});
    let (status, made) = site.admin(Method::POST, "/api/v1/workspaces", Some(launch)).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    assert_eq!((made["user"].as_str(), made["state"].as_str()), (Some("alice"), Some("running")));
    let url = site.workspace_url(made["id"].as_str().expect("an id"), "/");
    assert_eq!(made["url"], json!(url));
    let (_, mine) = site.admin(Method::GET, "/api/v1/workspaces?user=alice", None).await;
    assert_eq!(mine.as_array().expect("a list").len(), 1);
    assert_eq!(site.admin(Method::GET, "/api/v1/workspaces?user=bob", None).await.0, StatusCode::NOT_FOUND);
    // Pages are not served there.
    assert_eq!(site.admin(Method::GET, "/sign-in", None).await.0, StatusCode::NOT_FOUND);
}
