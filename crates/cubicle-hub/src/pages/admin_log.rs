//! Who did what, for administrators and auditors.

use askama::Template;
use jiff::Timestamp;

use super::{Frame, Paging, RenderError, assets, words};
use crate::journal::Entry;

/// What the page shows.
#[derive(Debug, Clone, Template)]
#[template(path = "admin_log.html")]
pub struct View {
    /// The frame.
    pub frame: Frame,
    /// Which page of which search.
    pub paging: Paging,
    /// The entries on this page, newest first.
    pub rows: Vec<Row>,
}

/// What somebody did or was refused.
#[derive(Debug, Clone)]
pub struct Row {
    /// When.
    pub time: Timestamp,
    /// The account's identifier.
    pub actor: String,
    /// What it is called.
    pub name: String,
    /// How it was known: a session, a token, the administrator's socket.
    pub via: String,
    /// Where from.
    pub address: String,
    /// Method and route.
    pub action: String,
    /// To what.
    pub target: String,
    /// The answer's HTTP status.
    pub status: u16,
}

impl From<Entry> for Row {
    fn from(entry: Entry) -> Self {
        let Entry { time, actor, name, via, address, action, target, status } = entry;
        Self { time, actor, name, via, address, action, target, status }
    }
}

/// Renders the page.
///
/// # Errors
/// Only when writing to memory fails.
pub fn render(view: &View) -> Result<String, RenderError> {
    view.render()
}
