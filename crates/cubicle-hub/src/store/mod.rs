//! Accounts, sessions and everything that hangs on a session: in a file on one machine, in the
//! site's registry when several hubs share it.

mod records;
mod shared;
mod shared_site;
mod sqlite;

#[cfg(test)]
mod tests;

use cubicle_core::name::{UserId, UserName, WorkspaceId};
use cubicle_core::problem::Problem;
use jiff::Timestamp;
use jiff::civil::Date;
use std::time::Duration;

pub(crate) use records::{Account, ApiToken, Granted, Identity, NewAccount, Role, Scope, Session, Vouched};
pub(crate) use shared::Shared;
pub(crate) use sqlite::File;

use crate::accounting::Used;
use crate::notice::Notice;
use crate::secret::Digest;

/// Where it is kept.
#[derive(Clone)]
pub(crate) enum Store {
    /// `hub.db`.
    File(File),
    /// With other hubs.
    Shared(Shared),
}

macro_rules! both {
    ($($(#[$about:meta])* fn $name:ident($($argument:ident: $kind:ty),*) -> $answer:ty;)*) => {
        impl Store {
            $(
                $(#[$about])*
                pub(crate) async fn $name(&self, $($argument: $kind),*) -> Result<$answer, Problem> {
                    match self {
                        Self::File(file) => file.$name($($argument),*).await,
                        Self::Shared(shared) => shared.$name($($argument),*).await,
                    }
                }
            )*
        }
    };
}

both! {
    /// Makes an account without a password. Refused when a name with the same key exists.
    fn add_account(new: NewAccount) -> Account;
    /// The account of whom a provider vouches for.
    fn account_of(identity: Identity) -> Option<Account>;
    /// Sets what an account may do and which groups it is in.
    fn set_rights(id: UserId, role: Role, groups: Vec<String>) -> ();
    /// All accounts, by key.
    fn accounts() -> Vec<Account>;
    /// The account of this name.
    fn account(name: &str) -> Account;
    /// The account of this name with its password's hash.
    fn account_with_password(name: UserName) -> Option<(Account, Option<String>)>;
    /// Sets the password's hash.
    fn set_password(id: UserId, hash: String) -> ();
    /// Disables or enables an account; returns the sessions that this ended.
    fn set_disabled(id: UserId, disabled: bool) -> Vec<Digest>;
    /// Keeps a new link's digest. Older links of the account stay good until they expire.
    fn add_link(link: Digest, account: UserId, expires_at: Timestamp) -> ();
    /// Whose link it is, without using it up.
    fn peek_link(link: Digest) -> Option<Account>;
    /// Uses a link up.
    fn use_link(link: Digest) -> Option<UserId>;
    /// Begins a session. Refused when the account was disabled meanwhile.
    fn begin_session(digest: Digest, account: UserId, expires_at: Timestamp, vouched: Option<Vouched>) -> ();
    /// Ends the sessions that began because a provider vouched for this person: one of the
    /// provider's own sessions, or all; returns what ended.
    fn end_vouched_sessions(identity: Identity, session: Option<String>) -> Vec<Digest>;
    /// The live session of this digest.
    fn session(digest: Digest) -> Option<Session>;
    /// Ends a session.
    fn end_session(digest: Digest) -> ();
    /// Ends all sessions of an account but one; returns what ended.
    fn end_other_sessions(account: UserId, keep: Digest) -> Vec<Digest>;
    /// Keeps a single-use ticket for one workspace.
    fn issue_ticket(ticket: Digest, session: Digest, workspace: WorkspaceId, expires_at: Timestamp) -> ();
    /// Exchanges a ticket for a grant, once.
    fn redeem_ticket(ticket: Digest, workspace: WorkspaceId, grant: Digest) -> bool;
    /// What a workspace's cookie stands for.
    fn granted(grant: Digest, workspace: WorkspaceId) -> Option<Granted>;
    /// Forgets the cookies of a workspace's origin.
    fn forget_workspace(workspace: WorkspaceId) -> ();
    /// Keeps a new token's digest.
    fn add_token(digest: Digest, account: UserId, token: ApiToken) -> ();
    /// Whose token it is and what it may do.
    fn token(digest: Digest) -> Option<(Account, Scope)>;
    /// An account's tokens, oldest first.
    fn tokens(account: UserId) -> Vec<ApiToken>;
    /// Deletes a token; false when there is none.
    fn delete_token(account: UserId, id: String) -> bool;
    /// What the site tells everybody.
    fn notice() -> Option<Notice>;
    /// Replaces it.
    fn set_notice(notice: Option<Notice>) -> ();
    /// Takes the time since the last sample of what people use, when that is at least so long ago:
    /// of all hubs that ask, one gets it.
    fn claim_usage(now: Timestamp, least: Duration) -> Option<Timestamp>;
    /// Adds to what accounts used on a day.
    fn add_usage(day: Date, used: Vec<(UserId, Used)>) -> ();
    /// What accounts used from one day to another, both counted, by account.
    fn usage(from: Date, to: Date) -> Vec<(UserId, Used)>;
    /// Notes that a token was used.
    fn note_token_use(digest: Digest, at: Timestamp) -> ();
    /// Whether it answers.
    fn ping() -> ();
    /// Forgets what has expired.
    fn forget_expired() -> ();
}
