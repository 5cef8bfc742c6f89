//! One's own API tokens.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use cubicle_core::problem::{Problem, ProblemKind};
use jiff::{SignedDuration, Timestamp};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use utoipa::openapi::path::HttpMethod;

use super::Authenticated;
use super::document::{Answer, Doc, Documented};
use super::input::{Input, Segment, Segments};
use crate::hub::{Caller, Hub};
use crate::journal;
use crate::problem::ApiProblem;
use crate::secret::{self, Digest, Purpose};
use crate::store::{Account, ApiToken, Scope};

/// The longest life of a token, in days.
const MOST_DAYS: u16 = 366;
/// How often the use of one token is noted.
const USE_NOTED: Duration = Duration::from_secs(60);

pub(super) fn routes(documented: Documented) -> Documented {
    documented
        .route(
            HttpMethod::Get,
            "/tokens",
            list,
            Doc {
                id: "list_tokens",
                summary: "Your API tokens, without their secrets.",
                answer: (200, Answer::List("Token")),
                ..Doc::NONE
            },
        )
        .route(
            HttpMethod::Post,
            "/tokens",
            add,
            Doc {
                id: "add_token",
                summary: "Makes an API token; its secret is shown this once. Only with a session, never with a token.",
                input: Some("NewToken"),
                answer: (201, Answer::Json("Token")),
                ..Doc::NONE
            },
        )
        .route(
            HttpMethod::Delete,
            "/tokens/{id}",
            delete,
            Doc { id: "delete_token", summary: "Ends an API token at once.", ..Doc::NONE },
        )
        .route(
            HttpMethod::Get,
            "/users/{name}/tokens",
            list_of,
            Doc {
                id: "list_tokens_of_user",
                summary: "An account's API tokens, without their secrets. For administrators.",
                answer: (200, Answer::List("Token")),
                ..Doc::NONE
            },
        )
        .route(
            HttpMethod::Post,
            "/users/{name}/tokens",
            add_for,
            Doc {
                id: "add_token_for_service",
                summary: "Makes an API token of a service account; its secret is shown this once. For administrators.",
                input: Some("NewToken"),
                answer: (201, Answer::Json("Token")),
                ..Doc::NONE
            },
        )
        .route(
            HttpMethod::Delete,
            "/users/{name}/tokens/{id}",
            delete_of,
            Doc {
                id: "delete_token_of_user",
                summary: "Ends anybody's API token at once. For administrators.",
                ..Doc::NONE
            },
        )
}

fn own(caller: Caller) -> Result<Account, Problem> {
    match caller {
        Caller::Account(account) => Ok(account),
        Caller::Root => Err(Problem::bad_input("root has no tokens", "use the socket, or sign in as a user")),
    }
}

