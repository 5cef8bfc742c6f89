//! How often somebody may fail to sign in: per account, so that one password cannot be guessed;
//! per address, so that many cannot be tried. And how often somebody may launch, so that no script
//! in a loop keeps the machine from everybody else.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use cubicle_core::name::UserId;
use cubicle_core::problem::{Problem, ProblemKind};

/// Failures that an account may have within [`WINDOW`].
const PER_ACCOUNT: u32 = 10;
/// Failures that an address may have within [`WINDOW`]. Higher, because many people may share
/// one, for example behind a forwarded port.
const PER_ADDRESS: u32 = 50;
/// How long a failure counts.
const WINDOW: Duration = Duration::from_secs(15 * 60);
/// How many keys are remembered; beyond that the oldest window is forgotten.
const MOST_KEYS: usize = 20_000;

/// Failed sign-ins of late.
#[derive(Default)]
pub(crate) struct SignInLimits {
    failures: Mutex<HashMap<Key, Window>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Account(String),
    Address(IpAddr),
}

struct Window {
    began: Instant,
    failures: u32,
}

impl SignInLimits {
    /// Whether an attempt for this account (by its key) from this address may be made now. The
    /// attempt counts as a failure until [`SignInLimits::succeeded`] says otherwise, so that
    /// parallel attempts cannot slip through.
    pub(crate) fn attempt(&self, account: &str, address: IpAddr) -> Result<(), Problem> {
        self.attempt_at(account, address, Instant::now())
    }

    fn attempt_at(&self, account: &str, address: IpAddr, now: Instant) -> Result<(), Problem> {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let keys = [(Key::Account(account.to_owned()), PER_ACCOUNT), (Key::Address(network(address)), PER_ADDRESS)];
        for (key, most) in &keys {
            if let Some(window) = failures.get(key)
                && now.duration_since(window.began) < WINDOW
                && window.failures >= *most
            {
                let wait = (WINDOW - now.duration_since(window.began)).as_secs().div_ceil(60);
                return Err(Problem::new(
                    ProblemKind::Exhausted,
                    "too many sign-ins failed for this name or from this address",
                    format!("try again in {wait} minutes, or ask an administrator for a sign-in link"),
                ));
            }
        }
        if failures.len() >= MOST_KEYS {
            failures.retain(|_, window| now.duration_since(window.began) < WINDOW);
            if failures.len() >= MOST_KEYS
                && let Some(oldest) = failures.iter().min_by_key(|(_, window)| window.began).map(|(key, _)| key.clone())
            {
                failures.remove(&oldest);
            }
        }
        for (key, _) in keys {
            let window = failures.entry(key).or_insert(Window { began: now, failures: 0 });
            if now.duration_since(window.began) >= WINDOW {
                *window = Window { began: now, failures: 0 };
            }
            window.failures += 1;
        }
        Ok(())
    }

    /// The attempt was good: the account begins anew, the address gets its attempt back.
    pub(crate) fn succeeded(&self, account: &str, address: IpAddr) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.remove(&Key::Account(account.to_owned()));
        if let Some(window) = failures.get_mut(&Key::Address(network(address))) {
            window.failures = window.failures.saturating_sub(1);
        }
    }
}

/// Launches that an account, and that everybody at one address together, may ask for within
/// [`LAUNCH_WINDOW`]. A whole institution may have one address.
const LAUNCHES: u32 = 240;
const LAUNCHES_PER_ADDRESS: u32 = 2400;
/// How long a launch counts.
const LAUNCH_WINDOW: Duration = Duration::from_secs(3600);

/// Launches of late.
#[derive(Default)]
pub(crate) struct LaunchLimits {
    launches: Mutex<HashMap<Asker, (Instant, u32)>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Asker {
    Account(UserId),
    Address(IpAddr),
}

impl LaunchLimits {
    /// Counts a launch for this account that somebody at this address asked for.
    ///
    /// # Errors
    /// There were too many within the hour; this one is not counted.
    pub(crate) fn count(&self, account: &UserId, address: Option<IpAddr>) -> Result<(), Problem> {
        self.count_at(account, address, Instant::now())
    }

