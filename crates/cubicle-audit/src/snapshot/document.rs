//! From the bytes of a file to its documents, and from a document to a [`Node`].

use std::borrow::Cow;
use std::sync::Arc;

use granit_parser::{Event, Parser, ScalarStyle, Span, Tag};
use rustc_hash::{FxHashMap, FxHashSet};

use super::node::{Entry, Node, Value};
use super::scalar;

/// How many values the aliases of one document may stand for. A manifest has a few; a bomb has
/// billions.
const MOST_ALIASED_VALUES: usize = 100_000;

/// How deep values may lie in one another; manifests stay below 30.
pub(super) const DEEPEST: usize = 128;

/// One document of a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Document<'text> {
    /// The text.
    pub(super) text: &'text str,
    /// How many lines stand before it.
    pub(super) lines_before: u32,
}

/// Why a document or a file could not be read, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Broken {
    pub(super) line: u32,
    pub(super) column: u32,
    pub(super) what: String,
}

/// A document that was read, and the keys that are given twice in it.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) node: Node,
    pub(super) given_twice: Vec<(Arc<str>, u32, u32)>,
    /// How many values it holds, aliases written out.
    pub(super) values: usize,
}

/// The text of a file: UTF-8, or UTF-16 with a byte order mark.
pub(super) fn decode(bytes: &[u8]) -> Result<Cow<'_, str>, Broken> {
    let utf16 = |rest: &[u8], unit: fn([u8; 2]) -> u16| {
        let units = rest.chunks_exact(2).map(|pair| unit([pair[0], pair[1]]));
        char::decode_utf16(units).collect::<Result<String, _>>().ok().filter(|_| rest.len().is_multiple_of(2))
    };
    let broken = |line: usize, column: usize, what: &str| Broken {
        line: u32::try_from(line).unwrap_or(u32::MAX),
        column: u32::try_from(column).unwrap_or(u32::MAX),
        what: what.to_owned(),
    };
    let text = match bytes {
        [0xFF, 0xFE, rest @ ..] => {
            Cow::Owned(utf16(rest, u16::from_le_bytes).ok_or_else(|| broken(0, 0, "this is not UTF-16 text"))?)
        }
        [0xFE, 0xFF, rest @ ..] => {
            Cow::Owned(utf16(rest, u16::from_be_bytes).ok_or_else(|| broken(0, 0, "this is not UTF-16 text"))?)
        }
        [0xEF, 0xBB, 0xBF, rest @ ..] => utf8(rest)?,
        _ => utf8(bytes)?,
    };
    if let Some(at) = text.find('\0') {
        let (line, column) = position(&text[..at]);
        return Err(broken(line, column, "this is not text: it has a NUL byte"));
    }
    Ok(text)
}

fn utf8(bytes: &[u8]) -> Result<Cow<'_, str>, Broken> {
    std::str::from_utf8(bytes).map(Cow::Borrowed).map_err(|error| {
        let before = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
        let (line, column) = position(&before);
        Broken {
            line: u32::try_from(line).unwrap_or(u32::MAX),
            column: u32::try_from(column).unwrap_or(u32::MAX),
            what: "this is not text: a byte here is not UTF-8".to_owned(),
        }
    })
}

