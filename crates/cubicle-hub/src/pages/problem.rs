//! Anything that could not be done: what and remedy.

use askama::Template;
use cubicle_core::problem::Problem;

use super::{Frame, RenderError, assets};

/// What the error page shows.
#[derive(Debug, Clone, Template)]
#[template(path = "problem.html")]
pub struct View {
    /// The frame.
    pub frame: Frame,
    /// The HTTP status.
    pub status: u16,
    /// What went wrong, and what the reader can do.
    pub problem: Problem,
}

impl View {
    /// Whether the way out is to sign in, by another way perhaps.
    fn leads_to_sign_in(&self) -> bool {
        self.frame.viewer.is_none() && matches!(self.status, 401 | 502 | 504)
    }

    fn heading(&self) -> &'static str {
        match self.status {
            400 | 413 | 415 | 422 => "That could not be understood",
            401 => "Please sign in",
            403 => "That is not allowed",
            404 => "There is nothing here",
            405 | 409 => "That cannot be done now",
            429 => "Too many tries",
            503 => "There is no room for it now",
            _ => "Something went wrong",
        }
    }
}

/// Renders the page.
///
/// # Errors
/// Only when writing to memory fails.
pub fn render(view: &View) -> Result<String, RenderError> {
    view.render()
}
