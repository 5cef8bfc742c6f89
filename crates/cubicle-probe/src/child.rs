//! Forked children: for attempts that change the process that makes them, that a filter may
//! kill, or that must not be the workspace's first process.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use cubicle_core::attempt::Observation;
use jiff::Timestamp;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{DumpableBehavior, Pid, Signal, WaitOptions, WaitStatus};

use crate::answer::Answer;

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Code(i32),
    Signal(i32),
    /// It had to be killed because it took too long.
    TooLong,
}

/// What a child said, and how it ended.
pub(crate) struct Said {
    pub(crate) observations: Vec<Observation>,
    pub(crate) end: End,
}

/// Where a child says what it observed.
pub(crate) struct Teller(File);

impl Teller {
    pub(crate) fn tell(&mut self, observation: &Observation) {
        if let Ok(mut line) = serde_json::to_vec(observation) {
            line.push(b'\n');
            // The reader notices what is missing.
            let _ = self.0.write_all(&line);
        }
    }
}

/// An answer as something that a child can tell; the reader knows to which attempt it belongs.
pub(crate) fn word(answer: &Answer) -> Observation {
    Observation {
        attempt: String::new(),
        outcome: answer.outcome,
        detail: answer.detail.clone(),
        at: Timestamp::now(),
        duration_us: 0,
        silent: false,
    }
}

/// Children that have said all they had to say, but were still ending then.
static ENDING: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

/// Like [`run`], but returns as soon as the child has told as much as is wanted and says no more. What it made is taken
/// down by the kernel meanwhile, which takes longer than all else.
pub(crate) fn tell(patience: Duration, wanted: usize, body: impl FnOnce(&mut Teller)) -> std::io::Result<Said> {
    let mut ending = ENDING.lock().unwrap_or_else(PoisonError::into_inner);
    ending.retain(|pid| matches!(rustix::process::waitpid(Some(*pid), WaitOptions::NOHANG), Ok(None)));
    drop(ending);
    let (pid, said, in_time) = listen(patience, body)?;
    let observations = observations(&said);
    let Some(child) = Pid::from_raw(pid).filter(|_| in_time && observations.len() >= wanted) else {
        return Ok(Said { observations, end: wait(pid, in_time) });
    };
    ENDING.lock().unwrap_or_else(PoisonError::into_inner).push(child);
    Ok(Said { observations, end: End::Code(0) })
}

/// Runs `body` in a forked child and collects what it tells. `patience` is how long it may say nothing.
pub(crate) fn run(patience: Duration, body: impl FnOnce(&mut Teller)) -> std::io::Result<Said> {
    let (pid, said, in_time) = listen(patience, body)?;
    let end = wait(pid, in_time);
    Ok(Said { observations: observations(&said), end })
}

fn observations(said: &[u8]) -> Vec<Observation> {
    said.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
}

/// Forks, and reads until the child says no more; its pid, what it said, and whether that was in time.
fn listen(patience: Duration, body: impl FnOnce(&mut Teller)) -> std::io::Result<(i32, Vec<u8>, bool)> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    let parent = std::process::id();
    // SAFETY: the child only runs `body` and leaves with _exit. The one other thread that may
    // exist, the start-up window's, holds no lock that the child needs: glibc makes the
    // allocator usable in a forked child.
    let pid = unsafe { libc::fork() };
    if pid < 0 {
        return Err(std::io::Error::last_os_error());
    }
    if pid == 0 {
        drop(reader);
        become_plain(parent);
        let mut teller = Teller(File::from(writer));
        let finished = catch_unwind(AssertUnwindSafe(|| body(&mut teller))).is_ok();
        drop(teller);
        // SAFETY: leaves at once, without the parent's exit handlers.
        unsafe { libc::_exit(i32::from(!finished)) }
    }
    drop(writer);
    let mut said = Vec::new();
    let in_time = read_all(reader, &mut said, patience);
    Ok((pid, said, in_time))
}

/// A child is an ordinary process: unlike its parent it may be looked at, so that files below
/// `/proc/self` belong to it and what is refused is refused by a wall; and it dies first, at once when its parent has
/// ended by now.
fn become_plain(parent: u32) {
    let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable);
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    // The signal is of deaths from now on (PR_SET_PDEATHSIG(2const)). A parent outside of its pid namespace is 0.
    let now = std::os::unix::process::parent_id();
    if now != parent && now != 0 {
        // SAFETY: leaves at once, without the parent's exit handlers.
        unsafe { libc::_exit(1) }
    }
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGPIPE] {
        // SAFETY: setting a signal to its default.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

/// Whether the end came before nothing was said for so long.
fn read_all(reader: OwnedFd, said: &mut Vec<u8>, patience: Duration) -> bool {
    let mut deadline = Instant::now() + patience;
    let mut file = File::from(reader);
    let mut buffer = [0; 16 << 10];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        let ready = {
            let mut descriptors = [PollFd::from_borrowed_fd(file.as_fd(), PollFlags::IN)];
            poll(&mut descriptors, Timespec::try_from(left).ok().as_ref())
        };
        match ready {
            Ok(0) => return false,
            Ok(_) => match file.read(&mut buffer) {
                Ok(0) => return true,
                Ok(count) => {
                    said.extend_from_slice(&buffer[..count]);
                    deadline = Instant::now() + patience;
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return true,
            },
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}

fn wait(pid: i32, in_time: bool) -> End {
    let Some(pid) = Pid::from_raw(pid) else { return End::TooLong };
    if !in_time {
        let _ = rustix::process::kill_process(pid, Signal::KILL);
    }
    let end = loop {
        match rustix::process::waitpid(Some(pid), WaitOptions::empty()) {
            Err(rustix::io::Errno::INTR) => {}
            other => break other,
        }
    };
    match end {
        _ if !in_time => End::TooLong,
        Ok(Some((_, status))) => ended(status),
        _ => End::TooLong,
    }
}

fn ended(status: WaitStatus) -> End {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => End::Code(code),
        (_, Some(signal)) => End::Signal(signal),
        _ => End::TooLong,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_that_dies_half_way_is_told_by_its_real_end() {
        let patience = Duration::from_secs(10);
        let body = |teller: &mut Teller| {
            teller.tell(&word(&Answer::succeeded("")));
            // SAFETY: kill and getpid take plain numbers; it ends this child.
            unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
        };
        let said = tell(patience, 2, body).expect("a child");
        assert_eq!((said.observations.len(), said.end), (1, End::Signal(libc::SIGKILL)));
        // Who has told all that is wanted is not waited for.
        assert_eq!(tell(patience, 1, body).expect("a child").end, End::Code(0));
    }
}