async fn list(
    State(hub): State<Arc<Hub>>,
    Authenticated { caller, .. }: Authenticated,
) -> Result<Json<Vec<ApiToken>>, ApiProblem> {
    Ok(Json(hub.store.tokens(own(caller)?.id).await?))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewToken {
    name: String,
    scope: Scope,
    #[serde(default = "thirty")]
    days: u16,
}

fn thirty() -> u16 {
    30
}

#[derive(Debug, Serialize)]
struct Made {
    #[serde(flatten)]
    token: ApiToken,
    secret: String,
}

async fn add(
    State(hub): State<Arc<Hub>>,
    Authenticated { caller, session }: Authenticated,
    Input(input): Input<NewToken>,
) -> Result<Response, ApiProblem> {
    if session.is_none() {
        return Err(ApiProblem::from(by_hand_only()));
    }
    made(&hub, &own(caller)?, &input).await
}

async fn made(hub: &Hub, account: &Account, input: &NewToken) -> Result<Response, ApiProblem> {
    let (token, secret) = make(hub, account, &input.name, input.scope, input.days).await?;
    Ok((StatusCode::CREATED, Json(Made { token, secret: secret.expose_secret().to_owned() })).into_response())
}

/// Whoever steals a token must not be able to outlive its end.
fn by_hand_only() -> Problem {
    Problem::new(ProblemKind::NotAllowed, "a token cannot make tokens", "sign in on the hub's page and make it there")
}

async fn list_of(
    State(hub): State<Arc<Hub>>,
    Authenticated { caller, .. }: Authenticated,
    Segment(name): Segment,
) -> Result<Json<Vec<ApiToken>>, ApiProblem> {
    caller.require_admin()?;
    let account = hub.store.account(&name).await?;
    Ok(Json(hub.store.tokens(account.id).await?))
}

async fn add_for(
    State(hub): State<Arc<Hub>>,
    Authenticated { caller, session }: Authenticated,
    Segment(name): Segment,
    Input(input): Input<NewToken>,
) -> Result<Response, ApiProblem> {
    caller.require_admin()?;
    if session.is_none() && !matches!(caller, Caller::Root) {
        return Err(ApiProblem::from(by_hand_only()));
    }
    let account = hub.store.account(&name).await?;
    if !account.service {
        return Err(ApiProblem::from(Problem::new(
            ProblemKind::NotAllowed,
            format!("\"{}\" is a person, who alone makes tokens of their own", account.name),
            "make a service account for a program",
        )));
    }
    if account.disabled {
        return Err(ApiProblem::from(Problem::conflict(
            format!("the account \"{}\" is disabled", account.name),
            "enable it first",
        )));
    }
    made(&hub, &account, &input).await
}

async fn delete_of(
    State(hub): State<Arc<Hub>>,
    Authenticated { caller, .. }: Authenticated,
    Segments(name, id): Segments,
) -> Result<StatusCode, ApiProblem> {
    caller.require_admin()?;
    let account = hub.store.account(&name).await?;
    journal::about(format!("a token of {}", account.id));
    if hub.store.delete_token(account.id, id).await? {
        return Ok(StatusCode::NO_CONTENT);
    }
    Err(ApiProblem::from(Problem::not_found(
        format!("\"{}\" has no such token", account.name),
        "list them with GET /api/v1/users/NAME/tokens",
    )))
}

/// When tokens were last used, so that not every request writes it.
#[derive(Default)]
pub(crate) struct TokenUses {
    written: Mutex<HashMap<Digest, Instant>>,
}

impl TokenUses {
    /// Notes a use, once a minute for each token. What cannot be noted holds nothing up.
    pub(super) async fn note(&self, hub: &Hub, digest: Digest) {
        if self.is_due(digest, Instant::now())
            && let Err(problem) = hub.store.note_token_use(digest, Timestamp::now()).await
        {
            tracing::warn!(%problem, "the use of a token was not noted");
        }
    }

    fn is_due(&self, digest: Digest, now: Instant) -> bool {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        written.retain(|_, last| now.duration_since(*last) < USE_NOTED);
        match written.entry(digest) {
            Entry::Occupied(_) => false,
            Entry::Vacant(free) => {
                free.insert(now);
                true
            }
        }
    }
}

/// Names a token, opens nothing: the beginning of its digest.
pub(super) fn token_id(digest: &Digest) -> String {
    digest.text().chars().take(16).collect()
}

/// Makes a token for an account.
pub(crate) async fn make(
    hub: &Hub,
    account: &Account,
    name: &str,
    scope: Scope,
    days: u16,
) -> Result<(ApiToken, SecretString), Problem> {
    let name = name.trim();
    if name.is_empty() || name.chars().count() > 64 || name.chars().any(char::is_control) {
        return Err(Problem::bad_input(
            "a token's name is empty, longer than 64 characters or not plain text",
            "say what it is for",
        ));
    }
    if !(1..=MOST_DAYS).contains(&days) {
        return Err(Problem::bad_input(format!("a token lives {days} days; the rule is 1 to {MOST_DAYS}"), "use 30"));
    }
    let secret = SecretString::from(format!("cubicle_{}", secret::generate().expose_secret()));
    let digest = Digest::of(Purpose::Token, secret.expose_secret());
    let now = Timestamp::now();
    let token = ApiToken {
        id: token_id(&digest),
        name: name.to_owned(),
        scope,
        created_at: now,
        expires_at: now.saturating_add(SignedDuration::from_hours(24 * i64::from(days))).unwrap_or(Timestamp::MAX),
        used_at: None,
    };
    journal::about(format!("token {} ({}) of {}", token.id, scope.as_str(), account.id));
    hub.store.add_token(digest, account.id.clone(), token.clone()).await?;
    Ok((token, secret))
}

async fn delete(
    State(hub): State<Arc<Hub>>,
    Authenticated { caller, .. }: Authenticated,
    Segment(id): Segment,
) -> Result<StatusCode, ApiProblem> {
    if hub.store.delete_token(own(caller)?.id, id).await? {
        return Ok(StatusCode::NO_CONTENT);
    }
    Err(ApiProblem::from(Problem::not_found("there is no such token", "list them with GET /api/v1/tokens")))
}
