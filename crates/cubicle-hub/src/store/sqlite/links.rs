//! One-time sign-in links.

use cubicle_core::name::UserId;
use cubicle_core::problem::Problem;
use jiff::Timestamp;
use rusqlite::OptionalExtension as _;

use super::records::{Account, no_link};
use super::{File, StoreError};
use crate::secret::Digest;

impl File {
    /// Keeps a new link's digest. Older links of the account stay good until they expire.
    pub(crate) async fn add_link(&self, link: Digest, account: UserId, expires_at: Timestamp) -> Result<(), Problem> {
        self.write(move |transaction| {
            let made = transaction.execute(
                "INSERT INTO links (digest, account, expires_at)
                 SELECT ?1, id, ?3 FROM accounts WHERE id = ?2 AND disabled = 0",
                (link.bytes(), account.as_str(), expires_at.as_millisecond()),
            )?;
            if made == 0 {
                return Err(StoreError::Refused(no_link()));
            }
            Ok(())
        })
        .await
    }

    /// Whose link this is, without using it up.
    pub(crate) async fn peek_link(&self, link: Digest) -> Result<Option<Account>, Problem> {
        let now = Timestamp::now().as_millisecond();
        self.read(move |connection| {
            let query = format!(
                "SELECT {} FROM links JOIN accounts ON accounts.id = links.account
                 WHERE links.digest = ?1 AND links.expires_at > ?2 AND accounts.disabled = 0",
                Account::COLUMNS
            );
            Ok(connection.query_row(&query, (link.bytes(), now), Account::from_row).optional()?)
        })
        .await
    }

    /// Uses a link up. Nothing when it was used, is too old, or never was.
    pub(crate) async fn use_link(&self, link: Digest) -> Result<Option<UserId>, Problem> {
        let now = Timestamp::now().as_millisecond();
        self.write(move |transaction| {
            let found: Option<(String, i64)> = transaction
                .query_row("DELETE FROM links WHERE digest = ?1 RETURNING account, expires_at", [link.bytes()], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })
                .optional()?;
            match found {
                Some((account, expires_at)) if expires_at > now => {
                    Ok(Some(account.parse().map_err(StoreError::Refused)?))
                }
                _ => Ok(None),
            }
        })
        .await
    }
}
