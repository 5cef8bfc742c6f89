//! What of a notebook's answer a browser gets to see. The answer is hostile: whoever owns the
//! workspace chose every byte of it.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use cookie::Cookie;

use crate::cookies;
use crate::origin::is_own_path;

/// Headers that reach beyond the answer: that belong to one connection, that change how the
/// browser treats other origins, that outlive the workspace, or that lead away.
const NEVER_ANSWERED: [&str; 19] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "clear-site-data",
    "strict-transport-security",
    "alt-svc",
    "public-key-pins",
    "public-key-pins-report-only",
    "expect-ct",
    "nel",
    "report-to",
    "reporting-endpoints",
    "refresh",
    "set-cookie2",
];

/// Why an answer is not passed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It leads to another origin.
    LeadsAway,
    /// It is not what HTTP allows here.
    Malformed,
}

/// Cleans the head of an answer. `host` is the workspace's own host and port.
pub(crate) fn clean(status: StatusCode, headers: &HeaderMap, host: &str) -> Result<HeaderMap, Refusal> {
    // 1xx answers are the connection's business; the one that is not, 101, is handled apart.
    if status.is_informational() {
        return Err(Refusal::Malformed);
    }
    let per_connection = super::outbound::named_by_connection(headers);
    let mut clean = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers {
        if NEVER_ANSWERED.contains(&name.as_str()) || per_connection.contains(name) {
            continue;
        }
        let value = match name.as_str() {
            "set-cookie" => match cookie(value) {
                Some(value) => value,
                None => continue,
            },
            "location" => location(value, host).ok_or(Refusal::LeadsAway)?,
            "content-location" => match location(value, host) {
                Some(value) => value,
                None => continue,
            },
            // The path may widen a service worker's scope within this origin, nothing else.
            "service-worker-allowed" if !value.to_str().is_ok_and(is_own_path) => continue,
            _ => value.clone(),
        };
        clean.append(name.clone(), value);
    }
    if clean.get_all(header::LOCATION).iter().count() > 1 {
        return Err(Refusal::Malformed);
    }
    Ok(clean)
}

/// Lets a cookie pass that stays on this very origin and is not named like ours.
fn cookie(value: &HeaderValue) -> Option<HeaderValue> {
    let parsed = Cookie::parse(value.to_str().ok()?).ok()?;
    // `Cookie::parse` and browsers could read a strange string differently, so the attributes
    // are looked for in the raw text as well.
    let has_domain = value.to_str().ok()?.split(';').skip(1).any(|attribute| {
        let name = attribute.split('=').next().unwrap_or_default();
        name.trim().eq_ignore_ascii_case("domain")
    });
    // A pair without a name is read as a name by some (RFC 6265bis, 5.6), so `=cubicle_x=1` too.
    let nameless = parsed.name().trim().is_empty() && cookies::is_ours(parsed.value());
    let ours = cookies::is_ours(parsed.name()) || nameless;
    (!has_domain && parsed.domain().is_none() && !ours).then(|| value.clone())
}

/// Keeps a redirect inside: a relative reference as it is, the own origin as a path, all else
/// not at all.
fn location(value: &HeaderValue, host: &str) -> Option<HeaderValue> {
    let text = value.to_str().ok()?;
    if text.len() > 8192 || text.bytes().any(|byte| byte == b'\\' || byte.is_ascii_control()) || text.trim() != text {
        return None;
    }
    if text.starts_with("//") {
        return None;
    }
    let head = text.split(['/', '?', '#']).next().unwrap_or_default();
    if !head.contains(':') {
        // No scheme and no authority: a reference within this origin (RFC 3986, 4.2).
        return Some(value.clone());
    }
    let rest = strip_prefix_ignore_case(text, "http://").or_else(|| strip_prefix_ignore_case(text, "https://"))?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if !authority.eq_ignore_ascii_case(host) {
        return None;
    }
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    if path.starts_with("//") {
        return None;
    }
    HeaderValue::from_str(&path).ok()
}

fn strip_prefix_ignore_case<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let head = text.get(..prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then(|| &text[prefix.len()..])
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "w-000000000000.localhost:8000";

    fn cleaned(pairs: &[(&'static str, &'static str)]) -> Result<HeaderMap, Refusal> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        clean(StatusCode::OK, &headers, HOST)
    }

    #[test]
    fn cookies_stay_on_the_origin_and_off_our_names() {
        for good in ["_xsrf=1; Path=/", "a=b", "domain=1; Path=/", "a=b; Expires=Wed, 21 Oct 2099 07:28:00 GMT"] {
            assert_eq!(cleaned(&[("set-cookie", good)]).expect("clean").get("set-cookie").expect("kept"), good);
        }
        for bad in [
            "a=b; Domain=localhost",
            "a=b; domain=.localhost; Path=/",
            "a=b; DOMAIN = localhost",
            "a=b;Domain",
            "cubicle_session=1",
            "__Host-cubicle_session=1; Secure; Path=/",
            "Cubicle_workspace=1",
            "=cubicle_session=1",
        ] {
            assert!(!cleaned(&[("set-cookie", bad)]).expect("clean").contains_key("set-cookie"), "{bad}");
        }
    }

    #[test]
    fn what_reaches_beyond_the_answer_is_dropped() {
        for name in NEVER_ANSWERED {
            assert!(cleaned(&[(name, "x")]).expect("clean").is_empty(), "{name}");
        }
        assert!(cleaned(&[("service-worker-allowed", "https://hub/")]).expect("clean").is_empty());
        assert!(!cleaned(&[("service-worker-allowed", "/")]).expect("clean").is_empty());
        assert!(cleaned(&[("connection", "x-y"), ("x-y", "1")]).expect("clean").is_empty());
        assert_eq!(cleaned(&[("content-type", "text/html")]).expect("clean").len(), 1);
    }

    #[test]
    fn redirects_stay_inside() {
        for (given, kept) in [
            ("/lab", "/lab"),
            ("lab?x=http://y", "lab?x=http://y"),
            ("?x", "?x"),
            ("../a:b", "../a:b"),
            ("http://w-000000000000.localhost:8000/lab?a#b", "/lab?a#b"),
            ("HTTPS://W-000000000000.LOCALHOST:8000", "/"),
        ] {
            assert_eq!(cleaned(&[("location", given)]).expect("clean")["location"], kept);
        }
        for given in [
            "http://localhost:8000/",
            "https://evil.example/",
            "//evil.example",
            "/\\evil.example",
            "\\\\evil.example",
            "http:evil.example",
            "http:///evil.example",
            "http://w-000000000000.localhost:8000@evil.example/",
            "http://w-000000000000.localhost:8000//evil.example",
            "http://w-000000000000.localhost:80000/",
            "javascript:alert(1)",
            "data:text/html,x",
            "\thttp://evil.example",
            "ht\ttp://evil.example",
        ] {
            assert_eq!(cleaned(&[("location", given)]), Err(Refusal::LeadsAway), "{given}");
        }
        assert_eq!(cleaned(&[("location", "/a"), ("location", "/b")]), Err(Refusal::Malformed));
    }
}
