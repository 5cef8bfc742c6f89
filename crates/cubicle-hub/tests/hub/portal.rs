//! Hatchery's contract: every row, and everybody who claims to be somebody else.

use axum::body::Body;
use axum::http::Method;
use cubicle_core::workspace::State;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::browser::{Answer, head};
use crate::issuer::{CLIENT, Issuer, read};
use crate::site::Site;

/// Who asks (nobody, when empty), with the workspace in which state, for what, and gets what.
type Row<'a> = (&'a str, Option<State>, &'a Method, &'a str, u16, String);

const PROXY: &str = "/lw-workspace/proxy/";

struct Portal {
    issuer: Issuer,
    site: Site,
}

impl Portal {
    async fn start() -> Self {
        Self::start_with("").await
    }

    async fn start_with(more: &str) -> Self {
        let issuer = Issuer::start().await;
        let portal = format!("portal:\n  url: http://127.0.0.1\n  provider: campus\n  browser: one-origin\n{more}");
        let settings = read(&issuer.settings("campus", &format!("  auditorRoles: [audit]\n{portal}"))).expect("valid");
        let site = Site::start_with(|config| config.sign_in = settings).await;
        for template in site.engine.templates.lock().expect("unpoisoned").values_mut() {
            template.spec.base_path = PROXY.to_owned();
        }
        Self { issuer, site }
    }

    fn token(&self, subject: &str, more: Value) -> String {
        let now = Timestamp::now().as_second();
        let mut claims = json!({"iss": self.issuer.url, "sub": subject, "aud": ["openid", CLIENT], "iat": now - 3000,
                                "exp": now + 300, "pur": "access"});
        if let (Value::Object(claims), Value::Object(more)) = (&mut claims, more) {
            claims.extend(more);
            claims.retain(|_, value| !value.is_null());
        }
        self.issuer.signed(claims, "JWT")
    }

    fn bearer(&self, subject: &str) -> String {
        format!("bearer {}", self.token(subject, json!({})))
    }

    /// A request without anything of a browser.
    async fn plain(&self, method: Method, target: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let url = format!("http://127.0.0.1:{}{target}", self.site.address.port());
        let silent = ["accept", "origin", "sec-fetch-site", "sec-fetch-mode", "sec-fetch-dest"];
        let given = |name: &&str| !headers.iter().any(|(given, _)| given == name);
        let mut all: Vec<(&str, &str)> = silent.into_iter().filter(|name| given(name)).map(|name| (name, "")).collect();
        all.extend_from_slice(headers);
        self.site.browser().send(method, &url, &all, Body::from(body.to_owned())).await
    }

    async fn by(&self, user: &str, method: Method, path: &str) -> Answer {
        let bearer = self.bearer(user);
        let headers = [("authorization", bearer.as_str()), ("remote_user", user)];
        self.plain(method, &format!("/lw-workspace/{path}"), &headers, "").await
    }

    async fn id(&self, user: &str, name: &str) -> String {
        let options = self.by(user, Method::GET, "options").await.json();
        let found = options.as_array().expect("a list").iter().find(|option| option["name"] == name).expect("offered");
        found["id"].as_str().expect("an id").to_owned()
    }

    fn set_state(&self, state: State) {
        for workspace in self.site.engine.workspaces.lock().expect("unpoisoned").iter_mut() {
            workspace.state = state;
        }
    }
}

