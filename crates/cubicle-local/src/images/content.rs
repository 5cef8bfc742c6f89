//! The content of an image: copying, making harmless, and the digest over it.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// Directories that the sandbox mounts something on.
const MOUNT_POINTS: [&str; 9] = [".cubicle", "data", "dev", "home/user", "mnt", "proc", "sys", "tmp", "etc"];

/// Every path below a root, relative, the root itself as ".", sorted by bytes.
pub(super) fn entries(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = vec![PathBuf::from(".")];
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root.join(&folder))? {
            let entry = entry?;
            let path = folder.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                folders.push(path.clone());
            }
            found.push(path);
        }
    }
    found.sort_by(|a, b| a.as_os_str().as_bytes().cmp(b.as_os_str().as_bytes()));
    Ok(found)
}

/// The SHA-256, in hexadecimal, of one line per entry: path (hexadecimal), type, mode, owner,
/// group, size, SHA-256 of the content or target of the link. Times do not count. Also the
/// bytes on disk. `image/build/describe.py` computes the same.
pub(super) fn digest(root: &Path) -> io::Result<(String, u64)> {
    let mut whole = Sha256::new();
    let mut size = 0;
    let mut seen = HashSet::new();
    for path in entries(root)? {
        let full = root.join(&path);
        let info = fs::symlink_metadata(&full)?;
        let (kind, bytes, content) = if info.is_file() {
            let mut hash = Sha256::new();
            io::copy(&mut File::open(&full)?, &mut HashWriter(&mut hash))?;
            ("file", info.size(), hexadecimal(&hash.finalize()))
        } else if info.is_symlink() {
            ("link", 0, hexadecimal(fs::read_link(&full)?.as_os_str().as_bytes()))
        } else if info.is_dir() {
            ("directory", 0, String::new())
        } else {
            return Err(io::Error::other(format!("{} is neither file, directory nor link", full.display())));
        };
        let name = hexadecimal(path.as_os_str().as_bytes());
        let mode = info.mode() & 0o7777;
        whole.update(format!("{name} {kind} {mode:04o} {} {} {bytes} {content}\n", info.uid(), info.gid()));
        if seen.insert((info.dev(), info.ino())) {
            size += info.blocks() * 512;
        }
    }
    Ok((hexadecimal(&whole.finalize()), size))
}

struct HashWriter<'a>(&'a mut Sha256);

impl io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Bytes in hexadecimal.
pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Copies a root: files, directories and links; anything else is refused.
pub(super) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    for path in entries(from)? {
        let (source, target) = (from.join(&path), to.join(&path));
        let info = fs::symlink_metadata(&source)?;
        if info.is_dir() {
            fs::create_dir_all(&target)?;
        } else if info.is_symlink() {
            symlink(fs::read_link(&source)?, &target)?;
        } else if info.is_file() {
            fs::copy(&source, &target)?;
        } else {
            return Err(io::Error::other(format!("{} is neither file, directory nor link", source.display())));
        }
        std::os::unix::fs::lchown(&target, Some(info.uid()), Some(info.gid()))?;
        if !info.is_symlink() {
            fs::set_permissions(&target, fs::Permissions::from_mode(info.mode() & 0o1777))?;
        }
    }
    Ok(())
}

/// Makes a root fit for workspaces: everything owned by root, no bit or attribute that could
/// raise privilege, and the directories that the sandbox mounts on.
pub(super) fn prepare(root: &Path) -> io::Result<()> {
    for point in MOUNT_POINTS {
        let path = root.join(point);
        // A link here would lead the mount elsewhere.
        if fs::symlink_metadata(&path).is_ok_and(|info| !info.is_dir()) {
            return Err(io::Error::other(format!("/{point} of the image is not a directory")));
        }
        fs::create_dir_all(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(if point == "tmp" { 0o1777 } else { 0o755 }))?;
    }
    for path in entries(root)? {
        let full = root.join(&path);
        let info = fs::symlink_metadata(&full)?;
        std::os::unix::fs::lchown(&full, Some(0), Some(0))?;
        if info.is_symlink() {
            continue;
        }
        chown(&full, Some(0), Some(0))?;
        // Readable by the tenant, who is "others" here, where its owner could read it.
        let mode = info.mode() & 0o1777;
        let readable = mode | ((mode & 0o500) >> 6);
        let mode = if mode & 0o1000 == 0 { readable & !0o022 } else { 0o1777 };
        fs::set_permissions(&full, fs::Permissions::from_mode(mode))?;
        match rustix::fs::removexattr(&full, OsStr::new("security.capability")) {
            Ok(()) | Err(rustix::io::Errno::NODATA | rustix::io::Errno::NOTSUP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prepared_root_raises_no_privilege_and_its_digest_follows_the_content() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let source = folder.path().join("source");
        fs::create_dir_all(source.join("bin")).expect("folder");
        fs::write(source.join("bin/su"), b"x").expect("file");
        fs::set_permissions(source.join("bin/su"), fs::Permissions::from_mode(0o4755)).expect("setuid");
        let (one, two) = (folder.path().join("one"), folder.path().join("two"));
        for target in [&one, &two] {
            fs::create_dir(target).expect("folder");
            copy(&source, target).expect("copied");
            prepare(target).expect("prepared");
        }
        let mode = fs::metadata(one.join("bin/su")).expect("there").mode() & 0o7777;
        assert_eq!(mode, 0o755);
        assert_eq!(digest(&one).expect("digest"), digest(&two).expect("digest"));
        fs::write(two.join("bin/su"), b"y").expect("changed");
        assert_ne!(digest(&one).expect("digest").0, digest(&two).expect("digest").0);
    }
}
