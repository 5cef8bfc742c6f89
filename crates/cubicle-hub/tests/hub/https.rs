//! The hub with a name and a certificate of its own.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{Request, StatusCode, Version};
use cubicle_hub::TlsFiles;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::site::Site;

const HUB: &str = "hub.example.org";
const DOMAIN: &str = "desks.example.org";

struct Secure {
    site: Site,
    client: rustls::ClientConfig,
    files: tempfile::TempDir,
}

async fn secure() -> Secure {
    let files = tempfile::tempdir().expect("a directory");
    let made = rcgen::generate_simple_self_signed([HUB.to_owned(), format!("*.{DOMAIN}")]).expect("a certificate");
    let (certificate, key) = (files.path().join("chain.pem"), files.path().join("key.pem"));
    std::fs::write(&certificate, made.cert.pem()).expect("written");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("written");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(rustls::pki_types::CertificateDer::from_pem_file(&certificate).expect("readable")).expect("a root");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let site = Site::start_with(|config| {
        config.public_url = Some(format!("https://{HUB}"));
        config.workspace_domain = Some(format!("*.{DOMAIN}"));
        config.tls = Some(TlsFiles { certificate, key });
    })
    .await;
    Secure { site, client, files }
}

type Stream = tokio_rustls::client::TlsStream<TcpStream>;

impl Secure {
    /// Connects, and asks for these protocols.
    async fn connect(&self, host: &str, protocols: &[&str]) -> std::io::Result<Stream> {
        let mut client = self.client.clone();
        client.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        let stream = TcpStream::connect(self.site.address).await?;
        let name = ServerName::try_from(host.to_owned()).expect("a name");
        tokio_rustls::TlsConnector::from(Arc::new(client)).connect(name, stream).await
    }

