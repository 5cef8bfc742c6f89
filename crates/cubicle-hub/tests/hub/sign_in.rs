//! Signing in and out.

use axum::body::Body;
use axum::http::{Method, StatusCode};
use serde_json::json;

use crate::site::Site;

#[tokio::test]
async fn a_link_signs_in_once_and_a_preview_does_not_use_it_up() {
    let site = Site::start().await;
    site.add_user("alice", false).await;
    let link = site.link("alice").await;
    assert!(link.starts_with(&site.url("/sign-in/link?token=")), "{link}");

    // A preview, twice.
    for _ in 0..2 {
        let preview = site.browser().get(&link).await;
        assert_eq!(preview.status, StatusCode::OK);
        assert!(preview.text().contains("alice"));
    }
    let mut browser = site.browser();
    let page = browser.get(&link).await;
    let token = link.split("token=").nth(1).expect("a token");
    let fields = [("csrf", page.csrf()), ("token", token.to_owned()), ("next", "/account".to_owned())];
    let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let done = browser.post(&site.url("/sign-in/link"), &fields).await;
    assert_eq!((done.status, done.location().as_str()), (StatusCode::SEE_OTHER, "/account"));
    let cookie = done.headers["set-cookie"].to_str().expect("text");
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax") && !cookie.contains("Domain"), "{cookie}");
    assert_eq!(browser.get(&site.url("/account")).await.status, StatusCode::OK);

    let mut thief = site.browser();
    assert_eq!(thief.get(&link).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_link_that_is_too_old_does_nothing() {
    let site = Site::start_with(|config| config.timing.link = std::time::Duration::ZERO).await;
    site.add_user("alice", false).await;
    let link = site.link("alice").await;
    assert_eq!(site.browser().get(&link).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_password_signs_in_after_it_is_set() {
    let site = Site::start().await;
    let mut first = site.signed_in("alice").await;
    let mut other = site.signed_in("alice").await;
    let csrf = first.get(&site.url("/account")).await.csrf();
    let mismatch = [("csrf", csrf.as_str()), ("password", "one long password"), ("repeat", "another password")];
    assert_eq!(first.post(&site.url("/account/password"), &mismatch).await.status, StatusCode::BAD_REQUEST);
    let good = [("csrf", csrf.as_str()), ("password", "one long password"), ("repeat", "one long password")];
    assert_eq!(first.post(&site.url("/account/password"), &good).await.status, StatusCode::SEE_OTHER);
    // The other session ended, this one did not.
    assert_eq!(first.get(&site.url("/account")).await.status, StatusCode::OK);
    assert_eq!(other.get(&site.url("/account")).await.status, StatusCode::SEE_OTHER);
    // Changing it again needs the present one.
    let unknown = [("csrf", csrf.as_str()), ("password", "third password"), ("repeat", "third password")];
    assert_eq!(first.post(&site.url("/account/password"), &unknown).await.status, StatusCode::FORBIDDEN);

    let mut browser = site.browser();
    let csrf = browser.get(&site.url("/sign-in")).await.csrf();
    let wrong = [("csrf", csrf.as_str()), ("name", "alice"), ("password", "wrong"), ("next", "/")];
    let refused = browser.post(&site.url("/sign-in"), &wrong).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    let nobody = [("csrf", csrf.as_str()), ("name", "nobody"), ("password", "wrong"), ("next", "/")];
    let unknown = browser.post(&site.url("/sign-in"), &nobody).await;
    assert_eq!(unknown.status, StatusCode::UNAUTHORIZED);
    assert_eq!(refused.text().replace("alice", "nobody"), unknown.text(), "the answer tells which names exist");
    // Another spelling of the same name.
    let right = [("csrf", csrf.as_str()), ("name", "ALICE"), ("password", "one long password"), ("next", "//evil")];
    let done = browser.post(&site.url("/sign-in"), &right).await;
    assert_eq!((done.status, done.location().as_str()), (StatusCode::SEE_OTHER, "/"));
}

#[tokio::test]
async fn guessing_has_an_end() {
    let site = Site::start().await;
    site.add_user("alice", false).await;
    let mut browser = site.browser();
    let csrf = browser.get(&site.url("/sign-in")).await.csrf();
    let mut statuses = Vec::new();
    for _ in 0..11 {
        let fields = [("csrf", csrf.as_str()), ("name", "alice"), ("password", "guess"), ("next", "/")];
        statuses.push(browser.post(&site.url("/sign-in"), &fields).await.status);
    }
    assert_eq!(statuses[9], StatusCode::UNAUTHORIZED);
    assert_eq!(statuses[10], StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test]
async fn forms_of_other_pages_do_nothing() {
    let site = Site::start().await;
    let mut browser = site.signed_in("alice").await;
    let csrf = browser.get(&site.url("/account")).await.csrf();
    // Without the token, with another's, and without any cookie.
    assert_eq!(browser.post(&site.url("/sign-out"), &[]).await.status, StatusCode::FORBIDDEN);
    assert_eq!(browser.post(&site.url("/sign-out"), &[("csrf", "x")]).await.status, StatusCode::FORBIDDEN);
    let stranger = site.browser().post(&site.url("/sign-out"), &[("csrf", csrf.as_str())]).await;
    assert_eq!(stranger.status, StatusCode::FORBIDDEN);
    // With the token, from another origin.
    let evil = format!("http://w-000000000000.localhost:{}", site.address.port());
    for headers in [
        &[("origin", evil.as_str()), ("sec-fetch-site", "cross-site")][..],
        &[("origin", "null"), ("sec-fetch-site", "cross-site")],
        &[("origin", ""), ("sec-fetch-site", "")],
        &[("origin", ""), ("sec-fetch-site", "same-site")],
    ] {
        let headers = [headers, &[("content-type", "application/x-www-form-urlencoded")]].concat();
        let body = Body::from(format!("csrf={csrf}"));
        let answer = browser.send(Method::POST, &site.url("/sign-out"), &headers, body).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{headers:?}");
    }
    assert_eq!(browser.get(&site.url("/account")).await.status, StatusCode::OK);
    let out = browser.post(&site.url("/sign-out"), &[("csrf", csrf.as_str())]).await;
    assert_eq!(out.location(), "/sign-in");
    assert_eq!(browser.get(&site.url("/account")).await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn a_session_ends_by_itself() {
    let site = Site::start_with(|config| config.timing.session = std::time::Duration::from_secs(4)).await;
    let mut browser = site.signed_in("alice").await;
    assert_eq!(browser.get(&site.url("/account")).await.status, StatusCode::OK);
    tokio::time::sleep(std::time::Duration::from_millis(4100)).await;
    assert_eq!(browser.get(&site.url("/account")).await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn a_planted_second_cookie_is_not_believed() {
    let site = Site::start().await;
    let mut browser = site.signed_in("alice").await;
    let mine = browser.cookies(&site.url("/")).expect("a cookie");
    let twice = format!("{mine}; cubicle_session=planted");
    let answer = browser.send(Method::GET, &site.url("/account"), &[("cookie", &twice)], Body::empty()).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn next_leads_nowhere_else() {
    let site = Site::start().await;
    let mut browser = site.signed_in("alice").await;
    for next in ["//evil.example", "/\\evil.example", "https://evil.example", "/%09/evil", "javascript:alert(1)"] {
        let url = site.url(&format!("/sign-in?next={}", crate::browser::percent(next)));
        let place = browser.get(&url).await.location();
        assert!(place == "/" || place == "/%09/evil", "{next} led to {place}");
    }
    let place = site.browser().get(&site.url("/workspaces/w-000000000000?x=1")).await.location();
    assert_eq!(place, "/sign-in?next=%2Fworkspaces%2Fw-000000000000%3Fx%3D1");
}

#[tokio::test]
async fn sessions_survive_a_restart_of_the_hub() {
    let site = Site::start().await;
    let mut browser = site.signed_in("alice").await;
    let id = site.launch(&mut browser).await;
    site.open(&mut browser, &id).await;
    let site = site.restart().await;
    assert_eq!(browser.get(&site.workspace_url(&id, "/lab")).await.status, StatusCode::OK);
    let me = browser.fetch(Method::GET, &site.url("/api/v1/users/me"), None).await;
    assert_eq!(me.json()["name"], json!("alice"));
}
