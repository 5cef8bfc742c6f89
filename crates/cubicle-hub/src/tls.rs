//! TLS with the site's certificate, which is read anew when its files change: certificates live for
//! weeks (RFC 8555), hubs for longer.

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::Duration;

use cubicle_core::problem::Problem;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_rustls::TlsAcceptor;

use crate::config::TlsFiles;
use crate::http2;

/// How often the files are looked at.
const PACE: Duration = Duration::from_secs(5);

/// The certificate that handshakes get from now on.
#[derive(Debug)]
struct Current {
    certified: RwLock<Arc<CertifiedKey>>,
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.certified.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// Reads the certificate and key, and follows their files for as long as the acceptor lives.
///
/// # Errors
/// They cannot be read, or do not belong together. Later such mistakes are told in the log, and the
/// last good certificate stays.
pub(crate) fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor, Problem> {
    let current = Arc::new(Current { certified: RwLock::new(Arc::new(read(files)?)) });
    tokio::spawn(follow(Arc::downgrade(&current), files.clone()));
    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| refuse(&files.certificate, &error.to_string()))?
        .with_no_client_auth()
        .with_cert_resolver(current);
    config.alpn_protocols = vec![http2::PROTOCOL.to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn refuse(path: &Path, why: &str) -> Problem {
    Problem::bad_input(
        format!("{}: {why}", path.display()),
        "give a PEM chain, leaf first, and its unencrypted PEM key",
    )
}

/// The certificate and key of these files.
pub(crate) fn read(files: &TlsFiles) -> Result<CertifiedKey, Problem> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect)
        .map_err(|error| refuse(&files.certificate, &error.to_string()))?;
    if chain.is_empty() {
        return Err(refuse(&files.certificate, "holds no certificate"));
    }
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| refuse(&files.key, &error.to_string()))?;
    CertifiedKey::from_der(chain, key, &rustls::crypto::ring::default_provider())
        .map_err(|error| refuse(&files.key, &error.to_string()))
}

async fn follow(current: Weak<Current>, files: TlsFiles) {
    let mut told = String::new();
    loop {
        tokio::time::sleep(PACE).await;
        let Some(current) = current.upgrade() else { return };
        match read(&files) {
            Ok(new) => {
                told.clear();
                let mut certified = current.certified.write().unwrap_or_else(PoisonError::into_inner);
                if certified.cert != new.cert {
                    tracing::info!(certificate = %files.certificate.display(), "there is a new certificate");
                    *certified = Arc::new(new);
                }
            }
            // A file that is half-written now is whole at the next look; one mistake is one line.
            Err(problem) if problem.what == told => {}
            Err(problem) => {
                tracing::warn!(%problem, "the new certificate is not used; the last good one stays");
                told = problem.what;
            }
        }
    }
}
