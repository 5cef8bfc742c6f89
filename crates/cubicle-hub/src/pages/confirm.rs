//! The page between a button that takes something away and its doing.

use askama::Template;
use cubicle_core::name::{TemplateName, UserId, UserName};
use cubicle_core::workspace::Workspace;

use super::{Frame, RenderError, assets, words};

/// What the confirmation page shows.
#[derive(Debug, Clone, Template)]
#[template(path = "confirm.html")]
pub struct View {
    /// The frame.
    pub frame: Frame,
    /// What would be done.
    pub action: Action,
}

/// What needs confirmation.
#[derive(Debug, Clone)]
pub enum Action {
    /// Delete a workspace, and with it perhaps the owner's home.
    DeleteWorkspace {
        /// Which one.
        workspace: Box<Workspace>,
        /// How many other workspaces the owner has: the home can go only with the last.
        others: usize,
        /// Bytes in the owner's home, when known.
        home: Option<u64>,
    },
    /// Delete a template.
    DeleteTemplate {
        /// Which one.
        name: TemplateName,
        /// How many workspaces were launched from it; they live on.
        workspaces: usize,
    },
    /// Disable an account.
    DisableUser {
        /// The identifier.
        id: UserId,
        /// The name.
        name: UserName,
        /// How many of its workspaces are live.
        live: usize,
    },
}

/// Renders the page.
///
/// # Errors
/// Only when writing to memory fails.
pub fn render(view: &View) -> Result<String, RenderError> {
    view.render()
}
