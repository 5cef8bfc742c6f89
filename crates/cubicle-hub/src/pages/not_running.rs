//! What a workspace's own origin answers while no notebook stands behind it. The hub's cookie
//! is not valid there, so this page holds links only.

use askama::Template;
use cubicle_core::workspace::State;

use super::{RenderError, assets, words};

/// What the page says.
#[derive(Debug, Clone, Template)]
#[template(path = "not_running.html")]
pub struct View {
    /// The state, if the viewer may know it; none for a stranger or an unknown workspace.
    pub state: Option<State>,
    /// The workspace's page on the hub, or the hub's home; absolute.
    pub hub_link: String,
}

/// Renders the page.
///
/// # Errors
/// Only when writing to memory fails.
pub fn render(view: &View) -> Result<String, RenderError> {
    view.render()
}
