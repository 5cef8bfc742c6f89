//! API tokens: hashed, scoped, expiring.

use cubicle_core::name::UserId;
use cubicle_core::problem::Problem;
use jiff::Timestamp;
use rusqlite::OptionalExtension as _;

use super::records::{Account, ApiToken, MOST_TOKENS, Scope, too_many_tokens};
use super::{File, StoreError, timestamp, unreadable};
use crate::secret::Digest;

impl File {
    /// Keeps a new token's digest.
    pub(crate) async fn add_token(&self, digest: Digest, account: UserId, token: ApiToken) -> Result<(), Problem> {
        self.write(move |transaction| {
            let count: i64 =
                transaction.query_row("SELECT count(*) FROM tokens WHERE account = ?1", [account.as_str()], |row| {
                    row.get(0)
                })?;
            if count >= MOST_TOKENS {
                return Err(StoreError::Refused(too_many_tokens(count)));
            }
            transaction.execute(
                "INSERT INTO tokens (digest, id, account, name, scope, created_at, expires_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                (
                    digest.bytes(),
                    token.id,
                    account.as_str(),
                    token.name,
                    token.scope.as_str(),
                    token.created_at.as_millisecond(),
                    token.expires_at.as_millisecond(),
                ),
            )?;
            Ok(())
        })
        .await
    }

    /// The account and scope of a live token.
    pub(crate) async fn token(&self, digest: Digest) -> Result<Option<(Account, Scope)>, Problem> {
        let now = Timestamp::now().as_millisecond();
        self.read(move |connection| {
            let query = format!(
                "SELECT {}, tokens.scope FROM tokens JOIN accounts ON accounts.id = tokens.account
                 WHERE tokens.digest = ?1 AND tokens.expires_at > ?2 AND accounts.disabled = 0",
                Account::COLUMNS
            );
            Ok(connection
                .query_row(&query, (digest.bytes(), now), |row| {
                    let scope: String = row.get(Account::WIDTH)?;
                    let scope = scope.parse().map_err(|problem: Problem| unreadable(&problem.what))?;
                    Ok((Account::from_row(row)?, scope))
                })
                .optional()?)
        })
        .await
    }

    /// The live tokens of an account, oldest first.
    pub(crate) async fn tokens(&self, account: UserId) -> Result<Vec<ApiToken>, Problem> {
        let now = Timestamp::now().as_millisecond();
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT id, name, scope, created_at, expires_at, used_at FROM tokens
                 WHERE account = ?1 AND expires_at > ?2 ORDER BY created_at, id",
            )?;
            let tokens = statement
                .query_map((account.as_str(), now), |row| {
                    let scope: String = row.get(2)?;
                    Ok(ApiToken {
                        id: row.get(0)?,
                        name: row.get(1)?,
                        scope: scope.parse().map_err(|problem: Problem| unreadable(&problem.what))?,
                        created_at: timestamp(row.get(3)?)?,
                        expires_at: timestamp(row.get(4)?)?,
                        used_at: row.get::<_, Option<i64>>(5)?.map(timestamp).transpose()?,
                    })
                })?
                .collect::<Result<_, _>>()?;
            Ok(tokens)
        })
        .await
    }

    /// Notes that a token was used.
    pub(crate) async fn note_token_use(&self, digest: Digest, at: Timestamp) -> Result<(), Problem> {
        self.write(move |transaction| {
            let row = (at.as_millisecond(), digest.bytes());
            transaction.execute("UPDATE tokens SET used_at = ?1 WHERE digest = ?2", row)?;
            Ok(())
        })
        .await
    }

    /// Deletes a token of an account. Says whether there was one.
    pub(crate) async fn delete_token(&self, account: UserId, id: String) -> Result<bool, Problem> {
        self.write(move |transaction| {
            let gone =
                transaction.execute("DELETE FROM tokens WHERE account = ?1 AND id = ?2", (account.as_str(), id))?;
            Ok(gone > 0)
        })
        .await
    }
}
