//! Network interfaces by name (netdevice(7)).

use std::io;
use std::os::fd::AsRawFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

fn request(name: &str) -> io::Result<libc::ifreq> {
    if name.len() >= libc::IFNAMSIZ {
        return Err(io::Error::other("the name of an interface is too long"));
    }
    // SAFETY: an ifreq of zeros is valid: an empty name and no data.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    Ok(request)
}

fn flags(name: &str) -> io::Result<(libc::ifreq, std::os::fd::OwnedFd)> {
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    let mut request = request(name)?;
    // SAFETY: SIOCGIFFLAGS reads the name and writes the flags of the structure, which lives.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS, &raw mut request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((request, socket))
}

/// Whether an interface is up.
pub(crate) fn is_up(name: &str) -> io::Result<bool> {
    let (request, _) = flags(name)?;
    // SAFETY: SIOCGIFFLAGS has filled this member.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    Ok(i32::from(flags) & libc::IFF_UP != 0)
}

/// Brings an interface up.
pub(crate) fn bring_up(name: &str) -> io::Result<()> {
    let (mut request, socket) = flags(name)?;
    // SAFETY: the member was filled by SIOCGIFFLAGS; SIOCSIFFLAGS only reads the structure.
    let result = unsafe {
        request.ifr_ifru.ifru_flags |= i16::try_from(libc::IFF_UP).unwrap_or(1);
        libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw mut request)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
