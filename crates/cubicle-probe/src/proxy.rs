//! Asking a proxy for tunnels.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cubicle_core::attempt::ProxyCredential;
use rustix::io::Errno;

use crate::answer::{Answer, name};
use crate::dial::Dialled;

/// How long the proxy may take to refuse; it resolves names first.
const PATIENCE: Duration = Duration::from_secs(3);
/// At once.
const WORKERS: usize = 4;

/// How long a shared proxy may take to hear of a new workspace.
const UNKNOWN: Duration = Duration::from_secs(5);
/// Between two questions to one that has not heard of it yet.
const AGAIN: Duration = Duration::from_millis(50);

/// What to ask, and of whom.
pub(crate) struct Tunnel<'a> {
    pub(crate) proxy: SocketAddr,
    pub(crate) target: &'a str,
    /// What a shared proxy is shown.
    pub(crate) credential: Option<&'a ProxyCredential>,
}

/// Asks for every tunnel; the answers are in the same order.
pub(crate) fn all(targets: &[Tunnel<'_>]) -> Vec<Dialled> {
    let mut answers: Vec<Option<Dialled>> = targets.iter().map(|_| None).collect();
    let each = targets.len().div_ceil(WORKERS).max(1);
    std::thread::scope(|scope| {
        for (targets, answers) in targets.chunks(each).zip(answers.chunks_mut(each)) {
            let work = move || {
                for (tunnel, answer) in targets.iter().zip(answers) {
                    let began = Instant::now();
                    *answer = Some(Dialled { answer: ask(tunnel), duration: began.elapsed(), silent: false });
                }
            };
            // Without a thread the answers stay out, and what is missing is unproven.
            let _ = std::thread::Builder::new().stack_size(64 << 10).spawn_scoped(scope, work);
        }
    });
    answers
        .into_iter()
        .map(|answer| {
            answer.unwrap_or(Dialled {
                answer: Answer::failed("no thread to ask with"),
                duration: Duration::ZERO,
                silent: false,
            })
        })
        .collect()
}

fn ask(tunnel: &Tunnel<'_>) -> Answer {
    let deadline = Instant::now() + UNKNOWN;
    let mut said = converse(tunnel);
    while said.as_ref().is_ok_and(|status| code(status) == "407") && Instant::now() < deadline {
        std::thread::sleep(AGAIN);
        said = converse(tunnel);
    }
    match said {
        Ok(status) => judge(&status),
        Err(error) => match Errno::from_io_error(&error) {
            Some(Errno::CONNREFUSED) => Answer::failed("no proxy listens"),
            Some(errno) => Answer::failed(name(errno)),
            None => Answer::failed(error.to_string()),
        },
    }
}

/// Only a clear refusal is one. Anything else, also a failure to reach the target, shows that
/// the proxy tried.
fn judge(status: &str) -> Answer {
    let shown = format!("the proxy answered {:?}", status.chars().take(60).collect::<String>());
    match code(status) {
        "400" | "403" => Answer::denied(shown),
        // A proxy that does not know who asks says nothing about what it would refuse.
        "407" | "429" | "503" | "" => Answer::failed(shown),
        _ => Answer::succeeded(shown),
    }
}

fn code(status: &str) -> &str {
    status.split(' ').nth(1).unwrap_or_default()
}

fn converse(tunnel: &Tunnel<'_>) -> std::io::Result<String> {
    let target = tunnel.target;
    let mut stream = TcpStream::connect_timeout(&tunnel.proxy, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let shown = tunnel.credential.map_or_else(String::new, |credential| {
        let encoded = STANDARD.encode(format!("{}:{}", credential.user, credential.password));
        format!("Proxy-Authorization: Basic {encoded}\r\n")
    });
    stream.write_all(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{shown}\r\n").as_bytes())?;
    let mut head = Vec::new();
    let mut buffer = [0; 256];
    while !head.contains(&b'\n') && head.len() < 4096 {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => head.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(String::from_utf8_lossy(&head).lines().next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use cubicle_core::attempt::Outcome;

    use super::*;

    #[test]
    fn only_a_clear_refusal_is_one() {
        for (status, outcome) in [
            ("HTTP/1.1 200 OK", Outcome::Succeeded),
            ("HTTP/1.1 403 Forbidden", Outcome::Denied),
            ("HTTP/1.1 400 Bad Request", Outcome::Denied),
            ("HTTP/1.1 502 Bad Gateway", Outcome::Succeeded),
            ("HTTP/1.1 504 Gateway Timeout", Outcome::Succeeded),
            ("HTTP/1.1 503 Busy", Outcome::Failed),
            ("HTTP/1.1 407 Proxy Authentication Required", Outcome::Failed),
            ("", Outcome::Failed),
            ("garbage", Outcome::Failed),
        ] {
            assert_eq!(judge(status).outcome, outcome, "{status}");
        }
    }
}
