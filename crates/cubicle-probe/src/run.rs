//! Running a plan: while dials wait for answers, what needs a child; loads last, or for the control at the
//! same time.

use std::time::{Duration, Instant};

use cubicle_core::attempt::{Action, Attempt, Fact, Observation, Outcome, ProbePlan};
use jiff::Timestamp;

use crate::answer::{Answer, Context};
use crate::child::{self, End, Said};
use crate::dial::{self, Dialled, Target};
use crate::proxy::Tunnel;
use crate::window::{Window, micros};
use crate::{call, control, door, fact, file, filter, load, proxy, socket};

/// How long a child with many small attempts may take.
const PATIENCE: Duration = Duration::from_secs(8);
/// Scenes that the control plays at the same time.
const SCENES: usize = 8;

/// Runs every attempt, in both roles. What is left of the window is waited for when one of them asks what came of it.
pub(crate) fn run(context: &Context, plan: &ProbePlan, window: Option<&mut Window>) -> Vec<Observation> {
    let attempts = &plan.attempts;
    let asked = attempts.iter().any(|attempt| matches!(attempt.action, Action::TcpWindow { .. }));
    let window = window.filter(|_| asked);
    let has_window = window.is_some();
    let dialling: Group<'_> = &|| dials(context, attempts, has_window);
    let tunnelling: Group<'_> = &|| tunnels(context, attempts);
    let mut observations = if context.is_control() {
        // No limit slows the control down, so that everything can go on at once.
        at_once(&[
            dialling,
            tunnelling,
            &|| together(context, attempts),
            &|| on_stage(context, attempts),
            &|| alone(context, attempts),
            &|| loads(context, attempts),
        ])
    } else {
        // One after the other, as limits slow it down, but while dials wait: one that is looked at late is
        // not judged by that.
        let mut found = at_once(&[dialling, tunnelling, &|| {
            let mut found = together(context, attempts);
            found.extend(alone(context, attempts));
            found
        }]);
        found.extend(loads(context, attempts));
        found
    };
    if let Some(window) = window {
        let observed = window.close();
        observations.extend(attempts.iter().filter_map(|attempt| match &attempt.action {
            Action::TcpWindow { address, .. } => window.observation(&attempt.id, *address, observed),
            _ => None,
        }));
    }
    observations
}

/// Attempts that are made together.
type Group<'a> = &'a (dyn Fn() -> Vec<Observation> + Sync);

fn at_once(groups: &[Group<'_>]) -> Vec<Observation> {
    std::thread::scope(|scope| {
        let running: Vec<_> = groups.iter().map(|group| scope.spawn(group)).collect();
        // A thread that failed leaves its attempts unobserved, and these are unproven.
        running.into_iter().flat_map(|group| group.join().unwrap_or_default()).collect()
    })
}

fn observation(attempt: &Attempt, answer: Answer, duration: Duration) -> Observation {
    Observation {
        attempt: attempt.id.clone(),
        outcome: answer.outcome,
        detail: answer.detail,
        at: Timestamp::now(),
        duration_us: micros(duration),
        silent: false,
    }
}

fn dials(context: &Context, attempts: &[Attempt], has_window: bool) -> Vec<Observation> {
    let chosen: Vec<(&Attempt, Target)> = attempts
        .iter()
        .filter_map(|attempt| {
            let target = match attempt.action {
                Action::TcpConnect { address, refusal_reaches } => Target { address, refusal_reaches, datagram: false },
                Action::TcpWindow { address, .. } if !has_window => {
                    Target { address, refusal_reaches: true, datagram: false }
                }
                Action::UdpExchange { address } => {
                    Target { address, refusal_reaches: dial::refusal_reaches(address.ip()), datagram: true }
                }
                _ => return None,
            };
            Some((attempt, target))
        })
        .collect();
    let targets: Vec<Target> = chosen.iter().map(|(_, target)| *target).collect();
    named(chosen.into_iter().map(|(attempt, _)| attempt), dial::all(context, &targets))
}

fn tunnels(context: &Context, attempts: &[Attempt]) -> Vec<Observation> {
    let (chosen, targets): (Vec<&Attempt>, Vec<_>) = attempts
        .iter()
        .filter_map(|attempt| match &attempt.action {
            Action::ProxyConnect { proxy, target, shared } => {
                // The control asks a proxy that refuses nothing: on one machine its own at the same
                // address, elsewhere another one.
                let tunnel = match shared {
                    Some(shared) if context.is_control() => Tunnel { proxy: shared.careless, target, credential: None },
                    _ => Tunnel { proxy: *proxy, target, credential: shared.as_ref().map(|shared| &shared.credential) },
                };
                Some((attempt, tunnel))
            }
            _ => None,
        })
        .unzip();
    named(chosen.into_iter(), proxy::all(&targets))
}

fn named<'a>(attempts: impl Iterator<Item = &'a Attempt>, dialled: Vec<Dialled>) -> Vec<Observation> {
    attempts
        .zip(dialled)
        .map(|(attempt, Dialled { answer, duration, silent })| Observation {
            silent,
            ..observation(attempt, answer, duration)
        })
        .collect()
}

