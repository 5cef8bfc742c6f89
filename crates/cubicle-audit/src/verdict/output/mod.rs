//! A report in the forms that other programs read.

mod html;
mod junit;
mod policy_report;
mod sarif;

use std::collections::HashMap;

use cubicle_core::report::Verdict;

use super::Finding;

pub use html::html;
pub use junit::junit;
pub use policy_report::policy_report;
pub use sarif::sarif;

/// Findings with one cause at many objects.
#[derive(Debug, Clone)]
pub struct Alike<'a> {
    /// The first of them.
    pub first: &'a Finding,
    /// The others, in their order.
    pub others: Vec<&'a Finding>,
}

impl Alike<'_> {
    /// How many workspaces they concern together.
    pub fn workspaces(&self) -> usize {
        self.first.workspace_count + self.others.iter().map(|other| other.workspace_count).sum::<usize>()
    }
}

/// Puts findings of one guarantee with one cause together: a thousand pods alike are one thing to read.
pub fn alike<'a>(findings: impl IntoIterator<Item = &'a Finding>) -> Vec<Alike<'a>> {
    let mut places: HashMap<(&str, &str, Verdict, bool, bool), usize> = HashMap::new();
    let mut all: Vec<Alike<'a>> = Vec::new();
    for finding in findings {
        let told = (finding.refused.is_some(), finding.counts());
        let key = (finding.guarantee.as_str(), finding.cause.as_str(), finding.verdict, told.0, told.1);
        match places.get(&key).and_then(|at| all.get_mut(*at)) {
            Some(alike) => alike.others.push(finding),
            None => {
                places.insert(key, all.len());
                all.push(Alike { first: finding, others: Vec::new() });
            }
        }
    }
    all
}

/// Text inside XML or HTML. Control characters, which XML cannot hold, become a replacement.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\n' | '\t' => escaped.push(character),
            '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            character if character.is_control() => escaped.push('\u{fffd}'),
            character => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests;
