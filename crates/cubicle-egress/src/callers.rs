//! Whose request it is, and by which rules it is judged.
//!
//! On one machine every workspace has a proxy of its own, and whoever reaches it is that workspace.
//! In a cluster many share one: a caller is known by its pod's address *and* a credential, so that
//! neither a stolen credential nor an address that went on to another pod is enough.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::HeaderMap;
use hyper::header::PROXY_AUTHORIZATION;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::sync::watch;

use crate::config::{Config, ConfigError};
use crate::policy::Policy;
use crate::refusal::{Refusal, Rule};

/// One workspace that may use a shared proxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Caller {
    /// The workspace: also the user name of its credential.
    pub workspace: String,
    /// Where its requests come from: its pod, and while it is proven again the twin.
    pub addresses: Vec<IpAddr>,
    /// The SHA-256 of its credential, in hexadecimal digits; the credential itself is nowhere but
    /// in the workspace.
    pub digest: String,
    /// What it may reach.
    pub config: Config,
}

/// What a table needs of one caller.
#[derive(Debug)]
struct Known {
    workspace: Arc<str>,
    digest: [u8; 32],
    policy: Arc<Policy>,
}

/// All workspaces that may use a shared proxy, by address.
#[derive(Debug, Default)]
pub struct Table {
    /// More than one at an address when a pod's address went to the next one a moment ago.
    at: HashMap<IpAddr, Vec<Arc<Known>>>,
}

/// Why a caller cannot be in a table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallerError {
    /// Its rules cannot be used.
    #[error("the rules of workspace \"{0}\": {1}")]
    Config(String, ConfigError),
    /// The digest is not one.
    #[error("the credential's digest of workspace \"{0}\" is not 64 hexadecimal digits; write its SHA-256")]
    Digest(String),
}

impl Table {
    /// Makes a table of those that can be used, and says of the others why they cannot: one broken
    /// entry must not shut everybody else out.
    pub fn new(callers: &[Caller]) -> (Self, Vec<CallerError>) {
        let mut table = Self::default();
        let mut errors = Vec::new();
        for caller in callers {
            match known(caller) {
                Ok(known) => {
                    let known = Arc::new(known);
                    for address in &caller.addresses {
                        table.at.entry(address.to_canonical()).or_default().push(Arc::clone(&known));
                    }
                }
                Err(error) => errors.push(error),
            }
        }
        (table, errors)
    }

    fn find(&self, peer: IpAddr, headers: &HeaderMap) -> Option<Judged> {
        let there = self.at.get(&peer.to_canonical())?;
        let (workspace, digest) = credential(headers)?;
        let is_this = |known: &&Arc<Known>| bool::from(known.digest.ct_eq(&digest)) && *known.workspace == *workspace;
        let known = there.iter().find(is_this)?;
        Some(Judged { workspace: Some(Arc::clone(&known.workspace)), policy: Arc::clone(&known.policy) })
    }
}

fn known(caller: &Caller) -> Result<Known, CallerError> {
    let name = crate::refusal::printable(&caller.workspace);
    let policy = caller.config.policy().map_err(|error| CallerError::Config(name.clone(), error))?;
    let digest = digest(&caller.digest).ok_or(CallerError::Digest(name))?;
    Ok(Known { workspace: caller.workspace.as_str().into(), digest, policy: Arc::new(policy) })
}

