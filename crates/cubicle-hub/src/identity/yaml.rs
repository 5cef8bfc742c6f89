//! A YAML document with the line of every value, so that each mistake can be shown where it is.

use granit_parser::{Event, Parser, ScalarStyle};

/// Settings are shallow; deeper documents are mistakes or attacks.
const DEEPEST: usize = 16;
/// The largest document, in values.
const MOST_VALUES: usize = 10_000;

/// A value and where it begins.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    /// From 1.
    pub(super) line: usize,
    pub(super) value: Value,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// A scalar; `plain` when it stands without quotes.
    Text {
        text: String,
        plain: bool,
    },
    List(Vec<Node>),
    /// Keys with their lines, in the document's order; repeated ones are kept.
    Map(Vec<(String, usize, Node)>),
}

/// Why a document could not be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Broken {
    pub(super) line: usize,
    pub(super) what: String,
}

enum Open {
    List(usize, Vec<Node>),
    Map(usize, Vec<(String, usize, Node)>, Option<(String, usize)>),
}

/// Reads one document; an empty one is an empty mapping.
pub(super) fn read(text: &str) -> Result<Node, Broken> {
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
