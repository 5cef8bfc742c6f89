//! A world of three network namespaces without any way out:
//! `work`, the workspace with loopback only; `host`, where the proxy dials from; and `far`,
//! behind a veth pair, which owns the very addresses that play the internet, the metadata
//! service and the neighbours.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use super::dns::Names;
use super::watch::Watch;

/// Hosts of the internet, as `far` plays them.
pub(crate) const PUBLIC: [&str; 4] = ["8.8.8.8", "93.184.216.34", "2606:2800:220:1::1", "9.9.9.9"];

/// Hosts that no workspace may reach; `far` owns and serves them just as well.
pub(crate) const REFUSED: [&str; 20] = [
    "10.1.2.3",
    "100.64.0.1",
    "100.100.100.200",
    "168.63.129.16",
    "169.254.169.254",
    "169.254.170.2",
    "172.16.0.1",
    "172.31.255.1",
    "192.0.0.192",
    "192.0.2.7",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "64:ff9b::808:808",
    "2002:808:808::1",
    "2001:db8::1",
    "fd00:ec2::254",
    "fc00::1",
];

/// The ports that `far` serves on each of its addresses.
pub(crate) const PORTS: [u16; 3] = [80, 443, 8443];

const NAME_SERVER: &str = "10.99.0.2";

/// Whether this binary tries a proxy that many workspaces share: the same tests are built twice.
pub(crate) const SHARED: bool = matches!(env!("CARGO_CRATE_NAME").as_bytes(), b"shared");

/// The credential that the workspace has there.
const USER: &str = "w-0123456789ab";
const PASSWORD: &str = "a secret";

static WORLDS: AtomicU32 = AtomicU32::new(0);

pub(crate) struct World {
    pub(crate) work: String,
    pub(crate) host: String,
    pub(crate) far: String,
    pub(crate) names: Names,
    pub(crate) watch: Watch,
    proxies: Vec<Child>,
}

/// One running proxy.
pub(crate) struct Proxy {
    log: PathBuf,
    address: SocketAddr,
    work: String,
    _directory: tempfile::TempDir,
}

impl World {
    pub(crate) fn new() -> Self {
        assert!(nix::unistd::geteuid().is_root(), "these tests make network namespaces: run them as root");
        sweep();
        let id = format!("cubicle-egress-{}-{}", std::process::id(), WORLDS.fetch_add(1, Ordering::Relaxed));
        let [work, host, far] = ["work", "host", "far"].map(|role| format!("{id}-{role}"));
        // Owned first, filled after: a failure on the way leaves nothing behind.
        let world = Self { work, host, far, names: Names::default(), watch: Watch::default(), proxies: Vec::new() };
        for namespace in [&world.work, &world.host, &world.far] {
            ip(&["netns", "add", namespace]);
            ip(&["-n", namespace, "link", "set", "lo", "up"]);
        }
        let (host, far) = (world.host.as_str(), world.far.as_str());
        ip(&["link", "add", "v0", "netns", host, "type", "veth", "peer", "name", "v0", "netns", far]);
        ip(&["-n", host, "address", "add", "10.99.0.1/24", "dev", "v0"]);
        ip(&["-n", host, "address", "add", "2606:99::1/64", "dev", "v0", "nodad"]);
        ip(&["-n", far, "address", "add", "10.99.0.2/24", "dev", "v0"]);
        ip(&["-n", far, "address", "add", "2606:99::2/64", "dev", "v0", "nodad"]);
        for side in [host, far] {
            ip(&["-n", side, "link", "set", "v0", "up"]);
        }
        for address in PUBLIC.iter().chain(&REFUSED) {
            let six = address.contains(':');
            let owned = format!("{address}/{}", if six { 128 } else { 32 });
            let mut add = vec!["-n", far, "address", "add", &owned, "dev", "v0"];
            add.extend(six.then_some("nodad"));
            ip(&add);
            ip(&["-n", host, "route", "add", &owned, "dev", "v0"]);
        }
        for namespace in [&world.work, &world.host, &world.far] {
            assert_no_way_out(namespace);
        }
        let directory = PathBuf::from("/etc/netns").join(host);
        std::fs::create_dir_all(&directory).expect("the namespace's own resolv.conf");
        let resolver = format!("nameserver {NAME_SERVER}\nsearch example\noptions timeout:1 attempts:2\n");
        std::fs::write(directory.join("resolv.conf"), resolver).expect("resolv.conf");
        world.names.serve(within(far, || std::net::UdpSocket::bind((NAME_SERVER, 53)).expect("name server")));
        world.watch.start(far);
        for port in PORTS {
            serve_far(listen(far, &format!("[::]:{port}")));
        }
        world
    }