#[tokio::test]
async fn every_row_of_the_contract() {
    let portal = Portal::start().await;
    let good = portal.id("ann", "jupyterlab").await;
    let denied = {
        let template = portal.site.engine.templates.lock().expect("unpoisoned")["secret-lab"].clone();
        let digest = <sha2::Sha256 as sha2::Digest>::digest(serde_json::to_string(&template).expect("JSON").as_bytes());
        digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    let launch = format!("launch?id={good}");
    let forbidden = format!("launch?id={denied}");
    let one = format!("options?id={good}");
    let option = format!(
        "{{\"name\":\"jupyterlab\",\"cpu-limit\":\"1\",\"memory-limit\":\"2Gi\",\"id\":\"{good}\",\"gpu\":false,\
         \"idle-time-limit\":3600000}}"
    );
    let options = format!("[{option}]");
    let status = |word: &str| {
        format!(
            "{{\"status\":\"{word}\",\"conditions\":null,\"containerStates\":null,\"idleTimeLimit\":0,\
             \"lastActivityTime\":0,\"workspaceType\":\"Kubernetes\"}}"
        )
    };
    let launching = |built: &str| {
        format!(
            "{{\"status\":\"Launching\",\"conditions\":[{{\"type\":\"Initialized\",\"status\":\"{built}\"}},\
             {{\"type\":\"Ready\",\"status\":\"False\"}},{{\"type\":\"ContainersReady\",\"status\":\"False\"}},\
             {{\"type\":\"PodScheduled\",\"status\":\"True\"}}],\"containerStates\":[{{\"name\":\
             \"hatchery-container\",\"state\":{{\"waiting\":{{\"reason\":\"ContainerCreating\"}}}},\"ready\":false}}],\
             \"idleTimeLimit\":0,\"lastActivityTime\":0,\"workspaceType\":\"Kubernetes\"}}"
        )
    };
    // Who (nobody, when empty), with the workspace in which state, asks for what, and gets what; a body
    // that begins with `~` is only looked for in the answer.
    let (get, post, delete) = (Method::GET, Method::POST, Method::DELETE);
    let rows: Vec<Row<'_>> = vec![
        ("ann", None, &get, "options", 200, options),
        ("ann", None, &post, "options", 200, format!("~{option}")),
        ("ann", None, &get, &one, 200, option.clone()),
        ("ann", None, &get, "options?id=x", 400, "Invalid 'id' parameter 'x'\n".into()),
        ("", None, &get, "options", 401, "Please login\n".into()),
        ("ann", None, &get, "launch", 405, "Method Not Allowed\n".into()),
        ("", None, &get, "launch", 405, "Method Not Allowed\n".into()),
        ("ann", None, &post, "launch", 400, "Missing 'id' parameter\n".into()),
        ("", None, &post, "launch", 400, "Missing 'id' parameter\n".into()),
        ("ann", None, &post, "launch?id=x", 400, "Invalid 'id' parameter 'x'\n".into()),
        ("", None, &post, "launch?id=x", 400, "Invalid 'id' parameter 'x'\n".into()),
        ("", None, &post, &launch, 400, "No username found. Launch forbidden\n".into()),
        ("ann", None, &post, &forbidden, 400, format!("Invalid 'id' parameter '{denied}'\n")),
        ("ann", None, &get, "status", 200, status("Not Found")),
        ("", None, &get, "status", 500, "no username sent in header\n".into()),
        ("ann", None, &get, "terminate", 405, "Method Not Allowed\n".into()),
        ("", None, &post, "terminate", 400, "No username found. Unable to terminate\n".into()),
        ("ann", None, &post, "terminate", 500, "~a workspace pod was not found: ".into()),
        ("ann", None, &get, "setpaymodel?id=1", 405, "Method Not Allowed\n".into()),
        ("ann", None, &post, "setpaymodel", 400, "Missing ID argument\n".into()),
        ("ann", None, &post, "setpaymodel?id=1", 500, "no paymodel with id 1\n".into()),
        ("ann", None, &post, "resetpaymodels", 200, "Current Paymodel has been reset".into()),
        ("ann", None, &post, &launch, 200, "Success".into()),
        ("ann", None, &post, &launch, 500, "~already exists".into()),
        ("ann", Some(State::Pending), &get, "status", 200, launching("False")),
        ("ann", Some(State::Proving), &post, "status", 200, launching("True")),
        (
            "ann",
            Some(State::Running),
            &get,
            "status",
            200,
            "~{\"status\":\"Running\",\"conditions\":null,\
          \"containerStates\":null,\"idleTimeLimit\":3600000,\"lastActivityTime\":1"
                .into(),
        ),
        ("bob", Some(State::Running), &get, "status", 200, status("Not Found")),
        (
            "ann",
            Some(State::Running),
            &post,
            "setpaymodel?id=1",
            500,
            "Can not update paymodel when workspace is running\n".into(),
        ),
        (
            "ann",
            Some(State::Running),
            &post,
            "resetpaymodels",
            500,
            "Can not reset paymodels when workspace is running\n".into(),
        ),
        ("ann", Some(State::Running), &get, "allCosts", 200, "~\"total_pods\":1".into()),
        ("bob", Some(State::Running), &get, "allCosts", 200, "~\"total_pods\":0".into()),
        ("ann", Some(State::Stopping), &get, "status", 200, status("Terminating")),
        ("ann", Some(State::Failed), &get, "status", 200, status("Stopped")),
        ("ann", Some(State::Refused), &get, "status", 200, status("Stopped")),
        ("ann", Some(State::Stopped), &get, "status", 200, status("Not Found")),
        ("ann", Some(State::Stopped), &post, &launch, 200, "Success".into()),
        ("ann", Some(State::Running), &post, "terminate", 200, "Terminated workspace".into()),
        ("ann", None, &get, "status", 200, status("Not Found")),
        ("ann", None, &get, "resetpaymodels", 405, "Method Not Allowed\n".into()),
        ("ann", None, &get, "paymodels", 404, "Current paymodel not set\n".into()),
        ("ann", None, &post, "paymodels", 404, "Not Found\n".into()),
        ("ann", None, &get, "allpaymodels", 404, "No paymodel set\n".into()),
        ("ann", None, &post, "allpaymodels", 404, "Not Found\n".into()),
        ("", None, &get, "mount-files", 401, "Please login\n".into()),
        ("ann", None, &get, "mount-files", 200, "[]".into()),
        ("ann", None, &get, "mount-files?file_path=x", 400, "unknown id 'x'\n".into()),
        ("ann", None, &post, "timetracker", 400, "~JSON".into()),
        ("", None, &get, "_status", 200, "Healthy".into()),
        ("", None, &get, "_version", 200, "~{\"commit\":\"\",\"version\":\"".into()),
        ("ann", None, &get, "", 404, "Not Found\n".into()),
        ("ann", None, &post, "create-ecs-cluster", 404, "Not Found\n".into()),
        ("ann", None, &delete, "launch", 405, "Method Not Allowed\n".into()),
    ];
    for (user, state, method, path, expected, body) in rows {
        if let Some(state) = state {
            portal.set_state(state);
        }
        let answer = match user {
            "" => portal.plain(method.clone(), &format!("/lw-workspace/{path}"), &[], "").await,
            user => portal.by(user, method.clone(), path).await,
        };
        let what = format!("{user} {state:?} {method} {path}");
        assert_eq!(answer.status.as_u16(), expected, "{what}: {}", answer.text());
        match body.strip_prefix('~') {
            Some(part) => assert!(answer.text().contains(part), "{what}: {}", answer.text()),
            None => assert_eq!(answer.text(), body, "{what}"),
        }
        let kind = if path == "allCosts" { "application/json" } else { "text/plain; charset=utf-8" };
        assert_eq!(answer.headers["content-type"], kind, "{what}");
        assert_eq!(answer.text().ends_with('\n'), expected >= 400, "{what}");
        if expected >= 400 {
            assert_eq!(answer.headers["x-content-type-options"], "nosniff", "{what}");
        }
    }
    let bearer = portal.bearer("ann");
    let posted = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let taken = portal.plain(Method::POST, "/lw-workspace/timetracker", &posted, "{\"seconds\": 1}").await;
    assert_eq!((taken.status.as_u16(), taken.text().as_str()), (200, ""));
    // An auditor runs nothing: a nil slice.
    let auditor = format!("bearer {}", portal.token("eve", json!({"roles": ["audit"]})));
    let none = portal.plain(Method::GET, "/lw-workspace/options", &[("authorization", &auditor)], "").await;
    assert_eq!((none.status.as_u16(), none.text().as_str()), (200, "null"));
}

