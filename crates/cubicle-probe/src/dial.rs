//! Dialling: all addresses at once, three fresh sockets each.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, recv, send, socket_with, sockopt,
};

use crate::answer::{Answer, Context, name};

/// Sockets per address: one lost packet is not a wall.
const TRIES: usize = 3;
/// Rounds of datagrams and the pause between them: only the other side's program can answer one, and on a busy
/// machine it may just not be running.
const ROUNDS: usize = 5;
const PAUSE: Duration = Duration::from_millis(20);
/// An answer that was this fast needs no other: a hundred times as long is the shortest deadline there is.
const FAST: Duration = Duration::from_millis(1);
/// How many sockets are begun before those that are done are looked at: a round trip is not to be
/// measured by how long the others take to begin.
const LOOK_AFTER: usize = 24;
/// Addresses at once, so that the descriptors suffice with the usual soft limit of 1024.
const BATCH: usize = 128;

/// What to dial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    /// Whether a refusal shows that packets got there.
    pub(crate) refusal_reaches: bool,
    /// UDP instead of TCP.
    pub(crate) datagram: bool,
}

/// What a dial came to, and how long it took.
pub(crate) struct Dialled {
    pub(crate) answer: Answer,
    pub(crate) duration: Duration,
    /// Nothing came back until the deadline.
    pub(crate) silent: bool,
}

/// What is known of an address, and how long it took.
type Known = Option<(Result<(), Errno>, Duration)>;

/// A socket whose answer is not there yet.
struct Pending {
    socket: OwnedFd,
    target: usize,
    began: Instant,
}

/// The state of one socket.
pub(crate) enum Start {
    Waiting(OwnedFd),
    Over(Result<(), Errno>),
}

/// Dials every target; the answers are in the same order.
pub(crate) fn all(context: &Context, targets: &[Target]) -> Vec<Dialled> {
    targets.chunks(BATCH).flat_map(|batch| together(context, batch)).collect()
}

fn together(context: &Context, targets: &[Target]) -> Vec<Dialled> {
    let mut results: Vec<Known> = vec![None; targets.len()];
    let mut pending = Vec::new();
    for (begun, index) in (0..targets.len()).flat_map(|index| [index; TRIES]).enumerate() {
        begin(index, targets, &mut pending, &mut results);
        if (begun + 1) % LOOK_AFTER == 0 {
            look(&mut pending, targets, Duration::ZERO, &mut results);
        }
    }
    // The last one has its whole time, however long the others took to begin.
    let mut next = Instant::now() + PAUSE;
    let deadline = Instant::now() + context.dial_deadline;
    let mut rounds = 1;
    loop {
        let is_slow = |index: &usize| targets[*index].datagram && results.get(*index).is_none_or(needs_another);
        let again: Vec<usize> = if rounds < ROUNDS { (0..targets.len()).filter(is_slow).collect() } else { Vec::new() };
        if pending.is_empty() && again.is_empty() {
            break;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let pause = if again.is_empty() { left } else { left.min(next.saturating_duration_since(Instant::now())) };
        // Once more when the time is over: a process that may not run for a while, because it has used up
        // its share, finds then what has come meanwhile.
        look(&mut pending, targets, pause, &mut results);
        if left.is_zero() {
            break;
        }
        if !again.is_empty() && Instant::now() >= next {
            again.into_iter().for_each(|index| begin(index, targets, &mut pending, &mut results));
            rounds += 1;
            next = Instant::now() + PAUSE;
        }
    }
    for Pending { target, began, .. } in pending {
        if results[target].as_ref().is_none_or(|(result, _)| result.is_err()) {
            results[target] = Some((Err(Errno::TIMEDOUT), began.elapsed()));
        }
    }
    results
        .into_iter()
        .zip(targets)
        .map(|(result, target)| {
            let (result, duration) = result.unwrap_or((Err(Errno::TIMEDOUT), context.dial_deadline));
            let silent = result == Err(Errno::TIMEDOUT);
            Dialled { answer: judge(context, target, result), duration, silent }
        })
        .collect()
}

/// Whether another datagram may tell more: none has come back, none fast, or one could not be sent just now. A refusal,
/// or no way there, is an answer.
fn needs_another(known: &Known) -> bool {
    match known {
        Some((Ok(()), fastest)) => *fastest > FAST,
        Some((Err(errno), _)) => !matches!(
            *errno,
            Errno::CONNREFUSED
                | Errno::NETUNREACH
                | Errno::HOSTUNREACH
                | Errno::AFNOSUPPORT
                | Errno::PERM
                | Errno::ACCESS
        ),
        None => true,
    }
}

/// Begins one more try of an address.
fn begin(index: usize, targets: &[Target], pending: &mut Vec<Pending>, results: &mut [Known]) {
    let began = Instant::now();
    match start(&targets[index]) {
        Start::Waiting(socket) => pending.push(Pending { socket, target: index, began }),
        Start::Over(result) => note(&mut results[index], result, began.elapsed()),
    }
}

/// Notes those that are done, at the latest after this time.
fn look(pending: &mut Vec<Pending>, targets: &[Target], left: Duration, results: &mut [Known]) {
    for (one, result) in wait(pending, targets, left) {
        let elapsed = one.began.elapsed();
        // What the kernel measured, where it did: how late a busy machine looks is not how far it is.
        let measured = if result.is_ok() && !targets[one.target].datagram { round_trip(&one.socket) } else { None };
        note(&mut results[one.target], result, measured.map_or(elapsed, |measured| measured.min(elapsed)));
    }
}

/// The time from the first packet of a connection to its answer (tcp(7), TCP_INFO).
fn round_trip(socket: &OwnedFd) -> Option<Duration> {
    // SAFETY: all zeros is a value of this structure of numbers.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut length = libc::socklen_t::try_from(size_of::<libc::tcp_info>()).ok()?;
    // SAFETY: the kernel writes at most `length` bytes to `info`, which is that long.
    let code = unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, (&raw mut info).cast(), &raw mut length)
    };
    (code == 0 && info.tcpi_rtt > 0).then(|| Duration::from_micros(info.tcpi_rtt.into()))
}

