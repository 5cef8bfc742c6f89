//! A sandbox that was built before anybody asked for it: held until somebody claims it, and given that
//! user's home while it runs.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use cubicle_core::attempt::{ProbePlan, Proof};
use cubicle_core::problem::{Problem, ProblemKind};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

use super::control::Control;
use super::proof::Prober;
use super::ready::Pair;
use super::{Mounted, Sandbox};
use crate::frame;
use crate::home;
use crate::protocol::{HomeBackend, HomeSpec, Response, SandboxSpec, Stage};
use crate::removal::removed;
use crate::{mounts, namespaces, stage};

/// How long checking a home may take.
const CHECKED: Duration = Duration::from_secs(120);

impl Sandbox {
    /// Waits until the holder goes away, and ends the sandbox if nobody has claimed it by then.
    pub(super) fn hold(&self, stream: &UnixStream) -> io::Result<()> {
        loop {
            match poll(&mut [PollFd::new(stream, PollFlags::RDHUP)], None) {
                Ok(_) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        {
            let mut state = self.state();
            if state.claimed || state.stage == Stage::Ended {
                return Ok(());
            }
            // From here on nobody can claim it.
            state.claimed = true;
        }
        eprintln!("nobody holds it any more and nobody has claimed it");
        self.stop(Duration::ZERO);
        self.finish();
        Ok(())
    }

    /// Mounts the home that comes over this connection and proves what that changes. One user, once: also
    /// after a failure nobody else ever gets this sandbox.
    pub(super) fn claim(&self, stream: &mut UnixStream, plan: ProbePlan) -> Result<Proof, Problem> {
        let mut mounted = self.home();
        {
            let mut state = self.state();
            if state.claimed || !matches!(mounted.backend, HomeBackend::Later) {
                return Err(Problem::new(
                    ProblemKind::NotAllowed,
                    format!("{} was handed to somebody before", self.spec.id),
                    "claim another one; a sandbox serves one user once",
                ));
            }
            if state.stage != Stage::Started {
                return Err(Problem::conflict(format!("{} is not running", self.spec.id), "claim one that is"));
            }
            state.claimed = true;
        }
        // The control tries everything for the first time while the home is checked and mounted.
        let (control, prober) = match self.ready.take() {
            Some(Pair { control, prober }) => (control.told(&plan), Ok(prober)),
            None => (Control::beside(self, &plan), Prober::enter(self, "verify")),
        };
        let home = receive_home(stream).map_err(|error| failed("the word which home it is", &error))?;
        if matches!(home.backend, HomeBackend::Later) || home.mount_path != self.spec.home.mount_path {
            return Err(Problem::bad_input(
                format!("{} was built for a home at {}", self.spec.id, self.spec.home.mount_path),
                "claim it with a home for that path",
            ));
        }
        self.record(&home)?;
        let mut image = None;
        // Where mounts are seen from belongs to a thread once it shares that with nobody.
        let mounting = std::thread::scope(|scope| {
            let mounting = std::thread::Builder::new()
                .name("cubicle-claim".to_owned())
                .spawn_scoped(scope, || self.mount(&home, &mut image))
                .map_err(|error| failed("a thread", &error))?;
            mounting.join().unwrap_or_else(|_| Err(Problem::engine("mounting the home ended badly", "")))
        });
        // Also of one that came only half way: the end of the sandbox waits until it is let go of.
        *mounted = Mounted { backend: home.backend, image };
        drop(mounted);
        mounting?;
        self.prove_beside(control.ok(), prober, plan)
    }

    /// Writes down whose home it is, before it is mounted: helpers of the same user look for it there.
    fn record(&self, home: &HomeSpec) -> Result<(), Problem> {
        let spec = SandboxSpec { home: home.clone(), ..self.spec.clone() };
        let write = || -> io::Result<()> {
            let draft = self.dir.join("sandbox.json.new");
            let mut options = fs::OpenOptions::new();
            let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
            io::Write::write_all(&mut file, &serde_json::to_vec(&spec)?)?;
            fs::rename(draft, self.dir.join("sandbox.json"))
        };
        write().map_err(|error| failed("its record", &error))
    }

    /// Attaches the home and moves it to its place inside; `image` becomes what identifies it.
    fn mount(&self, home: &HomeSpec, image: &mut Option<(u64, u64)>) -> Result<(), Problem> {
        // SAFETY: unshares what this new thread alone uses: its root, working directory and umask.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FS) }.map_err(|error| failed("a view", &error.into()))?;
        let attached = home::attach(&self.dir, &home.backend, stage::home_allows(&self.spec))?
            .ok_or_else(|| Problem::engine("there is no home to mount", ""))?;
        *image = attached.image();
        let place = || -> io::Result<()> {
            let mapping = (!removed(&self.spec.remove, "user-namespace"))
                .then(|| namespaces::open(self.pid, self.pid_start, "user"))
                .transpose()?;
            let shifted = stage::raise_home(&attached, mapping.as_ref().map(AsFd::as_fd))?;
            let inside = namespaces::open(self.pid, self.pid_start, "mnt")?;
            move_into_link_name_space(inside.as_fd(), Some(LinkNameSpaceType::Mount))?;
            attach_inside(&shifted, &home.mount_path)
        };
        place().map_err(|error| failed("the home", &error))
    }
}

/// The second word of a claim, which comes when the home is checked.
fn receive_home(stream: &mut UnixStream) -> io::Result<HomeSpec> {
    frame::write(stream, &Response::Expecting)?;
    stream.set_read_timeout(Some(CHECKED))?;
    frame::read(stream)
}

/// Moves a mount to a directory of the workspace, which was looked at when the sandbox was built: no
/// symbolic link may be on the way.
fn attach_inside(mount: &OwnedFd, path: &str) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let place = rustix::fs::openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS)?;
    mounts::attach_to(mount.as_fd(), place.as_fd())
}

fn failed(what: &str, error: &io::Error) -> Problem {
    Problem::engine(format!("{what} cannot be had for a claim: {error}"), "launch without a warm workspace")
}
