//! Everybody's workspaces, cut into pages and searched on the server.

use askama::Template;

use super::{Frame, Paging, RenderError, WorkspaceRow, assets, words};

/// What the page of all workspaces shows.
#[derive(Debug, Clone, Template)]
#[template(path = "admin_workspaces.html")]
pub struct View {
    /// The frame.
    pub frame: Frame,
    /// Which page of which search.
    pub paging: Paging,
    /// The workspaces on this page.
    pub rows: Vec<WorkspaceRow>,
}

/// Renders the page.
///
/// # Errors
/// Only when writing to memory fails.
pub fn render(view: &View) -> Result<String, RenderError> {
    view.render()
}
