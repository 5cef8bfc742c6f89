//! A whole hub on a loopback port, with an engine in memory.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use cubicle_hub::{HubConfig, Timing, serve};
use http_body_util::BodyExt as _;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::UnixStream;

use crate::browser::{Answer, Browser};
use crate::engine::TestEngine;
use crate::notebook;

pub(crate) struct Site {
    pub(crate) address: SocketAddr,
    pub(crate) engine: Arc<TestEngine>,
    socket: PathBuf,
    directory: tempfile::TempDir,
    hub: tokio::task::JoinSet<()>,
}

impl Site {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| ()).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut HubConfig)) -> Self {
        let engine = TestEngine::new(notebook::well_behaved().await);
        let directory = tempfile::tempdir().expect("a directory");
        Self::start_in(directory, engine, "127.0.0.1:0".parse().expect("an address"), change).await
    }

    async fn start_in(
        directory: tempfile::TempDir,
        engine: Arc<TestEngine>,
        listen: SocketAddr,
        change: impl FnOnce(&mut HubConfig),
    ) -> Self {
        let mut config = HubConfig::new(directory.path());
        config.timing = Timing {
            answer_head: Duration::from_secs(2),
            request_head: Duration::from_secs(2),
            activity_report: Duration::from_millis(100),
            busy_poll: Duration::from_secs(3600),
            ..Timing::default()
        };
        change(&mut config);
        let listener = std::net::TcpListener::bind(listen).expect("a listener");
        let address = listener.local_addr().expect("an address");
        let socket = directory.path().join("admin.sock");
        let _ = std::fs::remove_file(&socket);
        let admin = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
        let shared: Arc<TestEngine> = Arc::clone(&engine);
        let mut hub = tokio::task::JoinSet::new();
        hub.spawn(async move {
            serve(config, shared, listener, admin).await.expect("the hub serves");
        });
        Self { address, engine, socket, directory, hub }
    }

    /// Kills the hub and starts it again on the same port with the same files.
    pub(crate) async fn restart(mut self) -> Self {
        self.hub.shutdown().await;
        Self::start_in(self.directory, self.engine, self.address, |_| ()).await
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://localhost:{}{path}", self.address.port())
    }

    pub(crate) fn workspace_url(&self, id: &str, path: &str) -> String {
        format!("http://{id}.localhost:{}{path}", self.address.port())
    }

    pub(crate) fn browser(&self) -> Browser {
        Browser::new(self.address)
    }

    /// One request of the machine's administrator.
    pub(crate) async fn admin(&self, method: Method, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        let stream = UnixStream::connect(&self.socket).await.expect("connected");
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("a connection");
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header("host", "localhost");
        let body = match body {
            Some(value) => {
                request = request.header("content-type", "application/json");
                Body::from(value.to_string())
            }
            None => Body::empty(),
        };
        let answer = sender.send_request(request.body(body).expect("a request")).await.expect("an answer");
        let status = answer.status();
        let bytes = answer.into_body().collect().await.expect("a body").to_bytes();
        (status, if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).expect("JSON") })
    }

    pub(crate) async fn add_user(&self, name: &str, admin: bool) {
        let (status, _) = self.admin(Method::POST, "/api/v1/users", Some(json!({"name": name, "admin": admin}))).await;
        assert_eq!(status, StatusCode::CREATED);
    }

    pub(crate) async fn link(&self, name: &str) -> String {
        let path = format!("/api/v1/users/{name}/sign-in-link");
        let (status, link) = self.admin(Method::POST, &path, None).await;
        assert_eq!(status, StatusCode::OK, "{link}");
        link["url"].as_str().expect("a link").to_owned()
    }

    /// A browser in which this user has signed in by link; makes the account if needed.
    pub(crate) async fn signed_in(&self, name: &str) -> Browser {
        let path = format!("/api/v1/users/{name}");
        if self.admin(Method::GET, &path, None).await.0 == StatusCode::NOT_FOUND {
            self.add_user(name, false).await;
        }
        let link = self.link(name).await;
        let mut browser = self.browser();
        let page = browser.get(&link).await;
        assert_eq!(page.status, StatusCode::OK, "{}", page.text());
        let token = link.split("token=").nth(1).expect("a token");
        let done =
            browser.post(&self.url("/sign-in/link"), &[("csrf", &page.csrf()), ("token", token), ("next", "/")]).await;
        assert_eq!(done.status, StatusCode::SEE_OTHER, "{}", done.text());
        browser
    }

    /// What a program sends: a token, and nothing that a browser adds.
    pub(crate) async fn by_token(&self, token: &str, method: Method, path: &str, body: &'static str) -> Answer {
        let bearer = format!("Bearer {token}");
        let headers = [
            ("authorization", bearer.as_str()),
            ("origin", ""),
            ("sec-fetch-site", ""),
            ("accept", "application/json"),
            ("content-type", "application/json"),
        ];
        self.browser().send(method, &self.url(path), &headers, Body::from(body)).await
    }

    /// Launches the default template; gives the workspace's identifier.
    pub(crate) async fn launch(&self, browser: &mut Browser) -> String {
        let url = self.url("/api/v1/workspaces");
        let answer = browser.fetch(Method::POST, &url, Some(json!({"template": "jupyterlab"}))).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.text());
        answer.json()["id"].as_str().expect("an id").to_owned()
    }

    /// Opens a workspace, following the redirects; the browser holds its cookie afterwards.
    pub(crate) async fn open(&self, browser: &mut Browser, id: &str) {
        let ticket = self.ticket(browser, id, "/lab").await;
        let entered = browser.get(&ticket).await;
        assert_eq!(entered.status, StatusCode::SEE_OTHER, "{}", entered.text());
        assert_eq!(entered.location(), "/lab");
    }

    /// The address that a click on "open" leads to.
    pub(crate) async fn ticket(&self, browser: &mut Browser, id: &str, next: &str) -> String {
        let url = self.url(&format!("/workspaces/{id}/open?next={}", crate::browser::percent(next)));
        let answer = browser.get(&url).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text());
        answer.location()
    }
}