/// The line and column, from 1, of what follows this text.
fn position(before: &str) -> (usize, usize) {
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    (before.bytes().filter(|byte| *byte == b'\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// Splits a file at its `---` and `...` lines, and JSON at the end of each value. A line that
/// begins with `---` is a separator wherever it stands, so one broken document does not hide the
/// others.
pub(super) fn split(text: &str) -> Vec<Document<'_>> {
    let mut documents = Vec::new();
    let mut start = 0;
    let mut start_line = 0;
    let mut line = 0;
    let mut at = 0;
    while at < text.len() {
        let end = text[at..].find('\n').map_or(text.len(), |length| at + length + 1);
        let current = &text[at..end];
        if is_marker(current, "---") {
            push(&mut documents, &text[start..at], start_line);
            // What follows the marker on its line belongs to the document.
            (start, start_line) = (at, line);
        } else if is_marker(current, "...") {
            push(&mut documents, &text[start..at], start_line);
            (start, start_line) = (end, line + 1);
        }
        at = end;
        line += 1;
    }
    push(&mut documents, &text[start..], start_line);
    documents
}

fn is_marker(line: &str, marker: &str) -> bool {
    line.strip_prefix(marker).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

fn push<'text>(documents: &mut Vec<Document<'text>>, text: &'text str, lines_before: u32) {
    let content = text.strip_prefix("---").unwrap_or(text);
    let is_empty = content.lines().all(|line| {
        let line = line.trim_start();
        line.is_empty() || line.starts_with('#')
    });
    if is_empty {
        return;
    }
    let first = content.trim_start();
    if first.starts_with('{') && split_json(documents, text, text.len() - first.len(), lines_before) {
        return;
    }
    documents.push(Document { text, lines_before });
}

/// Several JSON values may follow one another without a separator, as `kubectl get -o json` twice
/// into one file gives.
fn split_json<'text>(documents: &mut Vec<Document<'text>>, text: &'text str, begin: usize, lines_before: u32) -> bool {
    let json = &text[begin..];
    let mut stream = serde_json::Deserializer::from_str(json).into_iter::<serde::de::IgnoredAny>();
    let mut pieces = Vec::new();
    let mut start = 0;
    let mut line = lines_before + newlines(&text[..begin]);
    while let Some(value) = stream.next() {
        if value.is_err() {
            return false;
        }
        let end = stream.byte_offset();
        let piece = json[start..end].trim_start();
        let skipped = end - start - piece.len();
        line += newlines(&json[start..start + skipped]);
        pieces.push(Document { text: piece, lines_before: line });
        line += newlines(piece);
        start = end;
    }
    if pieces.len() < 2 {
        return false;
    }
    documents.append(&mut pieces);
    true
}

fn newlines(text: &str) -> u32 {
    u32::try_from(text.bytes().filter(|byte| *byte == b'\n').count()).unwrap_or(u32::MAX)
}

/// Equal texts share one allocation.
#[derive(Debug, Default)]
pub(super) struct Texts(FxHashSet<Arc<str>>);

impl Texts {
    pub(super) fn share(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.0.get(text) {
            return Arc::clone(known);
        }
        let shared: Arc<str> = text.into();
        // Long texts (scripts, certificates) are rarely repeated.
        if text.len() <= 64 {
            self.0.insert(Arc::clone(&shared));
        }
        shared
    }
}

/// Reads one document. None where it holds nothing but comments.
///
/// # Errors
///
/// The place and the reason, when it is not YAML, is nested too deeply or its anchors expand to
/// too much.
pub(super) fn parse(document: Document<'_>, texts: &mut Texts) -> Result<Option<Parsed>, Broken> {
    match super::block::parse(document, texts) {
        Some(node) => {
            let values = node.count();
            Ok(Some(Parsed { node, given_twice: Vec::new(), values }))
        }
        None => parse_all_of_yaml(document, texts),
    }
}

/// The same without the quick way for plain documents.
pub(super) fn parse_all_of_yaml(document: Document<'_>, texts: &mut Texts) -> Result<Option<Parsed>, Broken> {
    match Builder::new(document.lines_before, texts).run(document.text) {
        Ok(parsed) => Ok(parsed),
        Err(broken) => match from_strict_json(document) {
            Some(parsed) => Ok(Some(parsed)),
            None => Err(broken),
        },
    }
}

/// JSON that YAML cannot read: tabs as indentation, surrogate pairs. Its values are placed at the
/// beginning of the document.
fn from_strict_json(document: Document<'_>) -> Option<Parsed> {
    if !document.text.trim_start().starts_with('{') {
        return None;
    }
    let json: serde_json::Value = serde_json::from_str(document.text).ok()?;
    let mut node = Node::from_json(&json);
    (node.line, node.column) = (document.lines_before + 1, 1);
    let values = document.text.len() / 8;
    Some(Parsed { node, given_twice: Vec::new(), values })
}

/// A list or mapping that is not finished.
struct Open {
    line: u32,
    column: u32,
    anchor: usize,
    /// Values in it so far, itself included.
    size: usize,
    content: Content,
}

enum Content {
    List(Vec<Node>),
    Map { entries: Vec<Entry>, key: Option<(Arc<str>, u32, u32)>, merged: Vec<Node> },
}

/// A key as JSON shows it: what it means, where it means more than its text.
pub(super) fn key_name<'text>(value: Option<&Value>, text: &'text str) -> Cow<'text, str> {
    match value {
        Some(Value::Bool(true)) => Cow::Borrowed("true"),
        Some(Value::Bool(false)) => Cow::Borrowed("false"),
        Some(Value::Integer(number)) => Cow::Owned(number.to_string()),
        _ => Cow::Borrowed(text),
    }
}

