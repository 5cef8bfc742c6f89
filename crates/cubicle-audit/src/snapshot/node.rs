//! Values of a manifest, each with the line and column where it stands.

use std::fmt;
use std::sync::Arc;

/// A value and where it begins.
#[derive(Clone, PartialEq)]
pub struct Node {
    /// The value.
    pub value: Value,
    /// The line in the file, from 1; 0 where the value came from no file.
    pub line: u32,
    /// The column in the file, from 1; 0 where the value came from no file.
    pub column: u32,
}

/// What a value can be after YAML's scalars were read as Kubernetes reads them.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `null`, `~` or nothing.
    Null,
    /// A boolean, also YAML 1.1's `yes`, `on`, `y` and their opposites.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// Any other number.
    Float(f64),
    /// Text.
    Text(Arc<str>),
    /// A list.
    List(Box<[Node]>),
    /// A mapping in the order of the file; keys are unique.
    Map(Box<[Entry]>),
}

/// A key, where it stands, and its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The key. Numbers and booleans are the text JSON would show.
    pub key: Arc<str>,
    /// The line of the key, from 1.
    pub line: u32,
    /// The column of the key, from 1.
    pub column: u32,
    /// The value.
    pub node: Node,
}

static NOTHING: Node = Node { value: Value::Null, line: 0, column: 0 };

impl Node {
    /// A value that stands in no file.
    #[must_use]
    pub const fn without_place(value: Value) -> Self {
        Self { value, line: 0, column: 0 }
    }

    /// The value of a key of a mapping; none where it is absent, `null`, or this is no mapping.
    /// Kubernetes treats `key:` and an absent key alike.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.node).filter(|node| !node.is_null())
    }

    /// The entry of a key of a mapping, also when its value is `null`.
    #[must_use]
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| &*entry.key == key)
    }

    /// Follows keys from mapping to mapping.
    #[must_use]
    pub fn at(&self, path: &[&str]) -> Option<&Node> {
        path.iter().try_fold(self, |node, key| node.get(key))
    }

    /// What a JSON pointer (RFC 6901) points at.
    #[must_use]
    pub fn pointer(&self, pointer: &str) -> Option<&Node> {
        if pointer.is_empty() {
            return Some(self);
        }
        pointer.strip_prefix('/')?.split('/').try_fold(self, |node, token| match &node.value {
            Value::List(items) => items.get(token.parse::<usize>().ok()?),
            Value::Map(_) if token.contains('~') => {
                node.entry(&token.replace("~1", "/").replace("~0", "~")).map(|entry| &entry.node)
            }
            Value::Map(_) => node.entry(token).map(|entry| &entry.node),
            _ => None,
        })
    }

    /// How many values this is, with its keys and all that it holds.
    pub(super) fn count(&self) -> usize {
        let items = self.items().iter().map(Self::count).sum::<usize>();
        1 + items + self.entries().iter().map(|entry| 1 + entry.node.count()).sum::<usize>()
    }

    /// The items of a list; empty when this is none.
    #[must_use]
    pub fn items(&self) -> &[Node] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }

    /// The entries of a mapping; empty when this is none.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The text, if this is text.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The text of a key of a mapping, if it is text.
    #[must_use]
    pub fn text_at(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Self::text)
    }

    /// The whole number, if this is one.
    #[must_use]
    pub fn integer(&self) -> Option<i64> {
        match &self.value {
            Value::Integer(number) => Some(*number),
            _ => None,
        }
    }

    /// The boolean, if this is one.
    #[must_use]
    pub fn bool(&self) -> Option<bool> {
        match &self.value {
            Value::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// Whether this is `null`.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(self.value, Value::Null)
    }

    /// What this is, for a message: "a list", "a boolean".
    #[must_use]
    pub fn kind_of_value(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Bool(_) => "a boolean",
            Value::Integer(_) | Value::Float(_) => "a number",
            Value::Text(_) => "text",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }

    /// The same value as serde_json has it, without places.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(value) => (*value).into(),
            Value::Integer(number) => (*number).into(),
            Value::Float(number) => (*number).into(),
            Value::Text(text) => serde_json::Value::String(text.to_string()),
            Value::List(items) => items.iter().map(Self::to_json).collect(),
            Value::Map(entries) => entries.iter().map(|entry| (entry.key.to_string(), entry.node.to_json())).collect(),
        }
    }

    /// A value from JSON that stands in no file, for example an answer of the API server.
    #[must_use]
    pub fn from_json(json: &serde_json::Value) -> Self {
        Self::without_place(match json {
            serde_json::Value::Null => Value::Null,
            serde_json::Value::Bool(value) => Value::Bool(*value),
            serde_json::Value::Number(number) => match number.as_i64() {
                Some(number) => Value::Integer(number),
                None => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
            },
            serde_json::Value::String(text) => Value::Text(text.as_str().into()),
            serde_json::Value::Array(items) => Value::List(items.iter().map(Self::from_json).collect()),
            serde_json::Value::Object(map) => Value::Map(
                map.iter()
                    .map(|(key, value)| Entry {
                        key: key.as_str().into(),
                        line: 0,
                        column: 0,
                        node: Self::from_json(value),
                    })
                    .collect(),
            ),
        })
    }
}

/// `node["key"]` and chains of it; `null` where there is nothing.
impl std::ops::Index<&str> for Node {
    type Output = Node;

    fn index(&self, key: &str) -> &Node {
        self.get(key).unwrap_or(&NOTHING)
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}@{}:{}", self.to_json(), self.line, self.column)
    }
}
