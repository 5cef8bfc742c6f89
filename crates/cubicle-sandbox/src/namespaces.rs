//! Entering the namespaces of a workspace from outside, one short-lived thread at a time.
//!
//! A network namespace belongs to a thread (setns(2)), so that the thread which enters one
//! makes the socket there and ends; the socket stays in its namespace for ever.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::num::NonZeroU32;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, Protocol, SocketFlags, SocketType, connect, ipproto, socket_with, sockopt};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// How long a connection to the workspace's own loopback may take.
const DIAL: Duration = Duration::from_secs(2);

/// When a process started, in clock ticks since boot: field 22 of `/proc/PID/stat` (proc(5)).
///
/// # Errors
/// When there is no such process.
pub fn start_time(pid: u32) -> io::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is the command in parentheses and may contain anything.
    let fields = stat.rsplit_once(") ").map(|(_, rest)| rest).unwrap_or_default();
    fields
        .split(' ')
        .nth(19)
        .and_then(|field| field.parse().ok())
        .ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat has no start time")))
}

/// Opens a namespace of a process after checking that it still is the same process.
pub(crate) fn open(pid: u32, pid_start: u64, kind: &str) -> io::Result<File> {
    let namespace = File::open(format!("/proc/{pid}/ns/{kind}"))?;
    // Checked after opening: had the pid been reused before, this start time would differ.
    if start_time(pid)? == pid_start {
        Ok(namespace)
    } else {
        Err(io::Error::new(io::ErrorKind::NotFound, format!("process {pid} is not the workspace any more")))
    }
}

/// Does something in a thread that is in the network namespace of a process.
fn inside<T: Send>(pid: u32, pid_start: u64, action: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    let namespace = open(pid, pid_start, "net")?;
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("cubicle-netns".to_owned())
            .spawn_scoped(scope, || {
                move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
                action()
            })?
            .join()
            .map_err(|_| io::Error::other("the thread in the network namespace ended badly"))?
    })
}

/// Connects to a port on the loopback of the workspace whose first process is `pid`. The socket
/// is non-blocking and does not survive `exec`. Takes at most two seconds; blocks the caller.
///
/// # Errors
/// When the process has ended (also when its pid belongs to another one now), when nothing
/// listens, and when the connection takes too long.
pub fn dial(pid: u32, pid_start: u64, port: u16) -> io::Result<OwnedFd> {
    inside(pid, pid_start, move || connect_within(port, DIAL))
}

/// Like [`dial`], but waits for as long as nothing listens, looking every two milliseconds: cheaply, because
/// what starts meanwhile wants the processors.
///
/// # Errors
/// Those of [`dial`]; that nothing listens only when it still does not after `patience`.
pub fn dial_when_it_listens(pid: u32, pid_start: u64, port: u16, patience: Duration) -> io::Result<OwnedFd> {
    const PAUSE: Duration = Duration::from_millis(2);
    let deadline = Instant::now() + patience;
    inside(pid, pid_start, move || {
        loop {
            match connect_within(port, DIAL) {
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused && Instant::now() < deadline => {
                    std::thread::sleep(PAUSE);
                }
                other => return other,
            }
        }
    })
}

/// Connects to a port on this thread's loopback.
fn connect_within(port: u16, patience: Duration) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    match connect(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, port))) {
        Ok(()) => return Ok(socket),
        Err(rustix::io::Errno::INPROGRESS) => {}
        Err(error) => return Err(error.into()),
    }
    let deadline = Instant::now() + patience;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: i64::from(left.subsec_nanos()) };
        match poll(&mut [PollFd::new(&socket, PollFlags::OUT)], Some(&timeout)) {
            Ok(0) => return Err(io::Error::new(io::ErrorKind::TimedOut, "the notebook did not accept in time")),
            Ok(_) => break,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    sockopt::socket_error(&socket)??;
    Ok(socket)
}

/// Listens on a port of the workspace's loopback.
pub(crate) fn listen(pid: u32, pid_start: u64, port: u16) -> io::Result<TcpListener> {
    inside(pid, pid_start, move || TcpListener::bind((Ipv4Addr::LOCALHOST, port)))
}

/// A socket that gets every IPv4 packet of the workspace's network namespace from now on (packet(7)).
pub(crate) fn packets(pid: u32, pid_start: u64) -> io::Result<OwnedFd> {
    /// ETH_P_IP of linux/if_ether.h, as packet(7) wants it: in network byte order.
    const IPV4: u16 = 0x0800_u16.to_be();
    inside(pid, pid_start, || {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let protocol = NonZeroU32::new(u32::from(IPV4)).map(Protocol::from_raw);
        Ok(socket_with(AddressFamily::PACKET, SocketType::DGRAM, flags, protocol)?)
    })
}

