//! What runs inside a sandbox: stand-ins for the probe and the notebook, and programs that tell
//! or try things. Their answers are JSON.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::fd::FromRawFd;

use cubicle_core::attempt::{GateMessage, Observation, Observations, Outcome, ProbePlan, Role};

pub type Facts = BTreeMap<String, String>;

/// Everything that an entered process must share with the first one.
pub fn facts() -> Facts {
    let mut facts = Facts::new();
    let read = |path: &str| fs::read_to_string(path).unwrap_or_else(|error| format!("<{error}>"));
    for line in read("/proc/self/status").lines() {
        let (key, value) = line.split_once(':').unwrap_or((line, ""));
        let kept = ["Uid", "Gid", "Groups", "NoNewPrivs", "Seccomp", "Seccomp_filters", "TracerPid"];
        if kept.contains(&key) || key.starts_with("Cap") || key.starts_with("Sig") && key != "SigQ" {
            facts.insert(key.to_owned(), value.trim().to_owned());
        }
    }
    // The C library ignores its two internal signals in programs that it spawns, OCI runtimes
    // among them; nobody can send them any meaning.
    if let Some(ignored) = facts.get_mut("SigIgn") {
        *ignored = format!("{:016x}", u64::from_str_radix(ignored, 16).unwrap_or(0) & !0x1_8000_0000);
    }
    for kind in ["user", "mnt", "net", "ipc", "uts", "cgroup", "pid"] {
        let link = fs::read_link(format!("/proc/self/ns/{kind}"));
        facts.insert(
            format!("ns-{kind}"),
            link.map_or_else(|error| format!("<{error}>"), |link| link.display().to_string()),
        );
    }
    facts.insert("cgroup".to_owned(), read("/proc/self/cgroup"));
    facts.insert("limits".to_owned(), read("/proc/self/limits"));
    facts.insert("oom".to_owned(), read("/proc/self/oom_score_adj").trim().to_owned());
    facts.insert("uid-map".to_owned(), read("/proc/self/uid_map").split_whitespace().collect::<Vec<_>>().join(" "));
    facts.insert("mounts".to_owned(), read("/proc/self/mountinfo"));
    facts.insert("host-name".to_owned(), read("/proc/sys/kernel/hostname").trim().to_owned());
    facts.insert(
        "directory".to_owned(),
        std::env::current_dir().map_or_else(|e| e.to_string(), |dir| dir.display().to_string()),
    );
    let mut environment: Vec<String> = std::env::vars().map(|(key, value)| format!("{key}={value}")).collect();
    environment.sort();
    facts.insert("environment".to_owned(), environment.join("\n"));
    // SAFETY: umask cannot fail and is put back at once.
    let umask = unsafe { libc::umask(0o777) };
    // SAFETY: as above.
    unsafe { libc::umask(umask) };
    facts.insert("umask".to_owned(), format!("{umask:o}"));
    facts.insert("pid".to_owned(), std::process::id().to_string());
    let interfaces: Vec<String> = fs::read_dir("/sys/class/net")
        .map(|entries| entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
        .unwrap_or_default();
    facts.insert("interfaces".to_owned(), interfaces.join(" "));
    let mut devices: Vec<String> = fs::read_dir("/dev")
        .map(|entries| entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
        .unwrap_or_default();
    devices.sort();
    facts.insert("devices".to_owned(), devices.join(" "));
    facts.insert("loopback".to_owned(), TcpListener::bind("127.0.0.1:0").is_ok().to_string());
    let mut descriptors: Vec<String> = fs::read_dir("/proc/self/fd")
        .map(|entries| {
            entries
                .flatten()
                .filter_map(|entry| Some((entry.file_name(), fs::read_link(entry.path()).ok()?)))
                .filter(|(_, target)| !target.starts_with("/proc"))
                .map(|(name, _)| name.to_string_lossy().into_owned())
                .collect()
        })
        .unwrap_or_default();
    descriptors.sort();
    facts.insert("descriptors".to_owned(), descriptors.join(" "));
    facts
}

fn answer(plan: &ProbePlan, role: Role, facts: &Facts) -> String {
    let observations = facts
        .iter()
        .map(|(key, value)| Observation {
            attempt: key.clone(),
            outcome: Outcome::Denied,
            detail: value.clone(),
            at: jiff::Timestamp::now(),
            duration_us: 1,
            silent: false,
        })
        .collect();
    serde_json::to_string(&Observations { nonce: plan.nonce.clone(), role, observations, disturbed: None })
        .expect("JSON")
}

pub fn observed(observations: &Observations) -> Facts {
    observations.observations.iter().map(|one| (one.attempt.clone(), one.detail.clone())).collect()
}

/// The workspace's first process.
pub fn gate() -> i32 {
    // SAFETY: the helper gives the gate these two descriptors, and nothing else uses them.
    let (plans, mut answers) = unsafe { (File::from_raw_fd(3), File::from_raw_fd(4)) };
    let mut lines = BufReader::new(plans).lines();
    let go = loop {
        let Some(Ok(line)) = lines.next() else { return 10 };
        match serde_json::from_str::<GateMessage>(&line) {
            Err(_) => return 11,
            Ok(GateMessage::Go(go)) => break go,
            Ok(GateMessage::Plan(plan)) => {
                if plan.nonce == "silent" {
                    std::thread::sleep(std::time::Duration::from_secs(600));
                }
                if writeln!(answers, "{}", answer(&plan, Role::Tenant, &facts())).is_err() {
                    return 12;
                }
            }
        }
    };
    drop((lines, answers));
    let mut child = std::process::Command::new(&go.command[0])
        .args(&go.command[1..])
        .env_clear()
        .envs(go.environment)
        .current_dir(go.directory)
        .spawn()
        .expect("the notebook starts");
    CHILD.store(child.id().cast_signed(), std::sync::atomic::Ordering::SeqCst);
    extern "C" fn forward(signal: i32) {
        // SAFETY: kill is async-signal-safe and takes plain numbers.
        unsafe { libc::kill(CHILD.load(std::sync::atomic::Ordering::SeqCst), signal) };
    }
    // SAFETY: the handler makes one async-signal-safe call.
    unsafe { libc::signal(libc::SIGTERM, forward as *const () as libc::sighandler_t) };
    let status = child.wait().expect("the notebook ends");
    println!("the notebook: {status}");
    status.code().unwrap_or(99)
}

static CHILD: std::sync::atomic::AtomicI32 = std::sync::atomic::AtomicI32::new(0);

/// The probe in its other two roles.
pub fn probe(role: Role) -> i32 {
    for line in std::io::stdin().lines() {
        let plan: ProbePlan = serde_json::from_str(&line.expect("a line")).expect("a plan");
        answer_as(role, &plan);
    }
    0
}

fn answer_as(role: Role, plan: &ProbePlan) {
    let mut facts = facts();
    if role == Role::Tenant {
        let own = rustix::fs::openat(
            // SAFETY: the helper gives a later proof this descriptor.
            unsafe { std::os::fd::BorrowedFd::borrow_raw(5) },
            "self/status",
            rustix::fs::OFlags::RDONLY,
            rustix::fs::Mode::empty(),
        );
        let own = own.map(File::from).and_then(|mut file| {
            let mut text = String::new();
            file.read_to_string(&mut text).map_err(|_| rustix::io::Errno::IO)?;
            Ok(text)
        });
        let own = own.unwrap_or_else(|error| format!("<{error}>"));
        for line in own.lines() {
            if let Some((key, value)) = line.split_once(':') {
                facts.insert(format!("own-{key}"), value.trim().to_owned());
            }
        }
        facts.insert("visible-self".to_owned(), fs::read_to_string("/proc/self/status").is_ok().to_string());
    }
    println!("{}", answer(plan, role, &facts));
}

/// A notebook: greets on its port until it is told to stop.
pub fn notebook() -> i32 {
    println!("the notebook starts");
    let listener = TcpListener::bind("127.0.0.1:8888").expect("a port");
    for stream in listener.incoming() {
        let _ = stream.and_then(|mut stream| stream.write_all(b"hello"));
    }
    0
}

/// Says what a port of the loopback says.
pub fn dial(port: &str) -> i32 {
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], port.parse().expect("a port")));
    match std::net::TcpStream::connect(address) {
        Ok(mut stream) => {
            let mut said = String::new();
            let _ = stream.read_to_string(&mut said);
            print!("{said}");
            0
        }
        Err(_) => 1,
    }
}

