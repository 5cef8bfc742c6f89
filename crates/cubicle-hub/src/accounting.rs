//! Who used how much, by day, and what that costs.
//!
//! What counts is what the limits of a running workspace set aside, as the machine had to keep it
//! ready; beside it stands the processor time that was really used, where the engine counts it.
//! Storage counts by the home's hard limit. Samples are a minute apart; of several hubs one takes
//! each of them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use cubicle_core::engine::Volume;
use cubicle_core::name::{UserId, WorkspaceId};
use cubicle_core::problem::{Problem, ProblemKind};
use cubicle_core::template::Template;
use cubicle_core::workspace::{State, Workspace};
use jiff::civil::Date;
use jiff::tz::Offset;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::hub::Hub;

/// How far samples are apart.
pub(crate) const PACE: Duration = Duration::from_secs(60);
/// The longest time that one sample may stand for: nobody pays for an hour in which the machine
/// was off.
const LONGEST: SignedDuration = SignedDuration::from_mins(10);
/// Sizes are counted in MiB.
const MIB: u64 = 1 << 20;

/// What somebody used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Used {
    /// Seconds times workspaces that ran.
    pub(crate) seconds: u64,
    /// Thousandths of a CPU set aside, times seconds.
    pub(crate) cpu: u64,
    /// Processor time really used, in microseconds.
    pub(crate) used_cpu: u64,
    /// Memory set aside, in MiB times seconds.
    pub(crate) memory: u64,
    /// Storage set aside, in MiB times seconds.
    pub(crate) storage: u64,
}

impl Used {
    /// Adds another amount.
    pub(crate) fn add(&mut self, other: &Self) {
        self.seconds = self.seconds.saturating_add(other.seconds);
        self.cpu = self.cpu.saturating_add(other.cpu);
        self.used_cpu = self.used_cpu.saturating_add(other.used_cpu);
        self.memory = self.memory.saturating_add(other.memory);
        self.storage = self.storage.saturating_add(other.storage);
    }

    /// Workspaces times hours.
    pub(crate) fn hours(&self) -> f64 {
        hours(self.seconds)
    }

    /// CPUs times hours.
    pub(crate) fn cpu_hours(&self) -> f64 {
        hours(self.cpu) / 1000.0
    }

    /// Hours of processor time that were really used.
    pub(crate) fn used_cpu_hours(&self) -> f64 {
        hours(self.used_cpu) / 1e6
    }

    /// GiB of memory times hours.
    pub(crate) fn memory_hours(&self) -> f64 {
        hours(self.memory) / 1024.0
    }

    /// GiB of storage times hours.
    pub(crate) fn storage_hours(&self) -> f64 {
        hours(self.storage) / 1024.0
    }
}

/// Precise to well below a second up to 285 thousand years.
#[expect(clippy::cast_precision_loss, reason = "counts below 2^53 are exact")]
fn hours(seconds: u64) -> f64 {
    seconds as f64 / 3600.0
}

/// What an hour costs, in the site's currency.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Prices {
    /// What amounts are followed by, for example `EUR`.
    pub currency: String,
    /// One CPU for an hour.
    pub cpu_hour: f64,
    /// One GiB of memory for an hour.
    pub memory_hour: f64,
    /// One GiB of storage for an hour.
    pub storage_hour: f64,
}

impl Prices {
    /// What this costs; none when the site names no prices.
    pub(crate) fn cost(&self, used: &Used) -> Option<f64> {
        (!self.currency.is_empty()).then(|| {
            used.cpu_hours() * self.cpu_hour
                + used.memory_hours() * self.memory_hour
                + used.storage_hours() * self.storage_hour
        })
    }
}

/// The day of a time, in UTC.
pub(crate) fn day(at: Timestamp) -> Date {
    Offset::UTC.to_datetime(at).date()
}

/// The counters of processor time as they were at the last sample.
type Counters = HashMap<WorkspaceId, u64>;

/// What each account used between two samples.
fn between(
    since: Timestamp,
    now: Timestamp,
    workspaces: &[(Workspace, Option<u64>)],
    templates: &[Template],
    volumes: &[Volume],
    counters: &Counters,
) -> HashMap<UserId, Used> {
    let since = since.max(now.saturating_sub(LONGEST).unwrap_or(now));
    let passed = |from: Timestamp| u64::try_from(now.duration_since(from.max(since)).as_secs()).unwrap_or(0);
    let mut all: HashMap<UserId, Used> = HashMap::new();
    for (workspace, counter) in workspaces.iter().filter(|(workspace, _)| workspace.state == State::Running) {
        let seconds = passed(workspace.opened_at.unwrap_or(since));
        let template = templates.iter().find(|known| known.metadata.name == workspace.template);
        let (cpu, memory) =
            template.map_or((0, 0), |known| (known.spec.resources.cpu.0, known.spec.resources.memory.0.div_ceil(MIB)));
        let used_cpu = match (counter, counters.get(&workspace.id)) {
            // A smaller value is a counter that began anew.
            (Some(counter), Some(last)) => counter.checked_sub(*last).unwrap_or(*counter),
            (Some(counter), None) if workspace.opened_at.is_some_and(|opened| opened > since) => *counter,
            _ => 0,
        };
        all.entry(workspace.owner.id.clone()).or_default().add(&Used {
            seconds,
            cpu: cpu.saturating_mul(seconds),
            used_cpu,
            memory: memory.saturating_mul(seconds),
            storage: 0,
        });
    }
    for volume in volumes {
        let size = volume.limit.unwrap_or(volume.used).div_ceil(MIB);
        let storage = size.saturating_mul(passed(volume.created_at));
        all.entry(volume.owner.id.clone()).or_default().add(&Used { storage, ..Used::default() });
    }
    all.retain(|_, used| *used != Used::default());
    all
}

