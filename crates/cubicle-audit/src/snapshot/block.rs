//! A quick reader for the plain part of YAML that most manifests are written in: mappings and
//! lists by indentation, scalars on one line. Whatever else a document has, it gives up, and the
//! whole language is read by the parser. What it reads it reads exactly as the parser does, places
//! too; a property test holds it to that.

use rustc_hash::FxHashSet;

use super::document::{DEEPEST, Document, Texts, key_name};
use super::node::{Entry, Node, Value};
use super::scalar;

/// Keys are shorter than YAML's limit for keys on one line.
const LONGEST_KEY: usize = 512;

/// A line with something on it.
#[derive(Clone, Copy)]
struct Line<'text> {
    number: u32,
    indent: u32,
    text: &'text str,
}

/// The value of a document; none where there is anything that is not plain.
pub(super) fn parse(document: Document<'_>, texts: &mut Texts) -> Option<Node> {
    let lines = lines(document)?;
    let first = lines.first()?;
    let mut reader = Reader { at: 0, texts, lines: &lines };
    let node = reader.node(first.indent, 0)?;
    (reader.at == lines.len()).then_some(node)
}

/// The lines that are neither empty nor a comment.
fn lines(document: Document<'_>) -> Option<Vec<Line<'_>>> {
    let mut lines = Vec::with_capacity(document.text.len() / 24);
    for (number, line) in (document.lines_before + 1..).zip(document.text.split('\n')) {
        // Tabs, carriage returns, and what is not ASCII.
        if line.bytes().any(|byte| !(b' '..=b'~').contains(&byte)) {
            return None;
        }
        let line = line.trim_end_matches(' ');
        let text = line.trim_start_matches(' ');
        if text.is_empty() || text.starts_with('#') || (line == "---" && lines.is_empty()) {
            continue;
        }
        let indent = u32::try_from(line.len() - text.len()).ok()?;
        lines.push(Line { number, indent, text });
    }
    Some(lines)
}

struct Reader<'lines, 'text, 'texts> {
    lines: &'lines [Line<'text>],
    at: usize,
    texts: &'texts mut Texts,
}

