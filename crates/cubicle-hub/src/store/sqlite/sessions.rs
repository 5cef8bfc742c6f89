//! Sessions, and the tickets and workspace cookies that hang on them.

use cubicle_core::name::{UserId, WorkspaceId};
use cubicle_core::problem::Problem;
use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, Transaction};

use super::records::{Account, Granted, Identity, Session, Vouched, no_session};
use super::{File, StoreError, timestamp};
use crate::secret::Digest;

/// Ends the sessions of an account, but for `keep`; returns what ended.
pub(super) fn end_sessions(
    transaction: &Transaction<'_>,
    account: &UserId,
    keep: Option<Digest>,
) -> Result<Vec<Digest>, StoreError> {
    let mut statement =
        transaction.prepare("DELETE FROM sessions WHERE account = ?1 AND digest IS NOT ?2 RETURNING digest")?;
    let keep = keep.map(|digest| digest.bytes().to_vec());
    let ended = statement
        .query_map((account.as_str(), keep), |row| Ok(Digest::from_bytes(row.get(0)?)))?
        .collect::<Result<_, _>>()?;
    Ok(ended)
}

impl File {
    /// Begins a session. Refused when the account was disabled meanwhile.
    pub(crate) async fn begin_session(
        &self,
        digest: Digest,
        account: UserId,
        expires_at: Timestamp,
        vouched: Option<Vouched>,
    ) -> Result<(), Problem> {
        self.write(move |transaction| {
            let (issuer, session) = vouched.map_or((None, None), |vouched| (Some(vouched.issuer), vouched.session));
            let made = transaction.execute(
                "INSERT INTO sessions (digest, account, created_at, expires_at, issuer, provider_session)
                 SELECT ?1, id, ?3, ?4, ?5, ?6 FROM accounts WHERE id = ?2 AND disabled = 0 AND service = 0",
                (
                    digest.bytes(),
                    account.as_str(),
                    Timestamp::now().as_millisecond(),
                    expires_at.as_millisecond(),
                    issuer,
                    session,
                ),
            )?;
            if made == 0 {
                return Err(StoreError::Refused(no_session()));
            }
            Ok(())
        })
        .await
    }

