//! The way to an authority: one connection for each request, https alone, bounded in time and size, no redirects
//! followed.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// The largest answer of an authority, in bytes.
const MOST_ANSWER: usize = 128 << 10;
/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why an authority did not answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WebError {
    /// It could not be reached, or broke off.
    #[error("{0} cannot be reached: {1}")]
    Unreachable(String, String),
    /// Its certificate is not trusted.
    #[error("the certificate of {0} is not trusted: {1}")]
    Untrusted(String, String),
    /// It answered that it cannot answer.
    #[error("{0} answered {1}")]
    Failing(String, hyper::StatusCode),
}

/// How an authority is reached.
#[derive(Debug, Clone)]
pub(crate) struct Web {
    tls: Arc<ClientConfig>,
}

impl Web {
    /// Trusts these roots alone, in PEM, or without them whom the machine trusts.
    ///
    /// # Errors
    /// The roots cannot be read.
    pub(crate) fn new(roots: Option<&str>) -> Result<Self, String> {
        let mut store = RootCertStore::empty();
        match roots {
            Some(text) => {
                for root in CertificateDer::pem_slice_iter(text.as_bytes()) {
                    let root = root.map_err(|error| error.to_string())?;
                    store.add(root).map_err(|error| error.to_string())?;
                }
            }
            None => {
                store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(store)
            .with_no_client_auth();
        Ok(Self { tls: Arc::new(tls) })
    }

    async fn send(self, request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, WebError> {
        let uri = request.uri().clone();
        let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
        tokio::time::timeout(PATIENCE, self.exchange(&uri, &authority, request)).await.unwrap_or_else(|_| {
            Err(WebError::Unreachable(authority, format!("no answer within {} seconds", PATIENCE.as_secs())))
        })
    }

    async fn exchange(
        self,
        uri: &Uri,
        authority: &str,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Result<BytesResponse, WebError> {
        let down = |error: &dyn std::fmt::Display| WebError::Unreachable(authority.to_owned(), error.to_string());
        // The directory names the other addresses.
        if uri.scheme_str() != Some("https") {
            return Err(down(&"its address is not https"));
        }
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let stream =
            TcpStream::connect((host.as_str(), uri.port_u16().unwrap_or(443))).await.map_err(|error| down(&error))?;
        let server = ServerName::try_from(host).map_err(|error| down(&error))?;
        let stream = TlsConnector::from(self.tls).connect(server, stream).await.map_err(|error| {
            match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                Some(rustls::Error::InvalidCertificate(why)) => {
                    WebError::Untrusted(authority.to_owned(), why.to_string())
                }
                _ => down(&error),
            }
        })?;
        let (mut parts, body) = request.into_parts();
        parts.uri = uri
            .path_and_query()
            .map_or("/", |path| path.as_str())
            .parse()
            .map_err(|error: hyper::http::uri::InvalidUri| down(&error))?;
        parts.headers.insert(HOST, HeaderValue::from_str(authority).map_err(|error| down(&error))?);
        parts.headers.insert(CONNECTION, HeaderValue::from_static("close"));
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| down(&error))?;
        let exchange = async {
            let (parts, body) =
                sender.send_request(Request::from_parts(parts, body)).await.map_err(|error| down(&error))?.into_parts();
            let body = Limited::new(body, MOST_ANSWER).collect().await.map_err(|error| down(&error))?.to_bytes();
            Ok(Response::from_parts(parts, Full::new(body)))
        };
        // Both here: nothing is left of a request that is given up.
        tokio::pin!(connection);
        tokio::pin!(exchange);
        let answer = tokio::select! {
            answer = &mut exchange => answer,
            ended = &mut connection => match ended {
                Ok(()) => exchange.await,
                Err(error) => Err(down(&error)),
            },
        }?;
        // Whatever stands before an authority answers with pages of its own.
        let is_problem = answer.headers().get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().ends_with(b"json"));
        if answer.status().is_server_error() && !is_problem {
            return Err(WebError::Failing(authority.to_owned(), answer.status()));
        }
        Ok(BytesResponse::from(answer))
    }
}

impl HttpClient for Web {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let web = self.clone();
        Box::pin(async move { web.send(request).await.map_err(|error| Error::Other(Box::new(error))) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(url: &str) -> String {
        let web = Web::new(Some("")).expect("made");
        let request = Request::get(url).body(BodyWrapper::default()).expect("a request");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        match runtime.block_on(web.send(request)) {
            Ok(_) => "answered".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn nothing_is_asked_in_the_clear_and_who_is_not_there_is_named() {
        assert_eq!(asked("http://127.0.0.1:1/dir"), "127.0.0.1:1 cannot be reached: its address is not https");
        assert!(asked("https://127.0.0.1:1/dir").starts_with("127.0.0.1:1 cannot be reached: Connection refused"));
    }

    #[test]
    fn roots_that_are_none_are_refused() {
        assert!(Web::new(Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")).is_err());
    }
}
