//! What an institution asks for: limits, maintenance, usage, accounts of programs.

use std::time::Duration;

use axum::http::{Method, StatusCode};
use cubicle_hub::{Amounts, Caps, GroupCaps, Prices};
use serde_json::{Value, json};

use crate::browser::{Answer, Browser};
use crate::site::Site;

const ONE: Amounts = Amounts { workspaces: Some(1), cpu: None, memory: None, storage: None };

async fn launch(site: &Site, browser: &mut Browser) -> Answer {
    browser.fetch(Method::POST, &site.url("/api/v1/workspaces"), Some(json!({"template": "jupyterlab"}))).await
}

#[tokio::test]
async fn nobody_gets_more_than_the_limit_by_any_way() {
    let site = Site::start_with(|config| {
        let class = GroupCaps { name: "class".to_owned(), each: ONE, together: Amounts::default() };
        let everyone = Amounts { workspaces: Some(2), ..Amounts::default() };
        config.sign_in.caps = Caps { everyone, groups: vec![class] };
    })
    .await;
    site.admin(Method::POST, "/api/v1/users", Some(json!({"name": "pupil", "groups": ["class"]}))).await;
    let mut pupil = site.signed_in("pupil").await;
    let first = launch(&site, &mut pupil).await;
    assert_eq!(first.status, StatusCode::ACCEPTED);
    let refused = launch(&site, &mut pupil).await;
    assert_eq!(refused.status, StatusCode::CONFLICT);
    let detail = refused.json()["detail"].as_str().expect("text").to_owned();
    assert_eq!(detail, "you have 1 workspaces of at most 1; this launch needs 1 more");
    // The page says the same, and so does an administrator's launch for the pupil.
    let csrf = pupil.get(&site.url("/")).await.csrf();
    let page = pupil.post(&site.url("/workspaces"), &[("csrf", &csrf), ("template", "jupyterlab")]).await;
    assert_eq!(page.status, StatusCode::CONFLICT);
    assert!(page.text().contains("1 workspaces of at most 1"), "{}", page.text());
    let path = site.url("/launch/jupyterlab");
    assert_eq!(pupil.post(&path, &[("csrf", &csrf)]).await.status, StatusCode::CONFLICT);
    let request = json!({"template": "jupyterlab", "user": "pupil"});
    assert_eq!(site.admin(Method::POST, "/api/v1/workspaces", Some(request)).await.0, StatusCode::CONFLICT);
    // What is stopped leaves room, and needs it again when it is started.
    let id = first.json()["id"].as_str().expect("an id").to_owned();
    let workspace = format!("/api/v1/workspaces/{id}");
    pupil.fetch(Method::POST, &site.url(&format!("{workspace}/stop")), None).await;
    assert_eq!(launch(&site, &mut pupil).await.status, StatusCode::ACCEPTED);
    assert_eq!(
        pupil.fetch(Method::POST, &site.url(&format!("{workspace}/start")), None).await.status,
        StatusCode::CONFLICT
    );
    let start = site.url(&format!("/workspaces/{id}/start"));
    assert_eq!(pupil.post(&start, &[("csrf", &csrf)]).await.status, StatusCode::CONFLICT);
    assert_eq!(site.admin(Method::POST, &format!("{workspace}/start"), None).await.0, StatusCode::CONFLICT);
    // Everybody else may have two.
    let mut alice = site.signed_in("alice").await;
    for expected in [StatusCode::ACCEPTED, StatusCode::ACCEPTED, StatusCode::CONFLICT] {
        assert_eq!(launch(&site, &mut alice).await.status, expected);
    }
}

#[tokio::test]
async fn launches_at_once_do_not_slip_past_the_limit() {
    let site = Site::start_with(|config| config.sign_in.caps.everyone = ONE).await;
    site.add_user("alice", false).await;
    let request =
        || site.admin(Method::POST, "/api/v1/workspaces", Some(json!({"template": "jupyterlab", "user": "alice"})));
    let answers = futures::future::join_all((0..8).map(|_| request())).await;
    let accepted = answers.iter().filter(|(status, _)| *status == StatusCode::ACCEPTED).count();
    assert_eq!(accepted, 1, "{answers:?}");
}

