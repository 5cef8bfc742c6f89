//! A second user reaches nothing of the first.

use axum::body::Body;
use axum::http::{Method, StatusCode};
use serde_json::json;

use crate::site::Site;

#[tokio::test]
async fn another_users_workspace_is_not_there() {
    let site = Site::start().await;
    let mut alice = site.signed_in("alice").await;
    let mut mallory = site.signed_in("mallory").await;
    let id = site.launch(&mut alice).await;
    site.open(&mut alice, &id).await;
    let owner = alice.fetch(Method::GET, &site.url("/api/v1/users/me"), None).await.json()["id"].clone();
    let owner = owner.as_str().expect("an id");

    let of = |path: &str| format!("/api/v1/workspaces/{id}{path}");
    for (method, path) in [
        (Method::GET, of("")),
        (Method::DELETE, of("")),
        (Method::DELETE, of("?volume=true")),
        (Method::POST, of("/start")),
        (Method::POST, of("/stop")),
        (Method::POST, of("/verify")),
        (Method::GET, of("/report")),
        (Method::GET, of("/usage")),
        (Method::GET, of("/logs")),
        (Method::GET, of("/events")),
        (Method::DELETE, format!("/api/v1/volumes/{owner}")),
    ] {
        let answer = mallory.fetch(method.clone(), &site.url(&path), None).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{method} {path}: {}", answer.text());
        let nobody = site.browser().fetch(method.clone(), &site.url(&path), None).await;
        assert!(matches!(nobody.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN), "{method} {path}");
    }
    // What is not there and what is somebody else's look the same.
    let absent = mallory.fetch(Method::GET, &site.url("/api/v1/workspaces/w-000000000000"), None).await;
    let foreign = mallory.fetch(Method::GET, &site.url(&of("")), None).await;
    assert_eq!(absent.text().replace("w-000000000000", &id), foreign.text());
    assert_eq!(mallory.fetch(Method::GET, &site.url("/api/v1/workspaces"), None).await.json(), json!([]));
    assert_eq!(mallory.fetch(Method::GET, &site.url("/api/v1/volumes"), None).await.json(), json!([]));

    for (method, path) in [
        (Method::GET, "/api/v1/users".to_owned()),
        (Method::POST, "/api/v1/users".to_owned()),
        (Method::GET, "/api/v1/users/alice".to_owned()),
        (Method::POST, "/api/v1/users/alice/disable".to_owned()),
        (Method::POST, "/api/v1/users/alice/enable".to_owned()),
        (Method::POST, "/api/v1/users/alice/sign-in-link".to_owned()),
        (Method::GET, "/api/v1/doctor".to_owned()),
        (Method::DELETE, "/api/v1/templates/jupyterlab".to_owned()),
    ] {
        let body = (path == "/api/v1/users" && method == Method::POST).then(|| json!({"name": "eve", "admin": true}));
        let answer = mallory.fetch(method.clone(), &site.url(&path), body).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{method} {path}: {}", answer.text());
    }
    let launch = json!({"template": "jupyterlab", "user": "alice"});
    let answer = mallory.fetch(Method::POST, &site.url("/api/v1/workspaces"), Some(launch)).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn another_users_pages_are_not_there() {
    let site = Site::start().await;
    let mut alice = site.signed_in("alice").await;
    let mut mallory = site.signed_in("mallory").await;
    let id = site.launch(&mut alice).await;
    let csrf = mallory.get(&site.url("/account")).await.csrf();
    for path in ["", "/open", "/isolation", "/delete"] {
        let answer = mallory.get(&site.url(&format!("/workspaces/{id}{path}"))).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
    }
    for path in ["/start", "/stop", "/delete", "/verify"] {
        let url = site.url(&format!("/workspaces/{id}{path}"));
        assert_eq!(mallory.post(&url, &[("csrf", &csrf)]).await.status, StatusCode::NOT_FOUND, "{path}");
    }
    for path in ["/admin", "/admin/users", "/admin/workspaces", "/admin/templates", "/admin/machine"] {
        assert_eq!(mallory.get(&site.url(path)).await.status, StatusCode::FORBIDDEN, "{path}");
    }
    for path in ["/admin/users", "/admin/templates", "/admin/users/u-000000000000/disable"] {
        let answer = mallory.post(&site.url(path), &[("csrf", &csrf), ("name", "x"), ("yaml", "x")]).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path}");
    }
    assert_eq!(site.engine.workspaces.lock().expect("unpoisoned").len(), 1);
}

#[tokio::test]
async fn the_proxy_is_no_way_around() {
    let site = Site::start().await;
    let mut alice = site.signed_in("alice").await;
    let mut mallory = site.signed_in("mallory").await;
    let theirs = site.launch(&mut alice).await;
    let own = site.launch(&mut mallory).await;
    site.open(&mut mallory, &own).await;
    let cookie = mallory.cookies(&site.workspace_url(&own, "/")).expect("a cookie");
    // The path means nothing to the hub: only the host chooses the workspace.
    for path in [
        format!("/../{theirs}/lab"),
        format!("/%2e%2e/{theirs}/lab"),
        format!("//{theirs}.localhost/echo"),
        format!("/user/{theirs}/proxy/8888/"),
    ] {
        let answer = mallory.get(&site.workspace_url(&own, &path)).await;
        assert_ne!(answer.status, StatusCode::SWITCHING_PROTOCOLS);
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}: the own notebook has no such page");
    }
    let headers = [("cookie", cookie.as_str()), ("accept", "application/json")];
    for path in ["/lab", "/echo", "/api/kernels", "/.cubicle/enter?ticket=x"] {
        let answer = mallory.send(Method::GET, &site.workspace_url(&theirs, path), &headers, Body::empty()).await;
        assert!(matches!(answer.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN), "{path}");
    }
    let channel = site.workspace_url(&theirs, "/api/kernels/k/channels");
    let (head, _) = mallory.websocket(&channel, &[("Cookie", &cookie)]).await;
    assert!(head.starts_with("HTTP/1.1 401"), "{head}");
}

#[tokio::test]
async fn an_administrator_looks_and_stops_but_does_not_enter() {
    let site = Site::start().await;
    site.add_user("root-of-all", true).await;
    let mut alice = site.signed_in("alice").await;
    let mut administrator = site.signed_in("root-of-all").await;
    let id = site.launch(&mut alice).await;
    let all = administrator.fetch(Method::GET, &site.url("/api/v1/workspaces"), None).await.json();
    assert_eq!((all[0]["id"].as_str(), all[0]["pid"].as_u64()), (Some(id.as_str()), Some(4711)));
    let own = alice.fetch(Method::GET, &site.url("/api/v1/workspaces"), None).await.json();
    assert!(own[0]["pid"].is_null());
    let open = administrator.get(&site.url(&format!("/workspaces/{id}/open"))).await;
    assert_eq!(open.status, StatusCode::FORBIDDEN);
    let stop = site.url(&format!("/api/v1/workspaces/{id}/stop"));
    assert_eq!(administrator.fetch(Method::POST, &stop, None).await.json()["state"], "stopped");
}