/// Where an attempt runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In the parent, with all the others of its kind.
    Here,
    /// In one child with many others.
    Together,
    /// In one child with all others whose scene is a root file system.
    Stage,
    /// In a child of its own.
    Alone,
    /// In the parent, last, because it slows everything down.
    Last,
}

fn place(context: &Context, action: &Action) -> Place {
    match action {
        Action::TcpConnect { .. }
        | Action::TcpWindow { .. }
        | Action::UdpExchange { .. }
        | Action::ProxyConnect { .. } => Place::Here,
        action if action.is_load() => Place::Last,
        Action::Call { call } if call::needs_own_child(*call) => Place::Alone,
        Action::PassFilter { .. } | Action::StackRules => Place::Alone,
        action if context.is_control() && control::scene::is_for_the_stage(action) => Place::Stage,
        action if context.is_control() && control::scene::is_staged(action) => Place::Alone,
        Action::Fact { fact: Fact::Interfaces { .. } } if context.reference => Place::Alone,
        _ => Place::Together,
    }
}

/// One small attempt, in a child.
fn attempt_once(context: &Context, action: &Action) -> Answer {
    if context.is_control() && control::scene::is_staged(action) {
        return control::scene::play(context, action);
    }
    if context.reference && matches!(action, Action::Fact { fact: Fact::Interfaces { .. } }) {
        return door::among_the_machines_interfaces(|| plainly(context, action));
    }
    plainly(context, action)
}

/// One small attempt without a scene.
pub(crate) fn plainly(context: &Context, action: &Action) -> Answer {
    match action {
        Action::Socket { kind } => socket::make(context, *kind),
        Action::Call { call } => call::make(context, *call),
        Action::PassFilter { call } => filter::pass(context, *call),
        Action::StackRules => filter::stack_rules(context),
        Action::Read { path, .. } => file::read(context, path),
        Action::Write { path } => file::write(context, path),
        Action::Create { directory } => file::create(context, directory),
        Action::UnixConnect { path } => file::connect(context, path),
        Action::Fact { fact } => fact::look(context, fact),
        _ => Answer::failed("not an attempt for a child"),
    }
}

fn timed(attempt: &Attempt, does: impl FnOnce(&Action) -> Answer) -> Observation {
    let began = Instant::now();
    let answer = does(&attempt.action);
    observation(attempt, answer, began.elapsed())
}

/// Runs many attempts in one child.
fn together(context: &Context, attempts: &[Attempt]) -> Vec<Observation> {
    one_by_one(chosen(context, attempts, Place::Together), |left| {
        child::run(PATIENCE, |teller| {
            left.iter().for_each(|attempt| teller.tell(&timed(attempt, |action| attempt_once(context, action))));
        })
    })
}