    /// Sends a head (without `Host`) and a body; gives all that comes back.
    async fn ask(&self, host: &str, request: &str, headers: &str, body: &str) -> String {
        let mut stream = self.connect(host, &[]).await.expect("a valid certificate");
        let head = format!(
            "{request} HTTP/1.1\r\nHost: {host}\r\nAccept: text/html\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.expect("sent");
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }
}

/// All values of a header, in order.
fn values(answer: &str, name: &str) -> Vec<String> {
    let head = answer.split("\r\n\r\n").next().expect("a head");
    head.lines()
        .filter_map(|line| line.split_once(": "))
        .filter(|(given, _)| given.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.to_owned())
        .collect()
}

/// Somebody who has signed in and opened a workspace.
struct Entered {
    /// The session's cookie, as it is sent.
    session: String,
    host: String,
    /// The workspace's cookie.
    grant: String,
}

/// Signs in, launches and opens, and looks at every cookie on the way.
async fn enter(secure: &Secure) -> Entered {
    secure.site.add_user("alice", false).await;
    let link = secure.site.link("alice").await;
    let path = link.strip_prefix(&format!("https://{HUB}")).expect("the public address");
    let page = secure.ask(HUB, &format!("GET {path}"), "", "").await;
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
    assert_eq!(values(&page, "strict-transport-security"), ["max-age=31536000"]);
    let policy = &values(&page, "content-security-policy")[0];
    assert!(policy.contains(&format!("form-action 'self' https://*.{DOMAIN};")), "{policy}");
    let visitor = values(&page, "set-cookie").remove(0);
    assert!(visitor.starts_with("__Host-cubicle_visitor=") && visitor.contains("; Secure"), "{visitor}");

    let csrf = page.split("name=\"csrf\" value=\"").nth(1).expect("a form").split('"').next().expect("a value");
    let token = link.split("token=").nth(1).expect("a token");
    let headers = format!(
        "Origin: https://{HUB}\r\nCookie: {}\r\nContent-Type: application/x-www-form-urlencoded\r\n",
        visitor.split(';').next().expect("a pair")
    );
    let done = secure.ask(HUB, "POST /sign-in/link", &headers, &format!("csrf={csrf}&token={token}")).await;
    let session = values(&done, "set-cookie").remove(0);
    assert!(session.starts_with("__Host-cubicle_session="), "{done}");
    for attribute in ["HttpOnly", "SameSite=Lax", "Secure", "Path=/"] {
        assert!(session.contains(attribute), "{session}");
    }
    assert!(!session.contains("Domain"), "{session}");
    let pair = session.split(';').next().expect("a pair").to_owned();

    let launch = serde_json::json!({"template": "jupyterlab", "user": "alice"});
    let (status, made) = secure.site.admin(axum::http::Method::POST, "/api/v1/workspaces", Some(launch)).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    let id = made["id"].as_str().expect("an id");
    let host = format!("{id}.{DOMAIN}");
    assert_eq!(made["url"], format!("https://{host}/"));

    let opened = secure.ask(HUB, &format!("GET /workspaces/{id}/open"), &format!("Cookie: {pair}\r\n"), "").await;
    let place = values(&opened, "location").remove(0);
    let entrance = place.strip_prefix(&format!("https://{host}")).expect("the workspace's origin");
    let entered = secure.ask(&host, &format!("GET {entrance}"), "", "").await;
    let grant = values(&entered, "set-cookie").remove(0);
    assert!(grant.starts_with("__Host-cubicle_workspace=") && grant.contains("; Secure"), "{grant}");
    let grant = grant.split(';').next().expect("a pair").to_owned();
    Entered { session: pair, host, grant }
}

#[tokio::test]
async fn cookies_are_bound_to_their_host() {
    let secure = secure().await;
    let Entered { session: pair, host, grant } = enter(&secure).await;
    let seen = secure.ask(&host, "GET /echo", &format!("Cookie: {grant}\r\n"), "").await;
    assert!(seen.starts_with("HTTP/1.1 200") && seen.contains("[\"x-forwarded-proto\",\"https\"]"), "{seen}");

    // Names without the prefix, which a sibling origin could plant, mean nothing.
    let planted = grant.replace("__Host-", "");
    let refused = secure.ask(&host, "GET /echo", &format!("Cookie: {planted}\r\nAccept: x\r\n"), "").await;
    assert!(!refused.starts_with("HTTP/1.1 200"), "{refused}");
    let planted = pair.replace("__Host-", "");
    let refused = secure.ask(HUB, "GET /account", &format!("Cookie: {planted}\r\n"), "").await;
    assert!(refused.starts_with("HTTP/1.1 303"), "{refused}");
    // And loopback names are not the hub here.
    let refused = secure.ask(HUB, "GET https://localhost/account", "", "").await;
    assert!(refused.starts_with("HTTP/1.1 421"), "{refused}");
}

#[tokio::test]
async fn plain_http_is_not_answered_there() {
    let secure = secure().await;
    let mut stream = TcpStream::connect(secure.site.address).await.expect("connected");
    stream.write_all(format!("GET / HTTP/1.1\r\nHost: {HUB}\r\n\r\n").as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP/"), "{}", String::from_utf8_lossy(&answer));
}

#[tokio::test]
async fn a_new_certificate_is_taken_and_a_broken_one_is_not() {
    let secure = secure().await;
    let (certificate, key) = (secure.files.path().join("chain.pem"), secure.files.path().join("key.pem"));
    let served = async || {
        // The client trusts the first certificate alone, so that another one shows as an error.
        secure.connect(HUB, &[]).await.map(drop)
    };
    served().await.expect("the first one");
    std::fs::write(&certificate, "half of a certif").expect("written");
    tokio::time::sleep(std::time::Duration::from_secs(7)).await;
    served().await.expect("the last good one stays");
    let made = rcgen::generate_simple_self_signed([HUB.to_owned()]).expect("a certificate");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("written");
    std::fs::write(&certificate, made.cert.pem()).expect("written");
    for _ in 0..60 {
        if let Err(error) = served().await {
            assert!(error.to_string().contains("certificate"), "{error}");
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    }
    panic!("the new certificate is not served");
}

/// A connection of HTTP/2, and how it ends.
async fn second(secure: &Secure) -> (SendRequest<Full<Bytes>>, tokio::task::JoinHandle<()>) {
    let stream = secure.connect(HUB, &["h2", "http/1.1"]).await.expect("a valid certificate");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("a connection");
    (sender, tokio::spawn(async move { drop(connection.await) }))
}

fn get(host: &str, path: &str) -> axum::http::request::Builder {
    Request::get(format!("https://{host}{path}")).version(Version::HTTP_2).header("accept", "text/html")
}

#[tokio::test]
async fn one_connection_of_http2_serves_the_hub_and_a_workspace_each_by_its_own_rules() {
    let secure = secure().await;
    let entered = enter(&secure).await;
    let (sender, _) = second(&secure).await;
    let ask = async |request: axum::http::request::Builder| {
        let answer = sender.clone().send_request(request.body(Full::default()).expect("one")).await.expect("an answer");
        let (head, body) = answer.into_parts();
        (head.status, String::from_utf8_lossy(&body.collect().await.expect("a body").to_bytes()).into_owned())
    };
    let (status, page) = ask(get(HUB, "/sign-in")).await;
    assert!(status == StatusCode::OK && page.contains("<form"), "{status} {page}");

    // The notebook is asked as HTTP/1.1 has it: one host, one line of cookies, without ours.
    let request = get(&entered.host, "/echo").header("cookie", "a=1").header("cookie", &entered.grant);
    let (status, seen) = ask(request.header("cookie", "b=2")).await;
    assert_eq!(status, StatusCode::OK, "{seen}");
    assert!(seen.contains(&format!("[\"host\",\"{}\"]", entered.host)), "{seen}");
    assert!(seen.contains("[\"cookie\",\"a=1; b=2\"]") && !seen.contains("cubicle_workspace"), "{seen}");

    // The same connection does not make one origin's cookie good on another.
    let (status, _) = ask(get(&entered.host, "/echo").header("cookie", &entered.session)).await;
    assert_eq!(status, StatusCode::SEE_OTHER);
    for (host, header) in [("localhost", None), ("elsewhere.example", None), (HUB, Some(entered.host.as_str()))] {
        let request = get(host, "/sign-in");
        let request = if let Some(other) = header { request.header("host", other) } else { request };
        assert_eq!(ask(request).await.0, StatusCode::MISDIRECTED_REQUEST, "{host} {header:?}");
    }
    let large = "x".repeat(70 << 10);
    let request = get(HUB, "/sign-in").header("x-large", large).body(Full::default()).expect("one");
    let refused = sender.clone().send_request(request).await;
    assert!(refused.is_err() || refused.is_ok_and(|answer| answer.status() == 431));
}

#[tokio::test]
async fn a_connection_of_http2_without_a_request_is_closed_and_one_with_an_answer_is_not() {
    let secure = secure().await;
    let entered = enter(&secure).await;
    let (mut sender, ended) = second(&secure).await;
    let request = get(&entered.host, "/events").header("cookie", &entered.grant);
    let answer = sender.send_request(request.body(Full::default()).expect("one")).await.expect("an answer");
    let mut body = answer.into_body();
    // The hub of the tests waits two seconds.
    let until = tokio::time::Instant::now() + Duration::from_secs(5);
    while tokio::time::Instant::now() < until {
        body.frame().await.expect("goes on").expect("a frame");
    }
    assert!(!ended.is_finished());
    // Nor has the hub said that it takes no more requests on it.
    let request = get(HUB, "/sign-in").body(Full::default()).expect("one");
    assert_eq!(sender.send_request(request).await.expect("an answer").status(), StatusCode::OK);
    drop(body);
    tokio::time::timeout(Duration::from_secs(10), ended).await.expect("closed").expect("ended");
}