    /// The live session of a cookie.
    pub(crate) async fn session(&self, digest: Digest) -> Result<Option<Session>, Problem> {
        let now = Timestamp::now().as_millisecond();
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(&format!(
                "SELECT {}, sessions.expires_at, sessions.issuer FROM sessions JOIN accounts ON accounts.id = sessions.account
                 WHERE sessions.digest = ?1 AND sessions.expires_at > ?2 AND accounts.disabled = 0",
                Account::COLUMNS
            ))?;
            Ok(statement
                .query_row((digest.bytes(), now), |row| {
                    Ok(Session {
                        digest,
                        account: Account::from_row(row)?,
                        expires_at: timestamp(row.get(Account::WIDTH)?)?,
                        issuer: row.get(Account::WIDTH + 1)?,
                    })
                })
                .optional()?)
        })
        .await
    }

    /// Ends one session and all that hangs on it.
    pub(crate) async fn end_session(&self, digest: Digest) -> Result<(), Problem> {
        self.write(move |transaction| {
            transaction.execute("DELETE FROM sessions WHERE digest = ?1", [digest.bytes()])?;
            Ok(())
        })
        .await
    }

    /// Ends the other sessions of an account; returns what ended.
    pub(crate) async fn end_other_sessions(&self, account: UserId, keep: Digest) -> Result<Vec<Digest>, Problem> {
        self.write(move |transaction| end_sessions(transaction, &account, Some(keep))).await
    }

    /// Ends the sessions of a person that a provider vouched for: one of the provider's own, or all.
    pub(crate) async fn end_vouched_sessions(
        &self,
        identity: Identity,
        session: Option<String>,
    ) -> Result<Vec<Digest>, Problem> {
        self.write(move |transaction| {
            let mut statement = transaction.prepare(
                "DELETE FROM sessions WHERE issuer = ?1 AND (?3 IS NULL OR provider_session IS ?3)
                   AND account IN (SELECT id FROM accounts WHERE issuer = ?1 AND subject = ?2)
                 RETURNING digest",
            )?;
            let ended = statement
                .query_map((identity.issuer, identity.subject, session), |row| Ok(Digest::from_bytes(row.get(0)?)))?
                .collect::<Result<_, _>>()?;
            Ok(ended)
        })
        .await
    }

    /// Issues a ticket for one workspace. One that a power cut takes is asked for again.
    pub(crate) async fn issue_ticket(
        &self,
        ticket: Digest,
        session: Digest,
        workspace: WorkspaceId,
        expires_at: Timestamp,
    ) -> Result<(), Problem> {
        self.write_lightly(move |transaction| {
            transaction.execute(
                "INSERT INTO tickets (digest, session, workspace, expires_at) VALUES (?1, ?2, ?3, ?4)",
                (ticket.bytes(), session.bytes(), workspace.as_str(), expires_at.as_millisecond()),
            )?;
            Ok(())
        })
        .await
    }

    /// Exchanges a ticket for a workspace cookie, once. Says whether it was good.
    pub(crate) async fn redeem_ticket(
        &self,
        ticket: Digest,
        workspace: WorkspaceId,
        grant: Digest,
    ) -> Result<bool, Problem> {
        let now = Timestamp::now().as_millisecond();
        self.write(move |transaction| {
            // Deleted whatever the answer: a ticket that was shown to the wrong origin is burnt.
            let found: Option<(Vec<u8>, String, i64)> = transaction
                .query_row(
                    "DELETE FROM tickets WHERE digest = ?1 RETURNING session, workspace, expires_at",
                    [ticket.bytes()],
                    |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
                )
                .optional()?;
            let Some((session, bound_to, expires_at)) = found else { return Ok(false) };
            if bound_to != workspace.as_str() || expires_at <= now {
                return Ok(false);
            }
            let made = transaction.execute(
                "INSERT INTO grants (digest, session, workspace)
                 SELECT ?1, sessions.digest, ?3 FROM sessions JOIN accounts ON accounts.id = sessions.account
                 WHERE sessions.digest = ?2 AND sessions.expires_at > ?4 AND accounts.disabled = 0",
                (grant.bytes(), session, workspace.as_str(), now),
            )?;
            Ok(made == 1)
        })
        .await
    }

    /// What a workspace cookie stands for, if it is one of this very workspace and its session
    /// lives.
    pub(crate) async fn granted(&self, grant: Digest, workspace: WorkspaceId) -> Result<Option<Granted>, Problem> {
        let now = Timestamp::now().as_millisecond();
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT sessions.digest, sessions.expires_at FROM grants
                 JOIN sessions ON sessions.digest = grants.session
                 JOIN accounts ON accounts.id = sessions.account
                 WHERE grants.digest = ?1 AND grants.workspace = ?2 AND sessions.expires_at > ?3
                   AND accounts.disabled = 0",
            )?;
            Ok(statement
                .query_row((grant.bytes(), workspace.as_str(), now), |row| {
                    Ok(Granted { session: Digest::from_bytes(row.get(0)?), expires_at: timestamp(row.get(1)?)? })
                })
                .optional()?)
        })
        .await
    }

    /// Forgets the cookies of a workspace that is no more.
    pub(crate) async fn forget_workspace(&self, workspace: WorkspaceId) -> Result<(), Problem> {
        self.write(move |transaction| {
            transaction.execute("DELETE FROM grants WHERE workspace = ?1", [workspace.as_str()])?;
            transaction.execute("DELETE FROM tickets WHERE workspace = ?1", [workspace.as_str()])?;
            Ok(())
        })
        .await
    }
}
