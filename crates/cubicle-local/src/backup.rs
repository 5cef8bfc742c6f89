//! Everything that this machine must not lose, in one file: accounts, templates, workspaces, reports,
//! keys, certificates and homes. Images are left out: they are built again, with the same digest.
//!
//! The file is a gzip stream (its checksum finds what was damaged or cut off) of a tar archive whose
//! first entry says what it is. Holes of homes stay holes.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Component, Path, PathBuf};

use cubicle_core::problem::Problem;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tar::{Archive, Builder, EntryType, Header};

use crate::layout::Layout;
use crate::serve::lock;
use crate::store::Store;

/// What of `CUBICLE_HOME` is kept. Programs and images come with the product, the rest is of the
/// running engine.
const KEPT: [&str; 7] = ["engine", "hub", "keys", "tls", "volumes", "datasets", "site.yaml"];
/// The first entry.
const ABOUT: &str = "cubicle-backup.json";
/// The version of this form.
const FORMAT: u32 = 1;

/// What a backup says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// The version of the form.
    format: u32,
    /// The program that wrote it.
    version: String,
    /// When.
    pub created_at: Timestamp,
}

/// What was written or read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// The backup.
    pub file: PathBuf,
    /// When it was made.
    pub created_at: Timestamp,
    /// Files in it.
    pub files: u64,
    /// Homes in it.
    pub homes: u64,
}

fn failed(path: &Path, error: &io::Error) -> Problem {
    Problem::engine(format!("{}: {error}", path.display()), "check the path, its permissions and the free space")
}

/// Writes a backup. The engine must not run, so that what is written belongs together.
///
/// # Errors
/// The engine or a workspace runs, the file is there already, or the disk fails; then no file is left.
pub fn write(layout: &Layout, file: &Path) -> Result<Summary, Problem> {
    if !layout.engine_database().exists() {
        return Err(Problem::not_found(
            format!("there is no Cubicle in {}", layout.home().display()),
            "CUBICLE_HOME says where it is",
        ));
    }
    let _alone = alone(layout)?;
    nothing_runs(layout)?;
    if file.exists() {
        return Err(Problem::conflict(format!("{} is there already", file.display()), "name another file"));
    }
    let partial = beside(file, "partial");
    let written = write_to(layout, &partial).and_then(|summary| {
        fs::rename(&partial, file).map_err(|error| failed(file, &error))?;
        Ok(Summary { file: file.to_owned(), ..summary })
    });
    if written.is_err() {
        let _ = fs::remove_file(&partial);
    }
    written
}

fn write_to(layout: &Layout, partial: &Path) -> Result<Summary, Problem> {
    // Whoever reads it has every home and every key.
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(partial);
    let file = file.map_err(|error| failed(partial, &error))?;
    let about = About { format: FORMAT, version: env!("CARGO_PKG_VERSION").to_owned(), created_at: Timestamp::now() };
    let (mut files, mut homes) = (0, 0);
    let write = || -> io::Result<()> {
        let mut archive = Builder::new(GzEncoder::new(file, Compression::fast()));
        archive.follow_symlinks(false);
        archive.sparse(true);
        let text = serde_json::to_vec(&about).map_err(io::Error::other)?;
        let mut header = Header::new_gnu();
        header.set_size(text.len().try_into().map_err(io::Error::other)?);
        header.set_mode(0o600);
        archive.append_data(&mut header, ABOUT, text.as_slice())?;
        for name in KEPT {
            let mut paths = vec![layout.home().join(name)];
            while let Some(path) = paths.pop() {
                let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
                let inside = path.strip_prefix(layout.home()).map_err(io::Error::other)?.to_owned();
                if metadata.is_dir() {
                    archive.append_dir(&inside, &path)?;
                    let mut below: Vec<PathBuf> =
                        fs::read_dir(&path)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
                    below.sort();
                    paths.extend(below.into_iter().rev());
                } else if metadata.is_file() {
                    archive.append_path_with_name(&path, &inside)?;
                    files += 1;
                    homes += u64::from(inside.starts_with("volumes") && inside.ends_with("home.ext4"));
                }
            }
        }
        archive.into_inner()?.finish()?.sync_all()
    };
    write().map_err(|error| failed(partial, &error))?;
    Ok(Summary { file: partial.to_owned(), created_at: about.created_at, files, homes })
}

/// Restores a backup into a `CUBICLE_HOME` that has no state yet. All of it is read before anything
/// is put in its place.
///
/// # Errors
/// The file is no backup, of a newer form or damaged; there is state already; or the disk fails.
/// Nothing is changed then.
pub fn restore(layout: &Layout, file: &Path) -> Result<Summary, Problem> {
    layout.create().map_err(|error| failed(layout.home(), &error))?;
    let _alone = alone(layout)?;
    for name in ["engine/engine.db", "hub/hub.db"] {
        if layout.home().join(name).exists() {
            return Err(Problem::conflict(
                format!("{} has state already: {name}", layout.home().display()),
                "restore into an empty CUBICLE_HOME; `./down --purge` makes this one empty",
            ));
        }
    }
    let folder = tempfile::Builder::new()
        .prefix(".restore-")
        .tempdir_in(layout.home())
        .map_err(|error| failed(layout.home(), &error))?;
    let summary = read_into(file, folder.path())?;
    for name in KEPT {
        let (new, old) = (folder.path().join(name), layout.home().join(name));
        if !new.exists() {
            continue;
        }
        // What `create` made, or a file of the same name without state.
        let cleared = match fs::symlink_metadata(&old) {
            Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(&old),
            Ok(_) => fs::remove_file(&old),
            Err(_) => Ok(()),
        };
        cleared.and_then(|()| fs::rename(&new, &old)).map_err(|error| failed(&old, &error))?;
    }
    // Modes and owners of this version, whatever the backup's were.
    layout.create().map_err(|error| failed(layout.home(), &error))?;
    Ok(summary)
}

