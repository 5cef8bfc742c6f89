//! The hub's own cookies: names, reading, writing.
//!
//! On https every name has the `__Host-` prefix, which the browser only accepts without a
//! domain, so that no sibling origin can plant one (RFC 6265bis, 4.1.3.2).

use axum::http::{HeaderMap, HeaderValue, header};
use cookie::{Cookie, SameSite};

/// The session, on the hub's origin.
pub(crate) const SESSION: &str = "cubicle_session";
/// The grant, on a workspace's origin.
pub(crate) const WORKSPACE: &str = "cubicle_workspace";
/// An attempt to sign in with a provider, on the hub's origin.
pub(crate) const ATTEMPT: &str = "cubicle_attempt";
/// What forms are bound to before there is a session, on the hub's origin.
pub(crate) const VISITOR: &str = "cubicle_visitor";

/// The full name of one of our cookies.
fn full_name(name: &str, secure: bool) -> String {
    if secure { format!("__Host-{name}") } else { name.to_owned() }
}

/// Whether a cookie of this name is ours, in any spelling: such a cookie neither reaches a
/// notebook nor may be set by one.
pub(crate) fn is_ours(name: &str) -> bool {
    let name = name.trim().to_ascii_lowercase();
    let name = name.strip_prefix("__host-").or_else(|| name.strip_prefix("__secure-")).unwrap_or(&name);
    name.starts_with("cubicle")
}

/// All `name=value` pairs of a request.
pub(crate) fn pairs(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(';'))
        .map(str::trim)
        .filter(|pair| !pair.is_empty())
}

/// The value of one of our cookies. Two of the same name are none: one of them was planted.
pub(crate) fn read<'a>(headers: &'a HeaderMap, name: &str, secure: bool) -> Option<&'a str> {
    let name = full_name(name, secure);
    let mut values = pairs(headers).filter_map(|pair| pair.split_once('=')).filter(|(given, _)| *given == name);
    let value = values.next()?.1;
    values.next().is_none().then_some(value)
}

/// A `Set-Cookie` value for one of our cookies, for the browser's session.
pub(crate) fn write(name: &str, value: &str, secure: bool) -> Option<HeaderValue> {
    let cookie = Cookie::build((full_name(name, secure), value.to_owned()))
        .path("/")
        .http_only(true)
        .secure(secure)
        .same_site(SameSite::Lax);
    HeaderValue::from_str(&cookie.to_string()).ok()
}

/// A `Set-Cookie` value that lasts for some seconds; zero removes the cookie.
pub(crate) fn write_for(name: &str, value: &str, secure: bool, seconds: i64) -> Option<HeaderValue> {
    let cookie = Cookie::build((full_name(name, secure), value.to_owned()))
        .path("/")
        .http_only(true)
        .secure(secure)
        .same_site(SameSite::Lax)
        .max_age(cookie::time::Duration::seconds(seconds));
    HeaderValue::from_str(&cookie.to_string()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_of_one_name_are_none() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, HeaderValue::from_static("a=b; cubicle_session=one"));
        assert_eq!(read(&headers, SESSION, false), Some("one"));
        assert_eq!(read(&headers, SESSION, true), None);
        headers.append(header::COOKIE, HeaderValue::from_static("cubicle_session=two"));
        assert_eq!(read(&headers, SESSION, false), None);
    }

    #[test]
    fn secure_cookies_are_bound_to_the_host() {
        let value = write(SESSION, "x", true).expect("a value");
        assert_eq!(value, "__Host-cubicle_session=x; HttpOnly; SameSite=Lax; Secure; Path=/");
        let value = write(SESSION, "x", false).expect("a value");
        assert_eq!(value, "cubicle_session=x; HttpOnly; SameSite=Lax; Path=/");
    }

    #[test]
    fn our_names_are_known_in_any_spelling() {
        for name in ["cubicle_session", "__Host-cubicle_session", "CUBICLE_x", "__secure-Cubicle", " cubicle_workspace"]
        {
            assert!(is_ours(name), "{name}");
        }
        for name in ["_xsrf", "username-w-1", "session"] {
            assert!(!is_ours(name), "{name}");
        }
    }
}
