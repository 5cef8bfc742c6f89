//! The engine's side of the contract: starting helpers and asking them.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use cubicle_core::attempt::{Phase, ProbePlan, Proof};
use cubicle_core::plan::Limits;
use cubicle_core::problem::Problem;
use cubicle_core::quantity::{Bytes, MilliCpu};
use cubicle_core::template::{Egress, EgressMode};
use cubicle_sandbox::client;
use cubicle_sandbox::protocol::{HomeBackend, HomeSpec, Request, Response, RuntimeChoice, SandboxSpec, Status};

use crate::inside::{self, Facts};

/// Stands for the egress proxy: gives up its rights and waits for connections on descriptor 3.
pub fn egress() -> i32 {
    let mut config = String::new();
    std::io::stdin().read_to_string(&mut config).expect("a configuration");
    cubicle_sandbox::confine::become_egress(65_534, 65_534).expect("confined");
    // SAFETY: the helper gives the proxy this descriptor.
    let listener: std::net::TcpListener = unsafe { std::os::fd::FromRawFd::from_raw_fd(3) };
    for stream in listener.incoming() {
        let _ = stream.and_then(|mut stream| stream.write_all(config.as_bytes()));
    }
    0
}

/// Gives up rights and says what is left.
pub fn confined(kind: &str) -> i32 {
    match kind {
        "hub" => cubicle_sandbox::confine::become_hub(65_533, 65_533).expect("confined"),
        "customer" => cubicle_sandbox::confine::become_customer(65_533, 65_533).expect("confined"),
        _ => cubicle_sandbox::confine::become_egress(65_533, 65_533).expect("confined"),
    }
    let mut facts = inside::facts();
    facts.extend(inside::calls());
    let program = Command::new("/proc/self/exe").arg("facts").stdout(Stdio::null()).status();
    facts.insert("program".to_owned(), program.is_ok_and(|status| status.success()).to_string());
    // Threads must still be possible.
    facts.insert("thread".to_owned(), std::thread::spawn(|| 1).join().is_ok().to_string());
    println!("{}", serde_json::to_string(&facts).expect("JSON"));
    0
}

/// Starts a helper and goes away as soon as it is ready.
pub fn start(dir: &Path) -> i32 {
    match launch(dir) {
        Ok(_) => 0,
        Err(problem) => {
            eprintln!("{problem}");
            1
        }
    }
}

