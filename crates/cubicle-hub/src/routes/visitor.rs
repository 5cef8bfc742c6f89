//! Who looks at a page, and the forms that only they can have sent.

use std::sync::Arc;

use axum::extract::{Form, FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use cubicle_core::name::UserId;
use cubicle_core::problem::{Problem, ProblemKind};
use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{Refused, see_other};
use crate::api;
use crate::cookies;
use crate::hub::{Caller, Hub};
use crate::identity::{Person, Word};
use crate::journal;
use crate::notice::Notice;
use crate::origin::is_own_path;
use crate::pages::{Announcement, Frame, Viewer};
use crate::proxy::encode;
use crate::secret;
use crate::server::{Client, Host};
use crate::store::{Account, Session};

/// Somebody who looks at a page, signed in or not.
pub(crate) struct Visitor {
    /// The session, for who is signed in.
    pub(crate) session: Option<Session>,
    /// A session of this browser that does not count: a front says that somebody else uses it, or nothing.
    pub(crate) left: Option<Session>,
    /// Who it is, when a front says so.
    pub(crate) named: Option<Person>,
    /// The `Host` that was used.
    pub(crate) host: String,
    /// The client's address.
    pub(crate) address: std::net::IpAddr,
    /// The cookie that forms are bound to: the session's, or one for visitors.
    bound_to: SecretString,
    /// Sets the visitor's cookie, when it is new.
    new_cookie: Option<HeaderValue>,
    announcement: Option<Announcement>,
}

impl Visitor {
    async fn of(parts: &Parts, hub: &Hub) -> Result<Self, Problem> {
        let secure = hub.origins.secure();
        let (session, left) = match api::session(parts, hub).await? {
            Some((session, true)) => (Some(session), None),
            Some((session, false)) => (None, Some(session)),
            None => (None, None),
        };
        let named = parts.extensions.get::<Word>().and_then(|Word(person)| person.clone());
        let name = if session.is_some() { cookies::SESSION } else { cookies::VISITOR };
        let (bound_to, new_cookie) = match cookies::read(&parts.headers, name, secure) {
            Some(cookie) => (SecretString::from(cookie), None),
            None => {
                let fresh = secret::generate();
                let cookie = cookies::write(cookies::VISITOR, fresh.expose_secret(), secure);
                (fresh, cookie)
            }
        };
        let host = parts.extensions.get::<Host>().map(|Host(host)| host.clone()).unwrap_or_default();
        let address = parts
            .extensions
            .get::<Client>()
            .map_or(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), |Client(address)| *address);
        let announcement =
            hub.notices.seen().map(|Notice { text, maintenance, .. }| Announcement { text, maintenance });
        Ok(Self { session, left, named, host, address, bound_to, new_cookie, announcement })
    }

    /// What surrounds the page.
    pub(crate) fn frame(&self, notice: Option<String>) -> Frame {
        Frame {
            viewer: self
                .session
                .as_ref()
                .map(|session| Viewer { name: session.account.name.clone(), role: session.account.role.as_str() }),
            csrf: secret::form_token(self.bound_to.expose_secret()),
            now: Timestamp::now(),
            notice,
            announcement: self.announcement.clone(),
        }
    }

    /// Adds the visitor's cookie to an answer that holds a form.
    pub(crate) fn answer(&self, mut response: Response) -> Response {
        if let Some(cookie) = &self.new_cookie {
            response.headers_mut().append(header::SET_COOKIE, cookie.clone());
        }
        response
    }

    /// Gives up with a page that says why.
    pub(crate) fn refuse(self, problem: Problem) -> Refused {
        let status = crate::problem::status(problem.kind);
        self.refuse_with(status, problem)
    }

    /// Gives up with a page of this status.
    pub(crate) fn refuse_with(self, status: StatusCode, problem: Problem) -> Refused {
        Refused { visitor: Box::new(self), status, problem }
    }
}

impl FromRequestParts<Arc<Hub>> for Visitor {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, hub: &Arc<Hub>) -> Result<Self, Response> {
        Self::of(parts, hub)
            .await
            .map_err(|problem| super::refusal(&parts.headers, crate::problem::status(problem.kind), &problem))
    }
}

