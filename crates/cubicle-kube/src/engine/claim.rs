//! Taking a workspace that waits for somebody.

use cubicle_core::problem::Problem;
use cubicle_core::trace::TraceParent;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::{KubernetesEngine, state};
use crate::names;
use crate::registry::unanswered;
use crate::resources::{Workspace, WorkspaceSpec};

impl KubernetesEngine {
    /// Claims one that waits, for somebody who has no workspace yet: whoever has one has a home, which no pod
    /// that runs can be given. None when nothing fits.
    pub(super) async fn claim(
        &self,
        spec: &WorkspaceSpec,
        trace: Option<TraceParent>,
    ) -> Result<Option<Workspace>, Problem> {
        let Some(mut all) = self.workspaces.all() else { return Ok(None) };
        if all.iter().any(|object| object.spec.owner.id == spec.owner.id) {
            return Ok(None);
        }
        let since = |object: &Workspace| object.status.as_ref().and_then(|status| status.ready_at.clone());
        all.retain(|object| {
            let waits = object.spec.member && object.spec.run && object.metadata.deletion_timestamp.is_none();
            waits && object.spec.template == spec.template && state(object).is_live() && since(object).is_some()
        });
        all.sort_by_key(since);
        for member in all {
            let patch = json!({
                // Whoever else claims it comes too late.
                "metadata": {
                    "resourceVersion": member.resource_version(),
                    "labels": {names::POOL: null, names::OWNER: spec.owner.id},
                    "annotations": {names::TRACE: trace.map(|place| names::trace_of(member.spec.launch, place))},
                },
                "spec": {"member": false, "owner": spec.owner, "name": spec.name, "team": spec.team},
            });
            let name = member.name_any();
            match self.api().patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await {
                Ok(claimed) => {
                    self.workspaces.put(claimed.clone());
                    return Ok(Some(claimed));
                }
                Err(kube::Error::Api(status)) if status.is_conflict() || status.is_not_found() => {}
                Err(error) => return Err(unanswered(&error)),
            }
        }
        Ok(None)
    }
}
