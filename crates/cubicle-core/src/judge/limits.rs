//! Limits: judged by the kernel's own counters of the workspace's cgroup, read from outside.
//!
//! Before user code the supervisor lowers the limits, and the probe runs into them for real.
//! Later proofs must not hurt, so they compare the limits in force. In both, the root cgroup
//! shows that the reader can tell a limit from none.

use jiff::Timestamp;

use super::attempt::{from, name};
use super::{Finding, observed, printable};
use crate::attempt::{Attempt, CgroupReading, Observation, Outcome, Phase, Proof};
use crate::plan::Situation;
use crate::report::{Evidence, Verdict};

/// The kernel counts memory in pages: a limit is rounded down to one.
const PAGE: u64 = 4096;

/// What is looked at for one limit.
struct Limit {
    /// In words.
    what: &'static str,
    /// The limit in a reading; none when unlimited.
    read: fn(&CgroupReading) -> Option<u64>,
    /// What it must be.
    wanted: u64,
    /// The counter that shows that the limit bit.
    bites: fn(&CgroupReading) -> u64,
    /// The counter that shows that the cgroup is the workspace's own and not an empty one.
    used: fn(&CgroupReading) -> u64,
}

fn limit(id: &str, situation: &Situation) -> Option<Limit> {
    let limits = &situation.limits;
    match id {
        "neighbour.cpu" => Some(Limit {
            what: "thousandths of a processor",
            read: |reading| reading.cpu_limit,
            wanted: limits.cpu.0,
            bites: |reading| reading.cpu_throttled,
            used: |reading| reading.cpu_usage_us,
        }),
        "neighbour.memory" => Some(Limit {
            what: "bytes of memory",
            read: |reading| reading.memory_limit.map(|bytes| bytes / PAGE * PAGE),
            wanted: limits.memory.0 / PAGE * PAGE,
            bites: |reading| reading.memory_kills,
            used: |reading| reading.memory_usage,
        }),
        "neighbour.processes" => Some(Limit {
            what: "processes",
            read: |reading| reading.pids_limit,
            wanted: u64::from(limits.pids),
            bites: |reading| reading.pids_denied,
            used: |reading| reading.pids,
        }),
        _ => None,
    }
}

/// The findings of a guarantee about limits; none when it is not about limits.
pub(super) fn findings(id: &str, situation: &Situation, proof: &Proof, expected: &[Attempt]) -> Option<Vec<Finding>> {
    if situation.cluster.is_some() {
        // In a cluster nobody reads counters from outside: what was tried speaks.
        return None;
    }
    if id == "neighbour.swap" {
        return Some(vec![swap(proof, expected)]);
    }
    let limit = limit(id, situation)?;
    let mut findings = vec![in_force(&limit, proof)];
    if proof.plan.phase == Phase::Gate {
        findings.extend(expected.iter().map(|attempt| hit(&limit, proof, attempt)));
    }
    Some(findings)
}

/// The limit in force is the promised one, in a cgroup that is in use.
fn in_force(limit: &Limit, proof: &Proof) -> Finding {
    let wanted = limit.wanted;
    let now = (limit.read)(&proof.cgroup_final);
    let reference = (limit.read)(&proof.cgroup_reference);
    let used = (limit.used)(&proof.cgroup_final).max((limit.used)(&proof.cgroup_after));
    let (verdict, reason) = match (now, reference) {
        (None, _) => (Verdict::Breached, format!("there is no limit of {}", limit.what)),
        (Some(now), _) if now > wanted => {
            (Verdict::Breached, format!("the limit is {now} instead of {wanted} {}", limit.what))
        }
        (Some(now), _) if now < wanted => {
            (Verdict::Unproven, format!("the limit is still {now} instead of {wanted} {}", limit.what))
        }
        (_, Some(reference)) => {
            (Verdict::Unproven, format!("the reader sees a limit of {reference} where there is none"))
        }
        _ if used == 0 => {
            (Verdict::Unproven, "the counters of that cgroup do not move: it is not the workspace's".to_owned())
        }
        _ => (Verdict::Held, String::new()),
    };
    let outcome = now.map_or("no limit".to_owned(), |now| format!("{now} {}, {used} used so far", limit.what));
    Finding { verdict, reason, evidence: Some(evidence("the limit in force", proof, reference, outcome)) }
}

