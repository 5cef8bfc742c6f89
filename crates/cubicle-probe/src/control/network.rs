//! The scratch network namespace: its loopback interface owns every address that the plan
//! dials, and something listens on every port. Nothing can leave it.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6, TcpStream};
use std::time::{Duration, Instant};

use cubicle_core::attempt::{Action, Fact, ProbePlan};
use rustix::thread::UnshareFlags;

use super::interface;
use super::listen::{self, Listeners};
use super::netlink::Route;

/// Kinds of interfaces of which one will do as a second one.
const SECOND: [&str; 4] = ["dummy", "bridge", "ifb", "veth"];

/// The scratch network; its listeners end with it.
pub(crate) struct Scratch {
    _listeners: Listeners,
}

/// What the plan dials.
#[derive(Default)]
struct Dialled {
    addresses: BTreeSet<IpAddr>,
    tcp: BTreeSet<u16>,
    udp: BTreeSet<SocketAddr>,
    proxies: BTreeSet<SocketAddr>,
}

impl Dialled {
    fn of(plan: &ProbePlan) -> Self {
        let mut all = Self::default();
        for attempt in &plan.attempts {
            match &attempt.action {
                Action::TcpConnect { address, .. } | Action::TcpWindow { address, .. } => {
                    all.addresses.insert(address.ip());
                    all.tcp.insert(address.port());
                }
                Action::UdpExchange { address } => {
                    all.addresses.insert(address.ip());
                    all.udp.insert(*address);
                }
                Action::ProxyConnect { proxy, target, .. } => {
                    all.proxies.insert(*proxy);
                    if let Some(address) = listen::resolve(target) {
                        all.addresses.insert(address.ip());
                        all.tcp.insert(address.port());
                    }
                }
                _ => {}
            }
        }
        // The proxy's own port is served by the proxy.
        for proxy in &all.proxies {
            all.tcp.remove(&proxy.port());
        }
        all
    }
}

/// Whether a plan asks for anything but files and what a process is: only that needs no network.
pub(crate) fn is_needed(plan: &ProbePlan) -> bool {
    !plan.attempts.iter().all(|attempt| match &attempt.action {
        Action::Read { .. } | Action::Write { .. } | Action::Create { .. } => true,
        Action::Fact { fact } => !matches!(fact, Fact::Interfaces { .. } | Fact::AbstractSockets),
        _ => false,
    })
}

impl Scratch {
    /// Moves this process into a new network namespace and fills it. Must be called while the
    /// process has one thread.
    pub(crate) fn build(plan: &ProbePlan) -> io::Result<Self> {
        // SAFETY: only this thread exists, and no descriptor table or address space is unshared.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }?;
        interface::bring_up("lo")?;
        let dialled = Dialled::of(plan);
        let route = Route::open()?;
        for address in dialled.addresses.iter().filter(|address| needs_owner(**address)) {
            match route.add_address(*address) {
                // A machine without IPv6: the dial itself then says so.
                Err(error) if address.is_ipv6() && error.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
                other => other.map_err(|error| io::Error::other(format!("{address} cannot be owned: {error}")))?,
            }
        }
        await_addresses(&dialled.addresses)?;
        let looks_at_interfaces =
            plan.attempts.iter().any(|one| matches!(one.action, Action::Fact { fact: Fact::Interfaces { .. } }));
        if looks_at_interfaces {
            SECOND
                .iter()
                .any(|kind| route.add_link("second", kind).and_then(|()| interface::bring_up("second")).is_ok());
        }
        let listeners = Listeners::open(&dialled.tcp, &dialled.udp, &dialled.proxies)?;
        Ok(Self { _listeners: listeners })
    }
}

/// The kernel makes IPv6 addresses usable in the background, also those without duplicate
/// detection. Waits until each one answers: a refusal by a port on which nobody listens will do.
fn await_addresses(addresses: &BTreeSet<IpAddr>) -> io::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(2);
    for address in addresses.iter().filter(|address| needs_owner(**address)) {
        let IpAddr::V6(address) = address else { continue };
        let scope = u32::from(address.is_unicast_link_local());
        let target = SocketAddrV6::new(*address, UNUSED_PORT, 0, scope).into();
        loop {
            match TcpStream::connect_timeout(&target, Duration::from_millis(20)) {
                Ok(_) => break,
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => break,
                Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => return Ok(()),
                Err(error) if Instant::now() >= deadline => {
                    return Err(io::Error::other(format!("{address} does not become usable: {error}")));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(1)),
            }
        }
    }
    Ok(())
}

/// A port on which nothing of ours listens (tcpmux).
const UNUSED_PORT: u16 = 1;

/// Loopback has its addresses anyway, the unspecified ones mean loopback, and mapped ones are
/// IPv4 addresses.
fn needs_owner(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !address.is_loopback() && !address.is_unspecified(),
        IpAddr::V6(address) => {
            !address.is_loopback() && !address.is_unspecified() && address.to_ipv4_mapped().is_none()
        }
    }
}
