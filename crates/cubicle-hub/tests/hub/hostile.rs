//! Notebooks that do not behave: whoever owns a workspace chose every byte of its answers.

use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, StatusCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::browser::{Browser, percent};
use crate::notebook;
use crate::site::Site;

async fn opened() -> (Site, Browser, String) {
    let site = Site::start().await;
    let mut browser = site.signed_in("alice").await;
    let id = site.launch(&mut browser).await;
    site.open(&mut browser, &id).await;
    (site, browser, id)
}

#[tokio::test]
async fn garbage_becomes_a_page_that_says_so() {
    let (site, mut browser, id) = opened().await;
    let url = site.workspace_url(&id, "/lab");
    let many = (0..500).map(|count| format!("x-{count}: 1\r\n")).collect::<String>();
    for (bytes, why) in [
        (b"\x00\xff garbage\r\n\r\n".to_vec(), "noise"),
        (b"".to_vec(), "nothing"),
        (b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(), "another protocol"),
        (b"HTTP/0.9 200\r\n\r\n".to_vec(), "an old protocol"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n".to_vec(), "a bad length"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab".to_vec(), "two lengths"),
        (b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n".to_vec(), "a bad header"),
        (format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(200_000)).into_bytes(), "a long header"),
        (format!("HTTP/1.1 200 OK\r\n{many}\r\n").into_bytes(), "many headers"),
        (b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n".to_vec(), "a switch"),
        (b"HTTP/1.1 302 Found\r\nlocation: /a\r\nlocation: //b\r\ncontent-length: 0\r\n\r\n".to_vec(), "two places"),
    ] {
        *site.engine.notebook.lock().expect("unpoisoned") = notebook::raw(bytes, true).await;
        let answer = browser.get(&url).await;
        assert_eq!(answer.status, StatusCode::BAD_GATEWAY, "{why}: {}", answer.text());
        assert!(answer.text().contains(&site.url(&format!("/workspaces/{id}"))), "{why}: no way out");
        let program = browser.send(Method::GET, &url, &[("accept", "application/json")], Body::empty()).await;
        assert_eq!(program.headers["content-type"], "application/problem+json", "{why}");
    }
}

#[tokio::test]
async fn silence_has_an_end() {
    let (site, mut browser, id) = opened().await;
    for bytes in [b"".to_vec(), b"HTTP/1.1 200 OK\r\nx-slow".to_vec(), b"HTTP/1.1 100 Continue\r\n\r\n".to_vec()] {
        *site.engine.notebook.lock().expect("unpoisoned") = notebook::raw(bytes, false).await;
        let started = std::time::Instant::now();
        let answer = browser.get(&site.workspace_url(&id, "/lab")).await;
        assert_eq!(answer.status, StatusCode::GATEWAY_TIMEOUT);
        assert!(started.elapsed() < Duration::from_secs(20));
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_not_taken_for_a_whole_one() {
    let (site, mut browser, id) = opened().await;
    let bytes = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\npart".to_vec();
    *site.engine.notebook.lock().expect("unpoisoned") = notebook::raw(bytes, true).await;
    let answer = browser.begin(Method::GET, &site.workspace_url(&id, "/lab"), &[], Body::empty()).await;
    assert!(http_body_util::BodyExt::collect(answer.into_body()).await.is_err());
}

#[tokio::test]
async fn nobody_listening_is_not_an_accident_of_the_hub() {
    let (site, mut browser, id) = opened().await;
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
        listener.local_addr().expect("an address")
    };
    *site.engine.notebook.lock().expect("unpoisoned") = closed;
    assert_eq!(browser.get(&site.workspace_url(&id, "/lab")).await.status, StatusCode::BAD_GATEWAY);
}

#[tokio::test]
async fn headers_that_reach_further_than_the_answer_are_dropped() {
    let (site, mut browser, id) = opened().await;
    let url = |query: &str| site.workspace_url(&id, &format!("/answer?{query}"));
    let planted = [
        ("set-cookie", "a=1; Domain=localhost"),
        ("set-cookie", "cubicle_session=stolen"),
        ("set-cookie", "__Host-cubicle_workspace=stolen; Secure; Path=/"),
        ("set-cookie", "kept=1; Path=/"),
        ("clear-site-data", "\"*\""),
        ("strict-transport-security", "max-age=1; includeSubDomains"),
        ("alt-svc", "h3=\":443\""),
        ("public-key-pins", "x"),
        ("refresh", "0;url=http://evil.example"),
        ("service-worker-allowed", "http://localhost/"),
        ("x-kept", "1"),
    ];
    let query: Vec<String> = planted.iter().map(|(name, value)| format!("{name}={}", percent(value))).collect();
    let answer = browser.get(&url(&query.join("&"))).await;
    assert_eq!(answer.status, StatusCode::OK);
    let cookies: Vec<_> = answer.headers.get_all("set-cookie").iter().collect();
    assert_eq!(cookies, ["kept=1; Path=/"]);
    for (name, _) in &planted[4..10] {
        assert!(!answer.headers.contains_key(*name), "{name}");
    }
    assert_eq!(answer.headers["x-kept"], "1");
}

#[tokio::test]
async fn redirects_stay_inside() {
    let (site, mut browser, id) = opened().await;
    let own = site.workspace_url(&id, "/lab?x");
    for (given, kept) in [("/lab", "/lab"), ("lab/tree", "lab/tree"), (own.as_str(), "/lab?x")] {
        let query = format!("status=302&location={}", percent(given));
        let answer = browser.get(&site.workspace_url(&id, &format!("/answer?{query}"))).await;
        assert_eq!((answer.status, answer.location().as_str()), (StatusCode::FOUND, kept));
    }
    let hub = site.url("/");
    for given in [hub.as_str(), "//evil.example/", "http://evil.example/", "/\\evil.example", "javascript:alert(1)"] {
        let query = format!("status=302&location={}", percent(given));
        let answer = browser.get(&site.workspace_url(&id, &format!("/answer?{query}"))).await;
        assert_eq!(answer.status, StatusCode::BAD_GATEWAY, "{given}");
        assert!(!answer.headers.contains_key("location"), "{given}");
    }
}

#[tokio::test]
async fn slow_and_large_request_heads_are_cut() {
    let site = Site::start().await;
    let mut slow = tokio::net::TcpStream::connect(site.address).await.expect("connected");
    slow.write_all(b"GET / HTTP/1.1\r\nHost: local").await.expect("sent");
    let mut rest = Vec::new();
    tokio::time::timeout(Duration::from_secs(20), slow.read_to_end(&mut rest)).await.expect("closed in time").ok();

    let mut large = tokio::net::TcpStream::connect(site.address).await.expect("connected");
    let head =
        format!("GET / HTTP/1.1\r\nHost: localhost:{}\r\nx: {}\r\n\r\n", site.address.port(), "y".repeat(200_000));
    large.write_all(head.as_bytes()).await.ok();
    let mut answer = vec![0; 12];
    large.read_exact(&mut answer).await.expect("an answer");
    assert_eq!(answer, b"HTTP/1.1 431");

    let mut browser = site.signed_in("alice").await;
    let headers = [("content-type", "application/json"), ("accept", "application/json")];
    let url = site.url("/api/v1/workspaces");
    let answer = browser.send(Method::POST, &url, &headers, Body::from("x".repeat(400_000))).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE, "{}", answer.text());
    assert_eq!(answer.headers["content-type"], "application/problem+json");
}