#[tokio::test]
async fn a_plain_client_launches_looks_and_terminates() {
    let portal = Portal::start().await;
    let bearer = portal.bearer("ann");
    let only_token = [("authorization", bearer.as_str())];
    let id = portal.id("ann", "jupyterlab").await;
    let launched = portal.plain(Method::POST, &format!("/lw-workspace/launch?id={id}"), &only_token, "").await;
    assert_eq!(launched.text(), "Success");
    let seen = [("authorization", bearer.as_str()), ("remote_user", "ann"), ("cookie", "access_token=secret; _xsrf=1")];
    let page = portal.plain(Method::GET, "/lw-workspace/proxy/echo?x=1", &seen, "").await;
    // The notebook of the test serves below / only, so that it says what it was asked for as "not found".
    assert_eq!(page.status.as_u16(), 404);
    for template in portal.site.engine.templates.lock().expect("unpoisoned").values_mut() {
        template.spec.base_path = "/".to_owned();
    }
    portal.by("ann", Method::POST, "terminate").await;
    let id = portal.id("ann", "jupyterlab").await;
    assert_eq!(portal.by("ann", Method::POST, &format!("launch?id={id}")).await.text(), "Success");
    let page = portal.plain(Method::GET, "/lw-workspace/proxy/echo?x=1", &seen, "").await;
    assert_eq!(page.status.as_u16(), 200, "{}", page.text());
    let told = page.json();
    assert_eq!(told["target"], "/echo?x=1");
    let text = page.text();
    for secret in ["access_token", "secret", "remote_user", "ann", &bearer[7..]] {
        assert!(!text.contains(secret), "{secret} reached the notebook: {text}");
    }
    assert!(text.contains("_xsrf=1") && text.contains("token the-notebooks-own-token"), "{text}");
    // What it plants on the shared origin is dropped, and it sends nobody away.
    let planted = "/lw-workspace/proxy/answer?set-cookie=access_token%3D1&set-cookie=_xsrf%3D2%3B%20Path%3D%2F&\
                   service-worker-allowed=%2F";
    let answer = portal.plain(Method::GET, planted, &only_token, "").await;
    let cookies: Vec<_> = answer.headers.get_all("set-cookie").iter().collect();
    assert_eq!(cookies, ["_xsrf=2; SameSite=Lax; Path=/lw-workspace/proxy/"]);
    assert!(!answer.headers.contains_key("service-worker-allowed"));
    let moved =
        portal.plain(Method::GET, "/lw-workspace/proxy/answer?status=302&location=%2Flab", &only_token, "").await;
    assert_eq!(moved.location(), "/lw-workspace/proxy/lab");
    let away = "/lw-workspace/proxy/answer?status=302&location=%2F..%2Flaunch";
    assert_eq!(portal.plain(Method::GET, away, &only_token, "").await.status.as_u16(), 502);
    // What one origin gives up is said.
    let (_, workspaces) = portal.site.admin(Method::GET, "/api/v1/workspaces", None).await;
    let path = format!("/api/v1/workspaces/{}/report", workspaces[0]["id"].as_str().expect("an id"));
    let (_, report) = portal.site.admin(Method::GET, &path, None).await;
    let given_up = report["guarantees"].as_array().expect("a list").iter().find(|known| known["alias"] == "SV-13");
    assert_eq!(given_up.expect("told")["verdict"], "not_claimed");
    assert_eq!(report["summary"]["not_claimed"], 1);
    // Nobody else gets in.
    assert_eq!(portal.by("bob", Method::GET, "proxy/echo").await.status.as_u16(), 404);
    assert_eq!(portal.plain(Method::GET, PROXY, &[], "").await.status.as_u16(), 401);
    assert_eq!(portal.by("ann", Method::POST, "terminate").await.text(), "Terminated workspace");
}