struct Builder<'texts> {
    lines_before: u32,
    texts: &'texts mut Texts,
    open: Vec<Open>,
    anchors: FxHashMap<usize, (Node, usize)>,
    aliased: usize,
    values: usize,
    given_twice: Vec<(Arc<str>, u32, u32)>,
    root: Option<Node>,
}

impl<'texts> Builder<'texts> {
    fn new(lines_before: u32, texts: &'texts mut Texts) -> Self {
        Self {
            lines_before,
            texts,
            open: Vec::new(),
            anchors: FxHashMap::default(),
            aliased: 0,
            values: 0,
            given_twice: Vec::new(),
            root: None,
        }
    }

    fn run(mut self, text: &str) -> Result<Option<Parsed>, Broken> {
        let mut parser = Parser::new_from_str(text);
        while let Some(event) = parser.next_event() {
            let (event, span) = event.map_err(|error| {
                let marker = error.marker();
                let (line, column) = self.place(marker.line(), marker.col());
                let what = error.info();
                let what = what.split(" at line ").next().unwrap_or_default().to_owned();
                Broken { line, column, what }
            })?;
            self.take(event, &span)?;
        }
        let values = self.values + self.aliased;
        Ok(self.root.map(|node| Parsed { node, given_twice: self.given_twice, values }))
    }

    fn place(&self, line: usize, column_from_zero: usize) -> (u32, u32) {
        let line = u32::try_from(line).unwrap_or(u32::MAX).saturating_add(self.lines_before);
        (line, u32::try_from(column_from_zero).unwrap_or(u32::MAX).saturating_add(1))
    }

    fn broken(&self, span: &Span, what: impl Into<String>) -> Broken {
        let (line, column) = self.place(span.start.line(), span.start.col());
        Broken { line, column, what: what.into() }
    }

    fn take(&mut self, event: Event<'_>, span: &Span) -> Result<(), Broken> {
        let (line, column) = self.place(span.start.line(), span.start.col());
        self.values +=
            usize::from(matches!(event, Event::Scalar(..) | Event::SequenceStart(..) | Event::MappingStart(..)));
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let value = self.scalar(&text, style, tag.as_deref());
                let plain_key = matches!(style, ScalarStyle::Plain);
                if self.awaits_key() {
                    return self.key(&text, value, plain_key, line, column);
                }
                self.add(Node { value, line, column }, anchor, 1, span)
            }
            Event::SequenceStart(_, anchor, _) => self.begin(Content::List(Vec::new()), anchor, span),
            Event::MappingStart(_, anchor, _) => {
                self.begin(Content::Map { entries: Vec::new(), key: None, merged: Vec::new() }, anchor, span)
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(span),
            Event::Alias(anchor) => {
                let Some((node, size)) = self.anchors.get(&anchor) else {
                    return Err(self.broken(span, "this alias stands inside what it refers to"));
                };
                let (node, size) = (node.clone(), *size);
                self.aliased += size;
                if self.aliased > MOST_ALIASED_VALUES {
                    return Err(self.broken(
                        span,
                        format!("the aliases of this document stand for more than {MOST_ALIASED_VALUES} values"),
                    ));
                }
                if self.awaits_key() {
                    let text = match &node.value {
                        Value::Text(text) => text.to_string(),
                        _ => node.to_json().to_string(),
                    };
                    return self.key(&text, node.value, false, line, column);
                }
                self.add(node, 0, size, span)
            }
            _ => Ok(()),
        }
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Value {
        let resolved = match tag.and_then(Tag::core_suffix) {
            Some("str" | "binary" | "timestamp") => None,
            Some("int" | "float" | "bool" | "null") => scalar::plain(text),
            _ if matches!(style, ScalarStyle::Plain) && tag.is_none() => scalar::plain(text),
            _ => None,
        };
        resolved.unwrap_or_else(|| Value::Text(self.texts.share(text)))
    }

