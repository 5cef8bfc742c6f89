//! Accounts, for administrators.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use cubicle_core::problem::Problem;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::openapi::path::HttpMethod;

use super::Authenticated;
use super::document::{Answer, Doc, Documented};
use super::input::{Input, Segment};
use crate::hub::{Caller, Hub};
use crate::journal;
use crate::problem::ApiProblem;
use crate::server::Host;
use crate::store::{Account, NewAccount, Role};

pub(super) fn routes(documented: Documented) -> Documented {
    let shown = (200, Answer::Json("User"));
    documented
        .route(
            HttpMethod::Get,
            "/users",
            list,
            Doc {
                id: "list_users",
                summary: "All accounts, by name. For administrators.",
                answer: (200, Answer::List("User")),
                ..Doc::NONE
            },
        )
        .route(
            HttpMethod::Post,
            "/users",
            add,
            Doc {
                id: "add_user",
                summary: "Makes an account; a person's signs in with a link first. For administrators.",
                input: Some("NewUser"),
                answer: (201, Answer::Json("User")),
                ..Doc::NONE
            },
        )
        .route(
            HttpMethod::Get,
            "/users/me",
            me,
            Doc { id: "show_me", summary: "The account that asks.", answer: shown, ..Doc::NONE },
        )
        .route(
            HttpMethod::Get,
            "/users/{name}",
            show,
            Doc {
                id: "show_user",
                summary: "One account. For administrators, and for one's own.",
                answer: shown,
                ..Doc::NONE
            },
        )
        .route(
            HttpMethod::Post,
            "/users/{name}/disable",
            disable,
            Doc {
                id: "disable_user",
                summary: "Closes an account: its sessions end at once. For administrators.",
                answer: shown,
                ..Doc::NONE
            },
        )
        .route(
            HttpMethod::Post,
            "/users/{name}/enable",
            enable,
            Doc {
                id: "enable_user",
                summary: "Opens a disabled account again. For administrators.",
                answer: shown,
                ..Doc::NONE
            },
        )
        .route(
            HttpMethod::Post,
            "/users/{name}/sign-in-link",
            sign_in_link,
            Doc {
                id: "make_sign_in_link",
                summary: "Makes a link that signs the user in once, within 30 minutes. For administrators.",
                answer: (200, Answer::Json("SignInLink")),
                ..Doc::NONE
            },
        )
}

/// An account as the interface shows it.
#[derive(Debug, Serialize)]
struct UserView {
    id: String,
    name: String,
    admin: bool,
    role: Role,
    disabled: bool,
    groups: Vec<String>,
    /// For programs: nobody signs in to it.
    service: bool,
    /// Who vouches for the person; none for a local account.
    issuer: Option<String>,
    created_at: Timestamp,
}

impl From<Account> for UserView {
    fn from(account: Account) -> Self {
        Self {
            id: account.id.into(),
            name: account.name.into(),
            admin: account.role == Role::Admin,
            role: account.role,
            disabled: account.disabled,
            groups: account.groups,
            service: account.service,
            issuer: account.identity.map(|identity| identity.issuer),
            created_at: account.created_at,
        }
    }
}

async fn list(
    State(hub): State<Arc<Hub>>,
    Authenticated { caller, .. }: Authenticated,
) -> Result<Json<Vec<UserView>>, ApiProblem> {
    caller.require_admin()?;
    Ok(Json(hub.store.accounts().await?.into_iter().map(UserView::from).collect()))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewUser {
    name: String,
    /// The same as role `admin`.
    #[serde(default)]
    admin: bool,
    #[serde(default)]
    role: Role,
    #[serde(default)]
    groups: Vec<String>,
    /// For programs.
    #[serde(default)]
    service: bool,
}

async fn add(
    State(hub): State<Arc<Hub>>,
    Authenticated { caller, .. }: Authenticated,
    Input(input): Input<NewUser>,
) -> Result<Response, ApiProblem> {
    caller.require_admin()?;
    let plain = |group: &String| {
        !group.is_empty() && group.chars().count() <= 64 && !group.chars().any(|c| c.is_control() || c.is_whitespace())
    };
    if input.groups.len() > 64 || !input.groups.iter().all(plain) {
        return Err(ApiProblem::from(Problem::bad_input(
            "a group's name is empty, longer than 64 characters or has white space, or there are more than 64 groups",
            "use short plain names",
        )));
    }
    journal::about(input.name.clone());
    let role = if input.admin { Role::Admin } else { input.role };
    let new =
        NewAccount { groups: input.groups, service: input.service, ..NewAccount::local(input.name.parse()?, role) };
    let account = hub.store.add_account(new).await?;
    Ok((StatusCode::CREATED, Json(UserView::from(account))).into_response())
}

async fn me(Authenticated { caller, .. }: Authenticated) -> Result<Json<UserView>, ApiProblem> {
    match caller {
        Caller::Account(account) => Ok(Json(account.into())),
        Caller::Root => Err(ApiProblem::from(Problem::not_found("root has no account", "name a user instead"))),
    }
}

async fn show(
    State(hub): State<Arc<Hub>>,
    Authenticated { caller, .. }: Authenticated,
    Segment(name): Segment,
) -> Result<Json<UserView>, ApiProblem> {
    if let Caller::Account(account) = &caller
        && account.name.as_str() == name
    {
        return Ok(Json(account.clone().into()));
    }
    caller.require_admin()?;
    Ok(Json(hub.store.account(&name).await?.into()))
}

async fn set_disabled(hub: &Hub, caller: &Caller, name: &str, disabled: bool) -> Result<Json<UserView>, ApiProblem> {
    caller.require_admin()?;
    let account = hub.store.account(name).await?;
    refuse_own(caller, &account)?;
    hub.set_disabled(&account, disabled).await?;
    Ok(Json(hub.store.account(name).await?.into()))
}

/// An administrator who disables the own account could lock everybody out.
pub(crate) fn refuse_own(caller: &Caller, account: &Account) -> Result<(), Problem> {
    match caller {
        Caller::Account(own) if own.id == account.id => Err(Problem::conflict(
            "this is your own account",
            "ask another administrator, or use the command line as root",
        )),
        _ => Ok(()),
    }
}

async fn disable(
    State(hub): State<Arc<Hub>>,
    Authenticated { caller, .. }: Authenticated,
    Segment(name): Segment,
) -> Result<Json<UserView>, ApiProblem> {
    set_disabled(&hub, &caller, &name, true).await
}

async fn enable(
    State(hub): State<Arc<Hub>>,
    Authenticated { caller, .. }: Authenticated,
    Segment(name): Segment,
) -> Result<Json<UserView>, ApiProblem> {
    set_disabled(&hub, &caller, &name, false).await
}

#[derive(Debug, Serialize)]
struct SignInLink {
    url: String,
    expires_at: Timestamp,
}

async fn sign_in_link(
    State(hub): State<Arc<Hub>>,
    host: Option<axum::Extension<Host>>,
    Authenticated { caller, .. }: Authenticated,
    Segment(name): Segment,
) -> Result<Json<SignInLink>, ApiProblem> {
    caller.require_admin()?;
    let account = hub.store.account(&name).await?;
    let host = host.as_ref().map(|axum::Extension(Host(host))| host.as_str());
    let (url, expires_at) = hub.sign_in_link(&account, host).await?;
    Ok(Json(SignInLink { url, expires_at }))
}