#[tokio::test]
async fn a_token_that_proves_nothing_is_401() {
    let portal = Portal::start().await;
    let now = Timestamp::now().as_second();
    let mut tokens = vec![
        ("nothing", String::new()),
        ("noise", "abc".to_owned()),
        ("three parts of noise", "a.b.c".to_owned()),
        ("expired", portal.token("ann", json!({"exp": now - 120}))),
        ("not yet", portal.token("ann", json!({"nbf": now + 300}))),
        ("from the future", portal.token("ann", json!({"iat": now + 300}))),
        ("for another", portal.token("ann", json!({"aud": "other"}))),
        ("for nobody", portal.token("ann", json!({"aud": []}))),
        ("by another", portal.token("ann", json!({"iss": "http://127.0.0.1:1"}))),
        ("of nobody", portal.token("", json!({}))),
        ("a refresh token", portal.token("ann", json!({"pur": "refresh"}))),
        ("an API key", portal.token("ann", json!({"pur": "api_key"}))),
        ("a logout token", portal.token("ann", json!({"events": {}}))),
        ("a logout token by its type", portal.issuer.logout_token(json!({"sub": "ann", "exp": now + 300}))),
        ("very long", "x".repeat(20_000)),
        ("without an end", portal.token("ann", json!({"exp": null}))),
    ];
    portal.issuer.plan().spoil = |header, _| header["alg"] = json!("none");
    tokens.push(("unsigned", portal.token("ann", json!({}))));
    portal.issuer.plan().spoil = |header, _| header["alg"] = json!("HS256");
    tokens.push(("keyed with the client's secret", portal.token("ann", json!({}))));
    portal.issuer.plan().spoil = |header, _| header["kid"] = json!("unknown");
    tokens.push(("by an unknown key", portal.token("ann", json!({}))));
    portal.issuer.plan().spoil = |_, _| ();
    let good = portal.token("ann", json!({}));
    let (front, signature) = good.rsplit_once('.').expect("signed");
    let forged = portal.token("admin", json!({}));
    let (other, _) = forged.rsplit_once('.').expect("signed");
    tokens.push(("another's claims under this signature", format!("{other}.{signature}")));
    tokens.push(("cut off", front.to_owned()));
    for (why, token) in &tokens {
        for (method, path) in
            [(Method::GET, "status"), (Method::POST, "launch"), (Method::GET, "proxy/"), (Method::GET, "options")]
        {
            let authorization = format!("Bearer {token}");
            let headers = [("authorization", authorization.as_str()), ("remote_user", "ann")];
            let answer = portal.plain(method, &format!("/lw-workspace/{path}"), &headers, "").await;
            assert_eq!(answer.status.as_u16(), 401, "{why} at {path}: {}", answer.text());
        }
    }
    assert!(portal.site.engine.workspaces.lock().expect("unpoisoned").is_empty());
    // The same token, untouched.
    let headers = [("authorization", &*format!("Bearer {good}")), ("remote_user", "ann")];
    assert_eq!(portal.plain(Method::GET, "/lw-workspace/status", &headers, "").await.status.as_u16(), 200);
    // One person, one account: nothing was made for those who proved nothing.
    let (_, users) = portal.site.admin(Method::GET, "/api/v1/users", None).await;
    assert_eq!(users.as_array().expect("a list").len(), 1);
}

