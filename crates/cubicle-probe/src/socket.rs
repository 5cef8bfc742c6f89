//! Making sockets of kinds that a notebook has no use for.

use std::os::fd::{FromRawFd, OwnedFd};

use cubicle_core::attempt::SocketKind;
use rustix::io::Errno;

use crate::answer::{Answer, Context, name};

/// Not in `libc`: `linux/if_alg.h` and neighbours, `include/linux/socket.h`.
const AF_KEY: i32 = 15;
const AF_RDS: i32 = 21;
const AF_CAN: i32 = 29;
const AF_TIPC: i32 = 30;
const AF_BLUETOOTH: i32 = 31;
const AF_ALG: i32 = 38;
const AF_VSOCK: i32 = 40;
const AF_QIPCRTR: i32 = 42;
const AF_XDP: i32 = 44;
const NETLINK_XFRM: i32 = 6;
const NETLINK_AUDIT: i32 = 9;
const NETLINK_NETFILTER: i32 = 12;
const PF_KEY_V2: i32 = 2;
const CAN_RAW: i32 = 1;

fn arguments(kind: SocketKind) -> (i32, i32, i32) {
    use libc::{AF_INET, AF_INET6, AF_NETLINK, AF_PACKET, SOCK_DGRAM, SOCK_RAW, SOCK_SEQPACKET, SOCK_STREAM};
    match kind {
        // Protocol 0 receives nothing.
        SocketKind::Packet => (AF_PACKET, SOCK_RAW, 0),
        SocketKind::RawIpv4 => (AF_INET, SOCK_RAW, libc::IPPROTO_ICMP),
        SocketKind::RawIpv6 => (AF_INET6, SOCK_RAW, libc::IPPROTO_ICMPV6),
        SocketKind::Alg => (AF_ALG, SOCK_SEQPACKET, 0),
        SocketKind::Vsock => (AF_VSOCK, SOCK_STREAM, 0),
        SocketKind::NetlinkNetfilter => (AF_NETLINK, SOCK_RAW, NETLINK_NETFILTER),
        SocketKind::NetlinkAudit => (AF_NETLINK, SOCK_RAW, NETLINK_AUDIT),
        SocketKind::NetlinkXfrm => (AF_NETLINK, SOCK_RAW, NETLINK_XFRM),
        SocketKind::Key => (AF_KEY, SOCK_RAW, PF_KEY_V2),
        SocketKind::Xdp => (AF_XDP, SOCK_RAW, 0),
        SocketKind::Tipc => (AF_TIPC, SOCK_SEQPACKET, 0),
        SocketKind::Rds => (AF_RDS, SOCK_SEQPACKET, 0),
        SocketKind::Can => (AF_CAN, SOCK_RAW, CAN_RAW),
        SocketKind::Bluetooth => (AF_BLUETOOTH, SOCK_RAW, 1),
        SocketKind::Qipcrtr => (AF_QIPCRTR, SOCK_DGRAM, 0),
        SocketKind::Sctp => (AF_INET, SOCK_STREAM, libc::IPPROTO_SCTP),
    }
}

pub(crate) fn make(context: &Context, kind: SocketKind) -> Answer {
    let (family, sort, protocol) = arguments(kind);
    // SAFETY: socket takes three integers.
    let descriptor = unsafe { libc::socket(family, sort | libc::SOCK_CLOEXEC, protocol) };
    if descriptor >= 0 {
        // SAFETY: the descriptor was just made and belongs to nobody else.
        drop(unsafe { OwnedFd::from_raw_fd(descriptor) });
        return Answer::succeeded("the kernel made the socket");
    }
    let errno = Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL);
    match errno {
        Errno::AFNOSUPPORT | Errno::PROTONOSUPPORT | Errno::SOCKTNOSUPPORT => context.not_there(name(errno)),
        Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOBUFS => Answer::failed(name(errno)),
        _ if context.unwalled => Answer::missing(format!("this machine refuses it even to root: {}", name(errno))),
        errno => Answer::denied(name(errno)),
    }
}
