//! Warm sandboxes: built, walled and proven before anybody asks for them, and each given to one user once.
//!
//! A member has an identifier, a range of ids and a token of its own from the start, and its notebook server
//! is ready but has no home and answers nobody. Whoever claims it gets their home mounted into it; what
//! depends on the home is then proven as at any launch. Members live in the memory of this process only:
//! when it ends, their helpers notice and end them.

mod announced;
mod keep;
pub(crate) mod policy;
#[cfg(test)]
mod simulation;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use cubicle_core::attempt::{ProbePlan, Proof};
use cubicle_core::name::{TemplateName, WorkspaceId};
use cubicle_core::plan::Situation;
use cubicle_core::problem::Problem;
use cubicle_core::report::GuaranteeReport;
use cubicle_core::template::Template;
use cubicle_metrics::pool::{self as pool_metrics, Claim};
use cubicle_sandbox::client::{self, Held};
use cubicle_sandbox::protocol::HomeSpec;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;

use crate::images::ImageSummary;
use crate::store::Private;
use crate::supervisor::{Slot, Supervisor, locked};

pub(crate) use keep::keep;

/// One sandbox that waits for a user.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) id: WorkspaceId,
    pub(crate) private: Private,
    /// The host's pid of its first process.
    pub(crate) pid: u32,
    /// Its range of ids, until a workspace has it.
    #[expect(dead_code, reason = "it is taken for as long as it is here")]
    slot: Slot,
    /// What it was proven for.
    situation: Situation,
    /// What its gate's proof showed.
    guarantees: Vec<GuaranteeReport>,
    /// When that proof began, on both clocks: one can be set, the other stands still while the machine sleeps.
    proven: (Instant, Timestamp),
    /// Keeps it alive until it is claimed.
    #[expect(dead_code, reason = "it is held for as long as this is here")]
    held: Held,
}

/// What is held and why, for people.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct PoolState {
    /// How many members the site allows; none of them is held when this is 0.
    pub members: usize,
    /// How old evidence may be, in seconds.
    pub max_age_seconds: u64,
    /// Every template of this machine.
    pub templates: BTreeMap<TemplateName, PoolTemplate>,
}

/// What is held of one template.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct PoolTemplate {
    /// How many are wanted.
    pub wanted: usize,
    /// How many are ready.
    pub ready: usize,
    /// Why so many.
    pub reason: String,
    /// Since when each has been proven, in seconds.
    pub ages_seconds: Vec<u64>,
    /// Launches since this process started that got one.
    pub claimed: u64,
    /// Launches since this process started that found none.
    pub missed: u64,
}

/// All members, and what is known for holding the right number.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    members: Mutex<Vec<Member>>,
    counts: Mutex<BTreeMap<TemplateName, (u64, u64)>>,
    wanted: Mutex<BTreeMap<TemplateName, policy::Wanted>>,
    /// Somebody took one, or something changed that decides how many there shall be.
    changed: Notify,
}

impl Member {
    /// How long ago its proof began; the longer of what two clocks say.
    pub(crate) fn age(&self) -> Duration {
        let (instant, timestamp) = self.proven;
        age(instant.elapsed(), Timestamp::now().duration_since(timestamp))
    }

    /// Whether it is what a launch of this template would build now, with evidence that is not too old.
    fn serves(&self, template: &Template, image: &ImageSummary, situation: &Situation, max_age: Duration) -> bool {
        self.private.template == *template
            && self.private.image == image.digest
            && self.situation == *situation
            && self.age() <= max_age
    }

    /// Takes it for a user: nobody else can have it from now on. What will prove `plan` starts meanwhile.
    pub(crate) async fn claim(self, supervisor: &Supervisor, plan: ProbePlan) -> Result<Claimed, Problem> {
        let claim = client::claim(&supervisor.layout.workspace(&self.id), plan).await?;
        Ok(Claimed { claim, guarantees: self.guarantees })
    }
}

/// The longer of what two clocks say.
fn age(steady: Duration, wall: SignedDuration) -> Duration {
    // A clock that was set back says nothing about age, so that nothing is young by it.
    let wall = if wall.is_negative() { Duration::MAX } else { wall.unsigned_abs() };
    wall.max(steady)
}

/// A member that a user has.
pub(crate) struct Claimed {
    claim: client::Claim,
    guarantees: Vec<GuaranteeReport>,
}

impl Claimed {
    /// Mounts the user's home and proves what that changes. Answers that proof, and what was proven before.
    pub(crate) async fn mount(self, home: &HomeSpec) -> Result<(Box<Proof>, Vec<GuaranteeReport>), Problem> {
        Ok((self.claim.mount(home).await?, self.guarantees))
    }
}

impl Pool {
    /// Takes a member that a launch of this template can use, the oldest first.
    pub(crate) fn take(
        &self,
        supervisor: &Supervisor,
        template: &Template,
        image: &ImageSummary,
        max_age: Duration,
    ) -> Option<Member> {
        let name = &template.metadata.name;
        let mut members = locked(&self.members);
        let found = members
            .iter()
            .position(|member| member.serves(template, image, &supervisor.situation(&member.private), max_age));
        let member = found.map(|position| members.remove(position));
        drop(members);
        let mut counts = locked(&self.counts);
        let (claimed, missed) = counts.entry(name.clone()).or_default();
        *(if member.is_some() { claimed } else { missed }) += 1;
        drop(counts);
        pool_metrics::asked(if member.is_some() { Claim::Got } else { Claim::Missed });
        self.changed.notify_one();
        member
    }

    /// Something changed that the pool has to follow.
    pub(crate) fn look_again(&self) {
        self.changed.notify_one();
    }

    /// How many members there are.
    pub(crate) fn count(&self) -> usize {
        locked(&self.members).len()
    }

    fn ids(&self) -> Vec<WorkspaceId> {
        locked(&self.members).iter().map(|member| member.id.clone()).collect()
    }

    fn ready(&self, template: &TemplateName) -> usize {
        self.ages(template).len()
    }

    /// How old the proof of each member of a template is, in seconds.
    fn ages(&self, template: &TemplateName) -> Vec<u64> {
        let members = locked(&self.members);
        let of = members.iter().filter(|member| member.private.template.metadata.name == *template);
        of.map(|member| member.age().as_secs()).collect()
    }

    /// Bytes that all members use, by what was measured of each template.
    fn held_bytes(&self, measured: &BTreeMap<TemplateName, u64>) -> u64 {
        let members = locked(&self.members);
        members.iter().filter_map(|member| measured.get(&member.private.template.metadata.name)).sum()
    }

    /// Takes a member out for good if `unwanted` says so of it and of how many of its template there are.
    fn remove(&self, id: &WorkspaceId, unwanted: impl FnOnce(&Member, usize) -> bool) -> Option<Member> {
        let mut members = locked(&self.members);
        let position = members.iter().position(|member| member.id == *id)?;
        let member = &members[position];
        let name = &member.private.template.metadata.name;
        let same = members.iter().filter(|other| other.private.template.metadata.name == *name).count();
        unwanted(member, same).then(|| members.remove(position))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_jumps_makes_nothing_younger() {
        let hour = Duration::from_secs(3600);
        assert_eq!(age(hour, SignedDuration::from_hours(1)), hour);
        assert_eq!(age(hour, SignedDuration::from_hours(9)), 9 * hour, "the machine slept, or its clock was set on");
        assert_eq!(age(9 * hour, SignedDuration::from_hours(1)), 9 * hour, "its clock was set back by less");
        assert_eq!(age(hour, SignedDuration::from_hours(-1)), Duration::MAX, "set back to before the proof");
    }
}
