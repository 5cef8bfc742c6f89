//! What the engine and the process that speaks with the authority say to each other: one JSON document a line.

use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize, Serializer};

/// The longest line, in bytes: the largest thing in one is the file of roots, which may have 1 MiB.
pub(crate) const MOST_LINE: usize = 2 << 20;

/// What the process is to do, in its first line.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    /// The authority's directory.
    pub(crate) directory: String,
    /// Whom its own certificate is checked with, in PEM.
    pub(crate) roots: Option<String>,
    /// Where it may write to.
    pub(crate) contacts: Vec<String>,
    /// Whether the account knows other contacts.
    pub(crate) contacts_changed: bool,
    /// Who the site is there already.
    pub(crate) external_account: Option<Customer>,
    /// The account as it was registered, if it was.
    pub(crate) account: Option<Sealed>,
    /// What is wanted.
    pub(crate) work: Work,
}

/// A customer that the authority knows already.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Customer {
    /// The key's name.
    pub(crate) key_id: String,
    /// The key, in base64url.
    pub(crate) key: Sealed,
}

/// What is wanted of the authority.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Work {
    /// A certificate.
    Order {
        /// For these names.
        names: Vec<String>,
        /// The request to sign, in base64url (RFC 8555, section 7.4).
        request: String,
        /// The certificate that it replaces, as RFC 9773 names it (section 4.1).
        replaces: Option<String>,
    },
    /// When it wants to replace this certificate.
    Window {
        /// As RFC 9773 names it.
        certificate: String,
    },
}

/// A TXT record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Its name.
    pub(crate) name: String,
    /// Its text.
    pub(crate) value: String,
}

/// What the process says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Told {
    /// This is the account, with these contacts, from now on.
    Account(Sealed),
    /// The authority did not know the old one.
    AccountLost,
    /// These records are to be seen; a line with `true` says that they are.
    Present(Vec<Record>),
    /// The certificate with its chain, in PEM.
    Certificate(String),
    /// The authority wants the certificate replaced between these times, in seconds since 1970, and be asked again
    /// after so many seconds.
    Window {
        /// From.
        start: i64,
        /// Until.
        end: i64,
        /// When to ask again.
        again: u64,
    },
    /// The authority has no wishes.
    NoWindow,
    /// It did not come to that.
    Failed(Failure),
}

/// Why something did not work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{what}")]
pub(crate) struct Failure {
    /// What kind of reason it is.
    pub(crate) cause: Cause,
    /// The reason, in words.
    pub(crate) what: String,
}

/// Kinds of reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Cause {
    /// The authority could not be asked.
    Unreachable,
    /// Its own certificate is not trusted.
    Untrusted,
    /// It refused.
    Refused,
    /// It could not do it now, for a reason that may be gone at once.
    Again,
    /// The hook.
    Hook,
    /// Hook and authority together took too long.
    Slow,
    /// This machine.
    Machine,
}

impl Failure {
    pub(crate) fn new(cause: Cause, what: impl Into<String>) -> Self {
        Self { cause, what: what.into() }
    }

    /// What can be done about it.
    pub(crate) fn remedy(&self) -> &'static str {
        match self.cause {
            Cause::Unreachable => "check tls.acme.directory in site.yaml, and that this machine may connect there",
            Cause::Untrusted => {
                "check tls.acme.directory; for an authority of your own, name the file with its root certificate in \
                 tls.acme.roots"
            }
            Cause::Refused => "mend what the authority names; the hook's records must be in the DNS that it asks",
            Cause::Again => "it is asked again",
            Cause::Hook => "mend the program that tls.acme.hook in site.yaml names; try it by hand, as root",
            Cause::Slow => {
                "try the program that tls.acme.hook in site.yaml names by hand, as root, and see how long it takes; it runs \
                 once for the host and once for the wildcard"
            }
            Cause::Machine => "see the log",
        }
    }
}

/// A secret that goes to the other process, and is never shown.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Sealed(pub(crate) SecretString);

impl Serialize for Sealed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.expose_secret())
    }
}
