//! From documents to objects: lists unpacked, names and namespaces checked, duplicates found.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::num::NonZero;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::document::{self, Broken, Document, Parsed, Texts};
use super::kinds::{self, Scope};
use super::node::{Node, Value};
use super::{FileId, InputProblem, Object, Severity, Snapshot, SourceRef};

/// A file with its bytes.
#[derive(Debug, Clone)]
pub struct File {
    /// The name shown to people; `-` is standard input.
    pub name: String,
    /// What is in it.
    pub bytes: Vec<u8>,
}

/// Documents that one thread takes at a time.
const CHUNK: usize = 256;

/// Documents that are read before what they hold is counted.
const WAVE: usize = 16_384;

/// Values that a snapshot holds at most: about 3 GiB of memory in an audit. 100,000 pods with as
/// many policies are 6 million.
pub(super) const MOST_VALUES: usize = 10_000_000;

/// Problems that are told one by one; of more there is a count.
const MOST_PROBLEMS: usize = 10_000;

impl Snapshot {
    /// Reads files. The order in which they are given does not matter: they are sorted by name.
    /// Nothing is left out silently: what cannot be read is in [`Snapshot::problems`].
    #[must_use]
    pub fn from_files(files: Vec<File>) -> Self {
        Self::from_files_up_to(files, MOST_VALUES)
    }

    /// The same up to a number of values.
    pub(super) fn from_files_up_to(mut files: Vec<File>, most: usize) -> Self {
        files.sort_by(|one, other| one.name.cmp(&other.name).then_with(|| one.bytes.cmp(&other.bytes)));
        let mut snapshot =
            Self { files: files.iter().map(|file| file.name.as_str().into()).collect(), ..Self::default() };
        let mut texts: Vec<(FileId, Cow<'_, str>)> = Vec::with_capacity(files.len());
        for (id, file) in (0..).map(FileId).zip(&files) {
            match document::decode(&file.bytes) {
                Ok(text) => texts.push((id, text)),
                Err(broken) => snapshot.problems.push(broken.in_file(id)),
            }
        }
        let mut documents: Vec<(FileId, Document<'_>)> = Vec::new();
        for (id, text) in &texts {
            documents.extend(document::split(text).into_iter().map(|document| (*id, document)));
        }
        let mut collector = Collector::new(snapshot);
        let mut values = 0;
        // In waves, so that what lies beyond the limit is never held.
        for (wave, first) in documents.chunks(WAVE).zip((0..).step_by(WAVE)) {
            for ((file, result), at) in parse_all(wave).into_iter().zip(first..) {
                values += match &result {
                    Ok(Some(parsed)) => parsed.values,
                    _ => 0,
                };
                if values > most {
                    collector.left_out(&documents[at..], most);
                    return collector.finish();
                }
                match result {
                    Ok(Some(parsed)) => collector.document(file, parsed),
                    Ok(None) => {}
                    Err(broken) => collector.problem(broken.in_file(file)),
                }
            }
        }
        collector.finish()
    }

    /// Takes objects that are JSON already, for example answers of the API server.
    #[must_use]
    pub fn from_json<'a>(name: &str, objects: impl IntoIterator<Item = &'a serde_json::Value>) -> Self {
        let snapshot = Self { files: vec![name.into()], ..Self::default() };
        let mut collector = Collector::new(snapshot);
        for object in objects {
            collector.document(FileId(0), Parsed { node: Node::from_json(object), given_twice: Vec::new(), values: 0 });
        }
        collector.finish()
    }

    /// The objects whose kinds Kubernetes does not have: how many of each.
    #[must_use]
    pub fn unknown_kinds(&self) -> BTreeMap<(&str, &str), usize> {
        let mut counts = BTreeMap::new();
        for object in &self.objects {
            if kinds::scope(&object.api_version, &object.kind) == Scope::Unknown {
                *counts.entry((&*object.api_version, &*object.kind)).or_default() += 1;
            }
        }
        counts
    }
}

impl Broken {
    fn in_file(self, file: FileId) -> InputProblem {
        InputProblem {
            severity: Severity::Error,
            source: SourceRef { file, line: self.line, column: self.column },
            what: self.what,
            remedy: "correct the file; its other documents were read".to_owned(),
        }
    }
}

type ParseResult = Result<Option<Parsed>, Broken>;

/// Parses documents on all cores, results in the order of the documents.
fn parse_all(documents: &[(FileId, Document<'_>)]) -> Vec<(FileId, ParseResult)> {
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get).min(documents.len().div_ceil(CHUNK));
    let parse_range = |range: &[(FileId, Document<'_>)], texts: &mut Texts| -> Vec<(FileId, ParseResult)> {
        range.iter().map(|(file, document)| (*file, document::parse(*document, texts))).collect()
    };
    if threads <= 1 {
        return parse_range(documents, &mut Texts::default());
    }
    let next = std::sync::atomic::AtomicUsize::new(0);
    let mut parts: Vec<(usize, Vec<(FileId, ParseResult)>)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let mut texts = Texts::default();
                    let mut parts = Vec::new();
                    loop {
                        let start = next.fetch_add(CHUNK, std::sync::atomic::Ordering::Relaxed);
                        let Some(rest) = documents.get(start..).filter(|rest| !rest.is_empty()) else { return parts };
                        parts.push((start, parse_range(&rest[..rest.len().min(CHUNK)], &mut texts)));
                    }
                })
            })
            .collect();
        workers
            .into_iter()
            .flat_map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    parts.sort_by_key(|(start, _)| *start);
    parts.into_iter().flat_map(|(_, results)| results).collect()
}

