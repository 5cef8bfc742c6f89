//! What a client sees when there is nobody to ask.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};

use super::Proxy;
use crate::proxy::encode;
use crate::proxy::exchange;

/// The longest that the server of error pages may take, and the largest page.
const PATIENCE: Duration = Duration::from_secs(10);
const MOST_PAGE: usize = 4 << 20;

/// The answer for a status, with the site's own page where there is one. `target` is what was asked.
pub(super) async fn page(proxy: &Proxy, status: StatusCode, target: &str) -> Response<Body> {
    tracing::warn!(
        status = status.as_u16(),
        path = target.split('?').next().unwrap_or_default(),
        "no answer from a target"
    );
    let mut response = match asked(proxy, status, target).await {
        Some(response) => response,
        None => match of_file(proxy, status).await {
            Some(page) => html(page),
            None => html(plain(status)),
        },
    };
    *response.status_mut() = status;
    response
}

/// The page where the site has none of its own.
fn plain(status: StatusCode) -> Bytes {
    let (code, reason) = (status.as_u16(), status.canonical_reason().unwrap_or("Error"));
    format!("<!DOCTYPE html>\n<html lang=\"en\"><title>{code}: {reason}</title><h1>{code}: {reason}</h1></html>\n")
        .into()
}

fn html(page: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::from(page));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html"));
    response
}

/// The page of `--error-target`.
async fn asked(proxy: &Proxy, status: StatusCode, target: &str) -> Option<Response<Body>> {
    let server = proxy.config.error_target.as_ref()?;
    let ask = async {
        let stream = server.connect(proxy.config.client_tls.as_ref()).await.ok()?;
        let path = format!("{}/{}?url={}", server.path(), status.as_u16(), encode(target));
        let request = Request::get(path).header(header::HOST, server.host()).body(Body::empty()).ok()?;
        let answer = exchange::ask(stream, request, PATIENCE).await.ok()?;
        let (parts, body) = answer.into_parts();
        let body = Limited::new(body, MOST_PAGE).collect().await.ok()?.to_bytes();
        let mut response = Response::new(Body::from(body));
        for name in [header::CONTENT_TYPE, header::CONTENT_ENCODING] {
            if let Some(value) = parts.headers.get(&name) {
                response.headers_mut().insert(name, value.clone());
            }
        }
        Some(response)
    };
    let answer = tokio::time::timeout(PATIENCE, ask).await.ok().flatten();
    if answer.is_none() {
        tracing::warn!(%server, "there is no page from the error target");
    }
    answer
}

/// The page of `--error-path`.
async fn of_file(proxy: &Proxy, status: StatusCode) -> Option<Bytes> {
    let folder = proxy.config.error_path.as_ref()?;
    for name in [format!("{}.html", status.as_u16()), "error.html".to_owned()] {
        if let Ok(page) = tokio::fs::read(folder.join(name)).await {
            return Some(page.into());
        }
    }
    None
}