impl<'text> Reader<'_, 'text, '_> {
    fn line(&self) -> Option<Line<'text>> {
        self.lines.get(self.at).copied()
    }

    /// Whether what follows belongs to something further out, as it must after a scalar.
    fn ends(&self, indent: u32) -> bool {
        self.line().is_none_or(|line| line.indent <= indent)
    }

    fn node(&mut self, indent: u32, depth: usize) -> Option<Node> {
        let line = self.line()?;
        if line.text.starts_with("- ") {
            self.list(indent, depth, false)
        } else {
            self.mapping(indent, line.text, depth)
        }
    }

    /// A list. One that stands as far left as its key begins, for the parser, behind its first dash.
    fn list(&mut self, indent: u32, depth: usize, beside_key: bool) -> Option<Node> {
        // The parser counts the values that are open.
        if depth >= DEEPEST {
            return None;
        }
        let first = self.line()?;
        let behind_dash = first.text.len() - first.text.get(1..)?.trim_start_matches(' ').len();
        let begin = indent + if beside_key { u32::try_from(behind_dash).ok()? } else { 0 };
        let mut items = Vec::new();
        while let Some(line) = self.line().filter(|line| line.indent == indent) {
            let Some(rest) = line.text.strip_prefix("- ") else { break };
            let inner = rest.trim_start_matches(' ');
            let column = indent + u32::try_from(line.text.len() - inner.len()).ok()?;
            if inner.is_empty() || inner == "-" || inner.starts_with("- ") || inner.starts_with('#') {
                return None;
            }
            if split(inner).is_some() {
                items.push(self.mapping(column, inner, depth + 1)?);
            } else {
                let value = self.scalar(inner)?;
                self.at += 1;
                if !self.ends(indent) {
                    return None;
                }
                items.push(Node { value, line: line.number, column: column + 1 });
            }
        }
        if !self.ends(indent) {
            return None;
        }
        Some(Node { value: Value::List(items.into()), line: first.number, column: begin + 1 })
    }

    /// A mapping whose first key stands at this column of the current line.
    fn mapping(&mut self, indent: u32, first: &'text str, depth: usize) -> Option<Node> {
        if depth >= DEEPEST {
            return None;
        }
        let begin = self.line()?.number;
        let mut entries: Vec<Entry> = Vec::new();
        let mut text = first;
        loop {
            let line = self.line()?.number;
            let (key, rest) = split(text)?;
            self.at += 1;
            let node = if rest.is_empty() {
                let next = self.line()?;
                if next.indent > indent {
                    self.node(next.indent, depth + 1)?
                } else if next.indent == indent && next.text.starts_with("- ") {
                    self.list(indent, depth + 1, true)?
                } else {
                    return None;
                }
            } else {
                let column = indent + u32::try_from(text.len() - rest.len()).ok()? + 1;
                let value = self.scalar(rest)?;
                if !self.ends(indent) {
                    return None;
                }
                Node { value, line, column }
            };
            let key = self.texts.share(&key_name(scalar::plain(key).as_ref(), key));
            entries.push(Entry { key, line, column: indent + 1, node });
            match self.line() {
                Some(next) if next.indent > indent => return None,
                Some(next) if next.indent == indent && !next.text.starts_with("- ") => text = next.text,
                _ => break,
            }
        }
        is_unique(&entries).then(|| Node { value: Value::Map(entries.into()), line: begin, column: indent + 1 })
    }

    /// A scalar, or an empty list or mapping, that is all of the rest of a line.
    fn scalar(&mut self, text: &str) -> Option<Value> {
        let quoted = |quote: char, refused: &[char]| {
            let inner = text.strip_prefix(quote)?.strip_suffix(quote)?;
            (!inner.contains(refused)).then_some(inner)
        };
        match text.bytes().next()? {
            b'{' if text == "{}" => Some(Value::Map(Box::new([]))),
            b'[' if text == "[]" => Some(Value::List(Box::new([]))),
            b'"' if text.len() > 1 => quoted('"', &['"', '\\']).map(|inner| Value::Text(self.texts.share(inner))),
            b'\'' if text.len() > 1 => quoted('\'', &['\'']).map(|inner| Value::Text(self.texts.share(inner))),
            _ if is_plain(text) => Some(scalar::plain(text).unwrap_or_else(|| Value::Text(self.texts.share(text)))),
            _ => None,
        }
    }
}

/// The key and what follows it on its line; none where the line does not begin with a plain key.
fn split(text: &str) -> Option<(&str, &str)> {
    let is_of_key = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'/' | b'-');
    let end = text.bytes().position(|byte| !is_of_key(byte)).filter(|end| *end <= LONGEST_KEY)?;
    let (key, rest) = text.split_at(end);
    let rest = rest.strip_prefix(':')?;
    let first = key.bytes().next()?;
    let is_key = first.is_ascii_alphanumeric() || first == b'_';
    match rest.bytes().next() {
        None if is_key => Some((key, "")),
        // A comment behind the colon is left to the parser.
        Some(b' ') if is_key => Some((key, rest.trim_start_matches(' '))).filter(|(_, rest)| !rest.starts_with('#')),
        _ => None,
    }
}

/// Whether a text is a plain scalar whatever stands around it.
fn is_plain(text: &str) -> bool {
    let bytes = text.as_bytes();
    let begins = match bytes {
        [b'-', next, ..] => *next != b' ',
        [first, ..] => first.is_ascii_alphanumeric() || matches!(first, b'_' | b'.' | b'/' | b'+'),
        [] => false,
    };
    let is_usual = |at: usize| match bytes[at] {
        b':' => bytes.get(at + 1).is_some_and(|next| *next != b' '),
        byte => byte.is_ascii_alphanumeric() || b" _./+=,@()$~-".contains(&byte),
    };
    begins && (0..bytes.len()).all(is_usual)
}

