//! An engine and a hub that answer what a test says, over their real sockets. They prove the
//! command line's side of both conversations; the whole product is proven by the end-to-end tests.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::thread;

use serde_json::{Value, json};

use crate::program::Machine;

/// Answers each call with frames: the reply, then what follows it.
pub(crate) fn engine(machine: &Machine, answer: impl Fn(&Value, &UnixStream) -> Vec<Value> + Send + 'static) {
    let listener = UnixListener::bind(machine.home().join("run/engine.sock")).expect("a socket");
    // Ends with the test's process.
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut length = [0; 4];
            // A caller may only look whether somebody is there.
            if (&stream).read_exact(&mut length).is_err() {
                continue;
            }
            let mut body = vec![0; u32::from_be_bytes(length) as usize];
            (&stream).read_exact(&mut body).expect("a whole frame");
            let call = serde_json::from_slice(&body).expect("JSON");
            for frame in answer(&call, &stream) {
                let body = frame.to_string();
                let length = u32::try_from(body.len()).expect("short").to_be_bytes();
                (&stream).write_all(&length).and_then(|()| (&stream).write_all(body.as_bytes())).expect("read");
            }
        }
    });
}

/// A good reply.
pub(crate) fn done(value: impl serde::Serialize) -> Vec<Value> {
    vec![json!({ "done": value })]
}

/// A refusal.
pub(crate) fn problem(kind: &str, what: &str, remedy: &str) -> Vec<Value> {
    vec![json!({ "problem": { "kind": kind, "what": what, "remedy": remedy } })]
}

/// Answers each request (method and path, body) with a status and a document.
pub(crate) fn hub(machine: &Machine, answer: impl Fn(&str, &Value) -> (u16, Value) + Send + 'static) {
    let listener = UnixListener::bind(machine.home().join("run/admin.sock")).expect("a socket");
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let (head, body) = request(&mut stream);
            let (status, document) = answer(&head[0], &body);
            let document = if document.is_null() { String::new() } else { document.to_string() };
            respond(&mut stream, status, &document);
        }
    });
}

/// The same over loopback, answering with text; sees the whole head. Answers its address.
pub(crate) fn site(answer: impl Fn(&[String], &Value) -> (u16, String) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("bound"));
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let (head, body) = request(&mut stream);
            let (status, text) = answer(&head, &body);
            respond(&mut stream, status, &text);
        }
    });
    address
}

/// The same with https, with a certificate for `localhost` that nobody trusts yet. Answers its
/// address and the certificate.
pub(crate) fn secure_site(answer: impl Fn(&[String], &Value) -> (u16, String) + Send + 'static) -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let configuration = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .expect("they belong together");
    let configuration = Arc::new(configuration);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("https://localhost:{}", listener.local_addr().expect("bound").port());
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut tls = rustls::ServerConnection::new(Arc::clone(&configuration)).expect("a connection");
            if tls.complete_io(&mut stream).is_err() {
                // Who does not trust the certificate leaves without having asked anything.
                continue;
            }
            let mut stream = rustls::StreamOwned::new(tls, stream);
            let (head, body) = request(&mut stream);
            let (status, text) = answer(&head, &body);
            respond(&mut stream, status, &text);
        }
    });
    (address, made.cert.pem())
}

fn respond(stream: &mut impl Write, status: u16, text: &str) {
    let length = text.len();
    write!(stream, "HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{text}").expect("read");
}

/// One request: its head, whose first line is method and path, and its body.
fn request(stream: &mut impl Read) -> (Vec<String>, Value) {
    let mut reader = BufReader::new(stream);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a head");
        match line.trim_end() {
            "" => break,
            line => head.push(line.trim_end_matches(" HTTP/1.1").to_owned()),
        }
    }
    let length = head.iter().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).expect("a body");
    (head, serde_json::from_slice(&body).unwrap_or_default())
}