/// Plays many scenes in one child, whose end nobody waits for.
fn on_stage(context: &Context, attempts: &[Attempt]) -> Vec<Observation> {
    one_by_one(chosen(context, attempts, Place::Stage), |left| {
        child::tell(PATIENCE, left.len(), |teller| {
            let stage = control::scene::Stage::open();
            for attempt in left {
                let played = timed(attempt, |action| match &stage {
                    Ok(stage) => stage.play(context, action),
                    Err(error) => control::scene::answer(Err(error.kind().into())),
                });
                teller.tell(&played);
            }
        })
    })
}

fn chosen<'a>(context: &Context, attempts: &'a [Attempt], wanted: Place) -> Vec<&'a Attempt> {
    attempts.iter().filter(|attempt| place(context, &attempt.action) == wanted).collect()
}

/// Has a child make attempts one after the other. When the child dies, the attempt that it was at is judged by that,
/// and a new child goes on.
fn one_by_one(chosen: Vec<&Attempt>, child: impl Fn(&[&Attempt]) -> std::io::Result<Said>) -> Vec<Observation> {
    let mut observations: Vec<Observation> = Vec::with_capacity(chosen.len());
    while observations.len() < chosen.len() {
        let left = &chosen[observations.len()..];
        match child(left) {
            Err(error) => {
                let answer = Answer::failed(format!("no child: {error}"));
                observations.extend(left.iter().map(|attempt| observation(attempt, answer.clone(), Duration::ZERO)));
            }
            Ok(said) => {
                let told = said.observations.len();
                observations.extend(said.observations);
                if let Some(at) = left.get(told) {
                    observations.push(observation(at, died(said.end), Duration::ZERO));
                }
            }
        }
    }
    observations
}

/// Runs the attempts that need a child of their own, for the control several at a time: what
/// takes long there is that the kernel waits when it takes a scene down.
fn alone(context: &Context, attempts: &[Attempt]) -> Vec<Observation> {
    let chosen = chosen(context, attempts, Place::Alone);
    let workers = if context.is_control() { SCENES } else { 1 };
    let next = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..workers.min(chosen.len()))
            .map(|_| {
                scope.spawn(|| {
                    let mut observations = Vec::new();
                    while let Some(attempt) = chosen.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
                        observations.push(in_own_child(context, attempt));
                    }
                    observations
                })
            })
            .collect();
        // A thread that failed leaves its attempts unobserved, and these are unproven.
        workers.into_iter().flat_map(|worker| worker.join().unwrap_or_default()).collect()
    })
}

fn in_own_child(context: &Context, attempt: &Attempt) -> Observation {
    let body = |teller: &mut child::Teller| teller.tell(&timed(attempt, |action| attempt_once(context, action)));
    // What the control has made for an attempt is its own, and nobody waits for its end.
    let said = if context.is_control() { child::tell(PATIENCE, 1, body) } else { child::run(PATIENCE, body) };
    match said {
        Ok(mut said) => said.observations.pop().unwrap_or_else(|| observation(attempt, died(said.end), Duration::ZERO)),
        Err(error) => observation(attempt, Answer::failed(format!("no child: {error}")), Duration::ZERO),
    }
}

/// What it means that a child died during an attempt.
fn died(end: End) -> Answer {
    match end {
        End::Signal(libc::SIGSYS) => Answer::denied("the filter killed the process"),
        End::Signal(signal) => Answer::failed(format!("signal {signal} ended the child")),
        End::Code(code) => Answer::failed(format!("the child left with code {code}")),
        End::TooLong => Answer::failed("no answer in time"),
    }
}

fn loads(context: &Context, attempts: &[Attempt]) -> Vec<Observation> {
    attempts
        .iter()
        .filter(|attempt| place(context, &attempt.action) == Place::Last)
        .map(|attempt| {
            let began = Instant::now();
            let answer = match &attempt.action {
                Action::AllocateMemory { bytes } => load::allocate(context, *bytes),
                Action::ExceedProcesses { limit } => load::exceed_processes(context, *limit),
                Action::Spin { milliseconds, limit } => load::spin(context, *milliseconds, *limit),
                _ => Answer { outcome: Outcome::Failed, detail: "not a load".to_owned() },
            };
            observation(attempt, answer, began.elapsed())
        })
        .collect()
}
