//! How many sandboxes of each template are worth holding: as many as will be asked for before new ones could
//! be ready, judged by the last hour, by the same time of other days, and by what was announced.

use std::collections::BTreeMap;

use cubicle_core::name::TemplateName;
use jiff::{SignedDuration, Timestamp};

/// What lies ahead and is prepared for. Long enough to build a few members one after the other.
const AHEAD: SignedDuration = SignedDuration::from_mins(10);
/// How far back bursts count.
const RECENT: SignedDuration = SignedDuration::from_hours(1);
/// How far back any launch makes one member worth its memory.
const KEPT: SignedDuration = SignedDuration::from_hours(24);
/// How long arrivals are remembered: two weeks and a little.
pub(crate) const REMEMBERED: SignedDuration = SignedDuration::from_hours(15 * 24);

/// What is known of one template.
#[derive(Debug, Clone, Default)]
pub(crate) struct Demand {
    /// When it was launched, in any order.
    pub(crate) arrivals: Vec<Timestamp>,
    /// Launches that were announced: when, and how many.
    pub(crate) announced: Vec<(Timestamp, usize)>,
    /// Bytes that one member uses.
    pub(crate) bytes_each: u64,
}

/// What is wanted of one template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) count: usize,
    pub(crate) reason: String,
}

/// What all members together may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    pub(crate) members: usize,
    pub(crate) bytes: u64,
}

/// How many of each template to hold now.
pub(crate) fn wanted(
    now: Timestamp,
    demands: &BTreeMap<TemplateName, Demand>,
    budget: Budget,
) -> BTreeMap<TemplateName, Wanted> {
    let mut asked: Vec<(&TemplateName, &Demand, Wanted)> =
        demands.iter().map(|(name, demand)| (name, demand, expected(now, demand))).collect();
    // Who needs most comes first; names decide between equals, so that the answer is always the same.
    asked.sort_by(|one, other| other.2.count.cmp(&one.2.count).then_with(|| one.0.cmp(other.0)));
    let mut given: BTreeMap<&TemplateName, usize> = BTreeMap::new();
    let (mut members, mut bytes) = (budget.members, budget.bytes);
    // One each in turn: a large class does not leave the others with nothing.
    loop {
        let before = members;
        for (name, demand, wanted) in &asked {
            let has = given.entry(*name).or_default();
            if *has < wanted.count && members > 0 && demand.bytes_each <= bytes {
                *has += 1;
                members -= 1;
                bytes -= demand.bytes_each;
            }
        }
        if members == before {
            break;
        }
    }
    asked
        .into_iter()
        .map(|(name, _, wanted)| {
            let count = given.get(name).copied().unwrap_or_default();
            let short = match wanted.count - count {
                0 => String::new(),
                _ if members == 0 => format!("; {} would be useful, the site allows fewer", wanted.count),
                _ => format!("; {} would be useful, memory allows fewer", wanted.count),
            };
            (name.clone(), Wanted { count, reason: format!("{}{short}", wanted.reason) })
        })
        .collect()
}

