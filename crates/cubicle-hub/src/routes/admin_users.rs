//! Accounts, for administrators.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use cubicle_core::name::UserId;
use cubicle_core::problem::Problem;
use serde::Deserialize;

use super::rows::{ListQuery, notice};
use super::visitor::{Administrator, NoFields, Posted};
use super::{see_other, shown};
use crate::api::refuse_own;
use crate::hub::Hub;
use crate::journal;
use crate::pages::{self, admin_users::NewLink};
use crate::store::{NewAccount, Role};

/// The administrator's first page.
pub(super) async fn index(_: Administrator) -> Response {
    see_other("/admin/users")
}

/// All accounts.
pub(super) async fn show(
    State(hub): State<Arc<Hub>>,
    administrator: Administrator,
    Query(query): Query<ListQuery>,
) -> Response {
    page(&hub, administrator, StatusCode::OK, &query, Extra::default()).await
}

/// What a form added to the page.
#[derive(Default)]
struct Extra {
    new_link: Option<NewLink>,
    problem: Option<Problem>,
    typed_name: String,
}

async fn page(
    hub: &Hub,
    Administrator(member): Administrator,
    status: StatusCode,
    query: &ListQuery,
    extra: Extra,
) -> Response {
    let accounts = match hub.store.accounts().await {
        Ok(accounts) => accounts,
        Err(problem) => return member.refuse(problem).into_response(),
    };
    let mut counts: HashMap<UserId, usize> = HashMap::new();
    // The list of accounts is worth showing even when the engine does not answer.
    for workspace in hub.engine.workspaces().await.unwrap_or_default() {
        *counts.entry(workspace.owner.id).or_default() += 1;
    }
    let (paging, accounts) = query.cut(accounts, |account| format!("{} {}", account.id, account.name));
    let users = accounts
        .into_iter()
        .map(|account| pages::admin_users::UserRow {
            workspaces: counts.get(&account.id).copied().unwrap_or_default(),
            id: account.id,
            name: account.name,
            role: account.role.as_str(),
            by_provider: account.identity.is_some(),
            disabled: account.disabled,
            has_password: account.has_password,
            created_at: account.created_at,
        })
        .collect();
    let view = pages::admin_users::View {
        frame: member.visitor.frame(notice(&query.done)),
        paging,
        users,
        new_link: extra.new_link,
        problem: extra.problem,
        typed_name: extra.typed_name,
    };
    shown(status, pages::admin_users::render(&view))
}

#[derive(Deserialize)]
pub(super) struct NewUser {
    name: String,
    #[serde(default)]
    role: Role,
}

/// Makes an account and shows its first sign-in link.
pub(super) async fn add(
    State(hub): State<Arc<Hub>>,
    administrator: Administrator,
    Posted(form): Posted<NewUser>,
) -> Response {
    let host = administrator.0.visitor.host.clone();
    journal::about(form.name.clone());
    let made = async {
        let account = hub.store.add_account(NewAccount::local(form.name.trim().parse()?, form.role)).await?;
        new_link(&hub, &account, &host).await
    };
    let (status, extra) = match made.await {
        Ok(link) => (StatusCode::OK, Extra { new_link: Some(link), ..Extra::default() }),
        Err(problem) => (
            crate::problem::status(problem.kind),
            Extra { problem: Some(problem), typed_name: form.name.chars().take(64).collect(), ..Extra::default() },
        ),
    };
    page(&hub, administrator, status, &ListQuery::default(), extra).await
}

async fn new_link(hub: &Hub, account: &crate::store::Account, host: &str) -> Result<NewLink, Problem> {
    let (url, expires_at) = hub.sign_in_link(account, Some(host)).await?;
    Ok(NewLink { name: account.name.clone(), url, expires_at })
}

/// Makes a sign-in link and shows it, once.
pub(super) async fn sign_in_link(
    State(hub): State<Arc<Hub>>,
    administrator: Administrator,
    Path(id): Path<String>,
    Posted(NoFields {}): Posted<NoFields>,
) -> Response {
    let host = administrator.0.visitor.host.clone();
    let made = async { new_link(&hub, &administrator.account(&hub, &id).await?, &host).await };
    let (status, extra) = match made.await {
        Ok(link) => (StatusCode::OK, Extra { new_link: Some(link), ..Extra::default() }),
        Err(problem) => (crate::problem::status(problem.kind), Extra { problem: Some(problem), ..Extra::default() }),
    };
    page(&hub, administrator, status, &ListQuery::default(), extra).await
}

/// Asks before disabling.
pub(super) async fn confirm_disable(
    State(hub): State<Arc<Hub>>,
    administrator: Administrator,
    Path(id): Path<String>,
) -> Response {
    let account = match administrator.account(&hub, &id).await {
        Ok(account) => account,
        Err(problem) => return administrator.0.refuse(problem).into_response(),
    };
    let workspaces = hub.engine.workspaces().await.unwrap_or_default();
    let live =
        workspaces.iter().filter(|workspace| workspace.owner.id == account.id && workspace.state.is_live()).count();
    let action = pages::confirm::Action::DisableUser { id: account.id, name: account.name, live };
    let view = pages::confirm::View { frame: administrator.0.visitor.frame(None), action };
    shown(StatusCode::OK, pages::confirm::render(&view))
}

/// Closes an account.
pub(super) async fn disable(
    State(hub): State<Arc<Hub>>,
    administrator: Administrator,
    Path(id): Path<String>,
    Posted(NoFields {}): Posted<NoFields>,
) -> Response {
    let done = async {
        let account = administrator.account(&hub, &id).await?;
        refuse_own(&administrator.0.caller(), &account)?;
        hub.set_disabled(&account, true).await
    };
    match done.await {
        Ok(()) => see_other("/admin/users?done=disabled"),
        Err(problem) => administrator.0.refuse(problem).into_response(),
    }
}

/// Opens a disabled account again.
pub(super) async fn enable(
    State(hub): State<Arc<Hub>>,
    administrator: Administrator,
    Path(id): Path<String>,
    Posted(NoFields {}): Posted<NoFields>,
) -> Response {
    let done = async { hub.set_disabled(&administrator.account(&hub, &id).await?, false).await };
    match done.await {
        Ok(()) => see_other("/admin/users?done=enabled"),
        Err(problem) => administrator.0.refuse(problem).into_response(),
    }
}
