//! Loads that limits must stop. Each runs in a child that may be killed.

use std::io::Write as _;
use std::time::{Duration, Instant};

use cubicle_core::attempt::{GATE_CPU_PERIOD_US, Outcome};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions};

use crate::answer::{Answer, Context, name};
use crate::child::{self, End, Said};
use crate::window::micros;

/// A page: the least that the kernel gives.
const PAGE: usize = 4096;
/// Stack of a child that only sleeps, in bytes.
const STACK: usize = 2 * PAGE;
/// How long the control may take on a busy machine.
const CONTROL_SPIN: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(8);
/// Processes that spin for the control: several, so that a busy machine's fair share is still above
/// the limit. The tenant needs fewer to run into it, and the kernel counts that.
const SPINNERS: usize = 8;
const TENANT_SPINNERS: usize = 4;

fn answer_of(said: std::io::Result<Said>) -> (Option<Answer>, Option<End>) {
    match said {
        Ok(said) => (
            said.observations.into_iter().next().map(|one| Answer { outcome: one.outcome, detail: one.detail }),
            Some(said.end),
        ),
        Err(error) => (Some(Answer::failed(format!("no child: {error}"))), None),
    }
}

/// Touches memory page by page. The child asks to be the first to die.
pub(crate) fn allocate(context: &Context, bytes: u64) -> Answer {
    let Ok(length) = usize::try_from(bytes) else { return Answer::failed("too much for this machine") };
    let ran = child::run(PATIENCE, |teller| {
        let _ = context.write_proc("self/oom_score_adj", b"1000");
        let answer = touch(length);
        teller.tell(&child::word(&answer));
    });
    match answer_of(ran) {
        (Some(answer), _) => answer,
        (None, Some(End::Signal(libc::SIGKILL))) => Answer::denied("the kernel killed the child"),
        (None, end) => Answer::failed(format!("the child ended without a word: {end:?}")),
    }
}

fn touch(length: usize) -> Answer {
    use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};
    // SAFETY: a new private mapping that nothing else knows.
    let memory = match unsafe {
        mmap_anonymous(std::ptr::null_mut(), length, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)
    } {
        Ok(memory) => memory.cast::<u8>(),
        Err(errno) => return Answer::denied(format!("the kernel refused: {}", name(errno))),
    };
    // All at once, where the kernel can (Linux 5.14): a fault for each page takes longer. Not larger pages:
    // where memory is in pieces the kernel moves it about for a fifth of a second first.
    // SAFETY: fills exactly the mapping made above, as the writes below do.
    let _ = unsafe { rustix::mm::madvise(memory.cast(), length, rustix::mm::Advice::LinuxPopulateWrite) };
    for offset in (0..length).step_by(PAGE) {
        // SAFETY: the offset is inside the mapping.
        unsafe { memory.add(offset).write_volatile(1) };
    }
    // SAFETY: unmaps exactly what was mapped above.
    let _ = unsafe { munmap(memory.cast(), length) };
    Answer::succeeded(format!("{} MiB touched", length >> 20))
}

/// Clones sleeping children until there are more than the limit.
pub(crate) fn exceed_processes(context: &Context, limit: u32) -> Answer {
    let _turn = context.reference.then(turn);
    let attempt = || {
        if context.reference {
            leave_limits();
        }
        clone_sleepers(limit)
    };
    match answer_of(child::run(PATIENCE, |teller| teller.tell(&child::word(&attempt())))) {
        (Some(answer), _) => answer,
        (None, end) => Answer::failed(format!("the child ended without a word: {end:?}")),
    }
}

/// One reference of a node at a time: many at once might run into the machine's own limit, and the tenants with them.
/// The program itself is the lock; where that fails there is no turn, as nothing rests on it.
fn turn() -> Option<std::fs::File> {
    let program = std::fs::File::open("/proc/self/exe").ok()?;
    rustix::fs::flock(&program, rustix::fs::FlockOperation::LockExclusive).ok()?;
    Some(program)
}

/// Into the machine's topmost group: a reference is in a pod, with the same limit as the tenant's. Only for a
/// child that ends afterwards. Where this fails the limit stops the control as well, and that shows.
fn leave_limits() {
    for group in ["/proc/1/root/sys/fs/cgroup/pids", "/proc/1/root/sys/fs/cgroup"] {
        // 0 is the writer itself (cgroups(7)).
        // Never made: with version 1 the folder above the hierarchies is an ordinary one.
        if let Ok(mut file) = std::fs::OpenOptions::new().write(true).open(format!("{group}/cgroup.procs")) {
            let _ = file.write_all(b"0");
        }
    }
}

