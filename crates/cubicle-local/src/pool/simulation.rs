//! The policy against fixed numbers, over arrivals like those of a class, a night and a conference:
//! `cargo test -p cubicle-local simulation -- --nocapture` prints the table of docs/how-to/warm.md.

use std::collections::{BTreeMap, VecDeque};

use jiff::{SignedDuration, Timestamp};

use super::policy::{Budget, Demand, wanted};

/// Seconds that one member takes to build, one after the other.
const BUILD: i64 = 3;
/// Seconds after an arrival in which nothing is built.
const QUIET: i64 = 1;
/// Seconds that a launch without a member keeps the machine busy.
const COLD: i64 = 1;
/// Memory of a member that waits, in MiB.
const MEMBER: i64 = 90;
/// How often the policy looks, in seconds.
const LOOK: i64 = 60;

/// What holds members.
#[derive(Clone, Copy)]
enum Holder {
    Fixed(usize),
    Policy(usize),
}

/// A number generator that gives the same every time (Knuth, MMIX).
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: i64) -> i64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        i64::try_from(self.0 >> 33).expect("31 bits") % limit
    }

    /// So many arrivals within so many seconds from one on.
    fn spread(&mut self, from: i64, within: i64, count: usize) -> Vec<i64> {
        (0..count).map(|_| from + self.below(within)).collect()
    }
}

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

/// Name, all arrivals in seconds, and from when on they count.
fn traces() -> Vec<(&'static str, Vec<i64>, i64)> {
    let mut chance = Chance(1);
    let mut class = Vec::new();
    for week in 0..3 {
        class.extend(chance.spread(week * 7 * DAY + 9 * HOUR, 300, 200));
    }
    let mut night = Vec::new();
    for day in 0..8 {
        night.extend(chance.spread(day * DAY + 9 * HOUR, 8 * HOUR, 30));
        night.extend(chance.spread(day * DAY + 22 * HOUR, 8 * HOUR, 3));
    }
    let mut conference = Vec::new();
    for day in 0..2 {
        conference.extend(chance.spread(day * DAY + 9 * HOUR, 8 * HOUR, 160));
        for session in [9, 11, 14] {
            conference.extend(chance.spread(day * DAY + session * HOUR, 180, 30));
        }
    }
    vec![
        ("a class of 200 at 9:00, weekly", class, 7 * DAY),
        ("30 a day and a quiet night", night, 7 * DAY),
        ("a conference", conference, 0),
    ]
}

/// Launches that got a member, of how many, and MiB hours of members that waited.
fn run(arrivals: &[i64], from: i64, holder: Holder) -> (usize, usize, i64) {
    let start: Timestamp = "2026-01-05T00:00:00Z".parse().expect("a time");
    let time = |second: i64| start + SignedDuration::from_secs(second);
    let mut coming: VecDeque<i64> = {
        let mut sorted = arrivals.to_vec();
        sorted.sort_unstable();
        sorted.into()
    };
    let end = coming.back().copied().unwrap_or_default() + HOUR;
    let name: cubicle_core::name::TemplateName = "lab".parse().expect("a name");
    let (mut past, mut ready, mut target, mut built_at) = (Vec::new(), 0_usize, 0_usize, None);
    let (mut hits, mut all, mut idle, mut busy_until) = (0, 0, 0_i64, 0);
    for now in 0..end {
        while coming.front().is_some_and(|next| *next <= now) {
            coming.pop_front();
            past.push(time(now));
            let hit = ready > 0;
            ready -= usize::from(hit);
            busy_until = busy_until.max(now) + if hit { QUIET } else { COLD };
            if now >= from {
                all += 1;
                hits += usize::from(hit);
            }
        }
        if now % LOOK == 0 {
            target = match holder {
                Holder::Fixed(count) => count,
                Holder::Policy(members) => {
                    past.retain(|at| *at > time(now - 15 * DAY));
                    let demand = Demand { arrivals: past.clone(), ..Demand::default() };
                    wanted(time(now), &BTreeMap::from([(name.clone(), demand)]), Budget { members, bytes: u64::MAX })
                        [&name]
                        .count
                }
            };
            ready = ready.min(target);
        }
        if built_at.is_some_and(|at| at <= now) {
            ready += 1;
            built_at = None;
        }
        if built_at.is_none() && ready < target && now >= busy_until {
            built_at = Some(now + BUILD);
        }
        if now >= from {
            idle += i64::try_from(ready).expect("small") * MEMBER;
        }
    }
    (hits, all, idle / HOUR)
}

#[test]
fn simulation_of_the_policy_against_fixed_numbers() {
    let holders = [
        ("2, always", Holder::Fixed(2)),
        ("10, always", Holder::Fixed(10)),
        ("40, always", Holder::Fixed(40)),
        ("the policy, up to 10", Holder::Policy(10)),
        ("the policy, up to 40", Holder::Policy(40)),
    ];
    println!("| arrivals | held | got one | idle memory (GiB hours) |\n|---|---|---|---|");
    for (what, arrivals, from) in traces() {
        let results: Vec<_> = holders.iter().map(|(name, holder)| (name, run(&arrivals, from, *holder))).collect();
        for (name, (hits, all, idle)) in &results {
            println!("| {what} | {name} | {} % | {} |", hits * 100 / all, idle / 1024);
        }
        let (fixed, policy) = (results[2].1, results[4].1);
        assert!(policy.0 * 10 >= fixed.0 * 8, "{what}: the policy serves {} where 40 serve {}", policy.0, fixed.0);
        assert!(policy.2 * 2 <= fixed.2, "{what}: the policy keeps {} MiB hours, 40 keep {}", policy.2, fixed.2);
    }
}
