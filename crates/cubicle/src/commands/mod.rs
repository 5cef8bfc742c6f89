//! The commands, one file each or one per group.

pub(crate) mod advise;
pub(crate) mod audit;
pub(crate) mod backup;
pub(crate) mod completions;
pub(crate) mod controller;
pub(crate) mod delete;
pub(crate) mod doctor;
pub(crate) mod egress;
pub(crate) mod exec;
pub(crate) mod guarantees;
pub(crate) mod hub;
pub(crate) mod image;
pub(crate) mod import;
pub(crate) mod launch;
pub(crate) mod list;
pub(crate) mod logs;
pub(crate) mod notice;
pub(crate) mod pool;
pub(crate) mod proxy;
pub(crate) mod report;
pub(crate) mod serve;
pub(crate) mod show;
pub(crate) mod start;
pub(crate) mod stop;
pub(crate) mod template;
pub(crate) mod token;
pub(crate) mod usage;
pub(crate) mod user;
pub(crate) mod verify;
pub(crate) mod volume;

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use cubicle_core::problem::Problem;

/// Reads a file that an option names.
fn read_setting(option: &str, path: Option<&Path>) -> Result<String, Problem> {
    let path = path.ok_or_else(|| Problem::bad_input(format!("{option} is missing"), "see --help"))?;
    std::fs::read_to_string(path).map_err(|error| {
        Problem::bad_input(format!("{option} {} cannot be read: {error}", path.display()), "check the path")
    })
}

/// Documents above this size are refused, in bytes: every template and report is far smaller.
const MAX_DOCUMENT: u64 = 8 << 20;

/// The same for what programs write, in bytes.
const MAX_REPORT: u64 = 256 << 20;

/// Reads a document that somebody wrote: a file, or standard input for `-`.
fn read_input(path: &Path) -> Result<String, Problem> {
    String::from_utf8(read_bytes(path)?)
        .map_err(|_| Problem::bad_input(format!("{} is not UTF-8 text", path.display()), "write it as UTF-8"))
}

/// The same where the bytes themselves matter.
fn read_bytes(path: &Path) -> Result<Vec<u8>, Problem> {
    read_at_most(path, MAX_DOCUMENT)
}

/// What a program wrote: reports of scanners and audits grow with what they are about.
fn read_large(path: &Path) -> Result<Vec<u8>, Problem> {
    read_at_most(path, MAX_REPORT)
}

fn read_at_most(path: &Path, most: u64) -> Result<Vec<u8>, Problem> {
    let shown = path.display();
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        io::stdin().lock().take(most + 1).read_to_end(&mut bytes)
    } else {
        File::open(path).and_then(|file| file.take(most + 1).read_to_end(&mut bytes))
    };
    read.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Problem::not_found(format!("there is no file {shown}"), "check the path"),
        _ => Problem::bad_input(format!("{shown} cannot be read: {error}"), "check the path and its permissions"),
    })?;
    if bytes.len() as u64 > most {
        return Err(Problem::bad_input(format!("{shown} is larger than {most} bytes"), "give a smaller document"));
    }
    Ok(bytes)
}

/// An error about a document, without the document: parsers quote what they did not expect.
fn shortened(error: impl std::fmt::Display) -> String {
    let text = error.to_string();
    match text.char_indices().nth(300) {
        Some((end, _)) => format!("{} ...", &text[..end]),
        None => text,
    }
}

/// Where an archive goes: a new file that only its owner can read, or standard output.
fn archive_output(path: Option<&PathBuf>) -> Result<OwnedFd, Problem> {
    let Some(path) = path else {
        if io::stdout().is_terminal() {
            return Err(Problem::bad_input(
                "an archive does not belong on a terminal",
                "name a file with --output FILE, or pipe it",
            ));
        }
        return io::stdout().as_fd().try_clone_to_owned().map_err(|error| {
            Problem::engine(format!("standard output cannot be passed on: {error}"), "name a file with --output FILE")
        });
    };
    let opened = File::options().write(true).create_new(true).mode(0o600).open(path);
    opened.map(OwnedFd::from).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            Problem::conflict(format!("{} exists already", path.display()), "name another file, or remove it first")
        }
        _ => Problem::bad_input(format!("{} cannot be written: {error}", path.display()), "name another file"),
    })
}

/// Takes back a file that never became a whole archive.
fn discard_on_error<T>(result: Result<T, Problem>, path: Option<&PathBuf>) -> Result<T, Problem> {
    if let (Err(_), Some(path)) = (&result, path) {
        let _ = std::fs::remove_file(path);
    }
    result
}
