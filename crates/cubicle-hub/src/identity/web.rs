//! The hub's own requests to providers: one connection each, bounded in time and size, no
//! redirects followed.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{CONNECTION, HOST, HeaderValue};
use hyper_util::rt::TokioIo;
use openidconnect::AsyncHttpClient;
use openidconnect::http::{Request, Response};
use openidconnect::url::Url;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::settings::is_guarded;

/// The largest answer of a provider, in bytes.
const MOST_ANSWER: usize = 1 << 20;

/// Why a provider did not answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum WebError {
    /// It took too long.
    #[error("no answer within {} seconds", .0.as_secs())]
    Slow(Duration),
    /// It could not be reached, or broke off.
    #[error("{0}")]
    Down(String),
}

/// How providers are reached.
#[derive(Clone)]
pub(super) struct Web {
    tls: Arc<ClientConfig>,
    timeout: Duration,
}

impl Web {
    /// Trusts these authorities alone, or when there are none whom the machine trusts.
    pub(super) fn new(timeout: Duration, authorities: &[CertificateDer<'static>]) -> Result<Self, rustls::Error> {
        let mut roots = RootCertStore::empty();
        if authorities.is_empty() {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        for authority in authorities {
            roots.add(authority.clone())?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { tls: Arc::new(tls), timeout })
    }

    /// Sends a request and reads the whole answer.
    async fn send(&self, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, WebError> {
        tokio::time::timeout(self.timeout, self.exchange(request)).await.map_err(|_| WebError::Slow(self.timeout))?
    }

    async fn exchange(&self, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, WebError> {
        let down = |error: &dyn std::fmt::Display| WebError::Down(error.to_string());
        let url = Url::parse(&request.uri().to_string()).map_err(|error| down(&error))?;
        // The provider's own document names some of these addresses.
        if !is_guarded(&url) {
            return Err(WebError::Down("an address of the provider is neither https nor this machine".to_owned()));
        }
        let name = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let port = url.port_or_known_default().unwrap_or(443);
        let stream = TcpStream::connect((name.as_str(), port)).await.map_err(|error| down(&error))?;
        if url.scheme() == "http" {
            return over(stream, &url, request).await;
        }
        let server = ServerName::try_from(name).map_err(|error| down(&error))?;
        let connector = tokio_rustls::TlsConnector::from(Arc::clone(&self.tls));
        let stream = connector.connect(server, stream).await.map_err(|error| down(&error))?;
        over(stream, &url, request).await
    }
}

async fn over(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    url: &Url,
    request: Request<Vec<u8>>,
) -> Result<Response<Vec<u8>>, WebError> {
    let down = |error: &dyn std::fmt::Display| WebError::Down(error.to_string());
    let (mut parts, body) = request.into_parts();
    let target = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    parts.uri = target.parse().map_err(|error: hyper::http::uri::InvalidUri| down(&error))?;
    let host = match url.port() {
        Some(port) => format!("{}:{port}", url.host_str().unwrap_or_default()),
        None => url.host_str().unwrap_or_default().to_owned(),
    };
    parts.headers.insert(HOST, HeaderValue::from_str(&host).map_err(|error| down(&error))?);
    parts.headers.insert(CONNECTION, HeaderValue::from_static("close"));
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| down(&error))?;
    // Ends with the answer, because the sender is dropped.
    let connection = tokio::spawn(connection);
    let _ended = AbortOnDrop(connection);
    let request = Request::from_parts(parts, Full::new(Bytes::from(body)));
    let (parts, body) = sender.send_request(request).await.map_err(|error| down(&error))?.into_parts();
    let body = Limited::new(body, MOST_ANSWER).collect().await.map_err(|error| down(&error))?;
    Ok(Response::from_parts(parts, body.to_bytes().to_vec()))
}

impl<'web> AsyncHttpClient<'web> for Web {
    type Error = WebError;
    type Future = BoxFuture<'web, Result<Response<Vec<u8>>, WebError>>;

    fn call(&'web self, request: Request<Vec<u8>>) -> Self::Future {
        self.send(request).boxed()
    }
}

/// A request that is given up leaves no connection behind.
struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
