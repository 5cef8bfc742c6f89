//! Signing in and out by way of a provider.

use std::sync::Arc;

use axum::extract::rejection::FormRejection;
use axum::extract::{Form, Path, Query, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use cubicle_core::problem::{Problem, ProblemKind};
use serde::Deserialize;

use super::session::begin;
use super::visitor::Visitor;
use super::{plain, see_other, shown};
use crate::cookies;
use crate::hub::Hub;
use crate::identity::{Attempt, Failure, LIFETIME, Person, Provider, Returned, name_of};
use crate::journal;
use crate::origin::safe_next;
use crate::pages;
use crate::store::{Account, Identity, NewAccount, Vouched};

#[derive(Debug, Default, Deserialize)]
pub(super) struct Wanted {
    #[serde(default)]
    next: String,
}

fn back(hub: &Hub, visitor: &Visitor, provider: &Provider) -> String {
    format!("{}/sign-in/with/{}/back", hub.origins.hub(Some(&visitor.host)), provider.settings.name)
}

fn refused(visitor: Visitor, failure: Failure) -> Response {
    visitor.refuse_with(failure.status, failure.problem).into_response()
}

/// Sends the browser to the provider.
pub(super) async fn leave(
    State(hub): State<Arc<Hub>>,
    visitor: Visitor,
    Path(name): Path<String>,
    Query(wanted): Query<Wanted>,
) -> Response {
    let next = safe_next(Some(&wanted.next));
    if visitor.session.is_some() {
        return see_other(&next);
    }
    let provider = match hub.identities.provider(&name) {
        Ok(provider) => provider,
        Err(problem) => return visitor.refuse(problem).into_response(),
    };
    let attempt = Attempt::begin(&name, &next);
    match provider.begin(&attempt, &back(&hub, &visitor, provider)).await {
        Ok(place) => {
            let mut response = see_other(&place);
            let cookie = cookies::write_for(cookies::ATTEMPT, &attempt.cookie(), hub.origins.secure(), LIFETIME);
            if let Some(cookie) = cookie {
                response.headers_mut().append(header::SET_COOKIE, cookie);
            }
            response
        }
        Err(failure) => refused(visitor, failure),
    }
}

/// The browser comes back with a code.
pub(super) async fn come_back(
    State(hub): State<Arc<Hub>>,
    visitor: Visitor,
    Path(name): Path<String>,
    headers: axum::http::HeaderMap,
    Query(returned): Query<Returned>,
) -> Response {
    let secure = hub.origins.secure();
    let used_up = cookies::write_for(cookies::ATTEMPT, "", secure, 0);
    let attempt = cookies::read(&headers, cookies::ATTEMPT, secure).and_then(|cookie| Attempt::read(cookie, &name));
    let mut response = match welcome(&hub, &visitor, &name, attempt.as_ref(), returned).await {
        Ok((account, vouched)) => {
            let next = attempt.map_or_else(|| "/".to_owned(), |attempt| attempt.next());
            begin(&hub, visitor, account.id, &next, Some(vouched)).await
        }
        Err(failure) => {
            tracing::info!(provider = name, address = %visitor.address, why = %failure.problem, "a sign-in failed");
            refused(visitor, failure)
        }
    };
    if let Some(cookie) = used_up {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}

async fn welcome(
    hub: &Hub,
    visitor: &Visitor,
    name: &str,
    attempt: Option<&Attempt>,
    returned: Returned,
) -> Result<(Account, Vouched), Failure> {
    let provider = hub.identities.provider(name)?;
    let attempt = attempt.ok_or_else(|| Failure {
        status: StatusCode::UNAUTHORIZED,
        problem: Problem::new(
            ProblemKind::NotAllowed,
            "this browser did not begin to sign in here, or more than 10 minutes ago",
            "sign in again from the beginning; cookies must be allowed",
        ),
    })?;
    let person = provider.finish(attempt, &back(hub, visitor, provider), returned).await?;
    let account = account_of(hub, &provider.settings.name, &person).await?;
    journal::about(format!("signed in {}", account.id));
    tracing::info!(user = %account.id, provider = name, address = %visitor.address, "signed in by a provider");
    Ok((account, Vouched { issuer: person.identity.issuer, session: person.session }))
}

/// The person's account, with the rights that the provider or front of this name gives them now; made at the first time.
pub(crate) async fn account_of(hub: &Hub, by: &str, person: &Person) -> Result<Account, Problem> {
    if let Some(account) = hub.store.account_of(person.identity.clone()).await? {
        if account.role != person.role || account.groups != person.groups {
            hub.store.set_rights(account.id.clone(), person.role, person.groups.clone()).await?;
        }
        return Ok(account);
    }
    let mut taken = Problem::conflict("there is no free name for you here", "ask an administrator");
    for name in name_of(person, by) {
        let new = NewAccount {
            name,
            role: person.role,
            groups: person.groups.clone(),
            identity: Some(person.identity.clone()),
            service: false,
        };
        match hub.store.add_account(new).await {
            Err(problem) if problem.kind == ProblemKind::Conflict => taken = problem,
            other => return other,
        }
    }
    // Two of one person's first sign-ins at once: the other one made it.
    hub.store.account_of(person.identity.clone()).await?.ok_or(taken)
}

/// Sends the browser to where the provider's own session ends, or the front's.
pub(super) async fn sign_out(State(hub): State<Arc<Hub>>, visitor: Visitor, Path(name): Path<String>) -> Response {
    let front = hub.identities.front.as_ref().filter(|front| front.settings.name == name);
    if let Some(place) = front.and_then(|front| front.settings.sign_out_url.as_deref()) {
        return see_other(place);
    }
    let provider = match hub.identities.provider(&name) {
        Ok(provider) => provider,
        Err(problem) => return visitor.refuse(problem).into_response(),
    };
    let back = format!("{}/signed-out", hub.origins.hub(Some(&visitor.host)));
    match provider.sign_out(&back).await {
        Ok(Some(place)) => see_other(&place),
        Ok(None) => {
            let what = format!("{} offers no way to sign out from here", provider.settings.title);
            visitor.refuse(Problem::not_found(what, "sign out on its own pages, or close the browser")).into_response()
        }
        Err(failure) => refused(visitor, failure),
    }
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct From {
    #[serde(default)]
    provider: String,
}

/// After signing out.
pub(super) async fn signed_out(State(hub): State<Arc<Hub>>, visitor: Visitor, Query(from): Query<From>) -> Response {
    let front = hub.identities.front.as_ref().filter(|front| front.settings.name == from.provider);
    let provider = match front {
        Some(front) => front.link(),
        None => hub.identities.provider(&from.provider).ok().map(Provider::link),
    };
    let frame = pages::Frame { viewer: None, ..visitor.frame(None) };
    visitor.answer(shown(StatusCode::OK, pages::signed_out::render(&pages::signed_out::View { frame, provider })))
}

#[derive(Debug, Deserialize)]
pub(super) struct LogoutToken {
    logout_token: String,
}

/// The provider itself says that somebody's session is over. What it sends is signed, so it needs
/// neither a cookie nor an origin.
pub(super) async fn ended(
    State(hub): State<Arc<Hub>>,
    Path(name): Path<String>,
    posted: Result<Form<LogoutToken>, FormRejection>,
) -> Response {
    let outcome = async {
        let provider = hub.identities.provider(&name)?;
        let Form(LogoutToken { logout_token }) = posted.map_err(|_| {
            Failure::from(Problem::bad_input(
                "there is no logout_token in the form",
                "send one as Back-Channel Logout 1.0 says",
            ))
        })?;
        let ended = provider.ended(&logout_token).await?;
        let identity = Identity { issuer: provider.settings.issuer.clone(), subject: ended.subject };
        let sessions = hub.store.end_vouched_sessions(identity, ended.session).await?;
        for session in &sessions {
            hub.liveness.end(session);
        }
        journal::about(format!("ended {} sessions", sessions.len()));
        tracing::info!(provider = name, sessions = sessions.len(), "a provider ended sessions");
        Ok(())
    };
    let mut response = match outcome.await {
        Ok(()) => StatusCode::OK.into_response(),
        Err(Failure { status, problem }) => plain(status, &problem),
    };
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
