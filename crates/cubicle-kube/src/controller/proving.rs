//! Proving on one node: what stands around, the control ahead of the gate, and as many tries as it takes.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use cubicle_core::attempt::Phase;
use cubicle_core::level::EngineKind;
use cubicle_core::plan::{Cluster, EgressDoor, Limits, Situation};
use cubicle_core::problem::Problem;
use cubicle_core::report::{GuaranteeReport, Verdict};
use cubicle_core::template::Template as Document;
use cubicle_traces::Observed;

use super::open::secret;
use super::reconcile::Error;
use super::{Context, egress};
use crate::door::Door;
use crate::objects::Request;
use crate::prove::{Controlled, Gate, control, prove};
use crate::surroundings::Surroundings;

/// How often a proof is tried.
const TRIES: u32 = 3;
/// The longest that a dial gets, in milliseconds.
const LONGEST_DEADLINE_MS: u64 = 5000;
/// How old the control before may be when the tenant tries.
const FRESH: Duration = Duration::from_secs(2);

/// The control before a proof, asked while the pod was on its way: its node was known, and what stands
/// around it did not wait for it.
pub(super) struct Ahead {
    /// The proof's: made here, and known to nobody else yet.
    pub(super) nonce: String,
    proving: Proving,
    before: Controlled,
    asked: Instant,
}

impl Ahead {
    /// The control, when it is of now and of what stands around now.
    fn fits(self, now: &Proving) -> Option<Controlled> {
        self.proving.stands_for(now, self.asked.elapsed()).then_some(self.before)
    }
}

/// How long it is remembered that a launch was asked ahead for: longer than a pod may take to start.
const REMEMBERED: Duration = Duration::from_secs(600);

/// When a launch was asked ahead for, and what came of it.
struct Asked {
    at: Instant,
    ahead: Option<Ahead>,
}

/// What was asked ahead, by the workspace's uid and its launch.
#[derive(Default)]
pub(super) struct AheadOfGates(Mutex<HashMap<(String, i64), Asked>>);

impl AheadOfGates {
    /// Asks once for a launch. A failure says nothing: the proof asks again.
    pub(super) async fn ask(&self, context: &Context, request: &Request<'_>, node: &str) {
        let key = (request.uid.to_owned(), request.launch);
        {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            // What nobody came for: its launch ended otherwise.
            all.retain(|_, asked| asked.at.elapsed() < REMEMBERED);
            if all.contains_key(&key) {
                return;
            }
            all.insert(key.clone(), Asked { at: Instant::now(), ahead: None });
        }
        let nonce = secret();
        let asked = async {
            let egress = egress::door(context, request, &nonce).await?;
            let proving = Proving::read(context, request, node, egress).await?;
            let asked = Instant::now();
            let before = proving.control(context, &nonce, 0).await.map_err(Error::Problem)?;
            Ok::<_, Error>(Ahead { nonce, proving, before, asked })
        };
        match asked.await {
            Ok(ahead) => {
                let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                // Not when the proof went on without it.
                all.entry(key).and_modify(|asked| asked.ahead = Some(ahead));
            }
            Err(error) => tracing::debug!(%error, "there is no control ahead of the gate"),
        }
    }

    /// Takes it, once.
    pub(super) fn take(&self, request: &Request<'_>) -> Option<Ahead> {
        let key = (request.uid.to_owned(), request.launch);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&key)?.ahead
    }
}

/// Proves through a gate on this node. When nothing can be said it is tried anew with more patience: the
/// machine may be busy, or what stands around the workspace changes, a hub's pod that goes for instance.
pub(super) async fn try_walls(
    context: &Context,
    request: &Request<'_>,
    gate: Gate<'_>,
    mut found: Proving,
    (nonce, mut ahead): (&str, Option<Ahead>),
) -> Result<(Vec<GuaranteeReport>, Observed, Door), Error> {
    let key = context.gate_key.signing();
    let (mut tries, mut deadline_ms) = (0, 0);
    loop {
        tries += 1;
        let proof = async {
            let before = match ahead.take().and_then(|ahead| ahead.fits(&found)) {
                Some(before) => before,
                None => found.control(context, nonce, deadline_ms).await?,
            };
            prove(gate, found.reference, key, &found.situation, before, deadline_ms).await
        };
        match proof.await {
            Ok(proven) if tries < TRIES && is_undecided(&proven.guarantees) => {
                deadline_ms = proven.deadline_ms.saturating_mul(2).min(LONGEST_DEADLINE_MS);
                found = found.again(context, request).await?;
            }
            Ok(proven) => return Ok((proven.guarantees, proven.observed, proven.door)),
            Err(problem) if tries == TRIES => return Err(Error::Problem(problem)),
            // A reference went away meanwhile, for instance.
            Err(problem) => match found.again(context, request).await? {
                now if now == found => return Err(Error::Problem(problem)),
                now => found = now,
            },
        }
    }
}

