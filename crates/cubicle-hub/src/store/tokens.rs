//! API tokens: hashed, scoped, expiring.

use std::str::FromStr;

use cubicle_core::name::UserId;
use cubicle_core::problem::Problem;
use jiff::Timestamp;
use rusqlite::OptionalExtension as _;
use serde::{Deserialize, Serialize};

use super::{Account, Store, StoreError, timestamp, unreadable};
use crate::secret::Digest;

/// What a token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Scope {
    /// Only look.
    Read,
    /// Look, launch, stop and delete.
    Write,
}

impl Scope {
    /// As it is written.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

impl FromStr for Scope {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        match text {
            "read" => Ok(Self::Read),
            "write" => Ok(Self::Write),
            other => Err(Problem::bad_input(
                format!("\"{}\" is not a scope of a token", other.escape_default()),
                "use read or write",
            )),
        }
    }
}

/// A token without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ApiToken {
    /// Names the token when it is deleted.
    pub(crate) id: String,
    /// What its owner calls it.
    pub(crate) name: String,
    /// What it may do.
    pub(crate) scope: Scope,
    /// When it was made.
    pub(crate) created_at: Timestamp,
    /// When it ends.
    pub(crate) expires_at: Timestamp,
}

/// How many tokens an account may have.
const MOST_TOKENS: i64 = 50;

impl Store {
    /// Keeps a new token's digest.
    pub(crate) async fn add_token(&self, digest: Digest, account: UserId, token: ApiToken) -> Result<(), Problem> {
        self.write(move |transaction| {
            let count: i64 =
                transaction.query_row("SELECT count(*) FROM tokens WHERE account = ?1", [account.as_str()], |row| {
                    row.get(0)
                })?;
            if count >= MOST_TOKENS {
                return Err(StoreError::Refused(Problem::conflict(
                    format!("an account may have {MOST_TOKENS} tokens, and this one has {count}"),
                    "delete one first",
                )));
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
                    let scope: String = row.get(7)?;
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
                "SELECT id, name, scope, created_at, expires_at FROM tokens
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
                    })
                })?
                .collect::<Result<_, _>>()?;
            Ok(tokens)
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