fn launch(dir: &Path) -> Result<Child, Problem> {
    let mut child = Command::new("/proc/self/exe")
        .arg("internal-sandbox")
        .arg(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the helper starts");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("stdout")).read_line(&mut line).expect("a line");
    let said: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
    if said["ready"] == true {
        return Ok(child);
    }
    let _ = child.wait();
    Err(serde_json::from_value(said["problem"].clone())
        .unwrap_or_else(|_| Problem::engine(format!("it said {line:?}"), "")))
}

/// A place for sandboxes.
pub struct World {
    pub root: PathBuf,
    pub rootfs: PathBuf,
    pub probe: PathBuf,
    pub runtime: RuntimeChoice,
    runner: tokio::runtime::Runtime,
}

static NUMBER: AtomicU32 = AtomicU32::new(0);

impl World {
    pub fn new(rootfs: Option<&Path>, runtime: RuntimeChoice) -> Self {
        let base = if Path::new("/var/tmp").is_dir() { "/var/tmp" } else { "/tmp" };
        let root = PathBuf::from(format!("{base}/cubicle-contract-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(root.join("workspaces")).expect("a directory");
        // As the engine's own: nobody but root may walk in.
        fs::set_permissions(&root, fs::Permissions::from_mode(0o700)).expect("a mode");
        let probe = root.join("probe");
        fs::copy("/proc/self/exe", &probe).expect("a copy of this program");
        fs::set_permissions(&probe, fs::Permissions::from_mode(0o711)).expect("a mode");
        let rootfs = rootfs.map_or_else(|| make_root(&root.join("rootfs")), Path::to_path_buf);
        let runner = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        Self { root, rootfs, probe, runtime, runner }
    }

    pub fn image(&self, name: &str, size: u64) -> PathBuf {
        let path = self.root.join(name);
        if !path.exists() {
            File::create(&path).expect("a file").set_len(size).expect("a size");
            let made = Command::new("mkfs.ext4").args(["-q", "-F", "-E", "root_owner=1000:1000"]).arg(&path).status();
            assert!(made.expect("mkfs.ext4").success());
        }
        path
    }

    pub fn spec(&self) -> SandboxSpec {
        let number = NUMBER.fetch_add(1, Ordering::SeqCst);
        let mut random = [0_u8; 12];
        random[..4].copy_from_slice(&number.to_le_bytes());
        random[4..8].copy_from_slice(&std::process::id().to_le_bytes());
        let id = cubicle_core::name::WorkspaceId::from_random(random.map(|byte| byte ^ (number as u8)));
        SandboxSpec {
            cgroup: format!("/cubicle-contract/{id}"),
            id,
            rootfs: self.rootfs.clone(),
            probe: self.probe.clone(),
            id_base: 0x2000_0000 + number * 65_536,
            home: HomeSpec {
                backend: HomeBackend::Image(self.image(&format!("home-{number}.img"), 48 << 20)),
                mount_path: "/home/user".to_owned(),
            },
            datasets: Vec::new(),
            limits: Limits {
                cpu: MilliCpu(1000),
                memory: Bytes(128 << 20),
                pids: 64,
                ephemeral_storage: Bytes(16 << 20),
                home: None,
            },
            egress: Egress { mode: EgressMode::Walled, allow: Vec::new() },
            egress_refused: vec!["192.0.2.0/24".to_owned()],
            command: vec!["/.cubicle/probe".to_owned(), "notebook".to_owned()],
            environment: vec![
                ("PATH".to_owned(), "/bin".to_owned()),
                ("HOME".to_owned(), "/home/user".to_owned()),
                ("WORD".to_owned(), "a b=c".to_owned()),
            ],
            runtime: self.runtime.clone(),
            remove: Vec::new(),
            prepare: None,
        }
    }

    pub fn write(&self, spec: &SandboxSpec) -> PathBuf {
        let dir = self.root.join("workspaces").join(spec.id.as_str());
        fs::create_dir_all(&dir).expect("a directory");
        fs::write(dir.join("sandbox.json"), serde_json::to_vec(spec).expect("JSON")).expect("a file");
        dir
    }

    /// Builds a sandbox.
    pub fn build(&self, spec: SandboxSpec) -> Result<Sandbox<'_>, Problem> {
        let dir = self.write(&spec);
        let helper = launch(&dir)?;
        Ok(Sandbox { world: self, spec, dir, helper })
    }

    /// Builds, proves and starts one.
    pub fn open(&self, spec: SandboxSpec) -> Sandbox<'_> {
        let sandbox = self.build(spec).expect("a sandbox");
        sandbox.prove("n").expect("a proof");
        sandbox.ask(&Request::Go { nonce: "n".to_owned() }).expect("a go");
        let deadline = Instant::now() + Duration::from_secs(10);
        while sandbox.dial().is_err() {
            assert!(Instant::now() < deadline, "the notebook does not answer: {}", sandbox.log());
            std::thread::sleep(Duration::from_millis(10));
        }
        sandbox
    }

    pub fn block<T>(&self, future: impl Future<Output = T>) -> T {
        self.runner.block_on(future)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = cubicle_sandbox::cgroup::remove_parent("/cubicle-contract");
        let _ = fs::remove_dir_all(&self.root);
    }
}

pub struct Sandbox<'world> {
    pub world: &'world World,
    pub spec: SandboxSpec,
    pub dir: PathBuf,
    pub helper: Child,
}

impl Drop for Sandbox<'_> {
    /// A case that failed leaves nothing to the next one.
    fn drop(&mut self) {
        if matches!(self.helper.try_wait(), Ok(None)) {
            let _ = self.ask(&Request::Stop { grace_ms: 0 });
            let _ = self.helper.kill();
            let _ = self.helper.wait();
        }
    }
}

