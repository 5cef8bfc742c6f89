//! A YAML document with the line of every value, and a reader that remembers all mistakes with the lines where they are.

use std::collections::BTreeSet;
use std::path::Path;

use granit_parser::{Event, Parser, ScalarStyle};

/// Settings are shallow; deeper documents are mistakes or attacks.
const DEEPEST: usize = 16;
/// The largest document, in values.
const MOST_VALUES: usize = 10_000;

/// A value and where it begins.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// From 1.
    pub line: usize,
    /// What it is.
    pub value: Value,
}

/// What stands somewhere in a document.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A scalar; `plain` when it stands without quotes.
    Text {
        /// Its characters.
        text: String,
        /// Whether it stands without quotes.
        plain: bool,
    },
    /// A sequence.
    List(Vec<Node>),
    /// Keys with their lines, in the document's order; repeated ones are kept.
    Map(Vec<(String, usize, Node)>),
}

/// Why a document could not be read.
#[derive(Debug, PartialEq, Eq)]
pub struct Broken {
    /// From 1.
    pub line: usize,
    /// What the parser says.
    pub what: String,
}

enum Open {
    List(usize, Vec<Node>),
    Map(usize, Vec<(String, usize, Node)>, Option<(String, usize)>),
}

/// Reads one document; an empty one is an empty mapping.
///
/// # Errors
/// It is no YAML, holds an alias, or is deeper or larger than settings are.
pub fn read(text: &str) -> Result<Node, Broken> {
    let mut open: Vec<Open> = Vec::new();
    let mut root = None;
    let mut values = 0;
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| Broken {
            line: error.marker().line(),
            what: error.info().split(" at line ").next().unwrap_or_default().to_owned(),
        })?;
        let line = span.start.line();
        let broken = |what: &str| Broken { line, what: what.to_owned() };
        values += 1;
        if values > MOST_VALUES {
            return Err(broken("the document is too large"));
        }
        let done = match event {
            Event::Scalar(text, style, _, _) => {
                if let Some(Open::Map(_, _, key @ None)) = open.last_mut() {
                    *key = Some((text.into_owned(), line));
                    continue;
                }
                let plain = matches!(style, ScalarStyle::Plain);
                Node { line, value: Value::Text { text: text.into_owned(), plain } }
            }
            Event::SequenceStart(..) | Event::MappingStart(..)
                if matches!(open.last(), Some(Open::Map(_, _, None))) =>
            {
                return Err(broken("a key must be a scalar"));
            }
            Event::SequenceStart(..) | Event::MappingStart(..) if open.len() >= DEEPEST => {
                return Err(broken("values lie too deep in one another"));
            }
            Event::SequenceStart(..) => {
                open.push(Open::List(line, Vec::new()));
                continue;
            }
            Event::MappingStart(..) => {
                open.push(Open::Map(line, Vec::new(), None));
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some(Open::List(line, items)) => Node { line, value: Value::List(items) },
                Some(Open::Map(line, entries, _)) => Node { line, value: Value::Map(entries) },
                None => continue,
            },
            Event::Alias(..) => return Err(broken("aliases are not taken here")),
            _ => continue,
        };
        match open.last_mut() {
            Some(Open::List(_, items)) => items.push(done),
            Some(Open::Map(_, entries, key)) => {
                if let Some((name, line)) = key.take() {
                    entries.push((name, line, done));
                }
            }
            None if root.is_some() => return Err(broken("there is more than one document")),
            None => root = Some(done),
        }
    }
    match root {
        // `key:` alone, or nothing but comments.
        Some(node) => Ok(node),
        None => Ok(Node { line: 1, value: Value::Map(Vec::new()) }),
    }
}

/// An entry of a mapping: its key, the key's line, and its value.
pub type Entry = (String, usize, Node);

/// Reads values and remembers what is wrong with them.
#[derive(Debug)]
pub struct Reader<'path> {
    /// The document's file.
    pub path: &'path Path,
    /// What is wrong, with its line.
    pub mistakes: Vec<(usize, String)>,
}

