//! A browser: keeps cookies per host as browsers do, and says where it comes from.

use std::collections::HashMap;
use std::net::SocketAddr;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

pub(crate) struct Browser {
    address: SocketAddr,
    /// Host without port: cookies know no ports.
    pub(crate) jar: HashMap<String, HashMap<String, String>>,
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub(crate) fn location(&self) -> String {
        self.headers.get(header::LOCATION).expect("a redirect").to_str().expect("text").to_owned()
    }

    /// The token of the page's forms.
    pub(crate) fn csrf(&self) -> String {
        let text = self.text();
        let start = text.find("name=\"csrf\" value=\"").unwrap_or_else(|| panic!("no form in {text}")) + 19;
        text[start..].split('"').next().expect("a value").to_owned()
    }
}

/// Splits `http://host:port/path` into host and target.
fn split(url: &str) -> (String, String) {
    let rest = url.strip_prefix("http://").expect("an absolute address");
    let end = rest.find('/').unwrap_or(rest.len());
    let (host, target) = rest.split_at(end);
    (host.to_owned(), if target.is_empty() { "/".to_owned() } else { target.to_owned() })
}

fn name_of(host: &str) -> String {
    host.rsplit_once(':').map_or(host, |(name, _)| name).to_owned()
}

impl Browser {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address, jar: HashMap::new() }
    }

    pub(crate) fn cookies(&self, url: &str) -> Option<String> {
        let cookies = self.jar.get(&name_of(&split(url).0))?;
        let mut pairs: Vec<String> = cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        pairs.sort();
        (!pairs.is_empty()).then(|| pairs.join("; "))
    }

    fn keep(&mut self, host: &str, headers: &HeaderMap) {
        let jar = self.jar.entry(name_of(host)).or_default();
        for cookie in headers.get_all(header::SET_COOKIE) {
            let text = cookie.to_str().expect("text");
            let pair = text.split(';').next().expect("a pair");
            let (name, value) = pair.split_once('=').expect("a pair");
            if text.contains("Max-Age=0") {
                jar.remove(name);
            } else {
                jar.insert(name.to_owned(), value.to_owned());
            }
        }
    }

    /// Sends a request and returns as soon as the head of the answer is there. Headers that the
    /// caller gives replace the browser's own; an empty value leaves a header out.
    pub(crate) async fn begin(
        &mut self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: Body,
    ) -> hyper::Response<Incoming> {
        let (host, target) = split(url);
        let own = format!("http://{host}");
        let mut all = vec![("accept", "text/html".to_owned()), ("host", host.clone())];
        if let Some(cookies) = self.cookies(url) {
            all.push(("cookie", cookies));
        }
        if method == Method::GET {
            all.extend([("sec-fetch-site", "none".to_owned()), ("sec-fetch-mode", "navigate".to_owned())]);
            all.push(("sec-fetch-dest", "document".to_owned()));
        } else {
            all.extend([("origin", own), ("sec-fetch-site", "same-origin".to_owned())]);
        }
        all.retain(|(name, _)| !headers.iter().any(|(given, _)| given == name));
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in all.iter().map(|(name, value)| (*name, value.as_str())).chain(headers.iter().copied()) {
            if !value.is_empty() {
                request = request.header(name, value);
            }
        }
        let stream = TcpStream::connect(self.address).await.expect("connected");
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("a connection");
        tokio::spawn(connection);
        let answer = sender.send_request(request.body(body).expect("a request")).await.expect("an answer");
        self.keep(&host, answer.headers());
        answer
    }

    pub(crate) async fn send(&mut self, method: Method, url: &str, headers: &[(&str, &str)], body: Body) -> Answer {
        let (parts, body) = self.begin(method, url, headers, body).await.into_parts();
        let body = body.collect().await.expect("a whole body").to_bytes();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    pub(crate) async fn get(&mut self, url: &str) -> Answer {
        self.send(Method::GET, url, &[], Body::empty()).await
    }

    /// What a script of a page at the same origin does.
    pub(crate) async fn fetch(&mut self, method: Method, url: &str, body: Option<serde_json::Value>) -> Answer {
        let fetching = [
            ("accept", "application/json"),
            ("sec-fetch-site", "same-origin"),
            ("sec-fetch-mode", "cors"),
            ("sec-fetch-dest", "empty"),
        ];
        match body {
            Some(value) => {
                let headers = [&fetching[..], &[("content-type", "application/json")]].concat();
                self.send(method, url, &headers, Body::from(value.to_string())).await
            }
            None => self.send(method, url, &fetching, Body::empty()).await,
        }
    }

    /// Posts a form with these fields.
    pub(crate) async fn post(&mut self, url: &str, fields: &[(&str, &str)]) -> Answer {
        let form: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={}", percent(value))).collect();
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        self.send(Method::POST, url, &headers, Body::from(form.join("&"))).await
    }

    /// Asks for a WebSocket; gives the answer's head and the connection.
    pub(crate) async fn websocket(&mut self, url: &str, headers: &[(&str, &str)]) -> (String, TcpStream) {
        let (host, target) = split(url);
        let own = format!("http://{host}");
        let cookies = self.cookies(url).unwrap_or_default();
        let mut all = vec![
            ("Host", host.as_str()),
            ("Connection", "keep-alive, Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("Sec-WebSocket-Version", "13"),
            ("Origin", own.as_str()),
            ("Cookie", cookies.as_str()),
        ];
        all.retain(|(name, _)| !headers.iter().any(|(given, _)| given.eq_ignore_ascii_case(name)));
        all.extend_from_slice(headers);
        let mut text = format!("GET {target} HTTP/1.1\r\n");
        for (name, value) in all.iter().filter(|(_, value)| !value.is_empty()) {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        let mut stream = TcpStream::connect(self.address).await.expect("connected");
        stream.write_all(text.as_bytes()).await.expect("sent");
        (head(&mut stream).await, stream)
    }
}

/// Reads up to the end of the head.
pub(crate) async fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8_lossy(&head).into_owned()
}

pub(crate) fn percent(text: &str) -> String {
    text.bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// A masked frame, as browsers send it.
pub(crate) fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    assert!(payload.len() < 126);
    let mask = [1, 2, 3, 4];
    let mut frame = vec![0x80 | opcode, 0x80 | payload.len() as u8];
    frame.extend(mask);
    frame.extend(payload.iter().enumerate().map(|(position, byte)| byte ^ mask[position % 4]));
    frame
}
