//! Scenes: where the machine itself may not have the bad thing, the control makes it, in mount
//! namespaces and root file systems of its own that vanish with the child that made them.
//!
//! Scenes that are a root file system and nothing else are played one after the other on one stage: taking a mount
//! namespace down makes the kernel wait for every processor (RCU), which takes longer than all of them.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use cubicle_core::attempt::{Action, Call, Fact};
use rustix::fs::Mode;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change};
use rustix::thread::UnshareFlags;

use crate::answer::{Answer, Context};
use crate::child;
use crate::fact::{Found, escapes_root};
use crate::run::plainly;

/// A directory that every machine has, to mount the scratch root on.
const STAGE: &str = "/tmp";
/// A user id that owns nothing.
const NOBODY_ELSE: u32 = 54_321;

/// Whether the control needs a scene for this.
pub(crate) fn is_staged(action: &Action) -> bool {
    match action {
        Action::Read { staged, .. } => *staged,
        Action::UnixConnect { .. } | Action::Create { .. } | Action::Call { call: Call::MakeDevice } => true,
        Action::Fact { fact } => !matches!(
            fact,
            Fact::RootUser
                | Fact::Status { .. }
                | Fact::InitialNamespace { .. }
                | Fact::IdsOutside { .. }
                | Fact::Interfaces { .. }
                | Fact::UnpinnedImage
                | Fact::SwapPresent
        ),
        _ => false,
    }
}

/// Whether the scene is a root file system and nothing else.
pub(crate) fn is_for_the_stage(action: &Action) -> bool {
    match action {
        Action::Read { path, staged } => *staged && !path.starts_with("/proc/1/"),
        Action::UnixConnect { .. } | Action::Create { .. } => true,
        Action::Fact { fact } => matches!(
            fact,
            Fact::WritableMount { .. }
                | Fact::Devices { .. }
                | Fact::SetuidFiles { .. }
                | Fact::FileSystemLarger { .. }
                | Fact::FileSystemMoreFiles { .. }
                | Fact::ForeignFiles { .. }
                | Fact::Siblings { .. }
                | Fact::EscapesRoot { .. }
        ),
        _ => false,
    }
}

/// A mount namespace for several scenes: each root file system is mounted over the one before.
pub(crate) struct Stage {
    /// The root directory outside of all scenes.
    root: OwnedFd,
}

impl Stage {
    /// Makes this child one whose mounts nobody else sees.
    pub(crate) fn open() -> io::Result<Self> {
        private_mounts()?;
        let flags = rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC;
        Ok(Self { root: rustix::fs::open("/", flags, Mode::empty())? })
    }

    /// Makes the scene, does the very same attempt in it, and leaves it.
    pub(crate) fn play(&self, context: &Context, action: &Action) -> Answer {
        let played = try_play(context, action);
        let left = rustix::process::fchdir(&self.root).and_then(|()| rustix::process::chroot("."));
        answer(played.and_then(|answer| Ok(left.map(|()| answer)?)))
    }
}

/// Makes the scene and does the very same attempt in it; for a child that ends afterwards.
pub(crate) fn play(context: &Context, action: &Action) -> Answer {
    let mounts = match action {
        Action::Fact { fact } => matches!(
            fact,
            Fact::OtherKernel { .. } | Fact::SharedMounts | Fact::WritableMounts { .. } | Fact::LooseMounts { .. }
        ),
        _ => true,
    };
    let ready = if mounts { private_mounts() } else { Ok(()) };
    answer(ready.and_then(|()| try_play(context, action)))
}

/// What came of a scene.
pub(crate) fn answer(played: io::Result<Answer>) -> Answer {
    played.unwrap_or_else(|error| Answer::failed(format!("the control's scene cannot be made: {error}")))
}

fn try_play(context: &Context, action: &Action) -> io::Result<Answer> {
    match action {
        Action::Read { path, .. } if path.starts_with("/proc/1/") => return beside_a_first_process(context, action),
        Action::Read { path, .. } => {
            let root = scratch_root()?;
            write_file(&root, path)?;
            enter(&root)?;
        }
        Action::UnixConnect { path } => {
            let root = scratch_root()?;
            make_parent(&root, path)?;
            enter(&root)?;
            let _listener = UnixListener::bind(path)?;
            return Ok(plainly(context, action));
        }
        Action::Create { directory } => {
            let root = scratch_root()?;
            fs::create_dir_all(inside(&root, directory))?;
            enter(&root)?;
        }
        Action::Call { .. } => {
            let root = scratch_root()?;
            fs::create_dir_all(root.join("tmp"))?;
            enter(&root)?;
        }
        Action::Fact { fact } => return with_fact(context, action, fact),
        _ => {}
    }
    Ok(plainly(context, action))
}

