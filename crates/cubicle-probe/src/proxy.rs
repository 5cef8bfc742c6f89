//! Asking a proxy for tunnels.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::answer::{Answer, name};
use crate::dial::Dialled;

/// How long the proxy may take to refuse; it resolves names first.
const PATIENCE: Duration = Duration::from_secs(3);
/// At once.
const WORKERS: usize = 4;

/// Asks for every tunnel; the answers are in the same order.
pub(crate) fn all(targets: &[(SocketAddr, String)]) -> Vec<Dialled> {
    let mut answers: Vec<Option<Dialled>> = targets.iter().map(|_| None).collect();
    let each = targets.len().div_ceil(WORKERS).max(1);
    std::thread::scope(|scope| {
        for (targets, answers) in targets.chunks(each).zip(answers.chunks_mut(each)) {
            let work = move || {
                for ((proxy, target), answer) in targets.iter().zip(answers) {
                    let began = Instant::now();
                    *answer = Some(Dialled { answer: ask(*proxy, target), duration: began.elapsed(), silent: false });
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

fn ask(proxy: SocketAddr, target: &str) -> Answer {
    match converse(proxy, target) {
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
    let code = status.split(' ').nth(1).unwrap_or_default();
    let shown = format!("the proxy answered {:?}", status.chars().take(60).collect::<String>());
    match code {
        "400" | "403" => Answer::denied(shown),
        "429" | "503" | "" => Answer::failed(shown),
        _ => Answer::succeeded(shown),
    }
}

fn converse(proxy: SocketAddr, target: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&proxy, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n").as_bytes())?;
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
            ("", Outcome::Failed),
            ("garbage", Outcome::Failed),
        ] {
            assert_eq!(judge(status).outcome, outcome, "{status}");
        }
    }
}
