//! Proving on one node: what stands around, the control before, and as many tries as it takes.

use std::net::SocketAddr;

use cubicle_core::attempt::Phase;
use cubicle_core::level::EngineKind;
use cubicle_core::plan::{Cluster, EgressDoor, Limits, Situation};
use cubicle_core::problem::Problem;
use cubicle_core::report::{GuaranteeReport, Verdict};
use cubicle_core::template::Template as Document;
use cubicle_traces::Observed;

use super::Context;
use super::reconcile::Error;
use crate::door::Door;
use crate::objects::Request;
use crate::prove::{Controlled, Gate, control, prove};
use crate::surroundings::Surroundings;

/// How often a proof is tried.
const TRIES: u32 = 3;
/// The longest that a dial gets, in milliseconds.
const LONGEST_DEADLINE_MS: u64 = 5000;

/// Proves through a gate on this node. When nothing can be said it is tried anew with more patience: the
/// machine may be busy, or what stands around the workspace changes, a hub's pod that goes for instance.
pub(super) async fn try_walls(
    context: &Context,
    request: &Request<'_>,
    gate: Gate<'_>,
    (mut found, mut before): (Proving, Option<Controlled>),
    nonce: &str,
) -> Result<(Vec<GuaranteeReport>, Observed, Door), Error> {
    let key = context.gate_key.signing();
    let (mut tries, mut deadline_ms) = (0, 0);
    loop {
        tries += 1;
        let proof = async {
            let before = match before.take() {
                Some(before) => before,
                None => found.control(context, nonce).await?,
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

    /// What stands around, and the part of the control before that does not wait for the gate. One that failed says
    /// nothing: the proof asks again.
    pub(super) async fn begin(
        context: &Context,
        request: &Request<'_>,
        node: &str,
        egress: Option<EgressDoor>,
        nonce: &str,
    ) -> Result<(Self, Option<Controlled>), Error> {
        let found = Self::read(context, request, node, egress).await?;
        let before = found.control(context, nonce).await;
        Ok((found, before.inspect_err(|problem| tracing::debug!(%problem, "no control before")).ok()))
    }

    async fn again(&self, context: &Context, request: &Request<'_>) -> Result<Self, Error> {
        let egress = self.situation.cluster.as_ref().and_then(|cluster| cluster.egress.clone());
        Self::read(context, request, &self.node, egress).await
    }

    async fn control(&self, context: &Context, nonce: &str) -> Result<Controlled, Problem> {
        let key = context.gate_key.signing();
        control(self.reference, key, &self.situation, Phase::Gate, nonce).await
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