    /// Starts a proxy in `host` that listens in `work`.
    pub(crate) fn proxy(&mut self, config: &str) -> Proxy {
        let listener = listen(&self.work, "127.0.0.1:0");
        let address = listener.local_addr().expect("its address");
        let directory = tempfile::tempdir().expect("a directory");
        let log = directory.path().join("egress.log");
        let this = std::env::current_exe().expect("this program");
        let socket = directory.path().join("tables");
        let child = Command::new("ip")
            .args(["netns", "exec", &self.host])
            .arg(this)
            .args(["--exact", "contract::proxy_process", "--ignored", "--nocapture"])
            .env("CUBICLE_EGRESS_TEST_CONFIG", config)
            .env("CUBICLE_EGRESS_TEST_TABLES", &socket)
            .stdin(Stdio::from(OwnedFd::from(listener)))
            .stdout(Stdio::null())
            .stderr(File::create(&log).expect("the log"))
            .spawn()
            .expect("the proxy");
        self.proxies.push(child);
        let proxy = Proxy { log, address, work: self.work.clone(), _directory: directory };
        if SHARED {
            let caller = serde_json::json!({
                "workspace": USER,
                "addresses": ["127.0.0.1"],
                "digest": sha256(PASSWORD),
                "config": serde_json::from_str::<serde_json::Value>(config).expect("a configuration"),
            });
            proxy.know(&socket, &[caller]);
        }
        proxy
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for proxy in &mut self.proxies {
            let _ = proxy.kill();
            let _ = proxy.wait();
        }
        self.names.stop();
        for namespace in [&self.work, &self.host, &self.far] {
            delete(namespace);
        }
    }
}

/// Removes what a killed run left: the names carry the pid of their maker.
fn sweep() {
    let Ok(namespaces) = std::fs::read_dir("/run/netns") else { return };
    for name in namespaces.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
        let maker = name.strip_prefix("cubicle-egress-").and_then(|rest| rest.split('-').next());
        if maker.is_some_and(|pid| !PathBuf::from("/proc").join(pid).exists()) {
            delete(&name);
        }
    }
}

fn delete(namespace: &str) {
    let _ = Command::new("ip").args(["netns", "delete", namespace]).stderr(Stdio::null()).status();
    let _ = std::fs::remove_dir_all(PathBuf::from("/etc/netns").join(namespace));
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

fn sha256(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Proxy {
    /// Hands it a table, and waits until it says that it has one.
    fn know(&self, socket: &std::path::Path, callers: &[serde_json::Value]) {
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut stream = loop {
            match UnixStream::connect(socket) {
                Ok(stream) => break stream,
                Err(error) => assert!(Instant::now() < deadline, "no socket for tables: {error}"),
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        writeln!(stream, "{}", serde_json::Value::from(callers)).expect("sent");
        while self.plain("GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").status != 200 {
            assert!(Instant::now() < deadline, "the table was not taken");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The request with the workspace's credential in it, where the proxy asks for one.
    pub(crate) fn signed(&self, request: &str) -> String {
        let is_http = request.lines().next().is_some_and(|line| line.contains(" HTTP/"));
        if !SHARED || !is_http || request.to_ascii_lowercase().contains("proxy-authorization") {
            return request.to_owned();
        }
        let credential = STANDARD.encode(format!("{USER}:{PASSWORD}"));
        request.replacen("\r\n", &format!("\r\nProxy-Authorization: Basic {credential}\r\n"), 1)
    }

    /// A connection to the proxy, made inside the workspace.
    pub(crate) fn dial(&self) -> TcpStream {
        connect(&self.work, &self.address.to_string()).expect("the proxy listens")
    }

    /// Asks for a tunnel; with 200 the stream is the tunnel.
    pub(crate) fn connect(&self, authority: &str) -> (Answer, TcpStream) {
        let mut stream = self.dial();
        let request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n");
        stream.write_all(self.signed(&request).as_bytes()).expect("sent");
        (read_answer(&mut stream, false), stream)
    }

    /// Sends one plain request and closes.
    pub(crate) fn send(&self, request: &str) -> Answer {
        self.plain(&self.signed(request))
    }

    /// The same, as it is.
    pub(crate) fn plain(&self, request: &str) -> Answer {
        let mut stream = self.dial();
        stream.write_all(request.as_bytes()).expect("sent");
        read_answer(&mut stream, request.starts_with("HEAD"))
    }

    /// The lines of the log so far.
    pub(crate) fn log(&self) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(&self.log).expect("the log");
        let read =
            |line| serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|_| panic!("not JSON: {line}"));
        // What a shared proxy says of its table stands beside the decisions.
        text.lines().map(read).filter(|line| line.get("table").is_none()).collect()
    }
}

/// Reads one answer. A tunnel's bytes after the head stay in the stream.
pub(crate) fn read_answer(stream: &mut TcpStream, bodyless: bool) -> Answer {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            end => panic!("no answer: {end:?} after {:?}", String::from_utf8_lossy(&head)),
        }
    }
    let head = String::from_utf8(head).expect("text");
    let status = head.split(' ').nth(1).and_then(|text| text.parse().ok()).expect("a status");
    let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; if bodyless { 0 } else { length.unwrap_or(0) }];
    stream.read_exact(&mut body).expect("the body");
    Answer { status, head, body: String::from_utf8(body).expect("text") }
}

/// Every server in `far`: answers HTTP with the request's head and body as it got them, and
/// anything else with the same bytes, so that a client sees what arrived.
fn serve_far(listener: TcpListener) {
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let _ = answer_far(stream);
            });
        }
    });
}