/// Has a clone end with its maker, also with one that has ended by now: nobody else would ever end it. Straight to the
/// kernel, as the clone shares its maker's memory and touches none of it.
fn end_with(maker: *mut libc::c_void) {
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    // The signal is of deaths from now on (PR_SET_PDEATHSIG(2const)).
    // SAFETY: both take and change nothing but this process.
    unsafe {
        if usize::try_from(libc::getppid()) != Ok(maker.addr()) {
            libc::_exit(0);
        }
    }
}

extern "C" fn sleep(maker: *mut libc::c_void) -> libc::c_int {
    end_with(maker);
    loop {
        // SAFETY: pause takes nothing and returns only after a signal handler, of which there
        // is none: the child shares memory with its parent and touches none of it.
        unsafe { libc::pause() };
    }
}

extern "C" fn spin_on(maker: *mut libc::c_void) -> libc::c_int {
    end_with(maker);
    loop {
        std::hint::spin_loop();
    }
}

/// Children that share memory with this process and do one simple thing until they are killed. Cheap, and
/// they take no lock: this runs in a child that was forked while other threads ran, and what those held
/// then, such as the standard library's lock on its table of threads, nobody gives back here.
struct Clones {
    children: Vec<Pid>,
    stacks: *mut u8,
    length: usize,
    /// Why there are fewer than were wanted.
    stopped: Option<Errno>,
}

impl Clones {
    fn start(wanted: usize, body: extern "C" fn(*mut libc::c_void) -> libc::c_int) -> Result<Self, Errno> {
        use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
        let length = wanted * STACK;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: a new private mapping that nothing else knows.
        let stacks =
            unsafe { mmap_anonymous(std::ptr::null_mut(), length, ProtFlags::READ | ProtFlags::WRITE, flags) }?.cast();
        let mut clones = Self { children: Vec::with_capacity(wanted), stacks, length, stopped: None };
        for number in 1..=wanted {
            // SAFETY: each child has a stack of its own inside the mapping, which lives until all
            // of them are gone; the body takes this process's id for an argument, and never returns.
            let pid = unsafe {
                libc::clone(
                    body,
                    clones.stacks.add(number * STACK).cast(),
                    libc::CLONE_VM | libc::CLONE_FS | libc::CLONE_FILES | libc::SIGCHLD,
                    std::ptr::without_provenance_mut(std::process::id() as usize),
                )
            };
            match Pid::from_raw(pid) {
                Some(child) if pid > 0 => clones.children.push(child),
                _ => {
                    clones.stopped = Errno::from_io_error(&std::io::Error::last_os_error());
                    break;
                }
            }
        }
        Ok(clones)
    }
}

impl Drop for Clones {
    fn drop(&mut self) {
        for child in &self.children {
            let _ = rustix::process::kill_process(*child, Signal::KILL);
        }
        for child in &self.children {
            while matches!(rustix::process::waitpid(Some(*child), WaitOptions::empty()), Err(Errno::INTR)) {}
        }
        // SAFETY: every child that had a stack in it is gone.
        let _ = unsafe { rustix::mm::munmap(self.stacks.cast(), self.length) };
    }
}

fn clone_sleepers(limit: u32) -> Answer {
    match Clones::start(limit.saturating_add(1) as usize, sleep) {
        Err(errno) => Answer::failed(format!("no stacks: {}", name(errno))),
        Ok(Clones { ref children, stopped: None, .. }) => {
            Answer::succeeded(format!("{} processes at once", children.len()))
        }
        Ok(Clones { ref children, stopped: Some(errno), .. }) => {
            Answer::denied(format!("{} after {} processes", name(errno), children.len()))
        }
    }
}

/// Periods of the limit that may count besides the time that was measured: the one that was
/// already running, and the one that is not over.
const PERIODS: u64 = 2;
/// The scheduler's usual period, in microseconds (cpu.cfs_period_us). The gate's own is shorter, but a
/// thread is only stopped at the next tick of its processor, and pays that back later. Nothing stops the
/// control, so that for it the gate's period is enough.
const PERIOD_US: u64 = 100_000;