impl Hub {
    /// Takes samples, for ever.
    pub(crate) async fn account_usage(self: Arc<Self>) {
        let mut interval = tokio::time::interval(self.timing.accounting);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut counters = Counters::new();
        loop {
            interval.tick().await;
            if let Err(problem) = self.sample(&mut counters).await {
                tracing::warn!(%problem, "this sample of what people use is missing");
            }
        }
    }

    async fn sample(&self, counters: &mut Counters) -> Result<(), Problem> {
        use futures::StreamExt as _;
        // Whole seconds, so that no sample loses the rest of one.
        let now = Timestamp::now();
        let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
        let (workspaces, templates) = tokio::try_join!(self.engine.workspaces(), self.engine.templates())?;
        let volumes = match self.engine.volumes().await {
            Err(problem) if problem.kind == ProblemKind::NotAllowed => crate::launching::homes(&workspaces, &templates),
            other => other?,
        };
        let least = (self.timing.accounting / 2).max(Duration::from_secs(1));
        // Only whoever gets the time since the last sample counts it.
        let Some(since) = self.store.claim_usage(now, least).await? else { return Ok(()) };
        let running = workspaces.into_iter().filter(|workspace| workspace.state == State::Running);
        let counted: Vec<(Workspace, Option<u64>)> = futures::stream::iter(running)
            .map(|workspace| async move {
                let counter = self.engine.usage(&workspace.id).await.ok().map(|usage| usage.cpu_us);
                (workspace, counter)
            })
            .buffer_unordered(8)
            .collect()
            .await;
        let all = between(since, now, &counted, &templates, &volumes, counters);
        *counters = counted.into_iter().filter_map(|(workspace, counter)| Some((workspace.id, counter?))).collect();
        self.store.add_usage(day(now), all.into_iter().collect()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caps::tests::{account, template, volume, workspace};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + seconds).expect("a time")
    }

    #[test]
    fn what_limits_set_aside_counts_by_the_second() {
        let (alice, bob) = (account("alice", &[]), account("bob", &[]));
        let mut young = workspace(&alice, State::Running);
        young.opened_at = Some(at(30));
        let mut old = workspace(&bob, State::Running);
        old.opened_at = Some(at(-5000));
        let stopped = workspace(&alice, State::Stopped);
        let workspaces = [(young, Some(7)), (old, None), (stopped, Some(1_000_000))];
        let all = between(at(0), at(60), &workspaces, &[template()], &[volume(&alice)], &Counters::new());
        let expected = Used { seconds: 30, cpu: 15_000, used_cpu: 7, memory: 30 * 1024, storage: 60 * 2048 };
        assert_eq!(all[&alice.id], expected);
        assert_eq!(all[&bob.id], Used { seconds: 60, cpu: 30_000, memory: 60 * 1024, ..Used::default() });
    }

    #[test]
    fn a_long_gap_is_not_charged() {
        let alice = account("alice", &[]);
        let mut one = workspace(&alice, State::Running);
        one.opened_at = Some(at(-900_000));
        let all = between(at(-800_000), at(0), &[(one, None)], &[template()], &[], &Counters::new());
        assert_eq!(all[&alice.id].seconds, 600);
    }

    #[test]
    fn processor_time_is_what_the_counter_grew_by() {
        let alice = account("alice", &[]);
        let mut one = workspace(&alice, State::Running);
        one.opened_at = Some(at(-100));
        let id = one.id.clone();
        let ask = |counter, last: &[u64]| {
            let counters: Counters = last.iter().map(|last| (id.clone(), *last)).collect();
            let all = between(at(0), at(60), &[(one.clone(), counter)], &[template()], &[], &counters);
            all[&alice.id].used_cpu
        };
        assert_eq!(ask(Some(150), &[100]), 50);
        assert_eq!(ask(Some(20), &[100]), 20);
        // Seen for the first time: what it used before was counted by another hub.
        assert_eq!(ask(Some(150), &[]), 0);
        assert_eq!(ask(None, &[100]), 0);
    }

    #[test]
    fn without_prices_nothing_has_a_cost() {
        let used = Used { cpu: 3_600_000, memory: 2 * 1024 * 3600, storage: 0, ..Used::default() };
        assert_eq!(Prices::default().cost(&used), None);
        let prices = Prices { currency: "EUR".to_owned(), cpu_hour: 0.5, memory_hour: 0.25, storage_hour: 9.0 };
        assert!((prices.cost(&used).expect("a cost") - 1.0).abs() < 1e-9);
    }
}
