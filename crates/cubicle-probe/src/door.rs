//! The probe behind a port: as the gate of a pod, and as the reference that has no walls.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

use cubicle_core::attempt::{Go, Observations, ProbePlan, Role};
use cubicle_core::door::{Demand, Hello, LINE, Reply, Signed, signed_bytes};
use ed25519_dalek::{Signature, VerifyingKey};

use crate::answer::{Answer, Context};
use crate::window::Window;
use crate::{init, not_dumpable, run};

/// How long a caller may take for its first valid demand. Others wait meanwhile.
const STRANGER: Duration = Duration::from_secs(2);
/// How long the controller may take between proof and go.
const JUDGING: Duration = Duration::from_secs(60);
/// The shortest and longest time that a reference gives to an address.
const REFERENCE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(10));
/// References that run at once. A proof asks two; their loads take turns.
const AT_ONCE: usize = 32;

/// The command line: what the pod's specification says, none of it secret.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Arguments {
    port: u16,
    key: [u8; 32],
    workspace: String,
    launch: String,
    /// What to dial from the first instruction on.
    pub(crate) window: Vec<SocketAddr>,
}

impl Arguments {
    pub(crate) fn parse(arguments: impl Iterator<Item = String>) -> io::Result<Self> {
        let (mut port, mut key, mut workspace, mut launch, mut window) = (None, None, None, None, Vec::new());
        for argument in arguments {
            let bad = || io::Error::other(format!("{argument:?} is not an argument of a door"));
            let (name, value) = argument.split_once('=').ok_or_else(bad)?;
            match name {
                "--port" => port = Some(value.parse().map_err(|_| bad())?),
                "--key" => key = Some(unhex::<32>(value).ok_or_else(bad)?),
                "--workspace" => workspace = Some(value.to_owned()),
                "--launch" => launch = Some(value.to_owned()),
                "--window" => {
                    window = value
                        .split(',')
                        .filter(|one| !one.is_empty())
                        .map(|one| one.parse().map_err(|_| bad()))
                        .collect::<io::Result<_>>()?;
                }
                _ => return Err(bad()),
            }
        }
        let missing = || io::Error::other("a door needs --port, --key, --workspace and --launch");
        Ok(Self {
            port: port.ok_or_else(missing)?,
            key: key.ok_or_else(missing)?,
            workspace: workspace.ok_or_else(missing)?,
            launch: launch.ok_or_else(missing)?,
            window,
        })
    }
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if text.len() != 2 * N || !text.is_ascii() {
        return None;
    }
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    Some(bytes)
}

/// Listens on every address of the pod.
fn listen(port: u16) -> io::Result<TcpListener> {
    match TcpListener::bind((IpAddr::V6(Ipv6Addr::UNSPECIFIED), port)) {
        Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => {
            TcpListener::bind((IpAddr::V4(Ipv4Addr::UNSPECIFIED), port))
        }
        other => other,
    }
}

/// Whatever the kubelet has put into the environment goes: the notebook gets the go's alone, and
/// the proof sees what the notebook will.
pub(crate) fn forget_environment() {
    let names: Vec<_> = std::env::vars_os().map(|(name, _)| name).collect();
    for name in names {
        // SAFETY: the process has one thread yet.
        unsafe { std::env::remove_var(name) };
    }
}

/// The gate of a pod: proves for whoever holds the controller's key, and starts the notebook
/// once. Nothing that a stranger sends ends it or starts anything.
pub(crate) fn gate(arguments: &Arguments, mut window: Window) -> io::Result<ExitCode> {
    not_dumpable()?;
    end_when_told();
    let listener = listen(arguments.port)?;
    loop {
        let Ok((stream, _)) = listener.accept() else { continue };
        match converse(arguments, stream, Role::Tenant, Some(&mut window)) {
            Ok(Some(go)) => {
                // The notebook listens on this very port.
                drop(listener);
                return init::start(&go, ());
            }
            Ok(None) => {}
            Err(error) => eprintln!("cubicle-probe: a caller was turned away: {error}"),
        }
    }
}

