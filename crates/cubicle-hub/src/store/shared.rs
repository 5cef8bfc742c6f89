//! The same in the site's registry, so that any number of hubs are one. Every replica sees what
//! another one wrote within moments; what must not be seen late is asked for as it is now.

use std::sync::Arc;

use cubicle_core::name::{UserId, UserName, WorkspaceId};
use cubicle_core::problem::Problem;
use cubicle_core::registry::{Kind, Record, Registry};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::records::{
    Account, ApiToken, Granted, Identity, MOST_TOKENS, NewAccount, Role, Scope, Session, Vouched, known_already,
    no_link, no_session, taken, too_many_tokens, unknown,
};
use crate::secret::Digest;

/// How often a write is tried again that somebody else came before.
pub(super) const ATTEMPTS: usize = 8;

/// The site's registry.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(super) registry: Arc<dyn Registry>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct AccountRecord {
    id: UserId,
    name: UserName,
    admin: bool,
    /// Records of older hubs have `admin` alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    role: Option<Role>,
    disabled: bool,
    /// argon2id in PHC form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    password: Option<String>,
    #[serde(default)]
    groups: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    identity: Option<Identity>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    service: bool,
    created_at: Timestamp,
}

/// `account` is the name of the account's record, here and below.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SessionRecord {
    account: String,
    created_at: Timestamp,
    expires_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    issuer: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    provider_session: Option<String>,
}

