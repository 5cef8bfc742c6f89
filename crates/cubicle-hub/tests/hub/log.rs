//! The record of who did what.

use axum::body::Body;
use axum::http::{Method, StatusCode};
use serde_json::json;

use crate::site::Site;

#[tokio::test]
async fn whoever_does_or_tries_something_is_on_record() {
    let site = Site::start().await;
    let mut alice = site.signed_in("alice").await;
    let id = site.launch(&mut alice).await;
    let token = alice
        .fetch(Method::POST, &site.url("/api/v1/tokens"), Some(json!({"name": "t\u{202e}x", "scope": "read"})))
        .await;
    assert_eq!(token.status, StatusCode::CREATED, "{}", token.text());
    let (secret, token) = (token.json()["secret"].clone(), token.json()["id"].clone());
    // Refused, and by a token.
    let bearer = format!("Bearer {}", secret.as_str().expect("text"));
    let url = site.url(&format!("/api/v1/workspaces/{id}/stop"));
    let refused = site.browser().send(Method::POST, &url, &[("authorization", &bearer)], Body::empty()).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    // What is not there, with what a log must not hold.
    let url = site.url("/api/v1/workspaces/w%0D%0A%1B%5B2J/stop");
    alice.fetch(Method::POST, &url, None).await;
    assert_eq!(alice.get(&site.url("/admin/log")).await.status, StatusCode::FORBIDDEN);

    let auditor = json!({"name": "grace", "role": "auditor"});
    assert_eq!(site.admin(Method::POST, "/api/v1/users", Some(auditor)).await.0, StatusCode::CREATED);
    let mut grace = site.signed_in("grace").await;
    let page = grace.get(&site.url("/admin/log")).await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.text());
    let text = page.text();
    for words in [
        "POST /sign-in/link",
        "POST /api/v1/workspaces",
        "POST /api/v1/workspaces/{id}/stop",
        "POST /api/v1/users",
        "w%0D%0A%1B%5B2J",
        "socket",
        &format!("token {}", token.as_str().expect("text")),
        &id,
    ] {
        assert!(text.contains(words), "{words} is not in {text}");
    }
    assert!(!text.contains(secret.as_str().expect("text")), "a secret is on record");
    let found = grace.get(&site.url("/admin/log?search=alice%20403")).await.text();
    assert!(found.contains("/stop") && !found.contains("POST /api/v1/users"), "{found}");
    let nothing = grace.get(&site.url("/admin/log?search=nothing-of-it")).await.text();
    assert!(nothing.contains("No entry matches"), "{nothing}");
    // Looking is not on record, and all pages of an auditor are there.
    assert!(!text.contains("GET /api"), "{text}");
    for path in ["/admin/workspaces", &format!("/workspaces/{id}"), &format!("/workspaces/{id}/isolation")] {
        assert_eq!(grace.get(&site.url(path)).await.status, StatusCode::OK, "{path}");
    }
    for path in ["/admin/users", "/admin/templates", "/admin/machine"] {
        assert_eq!(grace.get(&site.url(path)).await.status, StatusCode::FORBIDDEN, "{path}");
    }
}
