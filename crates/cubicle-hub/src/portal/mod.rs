//! Hatchery's wire contract, below `/lw-workspace/` on the origin of a Gen3 portal: what a portal and
//! its scripts say, they can go on saying. Nothing else of the hub is served on that origin.
//!
//! Who asks is the subject of the bearer token, whose signature is checked; the `REMOTE_USER` that the
//! portal's front adds must agree. Source of the contract: hatchery/hatchery.go of uc-cdis/hatchery.
//!
//! All workspaces of a portal share its origin, so that browsers do not keep users apart there: the
//! guarantee about cookies is not claimed for them.

mod answers;
mod door;
mod identity;
mod routes;
mod status;

use axum::http::HeaderMap;
use cubicle_core::name::WorkspaceId;
use cubicle_core::problem::Problem;
use cubicle_core::report::{GuaranteeReport, Report, Verdict};
use cubicle_core::workspace::Workspace;

pub(crate) use door::Doors;
pub(crate) use identity::connections_of;
pub(crate) use routes::router;

use crate::hub::Hub;
use crate::store::Account;

/// Below it a user's notebook is.
pub(crate) const PROXY: &str = "/lw-workspace/proxy/";
/// What the one workspace of a user is called that the portal launches.
pub(crate) const NAME: &str = "portal workspace";
/// What an origin for everybody gives up.
const GIVEN_UP: &str = "SV-13";

/// Whether a request says by a header who its user is. Servers that turn headers into variables read
/// `Remote-User` as the same name.
pub(crate) fn names_somebody(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| is_remote_user(name.as_str()))
}

pub(crate) fn is_remote_user(name: &str) -> bool {
    matches!(name, "remote_user" | "remote-user")
}

impl Hub {
    /// The workspace that a portal has launched for this account.
    async fn of_portal(&self, account: &Account) -> Result<Option<Workspace>, Problem> {
        let mut all = self.engine.workspaces().await?;
        all.retain(|workspace| workspace.owner.id == account.id && workspace.name == NAME);
        Ok(all.into_iter().next())
    }

    /// The last report, with what the portal's origin gives up.
    pub(crate) async fn report(&self, id: &WorkspaceId) -> Result<Report, Problem> {
        let mut report = self.engine.report(id).await?;
        if self.portal.is_some() && self.engine.workspace(id).await?.name == NAME {
            give_up_origin(&mut report);
        }
        Ok(report)
    }
}

fn give_up_origin(report: &mut Report) {
    let Some(guarantee) = cubicle_core::catalogue::find(GIVEN_UP) else { return };
    report.guarantees.retain(|known| known.id != guarantee.id);
    report.guarantees.push(GuaranteeReport {
        verdict: Verdict::NotClaimed,
        reason: "the portal shows everybody's workspaces on one origin (browser: one-origin)".to_owned(),
        ..GuaranteeReport::of(guarantee)
    });
    let count = |verdict| report.guarantees.iter().filter(|known| known.verdict == verdict).count();
    report.summary.held = count(Verdict::Held);
    report.summary.breached = count(Verdict::Breached);
    report.summary.unproven = count(Verdict::Unproven);
    report.summary.absent = count(Verdict::Absent);
    report.summary.not_claimed = count(Verdict::NotClaimed);
}
