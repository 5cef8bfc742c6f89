//! Says of every template whether this cluster can provide it, and why not.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::{Api, Resource, ResourceExt};
use serde_json::json;

use super::{Context, MANAGER};
use crate::resources::{Condition, Template, TemplateStatus};

pub(super) async fn reconcile(template: Arc<Template>, context: Arc<Context>) -> Result<Action, kube::Error> {
    let checked = template.document().and_then(|document| context.settings.can_provide(&document));
    let (value, reason, message) = match &checked {
        Ok(()) => ("True", "Accepted", "this cluster can provide it".to_owned()),
        Err(problem) => ("False", "NotProvided", format!("{} ({})", problem.what, problem.remedy)),
    };
    let known = template.status.iter().flat_map(|status| &status.conditions).find(|one| one.type_ == "Accepted");
    let since = known.filter(|one| one.status == value).map(|one| one.last_transition_time.clone());
    let condition = Condition {
        type_: "Accepted".to_owned(),
        status: value.to_owned(),
        reason: reason.to_owned(),
        message: message.chars().take(1024).collect(),
        observed_generation: template.metadata.generation,
        last_transition_time: since.unwrap_or_else(|| Time(Timestamp::now())),
    };
    let status = TemplateStatus { observed_generation: template.metadata.generation, conditions: vec![condition] };
    if template.status.as_ref() != Some(&status) {
        let patch = json!({"apiVersion": Template::api_version(&()), "kind": Template::kind(&()), "status": status});
        let api = Api::<Template>::all(context.client.clone());
        api.patch_status(&template.name_any(), &PatchParams::apply(MANAGER).force(), &Patch::Apply(&patch)).await?;
    }
    Ok(Action::await_change())
}

pub(super) fn after_error(_: Arc<Template>, error: &kube::Error, _: Arc<Context>) -> Action {
    tracing::warn!(%error, "a template was not looked at");
    Action::requeue(Duration::from_secs(10))
}
