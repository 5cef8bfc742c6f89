//! Every page answers, holds nothing inline, and works by forms alone.

use axum::http::{Method, StatusCode};
use serde_json::json;

use crate::browser::Browser;
use crate::site::Site;

/// What every page must be.
async fn page(site: &Site, browser: &mut Browser, path: &str) -> String {
    let answer = browser.get(&site.url(path)).await;
    assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text());
    let policy = answer.headers["content-security-policy"].to_str().expect("text").to_owned();
    assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(answer.headers["x-content-type-options"], "nosniff");
    assert_eq!(answer.headers["cache-control"], "no-store");
    let text = answer.text();
    assert!(!text.contains("<style") && !text.contains(" style=") && !text.contains(" onclick="), "{path}");
    for script in text.split("<script").skip(1) {
        let tag = script.split('>').next().expect("a tag");
        assert!(tag.contains("src=\"/assets/"), "{path}: {tag}");
    }
    for asset in text.split("\"/assets/").skip(1) {
        let name = asset.split('"').next().expect("a name");
        let answer = browser.get(&site.url(&format!("/assets/{name}"))).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {name}");
        assert!(answer.headers["cache-control"].to_str().expect("text").contains("immutable"));
    }
    text
}

#[tokio::test]
async fn a_users_way_through_the_pages() {
    let site = Site::start().await;
    page(&site, &mut site.browser(), "/sign-in").await;
    let mut browser = site.signed_in("alice").await;
    let home = page(&site, &mut browser, "/").await;
    assert!(home.contains("jupyterlab") && !home.contains("secret-lab"));
    let csrf = browser.get(&site.url("/")).await.csrf();
    let fields = [("csrf", csrf.as_str()), ("template", "jupyterlab"), ("name", "<b>my desk</b>")];
    let launched = browser.post(&site.url("/workspaces"), &fields).await;
    assert_eq!(launched.status, StatusCode::SEE_OTHER, "{}", launched.text());
    let own = launched.location();
    let text = page(&site, &mut browser, &own).await;
    assert!(!text.contains("<b>my desk</b>"), "a name is not escaped");
    page(&site, &mut browser, "/").await;
    page(&site, &mut browser, "/account").await;
    page(&site, &mut browser, &format!("{own}/isolation")).await;
    page(&site, &mut browser, &format!("{own}/isolation?verdict=held")).await;
    page(&site, &mut browser, &format!("{own}/delete")).await;
    let post = async |browser: &mut Browser, path: &str, more: &[(&str, &str)]| {
        let fields = [&[("csrf", csrf.as_str())], more].concat();
        let answer = browser.post(&site.url(path), &fields).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{path}: {}", answer.text());
        answer.location()
    };
    assert_eq!(post(&mut browser, &format!("{own}/verify"), &[]).await, format!("{own}/isolation?done=proven"));
    assert_eq!(post(&mut browser, &format!("{own}/stop"), &[]).await, own);
    page(&site, &mut browser, &own).await;
    assert_eq!(browser.get(&site.url(&format!("{own}/open"))).await.location(), own);
    assert_eq!(post(&mut browser, &format!("{own}/start"), &[]).await, own);
    let named = post(&mut browser, "/launch/jupyterlab", &[]).await;
    assert_eq!(post(&mut browser, &format!("{named}/delete"), &[]).await, "/?done=deleted");
    assert_eq!(post(&mut browser, &format!("{own}/delete"), &[("volume", "yes")]).await, "/?done=deleted-with-home");
    assert_eq!(browser.get(&site.url(&own)).await.status, StatusCode::NOT_FOUND);
    let refused = browser.post(&site.url("/workspaces"), &[("csrf", &csrf), ("template", "absent")]).await;
    assert_eq!(refused.status, StatusCode::NOT_FOUND);
    assert!(refused.text().contains("no such template"));

    let made = browser
        .post(&site.url("/account/tokens"), &[("csrf", &csrf), ("name", "ci"), ("scope", "read"), ("days", "30")])
        .await;
    assert_eq!(made.status, StatusCode::OK);
    assert!(made.text().contains("cubicle_"));
    let tokens = browser.fetch(Method::GET, &site.url("/api/v1/tokens"), None).await.json();
    let path = format!("/account/tokens/{}/delete", tokens[0]["id"].as_str().expect("an id"));
    assert_eq!(post(&mut browser, &path, &[]).await, "/account?done=token-deleted");
    assert!(!page(&site, &mut browser, "/?done=%3Cscript%3Eevil").await.contains("evil"));
}

#[tokio::test]
async fn an_administrators_way_through_the_pages() {
    let site = Site::start().await;
    site.add_user("boss", true).await;
    let mut browser = site.signed_in("boss").await;
    site.launch(&mut browser).await;
    for path in
        ["/admin/users", "/admin/workspaces", "/admin/templates", "/admin/templates/jupyterlab", "/admin/machine"]
    {
        page(&site, &mut browser, path).await;
    }
    let csrf = browser.get(&site.url("/admin/users")).await.csrf();
    let added = browser.post(&site.url("/admin/users"), &[("csrf", &csrf), ("name", "alice")]).await;
    assert_eq!(added.status, StatusCode::OK, "{}", added.text());
    assert!(added.text().contains("/sign-in/link?token="));
    let twice = browser.post(&site.url("/admin/users"), &[("csrf", &csrf), ("name", "ALICE")]).await;
    assert_eq!(twice.status, StatusCode::CONFLICT);
    let (_, alice) = site.admin(Method::GET, "/api/v1/users/alice", None).await;
    let (_, boss) = site.admin(Method::GET, "/api/v1/users/boss", None).await;
    let of =
        |user: &serde_json::Value, path: &str| format!("/admin/users/{}{path}", user["id"].as_str().expect("an id"));
    page(&site, &mut browser, &of(&alice, "/disable")).await;
    let link = browser.post(&site.url(&of(&alice, "/sign-in-link")), &[("csrf", &csrf)]).await;
    assert!(link.text().contains("/sign-in/link?token="));
    for (path, done) in [("/disable", "disabled"), ("/enable", "enabled")] {
        let answer = browser.post(&site.url(&of(&alice, path)), &[("csrf", &csrf)]).await;
        assert_eq!(answer.location(), format!("/admin/users?done={done}"));
    }
    let own = browser.post(&site.url(&of(&boss, "/disable")), &[("csrf", &csrf)]).await;
    assert_eq!(own.status, StatusCode::CONFLICT, "an administrator locked himself out");

    let bad = browser.post(&site.url("/admin/templates"), &[("csrf", &csrf), ("yaml", "kind: Nothing")]).await;
    assert_eq!(bad.status, StatusCode::BAD_REQUEST);
    assert!(bad.text().contains("kind: Nothing"), "what was typed is lost");
    let yaml = serde_json::to_string(&json!({
        "apiVersion": "cubicle.dev/v1alpha1", "kind": "Template",
        "metadata": {"name": "fresh"}, "spec": {"image": "jupyterlab"},
    }))
    .expect("JSON");
    let saved = browser.post(&site.url("/admin/templates"), &[("csrf", &csrf), ("yaml", &yaml)]).await;
    assert_eq!(saved.status, StatusCode::SEE_OTHER, "{}", saved.text());
    page(&site, &mut browser, "/admin/templates/fresh").await;
    page(&site, &mut browser, "/admin/templates/fresh/delete").await;
    let gone = browser.post(&site.url("/admin/templates/fresh/delete"), &[("csrf", &csrf)]).await;
    assert_eq!(gone.location(), "/admin/templates?done=template-deleted");
}
