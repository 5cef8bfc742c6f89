//! The machine's own addresses. They are asked for at each connection, because they change.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// Every address of every interface.
pub(crate) fn interface_addresses() -> io::Result<HashSet<IpAddr>> {
    let addresses: HashSet<IpAddr> = nix::ifaddrs::getifaddrs()?
        .filter_map(|interface| interface.address)
        .filter_map(|address| {
            let four = address.as_sockaddr_in().map(|four| IpAddr::V4(four.ip()));
            four.or_else(|| address.as_sockaddr_in6().map(|six| IpAddr::V6(six.ip())))
        })
        .collect();
    if addresses.is_empty() {
        // Even a machine without a network has loopback: an empty answer is a broken one.
        return Err(io::Error::other("the machine reports no address of its own"));
    }
    Ok(addresses)
}

/// Whether the kernel would deliver to the machine itself what is sent to this address. This
/// finds what no interface lists: `local` routes for whole networks. The kernel then takes the
/// destination as the source too. Connecting a UDP socket looks up the route and sends nothing.
pub(crate) fn delivered_locally(destination: SocketAddr) -> io::Result<bool> {
    let any: IpAddr = match destination {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(destination)?;
    Ok(socket.local_addr()?.ip() == destination.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_belongs_to_the_machine() {
        assert!(interface_addresses().expect("interfaces").contains(&IpAddr::from([127, 0, 0, 1])));
        // 127.0.0.0/8 is one `local` route: no interface lists 127.9.9.9.
        assert!(!interface_addresses().expect("interfaces").contains(&IpAddr::from([127, 9, 9, 9])));
        assert!(delivered_locally(SocketAddr::from(([127, 0, 0, 1], 80))).expect("a route"));
    }
}
