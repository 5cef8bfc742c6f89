//! Hosts, tickets, and what is valid where.

use axum::body::Body;
use axum::http::{Method, StatusCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::site::Site;

#[tokio::test]
async fn every_host_but_ours_is_refused() {
    let site = Site::start().await;
    let mut browser = site.browser();
    let port = site.address.port();
    for host in [
        "evil.example".to_owned(),
        format!("evil.example:{port}"),
        format!("localhost.evil.example:{port}"),
        format!("x.localhost:{port}"),
        format!("192.168.0.1:{port}"),
    ] {
        let answer = browser.send(Method::GET, &site.url("/"), &[("host", &host)], Body::empty()).await;
        assert_eq!(answer.status, StatusCode::MISDIRECTED_REQUEST, "{host}");
    }
    for host in [format!("127.0.0.1:{port}"), format!("[::1]:{port}"), "localhost:9".to_owned()] {
        let answer = browser.send(Method::GET, &site.url("/sign-in"), &[("host", &host)], Body::empty()).await;
        assert_eq!(answer.status, StatusCode::OK, "{host}");
    }
    let unknown = site.workspace_url("w-000000000000", "/lab");
    assert_eq!(browser.get(&unknown).await.status, StatusCode::NOT_FOUND);
    // Whoever watches the hub knows its address only.
    let headers = [("host", "10.0.0.1")];
    assert_eq!(browser.send(Method::GET, &site.url("/healthz"), &headers, Body::empty()).await.status, StatusCode::OK);
    assert_eq!(browser.send(Method::GET, &site.url("/readyz"), &headers, Body::empty()).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_request_with_two_hosts_is_nobodys() {
    let site = Site::start().await;
    let port = site.address.port();
    for head in [
        format!("GET / HTTP/1.1\r\nHost: localhost:{port}\r\nHost: evil.example\r\n\r\n"),
        format!("GET http://evil.example/ HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n"),
        "GET / HTTP/1.1\r\n\r\n".to_owned(),
    ] {
        let mut stream = TcpStream::connect(site.address).await.expect("connected");
        stream.write_all(head.as_bytes()).await.expect("sent");
        let mut answer = vec![0; 12];
        stream.read_exact(&mut answer).await.expect("an answer");
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer == "HTTP/1.1 421" || answer == "HTTP/1.1 400", "{head} got {answer}");
    }
}

#[tokio::test]
async fn a_ticket_is_good_once_and_for_one_workspace() {
    let site = Site::start().await;
    let mut browser = site.signed_in("alice").await;
    let (one, other) = (site.launch(&mut browser).await, site.launch(&mut browser).await);

    let ticket = site.ticket(&mut browser, &one, "/lab/tree/a.ipynb?x=1").await;
    assert!(ticket.starts_with(&site.workspace_url(&one, "/.cubicle/enter?ticket=")), "{ticket}");
    // Shown to another origin it is burnt, and opens neither.
    let elsewhere = ticket.replace(&one, &other);
    assert_eq!(browser.get(&elsewhere).await.status, StatusCode::FORBIDDEN);
    assert_eq!(browser.get(&ticket).await.status, StatusCode::FORBIDDEN);

    let ticket = site.ticket(&mut browser, &one, "/lab/tree/a.ipynb?x=1").await;
    let entered = browser.get(&ticket).await;
    assert_eq!(entered.status, StatusCode::SEE_OTHER);
    assert_eq!(entered.location(), "/lab/tree/a.ipynb?x=1");
    let cookie = entered.headers["set-cookie"].to_str().expect("text");
    assert!(cookie.contains("HttpOnly") && cookie.contains("Path=/") && !cookie.contains("Domain"), "{cookie}");
    assert_eq!(site.browser().get(&ticket).await.status, StatusCode::FORBIDDEN);

    // The cookie of one workspace opens that one only, even if it is carried over.
    let carried = browser.cookies(&site.workspace_url(&one, "/")).expect("a cookie");
    assert_eq!(browser.get(&site.workspace_url(&one, "/lab")).await.status, StatusCode::OK);
    let headers = [("cookie", carried.as_str()), ("accept", "application/json")];
    let answer = site.browser().send(Method::GET, &site.workspace_url(&other, "/lab"), &headers, Body::empty()).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    // And not the hub.
    let answer = site.browser().send(Method::GET, &site.url("/api/v1/workspaces"), &headers, Body::empty()).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_ticket_grows_old() {
    let site = Site::start_with(|config| config.timing.ticket = std::time::Duration::from_millis(50)).await;
    let mut browser = site.signed_in("alice").await;
    let id = site.launch(&mut browser).await;
    let ticket = site.ticket(&mut browser, &id, "/").await;
    tokio::time::sleep(std::time::Duration::from_millis(80)).await;
    assert_eq!(browser.get(&ticket).await.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_ticket_dies_with_its_session() {
    let site = Site::start().await;
    let mut browser = site.signed_in("alice").await;
    let id = site.launch(&mut browser).await;
    let ticket = site.ticket(&mut browser, &id, "/").await;
    let csrf = browser.get(&site.url("/account")).await.csrf();
    browser.post(&site.url("/sign-out"), &[("csrf", &csrf)]).await;
    assert_eq!(browser.get(&ticket).await.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn the_hubs_cookie_means_nothing_on_a_workspace() {
    let site = Site::start().await;
    let mut browser = site.signed_in("alice").await;
    let id = site.launch(&mut browser).await;
    let session = browser.cookies(&site.url("/")).expect("a cookie");
    let value = session.split_once('=').expect("a pair").1;
    // As it is, and under every name that a workspace's origin reads.
    for cookie in [session.clone(), format!("cubicle_workspace={value}"), format!("__Host-cubicle_workspace={value}")] {
        let headers = [("cookie", cookie.as_str()), ("accept", "application/json")];
        let answer = site.browser().send(Method::GET, &site.workspace_url(&id, "/lab"), &headers, Body::empty()).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{cookie}");
    }
    // A person is led to the hub and back.
    let led = site.browser().get(&site.workspace_url(&id, "/lab?reset")).await;
    assert_eq!(led.status, StatusCode::SEE_OTHER);
    assert_eq!(led.location(), site.url(&format!("/workspaces/{id}/open?next=%2Flab%3Freset")));
    let led = browser.get(&led.location()).await.location();
    assert!(led.starts_with(&site.workspace_url(&id, "/.cubicle/enter?")), "{led}");
}

#[tokio::test]
async fn other_sites_reach_no_workspace() {
    let site = Site::start().await;
    let mut browser = site.signed_in("alice").await;
    let id = site.launch(&mut browser).await;
    site.open(&mut browser, &id).await;
    let url = site.workspace_url(&id, "/echo");
    let evil = site.workspace_url("w-000000000000", "");
    for (method, headers) in [
        (Method::POST, &[("origin", evil.as_str()), ("sec-fetch-site", "same-site")][..]),
        (Method::POST, &[("origin", ""), ("sec-fetch-site", "")]),
        (Method::PUT, &[("origin", "null"), ("sec-fetch-site", "")]),
        (Method::GET, &[("sec-fetch-site", "same-site"), ("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "image")]),
        (Method::GET, &[("sec-fetch-site", "cross-site"), ("sec-fetch-dest", "iframe")]),
    ] {
        let answer = browser.send(method, &url, headers, Body::empty()).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{headers:?}");
    }
    let linked = [("sec-fetch-site", "cross-site")];
    assert_eq!(browser.send(Method::GET, &url, &linked, Body::empty()).await.status, StatusCode::OK);

    let channel = site.workspace_url(&id, "/api/kernels/k/channels");
    for headers in [
        &[("Origin", evil.as_str())][..],
        &[("Origin", "")],
        &[("Origin", "null")],
        &[("Sec-Fetch-Site", "cross-site")],
        &[("Cookie", "")],
        &[("Cookie", "cubicle_workspace=wrong")],
    ] {
        let (head, _) = browser.websocket(&channel, headers).await;
        assert!(head.starts_with("HTTP/1.1 403") || head.starts_with("HTTP/1.1 401"), "{headers:?}: {head}");
    }
    let (head, _) = browser.websocket(&channel, &[]).await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
}

#[tokio::test]
async fn a_stopped_workspace_says_so() {
    let site = Site::start().await;
    let mut browser = site.signed_in("alice").await;
    let id = site.launch(&mut browser).await;
    site.open(&mut browser, &id).await;
    let stop = site.url(&format!("/api/v1/workspaces/{id}/stop"));
    assert_eq!(browser.fetch(Method::POST, &stop, None).await.status, StatusCode::OK);
    let page = browser.get(&site.workspace_url(&id, "/lab")).await;
    assert_eq!(page.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(page.text().contains(&site.url(&format!("/workspaces/{id}"))), "{}", page.text());
    // Every style that the page asks for is there and nothing else is.
    let policy = page.headers["content-security-policy"].to_str().expect("text").to_owned();
    assert!(policy.contains("default-src 'none'"), "{policy}");
    for part in page.text().split("/.cubicle/assets/").skip(1) {
        let name = part.split('"').next().expect("a name");
        let asset = browser.get(&site.workspace_url(&id, &format!("/.cubicle/assets/{name}"))).await;
        assert_eq!(asset.status, StatusCode::OK, "{name}");
    }
    assert_eq!(browser.get(&site.workspace_url(&id, "/.cubicle/x")).await.status, StatusCode::NOT_FOUND);
    // Deleting it takes its cookie's meaning away.
    let delete = site.url(&format!("/api/v1/workspaces/{id}"));
    assert_eq!(browser.fetch(Method::DELETE, &delete, None).await.status, StatusCode::NO_CONTENT);
    assert_eq!(browser.get(&site.workspace_url(&id, "/lab")).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_forwarded_port_works_like_the_hubs_own() {
    let site = Site::start().await;
    site.add_user("alice", false).await;
    // `ssh -L 9999:localhost:8000`: the browser's addresses have another port than the hub's.
    let hub = "http://localhost:9999";
    let link = site.link("alice").await.replace(&site.url(""), hub);
    let mut browser = site.browser();
    let page = browser.get(&link).await;
    let token = link.split("token=").nth(1).expect("a token").to_owned();
    let done = browser.post(&format!("{hub}/sign-in/link"), &[("csrf", &page.csrf()), ("token", &token)]).await;
    assert_eq!(done.location(), "/");
    let policy = done.headers["content-security-policy"].to_str().expect("text");
    assert!(policy.contains("form-action 'self' http://*.localhost:9999;"), "{policy}");
    let launch = serde_json::json!({"template": "jupyterlab"});
    let made = browser.fetch(Method::POST, &format!("{hub}/api/v1/workspaces"), Some(launch)).await.json();
    let id = made["id"].as_str().expect("an id").to_owned();
    let origin = format!("http://{id}.localhost:9999");
    assert_eq!(made["url"], format!("{origin}/"));
    let ticket = browser.get(&format!("{hub}/workspaces/{id}/open")).await.location();
    assert!(ticket.starts_with(&format!("{origin}/.cubicle/enter?")), "{ticket}");
    assert_eq!(browser.get(&ticket).await.location(), "/");
    assert_eq!(browser.get(&format!("{origin}/lab")).await.status, StatusCode::OK);
    let led = site.browser().get(&format!("{origin}/lab")).await.location();
    assert!(led.starts_with(&format!("{hub}/workspaces/{id}/open?")), "{led}");
}
