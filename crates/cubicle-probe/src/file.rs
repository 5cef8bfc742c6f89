//! Opening, writing and making files, and connecting to Unix sockets.

use std::os::unix::net::UnixStream;

use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::answer::{Answer, Context, name};

const SAFE: OFlags = OFlags::CLOEXEC.union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

/// Opens for reading; reads one byte of a file, or one entry of a directory. Devices are not
/// read: some do something then.
pub(crate) fn read(context: &Context, path: &str) -> Answer {
    let file = match rustix::fs::open(path, SAFE | OFlags::RDONLY, Mode::empty()) {
        Ok(file) => file,
        Err(errno) => return context.file_error(errno),
    };
    if path.starts_with("/dev/") {
        return Answer::succeeded("opened");
    }
    let is_directory =
        rustix::fs::fstat(&file).is_ok_and(|data| FileType::from_raw_mode(data.st_mode) == FileType::Directory);
    if is_directory {
        let Ok(entries) = rustix::fs::Dir::read_from(&file) else { return context.not_there("cannot be listed") };
        let found = entries.flatten().any(|entry| !matches!(entry.file_name().to_bytes(), b"." | b".."));
        return if found { Answer::succeeded("listed") } else { context.not_there("an empty directory") };
    }
    let mut byte = [0; 1];
    match rustix::io::read(&file, &mut byte) {
        Ok(0) => context.not_there("an empty file"),
        Ok(_) => Answer::succeeded("read"),
        Err(errno @ (Errno::PERM | Errno::ACCESS)) => Answer::denied(name(errno)),
        Err(errno) => Answer::succeeded(format!("opened; reading says {}", name(errno))),
    }
}

/// Opens for writing and writes nothing.
pub(crate) fn write(context: &Context, path: &str) -> Answer {
    match rustix::fs::open(path, SAFE | OFlags::WRONLY, Mode::empty()) {
        Ok(_) => Answer::succeeded("opened for writing"),
        Err(errno) => context.file_error(errno),
    }
}

/// Makes a file and removes it.
pub(crate) fn create(context: &Context, directory: &str) -> Answer {
    let path = format!("{}/.cubicle-probe-{}", directory.trim_end_matches('/'), std::process::id());
    match rustix::fs::open(&path, SAFE | OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL, Mode::RUSR) {
        Ok(_) => {
            let _ = rustix::fs::unlinkat(CWD, &path, rustix::fs::AtFlags::empty());
            Answer::succeeded("made a file")
        }
        Err(errno) => context.file_error(errno),
    }
}

/// Connects to a Unix socket by its path.
pub(crate) fn connect(context: &Context, path: &str) -> Answer {
    match UnixStream::connect(path) {
        Ok(_) => Answer::succeeded("connected"),
        Err(error) => match Errno::from_io_error(&error) {
            // A socket file that nobody listens on is still a file of the machine.
            Some(Errno::CONNREFUSED) => Answer::succeeded("there is a socket, nobody listens"),
            Some(errno) => context.file_error(errno),
            None => Answer::failed(error.to_string()),
        },
    }
}
