//! Signing in by way of a provider, honest and not.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{Method, StatusCode};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;

use crate::browser::{Answer, Browser, percent};
use crate::issuer::{Issuer, read};
use crate::site::Site;

async fn site(issuer: &Issuer, more: &str) -> Site {
    let settings = read(&issuer.settings("campus", more)).expect("valid");
    Site::start_with(|config| config.sign_in = settings).await
}

/// Follows the button; gives what the hub asks the provider for.
async fn leave(site: &Site, browser: &mut Browser, next: &str) -> HashMap<String, String> {
    let url = site.url(&format!("/sign-in/with/campus?next={}", percent(next)));
    let answer = browser.get(&url).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text());
    asked(&answer.location())
}

fn asked(place: &str) -> HashMap<String, String> {
    let (_, query) = place.split_once('?').expect("a query");
    let decoded = |text: &str| -> String {
        let text = text.replace('+', " ");
        let mut bytes = Vec::new();
        let mut rest = text.as_bytes();
        while let [first, tail @ ..] = rest {
            if *first == b'%' {
                bytes.push(u8::from_str_radix(std::str::from_utf8(&tail[..2]).expect("text"), 16).expect("a number"));
                rest = &tail[2..];
            } else {
                bytes.push(*first);
                rest = tail;
            }
        }
        String::from_utf8(bytes).expect("text")
    };
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (decoded(name), decoded(value)))
        .collect()
}

async fn back(site: &Site, browser: &mut Browser, state: &str) -> Answer {
    // What a browser says of a redirect from another site.
    let from = [("sec-fetch-site", "cross-site")];
    let url = site.url(&format!("/sign-in/with/campus/back?code=the-code&state={state}"));
    browser.send(Method::GET, &url, &from, Body::empty()).await
}

async fn sign_in(site: &Site, issuer: &Issuer, browser: &mut Browser, subject: &str, more: Value) -> Answer {
    let asked = leave(site, browser, "/account").await;
    issuer.agree(&asked, subject, more);
    back(site, browser, &asked["state"]).await
}

async fn me(site: &Site, browser: &mut Browser) -> Value {
    browser.fetch(Method::GET, &site.url("/api/v1/users/me"), None).await.json()
}

#[tokio::test]
async fn a_person_signs_in_and_is_the_same_at_the_next_time() {
    let issuer = Issuer::start().await;
    let site = site(&issuer, "  adminRoles: [ops]\n  auditorRoles: [audit]\n").await;
    let mut browser = site.browser();
    let page = browser.get(&site.url("/sign-in?next=%2Faccount")).await;
    assert!(page.text().contains("href=\"/sign-in/with/campus?next=%2Faccount\""), "{}", page.text());
    let person = json!({"preferred_username": "alice", "groups": ["staff"], "roles": ["ops"], "sid": "s1"});
    let done = sign_in(&site, &issuer, &mut browser, "4711", person).await;
    assert_eq!((done.status, done.location().as_str()), (StatusCode::SEE_OTHER, "/account"), "{}", done.text());
    let first = me(&site, &mut browser).await;
    assert_eq!(
        (&first["name"], &first["role"], &first["groups"], &first["issuer"]),
        (&json!("alice"), &json!("admin"), &json!(["staff"]), &json!(issuer.url))
    );
    // Another name, other rights, the same person.
    let mut other = site.browser();
    let person = json!({"preferred_username": "alice.married", "groups": [], "roles": "audit"});
    assert_eq!(sign_in(&site, &issuer, &mut other, "4711", person).await.status, StatusCode::SEE_OTHER);
    let second = me(&site, &mut other).await;
    assert_eq!((&second["id"], &second["role"], &second["groups"]), (&first["id"], &json!("auditor"), &json!([])));
    // What the token leaves out is asked for, and only about the same person.
    issuer.plan().user_info = json!({"preferred_username": "bob", "roles": ["ops"]}).as_object().expect("one").clone();
    let mut third = site.browser();
    assert_eq!(sign_in(&site, &issuer, &mut third, "4712", json!({})).await.status, StatusCode::SEE_OTHER);
    assert_eq!(me(&site, &mut third).await["name"], json!("bob"));
    issuer.plan().user_info.insert("sub".to_owned(), json!("4711"));
    let refused = sign_in(&site, &issuer, &mut site.browser(), "4713", json!({})).await;
    assert_eq!(refused.status, StatusCode::BAD_GATEWAY, "{}", refused.text());
}