/// Whether this much processor time in this much time is more than a limit allows; the limit is
/// in thousandths of one CPU, the times in microseconds.
fn breaks_out(used: u64, wall: u64, limit: u64, period: u64) -> bool {
    used > limit.saturating_mul(wall.saturating_add(PERIODS * period)) / 1000
}

/// Spins until more processor time was used than the limit allows, or the time is over.
pub(crate) fn spin(context: &Context, milliseconds: u64, limit: u64) -> Answer {
    let period = if context.is_control() { GATE_CPU_PERIOD_US } else { PERIOD_US };
    let length = if context.is_control() { CONTROL_SPIN } else { Duration::from_millis(milliseconds.min(5000)) };
    let count = if context.is_control() { SPINNERS } else { TENANT_SPINNERS };
    let ran = child::run(PATIENCE, |teller| {
        teller.tell(&child::word(&match Clones::start(count, spin_on) {
            Ok(spinners) if !spinners.children.is_empty() => spun(&spinners, length, limit, period),
            _ => Answer::failed("no process to spin with"),
        }));
    });
    match answer_of(ran) {
        (Some(Answer { outcome: Outcome::Denied, detail }), _) if context.is_control() => {
            // A machine too busy to give the control its time shows nothing about a limit.
            Answer::failed(detail)
        }
        (Some(answer), _) => answer,
        (None, end) => Answer::failed(format!("the child ended without a word: {end:?}")),
    }
}

/// Watches the spinners until they have used more than the limit allows, or the time is over.
fn spun(spinners: &Clones, length: Duration, limit: u64, period: u64) -> Answer {
    let began = Instant::now();
    loop {
        std::thread::sleep(Duration::from_millis(2));
        let used = spinners.children.iter().map(|spinner| processor_time(*spinner)).sum();
        let wall = micros(began.elapsed());
        if breaks_out(used, wall, limit, period) {
            return Answer::succeeded(format!("{used} us of processor time in {wall} us"));
        }
        if began.elapsed() >= length {
            return Answer::denied(format!("only {used} us of processor time in {wall} us"));
        }
    }
}

/// Processor time of a process, in microseconds; zero for one that is gone.
fn processor_time(process: Pid) -> u64 {
    let mut clock = 0;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: both write what they are given, and it lives longer than the calls.
    let known = unsafe {
        libc::clock_getcpuclockid(process.as_raw_nonzero().get(), &raw mut clock) == 0
            && libc::clock_gettime(clock, &raw mut time) == 0
    };
    if !known {
        return 0;
    }
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0) / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_broken_only_beyond_the_periods_at_both_ends() {
        // 20 % for 230 ms and two periods are 86 ms.
        assert!(!breaks_out(80_000, 230_000, 200, PERIOD_US));
        assert!(breaks_out(86_001, 230_000, 200, PERIOD_US));
        assert!(!breaks_out(0, 0, 0, PERIOD_US));
        assert!(breaks_out(1, 0, 0, PERIOD_US));
    }

    #[test]
    fn clones_end_with_a_maker_that_is_killed() {
        use std::io::Read as _;

        for body in [sleep as extern "C" fn(*mut libc::c_void) -> libc::c_int, spin_on] {
            let (reader, writer) = rustix::pipe::pipe().expect("a pipe");
            // SAFETY: the child makes its clones, tells their ids, and waits to be killed.
            let maker = unsafe { libc::fork() };
            if maker == 0 {
                let Ok(clones) = Clones::start(3, body) else { std::process::abort() };
                let ids: Vec<u8> =
                    clones.children.iter().flat_map(|child| child.as_raw_nonzero().get().to_ne_bytes()).collect();
                let _ = rustix::io::write(&writer, &ids);
                loop {
                    std::thread::park();
                }
            }
            drop(writer);
            let mut ids = [0; 12];
            std::fs::File::from(reader).read_exact(&mut ids).expect("three clones");
            let maker = Pid::from_raw(maker).expect("a child");
            rustix::process::kill_process(maker, Signal::KILL).expect("killed");
            rustix::process::waitpid(Some(maker), WaitOptions::empty()).expect("gone");
            let lives = |id: &[u8]| {
                let id = i32::from_ne_bytes(id.try_into().expect("four bytes"));
                std::fs::read_to_string(format!("/proc/{id}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
            };
            let deadline = Instant::now() + Duration::from_secs(10);
            while ids.chunks_exact(4).any(lives) {
                assert!(Instant::now() < deadline, "a clone outlives its maker");
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}
