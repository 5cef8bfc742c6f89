//! Name and password.

use askama::Template;
use cubicle_core::problem::Problem;

use super::{Frame, RenderError, assets, words};

/// What the sign-in page shows.
#[derive(Debug, Clone, Template)]
#[template(path = "sign_in.html")]
pub struct View {
    /// The frame, without a viewer.
    pub frame: Frame,
    /// What was typed as name.
    pub name: String,
    /// Where to go afterwards: a path on this origin that the hub has checked.
    pub next: String,
    /// Whether name and password are taken.
    pub passwords: bool,
    /// Who else vouches for people.
    pub providers: Vec<ProviderLink>,
    /// Why signing in failed. Must not tell whether the name exists.
    pub problem: Option<Problem>,
}

/// A provider of identities.
#[derive(Debug, Clone)]
pub struct ProviderLink {
    /// Its name in addresses.
    pub name: String,
    /// What it is called.
    pub title: String,
}

/// Renders the page.
///
/// # Errors
/// Only when writing to memory fails.
pub fn render(view: &View) -> Result<String, RenderError> {
    view.render()
}