fn is_unique(entries: &[Entry]) -> bool {
    if entries.len() <= 16 {
        return (1..entries.len()).all(|at| entries[..at].iter().all(|entry| entry.key != entries[at].key));
    }
    let mut seen = FxHashSet::default();
    entries.iter().all(|entry| seen.insert(&entry.key))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::super::document::{self, Document, Texts};
    use super::*;

    /// What the parser reads, if it reads anything without a word.
    fn slowly(text: &str) -> Option<Node> {
        let document = Document { text, lines_before: 7 };
        let parsed = document::parse_all_of_yaml(document, &mut Texts::default()).ok()??;
        parsed.given_twice.is_empty().then_some(parsed.node)
    }

    fn quickly(text: &str) -> Option<Node> {
        parse(Document { text, lines_before: 7 }, &mut Texts::default())
    }

    /// `NaN` is no value of itself.
    fn has_no_number(text: &str) -> bool {
        text.contains(".nan") || text.contains(".NaN") || text.contains(".NAN")
    }

    #[test]
    fn manifests_are_read_quickly_and_rightly() {
        let text = "---\n# a pod\napiVersion: v1\nkind: Pod\nmetadata:\n  name: jupyter-1\n  labels: {app: x}\n";
        assert_eq!(quickly(text), None);
        let text = "---\napiVersion: v1\nkind: Pod\nmetadata:\n  labels:\n    on: \"true\"\n  name: y\nspec:\n  containers:\n  - name: a\n    args: []\n    ports:\n      - containerPort: 8888\n        protocol: 'TCP'\n  volumes:\n  - emptyDir: {}\n    name: x\n";
        let node = quickly(text);
        assert!(node.is_some());
        assert_eq!(node, slowly(text));
    }

    fn fragment() -> impl Strategy<Value = &'static str> {
        select(
            &[
                "a: 1",
                "b: x",
                "c:",
                "on: no",
                "- a",
                "- b: 2",
                "- c:",
                "-",
                "- - d",
                "d: \"q\"",
                "e: 'r s'",
                "f: {}",
                "g: []",
                "h: {a: 1}",
                "i: |",
                "j: a # c",
                "# comment",
                "",
                "k: a: b",
                "l: a:b",
                "m : 1",
                "n: -1",
                "o: - 1",
                "p: --- x",
                "- ---",
                "q: &x 1",
                "r: *x",
                "s: !t 1",
                "t: 0777",
                "? a",
                "u: \"",
                "v: ''",
                "plain",
                "\"w\": 1",
                "1: 2",
                "x: .5",
                "y: ~",
                "- 'z'",
                "-   spaced: 1",
                "aa:   far",
                "bb: x  ",
                "cc: a  b",
                "dd: http://x/y",
                "ee: 10.0.0.0/8",
                "ff: ,",
                "gg: +",
                "hh: -",
                "ii: a-",
                "...",
                "jj: (x)",
                "kk: $x",
                "ll: @x",
                "- {}",
                "- []",
                "mm: a,b",
                "nn:#",
                "oo: #",
                "<<: 1",
            ][..],
        )
    }

    /// Lines of plain documents, with % for a key of its own.
    fn plain_form() -> impl Strategy<Value = &'static str> {
        select(&["%:", "%:", "%: v", "%: 'a b'", "- %: 1", "- %:", "- x", "-  %: y", "%: []", "- {}", "# c"][..])
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_read_quickly_is_what_the_parser_reads(parts in proptest::collection::vec((0..5_usize, fragment()), 1..9), marker in any::<bool>()) {
            let mut text = if marker { "---\n".to_owned() } else { String::new() };
            for (indent, fragment) in parts {
                text.push_str(&" ".repeat(indent));
                text.push_str(fragment);
                text.push('\n');
            }
            if let Some(node) = quickly(&text).filter(|_| !has_no_number(&text)) {
                prop_assert_eq!(Some(node), slowly(&text), "{}", text);
            }
        }

        /// Documents of which most are plain: each line goes deeper, stays, or comes back.
        #[test]
        fn plain_documents_too(parts in proptest::collection::vec((select(&[-4_i32, -2, -2, 0, 0, 0, 2, 2][..]), plain_form()), 1..14)) {
            let mut text = String::new();
            let mut indent = 0_i32;
            for (number, (step, form)) in parts.into_iter().enumerate() {
                indent = (indent + step).max(0);
                text.push_str(&" ".repeat(indent as usize));
                text.push_str(&form.replace('%', &format!("k{number}")));
                text.push('\n');
            }
            if let Some(node) = quickly(&text).filter(|_| !has_no_number(&text)) {
                prop_assert_eq!(Some(node), slowly(&text), "{}", text);
            }
        }
    }
}
