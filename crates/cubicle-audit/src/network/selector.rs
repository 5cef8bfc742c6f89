//! Labels and label selectors, with every text replaced by a number.

use std::sync::Arc;

use rustc_hash::FxHashMap;

/// A text, as a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Symbol(pub u32);

/// Texts and their numbers.
#[derive(Debug, Clone, Default)]
pub struct Symbols {
    texts: Vec<Arc<str>>,
    numbers: FxHashMap<Arc<str>, Symbol>,
}

impl Symbols {
    /// The number of a text, a new one if it has none.
    pub fn intern(&mut self, text: &str) -> Symbol {
        if let Some(symbol) = self.numbers.get(text) {
            return *symbol;
        }
        let symbol = Symbol(u32::try_from(self.texts.len()).unwrap_or(u32::MAX));
        let text: Arc<str> = text.into();
        self.texts.push(Arc::clone(&text));
        self.numbers.insert(text, symbol);
        symbol
    }

    /// The number of a text, if it has one.
    #[must_use]
    pub fn find(&self, text: &str) -> Option<Symbol> {
        self.numbers.get(text).copied()
    }

    /// The text of a number.
    #[must_use]
    pub fn text(&self, symbol: Symbol) -> &str {
        self.texts.get(symbol.0 as usize).map_or("", |text| text)
    }
}

/// Labels, sorted by key.
pub type Labels = Arc<[(Symbol, Symbol)]>;

/// The value of a label.
#[must_use]
pub fn value(labels: &[(Symbol, Symbol)], key: Symbol) -> Option<Symbol> {
    labels.iter().find(|(known, _)| *known == key).map(|(_, value)| *value)
}

/// What a selector asks of one label.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Requirement {
    /// The label is there with one of these values. `matchLabels` are this with one value.
    In(Symbol, Vec<Symbol>),
    /// The label is absent, or has none of these values.
    NotIn(Symbol, Vec<Symbol>),
    /// The label is there.
    Exists(Symbol),
    /// The label is absent.
    DoesNotExist(Symbol),
}

/// A label selector: all requirements hold. Without any it matches everything.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Selector {
    requirements: Vec<Requirement>,
}

impl Selector {
    /// A selector of these requirements; equal sets of requirements give equal selectors.
    #[must_use]
    pub fn new(mut requirements: Vec<Requirement>) -> Self {
        for requirement in &mut requirements {
            if let Requirement::In(_, values) | Requirement::NotIn(_, values) = requirement {
                values.sort_unstable();
                values.dedup();
            }
        }
        requirements.sort_unstable();
        requirements.dedup();
        Self { requirements }
    }

    /// Whether it matches everything.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty()
    }

    /// What it requires.
    #[must_use]
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// Whether it matches these labels.
    #[must_use]
    pub fn matches(&self, labels: &[(Symbol, Symbol)]) -> bool {
        self.requirements.iter().all(|requirement| match requirement {
            Requirement::In(key, values) => value(labels, *key).is_some_and(|value| values.contains(&value)),
            Requirement::NotIn(key, values) => value(labels, *key).is_none_or(|value| !values.contains(&value)),
            Requirement::Exists(key) => value(labels, *key).is_some(),
            Requirement::DoesNotExist(key) => value(labels, *key).is_none(),
        })
    }
}