fn with_fact(context: &Context, action: &Action, fact: &Fact) -> io::Result<Answer> {
    match fact {
        Fact::ForeignProcesses => return beside_a_stranger(context, action),
        Fact::AbstractSockets => {
            use std::os::linux::net::SocketAddrExt;
            let address = std::os::unix::net::SocketAddr::from_abstract_name(b"cubicle-probe-control")?;
            let _listener = UnixListener::bind_addr(&address)?;
            return Ok(plainly(context, action));
        }
        Fact::CoreFiles => {
            use rustix::process::{Resource, Rlimit, setrlimit};
            setrlimit(Resource::Core, Rlimit { current: Some(1), maximum: Some(1) })?;
        }
        Fact::SecretVariables { parts } => {
            let name = format!("CUBICLE_PROBE_{}", parts.first().map_or("SECRET", String::as_str));
            // SAFETY: this is a forked child with one thread, so that nobody reads the
            // environment at the same time.
            unsafe { std::env::set_var(name, "control") };
        }
        Fact::PredictableAddresses => {
            // SAFETY: changes how this child's own programs would be loaded; it starts none.
            unsafe { libc::personality(0x004_0000) };
        }
        Fact::OtherKernel { .. } => {
            mount("tmpfs", STAGE, "tmpfs", MountFlags::empty(), None)?;
            let other = Path::new(STAGE).join("boot_id");
            fs::write(&other, "00000000-0000-4000-8000-000000000000\n")?;
            mount_bind(&other, "/proc/sys/kernel/random/boot_id")?;
        }
        Fact::WritableMounts { .. } | Fact::LooseMounts { .. } => {
            mount("tmpfs", STAGE, "tmpfs", MountFlags::empty(), None)?;
            let point = Path::new(STAGE).join("scene");
            fs::create_dir(&point)?;
            mount("tmpfs", &point, "tmpfs", MountFlags::empty(), None)?;
        }
        Fact::WritableMount { path } => {
            let root = scratch_root()?;
            fs::create_dir_all(inside(&root, path))?;
            enter(&root)?;
        }
        Fact::SharedMounts => {
            mount("tmpfs", STAGE, "tmpfs", MountFlags::empty(), None)?;
            mount_change(STAGE, MountPropagationFlags::SHARED)?;
        }
        Fact::Devices { .. } => {
            let root = scratch_root()?;
            write_file(&root, "/dev/null")?;
            write_file(&root, "/dev/sda")?;
            enter(&root)?;
        }
        Fact::SetuidFiles { directories } => {
            let root = scratch_root()?;
            let program = format!("{}/setuid", directories.first().map_or("/bin", String::as_str));
            write_file(&root, &program)?;
            fs::set_permissions(inside(&root, &program), fs::Permissions::from_mode(0o4755))?;
            enter(&root)?;
        }
        Fact::FileSystemLarger { path, bytes } => sized(path, &format!("size={}", bytes.saturating_mul(2)))?,
        Fact::FileSystemMoreFiles { path, files } => sized(path, &format!("nr_inodes={}", files.saturating_mul(2)))?,
        Fact::ForeignFiles { path } => {
            let root = scratch_root()?;
            let file = format!("{path}/theirs");
            write_file(&root, &file)?;
            chown(inside(&root, &file), Some(NOBODY_ELSE), None)?;
            enter(&root)?;
        }
        Fact::Siblings { path } => {
            let root = scratch_root()?;
            fs::create_dir_all(inside(&root, path))?;
            beside(&root, path)?;
            enter(&root)?;
        }
        Fact::EscapesRoot { path } => return above_the_root(path),
        _ => {}
    }
    Ok(plainly(context, action))
}

/// A mount namespace whose changes nobody else sees.
fn private_mounts() -> io::Result<()> {
    // SAFETY: this is a forked child with one thread; no memory or descriptors are unshared.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }?;
    Ok(mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?)
}

/// An empty root file system in memory.
fn scratch_root() -> io::Result<PathBuf> {
    mount("tmpfs", STAGE, "tmpfs", MountFlags::empty(), None)?;
    Ok(PathBuf::from(STAGE))
}

fn enter(root: &Path) -> io::Result<()> {
    rustix::process::chroot(root)?;
    Ok(rustix::process::chdir("/")?)
}

