//! People whom a front has signed in, and people who only say so.

use axum::body::Body;
use axum::http::{Method, StatusCode};
use cubicle_hub::SignIn;
use serde_json::{Value, json};

use crate::browser::{Answer, Browser};
use crate::site::Site;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// A site with a front and, where `more` does not say otherwise, passwords.
async fn site(more: &str) -> Site {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("front.secret"), SECRET).expect("written");
    let document = folder.path().join("sign-in.yaml");
    let text = format!(
        "front:\n  name: gateway\n  title: the gateway\n  userHeader: X-Remote-User\n  groupsHeader: X-Remote-Groups\n  \
         secretFile: front.secret\n  adminGroups: [ops]\n{more}"
    );
    std::fs::write(&document, text).expect("written");
    let settings = SignIn::read(&document).expect("valid");
    Site::start_with(|config| config.sign_in = settings).await
}

/// What the front sends for this person.
fn by_front<'a>(user: &'a str, groups: &'a str) -> [(&'a str, &'a str); 3] {
    [("x-cubicle-front", SECRET), ("x-remote-user", user), ("x-remote-groups", groups)]
}

async fn get(browser: &mut Browser, url: &str, headers: &[(&str, &str)]) -> Answer {
    browser.send(Method::GET, url, headers, Body::empty()).await
}

/// Whom the interface takes the browser's user for.
async fn me(site: &Site, browser: &mut Browser, headers: &[(&str, &str)]) -> Value {
    let headers = [&[("accept", "application/json")], headers].concat();
    let answer = get(browser, &site.url("/api/v1/users/me"), &headers).await;
    if answer.status == StatusCode::OK { answer.json()["name"].clone() } else { json!(answer.status.as_u16()) }
}

