//! After signing out here: the way to sign out at the provider too.

use askama::Template;

use super::sign_in::ProviderLink;
use super::{Frame, RenderError, assets};

/// What the page after signing out shows.
#[derive(Debug, Clone, Template)]
#[template(path = "signed_out.html")]
pub struct View {
    /// The frame, without a viewer.
    pub frame: Frame,
    /// The provider whose session goes on.
    pub provider: Option<ProviderLink>,
}

/// Renders the page.
///
/// # Errors
/// Only when writing to memory fails.
pub fn render(view: &View) -> Result<String, RenderError> {
    view.render()
}
