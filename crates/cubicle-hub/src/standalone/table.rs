//! The routes: which prefix of a path leads where.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::time::Duration;

use cubicle_core::problem::Problem;
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::dial::Target;
use super::journal::{Journal, Line};
use super::reuse::Idle;

/// How often idle connections are looked at.
const SWEEP: Duration = Duration::from_secs(2);

/// One route.
#[derive(Debug)]
pub(super) struct Route {
    /// Its path, which begins with a slash and ends with none.
    pub(super) path: String,
    /// Where it leads.
    pub(super) target: Target,
    /// What the hub noted beside the target.
    data: Map<String, Value>,
    /// Connections to the target that wait for a request.
    pub(super) idle: Arc<Idle>,
    /// When it was last used, in milliseconds since 1970.
    last_activity: AtomicI64,
}

impl Route {
    /// It is in use.
    pub(super) fn touch(&self) {
        self.last_activity.store(Timestamp::now().as_millisecond(), Ordering::Relaxed);
    }

    /// When it was last used.
    pub(super) fn last_activity(&self) -> Timestamp {
        Timestamp::from_millisecond(self.last_activity.load(Ordering::Relaxed)).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// As the REST API shows it.
    pub(super) fn shown(&self) -> Value {
        let mut shown = self.data.clone();
        shown.insert("target".to_owned(), self.target.to_string().into());
        shown.insert("last_activity".to_owned(), format!("{:.3}", self.last_activity()).into());
        Value::Object(shown)
    }
}

#[derive(Default)]
struct Routes {
    by_path: HashMap<String, Arc<Route>>,
    /// How many routes have how many segments: nothing longer than the longest is looked for.
    by_length: BTreeMap<usize, usize>,
}

/// All routes.
pub(super) struct Table {
    host_routing: bool,
    routes: RwLock<Routes>,
    /// By server: routes to one share what is open to it.
    idle: Mutex<HashMap<String, Weak<Idle>>>,
    /// Also orders changes: the file says the same as the table.
    journal: Mutex<Option<Journal>>,
}

/// A path as routes are named.
pub(super) fn clean(path: &str) -> String {
    format!("/{}", path.trim_matches('/'))
}

fn segments(path: &str) -> usize {
    path.split('/').filter(|part| !part.is_empty()).count()
}

/// Percent-decodes; none when it is not UTF-8 or a percent sign stands alone.
pub(super) fn decoded(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        let value = digit(rest.next())? * 16 + digit(rest.next())?;
        bytes.push(u8::try_from(value).ok()?);
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

impl Table {
    /// The routes that the journal holds.
    pub(super) fn new(mut journal: Option<Journal>, host_routing: bool) -> Result<Self, Problem> {
        let kept = journal.as_mut().map(Journal::take_kept).unwrap_or_default();
        let table = Self { host_routing, routes: RwLock::default(), idle: Mutex::default(), journal: Mutex::new(None) };
        for (path, data) in kept {
            let target = data.get("target").and_then(Value::as_str).unwrap_or_default().parse()?;
            table.add(&path, target, data)?;
        }
        *table.journal() = journal;
        Ok(table)
    }

    fn journal(&self) -> MutexGuard<'_, Option<Journal>> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds or replaces a route; it is on disk when this returns.
    pub(super) fn add(&self, path: &str, target: Target, mut data: Map<String, Value>) -> Result<(), Problem> {
        let path = clean(path);
        data.insert("target".to_owned(), target.to_string().into());
        data.remove("last_activity");
        if self.host_routing && path != "/" {
            let host = path.split('/').nth(1).unwrap_or_default();
            data.insert("host".to_owned(), host.into());
        }
        let mut journal = self.journal();
        if let Some(journal) = journal.as_mut() {
            journal.write(&Line::Add { path: path.clone(), data: data.clone() })?;
        }
        let idle = self.idle(&target);
        let now = AtomicI64::new(Timestamp::now().as_millisecond());
        let route = Arc::new(Route { path: path.clone(), target, data, idle, last_activity: now });
        let mut routes = self.routes.write().unwrap_or_else(PoisonError::into_inner);
        let length = segments(&path);
        if routes.by_path.insert(path, route).is_none() {
            *routes.by_length.entry(length).or_default() += 1;
        }
        Ok(())
    }

    fn idle(&self, target: &Target) -> Arc<Idle> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = idle.get(target.server()).and_then(Weak::upgrade) {
            return known;
        }
        let new = Arc::default();
        idle.insert(target.server().to_owned(), Arc::downgrade(&new));
        new
    }

    /// Closes connections that nobody has used for a while; ends with the table.
    pub(super) async fn sweep(&self) -> Infallible {
        loop {
            tokio::time::sleep(SWEEP).await;
            let mut all = Vec::new();
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, idle| {
                let idle = idle.upgrade();
                all.extend(idle.clone());
                idle.is_some()
            });
            for idle in all {
                idle.sweep();
            }
        }
    }

