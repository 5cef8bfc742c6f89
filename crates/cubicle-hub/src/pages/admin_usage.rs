//! Who used how much from one day to another.

use askama::Template;

use super::{Frame, RenderError, assets};

/// What the usage page shows.
#[derive(Debug, Clone, Template)]
#[template(path = "admin_usage.html")]
pub struct View {
    /// The frame.
    pub frame: Frame,
    /// The first day, YYYY-MM-DD.
    pub from: String,
    /// The last day.
    pub to: String,
    /// What costs are in; empty when the site names no prices.
    pub currency: String,
    /// The accounts that used anything, the most expensive first.
    pub users: Vec<Row>,
}

/// What one account used.
#[derive(Debug, Clone)]
pub struct Row {
    /// Its name; its identifier when it is gone.
    pub name: String,
    /// Hours: of workspaces, of CPUs set aside, of processor time used, of GiB of memory, of GiB of
    /// storage.
    pub amounts: [f64; 5],
    /// What that costs.
    pub cost: Option<f64>,
}

impl View {
    /// What everybody's costs are together.
    fn cost(&self) -> f64 {
        self.users.iter().filter_map(|row| row.cost).sum()
    }
}

fn short(amount: impl std::borrow::Borrow<f64>) -> String {
    let amount = amount.borrow();
    format!("{amount:.2}")
}

/// Renders the page.
///
/// # Errors
/// Only when writing to memory fails.
pub fn render(view: &View) -> Result<String, RenderError> {
    view.render()
}
