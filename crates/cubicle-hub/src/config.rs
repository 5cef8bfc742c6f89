//! What the hub is told when it starts.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cubicle_core::problem::Problem;
use cubicle_core::registry::Registry;

use crate::identity::SignIn;
use crate::origin::Origins;

/// The hub's configuration.
#[derive(Debug, Clone)]
pub struct HubConfig {
    /// Where accounts and sessions are kept.
    pub records: Records,
    /// Who is answered on the administrator's socket, by uid.
    pub administrators: Vec<u32>,
    /// The address under which browsers reach the hub (`CUBICLE_URL`), for example
    /// `https://hub.example.org`. Without it: `http://localhost:PORT`, any port, so that
    /// `ssh -L` works.
    pub public_url: Option<String>,
    /// The domain of which every workspace is a subdomain; the host of `public_url` when absent.
    pub workspace_domain: Option<String>,
    /// The certificate for the hub and all workspaces; plain http on a loopback address without.
    pub tls: Option<TlsFiles>,
    /// How people sign in.
    pub sign_in: SignIn,
    /// Bounds on time.
    pub timing: Timing,
    /// Where metrics are told, if not over the administrator's socket alone.
    pub metrics: Option<Arc<std::net::TcpListener>>,
}

/// Where accounts, sessions and what hangs on them are kept.
#[derive(Clone)]
pub enum Records {
    /// In `hub.db` in this folder, which the hub owns.
    File(PathBuf),
    /// In a registry that other hubs share.
    Shared(Arc<dyn Registry>),
}

impl fmt::Debug for Records {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(folder) => formatter.debug_tuple("File").field(folder).finish(),
            Self::Shared(_) => formatter.write_str("Shared"),
        }
    }
}

impl HubConfig {
    /// The defaults of one machine: plain http on a loopback address.
    pub fn new(data_directory: impl Into<PathBuf>) -> Self {
        Self {
            records: Records::File(data_directory.into()),
            administrators: vec![0],
            public_url: None,
            workspace_domain: None,
            tls: None,
            sign_in: SignIn::default(),
            timing: Timing::default(),
            metrics: None,
        }
    }

    /// The names that a hub which listens there answers to; nothing for one that answers to any loopback name.
    ///
    /// # Errors
    /// Its addresses contradict each other.
    pub fn names(&self, listen: SocketAddr) -> Result<Option<HostNames>, Problem> {
        Ok(Origins::new(self, listen)?.names())
    }

    /// Whether a hub that listens there could be started with it, as far as that shows without starting one.
    ///
    /// # Errors
    /// What the hub itself would refuse: its addresses contradict each other, or the certificate is none.
    pub fn check(&self, listen: SocketAddr) -> Result<(), Problem> {
        self.names(listen)?;
        self.tls.as_ref().map_or(Ok(()), |files| crate::tls::read(files).map(drop))
    }
}

/// The names that a hub answers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostNames {
    /// The hub's own host.
    pub host: String,
    /// The domain of which every workspace is a subdomain.
    pub domain: String,
}

/// A certificate chain and its key, both PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The chain, leaf first; must be valid for the hub's host and `*.` the workspace domain.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// Bounds on time.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// How long a notebook may take from the whole request to the head of its answer.
    pub answer_head: Duration,
    /// How long a client may take to send a request's head, and how long it may keep an idle
    /// connection.
    pub request_head: Duration,
    /// How long a session lives.
    pub session: Duration,
    /// How long a ticket for a workspace's origin may be redeemed.
    pub ticket: Duration,
    /// How long a sign-in link may be used.
    pub link: Duration,
    /// How often the hub asks notebooks whether a kernel is busy.
    pub busy_poll: Duration,
    /// How far samples of what people use are apart.
    pub accounting: Duration,
    /// How often at most one workspace's activity is reported to the engine.
    pub activity_report: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            answer_head: Duration::from_secs(120),
            request_head: Duration::from_secs(30),
            session: Duration::from_secs(7 * 24 * 3600),
            ticket: Duration::from_secs(30),
            link: Duration::from_secs(30 * 60),
            busy_poll: Duration::from_secs(60),
            accounting: crate::accounting::PACE,
            activity_report: Duration::from_secs(30),
        }
    }
}