/// Somebody who is signed in; everybody else is sent to the sign-in page and back.
pub(crate) struct Member {
    /// As a visitor.
    pub(crate) visitor: Visitor,
    /// The account.
    pub(crate) account: Account,
}

impl Member {
    /// As a caller of the engine.
    pub(crate) fn caller(&self) -> Caller {
        Caller::Account(self.account.clone())
    }

    /// Gives up with a page that says why.
    pub(crate) fn refuse(self, problem: Problem) -> Refused {
        self.visitor.refuse(problem)
    }
}

impl FromRequestParts<Arc<Hub>> for Member {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, hub: &Arc<Hub>) -> Result<Self, Response> {
        let visitor = Visitor::from_request_parts(parts, hub).await?;
        match visitor.session.as_ref().map(|session| session.account.clone()) {
            Some(account) => {
                journal::acting(&Caller::Account(account.clone()), "session");
                Ok(Self { visitor, account })
            }
            None => Err(see_other(&sign_in_and_back(&parts.method, &parts.uri))),
        }
    }
}

fn sign_in_and_back(method: &axum::http::Method, uri: &Uri) -> String {
    let path = uri.path_and_query().map_or("/", |target| target.as_str());
    if *method == axum::http::Method::GET && path != "/" && is_own_path(path) {
        format!("/sign-in?next={}", encode(path))
    } else {
        "/sign-in".to_owned()
    }
}

/// An administrator; other people get a page that says so.
pub(crate) struct Administrator(pub(crate) Member);

impl FromRequestParts<Arc<Hub>> for Administrator {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, hub: &Arc<Hub>) -> Result<Self, Response> {
        let member = Member::from_request_parts(parts, hub).await?;
        match member.caller().require_admin() {
            Ok(()) => Ok(Self(member)),
            Err(problem) => Err(member.refuse(problem).into_response()),
        }
    }
}

/// Whoever may look at everything: administrators and auditors.
pub(crate) struct Observer(pub(crate) Member);

impl FromRequestParts<Arc<Hub>> for Observer {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, hub: &Arc<Hub>) -> Result<Self, Response> {
        let member = Member::from_request_parts(parts, hub).await?;
        match member.caller().require_sight() {
            Ok(()) => Ok(Self(member)),
            Err(problem) => Err(member.refuse(problem).into_response()),
        }
    }
}

impl Administrator {
    /// The account that a path names.
    pub(crate) async fn account(&self, hub: &Hub, id: &str) -> Result<Account, Problem> {
        let id: UserId = id.parse()?;
        let accounts = hub.store.accounts().await?;
        accounts
            .into_iter()
            .find(|account| account.id == id)
            .ok_or_else(|| Problem::not_found(format!("there is no user \"{id}\""), "look at the list of users"))
    }
}

/// The fields of a form that was made for this very visitor.
///
/// `fields` are all text, because that is what forms carry.
pub(crate) struct Posted<T>(pub(crate) T);

#[derive(Deserialize)]
struct Protected<T> {
    #[serde(default)]
    csrf: String,
    #[serde(flatten)]
    fields: T,
}

impl<T: DeserializeOwned> FromRequest<Arc<Hub>> for Posted<T> {
    type Rejection = Response;

    async fn from_request(request: Request, hub: &Arc<Hub>) -> Result<Self, Response> {
        let (mut parts, body) = request.into_parts();
        let visitor = Visitor::from_request_parts(&mut parts, hub).await?;
        let posted = Form::<Protected<T>>::from_request(Request::from_parts(parts, body), &()).await;
        let Form(Protected { csrf, fields }) = match posted {
            Ok(form) => form,
            Err(rejection) => {
                let problem =
                    Problem::bad_input("the form could not be read", "go back, load the page again and try once more");
                return Err(visitor.refuse_with(rejection.status(), problem).into_response());
            }
        };
        if visitor.new_cookie.is_some() || !secret::form_token_matches(visitor.bound_to.expose_secret(), &csrf) {
            let problem = Problem::new(
                ProblemKind::NotAllowed,
                "this form is too old, or was not made by this page",
                "go back, load the page again and try once more; cookies must be allowed",
            );
            return Err(visitor.refuse(problem).into_response());
        }
        Ok(Self(fields))
    }
}

/// A form without fields.
#[derive(Deserialize)]
pub(crate) struct NoFields {}
