//! Where several hubs keep accounts, sessions and what hangs on them together.
//!
//! One hub on one machine has a file. Replicas in a cluster have the API server, and no state of
//! their own: whatever one of them writes, the others see.

use async_trait::async_trait;
use futures::stream::BoxStream;
use serde_json::Value;

use crate::problem::Problem;

/// What is kept. The hub says what each record holds; no record holds a secret that opens
/// anything, only digests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Who may sign in.
    Account,
    /// Somebody who is signed in.
    Session,
    /// The cookie of one workspace's origin.
    Grant,
    /// What is exchanged, once, for a grant.
    Ticket,
    /// A one-time sign-in link.
    Link,
    /// A token of the REST interface.
    Token,
    /// What the site tells everybody.
    Notice,
    /// What an account used in a month.
    Usage,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 8] =
        [Self::Account, Self::Session, Self::Grant, Self::Ticket, Self::Link, Self::Token, Self::Notice, Self::Usage];
}

/// One record.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Its name: unique within its kind; lower-case letters, digits and `-`.
    pub name: String,
    /// What it holds.
    pub value: Value,
    /// Changes with every write.
    pub version: String,
}

/// The records of a site.
#[async_trait]
pub trait Registry: Send + Sync {
    /// One record; it may be a moment old.
    async fn get(&self, kind: Kind, name: &str) -> Result<Option<Record>, Problem>;
    /// One record as it is now.
    async fn get_now(&self, kind: Kind, name: &str) -> Result<Option<Record>, Problem>;
    /// All records of a kind; they may be a moment old.
    async fn list(&self, kind: Kind) -> Result<Vec<Record>, Problem>;
    /// All records of a kind as they are now.
    async fn list_now(&self, kind: Kind) -> Result<Vec<Record>, Problem>;
    /// Makes a record; false when one of this name is there.
    async fn create(&self, kind: Kind, name: &str, value: Value) -> Result<bool, Problem>;
    /// Writes a record, unless somebody else has changed it meanwhile: then false.
    async fn replace(&self, kind: Kind, record: Record) -> Result<bool, Problem>;
    /// Removes a record and returns it. Of all who ask at once, one gets it.
    async fn take(&self, kind: Kind, name: &str) -> Result<Option<Record>, Problem>;
    /// The names of sessions as they end, whoever ended them.
    fn ended_sessions(&self) -> BoxStream<'static, String>;
}