fn expected(now: Timestamp, demand: &Demand) -> Wanted {
    let within = |from: Timestamp, to: Timestamp| {
        demand.arrivals.iter().filter(|arrival| from < **arrival && **arrival <= to).count()
    };
    let back = |duration: SignedDuration| now.checked_sub(duration).unwrap_or(Timestamp::MIN);
    let ahead_of = |duration: SignedDuration| {
        let start = back(duration);
        within(start, start.checked_add(AHEAD).unwrap_or(Timestamp::MAX))
    };
    let burst = demand
        .arrivals
        .iter()
        .filter(|arrival| back(RECENT) < **arrival && **arrival <= now)
        .map(|arrival| within(arrival.checked_sub(AHEAD).unwrap_or(Timestamp::MIN), *arrival))
        .max()
        .unwrap_or_default();
    let last_week = ahead_of(SignedDuration::from_hours(7 * 24));
    let of_days: usize = (1..=7).map(|day| ahead_of(SignedDuration::from_hours(day * 24))).sum();
    let announced: usize = demand
        .announced
        .iter()
        .filter(|(at, _)| back(AHEAD) < *at && *at <= now.checked_add(AHEAD).unwrap_or(Timestamp::MAX))
        .map(|(at, count)| count.saturating_sub(if *at <= now { within(*at, now) } else { 0 }))
        .sum();
    let kept = usize::from(demand.arrivals.is_empty() || within(back(KEPT), now) > 0);
    let candidates = [
        (announced, format!("{announced} announced for the next 10 minutes")),
        (last_week, format!("{last_week} came in these 10 minutes a week ago")),
        (of_days.div_ceil(7), format!("{of_days} came in these 10 minutes of the last seven days")),
        (burst, format!("{burst} came within 10 minutes of the last hour")),
        (
            kept,
            if demand.arrivals.is_empty() { "nothing is known yet" } else { "somebody came in the last day" }
                .to_owned(),
        ),
    ];
    let best = candidates.into_iter().reduce(|best, next| if next.0 > best.0 { next } else { best });
    match best {
        Some((count, reason)) if count > 0 => Wanted { count, reason },
        _ => Wanted { count: 0, reason: "nobody came in the last day".to_owned() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> TemplateName {
        text.parse().expect("a name")
    }

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    fn many(text: &str, count: usize) -> Vec<Timestamp> {
        (0..count).map(|number| at(text) + SignedDuration::from_secs(i64::try_from(number).expect("small"))).collect()
    }

    fn one(now: &str, demand: Demand, members: usize) -> Wanted {
        let demands = BTreeMap::from([(name("lab"), demand)]);
        wanted(at(now), &demands, Budget { members, bytes: u64::MAX }).remove(&name("lab")).expect("an answer")
    }

    #[test]
    fn a_class_is_prepared_for_a_week_later_and_not_before() {
        let arrivals = many("2026-11-19T09:00:30Z", 20);
        let demand = |_: ()| Demand { arrivals: arrivals.clone(), ..Demand::default() };
        assert_eq!(one("2026-11-26T08:55:00Z", demand(()), 10).count, 10);
        assert_eq!(one("2026-11-26T08:55:00Z", demand(()), 50).count, 20);
        assert_eq!(one("2026-11-26T08:40:00Z", demand(()), 50).count, 0, "more than ten minutes before");
        assert_eq!(one("2026-11-26T09:10:00Z", demand(()), 50).count, 0, "nobody came");
        assert!(one("2026-11-26T08:55:00Z", demand(()), 10).reason.contains("the site allows fewer"));
    }

    #[test]
    fn what_is_announced_is_held_until_it_has_come() {
        let announced = vec![(at("2026-11-26T09:00:00Z"), 8)];
        let old = many("2026-11-01T09:00:00Z", 1);
        let before = Demand { arrivals: old.clone(), announced: announced.clone(), ..Demand::default() };
        assert_eq!(one("2026-11-26T08:45:00Z", before.clone(), 50).count, 0);
        assert_eq!(one("2026-11-26T08:55:00Z", before.clone(), 50).count, 8);
        let mut arrivals = old;
        arrivals.extend(many("2026-11-26T09:00:10Z", 5));
        let half = Demand { arrivals, ..before.clone() };
        assert_eq!(one("2026-11-26T09:01:00Z", half, 50).count, 5, "three more are announced, five came in a burst");
        assert_eq!(one("2026-11-26T09:11:00Z", before, 50).count, 0, "and no longer than that");
    }

    #[test]
    fn a_quiet_night_holds_one_for_a_day_and_then_none() {
        let demand = Demand { arrivals: many("2026-11-25T12:00:00Z", 1), ..Demand::default() };
        assert_eq!(one("2026-11-26T03:00:00Z", demand.clone(), 10).count, 1);
        assert_eq!(one("2026-11-26T12:30:00Z", demand, 10).count, 0);
        assert_eq!(one("2026-11-26T12:30:00Z", Demand::default(), 10).count, 1, "a new site");
    }

    #[test]
    fn budgets_bind_and_nobody_is_left_with_nothing() {
        let class = Demand { arrivals: many("2026-11-26T08:59:00Z", 30), bytes_each: 100, ..Demand::default() };
        let quiet = Demand { arrivals: many("2026-11-26T08:00:30Z", 1), bytes_each: 100, ..Demand::default() };
        let demands = BTreeMap::from([(name("class"), class), (name("quiet"), quiet)]);
        let now = at("2026-11-26T09:00:00Z");
        let wanted_of = |budget| {
            let all = wanted(now, &demands, budget);
            (all[&name("class")].count, all[&name("quiet")].count)
        };
        assert_eq!(wanted_of(Budget { members: 10, bytes: u64::MAX }), (9, 1));
        assert_eq!(wanted_of(Budget { members: 50, bytes: 1000 }), (9, 1));
        assert_eq!(wanted_of(Budget { members: 50, bytes: 99 }), (0, 0));
        assert_eq!(wanted_of(Budget { members: 0, bytes: u64::MAX }), (0, 0));
    }
}
