//! Both sides of a claim's proof, started before anybody claims: entering a sandbox takes longer than the proof
//! itself, as a process that moves to another control group waits for every processor (RCU).

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::control::{Control, Process};
use super::proof::Prober;
use super::{Sandbox, State};
use crate::protocol::Stage;

/// Who waits to be told what to try.
pub(super) struct Pair {
    /// Outside, without walls.
    pub(super) control: Process,
    /// Inside, as the tenant.
    pub(super) prober: Prober,
}

/// The pair of a sandbox that waits for a claim; none before, none afterwards.
#[derive(Default)]
pub(super) struct Ready(Mutex<Option<Pair>>);

impl Ready {
    fn pair(&self) -> MutexGuard<'_, Option<Pair>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pair, once; none when one of them has ended while it waited.
    pub(super) fn take(&self) -> Option<Pair> {
        let pair = self.pair().take();
        pair.and_then(|mut pair| (pair.control.waits() && pair.prober.waits()).then_some(pair))
    }
}

/// Starts the pair of a sandbox that somebody holds until it is claimed, once its server runs, in a thread of its own:
/// both die with the thread that has started them.
pub(super) fn get(sandbox: &Arc<Sandbox>) -> io::Result<()> {
    let sandbox = Arc::clone(sandbox);
    std::thread::Builder::new().name("cubicle-ready".to_owned()).spawn(move || {
        drop(wait(&sandbox, |state| state.stage == Stage::Started));
        // A claim starts its own.
        if let Err(error) = sandbox.make_ready() {
            eprintln!("a claim's proof cannot be started ahead: {error}");
        }
        drop(wait(&sandbox, |_| false));
    })?;
    Ok(())
}

/// Waits until something is so, or the sandbox has ended.
fn wait(sandbox: &Sandbox, until: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
    let mut state = sandbox.state();
    while state.exit.is_none() && !until(&state) {
        state = sandbox.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
    state
}

impl Sandbox {
    /// Starts the pair, unless there is one, or the claim or the end has come first. Whoever takes it waits for this,
    /// so that no process is ever left on its way in.
    fn make_ready(&self) -> io::Result<()> {
        let mut place = self.ready.pair();
        let comes_first = {
            let state = self.state();
            state.claimed || state.stopping || state.stage != Stage::Started
        };
        if place.is_none() && !comes_first {
            *place = Some(Pair { control: Control::waiting(self)?, prober: Prober::enter(self, "ahead")? });
        }
        Ok(())
    }
}
