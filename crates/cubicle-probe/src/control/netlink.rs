//! The two rtnetlink messages that the scratch network namespace needs (rtnetlink(7)).

use std::io;
use std::net::IpAddr;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};

/// `linux/netlink.h`, `linux/rtnetlink.h`, `linux/if_addr.h`, `linux/if_link.h`.
const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const NLM_F_REQUEST: u16 = 0x01;
const NLM_F_ACK: u16 = 0x04;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;
const NLMSG_ERROR: u16 = 2;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_F_NODAD: u8 = 0x02;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
/// The loopback interface is the first of every network namespace.
const LOOPBACK: u32 = 1;

/// A route socket of the present network namespace.
pub(super) struct Route(rustix::fd::OwnedFd);

impl Route {
    pub(super) fn open() -> io::Result<Self> {
        Ok(Self(socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?))
    }

    /// Gives an address to the loopback interface. One that is there already is fine.
    pub(super) fn add_address(&self, address: IpAddr) -> io::Result<()> {
        let (family, bytes) = match address {
            IpAddr::V4(address) => (libc::AF_INET, address.octets().to_vec()),
            IpAddr::V6(address) => (libc::AF_INET6, address.octets().to_vec()),
        };
        let prefix = u8::try_from(bytes.len() * 8).map_err(io::Error::other)?;
        let family = u8::try_from(family).map_err(io::Error::other)?;
        let mut body = vec![family, prefix, IFA_F_NODAD, 0];
        body.extend(LOOPBACK.to_ne_bytes());
        attribute(&mut body, IFA_LOCAL, &bytes);
        attribute(&mut body, IFA_ADDRESS, &bytes);
        match self.request(RTM_NEWADDR, &body) {
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
            other => other,
        }
    }

    /// Makes an interface of a kind.
    pub(super) fn add_link(&self, name: &str, kind: &str) -> io::Result<()> {
        // struct ifinfomsg: family, padding, type, index, flags, change.
        let mut body = vec![0; 16];
        let mut info = Vec::new();
        attribute(&mut info, IFLA_INFO_KIND, kind.as_bytes());
        attribute(&mut body, IFLA_IFNAME, &[name.as_bytes(), b"\0"].concat());
        attribute(&mut body, IFLA_LINKINFO, &info);
        self.request(RTM_NEWLINK, &body)
    }

    fn request(&self, kind: u16, body: &[u8]) -> io::Result<()> {
        let length = u32::try_from(16 + body.len()).map_err(io::Error::other)?;
        let mut message = length.to_ne_bytes().to_vec();
        message.extend(kind.to_ne_bytes());
        message.extend((NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL).to_ne_bytes());
        message.extend([0; 8]);
        message.extend(body);
        send(&self.0, &message, SendFlags::empty())?;
        let mut answer = [0; 4096];
        let (length, _) = recv(&self.0, &mut answer, RecvFlags::empty())?;
        // struct nlmsghdr, then struct nlmsgerr, whose first member is 0 or -errno.
        let word = |at: usize| answer.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(i32::from_ne_bytes);
        let answered = answer.get(4..6).and_then(|bytes| bytes.try_into().ok()).map(u16::from_ne_bytes);
        match (answered, word(16)) {
            (Some(NLMSG_ERROR), Some(0)) if length >= 20 => Ok(()),
            (Some(NLMSG_ERROR), Some(error)) if length >= 20 => Err(io::Error::from_raw_os_error(-error)),
            _ => Err(io::Error::other("the kernel's answer is not understood")),
        }
    }
}

/// A struct rtattr, padded to four bytes.
fn attribute(to: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    to.extend(length.to_ne_bytes());
    to.extend(kind.to_ne_bytes());
    to.extend(value);
    to.resize(to.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded() {
        let mut bytes = Vec::new();
        attribute(&mut bytes, 1, b"dummy");
        assert_eq!(bytes.len(), 12);
        assert_eq!(bytes[..4], [9, 0, 1, 0]);
    }
}
