//! Expressions (CEL), compiled once and evaluated within bounds.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cel::{Context, Env, Program, Value};

/// Bytes of stack for parsing and evaluating. The interpreter recurses along chains of operators; a
/// debug build overflows 64 MiB between 1,000 and 2,000 of them.
const STACK: usize = 128 << 20;

/// How many operators an expression may have. The longest of Kubernetes' own examples has 40.
const MOST_OPERATORS: usize = 1_000;

/// How many times the body of an expression's loops may run, as far as its text bounds it: a second
/// or two.
const MOST_ROUNDS: u64 = 1_000_000;

/// The same for all evaluations of an audit together.
const MOST_ROUNDS_OF_ALL: u64 = 100_000_000;

/// How large what a variable holds may become, in values and bytes.
const MOST_OF_A_VARIABLE: usize = 1 << 16;

/// Runs something on a stack that is deep enough; none if it could not be run to its end.
pub(super) fn with_stack<T: Send>(run: impl FnOnce() -> T + Send) -> Option<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, run).ok()?;
        thread.join().ok()
    })
}

/// Why an expression has no value here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Doubt {
    /// It depends on who asks.
    Requester,
    /// Anything else.
    Other(String),
}

/// What expressions are evaluated with.
pub(super) struct Evaluator {
    env: Arc<Env>,
    rounds: AtomicU64,
}

impl Evaluator {
    pub(super) fn new() -> Self {
        let mut env = Env::stdlib();
        // Without it an expression that uses it has no value here, which is what is then told.
        let _ = env.add_extension(cel::extensions::strings);
        Self { env: Arc::new(env), rounds: AtomicU64::new(0) }
    }

    pub(super) fn compile(&self, text: &str) -> Expression {
        let operators = text.chars().filter(|character| "+-*/%[(<>=!?.".contains(*character)).count();
        let program = if operators > MOST_OPERATORS {
            Err(format!("it has {operators} operators, and {MOST_OPERATORS} are evaluated here"))
        } else {
            self.env.compile(text).map_err(|_| "it is not an expression that is understood here".to_owned())
        };
        let plain: String = text.chars().filter(|character| !character.is_whitespace()).collect();
        Expression { program, plain }
    }

    fn context(&self) -> Context<'static, 'static> {
        Context::with_env(Arc::clone(&self.env))
    }
}

/// A compiled expression.
pub(super) struct Expression {
    program: Result<Program, String>,
    /// Its text without white space.
    plain: String,
}

/// The names that an expression may use.
pub(super) struct Names {
    values: Vec<(&'static str, Value)>,
    variables: HashMap<String, Value>,
    /// Variables without a value, with the reason.
    doubtful: Vec<(String, Doubt)>,
    /// The longest list, map or text of all values.
    longest: usize,
    /// The loops that made the variables.
    loops: u32,
}

impl Names {
    pub(super) fn new(values: Vec<(&'static str, &serde_json::Value)>) -> Self {
        let longest = values.iter().map(|(_, value)| longest(value)).max().unwrap_or(0);
        let values = values.into_iter().map(|(name, value)| (name, from_json(value))).collect();
        Self { values, variables: HashMap::new(), doubtful: Vec::new(), longest, loops: 0 }
    }

    /// Adds a variable of the policy.
    pub(super) fn define(&mut self, name: &str, expression: &Expression, evaluator: &Evaluator) {
        let value = expression.value(self, evaluator);
        self.loops += expression.loops();
        match value {
            Ok(value) if size(&value) <= MOST_OF_A_VARIABLE => drop(self.variables.insert(name.to_owned(), value)),
            Ok(_) => self.doubtful.push((name.to_owned(), Doubt::Other("a variable becomes too large".to_owned()))),
            Err(doubt) => self.doubtful.push((name.to_owned(), doubt)),
        }
    }
}

impl Expression {
    fn loops(&self) -> u32 {
        let names = [".all(", ".exists(", ".exists_one(", ".existsOne(", ".map(", ".filter("];
        u32::try_from(names.iter().map(|name| self.plain.matches(name).count()).sum::<usize>()).unwrap_or(u32::MAX)
    }