fn read_into(file: &Path, folder: &Path) -> Result<Summary, Problem> {
    let no_backup = |why: String| {
        Problem::bad_input(
            format!("{} is no backup of Cubicle: {why}", file.display()),
            "name a file that `cubicle backup` wrote",
        )
    };
    let damaged = |error: &io::Error| {
        Problem::bad_input(
            format!("{} is damaged or incomplete: {error}", file.display()),
            "copy it again, or use an older one; nothing was changed",
        )
    };
    let opened = File::open(file).map_err(|error| failed(file, &error))?;
    let mut archive = Archive::new(GzDecoder::new(opened));
    archive.set_preserve_permissions(true);
    archive.set_preserve_ownerships(true);
    let mut about: Option<About> = None;
    let (mut files, mut homes, mut seen) = (0, 0, BTreeSet::new());
    for entry in archive.entries().map_err(|error| no_backup(error.to_string()))? {
        let mut entry = match entry {
            Ok(entry) => entry,
            Err(error) if about.is_none() => return Err(no_backup(error.to_string())),
            Err(error) => return Err(damaged(&error)),
        };
        let path = entry.path().map_err(|error| damaged(&error))?.into_owned();
        if about.is_none() {
            if path != Path::new(ABOUT) {
                return Err(no_backup("it does not begin with what it is".to_owned()));
            }
            let mut text = String::new();
            entry.by_ref().take(64 << 10).read_to_string(&mut text).map_err(|error| damaged(&error))?;
            let said: About = serde_json::from_str(&text).map_err(|error| no_backup(error.to_string()))?;
            if said.format > FORMAT {
                return Err(Problem::bad_input(
                    format!("{} has form {}, this program knows up to {FORMAT}", file.display(), said.format),
                    format!("use cubicle {} or newer", said.version),
                ));
            }
            about = Some(said);
            continue;
        }
        // Only plain files and folders, only where they belong: a restore runs as root.
        let kind = entry.header().entry_type();
        let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
        let known = KEPT.iter().any(|name| path.starts_with(name));
        let sort = matches!(kind, EntryType::Regular | EntryType::GNUSparse | EntryType::Directory);
        let new = seen.insert(path.clone());
        if !(plain && known && sort && new) {
            return Err(no_backup(format!("it holds \"{}\"", path.display().to_string().escape_default())));
        }
        if !entry.unpack_in(folder).map_err(|error| damaged(&error))? {
            return Err(no_backup(format!("it leads out of its folder at \"{}\"", path.display())));
        }
        files += u64::from(kind != EntryType::Directory);
        homes += u64::from(path.starts_with("volumes") && path.ends_with("home.ext4"));
    }
    // To its very end, where the checksum is.
    let mut rest = archive.into_inner();
    io::copy(&mut rest, &mut io::sink()).map_err(|error| damaged(&error))?;
    let about = about.ok_or_else(|| no_backup("it is empty".to_owned()))?;
    Ok(Summary { file: file.to_owned(), created_at: about.created_at, files, homes })
}

fn alone(layout: &Layout) -> Result<File, Problem> {
    lock(layout).map_err(|_| {
        Problem::conflict(
            format!("the engine of {} runs", layout.home().display()),
            "stop it first: `./down` keeps everything",
        )
    })
}

fn nothing_runs(layout: &Layout) -> Result<(), Problem> {
    let rows = Store::open(&layout.engine_database())?.rows()?;
    let live: Vec<String> =
        rows.iter().filter(|row| row.workspace.state.is_live()).map(|row| row.workspace.id.to_string()).collect();
    if live.is_empty() {
        return Ok(());
    }
    Err(Problem::conflict(
        format!("{} may still run: a home that is in use cannot be copied", live.join(", ")),
        "start the engine and stop them: `./up`, then `./down`",
    ))
}

fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(suffix);
    file.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    /// A home with a database, a home image with holes, and an account's file.
    fn site() -> (tempfile::TempDir, Layout) {
        let folder = tempfile::tempdir().expect("a folder");
        let layout = Layout::new(folder.path());
        layout.create().expect("made");
        drop(Store::open(&layout.engine_database()).expect("a store"));
        fs::write(layout.hub().join("hub.db"), "accounts").expect("written");
        fs::write(layout.site(), "launchesAtOnce: 3\n").expect("written");
        let volume = layout.home().join("volumes/u-000000000000");
        fs::create_dir(&volume).expect("made");
        let home = File::create(volume.join("home.ext4")).expect("made");
        home.set_len(64 << 20).expect("grown");
        std::os::unix::fs::FileExt::write_all_at(&home, b"thesis", 32 << 20).expect("written");
        (folder, layout)
    }

    #[test]
    fn what_was_written_is_restored_with_its_holes() {
        let (_folder, layout) = site();
        let place = tempfile::tempdir().expect("a folder");
        let file = place.path().join("backup");
        let written = write(&layout, &file).expect("written");
        assert_eq!(written.homes, 1);
        assert_eq!(fs::metadata(&file).expect("there").mode() & 0o777, 0o600);
        assert!(write(&layout, &file).expect_err("refused").what.contains("there already"));
        let other = Layout::new(place.path().join("other"));
        let restored = restore(&other, &file).expect("restored");
        assert_eq!((restored.files, restored.homes), (written.files, 1));
        assert_eq!(fs::read_to_string(other.site()).expect("there"), "launchesAtOnce: 3\n");
        let home = other.home().join("volumes/u-000000000000/home.ext4");
        let metadata = fs::metadata(&home).expect("there");
        assert_eq!(metadata.len(), 64 << 20);
        assert!(metadata.blocks() * 512 < 1 << 20, "{} blocks", metadata.blocks());
        assert_eq!(&fs::read(&home).expect("read")[32 << 20..(32 << 20) + 6], b"thesis");
        let problem = restore(&other, &file).expect_err("there is state");
        assert!(problem.remedy.contains("empty"), "{}", problem.remedy);
        let left: Vec<_> =
            fs::read_dir(other.home()).expect("listed").map(|one| one.expect("one").file_name()).collect();
        assert!(left.iter().all(|name| !name.to_string_lossy().starts_with(".restore")), "{left:?}");
    }

    /// An archive as no backup is written: its folder, then one entry of this kind.
    fn crafted(kind: EntryType, name: &str) -> Vec<u8> {
        let mut archive = Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        let about = About { format: FORMAT, version: String::new(), created_at: Timestamp::now() };
        let about = serde_json::to_vec(&about).expect("JSON");
        let folder = Path::new(name).parent().expect("a folder").to_str().expect("text");
        let text = if kind == EntryType::Regular { b"x".as_slice() } else { b"" };
        for (kind, name, content) in [
            (EntryType::Regular, ABOUT, about.as_slice()),
            (EntryType::Directory, folder, b"".as_slice()),
            (kind, name, text),
        ] {
            let mut header = Header::new_gnu();
            header.set_entry_type(kind);
            header.set_mode(0o755);
            header.set_mtime(0);
            header.set_uid(0);
            header.set_gid(0);
            header.set_size(content.len() as u64);
            if kind == EntryType::Symlink {
                archive.append_link(&mut header, name, "/etc/shadow").expect("added");
            } else {
                archive.append_data(&mut header, name, content).expect("added");
            }
        }
        archive.into_inner().expect("whole").finish().expect("whole")
    }

    #[test]
    fn what_is_damaged_or_something_else_changes_nothing() {
        let (_folder, layout) = site();
        let place = tempfile::tempdir().expect("a folder");
        let good = place.path().join("good");
        write(&layout, &good).expect("written");
        let bytes = fs::read(&good).expect("read");
        let mut flipped = bytes.clone();
        let middle = flipped.len() - 6;
        flipped[middle] ^= 1;
        let outside = crafted(EntryType::Regular, "bin/cubicle");
        let link = crafted(EntryType::Symlink, "hub/hub.db");
        let pipe = crafted(EntryType::Fifo, "hub/hub.db");
        for (name, bytes) in [
            ("cut", &bytes[..bytes.len() / 2]),
            ("flipped", &flipped),
            ("text", b"not a backup at all".as_slice()),
            ("empty", b"".as_slice()),
            ("outside", &outside),
            ("link", &link),
            ("pipe", &pipe),
        ] {
            let file = place.path().join(name);
            fs::write(&file, bytes).expect("written");
            let other = Layout::new(place.path().join(format!("home-{name}")));
            let problem = restore(&other, &file).expect_err(name);
            assert!(!problem.remedy.is_empty(), "{name}");
            let crafted = matches!(name, "outside" | "link" | "pipe");
            assert_eq!(crafted, problem.what.contains("it holds"), "{name}: {}", problem.what);
            assert!(!other.engine_database().exists() && !other.home().join("bin/cubicle").exists(), "{name}");
        }
        // The control: what is made in the same way, and is what a backup holds, is taken.
        let file = place.path().join("control");
        fs::write(&file, crafted(EntryType::Regular, "hub/hub.db")).expect("written");
        let other = Layout::new(place.path().join("home-control"));
        assert_eq!(restore(&other, &file).expect("taken").files, 1);
        assert_eq!(fs::read_to_string(other.hub().join("hub.db")).expect("there"), "x");
        let held = lock(&layout).expect("the lock");
        assert!(write(&layout, &place.path().join("running")).expect_err("refused").remedy.contains("./down"));
        drop(held);
    }
}
