//! The way to a collector: one connection for each export, bounded in time and size.
//!
//! It has a runtime of its own, on the thread that the batches are sent from: whatever the collector does, the
//! threads that launch and serve never wait for it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use cubicle_core::problem::Problem;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::Uri;
use hyper::body::Bytes;
use hyper::header::{CONNECTION, HOST, HeaderValue};
use hyper_util::rt::TokioIo;
use opentelemetry_http::{HttpClient, HttpError, Request, Response};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio_rustls::TlsConnector;

use crate::settings::Settings;

/// The largest answer of a collector that is read, in bytes: it says how many spans it refused.
const MOST_ANSWER: usize = 64 << 10;

/// Sends what the exporter has written.
#[derive(Debug)]
pub(crate) struct Client {
    runtime: Runtime,
    /// None for plain HTTP.
    tls: Option<Arc<ClientConfig>>,
    timeout: Duration,
}

impl Client {
    /// # Errors
    /// The authorities that the settings name cannot be read.
    pub(crate) fn new(settings: &Settings) -> Result<Self, Problem> {
        let failed =
            |error: &dyn std::fmt::Display| Problem::engine(format!("traces cannot be sent: {error}"), "see the log");
        let tls = match settings.endpoint.scheme_str() {
            Some("https") => {
                let provider = Arc::new(rustls::crypto::ring::default_provider());
                let tls = ClientConfig::builder_with_provider(provider)
                    .with_safe_default_protocol_versions()
                    .map_err(|error| failed(&error))?
                    .with_root_certificates(authorities(settings.authorities.as_deref())?)
                    .with_no_client_auth();
                Some(Arc::new(tls))
            }
            _ => None,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            // Names are looked up on a thread of their own, one at a time.
            .max_blocking_threads(1)
            .build()
            .map_err(|error| failed(&error))?;
        Ok(Self { runtime, tls, timeout: settings.timeout })
    }

    async fn exchange(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let uri = request.uri().clone();
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let port = uri.port_u16().unwrap_or(if self.tls.is_some() { 443 } else { 80 });
        let stream = TcpStream::connect((host.as_str(), port)).await?;
        let Some(tls) = &self.tls else { return over(stream, &uri, request).await };
        let server = ServerName::try_from(host)?;
        let stream = TlsConnector::from(Arc::clone(tls)).connect(server, stream).await?;
        over(stream, &uri, request).await
    }
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        // The one caller is the exporter's thread, which has no runtime and waits for this in any case.
        self.runtime.block_on(async {
            tokio::time::timeout(self.timeout, self.exchange(request))
                .await
                .map_err(|_| format!("no answer within {} ms", self.timeout.as_millis()))?
        })
    }
}

/// Whom a collector's certificate is checked with.
fn authorities(file: Option<&Path>) -> Result<RootCertStore, Problem> {
    let mut roots = RootCertStore::empty();
    let Some(file) = file else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        return Ok(roots);
    };
    let wrong = |error: &dyn std::fmt::Display| {
        Problem::bad_input(
            format!("OTEL_EXPORTER_OTLP_CERTIFICATE={} cannot be used: {error}", file.display()),
            "name a file with PEM certificates of authorities that this process's user may read",
        )
    };
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| wrong(&error))? {
        roots.add(certificate.map_err(|error| wrong(&error))?).map_err(|error| wrong(&error))?;
    }
    if roots.is_empty() { Err(wrong(&"it holds no certificate")) } else { Ok(roots) }
}

async fn over(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    uri: &Uri,
    request: Request<Bytes>,
) -> Result<Response<Bytes>, HttpError> {
    let (mut parts, body) = request.into_parts();
    parts.uri = uri.path_and_query().map_or("/", |path| path.as_str()).parse()?;
    parts.headers.insert(HOST, HeaderValue::from_str(uri.authority().map_or("", |authority| authority.as_str()))?);
    parts.headers.insert(CONNECTION, HeaderValue::from_static("close"));
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let exchange = async {
        let (parts, body) = sender.send_request(Request::from_parts(parts, Full::new(body))).await?.into_parts();
        let body = Limited::new(body, MOST_ANSWER).collect().await?.to_bytes();
        Ok(Response::from_parts(parts, body))
    };
    // Both here: nothing is left of a request that is given up.
    tokio::pin!(connection);
    tokio::pin!(exchange);
    tokio::select! {
        answer = &mut exchange => answer,
        ended = &mut connection => {
            ended?;
            exchange.await
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::time::Instant;

    use super::*;

    fn client(endpoint: &str, timeout: Duration) -> Client {
        let endpoint = endpoint.parse().expect("a URL");
        Client::new(&Settings { endpoint, timeout, authorities: None }).expect("made")
    }

    fn send(client: &Client, to: &str) -> Result<Response<Bytes>, HttpError> {
        let request = Request::post(to).body(Bytes::from_static(b"spans")).expect("a request");
        futures::executor::block_on(client.send_bytes(request))
    }

    #[test]
    fn what_is_sent_arrives_and_the_answer_comes_back() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let url = format!("http://{}/v1/traces", listener.local_addr().expect("an address"));
        let served = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut said = Vec::new();
            while !said.ends_with(b"spans") {
                let mut part = [0; 256];
                let read = stream.read(&mut part).expect("read");
                said.extend_from_slice(&part[..read]);
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").expect("written");
            String::from_utf8_lossy(&said).into_owned()
        });
        let answer = send(&client(&url, Duration::from_secs(10)), &url).expect("answered");
        assert_eq!((answer.status().as_u16(), answer.body().as_ref()), (200, b"ok".as_slice()));
        let said = served.join().expect("served");
        assert!(said.starts_with("POST /v1/traces HTTP/1.1\r\n") && said.contains("host: 127.0.0.1:"), "{said}");
    }

    #[test]
    fn a_collector_that_never_answers_is_given_up_in_time() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let url = format!("http://{}/", listener.local_addr().expect("an address"));
        let began = Instant::now();
        let error = send(&client(&url, Duration::from_millis(200)), &url).expect_err("silent");
        assert_eq!(error.to_string(), "no answer within 200 ms");
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        drop(listener);
        send(&client(&url, Duration::from_secs(5)), &url).expect_err("nobody listens");
    }

    #[test]
    fn authorities_that_cannot_be_read_are_named() {
        let problem = authorities(Some(Path::new("/does/not/exist.pem"))).expect_err("absent");
        assert!(problem.what.starts_with("OTEL_EXPORTER_OTLP_CERTIFICATE=/does/not/exist.pem"), "{problem:?}");
    }
}
