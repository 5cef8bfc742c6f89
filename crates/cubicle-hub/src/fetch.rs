//! Which requests a browser may make from where: `Origin` (RFC 6454) and Fetch Metadata
//! (W3C `Sec-Fetch-*`).

use axum::http::{HeaderMap, Method, header};
use cubicle_core::problem::{Problem, ProblemKind};

/// Whether a request changes nothing by definition (RFC 9110, 9.2.1).
pub(crate) fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// Whether a request asks for a WebSocket (RFC 6455, 4.2.1).
pub(crate) fn is_websocket(headers: &HeaderMap) -> bool {
    let holds = |name, token: &str| {
        headers.get_all(name).iter().any(|value| {
            value.to_str().is_ok_and(|text| text.split(',').any(|part| part.trim().eq_ignore_ascii_case(token)))
        })
    };
    holds(header::CONNECTION, "upgrade") && holds(header::UPGRADE, "websocket")
}

/// Refuses what another site could make a browser do with the user's cookie.
///
/// Unsafe methods and WebSockets must prove that they come from `own`. Everything else may also
/// be a top-level navigation from anywhere, which shows its answer to the user alone.
pub(crate) fn admit(method: &Method, headers: &HeaderMap, own: &str) -> Result<(), Problem> {
    let refuse = |why: &str| {
        Err(Problem::new(
            ProblemKind::NotAllowed,
            format!("the request does not come from {own}: {why}"),
            "open the page itself and try again from there",
        ))
    };
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("unreadable"));
    let origin = text("origin");
    let site = text("sec-fetch-site");
    if headers.get_all("origin").iter().count() > 1 || headers.get_all("sec-fetch-site").iter().count() > 1 {
        return refuse("Origin or Sec-Fetch-Site is given twice");
    }
    if is_safe(method) && !is_websocket(headers) {
        return match site {
            None | Some("same-origin" | "none") => Ok(()),
            Some(_) if text("sec-fetch-mode") == Some("navigate") && text("sec-fetch-dest") == Some("document") => {
                Ok(())
            }
            Some(_) => refuse("Sec-Fetch-Site says that another site asks"),
        };
    }
    if origin.is_some_and(|origin| !origin.eq_ignore_ascii_case(own)) {
        return refuse("Origin is another");
    }
    match (origin, site) {
        // `none` is what a browser's own user interface does, never a page.
        (_, Some("same-origin")) | (Some(_), None | Some("none")) => Ok(()),
        (_, Some(_)) => refuse("Sec-Fetch-Site says that another site asks"),
        (None, None) => refuse("neither Origin nor Sec-Fetch-Site is given"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "http://localhost:8000";

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, value.parse().expect("a value"));
        }
        map
    }

    fn admitted(method: Method, pairs: &[(&'static str, &'static str)]) -> bool {
        admit(&method, &headers(pairs), OWN).is_ok()
    }

    #[test]
    fn unsafe_methods_must_come_from_here() {
        assert!(admitted(Method::POST, &[("origin", OWN)]));
        assert!(admitted(Method::POST, &[("origin", OWN), ("sec-fetch-site", "same-origin")]));
        for pairs in [
            &[][..],
            &[("origin", "null")],
            &[("origin", "http://localhost:8001")],
            &[("origin", "https://localhost:8000")],
            &[("origin", "http://w-000000000000.localhost:8000")],
            &[("origin", OWN), ("sec-fetch-site", "cross-site")],
            &[("origin", OWN), ("sec-fetch-site", "same-site")],
            &[("origin", OWN), ("origin", "http://evil.example")],
            &[("sec-fetch-site", "cross-site")],
            &[("sec-fetch-site", "none")],
        ] {
            assert!(!admitted(Method::POST, pairs), "{pairs:?}");
            assert!(!admitted(Method::DELETE, pairs), "{pairs:?}");
        }
    }

    #[test]
    fn websockets_are_unsafe() {
        let upgrade = [("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")];
        let with = |more: &[(&'static str, &'static str)]| [&upgrade[..], more].concat();
        assert!(admitted(Method::GET, &with(&[("origin", OWN)])));
        assert!(!admitted(Method::GET, &with(&[])));
        assert!(!admitted(Method::GET, &with(&[("origin", "http://evil.example")])));
        assert!(!admitted(Method::GET, &with(&[("origin", OWN), ("sec-fetch-site", "same-site")])));
    }

    #[test]
    fn other_sites_may_link_here_and_nothing_more() {
        let from = |mode, dest| {
            admitted(
                Method::GET,
                &[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", mode), ("sec-fetch-dest", dest)],
            )
        };
        assert!(from("navigate", "document"));
        assert!(!from("navigate", "iframe"));
        assert!(!from("no-cors", "script"));
        assert!(!from("cors", "empty"));
        assert!(admitted(Method::GET, &[]));
    }
}
