//! Sees every TCP or UDP packet that arrives in `far`, whether or not anything listens there.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, recv, setsockopt, socket, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};

use super::world::within;

#[derive(Default)]
pub(crate) struct Watch {
    arrived: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl Watch {
    /// Watches until the program ends.
    pub(crate) fn start(&self, namespace: &str) {
        let packets = within(namespace, || {
            let raw = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll);
            raw.expect("a packet socket")
        });
        setsockopt(&packets, sockopt::ReceiveTimeout, &TimeVal::seconds(60)).expect("a timeout");
        let arrived = Arc::downgrade(&self.arrived);
        std::thread::spawn(move || {
            let mut frame = [0; 2048];
            while let Some(arrived) = arrived.upgrade() {
                let length = recv(packets.as_raw_fd(), &mut frame, nix::sys::socket::MsgFlags::empty()).unwrap_or(0);
                if let Some(destination) = destination(&frame[..length]) {
                    *arrived.lock().expect("counts").entry(destination).or_default() += 1;
                }
            }
        });
    }

    /// Packets that arrived for this address until now.
    pub(crate) fn packets(&self, address: &str) -> usize {
        // What was sent before is seen: the queue is emptied within this time.
        std::thread::sleep(Duration::from_millis(60));
        let address = address.parse().expect("an address");
        self.arrived.lock().expect("counts").get(&address).copied().unwrap_or(0)
    }

    /// Packets that arrived for all these addresses until now.
    pub(crate) fn packets_for_all(&self, addresses: &[&str]) -> usize {
        std::thread::sleep(Duration::from_millis(60));
        let counts = self.arrived.lock().expect("counts");
        addresses.iter().map(|text| counts.get(&text.parse().expect("an address")).copied().unwrap_or(0)).sum()
    }
}

/// The destination of a TCP or UDP packet in an Ethernet frame.
fn destination(frame: &[u8]) -> Option<IpAddr> {
    let packet = frame.get(14..)?;
    let carries = |protocol: u8| protocol == 6 || protocol == 17;
    match frame.get(12..14)? {
        [0x08, 0x00] if carries(*packet.get(9)?) => {
            let octets: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
            Some(Ipv4Addr::from(octets).into())
        }
        [0x86, 0xdd] if carries(*packet.get(6)?) => {
            let octets: [u8; 16] = packet.get(24..40)?.try_into().ok()?;
            Some(Ipv6Addr::from(octets).into())
        }
        _ => None,
    }
}