/// Whether nothing is known to be wrong, and not everything is known.
fn is_undecided(guarantees: &[GuaranteeReport]) -> bool {
    let any = |verdict| guarantees.iter().any(|one| one.verdict == verdict);
    any(Verdict::Unproven) && !any(Verdict::Breached)
}

/// What a proof on one node needs.
#[derive(PartialEq)]
pub(super) struct Proving {
    node: String,
    reference: SocketAddr,
    situation: Situation,
}

impl Proving {
    /// Reads what stands around now.
    pub(super) async fn read(
        context: &Context,
        request: &Request<'_>,
        node: &str,
        egress: Option<EgressDoor>,
    ) -> Result<Self, Error> {
        let surroundings = Surroundings::read(&context.client, &context.settings).await?;
        let reference = surroundings.reference(node).ok_or_else(|| {
            Error::Problem(Problem::engine(
                format!("node {node} has no reference pod"),
                "install the chart's reference on every node",
            ))
        })?;
        let boot_id = surroundings.boot_id(node).unwrap_or_default();
        let cluster = Cluster { egress, ..surroundings.cluster(node, request.window.to_vec()) };
        let node = node.to_owned();
        Ok(Self {
            node,
            reference,
            situation: situation(request.template, context.settings.pids_limit, boot_id, cluster),
        })
    }

    /// Whether a control of this age that was asked for this is one for what stands around now.
    fn stands_for(&self, now: &Self, age: Duration) -> bool {
        self == now && age < FRESH
    }

    async fn again(&self, context: &Context, request: &Request<'_>) -> Result<Self, Error> {
        let egress = self.situation.cluster.as_ref().and_then(|cluster| cluster.egress.clone());
        Self::read(context, request, &self.node, egress).await
    }

    async fn control(&self, context: &Context, nonce: &str, deadline_ms: u64) -> Result<Controlled, Problem> {
        let key = context.gate_key.signing();
        control(self.reference, key, &self.situation, Phase::Gate, nonce, deadline_ms).await
    }
}

fn situation(template: &Document, pids: Option<u32>, boot_id: String, cluster: Cluster) -> Situation {
    let resources = &template.spec.resources;
    Situation {
        engine: EngineKind::Kubernetes,
        level: template.spec.level,
        limits: Limits {
            cpu: resources.cpu,
            memory: resources.memory,
            // The kubelet limits every pod alike; a template cannot.
            pids: pids.unwrap_or(resources.pids),
            ephemeral_storage: resources.ephemeral_storage,
            home: None,
        },
        egress: template.egress(),
        home_path: template.spec.home.mount_path.clone(),
        machine_addresses: Vec::new(),
        platform_ports: Vec::new(),
        notebook_port: template.spec.port,
        id_base: 0,
        boot_id,
        cluster: Some(cluster),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(node: &str, reference: &str, boot_id: &str, pids: Option<u32>) -> Proving {
        let template: Document = serde_json::from_value(serde_json::json!({
            "apiVersion": "cubicle.dev/v1alpha1", "kind": "Template", "metadata": {"name": "lab"},
            "spec": {"image": "lab"},
        }))
        .expect("a template");
        Proving {
            node: node.to_owned(),
            reference: reference.parse().expect("an address"),
            situation: situation(&template, pids, boot_id.to_owned(), Cluster::default()),
        }
    }

    #[test]
    fn a_control_ahead_counts_for_the_same_surroundings_and_two_seconds() {
        let asked = found("node-1", "10.0.0.1:8000", "boot", Some(100));
        let same = found("node-1", "10.0.0.1:8000", "boot", Some(100));
        assert!(asked.stands_for(&same, Duration::from_millis(1999)));
        assert!(!asked.stands_for(&same, FRESH), "too old");
        for other in [
            found("node-2", "10.0.0.1:8000", "boot", Some(100)),
            found("node-1", "10.0.0.2:8000", "boot", Some(100)),
            found("node-1", "10.0.0.1:8000", "booted again", Some(100)),
            found("node-1", "10.0.0.1:8000", "boot", Some(200)),
        ] {
            assert!(!asked.stands_for(&other, Duration::ZERO));
        }
        let mut elsewhere = found("node-1", "10.0.0.1:8000", "boot", Some(100));
        elsewhere.situation.cluster = None;
        assert!(!asked.stands_for(&elsewhere, Duration::ZERO), "what stands around the pod has changed");
    }
}
