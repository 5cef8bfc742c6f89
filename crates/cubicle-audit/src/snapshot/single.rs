//! A file that is one document but no manifest, for example another program's configuration.

use std::sync::Arc;

use super::document::{self, Broken};
use super::node::Node;

/// What stands in such a file.
#[derive(Debug)]
pub struct Single {
    /// The document; every key and value with its line.
    pub node: Node,
    /// Keys that are given twice: name and line.
    pub given_twice: Vec<(Arc<str>, u32)>,
}

/// Reads YAML or JSON. None when there is nothing but comments.
///
/// # Errors
///
/// The line, from 1, and the reason, when it is not text, not YAML, more than one document, nested
/// too deeply, or its anchors stand for too much.
pub fn single(bytes: &[u8]) -> Result<Option<Single>, (u32, String)> {
    let told = |broken: Broken| (broken.line, broken.what);
    let text = document::decode(bytes).map_err(told)?;
    let mut read = None;
    for document in document::split(&text) {
        let Some(parsed) = document::parse_all_of_yaml(document, &mut document::Texts::default()).map_err(told)? else {
            continue;
        };
        if read.is_some() {
            return Err((document.lines_before + 1, "a second document begins here".to_owned()));
        }
        let given_twice = parsed.given_twice.into_iter().map(|(key, line, _)| (key, line)).collect();
        read = Some(Single { node: parsed.node, given_twice });
    }
    Ok(read)
}
