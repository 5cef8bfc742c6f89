//! All templates, with the YAML of one.

use askama::Template as _;
use cubicle_core::problem::Problem;
use cubicle_core::template::Template;

use super::{Frame, RenderError, assets, words};

/// What the templates page shows.
#[derive(Debug, Clone, askama::Template)]
#[template(path = "admin_templates.html")]
pub struct View {
    /// The frame.
    pub frame: Frame,
    /// All templates.
    pub templates: Vec<Template>,
    /// The name of the template whose YAML is in the text area; empty for a new one.
    pub selected: String,
    /// What the text area holds: the selected template, or what was refused.
    pub yaml: String,
    /// Why the last document was refused.
    pub problem: Option<Problem>,
}

/// Renders the page.
///
/// # Errors
/// Only when writing to memory fails.
pub fn render(view: &View) -> Result<String, RenderError> {
    view.render()
}
