//! A guarantee together with how it is tried, and the few ways of writing attempts.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::attempt::{Action, Call, Fact, Phase, SocketKind};
use crate::guarantee::Guarantee;
use crate::level::EngineKind;
use crate::plan::Situation;

/// Attempts with their labels.
pub(super) type Attempts = Vec<(String, Action)>;

/// One entry of the catalogue.
pub(super) struct Entry {
    /// What it says.
    pub(super) guarantee: Guarantee,
    /// How it is tried on the local engine; none when nothing can be tried from inside.
    pub(super) attempts: Option<fn(&Situation, Phase) -> Attempts>,
}

/// Both engines.
pub(super) const BOTH: &[EngineKind] = &[EngineKind::Local, EngineKind::Kubernetes];
/// Only the local engine.
pub(super) const LOCAL: &[EngineKind] = &[EngineKind::Local];
/// Only Kubernetes.
pub(super) const KUBERNETES: &[EngineKind] = &[EngineKind::Kubernetes];

/// The control of everything that is dialled.
pub(super) const DIAL_CONTROL: &str = "The same probe as root in a network namespace that owns the very address and listens there connects, before and after.";
/// The control of system calls.
pub(super) const CALL_CONTROL: &str = "The same call by root without a filter, in the initial user namespace, reaches the kernel: it complains about the arguments instead of refusing the call.";
/// The control of facts that a process reads about itself.
pub(super) const FACT_CONTROL: &str = "The same reader, run as root outside every wall, finds the bad condition there.";
/// The control of facts about files.
pub(super) const STAGED_CONTROL: &str =
    "The same reader finds it in a root file system that was made for it with the bad condition inside.";

pub(super) fn calls(calls: &[(&str, Call)]) -> Attempts {
    calls.iter().map(|(label, call)| ((*label).to_owned(), Action::Call { call: *call })).collect()
}

pub(super) fn sockets(kinds: &[(&str, SocketKind)]) -> Attempts {
    kinds.iter().map(|(label, kind)| ((*label).to_owned(), Action::Socket { kind: *kind })).collect()
}

pub(super) fn fact(label: &str, fact: Fact) -> (String, Action) {
    (label.to_owned(), Action::Fact { fact })
}

pub(super) fn reads(paths: &[&str], staged: bool) -> Attempts {
    paths.iter().map(|path| ((*path).to_owned(), Action::Read { path: (*path).to_owned(), staged })).collect()
}

pub(super) fn writes(paths: &[&str]) -> Attempts {
    paths.iter().map(|path| ((*path).to_owned(), Action::Write { path: (*path).to_owned() })).collect()
}

pub(super) fn tcp(address: IpAddr, port: u16) -> (String, Action) {
    let address = SocketAddr::new(address, port);
    (format!("tcp {address}"), Action::TcpConnect { address, refusal_reaches: !address.ip().is_loopback() })
}

pub(super) fn udp(address: IpAddr, port: u16) -> (String, Action) {
    let address = SocketAddr::new(address, port);
    (format!("udp {address}"), Action::UdpExchange { address })
}

pub(super) const fn v4(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}

/// Where the egress proxy listens inside a workspace.
pub(super) const PROXY: SocketAddr = SocketAddr::new(v4(127, 0, 0, 1), 3128);

/// The machine's addresses as seen from a workspace. Link-local ones need a scope that only an
/// interface of the same link could give, and a workspace has none.
pub(super) fn machine_addresses(situation: &Situation) -> impl Iterator<Item = IpAddr> + '_ {
    situation.machine_addresses.iter().copied().filter(|address| match address {
        IpAddr::V4(address) => !address.is_loopback() && !address.is_unspecified(),
        IpAddr::V6(address) => !address.is_loopback() && !address.is_unspecified() && !address.is_unicast_link_local(),
    })
}
