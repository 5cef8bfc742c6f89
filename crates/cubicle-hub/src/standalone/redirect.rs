//! The door of plain HTTP beside one with TLS: it leads there, and does nothing else.

use axum::body::Body;
use axum::http::{HeaderValue, Request, Response, StatusCode, Uri, header};

/// Leads a request to the same host and path by https at `port`. Without a host there is nowhere to lead to.
pub(super) fn answer<B>(port: u16, request: &Request<B>) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    match place(port, request) {
        Some(place) => {
            *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
            response.headers_mut().insert(header::LOCATION, place);
        }
        None => *response.status_mut() = StatusCode::BAD_REQUEST,
    }
    response
}

fn place<B>(port: u16, request: &Request<B>) -> Option<HeaderValue> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let authority: axum::http::uri::Authority = hosts.next()?.to_str().ok()?.parse().ok()?;
    // Somebody's name and password in front of the host would lead elsewhere than it seems.
    if hosts.next().is_some() || authority.as_str().contains('@') || authority.host().is_empty() {
        return None;
    }
    let port = if port == 443 { String::new() } else { format!(":{port}") };
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let place: Uri = format!("https://{}{port}{path}", authority.host()).parse().ok()?;
    HeaderValue::from_str(&place.to_string()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_stays_and_the_port_does_not() {
        let led = |host: &str, path: &str, port| {
            let request = Request::get(path).header(header::HOST, host).body(()).expect("a request");
            answer(port, &request).headers().get(header::LOCATION).map(|place| place.to_str().expect("text").to_owned())
        };
        assert_eq!(led("a.example:80", "/b?c", 443).as_deref(), Some("https://a.example/b?c"));
        assert_eq!(led("a.example", "/", 8443).as_deref(), Some("https://a.example:8443/"));
        assert_eq!(led("[::1]:80", "//b", 8443).as_deref(), Some("https://[::1]:8443//b"));
        for host in ["", "a@b", "a b", "a/b", ":80"] {
            assert_eq!(led(host, "/", 443), None, "{host}");
        }
        assert_eq!(answer(443, &Request::get("/").body(()).expect("a request")).status(), StatusCode::BAD_REQUEST);
    }
}
