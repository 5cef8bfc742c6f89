//! Listeners of the scratch network: TCP, UDP echo, and a proxy that refuses nothing.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};

/// Connections that wait; nobody accepts them, the kernel alone completes them.
const BACKLOG: i32 = 1024;
const PATIENCE: Duration = Duration::from_secs(5);

/// Open listeners.
pub(super) struct Listeners {
    _tcp: Vec<TcpListener>,
}

impl Listeners {
    /// Opens them all. Threads serve those that must answer, until the process ends.
    pub(super) fn open(
        tcp: &BTreeSet<u16>,
        udp: &BTreeSet<SocketAddr>,
        proxies: &BTreeSet<SocketAddr>,
    ) -> io::Result<Self> {
        let mut listeners = Vec::new();
        for port in tcp {
            listeners.push(everywhere(IpAddr::V4(Ipv4Addr::UNSPECIFIED), *port)?);
            match everywhere(IpAddr::V6(Ipv6Addr::UNSPECIFIED), *port) {
                Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => {}
                other => listeners.push(other?),
            }
        }
        for address in udp {
            match UdpSocket::bind(address) {
                Ok(socket) => serve(move || echo(&socket))?,
                // Without IPv6 the dial itself says what is missing.
                Err(_) if address.is_ipv6() => {}
                Err(error) => return Err(io::Error::other(format!("udp {address}: {error}"))),
            }
        }
        for address in proxies {
            let listener = TcpListener::bind(address)?;
            serve(move || listener.incoming().flatten().for_each(|stream| tunnel(&stream)))?;
        }
        Ok(Self { _tcp: listeners })
    }
}

fn serve(work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new().stack_size(64 << 10).spawn(work).map(drop)
}

fn everywhere(address: IpAddr, port: u16) -> io::Result<TcpListener> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    bind(&socket, &SocketAddr::new(address, port))?;
    listen(&socket, BACKLOG)?;
    Ok(TcpListener::from(socket))
}

fn echo(socket: &UdpSocket) {
    let mut buffer = [0; 512];
    while let Ok((length, from)) = socket.recv_from(&mut buffer) {
        // A client that is gone has no use for its echo.
        let _ = socket.send_to(&buffer[..length], from);
    }
}

/// The head of a request; none when its sender goes first or takes too long.
pub(crate) fn request(mut stream: &TcpStream) -> Option<Vec<u8>> {
    let _ = stream.set_read_timeout(Some(PATIENCE));
    let _ = stream.set_write_timeout(Some(PATIENCE));
    let mut head = Vec::new();
    let mut buffer = [0; 1024];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") && head.len() < 4096 {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return None,
            Ok(length) => head.extend_from_slice(&buffer[..length]),
        }
    }
    Some(head)
}

/// Opens whatever tunnel is asked for; the answer is 200 only when the far end connected.
fn tunnel(mut stream: &TcpStream) {
    let Some(head) = request(stream) else { return };
    let text = String::from_utf8_lossy(&head);
    let target = text.split(' ').nth(1).unwrap_or_default();
    let connected = resolve(target).is_some_and(|address| TcpStream::connect_timeout(&address, PATIENCE).is_ok());
    let answer: &[u8] = if connected { b"HTTP/1.1 200 OK\r\n\r\n" } else { b"HTTP/1.1 502 Bad Gateway\r\n\r\n" };
    let _ = stream.write_all(answer);
}

/// What a careless proxy makes of a `CONNECT` target: addresses in every spelling that
/// inet_aton(3) takes, and any name means this machine.
pub(super) fn resolve(target: &str) -> Option<SocketAddr> {
    let (host, port) = target.rsplit_once(':')?;
    let port = port.parse().ok()?;
    if let Some(inner) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        let address: Ipv6Addr = inner.parse().ok()?;
        let scope = u32::from(address.is_unicast_link_local());
        return Some(SocketAddrV6::new(address, port, 0, scope).into());
    }
    let address = address_of(host).unwrap_or(Ipv4Addr::LOCALHOST);
    Some(SocketAddr::new(IpAddr::V4(address), port))
}

/// One to four numbers, decimal, octal or hexadecimal; the last one fills what is left.
fn address_of(host: &str) -> Option<Ipv4Addr> {
    let numbers = host.split('.').map(number).collect::<Option<Vec<u32>>>()?;
    let (last, first) = numbers.split_last()?;
    let mut address = 0_u32;
    for (index, part) in first.iter().enumerate() {
        address |= u32::from(u8::try_from(*part).ok()?) << (24 - 8 * u32::try_from(index).ok()?);
    }
    let room = 8 * (4_u32.checked_sub(u32::try_from(first.len()).ok()?)?);
    (room == 32 || *last < 1 << room).then(|| Ipv4Addr::from(address | last))
}

fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None if text.len() > 1 && text.starts_with('0') => u32::from_str_radix(&text[1..], 8).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_is_understood() {
        for (target, address) in [
            ("127.0.0.1:80", "127.0.0.1:80"),
            ("127.1:80", "127.0.0.1:80"),
            ("2130706433:80", "127.0.0.1:80"),
            ("0x7f000001:80", "127.0.0.1:80"),
            ("0177.0.0.1:80", "127.0.0.1:80"),
            ("2852039166:80", "169.254.169.254:80"),
            ("0251.0376.0251.0376:80", "169.254.169.254:80"),
            ("localhost:8000", "127.0.0.1:8000"),
            ("[::ffff:127.0.0.1]:80", "[::ffff:127.0.0.1]:80"),
            ("[fe80::1]:443", "[fe80::1%1]:443"),
        ] {
            assert_eq!(resolve(target), address.parse().ok(), "{target}");
        }
        assert_eq!(resolve("no port"), None);
    }
}