fn digest(text: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (at, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(digest)
}

/// User name and digest of the password (RFC 7617). Exactly one field counts: of two, the two ends of
/// a connection might each believe another one.
fn credential(headers: &HeaderMap) -> Option<(String, [u8; 32])> {
    let mut all = headers.get_all(PROXY_AUTHORIZATION).iter();
    let (Some(one), None) = (all.next(), all.next()) else { return None };
    let (scheme, encoded) = one.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let plain = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (user, password) = plain.split_once(':')?;
    Some((user.to_owned(), Sha256::digest(password.as_bytes()).into()))
}

/// By whose rules a request is judged.
#[derive(Debug, Clone)]
pub(crate) struct Judged {
    /// Which workspace asks, where several share the proxy.
    pub(crate) workspace: Option<Arc<str>>,
    pub(crate) policy: Arc<Policy>,
}

/// Who may use the proxy.
#[derive(Debug, Clone)]
pub(crate) enum Callers {
    /// Whoever reaches the listener.
    One(Arc<Policy>),
    /// Those in the newest table; nobody before the first one came.
    Listed(watch::Receiver<Option<Arc<Table>>>),
}

impl Callers {
    /// The rules for this request, or the refusal of a stranger.
    pub(crate) fn judge(&self, peer: IpAddr, headers: &HeaderMap) -> Result<Judged, Refusal> {
        let table = match self {
            Self::One(policy) => return Ok(Judged { workspace: None, policy: Arc::clone(policy) }),
            Self::Listed(newest) => newest.borrow().clone(),
        };
        table.and_then(|table| table.find(peer, headers)).ok_or_else(|| {
            let reason = "no running workspace has this address and this credential";
            Refusal::without_target(Rule::Stranger, reason).at(peer)
        })
    }

    /// Whether it knows already who may use it.
    pub(crate) fn ready(&self) -> bool {
        match self {
            Self::One(_) => true,
            Self::Listed(newest) => newest.borrow().is_some(),
        }
    }

    /// Whether several workspaces share the proxy.
    pub(crate) fn shared(&self) -> bool {
        matches!(self, Self::Listed(_))
    }
}

#[cfg(test)]
mod tests {
    use cubicle_core::template::EgressMode;
    use hyper::header::HeaderValue;

    use super::*;
    use crate::config::LogDetail;

    fn caller(workspace: &str, address: &str, credential: &str, allow: &[&str]) -> Caller {
        Caller {
            workspace: workspace.to_owned(),
            addresses: vec![address.parse().expect("an address")],
            digest: Sha256::digest(credential.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect(),
            config: Config {
                mode: EgressMode::AllowList,
                allow: allow.iter().map(ToString::to_string).collect(),
                refused: Vec::new(),
                log: LogDetail::All,
            },
        }
    }

    fn headers(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(PROXY_AUTHORIZATION, HeaderValue::from_str(value).expect("a value"));
        }
        headers
    }

    fn basic(plain: &str) -> String {
        format!("Basic {}", STANDARD.encode(plain))
    }

    #[test]
    fn a_caller_needs_its_address_and_its_credential() {
        let callers = [
            caller("w-a", "10.0.0.1", "secret-a", &["a.example"]),
            caller("w-b", "10.0.0.2", "secret-b", &["b.example"]),
        ];
        let (table, errors) = Table::new(&callers);
        assert!(errors.is_empty());
        let found = |peer: &str, values: &[&str]| {
            let judged = table.find(peer.parse().expect("an address"), &headers(values))?;
            judged.workspace.map(|name| name.to_string())
        };
        let (a, b) = (basic("w-a:secret-a"), basic("w-b:secret-b"));
        assert_eq!(found("10.0.0.1", &[&a]).as_deref(), Some("w-a"));
        assert_eq!(found("10.0.0.2", &[&b]).as_deref(), Some("w-b"));
        assert_eq!(found("::ffff:10.0.0.1", &[&a]).as_deref(), Some("w-a"), "a listener for both families");
        for (peer, values) in [
            // Another one's credential, from one's own address, and the other way round.
            ("10.0.0.1", vec![b.clone()]),
            ("10.0.0.2", vec![a.clone()]),
            ("10.0.0.1", vec![basic("w-b:secret-a")]),
            ("10.0.0.1", vec![basic("w-a:secret-b")]),
            ("10.0.0.3", vec![a.clone()]),
            ("10.0.0.1", vec![]),
            ("10.0.0.1", vec![a.clone(), b]),
            ("10.0.0.1", vec![a.clone(), a.clone()]),
            ("10.0.0.1", vec![basic("w-a:")]),
            ("10.0.0.1", vec![basic("w-a")]),
            ("10.0.0.1", vec!["Basic".to_owned()]),
            ("10.0.0.1", vec!["Basic %%%".to_owned()]),
            ("10.0.0.1", vec!["Bearer secret-a".to_owned()]),
        ] {
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            assert_eq!(found(peer, &values), None, "{peer} {values:?}");
        }
    }

    #[test]
    fn an_address_that_went_on_belongs_to_who_has_the_credential() {
        let (table, _) = Table::new(&[caller("w-a", "10.0.0.1", "old", &[]), caller("w-b", "10.0.0.1", "new", &[])]);
        let peer = "10.0.0.1".parse().expect("an address");
        let name = |plain: &str| {
            table
                .find(peer, &headers(&[&basic(plain)]))
                .and_then(|judged| judged.workspace)
                .map(|name| name.to_string())
        };
        assert_eq!(name("w-a:old").as_deref(), Some("w-a"));
        assert_eq!(name("w-b:new").as_deref(), Some("w-b"));
        assert_eq!(name("w-a:new"), None);
    }

    #[test]
    fn a_broken_entry_shuts_out_itself_alone() {
        let mut bad = caller("w-bad", "10.0.0.1", "x", &["http://a.b"]);
        let good = caller("w-good", "10.0.0.2", "y", &[]);
        let (table, errors) = Table::new(&[bad.clone(), good.clone()]);
        assert!(matches!(errors.as_slice(), [CallerError::Config(..)]), "{errors:?}");
        assert_eq!(table.at.len(), 1);
        bad.config.allow.clear();
        bad.digest = "é".repeat(32);
        let (_, errors) = Table::new(&[bad, good]);
        assert!(matches!(errors.as_slice(), [CallerError::Digest(_)]), "{errors:?}");
    }

    #[test]
    fn before_the_first_table_nobody_is_known() {
        let (sender, receiver) = watch::channel(None);
        let callers = Callers::Listed(receiver);
        let peer = "10.0.0.1".parse().expect("an address");
        let asked = headers(&[&basic("w-a:secret")]);
        assert!(!callers.ready());
        assert_eq!(callers.judge(peer, &asked).expect_err("refused").rule, Rule::Stranger);
        let (table, _) = Table::new(&[caller("w-a", "10.0.0.1", "secret", &[])]);
        sender.send_replace(Some(Arc::new(table)));
        assert!(callers.ready());
        assert!(callers.judge(peer, &asked).is_ok());
        sender.send_replace(Some(Arc::default()));
        assert!(callers.judge(peer, &asked).is_err(), "who is off the list is off at the next request");
    }
}