    /// How often the bodies of its loops may run at the very most.
    fn rounds(&self, names: &Names) -> u64 {
        let literals = self.plain.matches(',').count() + 1;
        let joined = self.plain.matches('+').count() + 1;
        let each = u64::try_from(names.longest.max(literals).saturating_mul(joined)).unwrap_or(u64::MAX).max(2);
        // A regular expression is compiled each time; repetitions make that dear.
        let weight = match (self.plain.contains("matches("), self.plain.matches('{').count()) {
            (false, _) => 1,
            (true, 0) => 100,
            (true, 1) => 1_000,
            (true, _) => 10_000,
        };
        each.saturating_pow(self.loops().saturating_add(names.loops)).saturating_mul(weight)
    }

    /// The value, as the API server has it.
    pub(super) fn value(&self, names: &Names, evaluator: &Evaluator) -> Result<Value, Doubt> {
        let other = |why: &str| Err(Doubt::Other(why.to_owned()));
        let program = match &self.program {
            Ok(program) => program,
            Err(why) => return other(why),
        };
        // Whether these are there cannot be asked: they are, and their values are not known here.
        if ["has(request.userInfo)", "request.?", "request["].iter().any(|text| self.plain.contains(text)) {
            return Err(Doubt::Requester);
        }
        if ["has(variables.", "variables.?", "variables["].iter().any(|text| self.plain.contains(text)) {
            return other("it asks which variables there are");
        }
        let rounds = self.rounds(names);
        let all = evaluator.rounds.fetch_add(rounds.min(MOST_ROUNDS), Ordering::Relaxed);
        if rounds > MOST_ROUNDS || all > MOST_ROUNDS_OF_ALL {
            return other("evaluating it takes too long");
        }
        let mut context = evaluator.context();
        for (name, value) in &names.values {
            context.add_variable_from_value(*name, value.clone());
        }
        context.add_variable_from_value("variables", names.variables.clone());
        program.execute(&context).map_err(|error| {
            let used = names.doubtful.iter().find(|(name, _)| self.uses(name)).map(|(_, doubt)| doubt.clone());
            match used {
                Some(doubt) => doubt,
                None if self.plain.contains("userInfo") || self.plain.contains("authorizer") => Doubt::Requester,
                None => Doubt::Other(short(&error.to_string())),
            }
        })
    }

    fn uses(&self, variable: &str) -> bool {
        let wanted = format!("variables.{variable}");
        self.plain.match_indices(&wanted).any(|(at, _)| {
            let next = self.plain[at + wanted.len()..].chars().next();
            !next.is_some_and(|next| next.is_alphanumeric() || next == '_')
        })
    }
}

/// An error of the interpreter in a line: it may hold a whole object.
fn short(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    match line.char_indices().nth(120) {
        Some((end, _)) => format!("{} ...", &line[..end]),
        None => line.to_owned(),
    }
}

fn from_json(json: &serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(value) => Value::Bool(*value),
        serde_json::Value::Number(number) => {
            number.as_i64().map_or_else(|| Value::Float(number.as_f64().unwrap_or(f64::NAN)), Value::Int)
        }
        serde_json::Value::String(text) => Value::String(Arc::new(text.clone())),
        serde_json::Value::Array(items) => Value::List(Arc::new(items.iter().map(from_json).collect())),
        serde_json::Value::Object(entries) => {
            let entries = entries.iter().map(|(key, value)| (key.clone(), from_json(value)));
            Value::from(entries.collect::<HashMap<String, Value>>())
        }
    }
}

fn longest(json: &serde_json::Value) -> usize {
    match json {
        serde_json::Value::Array(items) => items.iter().map(longest).max().unwrap_or(0).max(items.len()),
        serde_json::Value::Object(entries) => entries.values().map(longest).max().unwrap_or(0).max(entries.len()),
        _ => 0,
    }
}

fn size(value: &Value) -> usize {
    match value {
        Value::List(items) => items.iter().map(size).sum::<usize>() + 1,
        Value::Map(map) => map.map.values().map(size).sum::<usize>() + map.map.len() + 1,
        Value::String(text) => text.len() + 1,
        Value::Bytes(bytes) => bytes.len() + 1,
        _ => 1,
    }
}