#[tokio::test]
async fn maintenance_closes_the_site_for_launches_and_says_so() {
    let site = Site::start().await;
    let mut alice = site.signed_in("alice").await;
    site.add_user("root-like", true).await;
    let mut administrator = site.signed_in("root-like").await;
    let running = site.launch(&mut alice).await;
    let notice = json!({"text": "New disks, until <noon>.", "maintenance": true});
    let address = site.url("/api/v1/notice");
    assert_eq!(alice.fetch(Method::PUT, &address, Some(notice.clone())).await.status, StatusCode::FORBIDDEN);
    assert_eq!(administrator.fetch(Method::PUT, &address, Some(notice)).await.status, StatusCode::OK);
    let refused = launch(&site, &mut alice).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(refused.json()["detail"].as_str().expect("text").contains("New disks"), "{}", refused.text());
    assert_eq!(launch(&site, &mut administrator).await.status, StatusCode::ACCEPTED);
    // What runs goes on, and every page says what is up, also before sign-in.
    site.open(&mut alice, &running).await;
    for page in [alice.get(&site.url("/")).await, site.browser().get(&site.url("/sign-in")).await] {
        assert!(page.text().contains("Closed for maintenance"), "{}", page.text());
        assert!(page.text().contains("&#60;noon&#62;") || page.text().contains("&lt;noon&gt;"), "{}", page.text());
    }
    // Over the page, too.
    let csrf = administrator.get(&site.url("/admin/notice")).await.csrf();
    let over = administrator.post(&site.url("/admin/notice"), &[("csrf", &csrf), ("text", "")]).await;
    assert_eq!(over.status, StatusCode::SEE_OTHER);
    assert_eq!(launch(&site, &mut alice).await.status, StatusCode::ACCEPTED);
    assert!(!alice.get(&site.url("/")).await.text().contains("maintenance"));
    assert_eq!(alice.get(&site.url("/admin/notice")).await.status, StatusCode::FORBIDDEN);
    for text in ["a\nb".to_owned(), "x".repeat(501)] {
        let answer = administrator.fetch(Method::PUT, &address, Some(json!({"text": text}))).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    }
}

#[tokio::test]
async fn what_people_use_is_counted_and_costs() {
    let site = Site::start_with(|config| {
        config.timing.accounting = Duration::from_millis(400);
        config.sign_in.prices =
            Prices { currency: "EUR".to_owned(), cpu_hour: 3600.0, memory_hour: 0.0, storage_hour: 0.0 };
    })
    .await;
    let mut alice = site.signed_in("alice").await;
    let mut bob = site.signed_in("bob").await;
    site.launch(&mut alice).await;
    let mut used = Value::Null;
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(200)).await;
        used = alice.fetch(Method::GET, &site.url("/api/v1/usage"), None).await.json();
        if used["users"][0]["cost"].as_f64().is_some_and(|cost| cost > 0.0) {
            break;
        }
    }
    let row = &used["users"][0];
    assert_eq!((row["name"].as_str(), used["currency"].as_str()), (Some("alice"), Some("EUR")), "{used}");
    assert!(row["cost"].as_f64().is_some_and(|cost| cost > 0.0), "{used}");
    assert_eq!(used["users"].as_array().map(Vec::len), Some(1));
    // Others see their own, administrators everybody's.
    let theirs = bob.fetch(Method::GET, &site.url("/api/v1/usage"), None).await.json();
    assert!(!theirs.to_string().contains("alice"), "{theirs}");
    let (_, all) = site.admin(Method::GET, "/api/v1/usage", None).await;
    assert_eq!(all["users"][0]["name"], "alice", "{all}");
    let csv = alice.fetch(Method::GET, &site.url("/api/v1/usage.csv"), None).await;
    assert!(csv.text().lines().nth(1).is_some_and(|line| line.contains(",alice,u-")), "{}", csv.text());
    assert_eq!(bob.get(&site.url("/admin/usage")).await.status, StatusCode::FORBIDDEN);
    for period in ["from=2026-13-01", "from=2027-01-01&to=2026-01-01", "day=1"] {
        let answer = alice.fetch(Method::GET, &site.url(&format!("/api/v1/usage?{period}")), None).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{period}");
    }
}