    fn count_at(&self, account: &UserId, address: Option<IpAddr>, now: Instant) -> Result<(), Problem> {
        let mut launches = self.launches.lock().unwrap_or_else(PoisonError::into_inner);
        launches.retain(|_, (began, _)| now.duration_since(*began) < LAUNCH_WINDOW);
        let account = (Asker::Account(account.clone()), LAUNCHES, "by this account");
        // The machine's own address is everybody's behind a front or `ssh -L`.
        let address = address.filter(|one| !one.to_canonical().is_loopback());
        let address = address.map(|one| (Asker::Address(network(one)), LAUNCHES_PER_ADDRESS, "from this address"));
        let askers: Vec<_> = std::iter::once(account).chain(address).collect();
        for (asker, most, who) in &askers {
            if let Some((began, count)) = launches.get(asker)
                && count >= most
            {
                let wait = (LAUNCH_WINDOW - now.duration_since(*began)).as_secs().div_ceil(60);
                return Err(Problem::new(
                    ProblemKind::Exhausted,
                    format!("{most} launches were asked for {who} within an hour"),
                    format!("try again in {wait} minutes"),
                ));
            }
        }
        for (asker, ..) in askers {
            launches.entry(asker).or_insert((now, 0)).1 += 1;
        }
        Ok(())
    }
}

/// Who holds one IPv6 address holds its /64.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) if !v6.is_loopback() => IpAddr::V6((u128::from(v6) & !u128::from(u64::MAX)).into()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn an_account_is_closed_for_a_while_and_then_open_again() {
        let limits = SignInLimits::default();
        let now = Instant::now();
        for count in 0..PER_ACCOUNT {
            let from = address(&format!("192.0.2.{}", count + 1));
            assert!(limits.attempt_at("alice", from, now).is_ok());
        }
        assert!(limits.attempt_at("alice", address("192.0.2.200"), now).is_err());
        assert!(limits.attempt_at("bob", address("192.0.2.200"), now).is_ok());
        assert!(limits.attempt_at("alice", address("192.0.2.200"), now + WINDOW).is_ok());
    }

    #[test]
    fn an_address_is_one_for_a_whole_ipv6_network() {
        let limits = SignInLimits::default();
        let now = Instant::now();
        for count in 0..PER_ADDRESS {
            assert!(limits.attempt_at(&format!("u{count}"), address(&format!("2001:db8::{count:x}")), now).is_ok());
        }
        assert!(limits.attempt_at("other", address("2001:db8::ffff"), now).is_err());
        assert!(limits.attempt_at("other", address("2001:db8:0:1::1"), now).is_ok());
    }

    #[test]
    fn launches_are_counted_by_the_hour_and_account() {
        let limits = LaunchLimits::default();
        let now = Instant::now();
        let [alice, bob] = [1, 2].map(|number| UserId::from_random([number; 12]));
        let here = Some(address("192.0.2.1"));
        for _ in 0..LAUNCHES {
            limits.count_at(&alice, here, now).expect("within the limit");
        }
        let problem = limits.count_at(&alice, here, now).expect_err("refused");
        assert!(problem.remedy.contains("60 minutes"), "{}", problem.remedy);
        limits.count_at(&bob, here, now).expect("somebody else");
        limits.count_at(&alice, here, now + LAUNCH_WINDOW).expect("an hour later");
    }

    #[test]
    fn launches_are_counted_by_the_address_too() {
        let limits = LaunchLimits::default();
        let now = Instant::now();
        let account = |number: u32| UserId::from_random([number.to_be_bytes(); 3].concat().try_into().expect("twelve"));
        for number in 0..LAUNCHES_PER_ADDRESS {
            let from = address(&format!("2001:db8::{number:x}"));
            limits.count_at(&account(number), Some(from), now).expect("within the limit");
        }
        let problem = limits.count_at(&account(9999), Some(address("2001:db8::1:1")), now).expect_err("refused");
        assert!(problem.what.contains("from this address"), "{}", problem.what);
        limits.count_at(&account(9999), Some(address("2001:db8:0:1::1")), now).expect("another network");
        for nobodys in [None, Some(address("::1"))] {
            for number in 0..=LAUNCHES_PER_ADDRESS {
                limits.count_at(&account(10_000 + number), nobodys, now).expect("an address that says nothing");
            }
            limits.launches.lock().expect("unpoisoned").clear();
        }
    }

    #[test]
    fn success_gives_the_attempt_back() {
        let limits = SignInLimits::default();
        for _ in 0..PER_ADDRESS * 2 {
            assert!(limits.attempt("alice", address("192.0.2.1")).is_ok());
            limits.succeeded("alice", address("192.0.2.1"));
        }
    }
}