#[tokio::test]
async fn nobody_is_merged_by_name() {
    let issuer = Issuer::start().await;
    let site = site(&issuer, "").await;
    site.add_user("alice", true).await;
    let mut one = site.browser();
    let person = json!({"preferred_username": "ALICE", "groups": []});
    assert_eq!(sign_in(&site, &issuer, &mut one, "1", person.clone()).await.status, StatusCode::SEE_OTHER);
    let mut two = site.browser();
    assert_eq!(sign_in(&site, &issuer, &mut two, "2", person).await.status, StatusCode::SEE_OTHER);
    let (one, two) = (me(&site, &mut one).await, me(&site, &mut two).await);
    assert_eq!((&one["name"], &two["name"]), (&json!("ALICE@campus"), &json!("ALICE-2@campus")));
    assert_eq!((&one["role"], &two["role"]), (&json!("user"), &json!("user")));
    assert_ne!(one["id"], two["id"]);
}

#[tokio::test]
async fn required_groups_keep_others_out() {
    let issuer = Issuer::start().await;
    let site = site(&issuer, "  requiredGroups: [physics]\n").await;
    let outsider = json!({"preferred_username": "eve", "groups": ["Physics", "chemistry"]});
    let refused = sign_in(&site, &issuer, &mut site.browser(), "1", outsider).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    let insider = json!({"preferred_username": "ada", "groups": ["physics"]});
    assert_eq!(sign_in(&site, &issuer, &mut site.browser(), "2", insider).await.status, StatusCode::SEE_OTHER);
    let (_, users) = site.admin(Method::GET, "/api/v1/users", None).await;
    assert_eq!(users.as_array().map(Vec::len), Some(1), "{users}");
}

#[tokio::test]
async fn bad_tokens_sign_nobody_in() {
    let issuer = Issuer::start().await;
    let site = site(&issuer, "").await;
    type Spoil = fn(&mut Value, &mut Value);
    fn now() -> i64 {
        Timestamp::now().as_second()
    }
    let bad: [(&str, Spoil); 16] = [
        ("expired", |_, claims| claims["exp"] = json!(now() - 61)),
        ("not valid yet", |_, claims| claims["nbf"] = json!(now() + 70)),
        ("a strange beginning", |_, claims| claims["nbf"] = json!("soon")),
        ("from the future", |_, claims| claims["iat"] = json!(now() + 70)),
        ("issued long ago", |_, claims| claims["iat"] = json!(now() - 700)),
        ("another audience", |_, claims| claims["aud"] = json!("other")),
        ("one audience more", |_, claims| claims["aud"] = json!(["cubicle", "other"])),
        ("no audience", |_, claims| claims["aud"] = json!([])),
        ("another issuer", |_, claims| claims["iss"] = json!("http://127.0.0.1:1")),
        ("not signed", |header, _| header["alg"] = json!("none")),
        ("signed with the client's secret", |header, _| header["alg"] = json!("HS256")),
        ("another algorithm", |header, _| header["alg"] = json!("RS256")),
        ("another nonce", |_, claims| claims["nonce"] = json!("replayed")),
        ("no nonce", |_, claims| {
            claims.as_object_mut().expect("an object").remove("nonce");
        }),
        ("nobody", |_, claims| claims["sub"] = json!("")),
        ("a token that ends sessions", |header, _| header["typ"] = json!("logout+jwt")),
    ];
    for (what, spoil) in bad {
        issuer.plan().spoil = spoil;
        let mut browser = site.browser();
        let person = json!({"preferred_username": "eve", "groups": []});
        let refused = sign_in(&site, &issuer, &mut browser, "1", person).await;
        assert_eq!(refused.status, StatusCode::UNAUTHORIZED, "{what}: {}", refused.text());
        assert!(refused.text().contains("href=\"/sign-in\""), "{what}: no way back");
        assert_eq!(browser.get(&site.url("/account")).await.status, StatusCode::SEE_OTHER, "{what}");
    }
    // The control: nothing spoilt, and clocks that differ by less than a minute.
    for spoil in [(|_, _| ()) as Spoil, |_, claims| {
        claims["exp"] = json!(now() - 50);
        claims["nbf"] = json!(now() + 50);
        claims["iat"] = json!(now() + 50);
    }] {
        issuer.plan().spoil = spoil;
        let person = json!({"preferred_username": "ada", "groups": []});
        assert_eq!(sign_in(&site, &issuer, &mut site.browser(), "2", person).await.status, StatusCode::SEE_OTHER);
    }
    issuer.plan().spoil = |_, _| ();
    let (_, users) = site.admin(Method::GET, "/api/v1/users", None).await;
    assert_eq!(users.as_array().map(Vec::len), Some(1), "{users}");
}

