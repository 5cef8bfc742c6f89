//! One's own account: password and API tokens.

use askama::Template;
use cubicle_core::problem::Problem;
use jiff::Timestamp;

use super::{Frame, RenderError, assets, words};

/// What the account page shows.
#[derive(Debug, Clone, Template)]
#[template(path = "account.html")]
pub struct View {
    /// The frame; its viewer is whose account this is.
    pub frame: Frame,
    /// Whether a password is set; without one, only sign-in links work.
    pub has_password: bool,
    /// Why the last form was refused.
    pub problem: Option<Problem>,
    /// The API tokens.
    pub tokens: Vec<TokenRow>,
    /// The scopes that a new token may have, the least powerful first.
    pub scopes: Vec<String>,
    /// A token that was just made: shown this once.
    pub new_token: Option<String>,
}

/// One API token, without its secret.
#[derive(Debug, Clone)]
pub struct TokenRow {
    /// What its delete form names.
    pub id: String,
    /// What its owner calls it.
    pub name: String,
    /// `read`, `use` or whatever the hub's scopes are called.
    pub scope: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it stops working.
    pub expires_at: Timestamp,
    /// When it was last used, to the minute.
    pub used_at: Option<Timestamp>,
}

/// Renders the page.
///
/// # Errors
/// Only when writing to memory fails.
pub fn render(view: &View) -> Result<String, RenderError> {
    view.render()
}
