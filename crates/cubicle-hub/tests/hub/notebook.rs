//! Notebook servers: one that behaves and says what it was sent, and some that do not.

use std::net::SocketAddr;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use axum::{Json, Router};
use futures::StreamExt as _;
use http_body_util::BodyExt as _;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// A server that says what it was sent.
pub(crate) async fn well_behaved() -> SocketAddr {
    let router = Router::new()
        .route("/", any(echo))
        .route("/lab", any(echo))
        .route("/lab/tree/a.ipynb", any(echo))
        .route("/echo", any(echo))
        .route("/api/contents/a.ipynb", any(echo))
        .route("/upload", post(upload))
        .route("/download/{megabytes}", get(download))
        .route("/slow-upload", post(slow_upload))
        .route("/events", get(events))
        .route("/answer", any(answer))
        .route("/api/kernels", get(|| async { Json(serde_json::json!([{"id": "k", "execution_state": "busy"}])) }))
        .route("/api/kernels/{id}/channels", any(websocket))
        .route("/api/events/subscribe", any(websocket));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

async fn echo(request: Request) -> Response {
    let headers: Vec<(String, String)> = request
        .headers()
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().expect("text").to_owned()))
        .collect();
    Json(serde_json::json!({
        "method": request.method().as_str(),
        "target": request.uri().to_string(),
        "headers": headers,
    }))
    .into_response()
}

async fn upload(mut request: Request) -> String {
    let mut count: u64 = 0;
    while let Some(Ok(frame)) = request.body_mut().frame().await {
        count += frame.data_ref().map_or(0, |data| data.len() as u64);
    }
    let encoding = request.headers().get(header::TRANSFER_ENCODING).is_some();
    format!("{count} {}", if encoding { "chunked" } else { "sized" })
}

/// Reads nothing for a while: the hub must not buffer the upload meanwhile.
async fn slow_upload(request: Request) -> String {
    tokio::time::sleep(Duration::from_millis(1500)).await;
    upload(request).await
}

async fn download(axum::extract::Path(megabytes): axum::extract::Path<usize>, headers: HeaderMap) -> Response {
    if let Some(range) = headers.get(header::RANGE) {
        return (StatusCode::PARTIAL_CONTENT, [(header::CONTENT_RANGE, range.clone())], "part").into_response();
    }
    let block = Bytes::from(vec![7_u8; 1 << 20]);
    let blocks = futures::stream::iter((0..megabytes).map(move |_| Ok::<_, std::io::Error>(block.clone())));
    Body::from_stream(blocks).into_response()
}

async fn events() -> Response {
    let ticks = futures::stream::unfold(0, |count| async move {
        tokio::time::sleep(Duration::from_millis(50)).await;
        Some((Ok::<_, std::io::Error>(format!("data: {count}\n\n")), count + 1))
    });
    ([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(ticks.boxed())).into_response()
}

/// Answers with the status and the headers that the query asks for, as `name=value` pairs.
async fn answer(uri: axum::http::Uri) -> Response {
    let mut response = "answered".into_response();
    for (name, value) in uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('=')) {
        let value = decode(value);
        if name == "status" {
            *response.status_mut() = value.parse().expect("a status");
        } else {
            response.headers_mut().append(
                HeaderName::from_bytes(name.as_bytes()).expect("a name"),
                HeaderValue::from_str(&value).expect("a value"),
            );
        }
    }
    response
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, others)) = rest.split_first() {
        if first == b'%' {
            let digits = std::str::from_utf8(&others[..2]).expect("text");
            bytes.push(u8::from_str_radix(digits, 16).expect("digits"));
            rest = &others[2..];
        } else {
            bytes.push(first);
            rest = others;
        }
    }
    String::from_utf8(bytes).expect("text")
}

/// Switches protocols and sends back every byte.
async fn websocket(mut request: Request) -> Response {
    let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, HeaderValue::from_static("accepted"));
    headers.insert(header::SET_COOKIE, HeaderValue::from_static("planted=1; Domain=localhost"));
    if let Some(protocol) = request.headers().get(header::SEC_WEBSOCKET_PROTOCOL) {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocol.clone());
    }
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let mut stream = TokioIo::new(upgrade.await.expect("upgraded"));
        let mut buffer = vec![0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut buffer).await {
            if stream.write_all(&buffer[..count]).await.is_err() {
                return;
            }
        }
    });
    response
}

/// A server that sends these bytes to whoever connects, and then closes or waits.
pub(crate) async fn raw(bytes: Vec<u8>, then_close: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let bytes = bytes.clone();
            tokio::spawn(async move {
                let mut request = [0; 1024];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(&bytes).await;
                if !then_close {
                    tokio::time::sleep(Duration::from_secs(3600)).await;
                }
            });
        }
    });
    address
}
