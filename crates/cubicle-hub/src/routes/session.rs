//! Signing in and out.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use cubicle_core::name::{UserId, UserName};
use cubicle_core::problem::{Problem, ProblemKind};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

use super::provider::account_of;
use super::visitor::{NoFields, Posted, Visitor};
use super::{see_other, shown};
use crate::cookies;
use crate::hub::{Caller, Hub, from_now};
use crate::identity::{Failure, Front, Person, is_front};
use crate::journal;
use crate::origin::safe_next;
use crate::pages;
use crate::secret::{self, Digest, Purpose};
use crate::store::Vouched;

/// The longest that a session lasts which a front vouched for: a front cannot say that somebody's session with it is
/// over, and signing in anew costs nobody anything.
const BY_A_FRONT: Duration = Duration::from_secs(12 * 3600);

#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    #[serde(default)]
    next: String,
    #[serde(default)]
    token: String,
}

/// The sign-in form.
pub(super) async fn show(State(hub): State<Arc<Hub>>, visitor: Visitor, Query(wanted): Query<Wanted>) -> Response {
    let next = safe_next(Some(&wanted.next));
    if visitor.session.is_some() {
        return see_other(&next);
    }
    let Some(front) = &hub.identities.front else {
        return form(&hub, &visitor, StatusCode::OK, String::new(), next, None);
    };
    match visitor.named.clone() {
        Some(person) => match welcome(&hub, front, &visitor, &person).await {
            Ok(account) => {
                let vouched = Vouched { issuer: person.identity.issuer, session: None };
                begin(&hub, visitor, account, &next, Some(vouched)).await
            }
            Err(Failure { status, problem }) => {
                tracing::info!(address = %visitor.address, why = %problem, "a sign-in by a front failed");
                visitor.refuse_with(status, problem).into_response()
            }
        },
        // Nothing to fill in and nothing to choose.
        None if !hub.identities.passwords && hub.identities.links().is_empty() => {
            let Failure { status, problem } = front.passed_by();
            visitor.refuse_with(status, problem).into_response()
        }
        None => form(&hub, &visitor, StatusCode::OK, String::new(), next, None),
    }
}

/// Lets in whom the front has signed in.
async fn welcome(hub: &Hub, front: &Front, visitor: &Visitor, person: &Person) -> Result<UserId, Failure> {
    front.require_group(person)?;
    let account = account_of(hub, &front.settings.name, person).await?;
    journal::about(format!("signed in {}", account.id));
    tracing::info!(user = %account.id, address = %visitor.address, "signed in by a front");
    Ok(account.id)
}

fn form(
    hub: &Hub,
    visitor: &Visitor,
    status: StatusCode,
    name: String,
    next: String,
    problem: Option<Problem>,
) -> Response {
    let view = pages::sign_in::View {
        frame: visitor.frame(None),
        name,
        next,
        passwords: hub.identities.passwords,
        providers: hub.identities.links(),
        problem,
    };
    visitor.answer(shown(status, pages::sign_in::render(&view)))
}

#[derive(Deserialize)]
pub(super) struct Credentials {
    name: String,
    password: SecretString,
    #[serde(default)]
    next: String,
}

/// Checks name and password.
pub(super) async fn sign_in(
    State(hub): State<Arc<Hub>>,
    visitor: Visitor,
    Posted(given): Posted<Credentials>,
) -> Response {
    let next = safe_next(Some(&given.next));
    match check(&hub, &visitor, &given.name, given.password).await {
        Ok(account) => {
            tracing::info!(user = %account, address = %visitor.address, "signed in by password");
            journal::about(format!("signed in {account}"));
            begin(&hub, visitor, account, &next, None).await
        }
        Err(problem) => {
            // Not the name: people type passwords into that field.
            tracing::info!(address = %visitor.address, why = %problem, "a sign-in failed");
            let status = match problem.kind {
                ProblemKind::Exhausted => StatusCode::TOO_MANY_REQUESTS,
                ProblemKind::NotAllowed => StatusCode::UNAUTHORIZED,
                kind => crate::problem::status(kind),
            };
            let name = given.name.chars().take(64).collect();
            form(&hub, &visitor, status, name, next, Some(problem))
        }
    }
}

