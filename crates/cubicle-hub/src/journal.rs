//! The record of who did what: one JSON object per line, only ever appended to.
//!
//! A layer around all routes writes it, so that no action can be forgotten: every request that may
//! change something, whether it was done or refused. Handlers add who asked and what it was about.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use cubicle_core::problem::Problem;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::fetch;
use crate::hub::{Caller, Hub};
use crate::server::Client;

/// The longest text in an entry, in characters.
const LONGEST: usize = 200;
/// The size at which a file is put aside, in bytes.
const LARGEST: u64 = 32 << 20;
/// How many files that were put aside are kept.
const KEPT: usize = 7;
/// How much of the newest file a search looks through, in bytes.
const MOST_READ: u64 = 8 << 20;
/// How many entries are remembered where there is no file.
const MOST_REMEMBERED: usize = 5000;

/// What somebody did or was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// When it was answered.
    pub(crate) time: Timestamp,
    /// The account's identifier; `root` on the administrator's socket, empty for nobody.
    pub(crate) actor: String,
    /// What the account is called.
    pub(crate) name: String,
    /// `session`, `token ID`, `socket` or empty.
    pub(crate) via: String,
    /// Where from.
    pub(crate) address: String,
    /// Method and route.
    pub(crate) action: String,
    /// What it was done to, as far as the path or the handler says.
    pub(crate) target: String,
    /// The HTTP status of the answer.
    pub(crate) status: u16,
}

/// What handlers add to the present request's entry.
#[derive(Default)]
struct Told {
    actor: String,
    name: String,
    via: String,
    about: String,
}

tokio::task_local! {
    static NOW: RefCell<Told>;
}

/// Says who makes the present request.
pub(crate) fn acting(caller: &Caller, via: &str) {
    let (actor, name) = match caller {
        Caller::Root => ("root".to_owned(), "root".to_owned()),
        Caller::Account(account) => (account.id.to_string(), account.name.to_string()),
    };
    // Outside of a request that is recorded there is nobody to tell.
    let _ = NOW.try_with(|now| {
        let mut now = now.borrow_mut();
        now.actor = actor;
        now.name = name;
        via.clone_into(&mut now.via);
    });
}

/// Says what the present request is about, in a few words that hold no secret.
pub(crate) fn about(target: impl Into<String>) {
    let _ = NOW.try_with(|now| now.borrow_mut().about = target.into());
}

/// Plain text of bounded length: what is invisible or moves other text is written out.
fn plain(text: &str) -> String {
    let mut plain = String::new();
    for (count, character) in text.chars().enumerate() {
        if count >= LONGEST {
            plain.push_str("...");
            break;
        }
        let hidden = character.is_control()
            || matches!(character,
                '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}');
        if hidden {
            plain.extend(character.escape_default());
        } else {
            plain.push(character);
        }
    }
    plain
}

/// Where entries go.
pub(crate) struct Journal {
    place: Mutex<Place>,
}

enum Place {
    /// A file of the hub's own.
    File { path: PathBuf, file: File, size: u64 },
    /// Standard output, which the cluster collects, and the last entries of this replica.
    Output(VecDeque<Entry>),
}

fn open(path: &Path) -> std::io::Result<(File, u64)> {
    let file = File::options().append(true).create(true).mode(0o600).open(path)?;
    let size = file.metadata()?.len();
    Ok((file, size))
}

impl Journal {
    /// Appends to `audit.jsonl` in this folder.
    pub(crate) fn in_folder(folder: &Path) -> Result<Self, Problem> {
        let path = folder.join("audit.jsonl");
        let (file, size) = open(&path).map_err(|error| {
            Problem::engine(format!("{}: {error}", path.display()), "the hub's user must own its data directory")
        })?;
        Ok(Self { place: Mutex::new(Place::File { path, file, size }) })
    }

    /// Prints entries; there is no file.
    pub(crate) fn printed() -> Self {
        Self { place: Mutex::new(Place::Output(VecDeque::new())) }
    }

    fn add(&self, entry: Entry) {
        let mut line = serde_json::to_string(&entry).unwrap_or_default();
        line.push('\n');
        let length = u64::try_from(line.len()).unwrap_or(u64::MAX);
        match &mut *self.place.lock().unwrap_or_else(PoisonError::into_inner) {
            Place::File { path, file, size } => {
                if size.saturating_add(length) > LARGEST {
                    put_aside(path);
                    match open(path) {
                        Ok((new, begun)) => (*file, *size) = (new, begun),
                        Err(error) => tracing::error!(%error, "the record of actions could not be begun anew"),
                    }
                }
                // One write: lines never mix.
                match file.write_all(line.as_bytes()) {
                    Ok(()) => *size += length,
                    Err(error) => tracing::error!(%error, line = line.trim_end(), "an action could not be recorded"),
                }
            }
            Place::Output(last) => {
                let mut output = std::io::stdout().lock();
                if let Err(error) = output.write_all(line.as_bytes()).and_then(|()| output.flush()) {
                    tracing::error!(%error, line = line.trim_end(), "an action could not be recorded");
                }
                if last.len() >= MOST_REMEMBERED {
                    last.pop_front();
                }
                last.push_back(entry);
            }
        }
    }

    /// The newest entries in which all words stand, newest first.
    pub(crate) async fn search(self: Arc<Self>, search: String, most: usize) -> Result<Vec<Entry>, Problem> {
        tokio::task::spawn_blocking(move || self.found(&search, most)).await.map_err(|error| {
            Problem::engine(format!("the search broke off: {error}"), "this is a bug; please report it")
        })?
    }