#[tokio::test]
async fn whoever_is_only_named_by_a_header_is_401() {
    let portal = Portal::start().await;
    let (ann, bob) = (portal.bearer("ann"), portal.bearer("bob"));
    let id = portal.id("ann", "jupyterlab").await;
    assert_eq!(portal.by("ann", Method::POST, &format!("launch?id={id}")).await.text(), "Success");
    let paths = ["status", "options", "proxy/", "proxy/echo", "allCosts", "paymodels", "mount-files"];
    let forged: Vec<(&str, Vec<(&str, &str)>)> = vec![
        ("only named", vec![("remote_user", "ann")]),
        ("only named, with a hyphen", vec![("remote-user", "ann")]),
        ("named beside another's token", vec![("remote_user", "ann"), ("authorization", &bob)]),
        ("with a hyphen beside another's token", vec![("Remote-User", "ann"), ("authorization", &bob)]),
        ("two names", vec![("remote_user", "bob"), ("remote_user", "ann"), ("authorization", &bob)]),
        ("two names in two spellings", vec![("remote_user", "bob"), ("remote-user", "ann"), ("authorization", &bob)]),
        ("two of one name", vec![("remote_user", "ann"), ("remote_user", "ann"), ("authorization", &ann)]),
        ("two tokens", vec![("authorization", &bob), ("authorization", &ann)]),
        ("a list", vec![("remote_user", "bob, ann"), ("authorization", &bob)]),
        ("another case", vec![("remote_user", "ANN"), ("authorization", &ann)]),
        ("a space", vec![("remote_user", "ann bob"), ("authorization", &ann)]),
        ("another scheme", vec![("remote_user", "ann"), ("authorization", "Basic YW5uOng=")]),
        ("the notebook's own token", vec![("remote_user", "ann"), ("authorization", "token the-notebooks-own-token")]),
    ];
    for (why, headers) in &forged {
        for path in paths {
            let answer = portal.plain(Method::GET, &format!("/lw-workspace/{path}"), headers, "").await;
            assert_eq!(answer.status.as_u16(), 401, "{why} at {path}: {}", answer.text());
        }
        for path in ["launch?id=x", "terminate", "setpaymodel?id=1", "resetpaymodels", "timetracker"] {
            let answer = portal.plain(Method::POST, &format!("/lw-workspace/{path}"), headers, "").await;
            assert_eq!(answer.status.as_u16(), 401, "{why} at {path}: {}", answer.text());
        }
    }
    // The hub's own interface, its pages and a workspace's origin believe no header either.
    let mut browser = portal.site.signed_in("carol").await;
    let own = portal.site.launch(&mut browser).await;
    portal.site.open(&mut browser, &own).await;
    for name in ["remote_user", "REMOTE_USER", "Remote-User"] {
        for url in [
            portal.site.url("/api/v1/users/me"),
            portal.site.url("/api/v1/workspaces"),
            portal.site.url("/"),
            portal.site.workspace_url(&own, "/echo"),
        ] {
            for user in ["ann", "carol", "admin", ""] {
                // An empty value would leave the header out.
                let value = if user.is_empty() { " " } else { user };
                let answer = browser.send(Method::GET, &url, &[(name, value)], Body::empty()).await;
                assert_eq!(answer.status.as_u16(), 401, "{name}: {user} at {url}: {}", answer.text());
            }
        }
    }
    assert_eq!(browser.get(&portal.site.workspace_url(&own, "/echo")).await.status.as_u16(), 200);
    // Nothing happened to whom they named.
    assert!(portal.by("ann", Method::GET, "status").await.text().contains("\"Running\""));
}