async fn check(hub: &Hub, visitor: &Visitor, name: &str, password: SecretString) -> Result<UserId, Problem> {
    let wrong = || {
        Problem::new(
            ProblemKind::NotAllowed,
            "name and password do not match",
            "try again, or ask an administrator for a sign-in link",
        )
    };
    if !hub.identities.passwords {
        return Err(Problem::new(ProblemKind::NotAllowed, "no passwords are taken here", "sign in with a provider"));
    }
    let parsed: Option<UserName> = name.parse().ok();
    // A name that cannot exist counts towards the address and takes its time like any other.
    let key = parsed.as_ref().map(UserName::key).unwrap_or_default();
    hub.limits.attempt(&key, visitor.address)?;
    let found = match parsed {
        Some(name) => hub.store.account_with_password(name).await?,
        None => None,
    };
    let hash = found.as_ref().and_then(|(account, hash)| if account.disabled { None } else { hash.clone() });
    if !hub.passwords.check(hash, password).await? {
        return Err(wrong());
    }
    let (account, _) = found.ok_or_else(wrong)?;
    hub.limits.succeeded(&key, visitor.address);
    Ok(account.id)
}

/// Begins a new session and ends the one that this browser had.
pub(super) async fn begin(
    hub: &Hub,
    visitor: Visitor,
    account: UserId,
    next: &str,
    vouched: Option<Vouched>,
) -> Response {
    let cookie = secret::generate();
    let digest = Digest::of(Purpose::Session, cookie.expose_secret());
    let lasts = match &vouched {
        Some(vouched) if is_front(&vouched.issuer) => hub.timing.session.min(BY_A_FRONT),
        _ => hub.timing.session,
    };
    if let Err(problem) = hub.store.begin_session(digest, account, from_now(lasts), vouched).await {
        return visitor.refuse(problem).into_response();
    }
    for old in visitor.session.iter().chain(&visitor.left) {
        if let Err(problem) = hub.store.end_session(old.digest).await {
            return visitor.refuse(problem).into_response();
        }
        hub.liveness.end(&old.digest);
    }
    let mut response = see_other(next);
    let seconds = i64::try_from(lasts.as_secs()).unwrap_or(i64::MAX);
    let secure = hub.origins.secure();
    let set = [
        cookies::write_for(cookies::SESSION, cookie.expose_secret(), secure, seconds),
        cookies::write_for(cookies::VISITOR, "", secure, 0),
    ];
    for cookie in set.into_iter().flatten() {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}

/// What a one-time link leads to: a button, because previews of links follow them too.
pub(super) async fn show_link(State(hub): State<Arc<Hub>>, visitor: Visitor, Query(wanted): Query<Wanted>) -> Response {
    match hub.store.peek_link(Digest::of(Purpose::Link, &wanted.token)).await {
        Ok(Some(account)) => {
            // The page before signing in, also for who is signed in as somebody else.
            let frame = pages::Frame { viewer: None, ..visitor.frame(None) };
            let next = safe_next(Some(&wanted.next));
            let view = pages::sign_in_link::View { frame, name: account.name, token: wanted.token, next };
            visitor.answer(shown(StatusCode::OK, pages::sign_in_link::render(&view)))
        }
        Ok(None) => visitor.refuse_with(StatusCode::NOT_FOUND, used_up()).into_response(),
        Err(problem) => visitor.refuse(problem).into_response(),
    }
}

fn used_up() -> Problem {
    Problem::not_found("this sign-in link was used or is too old", "ask an administrator for a new one")
}

/// Uses the link up and signs in.
pub(super) async fn use_link(
    State(hub): State<Arc<Hub>>,
    visitor: Visitor,
    Posted(wanted): Posted<Wanted>,
) -> Response {
    match hub.store.use_link(Digest::of(Purpose::Link, &wanted.token)).await {
        Ok(Some(account)) => {
            tracing::info!(user = %account, address = %visitor.address, "signed in by link");
            journal::about(format!("signed in {account}"));
            begin(&hub, visitor, account, &safe_next(Some(&wanted.next)), None).await
        }
        Ok(None) => visitor.refuse_with(StatusCode::NOT_FOUND, used_up()).into_response(),
        Err(problem) => visitor.refuse(problem).into_response(),
    }
}

/// Ends the session and everything that is open because of it.
pub(super) async fn sign_out(
    State(hub): State<Arc<Hub>>,
    visitor: Visitor,
    Posted(NoFields {}): Posted<NoFields>,
) -> Response {
    if let Some(session) = &visitor.session {
        if let Err(problem) = hub.store.end_session(session.digest).await {
            return visitor.refuse(problem).into_response();
        }
        hub.liveness.end(&session.digest);
        journal::acting(&Caller::Account(session.account.clone()), "session");
    }
    let issuer = visitor.session.as_ref().and_then(|session| session.issuer.as_deref());
    let place = match issuer.and_then(|issuer| hub.identities.farewell(issuer)) {
        Some(link) => format!("/signed-out?provider={}", link.name),
        // The way to sign in leads back in at once.
        None if issuer.is_some_and(is_front) => "/signed-out".to_owned(),
        None => "/sign-in".to_owned(),
    };
    let mut response = see_other(&place);
    if let Some(cookie) = cookies::write_for(cookies::SESSION, "", hub.origins.secure(), 0) {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}
