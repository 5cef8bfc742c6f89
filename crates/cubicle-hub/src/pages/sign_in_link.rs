//! A one-time link was followed: one button signs in. A link that signed in by itself would be
//! used up by whatever previews it.

use askama::Template;
use cubicle_core::name::UserName;

use super::{Frame, RenderError, assets};

/// What the page behind a one-time link shows.
#[derive(Debug, Clone, Template)]
#[template(path = "sign_in_link.html")]
pub struct View {
    /// The frame, without a viewer.
    pub frame: Frame,
    /// Whom it signs in.
    pub name: UserName,
    /// The link's secret, posted back.
    pub token: String,
    /// Where to go afterwards: a path on this origin that the hub has checked.
    pub next: String,
}

/// Renders the page.
///
/// # Errors
/// Only when writing to memory fails.
pub fn render(view: &View) -> Result<String, RenderError> {
    view.render()
}