    /// Removes a route; whether it was there.
    pub(super) fn remove(&self, path: &str) -> Result<bool, Problem> {
        let path = clean(path);
        let mut journal = self.journal();
        if self.get(&path).is_none() {
            return Ok(false);
        }
        if let Some(journal) = journal.as_mut() {
            journal.write(&Line::Remove { path: path.clone() })?;
        }
        let mut routes = self.routes.write().unwrap_or_else(PoisonError::into_inner);
        if routes.by_path.remove(&path).is_some() {
            let length = segments(&path);
            if let Some(count) = routes.by_length.get_mut(&length) {
                *count -= 1;
                if *count == 0 {
                    routes.by_length.remove(&length);
                }
            }
        }
        Ok(true)
    }

    /// The route of exactly this path.
    pub(super) fn get(&self, path: &str) -> Option<Arc<Route>> {
        self.routes.read().unwrap_or_else(PoisonError::into_inner).by_path.get(&clean(path)).cloned()
    }

    /// Every route, in no order.
    pub(super) fn all(&self) -> Vec<Arc<Route>> {
        self.routes.read().unwrap_or_else(PoisonError::into_inner).by_path.values().cloned().collect()
    }

    /// The longest route that this decoded path begins with, segment by segment.
    pub(super) fn find(&self, path: &str) -> Option<Arc<Route>> {
        let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
        let longest = routes.by_length.keys().next_back().copied().unwrap_or(0);
        // As `clean` has it, where it begins with a slash: every request's does.
        let trimmed = path.trim_matches('/');
        let begins = path.len() - path.trim_start_matches('/').len();
        let cleaned = if trimmed.is_empty() || begins == 0 {
            Cow::Owned(clean(path))
        } else {
            Cow::Borrowed(&path[begins - 1..begins + trimmed.len()])
        };
        let path = cleaned.as_ref();
        let mut found = routes.by_path.get("/");
        let ends = path.match_indices('/').map(|(at, _)| at).skip(1).chain([path.len()]);
        for end in ends.take(longest) {
            found = routes.by_path.get(&path[..end]).or(found);
        }
        found.cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(paths: &[&str]) -> Table {
        let table = Table::new(None, false).expect("a table");
        for path in paths {
            table.add(path, "http://127.0.0.1:1".parse().expect("a target"), Map::new()).expect("added");
        }
        table
    }

    #[test]
    fn the_longest_prefix_wins_by_whole_segments() {
        let table = table(&["/", "/user/a", "/user/a/b/", "hub"]);
        let found = |path: &str| table.find(path).map(|route| route.path.clone());
        for (path, route) in [
            ("/", "/"),
            ("/user", "/"),
            ("/user/a", "/user/a"),
            ("/user/a/", "/user/a"),
            ("/user/ab", "/"),
            ("/user/a/c", "/user/a"),
            ("/user/a/b/c/d", "/user/a/b"),
            ("/hub/x", "/hub"),
            ("//user/a", "/user/a"),
        ] {
            assert_eq!(found(path).as_deref(), Some(route), "{path}");
        }
        assert!(table.remove("/user/a/b").expect("removed"));
        assert!(!table.remove("/user/a/b").expect("looked for"));
        assert_eq!(found("/user/a/b/c").as_deref(), Some("/user/a"));
        assert!(table.remove("/").expect("removed"));
        assert_eq!(found("/nothing"), None);
    }

    #[test]
    fn half_an_escape_is_none() {
        assert_eq!(decoded("/a%20b%C3%BC").as_deref(), Some("/a bü"));
        for text in ["%", "%2", "%zz", "%ff", "%+1"] {
            assert_eq!(decoded(text), None, "{text}");
        }
    }
}