/// A reference: root without walls, which tries whatever the controller asks it to, so that a
/// tenant's failure can be told from nothing being there.
pub(crate) fn reference(arguments: &Arguments) -> io::Result<ExitCode> {
    end_when_told();
    let listener = listen(arguments.port)?;
    let mut children = 0;
    loop {
        while let Ok(Some(_)) = rustix::process::wait(rustix::process::WaitOptions::NOHANG) {
            children -= 1;
        }
        let Ok((stream, _)) = listener.accept() else { continue };
        if children >= AT_ONCE {
            continue;
        }
        // A process of its own for every caller: attempts fork, and may change what made them.
        // SAFETY: this process has one thread, so that the child may do everything.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            drop(listener);
            step_outside();
            let code = match converse(arguments, stream, Role::Control, None) {
                Ok(_) => 0,
                Err(error) => {
                    eprintln!("cubicle-probe: a caller was turned away: {error}");
                    1
                }
            };
            // SAFETY: leaves at once.
            unsafe { libc::_exit(code) }
        }
        children += usize::from(pid > 0);
    }
}

/// Into the machine's own namespaces, except for the network: a reference's pod still has some
/// of its own. What cannot be left shows as a control that fails.
fn step_outside() {
    use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
    for name in ["uts", "ipc", "cgroup"] {
        if let Ok(namespace) = std::fs::File::open(format!("/proc/1/ns/{name}")) {
            let kind = match name {
                "uts" => LinkNameSpaceType::HostNameAndNISDomainName,
                "ipc" => LinkNameSpaceType::InterProcessCommunication,
                _ => LinkNameSpaceType::ControlGroup,
            };
            use std::os::fd::AsFd;
            let _ = move_into_link_name_space(namespace.as_fd(), Some(kind));
        }
    }
}

/// Looks from the machine's own network namespace, where there is more than a pod's interface.
/// Only for a child that ends afterwards.
pub(crate) fn among_the_machines_interfaces(look: impl FnOnce() -> Answer) -> Answer {
    use std::os::fd::AsFd;
    let entered = std::fs::File::open("/proc/1/ns/net").and_then(|namespace| {
        let kind = Some(rustix::thread::LinkNameSpaceType::Network);
        Ok(rustix::thread::move_into_link_name_space(namespace.as_fd(), kind)?)
    });
    match entered {
        Ok(()) => look(),
        Err(error) => Answer::failed(format!("the machine's network namespace cannot be entered: {error}")),
    }
}

/// One caller, from challenge to end. The go, when there was one.
fn converse(
    arguments: &Arguments,
    stream: TcpStream,
    role: Role,
    mut window: Option<&mut Window>,
) -> io::Result<Option<Go>> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(STRANGER))?;
    stream.set_write_timeout(Some(STRANGER))?;
    let mut out = stream.try_clone()?;
    let hello =
        Hello { challenge: challenge()?, workspace: arguments.workspace.clone(), launch: arguments.launch.clone() };
    say(&mut out, &hello)?;
    let key = VerifyingKey::from_bytes(&arguments.key).map_err(io::Error::other)?;
    let mut lines = BufReader::new(stream);
    let mut proven: Option<String> = None;
    while let Some(line) = read_line(&mut lines)? {
        let demand = verified(&key, &hello, &line)?;
        lines.get_ref().set_read_timeout(Some(JUDGING))?;
        match demand {
            Demand::Probe(plan) => {
                let observations = prove(&plan, role, window.as_deref_mut());
                proven = Some(plan.nonce.clone());
                say(&mut out, &Reply::Observations(observations))?;
            }
            Demand::Go(go) if role == Role::Tenant && !go.nonce.is_empty() && proven.as_deref() == Some(&*go.nonce) => {
                say(&mut out, &Reply::Started)?;
                // Whoever hangs up first keeps the address for a while; let it be the caller.
                lines.get_ref().set_read_timeout(Some(Duration::from_millis(500)))?;
                let _ = read_line(&mut lines);
                return Ok(Some(go));
            }
            Demand::Go(_) => say(&mut out, &Reply::Refused("the go is for another proof".to_owned()))?,
        }
    }
    Ok(None)
}

