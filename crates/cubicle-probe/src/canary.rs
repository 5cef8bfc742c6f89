//! A canary: something that answers, in a place that a workspace must not reach.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::process::ExitCode;

use crate::control::listen;

/// Listens on TCP and echoes on UDP on every given port, until it is ended. `proxy:PORT` is a proxy
/// that refuses nothing: it says yes to every tunnel and opens none.
pub(crate) fn run(arguments: impl Iterator<Item = String>) -> io::Result<ExitCode> {
    let mut threads = Vec::new();
    for argument in arguments {
        let (number, careless) =
            argument.strip_prefix("proxy:").map_or((argument.as_str(), false), |port| (port, true));
        let port: u16 = number.parse().map_err(|_| io::Error::other(format!("{argument:?} is not a port")))?;
        let tcp = TcpListener::bind((IpAddr::V4(Ipv4Addr::UNSPECIFIED), port))?;
        if careless {
            threads.push(thread(move || tcp.incoming().flatten().for_each(|stream| agree(&stream)))?);
            continue;
        }
        threads.push(thread(move || tcp.incoming().for_each(drop))?);
        let udp = UdpSocket::bind((IpAddr::V4(Ipv4Addr::UNSPECIFIED), port))?;
        threads.push(thread(move || echo(&udp))?);
    }
    if threads.is_empty() {
        return Err(io::Error::other("usage: cubicle-probe canary [proxy:]PORT..."));
    }
    for thread in threads {
        // A listener that ends takes the canary with it, and the kubelet starts another one.
        if thread.join().is_err() {
            break;
        }
    }
    Ok(ExitCode::FAILURE)
}

fn thread(work: impl FnOnce() + Send + 'static) -> io::Result<std::thread::JoinHandle<()>> {
    std::thread::Builder::new().stack_size(64 << 10).spawn(work)
}

/// Says yes to one request. One after the other: a canary has little to spend, and its callers are few.
fn agree(mut stream: &TcpStream) {
    if listen::request(stream).is_none() {
        return;
    }
    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
}

fn echo(socket: &UdpSocket) {
    let mut buffer = [0; 512];
    loop {
        if let Ok((length, from)) = socket.recv_from(&mut buffer) {
            // A client that is gone has no use for its echo.
            let _ = socket.send_to(&buffer[..length], from);
        }
    }
}
