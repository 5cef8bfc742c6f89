//! One's own account.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use cubicle_core::problem::{Problem, ProblemKind};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

use super::rows::{ListQuery, notice};
use super::visitor::{Member, NoFields, Posted};
use super::{see_other, shown};
use crate::api::make_token;
use crate::hub::Hub;
use crate::pages;
use crate::store::Scope;

/// Password and tokens.
pub(super) async fn show(State(hub): State<Arc<Hub>>, member: Member, Query(query): Query<ListQuery>) -> Response {
    page(&hub, member, StatusCode::OK, notice(&query.done), None, None).await
}

async fn page(
    hub: &Hub,
    member: Member,
    status: StatusCode,
    notice: Option<String>,
    problem: Option<Problem>,
    new_token: Option<String>,
) -> Response {
    let tokens = match hub.store.tokens(member.account.id.clone()).await {
        Ok(tokens) => tokens,
        Err(problem) => return member.refuse(problem).into_response(),
    };
    let tokens = tokens
        .into_iter()
        .map(|token| pages::account::TokenRow {
            id: token.id,
            name: token.name,
            scope: token.scope.as_str().to_owned(),
            created_at: token.created_at,
            expires_at: token.expires_at,
            used_at: token.used_at,
        })
        .collect();
    let view = pages::account::View {
        frame: member.visitor.frame(notice),
        has_password: member.account.has_password,
        problem,
        tokens,
        scopes: [Scope::Read, Scope::Write].map(|scope| scope.as_str().to_owned()).to_vec(),
        new_token,
    };
    shown(status, pages::account::render(&view))
}

#[derive(Deserialize)]
pub(super) struct NewPassword {
    #[serde(default)]
    current: SecretString,
    password: SecretString,
    repeat: SecretString,
}

/// Sets or changes the password.
pub(super) async fn set_password(
    State(hub): State<Arc<Hub>>,
    member: Member,
    Posted(given): Posted<NewPassword>,
) -> Response {
    match change(&hub, &member, given).await {
        Ok(()) => see_other("/account?done=password"),
        Err(problem) => {
            let status = crate::problem::status(problem.kind);
            page(&hub, member, status, None, Some(problem), None).await
        }
    }
}

async fn change(hub: &Hub, member: &Member, given: NewPassword) -> Result<(), Problem> {
    if given.password.expose_secret() != given.repeat.expose_secret() {
        return Err(Problem::bad_input("the two new passwords differ", "type the same one twice"));
    }
    let found = hub.store.account_with_password(member.account.name.clone()).await?;
    // Whoever found an open browser must not be able to keep the account.
    if let Some((_, Some(hash))) = found {
        let key = member.account.name.key();
        hub.limits.attempt(&key, member.visitor.address)?;
        if !hub.passwords.check(Some(hash), given.current).await? {
            return Err(Problem::new(ProblemKind::NotAllowed, "the present password is wrong", "try again"));
        }
        hub.limits.succeeded(&key, member.visitor.address);
    }
    let hash = hub.passwords.hash(given.password).await?;
    hub.store.set_password(member.account.id.clone(), hash).await?;
    if let Some(session) = &member.visitor.session {
        for ended in hub.store.end_other_sessions(member.account.id.clone(), session.digest).await? {
            hub.liveness.end(&ended);
        }
    }
    Ok(())
}

#[derive(Deserialize)]
pub(super) struct NewToken {
    name: String,
    scope: String,
    days: String,
}

/// Makes an API token and shows its secret, once.
pub(super) async fn add_token(
    State(hub): State<Arc<Hub>>,
    member: Member,
    Posted(given): Posted<NewToken>,
) -> Response {
    let made = async {
        let days = given
            .days
            .trim()
            .parse()
            .map_err(|_| Problem::bad_input("the number of days is not one", "use 1 to 366"))?;
        make_token(&hub, &member.account, &given.name, given.scope.parse()?, days).await
    };
    match made.await {
        Ok((_, secret)) => {
            page(&hub, member, StatusCode::OK, None, None, Some(secret.expose_secret().to_owned())).await
        }
        Err(problem) => {
            let status = crate::problem::status(problem.kind);
            page(&hub, member, status, None, Some(problem), None).await
        }
    }
}

/// Ends an API token.
pub(super) async fn delete_token(
    State(hub): State<Arc<Hub>>,
    member: Member,
    Path(id): Path<String>,
    Posted(NoFields {}): Posted<NoFields>,
) -> Response {
    match hub.store.delete_token(member.account.id.clone(), id).await {
        Ok(_) => see_other("/account?done=token-deleted"),
        Err(problem) => member.refuse(problem).into_response(),
    }
}