#[tokio::test]
async fn the_portals_origin_serves_the_contract_and_nothing_else() {
    let portal = Portal::start().await;
    let bearer = portal.bearer("ann");
    let headers = [("authorization", bearer.as_str())];
    for path in [
        "/",
        "/sign-in",
        "/api/v1/users/me",
        "/admin/users",
        "/healthz",
        "/lw-workspace",
        "/lw-workspace/proxy",
        "/assets/cubicle.css",
        "/lw-workspace//launch",
        "//lw-workspace/launch",
        "/lw-workspace%2flaunch",
        "/lw-workspace/%6caunch",
        "/lw-workspace/launch/",
        "/LW-WORKSPACE/launch",
        "/x/../lw-workspace/launch",
        "/lw-workspace/proxy/../launch",
        "/lw-workspace/proxy/%2e%2e/launch",
        "/lw-workspace/proxy/..%2flaunch",
        "/lw-workspace/proxy/%252e%252e/launch",
        "/lw-workspace/proxy/a%5c..%5clab",
        "/lw-workspace/proxy%2f",
        "/lw-workspace/./status",
        "/lw-workspace/x/../status",
    ] {
        let answer = portal.plain(Method::POST, path, &headers, "").await;
        assert!(matches!(answer.status.as_u16(), 400 | 404), "{path}: {} {}", answer.status, answer.text());
    }
    // And the contract is spoken nowhere else.
    let mut browser = portal.site.signed_in("carol").await;
    for path in ["/lw-workspace/options", "/lw-workspace/proxy/"] {
        assert_eq!(browser.get(&portal.site.url(path)).await.status.as_u16(), 404, "{path}");
    }
    // Another site cannot make a portal's user launch or terminate.
    let elsewhere = [("authorization", bearer.as_str()), ("origin", "http://evil.example")];
    for path in ["/lw-workspace/terminate", "/lw-workspace/launch?id=x"] {
        assert_eq!(portal.plain(Method::POST, path, &elsewhere, "").await.status.as_u16(), 403, "{path}");
    }
    let own = format!("http://127.0.0.1:{}", portal.site.address.port());
    let here = [("authorization", bearer.as_str()), ("origin", own.as_str()), ("sec-fetch-site", "same-origin")];
    assert_eq!(portal.plain(Method::POST, "/lw-workspace/launch?id=x", &here, "").await.status.as_u16(), 400);
}