/// Brings the workspace's loopback up.
pub(crate) fn raise_loopback(pid: u32, pid_start: u64) -> io::Result<()> {
    inside(pid, pid_start, || raise("lo"))
}

/// Adds a second interface, for the test that takes "only lo" away.
pub(crate) fn add_dummy_interface(pid: u32, pid_start: u64) -> io::Result<()> {
    inside(pid, pid_start, || {
        for arguments in [
            &["link", "add", "cubicle0", "type", "veth", "peer", "name", "cubicle1"][..],
            &["link", "set", "cubicle0", "up"][..],
        ] {
            let status = std::process::Command::new("ip").args(arguments).status()?;
            if !status.success() {
                return Err(io::Error::other(format!("ip {} failed", arguments.join(" "))));
            }
        }
        Ok(())
    })
}

/// Sets `IFF_UP` (netdevice(7)).
fn raise(interface: &str) -> io::Result<()> {
    let socket =
        socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None).map_err(io::Error::from)?;
    // SAFETY: an all-zero ifreq is valid: bytes and integers only.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(interface.bytes()) {
        *to = from.cast_signed();
    }
    // SAFETY: SIOCGIFFLAGS and SIOCSIFFLAGS read and write an ifreq, which lives through both
    // calls; the name is terminated because it is shorter than the zeroed field.
    unsafe {
        if libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS as _, &raw mut request) < 0 {
            return Err(io::Error::last_os_error());
        }
        request.ifr_ifru.ifru_flags |= libc::IFF_UP as libc::c_short;
        if libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw mut request) < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// A user namespace with the workspace's mapping that no process is in: mounts take their owner
/// shift from it. Must be called while the process has one thread.
pub(crate) fn mapped_user_namespace(id_base: u32) -> io::Result<OwnedFd> {
    let (ready_read, ready_write) = crate::pipes::pipe()?;
    let (done_read, done_write) = crate::pipes::pipe()?;
    // SAFETY: the process has one thread, so that the child's memory is whole; the child makes
    // only system calls and leaves with _exit.
    let child = unsafe { libc::fork() };
    if child < 0 {
        return Err(io::Error::last_os_error());
    }
    if child == 0 {
        let mut byte = [0_u8; 1];
        // SAFETY: plain system calls on descriptors that fork duplicated. Its own copy of the
        // write end is closed, so that a dead parent ends the wait.
        unsafe {
            libc::close(done_write.as_raw_fd());
            let made = libc::unshare(libc::CLONE_NEWUSER) == 0;
            let answer = [u8::from(made)];
            libc::write(ready_write.as_raw_fd(), answer.as_ptr().cast(), 1);
            libc::read(done_read.as_raw_fd(), byte.as_mut_ptr().cast(), 1);
            libc::_exit(0);
        }
    }
    drop(ready_write);
    let result = (|| {
        let mut byte = [0_u8; 1];
        if rustix::io::read(&ready_read, &mut byte)? != 1 || byte[0] != 1 {
            return Err(io::Error::other("this kernel makes no user namespaces (user.max_user_namespaces)"));
        }
        let line = format!("0 {id_base} 65536\n");
        fs::write(format!("/proc/{child}/uid_map"), &line)?;
        fs::write(format!("/proc/{child}/gid_map"), &line)?;
        Ok(OwnedFd::from(File::open(format!("/proc/{child}/ns/user"))?))
    })();
    drop(done_write);
    // SAFETY: waits for the child made above.
    unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_time_is_that_of_this_process_and_a_wrong_one_is_refused() {
        let own = start_time(std::process::id()).expect("own start time");
        assert!(own > 0);
        assert!(open(std::process::id(), own, "net").is_ok());
        assert!(open(std::process::id(), own + 1, "net").is_err());
    }

    #[test]
    fn dial_reaches_a_listener_of_the_same_namespace_and_refuses_a_reused_pid() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listener");
        let port = listener.local_addr().expect("address").port();
        let (pid, start) = (std::process::id(), start_time(std::process::id()).expect("start"));
        // Entering even the own network namespace needs CAP_SYS_ADMIN.
        if rustix::process::geteuid().is_root() {
            assert!(dial(pid, start, port).is_ok());
            drop(listener);
            assert!(dial(pid, start, port).is_err());
            let began = Instant::now();
            let patience = Duration::from_millis(20);
            assert!(dial_when_it_listens(pid, start, port, patience).is_err());
            assert!(began.elapsed() >= patience, "it waits for a listener");
        }
        assert!(dial(pid, start + 1, port).is_err());
    }
}