#[tokio::test]
async fn whom_the_front_names_is_signed_in() {
    let site = site("").await;
    let mut browser = site.browser();
    let sent = get(&mut browser, &site.url("/account"), &by_front("alice", "staff,ops")).await;
    assert_eq!(sent.location(), "/sign-in?next=%2Faccount");
    let signed_in = get(&mut browser, &site.url("/sign-in?next=%2Faccount"), &by_front("alice", "staff,ops")).await;
    assert_eq!(signed_in.location(), "/account", "{}", signed_in.text());
    assert_eq!(me(&site, &mut browser, &by_front("alice", "ops, staff")).await, "alice");
    let (_, users) = site.admin(Method::GET, "/api/v1/users/alice", None).await;
    assert_eq!((&users["role"], &users["groups"]), (&json!("admin"), &json!(["ops", "staff"])), "{users}");
    // What it says of groups counts at once: a session with other rights is none.
    assert_eq!(me(&site, &mut browser, &by_front("alice", "staff")).await, 401);
    get(&mut browser, &site.url("/sign-in"), &by_front("alice", "staff")).await;
    assert_eq!(me(&site, &mut browser, &by_front("alice", "staff")).await, "alice");
    assert_eq!(site.admin(Method::GET, "/api/v1/users/alice", None).await.1["role"], "user");
    // Nobody's local account is joined with it.
    site.add_user("bob", false).await;
    get(&mut site.browser(), &site.url("/sign-in"), &by_front("bob", "")).await;
    assert_eq!(site.admin(Method::GET, "/api/v1/users/bob@gateway", None).await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_session_by_the_front_counts_with_its_word_only() {
    let site = site("").await;
    let mut browser = site.browser();
    get(&mut browser, &site.url("/sign-in"), &by_front("alice", "")).await;
    assert_eq!(me(&site, &mut browser, &by_front("alice", "")).await, "alice");
    assert_eq!(me(&site, &mut browser, &[]).await, 401, "past the front");
    assert_eq!(me(&site, &mut browser, &[("x-cubicle-front", SECRET)]).await, 401, "signed out of the front");
    assert_eq!(me(&site, &mut browser, &by_front("bob", "")).await, 401, "somebody else at the front");
    // Whoever uses the browser next gets a session of their own, and the other one is over.
    let before = browser.cookies(&site.url("/")).expect("a cookie");
    get(&mut browser, &site.url("/sign-in"), &by_front("bob", "")).await;
    assert_eq!(me(&site, &mut browser, &by_front("bob", "")).await, "bob");
    let old = [&by_front("alice", "")[..], &[("cookie", before.as_str())]].concat();
    assert_eq!(me(&site, &mut browser, &old).await, 401, "the session before it");
    // A local account's session is not the front's person.
    let mut local = site.signed_in("carol").await;
    assert_eq!(me(&site, &mut local, &[]).await, "carol");
    assert_eq!(me(&site, &mut local, &by_front("alice", "")).await, 401);
}

#[tokio::test]
async fn a_name_without_the_secret_is_refused_wherever_it_goes() {
    let site = site("").await;
    let mut alice = site.browser();
    get(&mut alice, &site.url("/sign-in"), &by_front("alice", "ops")).await;
    let mut carol = site.signed_in("carol").await;
    let id = site.launch(&mut carol).await;
    site.open(&mut carol, &id).await;
    let wrong = "0123456789abcdef0123456789abcdeF";
    let forged: [(&str, Vec<(&str, &str)>); 6] = [
        ("only named", vec![("x-remote-user", "alice")]),
        ("a wrong secret", vec![("x-remote-user", "alice"), ("x-cubicle-front", wrong)]),
        ("two secrets", vec![("x-remote-user", "alice"), ("x-cubicle-front", wrong), ("x-cubicle-front", SECRET)]),
        ("in capitals", vec![("X-REMOTE-USER", "alice")]),
        ("groups", vec![("x-remote-groups", "ops")]),
        ("two users", vec![("x-cubicle-front", SECRET), ("x-remote-user", "bob"), ("x-remote-user", "alice")]),
    ];
    for (why, headers) in &forged {
        for url in ["/", "/sign-in", "/account", "/api/v1/users/me", "/healthz"].map(|path| site.url(path)) {
            let refused = get(&mut alice, &url, headers).await;
            assert_eq!(refused.status, StatusCode::UNAUTHORIZED, "{why} at {url}: {}", refused.text());
        }
        let refused = get(&mut carol, &site.workspace_url(&id, "/echo"), headers).await;
        assert_eq!(refused.status, StatusCode::UNAUTHORIZED, "{why} at a notebook: {}", refused.text());
    }
    let refused = get(&mut site.browser(), &site.url("/"), &forged[0].1).await;
    assert!(refused.text().contains("does not show that the gateway has sent it"), "{}", refused.text());
    // The controls: with the secret, and without a name.
    assert_eq!(me(&site, &mut alice, &by_front("alice", "ops")).await, "alice");
    assert_eq!(me(&site, &mut carol, &[]).await, "carol");
}

#[tokio::test]
async fn a_notebook_sees_nothing_of_the_front() {
    let site = site("").await;
    let mut browser = site.browser();
    get(&mut browser, &site.url("/sign-in"), &by_front("alice", "staff")).await;
    let headers = [&by_front("alice", "staff")[..], &[("x-forwarded-for", "192.0.2.7, 203.0.113.9")]].concat();
    let asked = [
        &headers[..],
        &[("accept", "application/json"), ("sec-fetch-mode", "cors"), ("content-type", "application/json")],
    ]
    .concat();
    let body = Body::from(r#"{"template": "jupyterlab"}"#);
    let launched = browser.send(Method::POST, &site.url("/api/v1/workspaces"), &asked, body).await;
    assert_eq!(launched.status, StatusCode::ACCEPTED, "{}", launched.text());
    let id = launched.json()["id"].as_str().expect("an id").to_owned();
    let opened = get(&mut browser, &site.url(&format!("/workspaces/{id}/open")), &headers).await;
    let entered = get(&mut browser, &opened.location(), &headers).await;
    assert_eq!(entered.status, StatusCode::SEE_OTHER, "{}", entered.text());
    let echo = get(&mut browser, &site.workspace_url(&id, "/echo"), &headers).await;
    let text = echo.text().to_lowercase();
    assert_eq!(echo.status, StatusCode::OK, "{text}");
    for header in ["x-cubicle-front", SECRET, "x-remote-user", "x-remote-groups", "192.0.2.7"] {
        assert!(!text.contains(header), "{header}: {text}");
    }
    assert!(text.contains("203.0.113.9"), "whom the front has seen: {text}");
    // Past the front the cookie is enough; by way of it the browser is somebody else's now.
    let url = site.workspace_url(&id, "/echo");
    assert_eq!(get(&mut browser, &url, &[]).await.status, StatusCode::OK);
    let out = get(&mut browser, &url, &[("x-cubicle-front", SECRET)]).await;
    assert!(out.status.is_redirection(), "signed out of the front: {}", out.text());
    let other = get(&mut browser, &url, &by_front("bob", "")).await;
    assert!(other.location().contains(&format!("/workspaces/{id}/open")), "{}", other.text());
}

#[tokio::test]
async fn signing_out_does_not_lead_back_in() {
    let site = site("  signOutUrl: https://gateway.example.org/logout\npasswords: false\n").await;
    let mut browser = site.browser();
    let nobody = get(&mut browser, &site.url("/sign-in"), &[]).await;
    assert_eq!(nobody.status, StatusCode::UNAUTHORIZED);
    assert!(nobody.text().contains("use the address of the gateway"), "{}", nobody.text());
    get(&mut browser, &site.url("/sign-in"), &by_front("alice", "")).await;
    let page = get(&mut browser, &site.url("/account"), &by_front("alice", "")).await;
    let form = format!("csrf={}", page.csrf());
    let typed = [&by_front("alice", "")[..], &[("content-type", "application/x-www-form-urlencoded")]].concat();
    let done = browser.send(Method::POST, &site.url("/sign-out"), &typed, Body::from(form)).await;
    assert_eq!(done.location(), "/signed-out?provider=gateway", "{}", done.text());
    let page = get(&mut browser, &site.url("/signed-out?provider=gateway"), &by_front("alice", "")).await;
    assert!(page.text().contains("the gateway"), "{}", page.text());
    let away = get(&mut browser, &site.url("/sign-in/with/gateway/sign-out"), &by_front("alice", "")).await;
    assert_eq!(away.location(), "https://gateway.example.org/logout");
}

#[tokio::test]
async fn who_is_in_no_group_of_the_site_is_told_so() {
    let site = site("  requiredGroups: [staff]\n").await;
    let mut browser = site.browser();
    let refused = get(&mut browser, &site.url("/sign-in"), &by_front("eve", "guests")).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    assert!(refused.text().contains("the gateway knows you"), "{}", refused.text());
    assert_eq!(site.admin(Method::GET, "/api/v1/users/eve", None).await.0, StatusCode::NOT_FOUND);
    let done = get(&mut browser, &site.url("/sign-in"), &by_front("eve", "guests, staff")).await;
    assert_eq!(done.status, StatusCode::SEE_OTHER);
    assert_eq!(site.admin(Method::POST, "/api/v1/users/eve/disable", None).await.0, StatusCode::OK);
    let refused = get(&mut site.browser(), &site.url("/sign-in"), &by_front("eve", "staff")).await;
    assert!(!refused.status.is_success() && !refused.status.is_redirection(), "{}", refused.text());
}