    fn found(&self, search: &str, most: usize) -> Result<Vec<Entry>, Problem> {
        let search: String = search.chars().take(LONGEST).collect();
        let words: Vec<String> = search.to_lowercase().split_whitespace().map(str::to_owned).collect();
        let fits = |entry: &Entry| {
            let Entry { time, actor, name, via, address, action, target, status } = entry;
            let text = format!("{time} {actor} {name} {via} {address} {action} {target} {status}").to_lowercase();
            words.iter().all(|word| text.contains(word))
        };
        let path = match &*self.place.lock().unwrap_or_else(PoisonError::into_inner) {
            Place::Output(last) => {
                return Ok(last.iter().rev().filter(|entry| fits(entry)).take(most).cloned().collect());
            }
            Place::File { path, .. } => path.clone(),
        };
        let text = end_of(&path)
            .map_err(|error| Problem::engine(format!("{}: {error}", path.display()), "check the data directory"))?;
        let entries = text.lines().rev().filter_map(|line| serde_json::from_str::<Entry>(line).ok());
        Ok(entries.filter(|entry| fits(entry)).take(most).collect())
    }
}

/// The last whole lines of a file.
fn end_of(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let skipped = file.metadata()?.len().saturating_sub(MOST_READ);
    file.seek(SeekFrom::Start(skipped))?;
    let mut bytes = Vec::new();
    file.take(MOST_READ).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    match text.find('\n') {
        Some(end) if skipped > 0 => Ok(text[end + 1..].to_owned()),
        _ => Ok(text),
    }
}

/// Numbers the older files on; the oldest one goes.
fn put_aside(path: &Path) {
    let numbered = |number: usize| path.with_extension(format!("{number}.jsonl"));
    for number in (1..KEPT).rev() {
        let _ = std::fs::rename(numbered(number), numbered(number + 1));
    }
    if let Err(error) = std::fs::rename(path, numbered(1)) {
        tracing::error!(%error, "the record of actions could not be put aside");
    }
}

/// Safe methods that do something all the same.
const SAFE_AND_YET: [&str; 2] = ["/sign-in/with/{provider}/back", "/workspaces/{id}/open"];

/// Records what may change something. Innermost, where the route is known.
pub(crate) async fn record(State(hub): State<Arc<Hub>>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned()).unwrap_or_default();
    if fetch::is_safe(request.method()) && !SAFE_AND_YET.contains(&route.as_str()) {
        return next.run(request).await;
    }
    let path = request.uri().path().to_owned();
    let address = request.extensions().get::<Client>().map(|Client(address)| address.to_string()).unwrap_or_default();
    let action = format!("{} {route}", request.method());
    let (response, told) = NOW
        .scope(RefCell::default(), async move {
            let response = next.run(request).await;
            (response, NOW.with(RefCell::take))
        })
        .await;
    let named = named_in(&route, &path);
    hub.journal.add(Entry {
        time: Timestamp::now(),
        actor: told.actor,
        name: plain(&told.name),
        via: plain(&told.via),
        address,
        action: plain(&action),
        target: plain(format!("{named} {}", told.about).trim()),
        status: response.status().as_u16(),
    });
    response
}

/// The parts of a path that its route leaves open.
fn named_in(route: &str, path: &str) -> String {
    let open = route.split('/').zip(path.split('/')).filter(|(part, _)| part.starts_with('{'));
    open.map(|(_, given)| given).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(target: &str) -> Entry {
        Entry {
            time: Timestamp::UNIX_EPOCH,
            actor: "u-1".to_owned(),
            name: "Ada".to_owned(),
            via: "session".to_owned(),
            address: "192.0.2.1".to_owned(),
            action: "POST /workspaces".to_owned(),
            target: plain(target),
            status: 303,
        }
    }

    #[test]
    fn one_line_is_one_entry_whatever_is_in_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = Journal::in_folder(folder.path()).expect("opened");
        let hostile = format!("a\r\n{{\"actor\":\"root\"}}\u{202e}\u{1b}[2J\0{}", "x".repeat(10_000));
        journal.add(entry(&hostile));
        journal.add(entry("w-1"));
        let text = std::fs::read_to_string(folder.path().join("audit.jsonl")).expect("read");
        assert_eq!(text.lines().count(), 2);
        assert!(text.chars().all(|character| character == '\n' || !character.is_control()), "{text:?}");
        assert!(!text.contains('\u{202e}') && text.len() < 1500, "{}", text.len());
        assert_eq!(journal.found("ADA w-1", 10).expect("searched"), [entry("w-1")]);
        assert_eq!(journal.found("", 1).expect("searched").len(), 1);
        assert!(journal.found("nothing", 10).expect("searched").is_empty());
        // Begun again, it goes on.
        Journal::in_folder(folder.path()).expect("opened").add(entry("w-2"));
        assert_eq!(journal.found("", 10).expect("searched").len(), 3);
    }

    #[test]
    fn files_are_put_aside_and_few_are_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("audit.jsonl");
        for _ in 0..12 {
            std::fs::write(&path, "x\n").expect("written");
            put_aside(&path);
        }
        assert_eq!(std::fs::read_dir(folder.path()).expect("read").count(), KEPT);
    }

    #[test]
    fn targets_are_what_the_route_leaves_open() {
        assert_eq!(named_in("/workspaces/{id}/stop", "/workspaces/w-1/stop"), "w-1");
        assert_eq!(named_in("/api/v1/users/{name}/tokens/{id}", "/api/v1/users/ci/tokens/t"), "ci t");
        assert_eq!(named_in("", "/x"), "");
    }
}
