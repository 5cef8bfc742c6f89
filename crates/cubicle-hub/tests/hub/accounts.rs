//! Accounts and tokens.

use axum::body::Body;
use axum::http::{Method, StatusCode};
use serde_json::json;

use crate::site::Site;

#[tokio::test]
async fn names_that_look_alike_are_one_account() {
    let site = Site::start().await;
    let (status, made) = site.admin(Method::POST, "/api/v1/users", Some(json!({"name": "Alice"}))).await;
    assert_eq!(status, StatusCode::CREATED);
    for key in ["id", "name", "admin", "disabled", "created_at"] {
        assert!(made.get(key).is_some(), "{key}");
    }
    for twin in ["alice", "ALICE", "\u{ff41}lice"] {
        let (status, problem) = site.admin(Method::POST, "/api/v1/users", Some(json!({"name": twin}))).await;
        assert_eq!(status, StatusCode::CONFLICT, "{twin}");
        assert!(problem["detail"].as_str().expect("text").contains("Alice"), "{problem}");
    }
    let (status, found) = site.admin(Method::GET, "/api/v1/users/%EF%BD%81lice", None).await;
    assert_eq!((status, &found["id"]), (StatusCode::OK, &made["id"]));
}

#[tokio::test]
async fn hostile_names_are_refused_with_the_rule() {
    let site = Site::start().await;
    for name in ["", "a/b", "a\0b", "..", "\u{1f600}", "a\u{202e}b", &"a".repeat(300)] {
        let (status, problem) = site.admin(Method::POST, "/api/v1/users", Some(json!({"name": name}))).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{name:?}");
        for key in ["type", "title", "status", "detail", "remedy"] {
            assert!(problem.get(key).is_some(), "{key}");
        }
    }
    assert_eq!(site.admin(Method::GET, "/api/v1/users", None).await.1, json!([]));
    assert_eq!(site.admin(Method::GET, "/api/v1/users/%00", None).await.0, StatusCode::NOT_FOUND);
    assert_eq!(site.admin(Method::GET, "/api/v1/users/%ff", None).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(site.admin(Method::POST, "/api/v1/users/nobody/sign-in-link", None).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_disabled_account_stays_out() {
    let site = Site::start().await;
    let mut browser = site.signed_in("alice").await;
    let link = site.link("alice").await;
    site.admin(Method::POST, "/api/v1/users/alice/disable", None).await;
    assert_eq!(browser.get(&site.url("/account")).await.status, StatusCode::SEE_OTHER);
    assert_eq!(browser.get(&link).await.status, StatusCode::NOT_FOUND);
    let (status, _) = site.admin(Method::POST, "/api/v1/users/alice/sign-in-link", None).await;
    assert_eq!(status, StatusCode::CONFLICT);
    let launch = json!({"template": "jupyterlab", "user": "alice"});
    assert_eq!(site.admin(Method::POST, "/api/v1/workspaces", Some(launch)).await.0, StatusCode::CONFLICT);
    site.admin(Method::POST, "/api/v1/users/alice/enable", None).await;
    site.signed_in("alice").await;
}

#[tokio::test]
async fn tokens_have_a_scope_and_an_end() {
    let site = Site::start().await;
    let mut browser = site.signed_in("alice").await;
    let tokens = site.url("/api/v1/tokens");
    let mut make = async |scope: &str| {
        let made = browser.fetch(Method::POST, &tokens, Some(json!({"name": "ci", "scope": scope}))).await;
        assert_eq!(made.status, StatusCode::CREATED, "{}", made.text());
        (made.json()["id"].as_str().expect("an id").to_owned(), made.json()["secret"].as_str().expect("one").to_owned())
    };
    let (_, reading) = make("read").await;
    let (id, writing) = make("write").await;
    let launch = r#"{"template": "jupyterlab"}"#;
    assert_eq!(site.by_token(&reading, Method::GET, "/api/v1/workspaces", "").await.status, StatusCode::OK);
    assert_eq!(site.by_token(&reading, Method::POST, "/api/v1/workspaces", launch).await.status, StatusCode::FORBIDDEN);
    assert_eq!(site.by_token(&writing, Method::POST, "/api/v1/workspaces", launch).await.status, StatusCode::ACCEPTED);
    assert_eq!(
        site.by_token("cubicle_wrong", Method::GET, "/api/v1/workspaces", "").await.status,
        StatusCode::UNAUTHORIZED
    );
    let more = r#"{"name": "x", "scope": "write"}"#;
    assert_eq!(site.by_token(&writing, Method::POST, "/api/v1/tokens", more).await.status, StatusCode::FORBIDDEN);
    // A token opens no workspace's origin.
    let workspaces = site.by_token(&writing, Method::GET, "/api/v1/workspaces", "").await.json();
    let workspace = workspaces[0]["id"].as_str().expect("an id").to_owned();
    let bearer = format!("Bearer {writing}");
    let headers = [("authorization", bearer.as_str()), ("accept", "application/json")];
    let answer =
        site.browser().send(Method::GET, &site.workspace_url(&workspace, "/lab"), &headers, Body::empty()).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);

    let gone = browser.fetch(Method::DELETE, &format!("{tokens}/{id}"), None).await;
    assert_eq!(gone.status, StatusCode::NO_CONTENT);
    assert_eq!(site.by_token(&writing, Method::GET, "/api/v1/workspaces", "").await.status, StatusCode::UNAUTHORIZED);
    let days = browser.fetch(Method::POST, &tokens, Some(json!({"name": "x", "scope": "read", "days": 9999}))).await;
    assert_eq!(days.status, StatusCode::BAD_REQUEST);
}