#[tokio::test]
async fn keys_may_change_but_not_be_asked_for_at_will() {
    let issuer = Issuer::start().await;
    let site = site(&issuer, "").await;
    let person = || json!({"preferred_username": "ada", "groups": []});
    assert_eq!(sign_in(&site, &issuer, &mut site.browser(), "1", person()).await.status, StatusCode::SEE_OTHER);
    assert_eq!(issuer.plan().keys_asked, 1);
    issuer.rotate("second");
    assert_eq!(sign_in(&site, &issuer, &mut site.browser(), "1", person()).await.status, StatusCode::SEE_OTHER);
    assert_eq!(issuer.plan().keys_asked, 2);
    // A key that the provider does not own to.
    issuer.plan().spoil = |header, _| header["kid"] = json!("invented");
    for _ in 0..5 {
        let refused = sign_in(&site, &issuer, &mut site.browser(), "1", person()).await;
        assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(issuer.plan().keys_asked, 2, "strangers make the hub ask");
    // The old key is gone for good.
    issuer.plan().spoil = |header, _| header["kid"] = json!("first");
    let refused = sign_in(&site, &issuer, &mut site.browser(), "1", person()).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn an_answer_is_for_the_browser_that_asked_and_works_once() {
    let issuer = Issuer::start().await;
    let site = site(&issuer, "").await;
    let mut victim = site.browser();
    let mut thief = site.browser();
    let asked = leave(&site, &mut victim, "/").await;
    issuer.agree(&asked, "1", json!({"preferred_username": "ada", "groups": []}));
    // Somebody else's browser, with no attempt and with another one.
    assert_eq!(back(&site, &mut thief, &asked["state"]).await.status, StatusCode::UNAUTHORIZED);
    leave(&site, &mut thief, "/").await;
    assert_eq!(back(&site, &mut thief, &asked["state"]).await.status, StatusCode::UNAUTHORIZED);
    // Another provider's answer, an error, no code.
    for query in [
        format!("code=the-code&state={}&iss=http%3A%2F%2Fevil.example", asked["state"]),
        format!("error=access_denied&state={}", asked["state"]),
        format!("code=&state={}", asked["state"]),
        "code=the-code&state=".to_owned(),
        "code=the-code".to_owned(),
    ] {
        let mut copy = site.browser();
        copy.jar = victim.jar.clone();
        let answer = copy.get(&site.url(&format!("/sign-in/with/campus/back?{query}"))).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{query}: {}", answer.text());
    }
    let mut copy = site.browser();
    copy.jar = victim.jar.clone();
    assert_eq!(back(&site, &mut victim, &asked["state"]).await.status, StatusCode::SEE_OTHER);
    // The same answer again, even with the cookie that is gone from the browser.
    let replayed = back(&site, &mut copy, &asked["state"]).await;
    assert_eq!(replayed.status, StatusCode::UNAUTHORIZED);
    assert!(replayed.text().contains("used before"), "{}", replayed.text());
    // A code that somebody else got: the verifier does not fit.
    let mut other = site.browser();
    let theirs = leave(&site, &mut other, "/").await;
    let refused = back(&site, &mut other, &theirs["state"]).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    assert!(refused.text().contains("did not take the code"), "{}", refused.text());
}

#[tokio::test]
async fn next_stays_on_this_site_in_every_spelling() {
    let issuer = Issuer::start().await;
    let site = site(&issuer, "").await;
    for next in [
        "//evil.example",
        "///evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "\\/evil.example",
        "/\t/evil.example",
        "/\n/evil.example",
        "\t//evil.example",
        " //evil.example",
        "http://evil.example",
        "https://evil.example/account",
        "https:evil.example",
        "https:/evil.example",
        "HTTPS://EVIL.EXAMPLE",
        "//evil.example@localhost",
        "http://localhost:1@evil.example",
        "javascript:alert(1)",
        "data:text/html,x",
        "evil.example",
        ".evil.example",
        "@evil.example",
        "/\u{2215}/evil.example",
        "\u{ff0f}\u{ff0f}evil.example",
        "/x\r\nLocation: //evil.example",
        "?next=//evil.example",
        "",
    ] {
        let mut browser = site.browser();
        let asked = leave(&site, &mut browser, next).await;
        issuer.agree(&asked, "1", json!({"preferred_username": "ada", "groups": []}));
        assert_eq!(back(&site, &mut browser, &asked["state"]).await.location(), "/", "{next:?}");
    }
}

#[tokio::test]
async fn a_provider_that_is_down_or_slow_has_a_page_and_a_way_back() {
    let issuer = Issuer::start().await;
    let site = site(&issuer, "").await;
    let mut browser = site.browser();
    let leave_url = site.url("/sign-in/with/campus");
    issuer.plan().delay = Duration::from_secs(30);
    let began = Instant::now();
    let slow = browser.get(&leave_url).await;
    assert_eq!(slow.status, StatusCode::GATEWAY_TIMEOUT);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(slow.text().contains("campus login does not answer") && slow.text().contains("href=\"/sign-in\""));
    // Whoever watches is told, at once; the hub stays in service.
    let began = Instant::now();
    let ready = browser.get(&site.url("/readyz")).await;
    assert_eq!((ready.status, ready.text().as_str()), (StatusCode::OK, "ok\nno answer from providers: campus\n"));
    assert!(began.elapsed() < Duration::from_millis(900), "{:?}", began.elapsed());
    // Who comes meanwhile does not wait for the same.
    let began = Instant::now();
    assert_eq!(browser.get(&leave_url).await.status, StatusCode::GATEWAY_TIMEOUT);
    assert!(began.elapsed() < Duration::from_millis(900), "{:?}", began.elapsed());
    tokio::time::sleep(Duration::from_millis(2100)).await;
    issuer.plan().delay = Duration::ZERO;
    for (status, text) in [(500, "{}"), (200, "{}"), (200, "not JSON"), (404, "nothing"), (302, "")] {
        issuer.plan().broken = Some((StatusCode::from_u16(status).expect("a status"), text));
        let answer = browser.get(&leave_url).await;
        assert_eq!(answer.status, StatusCode::BAD_GATEWAY, "{status} {text}: {}", answer.text());
        tokio::time::sleep(Duration::from_millis(2100)).await;
    }
    issuer.plan().broken = None;
    // Up again; then down between leaving and coming back.
    let asked = leave(&site, &mut browser, "/").await;
    assert_eq!(browser.get(&site.url("/readyz")).await.text(), "ok\n");
    issuer.agree(&asked, "1", json!({"preferred_username": "ada", "groups": []}));
    issuer.plan().delay = Duration::from_secs(30);
    assert_eq!(back(&site, &mut browser, &asked["state"]).await.status, StatusCode::GATEWAY_TIMEOUT);
    // Local accounts go on meanwhile.
    site.add_user("root", true).await;
    assert_eq!(site.browser().get(&site.link("root").await).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_provider_nobody_listens_for_is_a_bad_gateway() {
    let issuer = Issuer::start().await;
    let mut settings = read(&issuer.settings("campus", "")).expect("valid");
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("bound").local_addr().expect("an address").port();
    settings.providers[0].issuer = format!("http://127.0.0.1:{port}");
    let site = Site::start_with(|config| config.sign_in = settings).await;
    let answer = site.browser().get(&site.url("/sign-in/with/campus")).await;
    assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
    assert_eq!(site.browser().get(&site.url("/sign-in/with/other")).await.status, StatusCode::NOT_FOUND);
}

async fn post_logout(site: &Site, token: &str) -> Answer {
    // A program, not a browser: no origin, no cookies.
    let headers = [
        ("content-type", "application/x-www-form-urlencoded"),
        ("origin", ""),
        ("sec-fetch-site", ""),
        ("accept", "application/json"),
    ];
    let body = Body::from(format!("logout_token={token}"));
    site.browser().send(Method::POST, &site.url("/sign-in/with/campus/ended"), &headers, body).await
}

#[tokio::test]
async fn the_provider_ends_sessions_and_open_sockets_within_five_seconds() {
    let issuer = Issuer::start().await;
    let site = site(&issuer, "").await;
    let person = |session: &str| json!({"preferred_username": "ada", "groups": [], "sid": session});
    let (mut browser, mut elsewhere) = (site.browser(), site.browser());
    sign_in(&site, &issuer, &mut browser, "1", person("s1")).await;
    sign_in(&site, &issuer, &mut elsewhere, "1", person("s2")).await;
    let id = site.launch(&mut browser).await;
    site.open(&mut browser, &id).await;
    let (head, mut socket) = browser.websocket(&site.workspace_url(&id, "/api/events/subscribe"), &[]).await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");

    // What ends nothing.
    let now = Timestamp::now().as_second();
    let replayed = issuer.logout_token(json!({"sub": "2"}));
    assert_eq!(post_logout(&site, &replayed).await.status, StatusCode::OK, "nobody's session is no error");
    let an_id_token = issuer.signed(
        json!({"iss": issuer.url, "aud": "cubicle", "sub": "1", "iat": now, "exp": now + 60, "jti": "x"}),
        "JWT",
    );
    let stranger = Issuer::start().await;
    for bad in [
        replayed,
        an_id_token,
        "x".to_owned(),
        String::new(),
        stranger.logout_token(json!({"iss": issuer.url, "sub": "1"})),
        issuer.logout_token(json!({"sub": "1", "nonce": "n"})),
        issuer.logout_token(json!({"sub": "1", "aud": "other"})),
        issuer.logout_token(json!({"sub": "1", "exp": now - 100})),
        issuer.logout_token(json!({"sub": "1", "iat": now - 800})),
        issuer.logout_token(json!({"sub": "1", "events": {}})),
        issuer.logout_token(json!({"sub": "1", "jti": null})),
    ] {
        let answer = post_logout(&site, &bad).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{bad}: {}", answer.text());
    }
    assert_eq!(browser.get(&site.url("/account")).await.status, StatusCode::OK);

    let began = Instant::now();
    let token = issuer.logout_token(json!({"sub": "1", "sid": "s1"}));
    let answer = post_logout(&site, &token).await;
    assert_eq!((answer.status, answer.headers["cache-control"].to_str().ok()), (StatusCode::OK, Some("no-store")));
    let mut rest = Vec::new();
    tokio::time::timeout(Duration::from_secs(5), socket.read_to_end(&mut rest)).await.expect("closed").ok();
    println!("closed after {:?}", began.elapsed());
    assert_eq!(browser.get(&site.url("/account")).await.status, StatusCode::SEE_OTHER);
    assert_ne!(browser.get(&site.workspace_url(&id, "/lab")).await.status, StatusCode::OK);
    // Another session of the same person goes on until all are ended.
    assert_eq!(elsewhere.get(&site.url("/account")).await.status, StatusCode::OK);
    assert_eq!(post_logout(&site, &issuer.logout_token(json!({"sub": "1"}))).await.status, StatusCode::OK);
    assert_eq!(elsewhere.get(&site.url("/account")).await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn signing_out_leads_to_the_provider() {
    let issuer = Issuer::start().await;
    let site = site(&issuer, "").await;
    let mut browser = site.browser();
    sign_in(&site, &issuer, &mut browser, "1", json!({"preferred_username": "ada", "groups": []})).await;
    let csrf = browser.get(&site.url("/account")).await.csrf();
    let out = browser.post(&site.url("/sign-out"), &[("csrf", &csrf)]).await;
    assert_eq!(out.location(), "/signed-out?provider=campus");
    let page = browser.get(&site.url("/signed-out?provider=campus")).await;
    assert!(page.text().contains("/sign-in/with/campus/sign-out"), "{}", page.text());
    let place = browser.get(&site.url("/sign-in/with/campus/sign-out")).await.location();
    assert!(place.starts_with(&format!("{}/end?", issuer.url)), "{place}");
    let asked = asked(&place);
    assert_eq!(
        (asked["client_id"].as_str(), &asked["post_logout_redirect_uri"]),
        ("cubicle", &site.url("/signed-out"))
    );
    assert_eq!(browser.get(&site.url("/account")).await.status, StatusCode::SEE_OTHER);
    // Who signed in here has nothing to end elsewhere.
    assert_eq!(site.browser().get(&site.url("/signed-out?provider=evil")).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_site_without_passwords_takes_none() {
    let issuer = Issuer::start().await;
    let site = site(&issuer, "passwords: false\n").await;
    let mut browser = site.browser();
    let page = browser.get(&site.url("/sign-in")).await;
    assert!(!page.text().contains("type=\"password\""));
    // Links of the administrator work still, or nobody could mend a wrong document.
    let mut admin = site.signed_in("root").await;
    assert_eq!(admin.get(&site.url("/account")).await.status, StatusCode::OK);
}