/// Calls that the policy refuses, each with arguments that the kernel would answer differently.
pub fn calls() -> Facts {
    let mut results = Facts::new();
    let mut attempt = |name: &str, number: i64, arguments: [i64; 4]| {
        // SAFETY: the arguments are numbers or null pointers, which the kernel refuses; no call
        // here can touch memory.
        let result = unsafe { libc::syscall(number, arguments[0], arguments[1], arguments[2], arguments[3], 0, 0) };
        let error = std::io::Error::last_os_error().raw_os_error().unwrap_or(0);
        results.insert(name.to_owned(), if result >= 0 { "done".to_owned() } else { error.to_string() });
    };
    attempt("unshare-user", libc::SYS_unshare, [i64::from(libc::CLONE_NEWUSER), 0, 0, 0]);
    attempt("setns", libc::SYS_setns, [-1, 0, 0, 0]);
    attempt("clone-user", libc::SYS_clone, [i64::from(libc::CLONE_NEWUSER | libc::SIGCHLD), 0, 0, 0]);
    attempt("clone3", libc::SYS_clone3, [0, 0, 0, 0]);
    attempt("mount", libc::SYS_mount, [1, 1, 1, 0]);
    attempt("ptrace", libc::SYS_ptrace, [16, 1, 0, 0]);
    attempt("process-vm-readv", libc::SYS_process_vm_readv, [1, 0, 0, 0]);
    attempt("bpf", libc::SYS_bpf, [-1, 0, 0, 0]);
    attempt("perf", libc::SYS_perf_event_open, [0, 0, -1, -1]);
    attempt("io-uring", libc::SYS_io_uring_setup, [0, 0, 0, 0]);
    attempt("userfaultfd", libc::SYS_userfaultfd, [-1, 0, 0, 0]);
    attempt("keyctl", libc::SYS_keyctl, [-1, 0, 0, 0]);
    attempt("add-key", libc::SYS_add_key, [1, 1, 0, 0]);
    attempt("open-by-handle", libc::SYS_open_by_handle_at, [-1, 1, 0, 0]);
    attempt("packet", libc::SYS_socket, [17, 3, 0, 0]);
    attempt("vsock", libc::SYS_socket, [40, 1, 0, 0]);
    attempt("alg", libc::SYS_socket, [38, 5, 0, 0]);
    attempt("netfilter", libc::SYS_socket, [16, 3, 12, 0]);
    attempt("icmp", libc::SYS_socket, [2, 3, 1, 0]);
    attempt("tiocsti", libc::SYS_ioctl, [0, 0x5412, 0, 0]);
    attempt("tiocsti-high", libc::SYS_ioctl, [0, 0x1_0000_5412, 0, 0]);
    attempt("personality", libc::SYS_personality, [0x0004_0000, 0, 0, 0]);
    attempt("future", 900, [0, 0, 0, 0]);
    attempt("route-netlink", libc::SYS_socket, [16, 3, 0, 0]);
    attempt("tcp", libc::SYS_socket, [2, 0x80001, 6, 0]);
    attempt("unix", libc::SYS_socket, [1, 1, 0, 0]);
    results
}

