//! Who asks: the subject of the token, and nobody whom a header merely names.

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;

use super::answers::error;
use super::is_remote_user;
use crate::hub::{Caller, Hub};
use crate::identity::Failure;
use crate::journal;
use crate::routes::account_of;
use crate::secret::{Digest, Purpose};
use crate::store::{Account, Identity};

/// The longest token, in bytes.
const LONGEST: usize = 16 << 10;

/// What the open connections of an account hang on: disabling it ends them.
pub(crate) fn connections_of(account: &Account) -> Digest {
    Digest::of(Purpose::Portal, account.id.as_str())
}

/// The account of whoever asks; nothing when nobody claims to. A claim that is not proven is an answer.
pub(super) async fn who(hub: &Hub, headers: &HeaderMap) -> Result<Option<Account>, Box<Response>> {
    let refuse = |status, what: &str| Err(Box::new(error(status, what)));
    let named: Vec<&[u8]> =
        headers.iter().filter(|(name, _)| is_remote_user(name.as_str())).map(|(_, value)| value.as_bytes()).collect();
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let token = match (given.next(), given.next()) {
        (None, _) if named.is_empty() => return Ok(None),
        (Some(value), None) => value.to_str().ok().and_then(|text| {
            let (scheme, token) = text.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim()).filter(|token| token.len() <= LONGEST)
        }),
        _ => None,
    };
    let Some(token) = token else { return refuse(StatusCode::UNAUTHORIZED, "No valid access token") };
    let bearer = match bearer(hub, token).await {
        Ok(bearer) => bearer,
        Err(Failure { status, problem }) => {
            tracing::info!(why = %problem, "a portal's token was refused");
            return refuse(status, &problem.what);
        }
    };
    let agrees = match named[..] {
        [] => true,
        [name] => bearer.called.as_deref().is_some_and(|called| called.as_bytes() == name),
        _ => false,
    };
    if !agrees {
        tracing::warn!(subject = bearer.person.identity.subject, "REMOTE_USER and the token name two people");
        return refuse(StatusCode::UNAUTHORIZED, "REMOTE_USER does not agree with the access token");
    }
    match account(hub, bearer).await {
        Ok(account) if account.disabled => refuse(StatusCode::FORBIDDEN, "this account is disabled"),
        Ok(account) => {
            journal::acting(&Caller::Account(account.clone()), "portal");
            Ok(Some(account))
        }
        Err(Failure { status, problem }) => refuse(status, &problem.what),
    }
}

async fn bearer(hub: &Hub, token: &str) -> Result<crate::identity::Bearer, Failure> {
    let portal = hub.portal.as_ref().ok_or_else(|| Failure::unproven("there is no portal here"))?;
    hub.identities.provider(&portal.settings.provider)?.bearer(token, &portal.settings).await
}

/// The account of a person. A token that says nothing of roles or groups changes none.
async fn account(hub: &Hub, bearer: crate::identity::Bearer) -> Result<Account, Failure> {
    let mut person = bearer.person;
    let Identity { issuer, subject } = person.identity.clone();
    if let Some(known) = hub.store.account_of(Identity { issuer, subject }).await? {
        if !bearer.tells_roles {
            person.role = known.role;
        }
        if !bearer.tells_groups {
            person.groups.clone_from(&known.groups);
        }
    }
    let provider = hub.identities.of_issuer(&person.identity.issuer).ok_or_else(|| Failure::unproven("unknown"))?;
    provider.require_group(&person)?;
    let (role, groups) = (person.role, person.groups.clone());
    let account = account_of(hub, &provider.settings.name, &person).await?;
    // What was just written counts, whatever was read before.
    Ok(Account { role, groups, ..account })
}
