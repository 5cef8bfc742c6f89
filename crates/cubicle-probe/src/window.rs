//! The start-up window: dialling from the first instruction on, before the plan is known.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cubicle_core::attempt::{Observation, Outcome};
use jiff::Timestamp;
use rustix::io::Errno;
use std::net::SocketAddr;

use crate::answer::{Answer, name};
use crate::dial::{self, Start, Target};

/// Between two rounds of dialling.
const PAUSE: Duration = Duration::from_millis(20);
/// How long it lasts: what the catalogue's attempts ask for.
const LENGTH: Duration = Duration::from_millis(300);
/// How many rounds of dialling it has at least: on a busy machine its length may be over before the thread
/// has run for the first time.
const LEAST_ROUNDS: u32 = 5;

/// One address's fate so far.
#[derive(Debug, Clone)]
struct Fate {
    dials: u32,
    success: Option<(Duration, &'static str)>,
    last: Option<Errno>,
}

/// The running window.
pub(crate) struct Window {
    addresses: Arc<[SocketAddr]>,
    opened: Timestamp,
    fates: Arc<Mutex<Vec<Fate>>>,
    thread: Option<JoinHandle<()>>,
    observed: bool,
}

impl Window {
    /// Begins to dial at once.
    pub(crate) fn open(addresses: Vec<SocketAddr>) -> Self {
        let addresses: Arc<[SocketAddr]> = addresses.into();
        let began = Instant::now();
        let opened = Timestamp::now();
        let fate = Fate { dials: 0, success: None, last: None };
        let fates = Arc::new(Mutex::new(vec![fate; addresses.len()]));
        // The very first round does not wait for a thread.
        let mut waiting = Vec::new();
        round(&addresses, &fates, &mut waiting, began);
        let (shared, dialled) = (Arc::clone(&fates), Arc::clone(&addresses));
        let thread = std::thread::Builder::new().stack_size(64 << 10).spawn(move || {
            let mut rounds = 1;
            while began.elapsed() < LENGTH || rounds < LEAST_ROUNDS {
                std::thread::sleep(PAUSE);
                collect(&shared, &mut waiting, began);
                round(&dialled, &shared, &mut waiting, began);
                rounds += 1;
            }
            collect(&shared, &mut waiting, began);
        });
        Self { addresses, opened, fates, thread: thread.ok(), observed: false }
    }

    /// Waits until the window is over. False when it could not be observed. A second proof
    /// gets the same answer: there is one first instruction.
    pub(crate) fn close(&mut self) -> bool {
        if let Some(thread) = self.thread.take() {
            self.observed = thread.join().is_ok();
        }
        self.observed
    }

    /// What came of one address; none when it was not among those dialled.
    pub(crate) fn observation(&self, attempt: &str, address: SocketAddr, observed: bool) -> Option<Observation> {
        let index = self.addresses.iter().position(|known| *known == address)?;
        let fate = self.fates.lock().unwrap_or_else(PoisonError::into_inner).get(index)?.clone();
        let last = fate.last.map_or("no answer".to_owned(), name);
        let answer = match fate.success {
            Some((after, how)) => {
                Answer::succeeded(format!("{how} {} ms after the first instruction", after.as_millis()))
            }
            None if !observed || fate.dials < LEAST_ROUNDS => {
                Answer::failed(format!("the window could not be observed: {} dials", fate.dials))
            }
            None => Answer::denied(format!("{} dials over {} ms: {last}", fate.dials, LENGTH.as_millis())),
        };
        Some(Observation {
            attempt: attempt.to_owned(),
            outcome: answer.outcome,
            detail: answer.detail,
            at: self.opened,
            duration_us: micros(LENGTH),
            silent: answer.outcome == Outcome::Denied && fate.last.is_none(),
        })
    }
}

pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn round(addresses: &[SocketAddr], fates: &Mutex<Vec<Fate>>, waiting: &mut Vec<(usize, OwnedFd)>, began: Instant) {
    for (index, address) in addresses.iter().enumerate() {
        let started = dial::start(&Target { address: *address, refusal_reaches: true, datagram: false });
        let mut fates = fates.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(fate) = fates.get_mut(index) {
            fate.dials += 1;
            match started {
                Start::Waiting(socket) => waiting.push((index, socket)),
                Start::Over(result) => note(fate, result, began),
            }
        }
    }
}

/// Looks once at the sockets that have no answer yet.
fn collect(fates: &Mutex<Vec<Fate>>, waiting: &mut Vec<(usize, OwnedFd)>, began: Instant) {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    waiting.retain(|(index, socket)| {
        let mut descriptor = [PollFd::new(socket, PollFlags::OUT)];
        let ready = poll(&mut descriptor, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|count| count > 0);
        if ready && let Some(fate) = fates.lock().unwrap_or_else(PoisonError::into_inner).get_mut(*index) {
            note(fate, dial::finish(socket, false), began);
        }
        !ready
    });
}

fn note(fate: &mut Fate, result: Result<(), Errno>, began: Instant) {
    match result {
        Ok(()) => fate.success = fate.success.or(Some((began.elapsed(), "connected"))),
        Err(Errno::CONNREFUSED | Errno::CONNRESET) => {
            fate.success = fate.success.or(Some((began.elapsed(), "refused by the other side")));
        }
        Err(errno) => fate.last = Some(errno),
    }
}

#[cfg(test)]
mod tests {
    use cubicle_core::attempt::{Action, Attempt, Phase, ProbePlan, Role};

    use super::*;
    use crate::answer::Context;

    #[test]
    fn only_a_plan_that_asks_for_the_window_waits_for_it() {
        let address: SocketAddr = "127.0.0.1:9".parse().expect("an address");
        let mut plan = ProbePlan { nonce: "n".to_owned(), phase: Phase::Gate, dial_deadline_ms: 100, attempts: vec![] };
        let mut window = Window::open(vec![address]);
        let context = Context::new(Role::Tenant, &plan);
        assert!(crate::run::run(&context, &plan, Some(&mut window)).is_empty());
        assert!(window.thread.is_some(), "nobody waited");
        let action = Action::TcpWindow { address, milliseconds: 300 };
        plan.attempts.push(Attempt { id: "a/from the start".to_owned(), action });
        let observed = crate::run::run(&context, &plan, Some(&mut window));
        assert!(window.thread.is_none());
        assert_eq!(observed.len(), 1);
        assert!(window.observed);
    }
}
