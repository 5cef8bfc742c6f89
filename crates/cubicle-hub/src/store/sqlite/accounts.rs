//! Accounts: who may sign in.

use cubicle_core::name::{UserId, UserName};
use cubicle_core::problem::Problem;
use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, Row};

use super::records::{Account, Identity, NewAccount, Role, known_already, taken as taken_by, unknown};
use super::{File, StoreError, timestamp, unreadable};

impl Account {
    /// The columns that [`Account::from_row`] reads, in its order, of a table named `accounts`.
    pub(super) const COLUMNS: &str = "accounts.id, accounts.name, accounts.role, accounts.disabled, \
         accounts.password IS NOT NULL, accounts.groups, accounts.created_at, accounts.issuer, accounts.subject, \
         accounts.service";
    /// How many columns these are.
    pub(super) const WIDTH: usize = 10;

    /// Reads [`Account::COLUMNS`], which must be the first columns of the row.
    pub(super) fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        let id: String = row.get(0)?;
        let name: String = row.get(1)?;
        let role: String = row.get(2)?;
        let groups: String = row.get(5)?;
        let (issuer, subject): (Option<String>, Option<String>) = (row.get(7)?, row.get(8)?);
        Ok(Self {
            id: id.parse().map_err(|problem: Problem| unreadable(&problem.what))?,
            name: name.parse().map_err(|problem: Problem| unreadable(&problem.what))?,
            role: role.parse().map_err(|problem: Problem| unreadable(&problem.what))?,
            disabled: row.get(3)?,
            has_password: row.get(4)?,
            groups: serde_json::from_str(&groups).map_err(|error| unreadable(&error.to_string()))?,
            created_at: timestamp(row.get(6)?)?,
            identity: issuer.zip(subject).map(|(issuer, subject)| Identity { issuer, subject }),
            service: row.get(9)?,
        })
    }
}

impl File {
    /// Makes an account without a password. Refused when a name with the same key exists.
    pub(crate) async fn add_account(&self, new: NewAccount) -> Result<Account, Problem> {
        self.write(move |transaction| {
            let NewAccount { name, role, groups, identity, service } = new;
            let taken: Option<String> = transaction
                .query_row("SELECT name FROM accounts WHERE key = ?1", [name.key()], |row| row.get(0))
                .optional()?;
            if let Some(taken) = taken {
                return Err(StoreError::Refused(taken_by(&name, &taken)));
            }
            if let Some(Identity { issuer, subject }) = &identity {
                let query = "SELECT count(*) FROM accounts WHERE issuer = ?1 AND subject = ?2";
                let known: i64 = transaction.query_row(query, [issuer, subject], |row| row.get(0))?;
                if known > 0 {
                    return Err(StoreError::Refused(known_already()));
                }
            }
            let account = Account {
                id: UserId::from_random(rand::random()),
                name,
                role,
                disabled: false,
                has_password: false,
                groups,
                identity,
                service,
                created_at: timestamp(Timestamp::now().as_millisecond())?,
            };
            let groups = serde_json::to_string(&account.groups).map_err(|error| unreadable(&error.to_string()))?;
            transaction.execute(
                "INSERT INTO accounts (id, name, key, role, groups, created_at, issuer, subject, service)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                (
                    account.id.as_str(),
                    account.name.as_str(),
                    account.name.key(),
                    account.role.as_str(),
                    groups,
                    account.created_at.as_millisecond(),
                    account.identity.as_ref().map(|identity| identity.issuer.as_str()),
                    account.identity.as_ref().map(|identity| identity.subject.as_str()),
                    account.service,
                ),
            )?;
            Ok(account)
        })
        .await
    }

    /// All accounts, by name.
    pub(crate) async fn accounts(&self) -> Result<Vec<Account>, Problem> {
        self.read(|connection| {
            let mut statement =
                connection.prepare_cached(&format!("SELECT {} FROM accounts ORDER BY key", Account::COLUMNS))?;
            let accounts = statement.query_map([], Account::from_row)?.collect::<Result<_, _>>()?;
            Ok(accounts)
        })
        .await
    }

    /// The account whose name has the same key.
    pub(crate) async fn account(&self, name: &str) -> Result<Account, Problem> {
        let Ok(parsed) = name.parse::<UserName>() else { return Err(unknown(name)) };
        let found = self
            .read(move |connection| {
                let query = format!("SELECT {} FROM accounts WHERE key = ?1", Account::COLUMNS);
                Ok(connection.query_row(&query, [parsed.key()], Account::from_row).optional()?)
            })
            .await?;
        found.ok_or_else(|| unknown(name))
    }

    /// The account and its password's hash, for signing in; nothing when there is no such account.
    pub(crate) async fn account_with_password(
        &self,
        name: UserName,
    ) -> Result<Option<(Account, Option<String>)>, Problem> {
        self.read(move |connection| {
            let query = format!("SELECT {}, accounts.password FROM accounts WHERE key = ?1", Account::COLUMNS);
            Ok(connection
                .query_row(&query, [name.key()], |row| Ok((Account::from_row(row)?, row.get(Account::WIDTH)?)))
                .optional()?)
        })
        .await
    }

    /// The account of whom a provider vouches for.
    pub(crate) async fn account_of(&self, identity: Identity) -> Result<Option<Account>, Problem> {
        self.read(move |connection| {
            let query = format!("SELECT {} FROM accounts WHERE issuer = ?1 AND subject = ?2", Account::COLUMNS);
            Ok(connection.query_row(&query, [identity.issuer, identity.subject], Account::from_row).optional()?)
        })
        .await
    }

    /// Sets role and groups.
    pub(crate) async fn set_rights(&self, id: UserId, role: Role, groups: Vec<String>) -> Result<(), Problem> {
        self.write(move |transaction| {
            let groups = serde_json::to_string(&groups).map_err(|error| unreadable(&error.to_string()))?;
            transaction.execute(
                "UPDATE accounts SET role = ?2, groups = ?3 WHERE id = ?1",
                (id.as_str(), role.as_str(), groups),
            )?;
            Ok(())
        })
        .await
    }

    /// Sets the hash of a password, in PHC form.
    pub(crate) async fn set_password(&self, id: UserId, hash: String) -> Result<(), Problem> {
        self.write(move |transaction| {
            transaction.execute("UPDATE accounts SET password = ?2 WHERE id = ?1", (id.as_str(), hash))?;
            Ok(())
        })
        .await
    }

    /// Disables or enables an account. Disabling ends every session, link and token of it; the
    /// digests of the ended sessions come back, so that their open connections can be closed.
    pub(crate) async fn set_disabled(&self, id: UserId, disabled: bool) -> Result<Vec<crate::secret::Digest>, Problem> {
        self.write(move |transaction| {
            transaction.execute("UPDATE accounts SET disabled = ?2 WHERE id = ?1", (id.as_str(), disabled))?;
            if !disabled {
                return Ok(Vec::new());
            }
            transaction.execute("DELETE FROM links WHERE account = ?1", [id.as_str()])?;
            transaction.execute("DELETE FROM tokens WHERE account = ?1", [id.as_str()])?;
            super::sessions::end_sessions(transaction, &id, None)
        })
        .await
    }
}