/// Stops and kills every process that comes up and can be named, for a while.
pub fn hostile() -> i32 {
    let there: Vec<i32> = fs::read_dir("/proc")
        .expect("/proc")
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    let end = std::time::Instant::now() + std::time::Duration::from_secs(3);
    while std::time::Instant::now() < end {
        for pid in (2..400).filter(|pid| !there.contains(pid)) {
            // SAFETY: kill takes plain numbers.
            unsafe {
                libc::kill(pid, libc::SIGSTOP);
                libc::kill(pid, libc::SIGKILL);
            }
        }
    }
    0
}

/// Forks until the kernel refuses; prints how many there were.
pub fn forks() -> i32 {
    let mut children = Vec::new();
    loop {
        // SAFETY: this process has one thread; the child only sleeps.
        match unsafe { libc::fork() } {
            -1 => break,
            0 => loop {
                // SAFETY: pause takes nothing.
                unsafe { libc::pause() };
            },
            child => children.push(child),
        }
    }
    println!("{}", children.len());
    let _ = std::io::stdout().flush();
    let mut wait = String::new();
    let _ = std::io::stdin().read_line(&mut wait);
    for child in children {
        // SAFETY: kill takes plain numbers; the children are ours and not reaped.
        unsafe {
            libc::kill(child, libc::SIGKILL);
            libc::waitpid(child, std::ptr::null_mut(), 0);
        }
    }
    0
}

/// Writes to memory until it is killed.
pub fn hog() -> i32 {
    let mut blocks = Vec::new();
    loop {
        blocks.push(vec![1_u8; 1 << 20]);
        std::hint::black_box(&blocks);
    }
}

/// Writes a file until the kernel says why not; prints bytes and errno.
pub fn fill(path: &str) -> i32 {
    let mut file = File::create(path).expect("a file");
    let block = vec![7_u8; 1 << 20];
    let mut written = 0_u64;
    loop {
        match file.write(&block) {
            Ok(count) => written += count as u64,
            Err(error) => {
                println!("{written} {}", error.raw_os_error().unwrap_or(0));
                let _ = fs::remove_file(path);
                return 0;
            }
        }
    }
}

/// Tries to open files for writing without writing; prints path and errno.
pub fn writable(paths: &[String]) -> Facts {
    paths
        .iter()
        .map(|path| {
            let text = CString::new(path.as_str()).expect("a path");
            // SAFETY: the path is a terminated string; the descriptor is closed with the process.
            let result = unsafe { libc::open(text.as_ptr(), libc::O_WRONLY | libc::O_CREAT, 0o600) };
            let error = std::io::Error::last_os_error().raw_os_error().unwrap_or(0);
            (path.clone(), if result >= 0 { "open".to_owned() } else { error.to_string() })
        })
        .collect()
}