/// What a command inside left.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Sandbox<'_> {
    pub fn ask(&self, request: &Request) -> Result<Response, Problem> {
        self.world.block(client::request(&self.dir, request))
    }

    pub fn status(&self) -> Status {
        match self.ask(&Request::Status) {
            Ok(Response::Status(status)) => status,
            other => panic!("status: {other:?}"),
        }
    }

    pub fn plan(nonce: &str, phase: Phase) -> ProbePlan {
        ProbePlan { nonce: nonce.to_owned(), phase, dial_deadline_ms: 100, attempts: Vec::new() }
    }

    pub fn prove(&self, nonce: &str) -> Result<Proof, Problem> {
        self.proof(&Request::Prove { plan: Self::plan(nonce, Phase::Gate) })
    }

    pub fn verify(&self, nonce: &str) -> Result<Proof, Problem> {
        self.proof(&Request::Verify { plan: Self::plan(nonce, Phase::Later) })
    }

    pub fn claim(&self, home: &HomeSpec) -> Result<Proof, Problem> {
        self.world.block(async {
            let claim = client::claim(&self.dir, Self::plan("claim", Phase::Later)).await?;
            claim.mount(home).await.map(|proof| *proof)
        })
    }

    pub fn hold(&self) -> client::Held {
        self.world.block(client::hold(&self.dir)).expect("held")
    }

    fn proof(&self, request: &Request) -> Result<Proof, Problem> {
        match self.ask(request)? {
            Response::Proof(proof) => Ok(*proof),
            other => panic!("a proof: {other:?}"),
        }
    }

    pub fn dial(&self) -> std::io::Result<String> {
        let status = self.status();
        let socket = cubicle_sandbox::namespaces::dial(status.pid, status.pid_start, 8888)?;
        let mut stream = std::net::TcpStream::from(socket);
        stream.set_nonblocking(false)?;
        let mut said = String::new();
        stream.read_to_string(&mut said)?;
        Ok(said)
    }

    /// Runs a command with this text on stdin.
    pub fn run(&self, command: &[&str], input: &str) -> Ran {
        let (stdin, mut write) = std::io::pipe().expect("a pipe");
        let (read_out, stdout) = std::io::pipe().expect("a pipe");
        let (read_err, stderr) = std::io::pipe().expect("a pipe");
        write.write_all(input.as_bytes()).expect("input");
        drop(write);
        let read = |mut from: std::io::PipeReader| {
            std::thread::spawn(move || {
                let mut text = Vec::new();
                let _ = from.read_to_end(&mut text);
                String::from_utf8_lossy(&text).into_owned()
            })
        };
        let (out, err) = (read(read_out), read(read_err));
        let descriptors = [OwnedFd::from(stdin), OwnedFd::from(stdout), OwnedFd::from(stderr)];
        let command = command.iter().map(|word| (*word).to_owned()).collect();
        let code = self.world.block(client::exec(&self.dir, command, descriptors)).expect("exec");
        Ran { code, out: out.join().expect("out"), err: err.join().expect("err") }
    }

    /// Runs this program inside and reads its facts.
    pub fn facts(&self, command: &[&str]) -> Facts {
        let ran = self.run(&[&["/.cubicle/probe"], command].concat(), "");
        serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("{command:?}: {ran:?}"))
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("notebook.log")).unwrap_or_default()
            + &fs::read_to_string(self.dir.join("helper.log")).unwrap_or_default()
    }

    pub fn stop(mut self) {
        assert_eq!(self.ask(&Request::Stop { grace_ms: 2000 }), Ok(Response::Stopped));
        self.helper.wait().expect("the helper ends");
    }

    /// What of it is still there.
    pub fn remains(&self) -> Vec<String> {
        let mut found = Vec::new();
        let id = self.spec.id.as_str();
        if let HomeBackend::Image(path) = &self.spec.home.backend {
            for block in fs::read_dir("/sys/block").expect("/sys/block").flatten() {
                let behind = fs::read_to_string(block.path().join("loop/backing_file")).unwrap_or_default();
                if behind.contains(path.to_str().expect("a path")) {
                    found.push(format!("loop device {:?}", block.file_name()));
                }
            }
        }
        if fs::read_to_string("/proc/self/mountinfo").expect("mounts").contains(id) {
            found.push("a mount".to_owned());
        }
        let groups = Command::new("find").args(["/sys/fs/cgroup", "-name", id]).output().expect("find");
        found.extend(String::from_utf8_lossy(&groups.stdout).lines().map(|line| format!("control group {line}")));
        for process in fs::read_dir("/proc").expect("/proc").flatten() {
            let uids = fs::read_to_string(process.path().join("status")).unwrap_or_default();
            let uid =
                uids.lines().find_map(|line| line.strip_prefix("Uid:")?.split_whitespace().next()?.parse::<u32>().ok());
            if uid.is_some_and(|uid| (self.spec.id_base..self.spec.id_base + 65_536).contains(&uid)) {
                found.push(format!("process {:?}", process.file_name()));
            }
        }
        for name in ["helper.sock", "helper.pid", "bundle", "runtime"] {
            if self.dir.join(name).exists() {
                found.push(name.to_owned());
            }
        }
        found
    }
}

/// A root file system with nothing but a static busybox.
fn make_root(path: &Path) -> PathBuf {
    for dir in ["bin", "proc", "sys", "dev", "tmp", "etc", "home/user", "data", "usr", ".cubicle"] {
        fs::create_dir_all(path.join(dir)).expect("a directory");
    }
    // Some runtimes give a mounted /tmp the mode of the directory below it.
    fs::set_permissions(path.join("tmp"), fs::Permissions::from_mode(0o1777)).expect("a mode");
    let busybox =
        ["/bin/busybox", "/usr/bin/busybox"].iter().find(|one| Path::new(one).exists()).expect("a static busybox");
    fs::copy(busybox, path.join("bin/busybox")).expect("a copy");
    for applet in ["sh", "ls", "cat", "id", "echo", "sleep", "dd", "touch", "stat", "kill", "ps", "true", "mkfifo"] {
        let _ = std::os::unix::fs::symlink("busybox", path.join("bin").join(applet));
    }
    fs::write(path.join("etc/passwd"), "user:x:1000:1000::/home/user:/bin/sh\n").expect("a file");
    // Linked dynamically, this program needs the libraries that it has here.
    let maps = fs::read_to_string("/proc/self/maps").expect("maps");
    for library in maps.lines().filter_map(|line| line.split_whitespace().nth(5)).filter(|one| one.contains(".so")) {
        let inside = path.join(library.trim_start_matches('/'));
        fs::create_dir_all(inside.parent().expect("a parent")).expect("a directory");
        fs::copy(library, inside).expect("a library");
        if library.contains("ld-linux-x86-64") {
            fs::create_dir_all(path.join("lib64")).expect("a directory");
            fs::copy(library, path.join("lib64/ld-linux-x86-64.so.2")).expect("the loader");
        }
    }
    path.to_path_buf()
}
