//! Files and folders: the only place of this crate that touches the disk.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rustc_hash::FxHashSet;

use super::{File, FileId, InputProblem, Severity, Snapshot, SourceRef};

/// Bytes that are read at most, all files together.
const MOST_BYTES: u64 = 1 << 30;

/// Files that are read from one folder, by the end of their names.
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];

/// Reads files, folders and, for `-`, standard input. In a folder every `.yaml`, `.yml` and
/// `.json` is read, also in folders below it; a file that is named itself is read whatever its
/// name. What cannot be read is a problem of the snapshot, and so is the number of files that
/// were not meant.
#[must_use]
pub fn read(paths: &[PathBuf]) -> Snapshot {
    let mut reader = Reader::default();
    for path in paths {
        if path.as_os_str() == "-" {
            reader.standard_input();
        } else {
            reader.path(path, true);
        }
    }
    let Reader { files, problems, skipped, .. } = reader;
    let mut snapshot = Snapshot::from_files(files);
    for (severity, name, what, remedy) in problems {
        let file = file_id(&mut snapshot, &name);
        let source = SourceRef { file, line: 0, column: 0 };
        snapshot.problems.push(InputProblem { severity, source, what, remedy: remedy.to_owned() });
    }
    if skipped > 0 {
        let name = paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" ");
        let file = file_id(&mut snapshot, &name);
        let what = format!("{skipped} files that are not .yaml, .yml or .json were not read");
        let source = SourceRef { file, line: 0, column: 0 };
        snapshot.problems.push(InputProblem { severity: Severity::Note, source, what, remedy: String::new() });
    }
    snapshot
}

fn file_id(snapshot: &mut Snapshot, name: &str) -> FileId {
    let at = snapshot.files.iter().position(|known| &**known == name).unwrap_or_else(|| {
        snapshot.files.push(name.into());
        snapshot.files.len() - 1
    });
    FileId(u32::try_from(at).unwrap_or(u32::MAX))
}

#[derive(Default)]
struct Reader {
    files: Vec<File>,
    problems: Vec<(Severity, String, String, &'static str)>,
    skipped: usize,
    bytes: u64,
    /// Real paths of what was read, so that a link to a folder above ends, and a file that is
    /// named twice is read once.
    visited: FxHashSet<PathBuf>,
}

impl Reader {
    fn standard_input(&mut self) {
        let mut bytes = Vec::new();
        match io::stdin().lock().take(MOST_BYTES + 1).read_to_end(&mut bytes) {
            Ok(_) => self.take("-".to_owned(), bytes),
            Err(error) => self.unread("-", &error),
        }
    }

    fn path(&mut self, path: &Path, named: bool) {
        let name = path.display().to_string();
        let metadata = match fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound && path.is_symlink() => {
                self.problem(Severity::Warning, &name, "this link leads nowhere", "remove it");
                return;
            }
            // A loop of links has a number, not a stable kind.
            Err(error) if error.raw_os_error() == Some(40) => {
                self.problem(Severity::Warning, &name, "this link leads to itself", "remove it");
                return;
            }
            Err(error) => return self.unread(&name, &error),
        };
        let wanted = named || metadata.is_dir() || has_extension(path);
        if !wanted {
            self.skipped += 1;
            return;
        }
        let real = match fs::canonicalize(path) {
            Ok(real) => real,
            Err(error) => return self.unread(&name, &error),
        };
        if !self.visited.insert(real) {
            self.problem(Severity::Note, &name, "this was read already under another name", "");
            return;
        }
        if metadata.is_dir() {
            self.folder(path);
        } else if metadata.is_file() {
            if metadata.len() + self.bytes > MOST_BYTES {
                self.too_large(&name);
                return;
            }
            match fs::read(path) {
                Ok(bytes) => self.take(name, bytes),
                Err(error) => self.unread(&name, &error),
            }
        } else {
            self.problem(Severity::Error, &name, "this is neither a file nor a folder", "use - for standard input");
        }
    }

    fn folder(&mut self, path: &Path) {
        let listed = fs::read_dir(path).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        match listed {
            Ok(mut entries) => {
                entries.sort_by_key(fs::DirEntry::file_name);
                for entry in entries {
                    // `.git`, and the hidden folders of mounted ConfigMaps whose files are seen through links.
                    if entry.file_name().as_encoded_bytes().starts_with(b".") {
                        self.skipped += 1;
                    } else {
                        self.path(&entry.path(), false);
                    }
                }
            }
            Err(error) => self.unread(&path.display().to_string(), &error),
        }
    }

    fn take(&mut self, name: String, bytes: Vec<u8>) {
        self.bytes += bytes.len() as u64;
        if self.bytes > MOST_BYTES {
            self.too_large(&name);
            return;
        }
        self.files.push(File { name, bytes });
    }

    fn too_large(&mut self, name: &str) {
        let what = format!("all files together are larger than {} MiB; this one was not read", MOST_BYTES >> 20);
        self.problems.push((Severity::Error, name.to_owned(), what, "audit parts of it"));
    }

    fn unread(&mut self, name: &str, error: &io::Error) {
        let what = format!("this could not be read: {error}");
        self.problems.push((Severity::Error, name.to_owned(), what, "check the path and its permissions"));
    }

    fn problem(&mut self, severity: Severity, name: &str, what: &str, remedy: &'static str) {
        self.problems.push((severity, name.to_owned(), what.to_owned(), remedy));
    }
}

fn has_extension(path: &Path) -> bool {
    path.extension().and_then(|extension| extension.to_str()).is_some_and(|extension| EXTENSIONS.contains(&extension))
}
