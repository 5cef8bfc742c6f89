//! Plain tables: columns of equal width, no lines, nothing that a script trips over.

use anstyle::Style;
use unicode_width::UnicodeWidthStr;

use super::{Printer, safe};

/// One cell.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    text: String,
    style: Style,
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self { text: safe::line(text.as_ref()), style: Style::new() }
    }
}

impl Cell {
    /// A cell in a style.
    pub(crate) fn styled(text: impl AsRef<str>, style: Style) -> Self {
        Self { style, ..Self::from(text) }
    }
}

/// Rows below a line of headings.
#[derive(Debug)]
pub(crate) struct Table {
    headings: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// An empty table.
    pub(crate) fn new(headings: impl IntoIterator<Item = &'static str>) -> Self {
        Self { headings: headings.into_iter().collect(), rows: Vec::new() }
    }

    /// Adds a row; its cells belong to the headings in order.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The whole table, or `empty` when it has no row. On a terminal the last column is wrapped
    /// to what is left of the line; elsewhere a row is a line.
    pub(crate) fn render(&self, printer: &Printer, empty: &str) -> String {
        if self.rows.is_empty() {
            return format!("{empty}\n");
        }
        let mut widths: Vec<usize> = self.headings.iter().map(|heading| heading.width()).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.text.width());
            }
        }
        let before_last: usize = widths.iter().rev().skip(1).map(|width| width + 2).sum();
        let left = printer.width.map(|width| width.saturating_sub(before_last).max(20));

        let headings: Vec<Cell> =
            self.headings.iter().map(|heading| Cell::styled(heading, Style::new().dimmed())).collect();
        let mut text = String::new();
        for row in std::iter::once(&headings).chain(&self.rows) {
            let mut rendered = String::new();
            for (position, cell) in row.iter().enumerate() {
                if position + 1 < row.len() {
                    let gap = widths.get(position).copied().unwrap_or_default().saturating_sub(cell.text.width()) + 2;
                    rendered.push_str(&printer.paint(&cell.text, cell.style));
                    rendered.push_str(&" ".repeat(gap));
                } else {
                    let wrapped = wrap(&cell.text, left.unwrap_or(usize::MAX), before_last);
                    rendered.push_str(&printer.paint(&wrapped, cell.style));
                }
            }
            text.push_str(rendered.trim_end());
            text.push('\n');
        }
        text
    }
}

/// Breaks text at spaces into lines of at most `width` columns; later lines are indented.
/// A word that is longer than a line stays whole: it may be something to copy.
pub(crate) fn wrap(text: &str, width: usize, indent: usize) -> String {
    let mut wrapped = String::new();
    let mut used = 0;
    for word in text.split(' ') {
        let length = word.width();
        if used > 0 && used + 1 + length > width {
            wrapped.push('\n');
            wrapped.push_str(&" ".repeat(indent));
            used = 0;
        } else if used > 0 {
            wrapped.push(' ');
            used += 1;
        }
        wrapped.push_str(word);
        used += length;
    }
    wrapped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Format;

    #[test]
    fn columns_align_by_what_the_eye_sees() {
        let mut table = Table::new(["NAME", "SENTENCE"]);
        table.row(["名前".into(), "one two three four five six seven".into()]);
        table.row(["a".into(), "x".into()]);
        let printer = Printer { format: Format::Text, colour: false, width: Some(26) };
        assert_eq!(
            table.render(&printer, "none"),
            "NAME  SENTENCE\n名前  one two three four\n      five six seven\na     x\n"
        );
    }

    #[test]
    fn a_long_word_stays_whole() {
        assert_eq!(wrap("a http://127.0.0.1:8000/long b", 8, 2), "a\n  http://127.0.0.1:8000/long\n  b");
    }
}