impl<'path> Reader<'path> {
    /// A reader of this file.
    pub fn new(path: &'path Path) -> Self {
        Self { path, mistakes: Vec::new() }
    }

    /// Remembers a mistake.
    pub fn wrong(&mut self, line: usize, what: impl Into<String>) {
        self.mistakes.push((line, what.into()));
    }

    /// All mistakes, one a line, in the document's order.
    pub fn told(mut self) -> Option<String> {
        self.mistakes.sort();
        self.mistakes.dedup();
        let lines: Vec<String> =
            self.mistakes.iter().map(|(line, what)| format!("{}:{line}: {what}", self.path.display())).collect();
        (!lines.is_empty()).then(|| lines.join("\n"))
    }

    /// The entries of a mapping, with unknown and repeated keys refused.
    pub fn entries<'node>(&mut self, node: &'node Node, what: &str, known: &[&str]) -> &'node [Entry] {
        let Value::Map(entries) = &node.value else {
            self.wrong(node.line, format!("{what} must be a mapping"));
            return &[];
        };
        let mut seen = BTreeSet::new();
        for (key, line, _) in entries {
            let shown: String = key.chars().take(60).flat_map(char::escape_default).collect();
            if !known.contains(&key.as_str()) {
                self.wrong(*line, format!("{what} has no key \"{shown}\"; it has {}", known.join(", ")));
            } else if !seen.insert(key) {
                self.wrong(*line, format!("key \"{shown}\" is given twice"));
            }
        }
        entries
    }

    /// A text of up to 1024 bytes in one line.
    pub fn text(&mut self, key: &str, node: &Node) -> Option<String> {
        match &node.value {
            Value::Text { text, plain } if !(*plain && is_no_text(text)) => {
                if text.is_empty() || text.len() > 1024 || text.chars().any(char::is_control) {
                    self.wrong(node.line, format!("{key} must be 1 to 1024 bytes of plain text"));
                    return None;
                }
                Some(text.clone())
            }
            _ => {
                self.wrong(node.line, format!("{key} must be text"));
                None
            }
        }
    }

    /// A list of texts.
    pub fn texts(&mut self, key: &str, node: &Node) -> Vec<String> {
        let Value::List(items) = &node.value else {
            self.wrong(node.line, format!("{key} must be a list of texts"));
            return Vec::new();
        };
        items.iter().filter_map(|item| self.text(&format!("each of {key}"), item)).collect()
    }

    /// `true` or `false`.
    pub fn switch(&mut self, key: &str, node: &Node) -> Option<bool> {
        match &node.value {
            Value::Text { text, plain: true } if text == "true" => Some(true),
            Value::Text { text, plain: true } if text == "false" => Some(false),
            _ => {
                self.wrong(node.line, format!("{key} must be true or false"));
                None
            }
        }
    }
}

/// Plain scalars that YAML does not read as text.
fn is_no_text(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "true" | "false") || text.parse::<f64>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_knows_its_line() {
        let node = read("a: 1\nb:\n  - x\n  - \"y\"\n").expect("read");
        let Value::Map(entries) = node.value else { panic!("a mapping") };
        assert_eq!(entries[1].1, 2);
        let Value::List(items) = &entries[1].2.value else { panic!("a list") };
        assert_eq!(items[1], Node { line: 4, value: Value::Text { text: "y".to_owned(), plain: false } });
    }

    #[test]
    fn what_is_broken_is_said_with_its_line() {
        assert!(read("a: 1\nb: [1\n").expect_err("refused").line > 1);
        assert_eq!(read("a: &x 1\nb: *x\n").expect_err("refused").line, 2);
        assert!(read("[a]: 1").is_err());
        assert!(read(&"[".repeat(40)).is_err());
        assert!(read(&format!("[{}]", "1,".repeat(20_000))).is_err());
    }
}
