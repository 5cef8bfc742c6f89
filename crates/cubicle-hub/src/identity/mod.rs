//! Who people are according to somebody else: OpenID Connect, or a front that has signed them in.
//!
//! Sources: OpenID Connect Core 1.0, Discovery 1.0, RP-Initiated Logout 1.0, Back-Channel Logout
//! 1.0; RFC 6749, RFC 7636, RFC 9207.

mod attempt;
mod caps_settings;
mod claims;
mod front;
mod front_settings;
mod portal_settings;
mod provider;
mod settings;
mod used;
mod web;

use axum::http::StatusCode;
use cubicle_core::problem::{Problem, ProblemKind};

pub(crate) use attempt::{Attempt, LIFETIME};
pub(crate) use claims::{Person, name_of};
pub(crate) use front::{Arrival, Front, Word, is_front};
pub use front_settings::FrontSettings;
pub use portal_settings::PortalSettings;
pub(crate) use provider::{Bearer, Provider, Returned};
pub use settings::{ProviderSettings, SignIn};

use crate::pages::sign_in::ProviderLink;

/// How people sign in here.
pub(crate) struct Identities {
    /// Whether name and password are taken.
    pub(crate) passwords: bool,
    /// Who has signed people in before they come here.
    pub(crate) front: Option<Front>,
    providers: Vec<Provider>,
}

impl Identities {
    /// Prepares the providers; none of them is asked yet.
    pub(crate) fn new(settings: &SignIn) -> Result<Self, Problem> {
        let providers = settings.providers.iter().map(Provider::new).collect::<Result<_, _>>()?;
        let front = settings.front.clone().map(|settings| Front { settings });
        Ok(Self { passwords: settings.passwords, front, providers })
    }

    /// The provider of this name.
    pub(crate) fn provider(&self, name: &str) -> Result<&Provider, Problem> {
        self.providers.iter().find(|provider| provider.settings.name == name).ok_or_else(|| {
            Problem::not_found("there is no such provider of identities here", "go back and choose one that is shown")
        })
    }

    /// The provider with this issuer.
    pub(crate) fn of_issuer(&self, issuer: &str) -> Option<&Provider> {
        self.providers.iter().find(|provider| provider.settings.issuer == issuer)
    }

    /// Names of the providers that did not answer when they were last asked.
    pub(crate) fn silent(&self) -> Vec<&str> {
        let silent = self.providers.iter().filter(|provider| !provider.answered());
        silent.map(|provider| provider.settings.name.as_str()).collect()
    }

    /// Where a session that this issuer vouched for can be ended, too.
    pub(crate) fn farewell(&self, issuer: &str) -> Option<ProviderLink> {
        match &self.front {
            Some(front) if is_front(issuer) => front.link(),
            _ => self.of_issuer(issuer).map(Provider::link),
        }
    }

    /// What the sign-in page links.
    pub(crate) fn links(&self) -> Vec<ProviderLink> {
        self.providers.iter().map(Provider::link).collect()
    }
}

/// Refuses who is in none of the groups that may use this site.
fn require_group(required: &[String], title: &str, person: &Person) -> Result<(), Failure> {
    if required.is_empty() || required.iter().any(|group| person.groups.contains(group)) {
        return Ok(());
    }
    Err(Failure {
        status: StatusCode::FORBIDDEN,
        problem: Problem::new(
            ProblemKind::NotAllowed,
            format!("{title} knows you, but you are in no group that may use this site"),
            "ask an administrator to be let in",
        ),
    })
}

/// Why nobody was signed in, with the status that says whose fault it is.
#[derive(Debug)]
pub(crate) struct Failure {
    /// 502 and 504 when the provider fails, 400 to 403 when what came by way of the browser does.
    pub(crate) status: StatusCode,
    /// What to tell the person.
    pub(crate) problem: Problem,
}

impl Failure {
    fn of_provider(status: StatusCode, what: String) -> Self {
        let remedy = "try again in a minute; if it stays like this, tell an administrator";
        Self { status, problem: Problem::engine(what, remedy) }
    }

    /// What came does not prove who somebody is.
    pub(crate) fn unproven(what: impl Into<String>) -> Self {
        Self {
            status: StatusCode::UNAUTHORIZED,
            problem: Problem::new(ProblemKind::NotAllowed, what, "sign in again from the beginning"),
        }
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self { status: crate::problem::status(problem.kind), problem }
    }
}
