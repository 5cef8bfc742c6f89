//! The door of a pod, from outside: whoever does not hold the controller's key, or holds only what
//! the controller once sent, gets nothing and starts nothing.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cubicle_core::attempt::{Go, Phase, ProbePlan};
use cubicle_core::door::{Demand, Hello, Reply, Signed, signed_bytes};
use ed25519_dalek::{Signer, SigningKey};

/// A gate as a pod starts it, without anything around it.
struct Gate {
    process: Child,
    address: SocketAddr,
    folder: tempfile::TempDir,
}

impl Drop for Gate {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// One caller.
struct Caller {
    stream: BufReader<TcpStream>,
    hello: Hello,
}

fn controller() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

impl Gate {
    fn start() -> Self {
        Self::start_with(controller().verifying_key().to_bytes())
    }

    fn start_with(key: [u8; 32]) -> Self {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = free.local_addr().expect("an address");
        drop(free);
        let key: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        let process = Command::new(env!("CARGO_BIN_EXE_cubicle-probe"))
            .arg("door")
            .arg(format!("--port={}", address.port()))
            .arg(format!("--key={key}"))
            .args(["--workspace=uid", "--launch=1", "--window="])
            .stderr(Stdio::null())
            .spawn()
            .expect("the gate starts");
        Self { process, address, folder: tempfile::tempdir().expect("a folder") }
    }

