//! Guarantees about kinds of sockets that reach past the network walls or into rarely used
//! kernel code.

use super::entry::{Attempts, BOTH, Entry, sockets};
use crate::attempt::{Phase, SocketKind};
use crate::guarantee::{Guarantee, Layer, Place};
use crate::plan::Situation;

macro_rules! socket_guarantee {
    ($id:literal, $alias:literal, $sentence:literal, $references:expr, $kinds:expr) => {
        Entry {
            guarantee: Guarantee {
                id: $id,
                alias: $alias,
                layer: Layer::Workload,
                place: Place::Container,
                engines: BOTH,
                sentence: $sentence,
                mechanism: "Our system-call filter allows only Unix, IPv4, IPv6 and the route family of sockets.",
                static_rule: "The content of the seccomp profile: RuntimeDefault allows AF_VSOCK in many runtimes.",
                live_probe: "Makes such a socket.",
                positive_control: "Root without a filter makes the same socket; where the kernel lacks the family, nothing stands there.",
                references: $references,
            },
            attempts: Some({
                fn attempts(_: &Situation, _: Phase) -> Attempts {
                    sockets($kinds)
                }
                attempts
            }),
        }
    };
}

pub(super) const ENTRIES: &[Entry] = &[
    socket_guarantee!(
        "sockets.crypto",
        "CT-16",
        "A workspace cannot use the kernel's crypto sockets.",
        &["https://docs.kernel.org/crypto/userspace-if.html", "CVE-2019-8912"],
        &[("AF_ALG", SocketKind::Alg)]
    ),
    socket_guarantee!(
        "sockets.hypervisor",
        "CT-16B",
        "A workspace cannot talk to the hypervisor or its other machines.",
        &["man 7 vsock", "CVE-2021-26708"],
        &[("AF_VSOCK", SocketKind::Vsock)]
    ),
    socket_guarantee!(
        "sockets.packet-filter",
        "CT-16C",
        "A workspace cannot talk to the kernel's packet filter, audit or IPsec interfaces.",
        &["man 7 netlink", "CVE-2023-32233 (nf_tables)"],
        &[
            ("NETLINK_NETFILTER", SocketKind::NetlinkNetfilter),
            ("NETLINK_AUDIT", SocketKind::NetlinkAudit),
            ("NETLINK_XFRM", SocketKind::NetlinkXfrm),
        ]
    ),
    socket_guarantee!(
        "sockets.keys",
        "CT-16D",
        "A workspace cannot use key management sockets.",
        &["RFC 2367"],
        &[("AF_KEY", SocketKind::Key)]
    ),
    socket_guarantee!(
        "sockets.express-data-path",
        "CT-16E",
        "A workspace cannot use express data path sockets.",
        &["https://docs.kernel.org/networking/af_xdp.html"],
        &[("AF_XDP", SocketKind::Xdp)]
    ),
    socket_guarantee!(
        "sockets.rare-families",
        "CT-16F",
        "A workspace cannot reach rarely used network code of the kernel.",
        &["man 2 socket", "CVE-2021-43267 (TIPC)", "CVE-2010-3904 (RDS)"],
        &[
            ("AF_TIPC", SocketKind::Tipc),
            ("AF_RDS", SocketKind::Rds),
            ("AF_CAN", SocketKind::Can),
            ("AF_BLUETOOTH", SocketKind::Bluetooth),
            ("AF_QIPCRTR", SocketKind::Qipcrtr),
        ]
    ),
];
