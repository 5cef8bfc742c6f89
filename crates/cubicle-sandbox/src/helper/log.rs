//! What the notebook prints: hostile text, kept to about one mebibyte.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// When the log reaches this many bytes it becomes `notebook.log.1`, in place of the last one.
const HALF: u64 = 512 << 10;

/// Copies everything from a pipe into `DIR/notebook.log` in a thread of its own.
pub(super) fn keep(dir: &Path, from: OwnedFd) -> io::Result<()> {
    let path = dir.join("notebook.log");
    let mut log = Log { file: open(&path)?, path, size: 0 };
    log.size = log.file.metadata()?.len();
    std::thread::Builder::new().name("cubicle-log".to_owned()).spawn(move || {
        let mut from = File::from(from);
        let mut chunk = [0_u8; 16384];
        // The pipe is read on even when nothing can be written, or the notebook would block.
        while let Ok(count @ 1..) = from.read(&mut chunk) {
            let _ = log.write(&chunk[..count]);
        }
    })?;
    Ok(())
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

struct Log {
    path: PathBuf,
    file: File,
    size: u64,
}

impl Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.size >= HALF {
            fs::rename(&self.path, self.path.with_extension("log.1"))?;
            self.file = open(&self.path)?;
            self.size = 0;
        }
        self.file.write_all(bytes)?;
        self.size += bytes.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_stays_bounded_and_keeps_the_end() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("notebook.log");
        let mut log = Log { file: open(&path).expect("log"), path: path.clone(), size: 0 };
        for _ in 0..400 {
            log.write(&[b'x'; 16384]).expect("write");
        }
        log.write(b"the end").expect("write");
        let total =
            fs::metadata(&path).expect("log").len() + fs::metadata(path.with_extension("log.1")).expect("log.1").len();
        assert!(total <= 2 * (HALF + 16384), "{total}");
        assert!(fs::read(&path).expect("log").ends_with(b"the end"));
    }
}
