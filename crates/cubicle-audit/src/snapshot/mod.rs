//! Objects of a cluster, from manifests or from a live answer, each with its file and line.

mod block;
mod collect;
mod document;
mod kinds;
mod node;
pub mod read;
mod scalar;
mod single;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use collect::File;
pub(crate) use kinds::verifies_signatures;
pub use kinds::{Interest, interest};
pub use node::{Entry, Node, Value};
pub use single::{Single, single};

/// Which file of a [`Snapshot`]: an index into [`Snapshot::files`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId(pub u32);

/// Which object of a [`Snapshot`]: an index into [`Snapshot::objects`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectId(pub u32);

/// Where an object or a fact stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceRef {
    /// The file.
    pub file: FileId,
    /// The line, from 1; 0 for the whole file.
    pub line: u32,
    /// The column, from 1; 0 for the whole line.
    pub column: u32,
}

/// One object, as the API server would see it before it fills in defaults.
#[derive(Debug, Clone)]
pub struct Object {
    /// For example `networking.k8s.io/v1`.
    pub api_version: Arc<str>,
    /// For example `NetworkPolicy`.
    pub kind: Arc<str>,
    /// The namespace; `default` where a namespaced object names none, none for cluster-wide kinds.
    pub namespace: Option<Arc<str>>,
    /// `metadata.name`; empty when the server is to invent one (`generateName`).
    pub name: Arc<str>,
    /// The whole object, every value with its line and column.
    pub value: Node,
    /// Where the object begins.
    pub source: SourceRef,
}

impl Object {
    /// Where the value at a JSON pointer stands; where its nearest parent stands when it is absent.
    #[must_use]
    pub fn place(&self, pointer: &str) -> SourceRef {
        let mut shorter = pointer;
        loop {
            if let Some(node) = self.value.pointer(shorter).filter(|node| node.line != 0) {
                return SourceRef { file: self.source.file, line: node.line, column: node.column };
            }
            match shorter.rfind('/') {
                Some(end) => shorter = &shorter[..end],
                None => return self.source,
            }
        }
    }

    /// The whole object as JSON, without places.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        self.value.to_json()
    }
}

/// How much a problem of the input weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing; nothing is lost.
    Note,
    /// Probably not what was meant; the API server accepts it.
    Warning,
    /// Something could not be read or would be refused: whatever is said about the rest, the
    /// result is not clean.
    Error,
}

/// Something about the input that a reader must know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputProblem {
    /// How much it weighs.
    pub severity: Severity,
    /// Where.
    pub source: SourceRef,
    /// What is wrong, naming the input and the rule.
    pub what: String,
    /// What to do about it; empty when there is nothing to do.
    pub remedy: String,
}

/// Everything that was read.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// The names of the files, by [`FileId`]; `-` is standard input.
    pub files: Vec<Arc<str>>,
    /// All objects, lists unpacked, in the order they were read.
    pub objects: Vec<Object>,
    /// What is wrong with the input.
    pub problems: Vec<InputProblem>,
    /// Kinds of a live cluster that could not be read.
    pub unread: Vec<Unread>,
}

/// A kind whose objects are not known, though the cluster may hold some.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Unread {
    /// The API group; "" is the core group.
    pub group: String,
    /// The kind.
    pub kind: String,
    /// Why, for people: "this account may not list secrets".
    pub reason: String,
}

impl Snapshot {
    /// Whether everything could be read and nothing would be refused.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.unread.is_empty() && !self.is_broken()
    }

    /// Whether something of the input could not be read or would be refused.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.problems.iter().any(|problem| problem.severity == Severity::Error)
    }

    /// An object by its index.
    #[must_use]
    pub fn object(&self, id: ObjectId) -> Option<&Object> {
        self.objects.get(id.0 as usize)
    }

    /// All objects of a kind of an API group, whatever the version. The core group is "".
    pub fn of_kind<'a>(&'a self, group: &'a str, kind: &'a str) -> impl Iterator<Item = (ObjectId, &'a Object)> {
        (0u32..).map(ObjectId).zip(&self.objects).filter(move |(_, object)| {
            &*object.kind == kind && object.api_version.rsplit_once('/').map_or("", |(group, _)| group) == group
        })
    }

    /// The name of a file.
    #[must_use]
    pub fn file(&self, id: FileId) -> &str {
        self.files.get(id.0 as usize).map_or("", |name| name)
    }

    /// `file:line:column` for people.
    #[must_use]
    pub fn locate(&self, source: SourceRef) -> String {
        let file = self.file(source.file);
        match (source.line, source.column) {
            (0, _) => file.to_owned(),
            (line, 0) => format!("{file}:{line}"),
            (line, column) => format!("{file}:{line}:{column}"),
        }
    }
}

#[cfg(test)]
mod tests;
