//! Freezing a sandbox that nobody uses, and thawing it with the first byte that somebody sends to its notebook.
//!
//! Frozen processes use no processor and keep everything: memory, connections, variables. Whoever dials the notebook
//! or writes to an open connection sends a packet over the sandbox's loopback. A packet socket there (packet(7)) has
//! it before the notebook would, and that thaws the sandbox; nothing is asked again and again meanwhile.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use cubicle_core::problem::Problem;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};

use super::Sandbox;
use crate::namespaces;
use crate::protocol::Stage;

/// Whether a sandbox is frozen, and how to end the watch for its first byte.
#[derive(Default)]
pub(super) struct Freezer(Mutex<Option<OwnedFd>>);

impl Freezer {
    pub(super) fn is_frozen(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }
}

impl Sandbox {
    /// Freezes it until somebody sends something to this port, or [`Sandbox::thaw`].
    pub(super) fn freeze(self: &Arc<Self>, port: u16) -> Result<(), Problem> {
        let failed = |error: io::Error| Problem::engine(format!("{} cannot be frozen: {error}", self.spec.id), "");
        let mut frozen = self.freezer.0.lock().unwrap_or_else(PoisonError::into_inner);
        if frozen.is_some() {
            return Ok(());
        }
        if self.state().stage != Stage::Started {
            return Err(Problem::conflict(format!("{} is not running", self.spec.id), "start it first"));
        }
        // Before anything is frozen: what comes from now on thaws it.
        let packets = namespaces::packets(self.pid, self.pid_start).map_err(failed)?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC).map_err(|error| failed(error.into()))?;
        let ended = wake.try_clone().map_err(failed)?;
        let sandbox = Arc::clone(self);
        self.cgroup.freeze().map_err(failed)?;
        let watched = std::thread::Builder::new().name("cubicle-freezer".to_owned()).spawn(move || {
            if let Err(error) = wait_for_a_byte(&packets, port, &ended) {
                eprintln!("waiting for the first byte: {error}");
            }
            sandbox.thaw();
        });
        if let Err(error) = watched {
            let _ = self.cgroup.thaw();
            return Err(failed(error));
        }
        *frozen = Some(wake);
        Ok(())
    }

    /// Lets it run again, if it is frozen.
    pub(super) fn thaw(&self) {
        let mut frozen = self.freezer.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(wake) = frozen.take() else { return };
        if let Err(error) = self.cgroup.thaw() {
            eprintln!("thawing: {error}");
        }
        let _ = rustix::io::write(&wake, &1_u64.to_ne_bytes());
    }
}

/// Returns when a packet to this port brings something, or when `ended` is written to.
fn wait_for_a_byte(packets: &OwnedFd, port: u16, ended: &OwnedFd) -> io::Result<()> {
    let mut packet = [0_u8; 128];
    loop {
        let mut polled = [PollFd::new(packets, PollFlags::IN), PollFd::new(ended, PollFlags::IN)];
        match poll(&mut polled, None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        if !polled[1].revents().is_empty() {
            return Ok(());
        }
        match rustix::net::recv(packets, &mut packet, rustix::net::RecvFlags::TRUNC) {
            Ok((read, _)) if brings_something(&packet[..read], port) => return Ok(()),
            Ok(_) | Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Whether an IPv4 packet (RFC 791, RFC 9293) opens a connection to this port or carries bytes to it. What only keeps a
/// connection alive does not count.
fn brings_something(packet: &[u8], port: u16) -> bool {
    const TCP: u8 = 6;
    const SYN: u8 = 2;
    let byte = |at: usize| packet.get(at).copied();
    let word = |at: usize| Some(u16::from_be_bytes([byte(at)?, byte(at + 1)?]));
    let found = || {
        let header = usize::from(byte(0)? & 0xf) * 4;
        if byte(0)? >> 4 != 4 || byte(9)? != TCP || word(header + 2)? != port {
            return Some(false);
        }
        let total = usize::from(word(2)?);
        let before_bytes = header + usize::from(byte(header + 12)? >> 4) * 4;
        Some(total > before_bytes || byte(header + 13)? & SYN != 0)
    };
    found().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A packet with these flags and so many bytes.
    fn packet(port: u16, flags: u8, bytes: u16) -> Vec<u8> {
        let mut packet = vec![0_u8; 40 + usize::from(bytes)];
        packet[0] = 0x45;
        packet[2..4].copy_from_slice(&(40 + bytes).to_be_bytes());
        packet[9] = 6;
        packet[22..24].copy_from_slice(&port.to_be_bytes());
        packet[32] = 5 << 4;
        packet[33] = flags;
        packet
    }

    #[test]
    fn only_a_connection_or_bytes_to_the_port_bring_something() {
        assert!(brings_something(&packet(8888, 2, 0), 8888), "a SYN");
        assert!(brings_something(&packet(8888, 0x18, 1), 8888), "a byte");
        assert!(!brings_something(&packet(8888, 0x10, 0), 8888), "an acknowledgement alone");
        assert!(!brings_something(&packet(8889, 0x18, 1), 8888), "another port");
        let mut udp = packet(8888, 0x18, 1);
        udp[9] = 17;
        assert!(!brings_something(&udp, 8888), "not TCP");
    }

    #[test]
    fn what_is_cut_off_brings_nothing_and_breaks_nothing() {
        let whole = packet(8888, 0x18, 1);
        for length in 0..33 {
            assert!(!brings_something(&whole[..length], 8888), "{length}");
        }
    }
}