/// The probe ran into the lowered limit, and the kernel counted it.
fn hit(limit: &Limit, proof: &Proof, attempt: &Attempt) -> Finding {
    let label = attempt.id.split_once('/').map_or(attempt.id.as_str(), |(_, label)| label);
    let unproven = |reason: String| Finding { verdict: Verdict::Unproven, reason, evidence: None };
    let (Some(before), Some(tenant), Some(after)) = (
        observed(&proof.control_before, attempt),
        observed(&proof.tenant, attempt),
        observed(&proof.control_after, attempt),
    ) else {
        return unproven(format!("{label}: an observation is missing, or there is more than one"));
    };
    let bitten = (limit.bites)(&proof.cgroup_after).saturating_sub((limit.bites)(&proof.cgroup_before));
    let said = |one: &Observation| format!("{}: {}", name(one.outcome), printable(&one.detail));
    let (verdict, reason) = match (tenant.outcome, before.outcome, after.outcome) {
        (Outcome::Succeeded, _, _) => (Verdict::Breached, format!("{label} worked: {}", printable(&tenant.detail))),
        (Outcome::Denied, Outcome::Succeeded, Outcome::Succeeded) if bitten > 0 => (Verdict::Held, String::new()),
        (Outcome::Denied, Outcome::Succeeded, Outcome::Succeeded) => {
            (Verdict::Unproven, format!("{label} was stopped, but the kernel did not count that its limit stopped it"))
        }
        (Outcome::Denied, _, _) => (
            Verdict::Unproven,
            format!(
                "{label}: without the limit it did not work either; before {}; after {}",
                said(before),
                said(after)
            ),
        ),
        _ => (Verdict::Unproven, format!("{label} could not be tried: {}", printable(&tenant.detail))),
    };
    let evidence = Evidence {
        attempt: label.to_owned(),
        from: from(proof.plan.phase).to_owned(),
        control: "the same load by root outside every limit".to_owned(),
        control_outcome: format!("before {}; after {}", said(before), said(after)),
        outcome: format!("{}; the kernel counted {bitten}", said(tenant)),
        at: tenant.at,
        duration_us: tenant.duration_us,
    };
    Finding { verdict, reason, evidence: Some(evidence) }
}

/// Swap on top of memory is none, or the machine has no swap at all.
fn swap(proof: &Proof, expected: &[Attempt]) -> Finding {
    let machine: Vec<Option<Outcome>> = [&proof.control_before, &proof.control_after]
        .into_iter()
        .flat_map(|run| expected.iter().map(move |attempt| observed(run, attempt).map(|one| one.outcome)))
        .collect();
    let no_swap = !machine.is_empty() && machine.iter().all(|outcome| *outcome == Some(Outcome::Missing));
    let reference = proof.cgroup_reference.swap_limit;
    let now = proof.cgroup_final.swap_limit;
    let (verdict, reason) = match (now, reference) {
        (Some(0), None) => (Verdict::Held, String::new()),
        (Some(0), Some(reference)) => {
            (Verdict::Unproven, format!("the reader sees a limit of {reference} where there is none"))
        }
        (None, _) if no_swap => (Verdict::Absent, "the machine has no swap space".to_owned()),
        (None, _) => (Verdict::Breached, "there is no limit of swap".to_owned()),
        (Some(bytes), _) => (Verdict::Breached, format!("{bytes} bytes of swap on top of memory")),
    };
    let outcome = now.map_or("no limit".to_owned(), |bytes| format!("{bytes} bytes on top of memory"));
    Finding { verdict, reason, evidence: Some(evidence("the swap limit in force", proof, reference, outcome)) }
}

fn evidence(attempt: &str, proof: &Proof, reference: Option<u64>, outcome: String) -> Evidence {
    let at = proof.tenant.observations.iter().map(|one| one.at).max().unwrap_or(Timestamp::UNIX_EPOCH);
    Evidence {
        attempt: attempt.to_owned(),
        from: "the machine: the kernel's counters of the workspace's cgroup".to_owned(),
        control: "the same reader looks at the root cgroup, which has no limit".to_owned(),
        control_outcome: reference.map_or("no limit".to_owned(), |limit| format!("a limit of {limit}")),
        outcome,
        at,
        duration_us: 0,
    }
}