fn inside(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

fn make_parent(root: &Path, path: &str) -> io::Result<()> {
    match inside(root, path).parent() {
        Some(parent) => fs::create_dir_all(parent),
        None => Ok(()),
    }
}

fn write_file(root: &Path, path: &str) -> io::Result<()> {
    make_parent(root, path)?;
    fs::write(inside(root, path), "control\n")
}

/// A root file system in which `path` is a mount of its own with these options.
fn sized(path: &str, options: &str) -> io::Result<()> {
    let root = scratch_root()?;
    let point = inside(&root, path);
    fs::create_dir_all(&point)?;
    let options = CString::new(options).map_err(io::Error::other)?;
    mount("tmpfs", &point, "tmpfs", MountFlags::empty(), Some(options.as_c_str()))?;
    enter(&root)
}

/// Another home beside the home. Directly below the root directory both are on one file
/// system that is not the root's.
fn beside(root: &Path, path: &str) -> io::Result<()> {
    let home = inside(root, path);
    let other = format!("{}-other", path.trim_end_matches('/'));
    fs::create_dir_all(inside(root, &other))?;
    if Path::new(path).parent() == Some(Path::new("/")) {
        let store = root.join("store");
        fs::create_dir(&store)?;
        mount("tmpfs", &store, "tmpfs", MountFlags::empty(), None)?;
        for (name, point) in [("one", home), ("two", inside(root, &other))] {
            fs::create_dir(store.join(name))?;
            mount_bind(store.join(name), &point)?;
        }
    }
    Ok(())
}

/// Does what the attempt does, from a directory that lies outside the root directory.
fn above_the_root(path: &str) -> io::Result<Answer> {
    let root = scratch_root()?;
    fs::create_dir_all(inside(&root, path))?;
    fs::create_dir_all(root.join("jail"))?;
    let home = rustix::fs::open(
        inside(&root, path),
        rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    enter(&root.join("jail"))?;
    Ok(match escapes_root(home)? {
        Found::Bad(detail) => Answer::succeeded(detail),
        Found::Good(detail) | Found::Nothing(detail) => Answer::denied(detail),
    })
}

/// Looks from the second process of a pid namespace that has a `/proc` of its own.
fn beside_a_first_process(context: &Context, action: &Action) -> io::Result<Answer> {
    // SAFETY: this is a forked child with one thread; the next child is the namespace's first.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWPID) }?;
    let patience = Duration::from_secs(4);
    let said = child::run(patience, |first| {
        let answer = mount("proc", "/proc", "proc", MountFlags::empty(), None)
            .map_err(io::Error::from)
            .and_then(|()| child::run(patience, |second| second.tell(&child::word(&plainly(context, action)))));
        if let Ok(said) = answer {
            said.observations.iter().for_each(|one| first.tell(one));
        }
    })?;
    let answer =
        said.observations.into_iter().next().ok_or_else(|| io::Error::other("no answer from the namespace"))?;
    Ok(Answer { outcome: answer.outcome, detail: answer.detail })
}

/// Looks while a process of another user runs.
fn beside_a_stranger(context: &Context, action: &Action) -> io::Result<Answer> {
    let (ours, theirs) = UnixStream::pair()?;
    // SAFETY: the child becomes another user, says so, and waits for its parent to hang up.
    let pid = unsafe { libc::fork() };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    if pid == 0 {
        drop(ours);
        // SAFETY: plain system calls; leaves without the parent's exit handlers.
        unsafe {
            let changed = libc::setresuid(NOBODY_ELSE, NOBODY_ELSE, NOBODY_ELSE) == 0;
            let mut byte = [0_u8; 1];
            if changed && rustix::io::write(&theirs, b"x").is_ok() {
                let _ = rustix::io::read(&theirs, &mut byte);
            }
            libc::_exit(0)
        }
    }
    drop(theirs);
    let mut byte = [0_u8; 1];
    rustix::io::read(&ours, &mut byte)?;
    let answer = plainly(context, action);
    drop(ours);
    let _ = rustix::process::waitpid(rustix::process::Pid::from_raw(pid), rustix::process::WaitOptions::empty());
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use cubicle_core::attempt::{Outcome, Phase, ProbePlan, Role};

    use super::*;

    /// Needs root, as the control does.
    #[test]
    fn nothing_of_a_scene_is_there_in_the_next() {
        let plan =
            ProbePlan { nonce: String::new(), phase: Phase::Later, dial_deadline_ms: 1000, attempts: Vec::new() };
        let context = Context::new(Role::Control, &plan);
        let said = child::run(Duration::from_secs(10), |teller| {
            let stage = Stage::open().expect("a stage");
            let home = || "/home/user".to_owned();
            for action in [
                Action::Fact { fact: Fact::ForeignFiles { path: home() } },
                Action::Fact { fact: Fact::Siblings { path: "/home".to_owned() } },
                Action::Fact { fact: Fact::EscapesRoot { path: home() } },
                Action::UnixConnect { path: "/run/a.sock".to_owned() },
                Action::Fact { fact: Fact::FileSystemLarger { path: home(), bytes: 1 << 20 } },
            ] {
                assert!(is_for_the_stage(&action), "{action:?}");
                let answer = stage.play(&context, &action);
                assert_eq!(answer.outcome, Outcome::Succeeded, "{action:?}: {}", answer.detail);
                // The machine's own root directory again, and an empty one for the next scene.
                assert!(Path::new("/proc/self/status").exists(), "{action:?}");
                let next = scratch_root().expect("a root file system");
                assert_eq!(fs::read_dir(&next).expect("a directory").count(), 0, "{action:?}");
            }
            teller.tell(&child::word(&Answer::succeeded("")));
        });
        assert_eq!(said.expect("a child").observations.len(), 1, "the child has panicked");
    }
}