fn prove(plan: &ProbePlan, role: Role, window: Option<&mut Window>) -> Observations {
    let mut context = Context::new(role, plan);
    if role == Role::Control {
        context.reference = true;
        // It dials addresses that nobody may own, and waits for each as long as this.
        context.dial_deadline = Duration::from_millis(plan.dial_deadline_ms).clamp(REFERENCE.0, REFERENCE.1);
    }
    let observations = run::run(&context, plan, window);
    Observations { nonce: plan.nonce.clone(), role, observations, disturbed: None }
}

/// The demand, when the controller signed it for this very connection.
fn verified(key: &VerifyingKey, hello: &Hello, line: &str) -> io::Result<Demand> {
    let signed: Signed = serde_json::from_str(line).map_err(io::Error::other)?;
    let signature = unhex::<64>(&signed.signature).ok_or_else(|| io::Error::other("there is no signature"))?;
    key.verify_strict(&signed_bytes(hello, &signed.body), &Signature::from_bytes(&signature))
        .map_err(|_| io::Error::other("the signature is not the controller's"))?;
    serde_json::from_str(&signed.body).map_err(io::Error::other)
}

fn challenge() -> io::Result<String> {
    let mut bytes = [0; 32];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn say(out: &mut TcpStream, message: &impl serde::Serialize) -> io::Result<()> {
    let mut text = serde_json::to_vec(message).map_err(io::Error::other)?;
    text.push(b'\n');
    out.write_all(&text)
}

fn read_line(lines: &mut BufReader<TcpStream>) -> io::Result<Option<String>> {
    let mut line = String::new();
    lines.by_ref().take(LINE).read_line(&mut line)?;
    match line.as_str() {
        "" => Ok(None),
        _ if line.ends_with('\n') => Ok(Some(line)),
        _ => Err(io::Error::other("a line is cut off or too long")),
    }
}

extern "C" fn end(_: libc::c_int) {
    // SAFETY: leaves at once; _exit may be called from a signal handler.
    unsafe { libc::_exit(0) }
}

/// The first process of a pid namespace ignores signals that it does not handle; a pod that is
/// deleted before its notebook started would take its whole grace period.
fn end_when_told() {
    for signal in [libc::SIGTERM, libc::SIGINT] {
        // SAFETY: sets a handler that only leaves.
        unsafe { libc::signal(signal, end as *const () as libc::sighandler_t) };
    }
    // SAFETY: a caller that hangs up is an error of one write.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_door_needs_all_its_arguments() {
        let parse = |arguments: &[&str]| Arguments::parse(arguments.iter().map(|one| (*one).to_owned()));
        let key = format!("--key={}", "07".repeat(32));
        let all = ["--port=8888", key.as_str(), "--workspace=w", "--launch=1", "--window=10.0.0.1:80,[::1]:80"];
        let parsed = parse(&all).expect("parses");
        assert_eq!((parsed.port, parsed.key, parsed.window.len()), (8888, [7; 32], 2));
        for left_out in 0..4 {
            let some: Vec<&str> =
                all.iter().enumerate().filter(|(at, _)| *at != left_out).map(|(_, one)| *one).collect();
            assert!(parse(&some).is_err(), "{some:?}");
        }
        assert!(parse(&["--port=8888", "--key=07", "--workspace=w", "--launch=1"]).is_err());
        assert!(parse(&["--port=8888", "--other=1"]).is_err());
        assert!(parse(&["--window=here"]).is_err());
    }
}
