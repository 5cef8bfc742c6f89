//! Goes through another program's configuration key by key, so that nothing of it is lost silently.

use cubicle_audit::snapshot::{Entry, Node, Value};
use cubicle_core::name::TemplateName;
use cubicle_core::problem::Problem;
use cubicle_core::template::Template;
use serde::Serialize;

/// What became of a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    /// It stands in a template now.
    CarriedOver,
    /// Something else does its work, or nothing has to.
    Replaced,
    /// It would open a wall, or promises what no engine has.
    Refused,
}

/// One setting of the file.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Setting {
    /// Its path in the file. Values are never shown: some are secrets.
    pub(super) key: String,
    /// Its line, from 1.
    pub(super) line: u32,
    /// What became of it.
    pub(super) outcome: Outcome,
    /// The template's field, or what replaces it; `nothing` where nothing does.
    pub(super) by: String,
    /// Why; empty for what is carried over as it is.
    pub(super) why: String,
}

/// What is done with a known key.
#[derive(Clone, Copy)]
pub(super) enum Rule {
    /// The importer looks at its value.
    Read,
    /// Replaced by this, for this reason.
    By(&'static str, &'static str),
}

/// The keys that a mapping may have.
pub(super) type Rules = &'static [(&'static str, Rule)];

/// What was found so far.
pub(super) struct Reading {
    file: String,
    problems: Vec<(u32, String)>,
    pub(super) settings: Vec<Setting>,
    pub(super) templates: Vec<Template>,
}

impl Reading {
    pub(super) fn new(file: String) -> Self {
        Self { file, problems: Vec::new(), settings: Vec::new(), templates: Vec::new() }
    }

    /// The setting stands in this field of the template.
    pub(super) fn carried(&mut self, key: &str, line: u32, by: &str) {
        self.note(key, line, Outcome::CarriedOver, by, "");
    }

    /// Something else does what it did.
    pub(super) fn replaced(&mut self, key: &str, line: u32, by: &str, why: &str) {
        self.note(key, line, Outcome::Replaced, by, why);
    }

    /// It is not taken over, and must not be.
    pub(super) fn refused(&mut self, key: &str, line: u32, why: &str) {
        self.note(key, line, Outcome::Refused, "nothing", why);
    }

    /// Every setting is told once, also where several templates take it over.
    fn note(&mut self, key: &str, line: u32, outcome: Outcome, by: &str, why: &str) {
        if self.settings.iter().any(|known| known.key == key && known.line == line) {
            return;
        }
        let (by, why) = (by.to_owned(), why.to_owned());
        self.settings.push(Setting { key: key.to_owned(), line, outcome, by, why });
    }

    /// The file is wrong here.
    pub(super) fn wrong(&mut self, line: u32, what: impl Into<String>) {
        let problem = (line, what.into());
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    /// Takes the entries of a mapping that the importer must look at; tells about all others.
    pub(super) fn entries<'a>(&mut self, node: &'a Node, path: &str, rules: Rules) -> Vec<(String, &'a Entry)> {
        if !matches!(node.value, Value::Map(_) | Value::Null) {
            self.wrong(node.line, format!("{} must be a mapping, and is {}", shown(path), node.kind_of_value()));
            return Vec::new();
        }
        let mut read = Vec::new();
        for entry in node.entries() {
            let key = below(path, &entry.key);
            match rules.iter().find(|(name, _)| *name == &*entry.key).map(|(_, rule)| *rule) {
                Some(Rule::Read) => read.push((key, entry)),
                Some(Rule::By(by, why)) => self.replaced(&key, entry.line, by, why),
                None => self.wrong(entry.line, format!("{key} is not a known setting")),
            }
        }
        read
    }