/// `session` is the name of the session's record. Grants and tickets are the same.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct GrantRecord {
    session: String,
    workspace: WorkspaceId,
    expires_at: Timestamp,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct LinkRecord {
    account: String,
    expires_at: Timestamp,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct TokenRecord {
    account: String,
    id: String,
    name: String,
    scope: Scope,
    created_at: Timestamp,
    expires_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    used_at: Option<Timestamp>,
}

impl AccountRecord {
    fn account(&self) -> Account {
        Account {
            id: self.id.clone(),
            name: self.name.clone(),
            role: self.role.unwrap_or(if self.admin { Role::Admin } else { Role::User }),
            disabled: self.disabled,
            has_password: self.password.is_some(),
            groups: self.groups.clone(),
            identity: self.identity.clone(),
            service: self.service,
            created_at: self.created_at,
        }
    }
}

/// Two spellings of one name are one record, so that no two accounts can ever have both.
fn record_name(name: &UserName) -> String {
    let hash = Sha256::digest(name.key().as_bytes());
    let hash: String = hash.iter().take(20).map(|byte| format!("{byte:02x}")).collect();
    format!("a-{hash}")
}

pub(super) fn read<T: DeserializeOwned>(record: &Record) -> Result<T, Problem> {
    serde_json::from_value(record.value.clone()).map_err(|error| {
        Problem::engine(format!("the record {} cannot be read: {error}", record.name), "delete it, or restore it")
    })
}

pub(super) fn written(value: &impl Serialize) -> Result<serde_json::Value, Problem> {
    serde_json::to_value(value).map_err(|error| Problem::engine(format!("a record cannot be written: {error}"), ""))
}

impl Shared {
    pub(crate) fn new(registry: Arc<dyn Registry>) -> Self {
        Self { registry }
    }

    async fn found<T: DeserializeOwned>(&self, kind: Kind, name: &str) -> Result<Option<T>, Problem> {
        self.registry.get(kind, name).await?.as_ref().map(read).transpose()
    }

    async fn make(&self, kind: Kind, name: &str, value: &impl Serialize) -> Result<(), Problem> {
        if self.registry.create(kind, name, written(value)?).await? {
            return Ok(());
        }
        Err(Problem::conflict("there is such a record already", "try again"))
    }

    /// The account's record by its id, as it is now.
    async fn by_id(&self, id: &UserId) -> Result<(Record, AccountRecord), Problem> {
        for now in [false, true] {
            let records = match now {
                false => self.registry.list(Kind::Account).await?,
                true => self.registry.list_now(Kind::Account).await?,
            };
            for record in records {
                if read::<AccountRecord>(&record)?.id == *id
                    && let Some(record) = self.registry.get_now(Kind::Account, &record.name).await?
                {
                    let account = read(&record)?;
                    return Ok((record, account));
                }
            }
        }
        Err(Problem::not_found("there is no such account", "list the users with `cubicle user list`"))
    }

    /// A live account by its record's name.
    async fn live(&self, name: &str) -> Result<Option<Account>, Problem> {
        let record: Option<AccountRecord> = self.found(Kind::Account, name).await?;
        Ok(record.map(|record| record.account()).filter(|account| !account.disabled))
    }

    async fn change(&self, id: &UserId, change: impl Fn(&mut AccountRecord)) -> Result<String, Problem> {
        for _ in 0..ATTEMPTS {
            let (record, mut account) = self.by_id(id).await?;
            change(&mut account);
            let name = record.name.clone();
            if self.registry.replace(Kind::Account, Record { value: written(&account)?, ..record }).await? {
                return Ok(name);
            }
        }
        Err(Problem::conflict("the account is being changed by somebody else", "try again"))
    }

    pub(crate) async fn add_account(&self, new: NewAccount) -> Result<Account, Problem> {
        let NewAccount { name, role, groups, identity, service } = new;
        if let Some(identity) = &identity
            && self.account_of_now(identity).await?.is_some()
        {
            return Err(known_already());
        }
        let record = AccountRecord {
            id: UserId::from_random(rand::random()),
            name,
            admin: role == Role::Admin,
            // Left out where `admin` says it all, so that older schemas hold it too.
            role: (role == Role::Auditor).then_some(role),
            disabled: false,
            password: None,
            groups,
            identity,
            service,
            created_at: Timestamp::now(),
        };
        let key = record_name(&record.name);
        if self.registry.create(Kind::Account, &key, written(&record)?).await? {
            self.kept_whole(&key, &record).await?;
            return Ok(record.account());
        }
        let other: Option<AccountRecord> = self.found(Kind::Account, &key).await?;
        Err(taken(&record.name, other.as_ref().map_or("somebody", |other| other.name.as_str())))
    }

    /// An API server with an older schema drops what it does not know. An account without its
    /// identity would be somebody else's at the next sign-in, one without its role could do more.
    async fn kept_whole(&self, key: &str, written: &AccountRecord) -> Result<(), Problem> {
        if written.identity.is_none() && written.role.is_none() && !written.service {
            return Ok(());
        }
        let kept = self.registry.get_now(Kind::Account, key).await?;
        let kept: Option<AccountRecord> = kept.as_ref().map(read).transpose()?;
        let whole = kept.is_some_and(|kept| {
            kept.identity == written.identity && kept.role == written.role && kept.service == written.service
        });
        if whole {
            return Ok(());
        }
        self.registry.take(Kind::Account, key).await?;
        Err(Problem::engine(
            "the cluster's definition of accounts is too old for roles, providers and service accounts",
            "apply the definitions of this version: `cubicle controller crds | kubectl apply --server-side -f -`",
        ))
    }

    async fn account_of_now(&self, identity: &Identity) -> Result<Option<Account>, Problem> {
        for record in self.registry.list_now(Kind::Account).await? {
            let account: AccountRecord = read(&record)?;
            if account.identity.as_ref() == Some(identity) {
                return Ok(Some(account.account()));
            }
        }
        Ok(None)
    }

    pub(crate) async fn account_of(&self, identity: Identity) -> Result<Option<Account>, Problem> {
        self.account_of_now(&identity).await
    }

    pub(crate) async fn set_rights(&self, id: UserId, role: Role, groups: Vec<String>) -> Result<(), Problem> {
        let name = self
            .change(&id, |account| {
                account.admin = role == Role::Admin;
                account.role = (role == Role::Auditor).then_some(role);
                account.groups = groups.clone();
            })
            .await?;
        let kept = self.registry.get_now(Kind::Account, &name).await?;
        match kept.as_ref().map(read::<AccountRecord>).transpose()? {
            Some(kept) if kept.account().role == role => Ok(()),
            _ => Err(Problem::engine("the account's role could not be kept", "apply the definitions of this version")),
        }
    }

    pub(crate) async fn accounts(&self) -> Result<Vec<Account>, Problem> {
        let records = self.registry.list_now(Kind::Account).await?;
        let mut accounts: Vec<Account> = records
            .iter()
            .map(|record| Ok(read::<AccountRecord>(record)?.account()))
            .collect::<Result<_, Problem>>()?;
        accounts.sort_by_key(|account| account.name.key());
        Ok(accounts)
    }

    pub(crate) async fn account(&self, name: &str) -> Result<Account, Problem> {
        let Ok(parsed) = name.parse::<UserName>() else { return Err(unknown(name)) };
        let record: Option<AccountRecord> = self.found(Kind::Account, &record_name(&parsed)).await?;
        record.map(|record| record.account()).ok_or_else(|| unknown(name))
    }

    pub(crate) async fn account_with_password(
        &self,
        name: UserName,
    ) -> Result<Option<(Account, Option<String>)>, Problem> {
        let record = self.registry.get_now(Kind::Account, &record_name(&name)).await?;
        let record: Option<AccountRecord> = record.as_ref().map(read).transpose()?;
        Ok(record.map(|record| (record.account(), record.password)))
    }

    pub(crate) async fn set_password(&self, id: UserId, hash: String) -> Result<(), Problem> {
        self.change(&id, |account| account.password = Some(hash.clone())).await.map(drop)
    }

    pub(crate) async fn set_disabled(&self, id: UserId, disabled: bool) -> Result<Vec<Digest>, Problem> {
        let name = self.change(&id, |account| account.disabled = disabled).await?;
        if !disabled {
            return Ok(Vec::new());
        }
        for record in self.registry.list_now(Kind::Link).await? {
            if read::<LinkRecord>(&record)?.account == name {
                self.registry.take(Kind::Link, &record.name).await?;
            }
        }
        for record in self.registry.list_now(Kind::Token).await? {
            if read::<TokenRecord>(&record)?.account == name {
                self.registry.take(Kind::Token, &record.name).await?;
            }
        }
        self.end_sessions(&name, None).await
    }

    async fn end_sessions(&self, account: &str, keep: Option<Digest>) -> Result<Vec<Digest>, Problem> {
        let mut ended = Vec::new();
        for record in self.registry.list_now(Kind::Session).await? {
            let digest = Digest::from_hexadecimal(&record.name);
            if read::<SessionRecord>(&record)?.account != account || (keep.is_some() && digest == keep) {
                continue;
            }
            self.registry.take(Kind::Session, &record.name).await?;
            ended.extend(digest);
        }
        Ok(ended)
    }

    pub(crate) async fn add_link(&self, link: Digest, account: UserId, expires_at: Timestamp) -> Result<(), Problem> {
        let (record, account) = self.by_id(&account).await?;
        if account.disabled {
            return Err(no_link());
        }
        self.make(Kind::Link, &link.hexadecimal(), &LinkRecord { account: record.name, expires_at }).await
    }

    pub(crate) async fn peek_link(&self, link: Digest) -> Result<Option<Account>, Problem> {
        match self.found::<LinkRecord>(Kind::Link, &link.hexadecimal()).await? {
            Some(link) if link.expires_at > Timestamp::now() => self.live(&link.account).await,
            _ => Ok(None),
        }
    }

    pub(crate) async fn use_link(&self, link: Digest) -> Result<Option<UserId>, Problem> {
        let Some(record) = self.registry.take(Kind::Link, &link.hexadecimal()).await? else { return Ok(None) };
        let link: LinkRecord = read(&record)?;
        if link.expires_at <= Timestamp::now() {
            return Ok(None);
        }
        Ok(self.live(&link.account).await?.map(|account| account.id))
    }

    pub(crate) async fn begin_session(
        &self,
        digest: Digest,
        account: UserId,
        expires_at: Timestamp,
        vouched: Option<Vouched>,
    ) -> Result<(), Problem> {
        let (record, account) = self.by_id(&account).await?;
        if account.disabled || account.service {
            return Err(no_session());
        }
        let (issuer, provider_session) =
            vouched.map_or((None, None), |vouched| (Some(vouched.issuer), vouched.session));
        let session =
            SessionRecord { account: record.name, created_at: Timestamp::now(), expires_at, issuer, provider_session };
        self.make(Kind::Session, &digest.hexadecimal(), &session).await
    }

    pub(crate) async fn session(&self, digest: Digest) -> Result<Option<Session>, Problem> {
        let Some(session) = self.found::<SessionRecord>(Kind::Session, &digest.hexadecimal()).await? else {
            return Ok(None);
        };
        if session.expires_at <= Timestamp::now() {
            return Ok(None);
        }
        let account = self.live(&session.account).await?;
        let (expires_at, issuer) = (session.expires_at, session.issuer);
        Ok(account.map(|account| Session { digest, account, expires_at, issuer }))
    }

    pub(crate) async fn end_vouched_sessions(
        &self,
        identity: Identity,
        session: Option<String>,
    ) -> Result<Vec<Digest>, Problem> {
        let Some(account) = self.account_of_now(&identity).await? else { return Ok(Vec::new()) };
        let account = record_name(&account.name);
        let mut ended = Vec::new();
        for record in self.registry.list_now(Kind::Session).await? {
            let kept: SessionRecord = read(&record)?;
            // Which of the person's sessions it is may not have been kept (an older schema): then all.
            let other = session.is_some() && kept.provider_session.is_some() && kept.provider_session != session;
            let by_other = kept.issuer.as_ref().is_some_and(|issuer| *issuer != identity.issuer);
            if kept.account != account || other || by_other {
                continue;
            }
            self.registry.take(Kind::Session, &record.name).await?;
            ended.extend(Digest::from_hexadecimal(&record.name));
        }
        Ok(ended)
    }

    pub(crate) async fn end_session(&self, digest: Digest) -> Result<(), Problem> {
        self.registry.take(Kind::Session, &digest.hexadecimal()).await.map(drop)
    }

    pub(crate) async fn end_other_sessions(&self, account: UserId, keep: Digest) -> Result<Vec<Digest>, Problem> {
        let (record, _) = self.by_id(&account).await?;
        self.end_sessions(&record.name, Some(keep)).await
    }

    pub(crate) async fn issue_ticket(
        &self,
        ticket: Digest,
        session: Digest,
        workspace: WorkspaceId,
        expires_at: Timestamp,
    ) -> Result<(), Problem> {
        let record = GrantRecord { session: session.hexadecimal(), workspace, expires_at };
        self.make(Kind::Ticket, &ticket.hexadecimal(), &record).await
    }

    pub(crate) async fn redeem_ticket(
        &self,
        ticket: Digest,
        workspace: WorkspaceId,
        grant: Digest,
    ) -> Result<bool, Problem> {
        // Taken whatever the answer: a ticket that was shown to the wrong origin is burnt.
        let Some(record) = self.registry.take(Kind::Ticket, &ticket.hexadecimal()).await? else { return Ok(false) };
        let ticket: GrantRecord = read(&record)?;
        let Some(session) = Digest::from_hexadecimal(&ticket.session) else { return Ok(false) };
        if ticket.workspace != workspace || ticket.expires_at <= Timestamp::now() {
            return Ok(false);
        }
        let Some(session) = self.session(session).await? else { return Ok(false) };
        let record = GrantRecord { session: ticket.session, workspace, expires_at: session.expires_at };
        self.make(Kind::Grant, &grant.hexadecimal(), &record).await?;
        Ok(true)
    }

    pub(crate) async fn granted(&self, grant: Digest, workspace: WorkspaceId) -> Result<Option<Granted>, Problem> {
        let Some(grant) = self.found::<GrantRecord>(Kind::Grant, &grant.hexadecimal()).await? else { return Ok(None) };
        let digest = Digest::from_hexadecimal(&grant.session).filter(|_| grant.workspace == workspace);
        let Some(digest) = digest else { return Ok(None) };
        let session = self.session(digest).await?;
        Ok(session.map(|session| Granted { session: session.digest, expires_at: session.expires_at }))
    }

    pub(crate) async fn forget_workspace(&self, workspace: WorkspaceId) -> Result<(), Problem> {
        for kind in [Kind::Grant, Kind::Ticket] {
            for record in self.registry.list_now(kind).await? {
                if read::<GrantRecord>(&record)?.workspace == workspace {
                    self.registry.take(kind, &record.name).await?;
                }
            }
        }
        Ok(())
    }

    pub(crate) async fn add_token(&self, digest: Digest, account: UserId, token: ApiToken) -> Result<(), Problem> {
        let count = i64::try_from(self.tokens(account.clone()).await?.len()).unwrap_or(i64::MAX);
        if count >= MOST_TOKENS {
            return Err(too_many_tokens(count));
        }
        let (record, _) = self.by_id(&account).await?;
        let ApiToken { id, name, scope, created_at, expires_at, used_at } = token;
        let token = TokenRecord { account: record.name, id, name, scope, created_at, expires_at, used_at };
        self.make(Kind::Token, &digest.hexadecimal(), &token).await
    }

    pub(crate) async fn token(&self, digest: Digest) -> Result<Option<(Account, Scope)>, Problem> {
        match self.found::<TokenRecord>(Kind::Token, &digest.hexadecimal()).await? {
            Some(token) if token.expires_at > Timestamp::now() => {
                Ok(self.live(&token.account).await?.map(|account| (account, token.scope)))
            }
            _ => Ok(None),
        }
    }

    pub(crate) async fn note_token_use(&self, digest: Digest, at: Timestamp) -> Result<(), Problem> {
        let Some(record) = self.registry.get_now(Kind::Token, &digest.hexadecimal()).await? else { return Ok(()) };
        let token = TokenRecord { used_at: Some(at), ..read(&record)? };
        // Whoever else wrote it has noted a use at about the same time, or ended it.
        self.registry.replace(Kind::Token, Record { value: written(&token)?, ..record }).await.map(drop)
    }

    async fn tokens_of(&self, account: &UserId) -> Result<Vec<(String, ApiToken)>, Problem> {
        let (account, _) = self.by_id(account).await?;
        let mut found = Vec::new();
        for record in self.registry.list_now(Kind::Token).await? {
            let token: TokenRecord = read(&record)?;
            if token.account == account.name && token.expires_at > Timestamp::now() {
                let TokenRecord { id, name, scope, created_at, expires_at, used_at, .. } = token;
                found.push((record.name, ApiToken { id, name, scope, created_at, expires_at, used_at }));
            }
        }
        found.sort_by(|(_, a), (_, b)| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        Ok(found)
    }

    pub(crate) async fn tokens(&self, account: UserId) -> Result<Vec<ApiToken>, Problem> {
        Ok(self.tokens_of(&account).await?.into_iter().map(|(_, token)| token).collect())
    }

    pub(crate) async fn delete_token(&self, account: UserId, id: String) -> Result<bool, Problem> {
        let tokens = self.tokens_of(&account).await?;
        let Some((name, _)) = tokens.into_iter().find(|(_, token)| token.id == id) else { return Ok(false) };
        Ok(self.registry.take(Kind::Token, &name).await?.is_some())
    }

    pub(crate) async fn ping(&self) -> Result<(), Problem> {
        self.registry.list(Kind::Account).await.map(drop)
    }

    pub(crate) async fn forget_expired(&self) -> Result<(), Problem> {
        let now = Timestamp::now();
        for kind in Kind::ALL {
            for record in self.registry.list(kind).await? {
                let expires_at = record.value.get("expiresAt").and_then(|value| value.as_str());
                let expired = expires_at.and_then(|text| text.parse::<Timestamp>().ok()).is_some_and(|at| at <= now);
                // A grant without its session opens nothing any more.
                let orphan = match record.value.get("session").and_then(|value| value.as_str()) {
                    Some(session) => self.registry.get(Kind::Session, session).await?.is_none(),
                    None => false,
                };
                if expired || orphan {
                    self.registry.take(kind, &record.name).await?;
                }
            }
        }
        Ok(())
    }
}
