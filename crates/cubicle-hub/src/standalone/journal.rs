//! Routes over a restart: one JSON line per change, made short whenever the proxy starts.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use cubicle_core::problem::Problem;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Changes after which the file is made short again.
const MANY: usize = 100_000;

/// What a route is told with.
type Data = Map<String, Value>;

/// One change.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Line {
    /// A route was added or replaced.
    Add { path: String, data: Data },
    /// A route was removed.
    Remove { path: String },
}

/// The file.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    changes: usize,
    kept: BTreeMap<String, Data>,
}

impl Journal {
    /// Reads what the file holds and makes it short. A last line that was cut off is no route: it
    /// was never answered.
    pub(super) fn open(path: &Path) -> Result<Self, Problem> {
        let kept = match File::open(path) {
            Ok(file) => read(path, file)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(failed(path, error)),
        };
        let file = rewrite(path, &kept)?;
        Ok(Self { path: path.to_owned(), file, changes: 0, kept })
    }

    /// The routes that the file held when it was opened.
    pub(super) fn take_kept(&mut self) -> BTreeMap<String, Data> {
        self.kept.clone()
    }

    /// Notes a change.
    pub(super) fn write(&mut self, line: &Line) -> Result<(), Problem> {
        let mut text = serde_json::to_string(line).map_err(|error| failed(&self.path, error.into()))?;
        text.push('\n');
        self.file.write_all(text.as_bytes()).map_err(|error| failed(&self.path, error))?;
        match line {
            Line::Add { path, data } => self.kept.insert(path.clone(), data.clone()),
            Line::Remove { path } => self.kept.remove(path),
        };
        self.changes += 1;
        if self.changes > MANY {
            self.file = rewrite(&self.path, &self.kept)?;
            self.changes = 0;
        }
        Ok(())
    }
}

fn failed(path: &Path, error: std::io::Error) -> Problem {
    Problem::engine(format!("{}: {error}", path.display()), "choose another file for the routes, or make room for it")
}

fn read(path: &Path, file: File) -> Result<BTreeMap<String, Data>, Problem> {
    let mut kept = BTreeMap::new();
    let mut reader = BufReader::new(file);
    for number in 1_usize.. {
        let mut text = String::new();
        reader.read_line(&mut text).map_err(|error| failed(path, error))?;
        if !text.ends_with('\n') {
            break;
        }
        match serde_json::from_str(&text) {
            Ok(Line::Add { path, data }) => kept.insert(path, data),
            Ok(Line::Remove { path }) => kept.remove(&path),
            Err(error) => {
                return Err(Problem::bad_input(
                    format!("{}:{number}: this is not a route: {error}", path.display()),
                    "remove the line, or the file: the hub tells its routes again",
                ));
            }
        };
    }
    Ok(kept)
}

/// Writes a file with only what is there now, beside it, and puts it in its place.
fn rewrite(path: &Path, kept: &BTreeMap<String, Data>) -> Result<File, Problem> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    let write = || {
        // Targets and users are the hub's secrets.
        let mut file = File::options().create(true).write(true).truncate(true).mode(0o600).open(&beside)?;
        let mut text = Vec::new();
        for (path, data) in kept {
            serde_json::to_writer(&mut text, &Line::Add { path: path.clone(), data: data.clone() })?;
            text.push(b'\n');
        }
        file.write_all(&text)?;
        file.sync_all()?;
        std::fs::rename(&beside, path)?;
        File::options().append(true).open(path)
    };
    write().map_err(|error: std::io::Error| failed(path, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_come_back_and_half_a_line_does_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("routes");
        let add = |name: &str| Line::Add { path: name.to_owned(), data: Map::new() };
        let mut journal = Journal::open(&path).expect("opened");
        journal.write(&add("/a")).expect("written");
        journal.write(&add("/b")).expect("written");
        journal.write(&Line::Remove { path: "/a".to_owned() }).expect("written");
        drop(journal);
        File::options().append(true).open(&path).expect("there").write_all(b"{\"add\":{\"pa").expect("written");
        let mut journal = Journal::open(&path).expect("opened");
        assert_eq!(journal.take_kept().into_keys().collect::<Vec<_>>(), ["/b"]);
        journal.write(&add("/c")).expect("written");
        drop(journal);
        assert_eq!(Journal::open(&path).expect("opened").take_kept().len(), 2);
        std::fs::write(&path, "nonsense\n").expect("written");
        let refused = Journal::open(&path).expect_err("refused");
        assert!(refused.what.contains("routes:1: "), "{}", refused.what);
    }
}
