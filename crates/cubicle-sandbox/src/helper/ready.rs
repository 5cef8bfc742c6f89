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
        match start(&sandbox) {
            // A second one, or one that comes after the claim or the end, is of no use.
            Ok(pair) => drop(sandbox.keep_ready(pair)),
            // A claim starts its own.
            Err(error) => eprintln!("a claim's proof cannot be started ahead: {error}"),
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
    /// Keeps the pair for a claim, or gives it back.
    fn keep_ready(&self, pair: Pair) -> Option<Pair> {
        let mut place = self.ready.pair();
        let state = self.state();
        if place.is_some() || state.claimed || state.stopping || state.stage != Stage::Started {
            return Some(pair);
        }
        *place = Some(pair);
        None
    }
}

fn start(sandbox: &Sandbox) -> io::Result<Pair> {
    Ok(Pair { control: Control::waiting(sandbox)?, prober: Prober::enter(sandbox, "ahead")? })
}