/// A success, or a refusal by the other side, stays; else the latest counts. Of several successes the fastest
/// tells how far it is: what the others took longer is how busy the machine was, and silence is that of every
/// socket.
fn note(known: &mut Known, result: Result<(), Errno>, duration: Duration) {
    let keeps = |result: &Result<(), Errno>| matches!(result, Ok(()) | Err(Errno::CONNREFUSED));
    match known {
        Some((Ok(()), fastest)) if result.is_ok() => *fastest = duration.min(*fastest),
        Some((before, _)) if keeps(before) && result.is_err() => {}
        _ => *known = Some((result, duration)),
    }
}

/// Makes a socket and begins to connect; a datagram is sent at once.
pub(crate) fn start(target: &Target) -> Start {
    let begun = (|| {
        let family = if target.address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let sort = if target.datagram { SocketType::DGRAM } else { SocketType::STREAM };
        let socket = socket_with(family, sort, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
        match connect(&socket, &target.address) {
            Ok(()) if target.datagram => {
                send(&socket, b"cubicle probe\n", SendFlags::NOSIGNAL)?;
                Ok(Some(socket))
            }
            Ok(()) => Ok(None),
            Err(Errno::INPROGRESS) => Ok(Some(socket)),
            Err(errno) => Err(errno),
        }
    })();
    match begun {
        Ok(Some(socket)) => Start::Waiting(socket),
        Ok(None) => Start::Over(Ok(())),
        Err(errno) => Start::Over(Err(errno)),
    }
}

/// Waits for any of the sockets and takes those out that are done.
fn wait(pending: &mut Vec<Pending>, targets: &[Target], left: Duration) -> Vec<(Pending, Result<(), Errno>)> {
    let flags = |one: &Pending| if targets[one.target].datagram { PollFlags::IN } else { PollFlags::OUT };
    let ready: Vec<bool> = {
        let mut descriptors: Vec<PollFd<'_>> =
            pending.iter().map(|one| PollFd::from_borrowed_fd(one.socket.as_fd(), flags(one))).collect();
        // An interrupted wait is simply repeated by the caller.
        let _ = poll(&mut descriptors, Timespec::try_from(left).ok().as_ref());
        descriptors.iter().map(|descriptor| !descriptor.revents().is_empty()).collect()
    };
    let (done, waiting): (Vec<_>, Vec<_>) =
        std::mem::take(pending).into_iter().zip(ready).partition(|(_, ready)| *ready);
    pending.extend(waiting.into_iter().map(|(one, _)| one));
    done.into_iter()
        .map(|(one, _)| {
            let result = finish(&one.socket, targets[one.target].datagram);
            (one, result)
        })
        .collect()
}

/// The result of a socket that is ready.
pub(crate) fn finish(socket: &OwnedFd, datagram: bool) -> Result<(), Errno> {
    sockopt::socket_error(socket)??;
    if datagram {
        let mut echo = [0; 64];
        recv(socket, &mut echo, RecvFlags::DONTWAIT)?;
    }
    Ok(())
}

/// What the result of a dial means.
pub(crate) fn judge(context: &Context, target: &Target, result: Result<(), Errno>) -> Answer {
    match result {
        Ok(()) if target.datagram => Answer::succeeded("a datagram came back"),
        Ok(()) => Answer::succeeded("connected"),
        Err(errno @ (Errno::CONNREFUSED | Errno::CONNRESET)) if target.refusal_reaches && !context.is_control() => {
            Answer::succeeded(format!("{}: packets get there and come back", name(errno)))
        }
        Err(Errno::TIMEDOUT) if context.reference => Answer::missing("no answer without walls either"),
        Err(errno @ (Errno::CONNREFUSED | Errno::CONNRESET | Errno::NETUNREACH | Errno::HOSTUNREACH))
            if context.reference =>
        {
            Answer::missing(format!("{} without walls either", name(errno)))
        }
        Err(errno @ Errno::AFNOSUPPORT) => context.not_there(name(errno)),
        Err(errno @ (Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)) => Answer::failed(name(errno)),
        Err(Errno::TIMEDOUT) => Answer::denied(format!("no answer within {} ms", context.dial_deadline.as_millis())),
        Err(errno) => Answer::denied(name(errno)),
    }
}

/// Whether a refusal of this address is the work of somebody else than this namespace itself.
pub(crate) fn refusal_reaches(address: IpAddr) -> bool {
    !address.is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_is_sent_again_until_one_came_back_fast_or_none_can() {
        assert!(needs_another(&None));
        assert!(needs_another(&Some((Ok(()), FAST * 2))));
        assert!(!needs_another(&Some((Ok(()), FAST))));
        for (errno, again) in
            [(Errno::CONNREFUSED, false), (Errno::NETUNREACH, false), (Errno::NOBUFS, true), (Errno::AGAIN, true)]
        {
            assert_eq!(needs_another(&Some((Err(errno), Duration::ZERO))), again, "{errno}");
        }
    }

    #[test]
    fn a_success_stays_and_the_fastest_one_tells_how_far_it_is() {
        let after = |results: &[(Result<(), Errno>, u64)]| {
            let mut known = None;
            for (result, milliseconds) in results {
                note(&mut known, *result, Duration::from_millis(*milliseconds));
            }
            known
        };
        let known = |result, milliseconds| Some((result, Duration::from_millis(milliseconds)));
        assert_eq!(after(&[(Ok(()), 9), (Ok(()), 2), (Ok(()), 5)]), known(Ok(()), 2));
        assert_eq!(after(&[(Err(Errno::NETUNREACH), 1), (Ok(()), 7)]), known(Ok(()), 7));
        assert_eq!(after(&[(Ok(()), 7), (Err(Errno::NETUNREACH), 1)]), known(Ok(()), 7));
        assert_eq!(
            after(&[(Err(Errno::CONNREFUSED), 3), (Err(Errno::NETUNREACH), 1)]),
            known(Err(Errno::CONNREFUSED), 3)
        );
        assert_eq!(
            after(&[(Err(Errno::NETUNREACH), 3), (Err(Errno::CONNREFUSED), 1)]),
            known(Err(Errno::CONNREFUSED), 1)
        );
    }
}
