//! What the site tells everybody, to be changed.

use askama::Template;
use cubicle_core::problem::Problem;

use super::{Frame, RenderError, assets};

/// What the notice page shows.
#[derive(Debug, Clone, Template)]
#[template(path = "admin_notice.html")]
pub struct View {
    /// The frame.
    pub frame: Frame,
    /// The announcement.
    pub text: String,
    /// Whether the site is closed for launches.
    pub maintenance: bool,
    /// Why the last form was refused.
    pub problem: Option<Problem>,
}

/// Renders the page.
///
/// # Errors
/// Only when writing to memory fails.
pub fn render(view: &View) -> Result<String, RenderError> {
    view.render()
}
