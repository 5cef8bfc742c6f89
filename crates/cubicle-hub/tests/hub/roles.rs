//! What each role may do.

use axum::http::{Method, StatusCode};
use serde_json::json;

use crate::site::Site;

#[tokio::test]
async fn an_auditor_sees_reports_and_launches_nothing() {
    let site = Site::start().await;
    let mut alice = site.signed_in("alice").await;
    let id = site.launch(&mut alice).await;
    let account = json!({"name": "grace", "role": "auditor"});
    assert_eq!(site.admin(Method::POST, "/api/v1/users", Some(account)).await.0, StatusCode::CREATED);
    let mut grace = site.signed_in("grace").await;
    let url = |path: &str| site.url(&format!("/api/v1{path}"));
    let all = grace.fetch(Method::GET, &url("/workspaces"), None).await;
    assert_eq!(all.json().as_array().map(Vec::len), Some(1), "{}", all.text());
    for path in ["", "/report", "/usage"] {
        let seen = grace.fetch(Method::GET, &url(&format!("/workspaces/{id}{path}")), None).await;
        assert_eq!(seen.status, StatusCode::OK, "{path}: {}", seen.text());
    }
    // What its user wrote, and whatever changes something.
    for (method, path, body) in [
        (Method::GET, format!("/workspaces/{id}/logs"), None),
        (Method::GET, format!("/workspaces/{id}/events"), None),
        (Method::POST, format!("/workspaces/{id}/stop"), None),
        (Method::POST, format!("/workspaces/{id}/start"), None),
        (Method::POST, format!("/workspaces/{id}/verify"), None),
        (Method::DELETE, format!("/workspaces/{id}"), None),
        (Method::POST, "/workspaces".to_owned(), Some(json!({"template": "jupyterlab"}))),
        (Method::POST, "/workspaces".to_owned(), Some(json!({"template": "jupyterlab", "user": "alice"}))),
        (Method::GET, "/users".to_owned(), None),
        (Method::POST, "/users".to_owned(), Some(json!({"name": "eve"}))),
        (Method::DELETE, "/templates/jupyterlab".to_owned(), None),
    ] {
        let refused = grace.fetch(method.clone(), &url(&path), body).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{method} {path}: {}", refused.text());
    }
    let opened = grace.get(&site.url(&format!("/workspaces/{id}/open"))).await;
    assert_eq!(opened.status, StatusCode::FORBIDDEN, "{}", opened.text());
    // Nobody launches for an auditor either; the control is that somebody else's launch works.
    let launch = |user: &str| Some(json!({"template": "jupyterlab", "user": user}));
    assert_eq!(site.admin(Method::POST, "/api/v1/workspaces", launch("grace")).await.0, StatusCode::FORBIDDEN);
    assert_eq!(site.admin(Method::POST, "/api/v1/workspaces", launch("alice")).await.0, StatusCode::ACCEPTED);
    // A user does not see what an auditor sees.
    let mut bob = site.signed_in("bob").await;
    let hidden = bob.fetch(Method::GET, &url(&format!("/workspaces/{id}")), None).await;
    assert_eq!(hidden.status, StatusCode::NOT_FOUND);
}
