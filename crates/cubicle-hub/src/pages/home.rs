//! One's own workspaces and the gallery of templates.

use askama::Template as _;
use cubicle_core::problem::Problem;
use cubicle_core::template::Template;
use cubicle_core::workspace::State;

use super::{Frame, Paging, RenderError, WorkspaceRow, assets, words};

/// What the home page shows.
#[derive(Debug, Clone, askama::Template)]
#[template(path = "home.html")]
pub struct View {
    /// The frame.
    pub frame: Frame,
    /// Which page of which search; the search is offered only when one page is not enough.
    pub paging: Paging,
    /// The viewer's workspaces on this page, newest first.
    pub rows: Vec<WorkspaceRow>,
    /// The templates that the viewer may launch.
    pub templates: Vec<Template>,
    /// Why the last launch was not accepted.
    pub problem: Option<Problem>,
}

/// Renders the page.
///
/// # Errors
/// Only when writing to memory fails.
pub fn render(view: &View) -> Result<String, RenderError> {
    view.render()
}
