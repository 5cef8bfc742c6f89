//! Small helpers for descriptors: deadlines on reads, descriptors at fixed numbers.

use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::AsFd;

/// Waits until a descriptor can be read or its other end is closed; false when time is up.
pub(crate) fn readable(descriptor: impl AsFd, deadline: Instant) -> io::Result<bool> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        let mut polled = [PollFd::new(&descriptor, PollFlags::IN)];
        match poll(&mut polled, Some(&timeout)) {
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(true),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Reads up to a newline (kept out of the answer), at most `limit` bytes, until the deadline.
pub(crate) fn read_line(from: &mut (impl Read + AsFd), limit: usize, deadline: Instant) -> io::Result<String> {
    let mut line = Vec::new();
    let mut chunk = [0_u8; 65536];
    loop {
        if !readable(from.as_fd(), deadline)? {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in time"));
        }
        let count = from.read(&mut chunk)?;
        if count == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it ended without an answer"));
        }
        line.extend_from_slice(&chunk[..count]);
        if let Some(end) = line.iter().position(|byte| *byte == b'\n') {
            line.truncate(end);
            return String::from_utf8(line).map_err(|_| io::Error::other("the answer is not UTF-8"));
        }
        if line.len() > limit {
            return Err(io::Error::other(format!("the answer is longer than {limit} bytes")));
        }
    }
}

/// Reads to the end, at most `limit` bytes, until the deadline.
pub(crate) fn read_all(from: &mut (impl Read + AsFd), limit: usize, deadline: Instant) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    let mut chunk = [0_u8; 65536];
    loop {
        if !readable(from.as_fd(), deadline)? {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in time"));
        }
        let count = from.read(&mut chunk)?;
        if count == 0 {
            return Ok(all);
        }
        all.extend_from_slice(&chunk[..count]);
        if all.len() > limit {
            return Err(io::Error::other(format!("the answer is longer than {limit} bytes")));
        }
    }
}

/// Writes a line.
pub(crate) fn write_line(to: &mut impl Write, line: &str) -> io::Result<()> {
    to.write_all(line.as_bytes())?;
    to.write_all(b"\n")?;
    to.flush()
}

/// Puts a descriptor at a fixed number, where it survives `exec`.
pub(crate) fn place(descriptor: &OwnedFd, number: RawFd) -> io::Result<()> {
    let source = descriptor.as_raw_fd();
    // SAFETY: dup2 and fcntl take plain numbers; `source` is open for the whole call. What was
    // open at `number` is closed, which is what the caller asks for.
    let result =
        unsafe { if source == number { libc::fcntl(source, libc::F_SETFD, 0) } else { libc::dup2(source, number) } };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Closes every descriptor from a number on.
pub(crate) fn close_from(number: RawFd) -> io::Result<()> {
    // SAFETY: called only right at the start of a process, before anything owns a descriptor
    // from `number` on.
    let result = unsafe { libc::close_range(number.cast_unsigned(), u32::MAX, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A pipe whose ends do not survive `exec`: (read, write).
pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?)
}

/// Asks a condition again and again until it holds or time is up.
pub(crate) fn wait_until(within: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + within;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