fn answer_far(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    if !line.contains(" HTTP/1.1") {
        stream.write_all(line.as_bytes())?;
        let rest = std::io::copy(&mut reader, &mut stream)?;
        return write!(stream, "end after {rest}");
    }
    let mut seen = line.clone();
    while line != "\r\n" {
        line.clear();
        reader.read_line(&mut line)?;
        seen.push_str(&line);
    }
    if seen.contains("transfer-encoding: chunked") {
        while line != "0\r\n" {
            line.clear();
            reader.read_line(&mut line)?;
            seen.push_str(&line);
        }
    }
    if seen.starts_with("GET /redirect") {
        let target =
            seen.split_whitespace().nth(1).and_then(|path| path.strip_prefix("/redirect?")).unwrap_or_default();
        return write!(stream, "HTTP/1.1 302 Found\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n");
    }
    let body = if seen.starts_with("HEAD") { "" } else { seen.as_str() };
    let length = seen.len();
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nKeep-Alive: timeout=5\r\nX-Far: yes\r\n\r\n{body}")
}

/// Runs this in a network namespace, on a thread that ends with it.
pub(crate) fn within<T: Send>(namespace: &str, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                let file = File::open(format!("/run/netns/{namespace}")).expect("the namespace");
                let kind = rustix::thread::LinkNameSpaceType::Network;
                rustix::thread::move_into_link_name_space(file.as_fd(), Some(kind)).expect("entered");
                work()
            })
            .join()
            .expect("work in the namespace")
    })
}

pub(crate) fn listen(namespace: &str, address: &str) -> TcpListener {
    within(namespace, || TcpListener::bind(address).unwrap_or_else(|error| panic!("listen on {address}: {error}")))
}

/// Connects from inside a namespace.
pub(crate) fn connect(namespace: &str, address: &str) -> std::io::Result<TcpStream> {
    let address: SocketAddr = address.parse().expect("an address");
    let stream = within(namespace, || TcpStream::connect_timeout(&address, Duration::from_secs(5)))?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    Ok(stream)
}

/// The address as it stands before a port.
pub(crate) fn bracketed(address: &str) -> String {
    match address.parse::<IpAddr>() {
        Ok(IpAddr::V6(_)) => format!("[{address}]"),
        _ => address.to_owned(),
    }
}

pub(crate) fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().expect("ip is installed");
    assert!(output.status.success(), "ip {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
}

/// No packet of a test can leave: nowhere is a route for the rest of the world.
fn assert_no_way_out(namespace: &str) {
    let (four, six) = within(namespace, || {
        let read = |path| std::fs::read_to_string(path).expect("the routes");
        (read("/proc/thread-self/net/route"), read("/proc/thread-self/net/ipv6_route"))
    });
    for route in four.lines().skip(1) {
        let fields: Vec<_> = route.split_whitespace().collect();
        assert!(fields[7] != "00000000", "{namespace} has a default route: {route}");
    }
    for route in six.lines() {
        let fields: Vec<_> = route.split_whitespace().collect();
        // The kernel keeps a default entry on lo that rejects (RTF_REJECT, 0x200).
        let flags = u32::from_str_radix(fields[8], 16).expect("flags");
        assert!(fields[1] != "00" || flags & 0x200 != 0, "{namespace} has an IPv6 default route: {route}");
    }
}