#[tokio::test]
async fn a_service_account_has_tokens_and_no_session() {
    let site = Site::start().await;
    let (status, made) =
        site.admin(Method::POST, "/api/v1/users", Some(json!({"name": "robot", "service": true}))).await;
    assert_eq!((status, &made["service"]), (StatusCode::CREATED, &json!(true)));
    assert_eq!(site.admin(Method::POST, "/api/v1/users/robot/sign-in-link", None).await.0, StatusCode::CONFLICT);
    site.add_user("alice", false).await;
    let token = json!({"name": "nightly", "scope": "write"});
    let (status, refused) = site.admin(Method::POST, "/api/v1/users/alice/tokens", Some(token.clone())).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{refused}");
    let (status, made) = site.admin(Method::POST, "/api/v1/users/robot/tokens", Some(token)).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    let secret = made["secret"].as_str().expect("a secret").to_owned();
    let list = async || site.admin(Method::GET, "/api/v1/users/robot/tokens", None).await.1;
    assert_eq!(list().await[0]["used_at"], Value::Null);
    let launched = site.by_token(&secret, Method::POST, "/api/v1/workspaces", r#"{"template": "jupyterlab"}"#).await;
    assert_eq!(launched.status, StatusCode::ACCEPTED, "{}", launched.text());
    let seen = list().await;
    assert!(seen[0]["used_at"].is_string() && seen[0].get("secret").is_none(), "{seen}");
    // A token makes no tokens, an administrator's neither.
    let more = r#"{"name": "more", "scope": "read"}"#;
    assert_eq!(
        site.by_token(&secret, Method::POST, "/api/v1/users/robot/tokens", more).await.status,
        StatusCode::FORBIDDEN
    );
    // Ended at once.
    let path = format!("/api/v1/users/robot/tokens/{}", seen[0]["id"].as_str().expect("an id"));
    let mut alice = site.signed_in("alice").await;
    assert_eq!(alice.fetch(Method::DELETE, &site.url(&path), None).await.status, StatusCode::FORBIDDEN);
    assert_eq!(site.admin(Method::DELETE, &path, None).await.0, StatusCode::NO_CONTENT);
    assert_eq!(site.admin(Method::DELETE, &path, None).await.0, StatusCode::NOT_FOUND);
    let after = site.by_token(&secret, Method::GET, "/api/v1/workspaces", "").await;
    assert_eq!(after.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn administrators_announce_launches_and_nobody_else() {
    let site = Site::start().await;
    let path = "/api/v1/reservations";
    let at = (jiff::Timestamp::now() + jiff::SignedDuration::from_hours(2)).to_string();
    let asked = json!({"template": "jupyterlab", "at": at, "count": 30});
    let mut alice = site.signed_in("alice").await;
    for (method, body) in [(Method::GET, None), (Method::POST, Some(asked.clone()))] {
        assert_eq!(alice.fetch(method, &site.url(path), body).await.status, StatusCode::FORBIDDEN);
    }
    assert_eq!(
        alice.fetch(Method::DELETE, &site.url(&format!("{path}/r-1")), None).await.status,
        StatusCode::FORBIDDEN
    );
    assert_eq!(site.admin(Method::GET, path, None).await, (StatusCode::OK, json!([])));
    let (status, said) = site.admin(Method::POST, path, Some(asked)).await;
    // The engine of these tests is like one that holds nothing.
    assert_eq!(
        (status, said["detail"].as_str()),
        (StatusCode::BAD_REQUEST, Some("this engine holds no sandboxes ready"))
    );
    for wrong in [
        json!({}),
        json!({"template": "jupyterlab", "at": "nine", "count": 1}),
        json!({"template": "a b", "at": at, "count": 1}),
    ] {
        assert_eq!(site.admin(Method::POST, path, Some(wrong)).await.0, StatusCode::BAD_REQUEST);
    }
    assert_eq!(site.admin(Method::DELETE, &format!("{path}/r-1"), None).await.0, StatusCode::NOT_FOUND);
}
