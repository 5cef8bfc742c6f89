//! What this machine can enforce, as `cubicle doctor` finds it.

use askama::Template;
use cubicle_core::engine::{DoctorFinding, DoctorStatus};

use super::{Frame, RenderError, assets};

/// What the machine page shows.
#[derive(Debug, Clone, Template)]
#[template(path = "admin_machine.html")]
pub struct View {
    /// The frame.
    pub frame: Frame,
    /// The findings.
    pub findings: Vec<DoctorFinding>,
}

impl View {
    fn missing(&self) -> usize {
        self.findings.iter().filter(|finding| finding.required && finding.status != DoctorStatus::Available).count()
    }
}

/// The badge's class, sign and word.
fn badge(finding: &DoctorFinding) -> (&'static str, &'static str, &'static str) {
    match finding.status {
        DoctorStatus::Available => ("good", "✓", "available"),
        DoctorStatus::Absent if finding.required => ("bad", "✕", "absent"),
        DoctorStatus::Absent => ("quiet", "–", "absent"),
        DoctorStatus::Untested => ("busy", "?", "untested"),
    }
}

/// Renders the page.
///
/// # Errors
/// Only when writing to memory fails.
pub fn render(view: &View) -> Result<String, RenderError> {
    view.render()
}
