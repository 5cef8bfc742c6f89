//! Reads the parts that many kinds share, and notes what is wrong with them.

use std::net::IpAddr;
use std::sync::Arc;

use super::cluster::Cluster;
use super::port::Protocol;
use super::selector::{Labels, Requirement, Selector, Symbol};
use crate::snapshot::{InputProblem, Node, Object, Severity, SourceRef, Value};

/// Reads one object.
pub(super) struct Reader<'cluster> {
    pub(super) cluster: &'cluster mut Cluster,
    kind: Arc<str>,
    origin: SourceRef,
    /// Whether the API server would take what was read so far.
    pub(super) valid: bool,
}

impl<'cluster> Reader<'cluster> {
    pub(super) fn new(cluster: &'cluster mut Cluster, object: &Object) -> Self {
        Self { cluster, kind: Arc::clone(&object.kind), origin: object.source, valid: true }
    }

    /// Something that the API server refuses.
    pub(super) fn refuse(&mut self, node: &Node, what: impl Into<String>, remedy: &str) {
        self.valid = false;
        let what = format!("{}; the API server refuses this {}", what.into(), self.kind);
        self.note(Severity::Error, node, what, remedy);
    }

    /// Something that is probably not meant.
    pub(super) fn warn(&mut self, line: u32, column: u32, what: impl Into<String>, remedy: &str) {
        let place = Node { value: Value::Null, line, column };
        self.note(Severity::Warning, &place, what.into(), remedy);
    }

    fn note(&mut self, severity: Severity, node: &Node, what: String, remedy: &str) {
        let source = match node.line {
            0 => self.origin,
            line => SourceRef { file: self.origin.file, line, column: node.column },
        };
        self.cluster.problems.push(InputProblem { severity, source, what, remedy: remedy.to_owned() });
    }

    /// Notes keys that the API server drops, such as a misspelt `ingres`.
    pub(super) fn only(&mut self, node: &Node, known: &[&str]) {
        for entry in node.entries() {
            if !known.contains(&&*entry.key) {
                let what = format!("\"{}\" is no field here; the API server drops it", entry.key);
                self.warn(entry.line, entry.column, what, &format!("use one of: {}", known.join(", ")));
            }
        }
    }

    /// Labels; what is not text is refused and taken as the text it was probably meant to be.
    pub(super) fn labels(&mut self, node: Option<&Node>) -> Vec<(Symbol, Symbol)> {
        let Some(node) = node else { return Vec::new() };
        if !matches!(node.value, Value::Map(_)) {
            self.refuse(
                node,
                format!("labels must be a mapping but are {}", node.kind_of_value()),
                "write them as key: value",
            );
            return Vec::new();
        }
        let mut labels = Vec::with_capacity(node.entries().len());
        for entry in node.entries() {
            let key = self.cluster.symbols.intern(&entry.key);
            let value = self.label_value(&entry.node);
            labels.push((key, value));
        }
        labels.sort_unstable();
        labels
    }

    pub(super) fn shared_labels(&mut self, node: Option<&Node>) -> Labels {
        self.labels(node).into()
    }

    fn label_value(&mut self, node: &Node) -> Symbol {
        match &node.value {
            Value::Text(text) => self.cluster.symbols.intern(text),
            Value::Null => self.cluster.symbols.intern(""),
            _ => {
                let what = format!("a label must be text but is {}", node.kind_of_value());
                self.refuse(node, what, "quote it: YAML 1.1 reads y, n, on, off, yes and no as booleans");
                let text = node.to_json().to_string();
                self.cluster.symbols.intern(&text)
            }
        }
    }

    /// A label selector; absent and empty ones match everything.
    pub(super) fn selector(&mut self, node: Option<&Node>) -> Selector {
        let Some(node) = node else { return Selector::default() };
        if !matches!(node.value, Value::Map(_)) {
            self.refuse(
                node,
                format!("a selector must be a mapping but is {}", node.kind_of_value()),
                "use matchLabels or matchExpressions",
            );
            return Selector::default();
        }
        self.only(node, &["matchLabels", "matchExpressions"]);
        let mut requirements = Vec::new();
        for (key, value) in self.labels(node.get("matchLabels")) {
            requirements.push(Requirement::In(key, vec![value]));
        }
        for expression in self.list(node, "matchExpressions") {
            if let Some(requirement) = self.expression(expression) {
                requirements.push(requirement);
            }
        }
        Selector::new(requirements)
    }