/// With a notebook behind the door, so that nothing but the path keeps a request from it.
#[tokio::test]
async fn a_path_that_two_could_read_as_two_reaches_no_notebook() {
    let portal = Portal::start().await;
    for template in portal.site.engine.templates.lock().expect("unpoisoned").values_mut() {
        template.spec.base_path = "/".to_owned();
    }
    let id = portal.id("ann", "jupyterlab").await;
    assert_eq!(portal.by("ann", Method::POST, &format!("launch?id={id}")).await.text(), "Success");
    for path in
        ["..", "../launch", "x/../../launch", "./x", "%2e%2e/x", "..%2fx", "%252e%252e/x", "a%5c..%5cx", "%2E/x"]
    {
        for method in [Method::GET, Method::POST] {
            let answer = portal.by("ann", method.clone(), &format!("proxy/{path}")).await;
            assert_eq!(answer.status.as_u16(), 400, "{method} {path}: {}", answer.text());
        }
    }
    let answer = portal.by("ann", Method::GET, "proxy/echo").await;
    assert_eq!(answer.status.as_u16(), 200, "a path that means one place: {}", answer.text());
}

#[tokio::test]
async fn a_rotated_key_is_asked_for_and_a_disabled_account_is_shut_out() {
    let portal = Portal::start().await;
    for template in portal.site.engine.templates.lock().expect("unpoisoned").values_mut() {
        template.spec.base_path = "/".to_owned();
    }
    let id = portal.id("ann", "jupyterlab").await;
    assert_eq!(portal.by("ann", Method::POST, &format!("launch?id={id}")).await.text(), "Success");
    portal.issuer.rotate("second");
    assert_eq!(portal.by("ann", Method::GET, "status").await.status.as_u16(), 200);
    // A WebSocket, with the token alone.
    let bearer = portal.bearer("ann");
    let mut socket = TcpStream::connect(portal.site.address).await.expect("connected");
    let ask = |path: &str, more: &str| {
        format!(
            "GET /lw-workspace/{path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n",
            portal.site.address.port()
        )
    };
    let channels = "proxy/api/kernels/k/channels";
    socket.write_all(ask(channels, &format!("Authorization: {bearer}\r\n")).as_bytes()).await.expect("sent");
    assert!(head(&mut socket).await.starts_with("HTTP/1.1 101"));
    // No upgrade opens anything else, and nobody is let in by a header.
    for (path, more, expected) in [
        (channels, "Remote_User: ann\r\n".to_owned(), "401"),
        (channels, String::new(), "401"),
        (channels, format!("Authorization: {bearer}\r\nOrigin: http://evil.example\r\n"), "403"),
        ("launch", format!("Authorization: {bearer}\r\n"), "405"),
        ("status", "Remote_User: ann\r\n".to_owned(), "401"),
        ("proxy/../launch", format!("Authorization: {bearer}\r\n"), "400"),
    ] {
        let mut stream = TcpStream::connect(portal.site.address).await.expect("connected");
        stream.write_all(ask(path, &more).as_bytes()).await.expect("sent");
        let head = head(&mut stream).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {expected}")), "{path} {more}: {head}");
    }
    let (_, users) = portal.site.admin(Method::GET, "/api/v1/users", None).await;
    let name = users[0]["name"].as_str().expect("a name").to_owned();
    let name: String = name.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let (status, _) = portal.site.admin(Method::POST, &format!("/api/v1/users/{name}/disable"), None).await;
    assert_eq!(status.as_u16(), 200);
    let mut rest = Vec::new();
    tokio::time::timeout(std::time::Duration::from_secs(5), socket.read_to_end(&mut rest)).await.expect("closed").ok();
    assert_eq!(portal.by("ann", Method::GET, "status").await.status.as_u16(), 403);
}

