//! How a sandbox ends: by itself, or because somebody asks; nothing of it is left afterwards.

use std::fs;
use std::io;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::{PID_FILE, Sandbox};
use crate::client::SOCKET;
use crate::home::Home;
use crate::protocol::Stage;
use crate::{runtime, stage};

/// Watches the workspace's first process in a thread of its own.
pub(super) fn watch(sandbox: &Arc<Sandbox>) -> io::Result<()> {
    let sandbox = Arc::clone(sandbox);
    std::thread::Builder::new().name("cubicle-watch".to_owned()).spawn(move || {
        let reason = wait(sandbox.pid);
        let stopping = {
            let mut state = sandbox.state();
            let before = state.stage;
            state.stage = Stage::Ended;
            state.nonce = None;
            state.exit = Some(match before {
                _ if state.stopping => "stopped".to_owned(),
                Stage::Started => format!("the notebook {reason}"),
                _ => format!("the gate {reason} before the notebook was started"),
            });
            state.stopping
        };
        sandbox.changed.notify_all();
        if !stopping {
            sandbox.clean();
            sandbox.finish();
        }
    })?;
    Ok(())
}

/// Waits for the end of a child and says how it came.
fn wait(pid: u32) -> String {
    loop {
        let mut status = 0;
        // SAFETY: waitpid fills the integer, which lives through the call.
        let result = unsafe { libc::waitpid(pid.cast_signed(), &raw mut status, 0) };
        if result == pid.cast_signed() {
            return if libc::WIFSIGNALED(status) {
                format!("was killed by signal {}", libc::WTERMSIG(status))
            } else {
                format!("ended with code {}", libc::WEXITSTATUS(status))
            };
        }
        if io::Error::last_os_error().raw_os_error() != Some(libc::EINTR) {
            return "ended, nobody knows how".to_owned();
        }
    }
}

impl Sandbox {
    /// Ends the sandbox; returns when nothing of it is left.
    pub(super) fn stop(&self, grace: Duration) {
        let started = {
            let mut state = self.state();
            state.stopping = true;
            state.stage == Stage::Started
        };
        // What is frozen cannot save anything.
        self.thaw();
        self.signal(libc::SIGTERM);
        // The gate has nothing to save.
        if !self.wait_ended(if started { grace } else { Duration::ZERO }) {
            self.signal(libc::SIGKILL);
            self.cgroup.kill_all(Duration::from_secs(10));
            self.wait_ended(Duration::from_secs(10));
        }
        self.clean();
    }

    fn signal(&self, signal: i32) {
        // The first process is our child and not reaped before its end is recorded, so that its
        // pid cannot belong to anybody else.
        if self.state().exit.is_none() {
            // SAFETY: kill takes plain numbers.
            unsafe { libc::kill(self.pid.cast_signed(), signal) };
        }
    }

    fn wait_ended(&self, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        let mut state = self.state();
        while state.exit.is_none() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Removes everything but the logs, once.
    pub(super) fn clean(&self) {
        // Held to the end, so that a second caller returns when the first is done.
        let _gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        if self.state().cleaned {
            return;
        }
        drop(self.ready.take());
        self.cgroup.kill_all(Duration::from_secs(10));
        stage::strike();
        runtime::delete(&self.spec, &self.dir);
        if let Err(error) = self.cgroup.remove() {
            eprintln!("{error}");
        }
        let image = self.home().image;
        if !Home::wait_detached(&self.dir, image, Duration::from_secs(5)) {
            eprintln!("the home stays attached to its loop device");
        }
        let _ = fs::remove_file(self.dir.join(PID_FILE));
        let _ = fs::remove_dir_all(self.dir.join("unlimited-home"));
        let exit = self.state().exit.clone().unwrap_or_else(|| "stopped".to_owned());
        let text = serde_json::json!({ "reason": exit }).to_string();
        if let Err(error) = fs::write(self.dir.join("exit.json"), text) {
            eprintln!("exit.json: {error}");
        }
        let _ = fs::remove_file(self.dir.join(SOCKET));
        self.state().cleaned = true;
    }

    /// Lets the main thread return.
    pub(super) fn finish(&self) {
        let _ = rustix::io::write(&self.over, &[1]);
    }
}
