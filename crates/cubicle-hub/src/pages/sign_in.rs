//! Name and password.

use askama::Template;
use cubicle_core::problem::Problem;

use super::{Frame, RenderError, assets};

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
    /// Why signing in failed. Must not tell whether the name exists.
    pub problem: Option<Problem>,
}

/// Renders the page.
///
/// # Errors
/// Only when writing to memory fails.
pub fn render(view: &View) -> Result<String, RenderError> {
    view.render()
}