    fn awaits_key(&self) -> bool {
        matches!(self.open.last(), Some(Open { content: Content::Map { key: None, .. }, .. }))
    }

    fn key(&mut self, text: &str, value: Value, plain: bool, line: u32, column: u32) -> Result<(), Broken> {
        if matches!(value, Value::List(_) | Value::Map(_)) {
            return Err(Broken { line, column, what: "a key must be a scalar".to_owned() });
        }
        let name = key_name(Some(&value), text);
        let name = if plain && name == "<<" { "<<".into() } else { self.texts.share(&name) };
        if let Some(Open { content: Content::Map { key, .. }, .. }) = self.open.last_mut() {
            *key = Some((name, line, column));
        }
        Ok(())
    }

    fn begin(&mut self, content: Content, anchor: usize, span: &Span) -> Result<(), Broken> {
        if self.awaits_key() {
            return Err(self.broken(span, "a key must be a scalar"));
        }
        if self.open.len() >= DEEPEST {
            return Err(self.broken(span, format!("values lie more than {DEEPEST} deep in one another")));
        }
        let (line, column) = self.place(span.start.line(), span.start.col());
        self.open.push(Open { line, column, anchor, size: 1, content });
        Ok(())
    }

    fn end(&mut self, span: &Span) -> Result<(), Broken> {
        let Some(open) = self.open.pop() else { return Ok(()) };
        let value = match open.content {
            Content::List(items) => Value::List(items.into()),
            Content::Map { entries, merged, .. } => Value::Map(self.unique(entries, merged).into()),
        };
        self.add(Node { value, line: open.line, column: open.column }, open.anchor, open.size, span)
    }

    /// The last of equal keys counts; merged mappings (`<<`) give only keys that are not there.
    fn unique(&mut self, mut entries: Vec<Entry>, merged: Vec<Node>) -> Vec<Entry> {
        let repeated = |entries: &[Entry]| -> Option<usize> {
            if entries.len() <= 16 {
                return (1..entries.len())
                    .rev()
                    .find_map(|at| entries[..at].iter().position(|entry| entry.key == entries[at].key));
            }
            let mut last = FxHashMap::default();
            entries.iter().enumerate().find_map(|(at, entry)| last.insert(Arc::clone(&entry.key), at))
        };
        while let Some(at) = repeated(&entries) {
            let entry = entries.remove(at);
            self.given_twice.push((entry.key, entry.line, entry.column));
        }
        for node in merged {
            let sources = match node.value {
                Value::List(items) => items.into_vec(),
                _ => vec![node],
            };
            for source in sources {
                if let Value::Map(from) = source.value {
                    for entry in from {
                        if entries.iter().all(|known| known.key != entry.key) {
                            entries.push(entry);
                        }
                    }
                }
            }
        }
        entries
    }

    fn add(&mut self, node: Node, anchor: usize, size: usize, span: &Span) -> Result<(), Broken> {
        if anchor != 0 {
            self.anchors.insert(anchor, (node.clone(), size));
        }
        match self.open.last_mut() {
            None if self.root.is_some() => return Err(self.broken(span, "a second value follows the first")),
            None => self.root = Some(node),
            Some(open) => {
                open.size += size;
                match &mut open.content {
                    Content::List(items) => items.push(node),
                    Content::Map { entries, key, merged } => {
                        if let Some((key, line, column)) = key.take() {
                            if &*key == "<<" && matches!(node.value, Value::Map(_) | Value::List(_)) {
                                merged.push(node);
                            } else {
                                entries.push(Entry { key, line, column, node });
                            }
                        }
                    }
                }
            }
        }
        Ok(())
    }
}