/// Group, kind, namespace and name.
type ObjectKey = (Arc<str>, Arc<str>, Option<Arc<str>>, Arc<str>);

struct Collector {
    snapshot: Snapshot,
    /// Where each object is that has a name.
    seen: FxHashMap<ObjectKey, usize>,
    texts: Texts,
    /// Problems that are only counted, and the weightiest of them.
    untold: usize,
    weightiest: Severity,
}

impl Collector {
    fn new(snapshot: Snapshot) -> Self {
        Self { snapshot, seen: FxHashMap::default(), texts: Texts::default(), untold: 0, weightiest: Severity::Note }
    }

    fn problem(&mut self, problem: InputProblem) {
        if self.snapshot.problems.len() < MOST_PROBLEMS {
            self.snapshot.problems.push(problem);
        } else {
            self.untold += 1;
            self.weightiest = self.weightiest.max(problem.severity);
        }
    }

    fn add_problem(
        &mut self,
        severity: Severity,
        source: SourceRef,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.problem(InputProblem { severity, source, what: what.into(), remedy: remedy.into() });
    }

    /// Tells what is not read because there is too much.
    fn left_out(&mut self, documents: &[(FileId, Document<'_>)], most: usize) {
        let Some((file, first)) = documents.first() else { return };
        // The marker of a document stands on its first line.
        let source = SourceRef { file: *file, line: first.lines_before.saturating_add(1), column: 0 };
        let left = documents.len();
        let what = format!("more than {most} values were read; the {left} documents from here on were not");
        // Past any other problem: nobody may miss it.
        let remedy = "audit parts of it: namespaces do not depend on each other but for policies between them";
        self.snapshot.problems.push(InputProblem {
            severity: Severity::Error,
            source,
            what,
            remedy: remedy.to_owned(),
        });
    }

    fn finish(mut self) -> Snapshot {
        if self.untold > 0 {
            let source = SourceRef { file: FileId(0), line: 0, column: 0 };
            self.snapshot.problems.push(InputProblem {
                severity: self.weightiest,
                source,
                what: format!("{} problems more are not told", self.untold),
                remedy: "correct those above first".to_owned(),
            });
        }
        self.snapshot
    }

    fn document(&mut self, file: FileId, parsed: Parsed) {
        for (key, line, column) in parsed.given_twice {
            self.add_problem(
                Severity::Warning,
                SourceRef { file, line, column },
                format!("key \"{key}\" is given twice; the last one counts"),
                "remove this one",
            );
        }
        self.value(file, parsed.node, 0);
    }

    fn value(&mut self, file: FileId, node: Node, depth: usize) {
        let source = SourceRef { file, line: node.line, column: node.column };
        if node.is_null() {
            return;
        }
        let (api_version, kind) = (node.text_at("apiVersion"), node.text_at("kind"));
        let (Some(api_version), Some(kind)) = (api_version, kind) else {
            let (severity, what) = match (api_version, kind, &node.value) {
                (None, Some(kind), _) => (Severity::Error, format!("this {kind} has no apiVersion")),
                (Some(_), None, _) => (Severity::Error, "this object has no kind".to_owned()),
                (None, None, Value::Map(_)) => {
                    (Severity::Note, "this is not a Kubernetes object: it has neither apiVersion nor kind".to_owned())
                }
                _ => (Severity::Note, format!("this is not a Kubernetes object but {}", node.kind_of_value())),
            };
            self.add_problem(severity, source, what, "give both, or leave the file out");
            return;
        };
        if kinds::is_list(api_version, kind) && depth < 4 {
            self.list(file, source, node, depth);
            return;
        }
        let (api_version, kind) = (self.texts.share(api_version), self.texts.share(kind));
        self.object(file, source, api_version, kind, node);
    }

    fn list(&mut self, file: FileId, source: SourceRef, node: Node, depth: usize) {
        // Items of a typed list need not repeat their kind: `PodList` holds Pods.
        let api_version = node.text_at("apiVersion").unwrap_or_default().to_owned();
        let item_kind = node.text_at("kind").and_then(|kind| kind.strip_suffix("List")).unwrap_or_default().to_owned();
        let Value::Map(entries) = node.value else { return };
        let items = entries.into_iter().find(|entry| &*entry.key == "items").map(|entry| entry.node.value);
        match items {
            Some(Value::List(items)) => {
                for item in items {
                    let has_kind = item.text_at("kind").is_some();
                    if !has_kind && !item_kind.is_empty() {
                        let source = SourceRef { file, line: item.line, column: item.column };
                        let (api_version, kind) = (self.texts.share(&api_version), self.texts.share(&item_kind));
                        self.object(file, source, api_version, kind, item);
                    } else {
                        self.value(file, item, depth + 1);
                    }
                }
            }
            Some(Value::Null) => {}
            None => {
                self.add_problem(Severity::Warning, source, "this list has no items", "give them, or leave it out");
            }
            Some(_) => {
                self.add_problem(Severity::Error, source, "the items of this list are no list", "correct the file")
            }
        }
    }

    fn object(&mut self, file: FileId, source: SourceRef, api_version: Arc<str>, kind: Arc<str>, value: Node) {
        let scope = kinds::scope(&api_version, &kind);
        let name = self.name_of(file, source, &kind, &value, "name");
        let namespace = self.name_of(file, source, &kind, &value, "namespace");
        let (Some(name), Some(namespace)) = (name, namespace) else { return };
        let namespace = match (scope, namespace.is_empty()) {
            (Scope::ClusterWide, true) | (Scope::Unknown, true) => None,
            (Scope::ClusterWide, false) => None,
            (Scope::Namespaced, true) => Some(self.texts.share("default")),
            (_, false) => Some(namespace),
        };
        if name.is_empty() && value.at(&["metadata", "generateName"]).is_none() {
            self.add_problem(Severity::Error, source, format!("this {kind} has no metadata.name"), "give it one");
        }
        let object = Object { api_version, kind, namespace, name, value, source };
        if object.name.is_empty() {
            self.snapshot.objects.push(object);
            return;
        }
        let group: Arc<str> = self.texts.share(kinds::group(&object.api_version));
        let key = (group, Arc::clone(&object.kind), object.namespace.clone(), Arc::clone(&object.name));
        let Some(first) = self.seen.get(&key).map(|at| &self.snapshot.objects[*at]) else {
            self.seen.insert(key, self.snapshot.objects.len());
            self.snapshot.objects.push(object);
            return;
        };
        let is_same = same_value(&first.value, &object.value);
        let named = match &object.namespace {
            Some(namespace) => format!("{} {namespace}/{}", object.kind, object.name),
            None => format!("{} {}", object.kind, object.name),
        };
        let at = self.snapshot.locate(first.source);
        if is_same {
            self.add_problem(Severity::Note, source, format!("{named} is given twice, alike; first at {at}"), "");
        } else {
            self.add_problem(
                Severity::Error,
                source,
                format!("{named} is given twice, differently; the one at {at} was taken"),
                "remove one of them",
            );
        }
    }

    /// A name, empty where absent; none, with a problem noted, where it is not text.
    fn name_of(&mut self, file: FileId, source: SourceRef, kind: &str, value: &Node, key: &str) -> Option<Arc<str>> {
        match value.get("metadata").and_then(|metadata| metadata.get(key)) {
            None => Some(self.texts.share("")),
            Some(Node { value: Value::Text(text), .. }) => Some(Arc::clone(text)),
            Some(other) => {
                let place =
                    if other.line == 0 { source } else { SourceRef { file, line: other.line, column: other.column } };
                self.add_problem(
                    Severity::Error,
                    place,
                    format!(
                        "metadata.{key} of this {kind} must be text but is {}; the API server refuses it",
                        other.kind_of_value()
                    ),
                    "quote it: YAML 1.1 reads y, n, on, off, yes and no as booleans",
                );
                None
            }
        }
    }
}

/// Equality that does not look at places.
fn same_value(one: &Node, other: &Node) -> bool {
    one.to_json() == other.to_json()
}