    fn dial(&self) -> Caller {
        let deadline = Instant::now() + Duration::from_secs(10);
        let stream = loop {
            match TcpStream::connect(self.address) {
                Ok(stream) => break stream,
                Err(error) if Instant::now() > deadline => panic!("the gate does not listen: {error}"),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a limit");
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        stream.read_line(&mut line).expect("a greeting");
        Caller { stream, hello: serde_json::from_str(&line).expect("a challenge") }
    }

    /// The file that the notebook of [`Gate::go`] makes.
    fn mark(&self) -> PathBuf {
        self.folder.path().join("started")
    }

    fn go(&self, nonce: &str) -> Demand {
        Demand::Go(Go {
            nonce: nonce.to_owned(),
            command: vec!["/bin/sh".to_owned(), "-c".to_owned(), format!("echo >{}", self.mark().display())],
            environment: Vec::new(),
            directory: "/".to_owned(),
        })
    }

    fn started(&self) -> bool {
        std::thread::sleep(Duration::from_millis(200));
        self.mark().exists()
    }
}

impl Caller {
    fn sign(&self, key: &SigningKey, demand: &Demand) -> String {
        let body = serde_json::to_string(demand).expect("json");
        let signature = key.sign(&signed_bytes(&self.hello, &body)).to_bytes();
        let signature = signature.iter().map(|byte| format!("{byte:02x}")).collect();
        serde_json::to_string(&Signed { body, signature }).expect("json") + "\n"
    }

    /// Sends a line; the answer, or nothing when the gate hangs up.
    fn send(&mut self, line: &str) -> Option<Reply> {
        self.stream.get_mut().write_all(line.as_bytes()).expect("sent");
        let mut answer = String::new();
        // A reset is a hang-up too.
        let read = self.stream.read_line(&mut answer).unwrap_or(0);
        (read > 0).then(|| serde_json::from_str(&answer).expect("an answer"))
    }

    fn ask(&mut self, key: &SigningKey, demand: &Demand) -> Option<Reply> {
        let line = self.sign(key, demand);
        self.send(&line)
    }
}

fn probe(nonce: &str) -> Demand {
    Demand::Probe(ProbePlan {
        nonce: nonce.to_owned(),
        phase: Phase::Gate,
        dial_deadline_ms: 100,
        attempts: Vec::new(),
    })
}

/// What makes all the others mean something: the controller gets its answer, and its go starts.
fn the_controller_is_served(gate: &Gate) {
    let mut caller = gate.dial();
    assert!(matches!(caller.ask(&controller(), &probe("n")), Some(Reply::Observations(_))));
    assert_eq!(caller.ask(&controller(), &gate.go("n")), Some(Reply::Started));
    drop(caller);
    assert!(gate.started(), "the controller's go starts the notebook");
}

#[test]
fn a_stranger_gets_nothing_and_starts_nothing() {
    let gate = Gate::start();
    let stranger = SigningKey::from_bytes(&[8; 32]);
    for demand in [probe("n"), gate.go("n")] {
        assert_eq!(gate.dial().ask(&stranger, &demand), None, "{demand:?}");
    }
    // With no signature, with the controller's over something else, and with nonsense.
    let mut caller = gate.dial();
    let unsigned = serde_json::json!({"body": serde_json::to_string(&probe("n")).expect("json"), "signature": ""});
    assert_eq!(caller.send(&format!("{unsigned}\n")), None);
    let mut caller = gate.dial();
    let other = caller.sign(&controller(), &probe("n")).replace("\\\"n\\\"", "\\\"m\\\"");
    assert_eq!(caller.send(&other), None);
    assert_eq!(gate.dial().send("nonsense\n"), None);
    assert!(!gate.started());
    the_controller_is_served(&gate);
}

#[test]
fn what_the_controller_said_before_is_worth_nothing_on_another_connection() {
    let gate = Gate::start();
    let mut caller = gate.dial();
    let line = caller.sign(&controller(), &probe("n"));
    assert!(matches!(caller.send(&line), Some(Reply::Observations(_))));
    let go = caller.sign(&controller(), &gate.go("n"));
    drop(caller);
    // Somebody who has seen both lines, on connections of their own.
    assert_eq!(gate.dial().send(&line), None, "the demand was replayed");
    assert_eq!(gate.dial().send(&go), None, "the go was replayed");
    assert!(!gate.started());
    the_controller_is_served(&gate);
}

#[test]
fn a_go_belongs_to_the_proof_on_the_same_connection() {
    let gate = Gate::start();
    let refused = |answer| matches!(answer, Some(Reply::Refused(_)));
    assert!(refused(gate.dial().ask(&controller(), &gate.go("n"))), "without a proof");
    assert!(refused(gate.dial().ask(&controller(), &gate.go(""))), "without a nonce");
    let mut caller = gate.dial();
    assert!(matches!(caller.ask(&controller(), &probe("n")), Some(Reply::Observations(_))));
    assert!(refused(caller.ask(&controller(), &gate.go("m"))), "for another proof");
    drop(caller);
    assert!(refused(gate.dial().ask(&controller(), &gate.go("n"))), "for the proof of another connection");
    assert!(!gate.started());
    the_controller_is_served(&gate);
}

#[test]
fn a_launch_does_not_take_the_demands_of_another() {
    let (one, two) = (Gate::start(), Gate::start());
    let (mut here, mut there) = (one.dial(), two.dial());
    // Even if both had given the same challenge: the other workspace's bytes are others.
    let mine = here.hello.clone();
    there.hello = Hello { workspace: "another uid".to_owned(), ..mine };
    let line = there.sign(&controller(), &probe("n"));
    assert_eq!(here.send(&line), None);
    the_controller_is_served(&two);
}

/// With a key of small order anybody can sign anything, in the equation that RFC 8032 asks for at least.
#[test]
fn a_key_that_proves_nothing_opens_nothing() {
    let mut identity = [0; 32];
    identity[0] = 1;
    let gate = Gate::start_with(identity);
    // R is the same point and s is zero: s * B = R + k * A for every k.
    let signature = format!("01{}", "00".repeat(63));
    for demand in [probe("n"), gate.go("n")] {
        let body = serde_json::to_string(&demand).expect("json");
        let line = serde_json::to_string(&Signed { body, signature: signature.clone() }).expect("json") + "\n";
        assert_eq!(gate.dial().send(&line), None, "{demand:?}");
    }
    assert!(!gate.started());
}