#[tokio::test]
async fn no_request_hides_in_another() {
    let portal = Portal::start().await;
    let bearer = portal.bearer("ann");
    let host = format!("127.0.0.1:{}", portal.site.address.port());
    let hidden = format!("POST /lw-workspace/terminate HTTP/1.1\r\nHost: {host}\r\nRemote_User: victim\r\n\r\n");
    let first = format!("POST /lw-workspace/timetracker HTTP/1.1\r\nHost: {host}\r\nAuthorization: {bearer}\r\n");
    let length = hidden.len() + 5;
    for (why, text) in [
        (
            "length, then chunks",
            format!("{first}Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}"),
        ),
        (
            "chunks, then length",
            format!("{first}Transfer-Encoding: chunked\r\nContent-Length: {length}\r\n\r\n0\r\n\r\n{hidden}"),
        ),
        ("two lengths", format!("{first}Content-Length: 0\r\nContent-Length: {length}\r\n\r\n{hidden}")),
        ("a list of lengths", format!("{first}Content-Length: 0, {length}\r\n\r\n{hidden}")),
        ("a signed length", format!("{first}Content-Length: +0\r\n\r\n{hidden}")),
        ("unknown coding", format!("{first}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{hidden}")),
        ("coding with a tab", format!("{first}Transfer-Encoding:\tx, chunked, identity\r\n\r\n0\r\n\r\n{hidden}")),
        ("space before the colon", format!("{first}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n{hidden}")),
        ("a folded header", format!("{first}X: y\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}")),
        ("two hosts", format!("{}Host: localhost\r\nContent-Length: 0\r\n\r\n{hidden}", first)),
    ] {
        let mut stream = TcpStream::connect(portal.site.address).await.expect("connected");
        stream.write_all(text.as_bytes()).await.expect("sent");
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(std::time::Duration::from_secs(4), stream.read_to_end(&mut answer)).await;
        let answer = String::from_utf8_lossy(&answer);
        let heads: Vec<&str> = answer.lines().filter(|line| line.starts_with("HTTP/1.1 ")).collect();
        // What is hidden names somebody without a token: had it been read as a request of its own, it would
        // have been refused as that, after a first answer that is no refusal.
        assert!(heads.first().is_some_and(|head| head.starts_with("HTTP/1.1 4")), "{why}: {answer}");
        assert!(!answer.contains("Terminated") && !heads.iter().any(|head| head.contains(" 200")), "{why}: {answer}");
    }
}
