//! What passes between browser and notebook.

use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::browser::{Browser, frame};
use crate::engine::NOTEBOOK_TOKEN;
use crate::site::Site;

async fn opened() -> (Site, Browser, String) {
    let site = Site::start().await;
    let mut browser = site.signed_in("alice").await;
    let id = site.launch(&mut browser).await;
    site.open(&mut browser, &id).await;
    (site, browser, id)
}

#[tokio::test]
async fn the_notebook_sees_its_own_token_and_nothing_of_the_hub() {
    let (site, mut browser, id) = opened().await;
    let url = site.workspace_url(&id, "/echo?a=b%20c&d");
    let mine = browser.cookies(&url).expect("a cookie");
    let headers = [
        ("cookie", format!("{mine}; _xsrf=1; cubicle_session=leak; __Host-cubicle_session=leak")),
        ("authorization", "Bearer cubicle_leak".to_owned()),
        ("x-forwarded-for", "203.0.113.9".to_owned()),
        ("x-other", "kept".to_owned()),
        ("connection", "close, x-hop".to_owned()),
        ("x-hop", "leak".to_owned()),
    ];
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let answer = browser.send(Method::GET, &url, &headers, Body::empty()).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    let text = answer.text();
    assert!(!text.contains("leak") && !text.contains("cubicle_workspace") && !text.contains("203.0.113.9"), "{text}");
    let seen = answer.json();
    assert_eq!(seen["target"], "/echo?a=b%20c&d");
    let value = |name: &str| {
        let headers = seen["headers"].as_array().expect("headers");
        headers.iter().find(|pair| pair[0] == name).map(|pair| pair[1].as_str().expect("text").to_owned())
    };
    assert_eq!(value("cookie").as_deref(), Some("_xsrf=1"));
    assert_eq!(value("authorization"), Some(format!("token {NOTEBOOK_TOKEN}")));
    assert_eq!(value("x-forwarded-for").as_deref(), Some("127.0.0.1"));
    assert_eq!(value("x-forwarded-proto").as_deref(), Some("http"));
    assert_eq!(value("x-other").as_deref(), Some("kept"));
    assert_eq!(value("host"), Some(format!("{id}.localhost:{}", site.address.port())));
}

#[tokio::test]
async fn websockets_pass_and_die_with_the_session() {
    let (site, mut browser, id) = opened().await;
    let channel = site.workspace_url(&id, "/api/kernels/k/channels");
    let protocol = [("Sec-WebSocket-Protocol", "v1.kernel.websocket.jupyter.org")];
    let (head, mut socket) = browser.websocket(&channel, &protocol).await;
    let lower = head.to_ascii_lowercase();
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    assert!(lower.contains("sec-websocket-accept: accepted"), "{head}");
    assert!(lower.contains("sec-websocket-protocol: v1.kernel.websocket.jupyter.org"), "{head}");
    assert!(!lower.contains("planted"), "{head}");
    let message = frame(1, b"hello");
    for _ in 0..100 {
        socket.write_all(&message).await.expect("sent");
        let mut echoed = vec![0; message.len()];
        socket.read_exact(&mut echoed).await.expect("echoed");
        assert_eq!(echoed, message);
    }
    // 10 MiB in one go, read while it is written.
    let (mut reading, mut writing) = socket.split();
    let block = vec![5_u8; 10 << 20];
    let mut back = vec![0_u8; block.len()];
    let (sent, got) = tokio::join!(writing.write_all(&block), reading.read_exact(&mut back));
    sent.expect("sent");
    got.expect("echoed");
    assert!(back == block);

    let csrf = browser.get(&site.url("/account")).await.csrf();
    browser.post(&site.url("/sign-out"), &[("csrf", &csrf)]).await;
    let end = tokio::time::timeout(Duration::from_secs(20), socket.read(&mut back)).await.expect("closed in time");
    assert!(matches!(end, Ok(0) | Err(_)));
    let (head, _) = browser.websocket(&channel, &[]).await;
    assert!(head.starts_with("HTTP/1.1 401"), "{head}");
}

#[tokio::test]
async fn disabling_an_account_closes_what_is_open() {
    let (site, mut browser, id) = opened().await;
    let (head, mut socket) = browser.websocket(&site.workspace_url(&id, "/api/kernels/k/channels"), &[]).await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    let events = site.workspace_url(&id, "/events");
    let mut stream = browser.begin(Method::GET, &events, &[], Body::empty()).await.into_body();
    stream.frame().await.expect("an event").expect("an event");
    let watched = site.url(&format!("/api/v1/workspaces/{id}/events"));
    let mut steps = browser.begin(Method::GET, &watched, &[], Body::empty()).await.into_body();
    steps.frame().await.expect("a step").expect("a step");

    let (status, user) = site.admin(Method::POST, "/api/v1/users/alice/disable", None).await;
    assert_eq!((status, &user["disabled"]), (StatusCode::OK, &serde_json::json!(true)));
    let closed = async {
        let mut byte = [0; 1];
        assert!(matches!(socket.read(&mut byte).await, Ok(0) | Err(_)));
        while let Some(Ok(_)) = stream.frame().await {}
        while let Some(Ok(_)) = steps.frame().await {}
    };
    tokio::time::timeout(Duration::from_secs(20), closed).await.expect("closed in time");
    assert_eq!(browser.get(&site.url("/account")).await.status, StatusCode::SEE_OTHER);
    let headers = [("accept", "application/json")];
    let refused = browser.send(Method::GET, &site.workspace_url(&id, "/lab"), &headers, Body::empty()).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn events_arrive_as_they_happen() {
    let (site, mut browser, id) = opened().await;
    let url = site.workspace_url(&id, "/events");
    let mut body = browser.begin(Method::GET, &url, &[], Body::empty()).await.into_body();
    // The answer never ends, so what arrives was not waiting for its end.
    let mut text = String::new();
    let arrived = async {
        while !text.ends_with("data: 3\n\n") {
            let part = body.frame().await.expect("an event").expect("an event").into_data().expect("data");
            text.push_str(std::str::from_utf8(&part).expect("text"));
        }
    };
    tokio::time::timeout(Duration::from_secs(20), arrived).await.expect("in time");
    assert_eq!(text, "data: 0\n\ndata: 1\n\ndata: 2\n\ndata: 3\n\n");
}