    fn expression(&mut self, node: &Node) -> Option<Requirement> {
        self.only(node, &["key", "operator", "values"]);
        let Some(key) = node.text_at("key").filter(|key| !key.is_empty()) else {
            self.refuse(node, "this requirement has no key", "give the key of a label");
            return None;
        };
        let key = self.cluster.symbols.intern(key);
        let values: Vec<Symbol> = self.list(node, "values").iter().map(|value| self.label_value(value)).collect();
        let operator = node.text_at("operator").unwrap_or_default();
        let place = node.get("operator").unwrap_or(node);
        match operator {
            "In" | "NotIn" if values.is_empty() => {
                self.refuse(place, format!("operator {operator} needs values"), "give at least one value");
                None
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                self.refuse(place, format!("operator {operator} takes no values"), "remove them, or use In or NotIn");
                None
            }
            "In" => Some(Requirement::In(key, values)),
            "NotIn" => Some(Requirement::NotIn(key, values)),
            "Exists" => Some(Requirement::Exists(key)),
            "DoesNotExist" => Some(Requirement::DoesNotExist(key)),
            _ => {
                self.refuse(place, format!("\"{operator}\" is no operator"), "use In, NotIn, Exists or DoesNotExist");
                None
            }
        }
    }

    /// The items of a list; refused when it is something else.
    pub(super) fn list<'node>(&mut self, node: &'node Node, key: &str) -> &'node [Node] {
        match node.get(key) {
            None => &[],
            Some(Node { value: Value::List(items), .. }) => items,
            Some(other) => {
                self.refuse(
                    other,
                    format!("{key} must be a list but is {}", other.kind_of_value()),
                    "begin each item with -",
                );
                &[]
            }
        }
    }

    /// A protocol; TCP where it is absent.
    pub(super) fn protocol(&mut self, node: Option<&Node>) -> Option<Protocol> {
        let Some(node) = node else { return Some(Protocol::Tcp) };
        let protocol = node.text().and_then(|text| text.parse().ok());
        if protocol.is_none() {
            self.refuse(node, format!("{} is no protocol", node.to_json()), "use TCP, UDP or SCTP");
        }
        protocol
    }

    /// A port number.
    pub(super) fn port(&mut self, node: &Node) -> Option<u16> {
        let port = node.integer().and_then(|number| u16::try_from(number).ok()).filter(|port| *port > 0);
        if port.is_none() {
            self.refuse(node, format!("{} is no port", node.to_json()), "use a number from 1 to 65535");
        }
        port
    }

    /// The name of a port, as the API server takes it.
    pub(super) fn port_name(&mut self, node: &Node) -> Option<Symbol> {
        let text = node.text().unwrap_or_default();
        let is_name = text.len() <= 15
            && text.bytes().any(|byte| byte.is_ascii_lowercase())
            && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && !text.starts_with('-')
            && !text.ends_with('-')
            && !text.contains("--");
        if is_name {
            return Some(self.cluster.symbols.intern(text));
        }
        let remedy =
            "a name has at most 15 lower-case letters, digits and -, one letter at least; a number is not quoted";
        self.refuse(node, format!("{} is no name of a port", node.to_json()), remedy);
        None
    }

    /// The addresses of a list.
    pub(super) fn addresses(&mut self, node: &Node, key: &str) -> Vec<IpAddr> {
        let items = self.list(node, key);
        items.iter().flat_map(|item| self.addresses_of(Some(item))).collect()
    }

    /// An address, if it is one; `None` is the API's word for "no address".
    pub(super) fn addresses_of(&mut self, node: Option<&Node>) -> Option<IpAddr> {
        let node = node.filter(|node| !matches!(node.text(), Some("None" | "")))?;
        let address = node.text().and_then(|text| text.parse::<IpAddr>().ok());
        if address.is_none() {
            self.refuse(node, format!("{} is no address", node.to_json()), "write an IP address");
        }
        address.map(|address| address.to_canonical())
    }

    /// A block of addresses.
    pub(super) fn block(&mut self, node: &Node) -> Option<ipnet::IpNet> {
        let block = node.text().and_then(|text| text.parse::<ipnet::IpNet>().ok());
        match block {
            None => {
                self.refuse(
                    node,
                    format!("{} is no block of addresses", node.to_json()),
                    "write it as 10.0.0.0/8 or 2001:db8::/32",
                );
                None
            }
            Some(block) => {
                if block != block.trunc() {
                    let what = format!("{block} has bits behind its mask; it means {}", block.trunc());
                    self.warn(node.line, node.column, what, "write the block's first address");
                }
                Some(block.trunc())
            }
        }
    }
}
