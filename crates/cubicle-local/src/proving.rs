//! Proofs of running workspaces: asked again whenever somebody wants to know.

use cubicle_core::attempt::{Phase, ProbePlan};
use cubicle_core::level::{EngineKind, Level};
use cubicle_core::name::WorkspaceId;
use cubicle_core::plan::Situation;
use cubicle_core::problem::Problem;
use cubicle_core::report::{GuaranteeReport, Report, Verdict};
use cubicle_core::workspace::State;
use cubicle_core::{catalogue, judge};
use cubicle_sandbox::protocol::RuntimeChoice;
use jiff::Timestamp;

use crate::settle::{id_base, limits, secret};
use crate::store::Private;
use crate::supervisor::{Supervisor, state_word};
use crate::{machine, site};

impl Supervisor {
    pub(crate) fn situation(&self, private: &Private) -> Situation {
        let spec = &private.template.spec;
        Situation {
            engine: EngineKind::Local,
            level: spec.level,
            limits: limits(&private.template),
            egress: private.template.egress(),
            home_path: spec.home.mount_path.clone(),
            machine_addresses: machine::addresses(),
            platform_ports: self.settings.platform_ports.clone(),
            notebook_port: spec.port,
            id_base: id_base(private.slot),
            boot_id: machine::boot_id(),
            cluster: None,
        }
    }

    /// The ids of what a level promises here. An operator's own runtime knows nothing of Landlock,
    /// so what only Landlock holds is not claimed with it.
    pub(crate) fn promised(&self, level: Level) -> Vec<&'static str> {
        let mut promised = catalogue::promised(level, EngineKind::Local);
        if self.settings.runtime != RuntimeChoice::Libcontainer {
            promised.retain(|id| *id != catalogue::FILE_RULES);
        }
        promised
    }

    pub(crate) async fn verify(&self, id: &WorkspaceId, only: &[String]) -> Result<Report, Problem> {
        let live = self.live(id);
        let _one = live.lifecycle.lock().await;
        let row = self.store.row(id)?;
        if row.workspace.state != State::Running {
            return Err(Problem::conflict(
                format!(
                    "workspace \"{id}\" is {}; only a running one can be proven again",
                    state_word(row.workspace.state)
                ),
                "start it, or see the last report with `cubicle report`",
            ));
        }
        for name in only {
            if catalogue::find(name).is_none() {
                return Err(Problem::not_found(
                    format!("there is no guarantee \"{}\"", name.escape_default()),
                    "list them with `cubicle guarantees`",
                ));
            }
        }
        let situation = self.situation(&row.private);
        let promised = self.promised(row.workspace.level);
        let plan = catalogue::probe_plan(&situation, only, Phase::Later, &secret());
        let started_at = Timestamp::now();
        let began = std::time::Instant::now();
        let proof = self.prove_later(id, plan).await?;
        let mut guarantees = judge::judge(&situation, &promised, &proof);
        if let Some(earlier) = self.store.report(id)? {
            carry_over(&mut guarantees, earlier.guarantees, &proof.plan);
        }
        // Again: a scan becomes too old, and the site's rule may have changed.
        site::image(&self.layout, &row.private)?.enter(&mut guarantees);
        let report = judge::report(&row.workspace, started_at, began.elapsed(), guarantees);
        self.store.put_report(id, &report)?;
        cubicle_metrics::launches::proven(&report, cubicle_metrics::launches::Proof::Later);
        if !only.is_empty() {
            let chosen = only.iter().filter_map(|name| catalogue::find(name)).map(|found| found.id).collect::<Vec<_>>();
            let guarantees =
                report.guarantees.iter().filter(|one| chosen.contains(&one.id.as_str())).cloned().collect();
            return Ok(judge::report(&row.workspace, started_at, began.elapsed(), guarantees));
        }
        Ok(report)
    }

    pub(crate) fn report(&self, id: &WorkspaceId) -> Result<Report, Problem> {
        self.store.row(id)?;
        self.store.report(id)?.ok_or_else(|| {
            Problem::not_found(
                format!("workspace \"{id}\" has no report yet"),
                "wait until it is proven, or see why it failed",
            )
        })
    }
}

/// Guarantees that this proof did not try keep their earlier verdict and its dated evidence.
pub(crate) fn carry_over(guarantees: &mut [GuaranteeReport], mut earlier: Vec<GuaranteeReport>, plan: &ProbePlan) {
    for guarantee in guarantees {
        if guarantee.verdict != Verdict::Unproven || catalogue::is_tried(&guarantee.id, plan) {
            continue;
        }
        if let Some(known) = earlier.iter().position(|known| known.id == guarantee.id) {
            *guarantee = earlier.swap_remove(known);
        }
    }
}