    /// The items of a list; `null` is an empty one.
    pub(super) fn items<'a>(&mut self, key: &str, node: &'a Node) -> &'a [Node] {
        if !matches!(node.value, Value::List(_) | Value::Null) {
            self.wrong(node.line, format!("{key} must be a list, and is {}", node.kind_of_value()));
        }
        node.items()
    }

    /// A text or number as text.
    pub(super) fn scalar(&mut self, key: &str, node: &Node) -> Option<String> {
        match &node.value {
            Value::Text(text) => Some(text.to_string()),
            Value::Integer(number) => Some(number.to_string()),
            Value::Float(number) => Some(number.to_string()),
            Value::Null => None,
            _ => {
                self.wrong(node.line, format!("{key} must be a text or a number, and is {}", node.kind_of_value()));
                None
            }
        }
    }

    /// The texts of a list.
    pub(super) fn texts(&mut self, key: &str, node: &Node) -> Vec<String> {
        let items: Vec<&Node> = match &node.value {
            Value::Text(_) => vec![node],
            _ => self.items(key, node).iter().collect(),
        };
        items.into_iter().filter_map(|item| self.scalar(key, item)).collect()
    }

    /// A boolean, also one that is written as text.
    pub(super) fn flag(&mut self, key: &str, node: &Node) -> bool {
        match (&node.value, node.text()) {
            (Value::Bool(flag), _) => *flag,
            (Value::Null, _) => false,
            (_, Some("true")) => true,
            (_, Some("false" | "")) => false,
            _ => {
                self.wrong(node.line, format!("{key} must be true or false"));
                false
            }
        }
    }

    /// What a parser makes of a scalar; its refusal is a problem of this line.
    pub(super) fn parsed<T>(
        &mut self,
        key: &str,
        node: &Node,
        parse: impl FnOnce(&str) -> Result<T, Problem>,
    ) -> Option<T> {
        let text = self.scalar(key, node)?;
        match parse(&text) {
            Ok(value) => Some(value),
            Err(problem) => {
                self.wrong(node.line, format!("{key}: {}; {}", problem.what, problem.remedy));
                None
            }
        }
    }

    /// Another container of the pod. Its name is told when it would be a hole.
    pub(super) fn container(&mut self, key: &str, container: &Node) {
        let name = container.text_at("name").or_else(|| container.text_at("image")).unwrap_or("without a name");
        let name: String = name.chars().take(80).flat_map(char::escape_default).collect();
        let security = container.get("securityContext");
        let privileged = security.and_then(|security| security.get("privileged")).and_then(Node::bool) == Some(true);
        if privileged {
            self.refused(
                key,
                container.line,
                &format!("container \"{name}\" is privileged: whoever gets into it owns the node"),
            );
        }
        let mounts = container.get("volumeMounts").map(Node::items).unwrap_or_default();
        for mount in mounts.iter().filter(|mount| mount.text_at("mountPropagation") == Some("Bidirectional")) {
            let at = mount.text_at("mountPath").unwrap_or("a volume");
            let at: String = at.chars().take(80).flat_map(char::escape_default).collect();
            self.refused(
                &format!("{key}.volumeMounts"),
                mount.line,
                &format!("container \"{name}\" mounts {at} Bidirectional: its mounts reach the node and every pod"),
            );
        }
        if !privileged {
            self.replaced(
                key,
                container.line,
                "spec.image",
                "a workspace is one container: start it from the image, or run it as a service of the site",
            );
        }
    }

    /// Takes a template, if it is one that `cubicle template apply` takes.
    pub(super) fn template(&mut self, line: u32, template: Template) {
        match template.validate() {
            Ok(()) => self.templates.push(template),
            Err(problem) => self.wrong(line, format!("{}; {}", problem.what, problem.remedy)),
        }
    }

    /// A free name that says what the text says. None only when there is none left.
    pub(super) fn name(&self, text: &str) -> Option<TemplateName> {
        let mut base = String::new();
        for character in text.chars().flat_map(char::to_lowercase) {
            if character.is_ascii_alphanumeric() {
                base.push(character);
            } else if !base.is_empty() && !base.ends_with('-') {
                base.push('-');
            }
        }
        base.truncate(50);
        let base = match base.trim_matches('-') {
            "" => "imported",
            base => base,
        };
        let taken = |name: &str| self.templates.iter().any(|known| known.metadata.name.as_str() == name);
        let numbered = (2..).map(|number| format!("{base}-{number}"));
        std::iter::once(base.to_owned()).chain(numbered).find(|name| !taken(name))?.parse().ok()
    }

    /// All that is wrong with the file, at once.
    pub(super) fn finish(mut self) -> Result<(Vec<Template>, Vec<Setting>), Problem> {
        self.problems.sort();
        if self.problems.is_empty() {
            self.settings.sort_by_key(|setting| setting.line);
            return Ok((self.templates, self.settings));
        }
        let told = self.problems.iter().take(200).map(|(line, what)| {
            let what: String = what.chars().take(400).collect();
            format!("{}:{line}: {what}", self.file)
        });
        let mut told: Vec<String> = told.collect();
        if self.problems.len() > told.len() {
            told.push(format!("and {} more", self.problems.len() - told.len()));
        }
        Err(Problem::bad_input(told.join("\n"), "correct or remove these lines; nothing was written"))
    }
}

/// The path of a key below another.
pub(super) fn below(path: &str, key: &str) -> String {
    let key: String = key.chars().take(80).flat_map(char::escape_default).collect();
    if path.is_empty() { key } else { format!("{path}.{key}") }
}

fn shown(path: &str) -> &str {
    if path.is_empty() { "the document" } else { path }
}
