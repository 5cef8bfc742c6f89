//! All accounts: add, disable, make a one-time sign-in link.

use askama::Template;
use cubicle_core::name::{UserId, UserName};
use cubicle_core::problem::Problem;
use jiff::Timestamp;

use super::{Frame, Paging, RenderError, assets, words};

/// What the users page shows.
#[derive(Debug, Clone, Template)]
#[template(path = "admin_users.html")]
pub struct View {
    /// The frame.
    pub frame: Frame,
    /// Which page of which search.
    pub paging: Paging,
    /// The accounts on this page.
    pub users: Vec<UserRow>,
    /// A link that was just made: shown this once.
    pub new_link: Option<NewLink>,
    /// Why the last form was refused.
    pub problem: Option<Problem>,
    /// What the form for a new user held when it was refused.
    pub typed_name: String,
}

/// One account.
#[derive(Debug, Clone)]
pub struct UserRow {
    /// The identifier, used in paths.
    pub id: UserId,
    /// The name.
    pub name: UserName,
    /// What it may do: `admin`, `auditor` or `user`.
    pub role: &'static str,
    /// Whether a provider vouches for it.
    pub by_provider: bool,
    /// Whether it may not sign in.
    pub disabled: bool,
    /// Whether it has a password.
    pub has_password: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// How many workspaces it has.
    pub workspaces: usize,
}

/// A one-time sign-in link.
#[derive(Debug, Clone)]
pub struct NewLink {
    /// Whom it signs in.
    pub name: UserName,
    /// The link. A secret: whoever has it is that user.
    pub url: String,
    /// When it stops working.
    pub expires_at: Timestamp,
}

/// Renders the page.
///
/// # Errors
/// Only when writing to memory fails.
pub fn render(view: &View) -> Result<String, RenderError> {
    view.render()
}
