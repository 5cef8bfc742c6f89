//! What is there of one workspace, as the cluster says at this moment.

use std::net::SocketAddr;

use cubicle_core::name::WorkspaceId;
use cubicle_core::problem::Problem;
use cubicle_core::template::Template as Document;
use cubicle_core::workspace::State;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;

use super::apply::Standing;
use super::reconcile::{Error, remove};
use super::{Context, claim, decide};
use crate::names::Location;
use crate::objects::{self, Request};
use crate::resources::{Identity, Template, Workspace};
use crate::surroundings;

/// What is there of this workspace now.
pub(super) struct Place {
    pub(super) identity: Identity,
    pub(super) location: Location,
    pub(super) pods: Api<Pod>,
    pub(super) pod: Option<Pod>,
    /// What stands of its walls, when a launch begins.
    pub(super) standing: Standing,
    /// Whether a twin stands. It is in use by nobody: whoever makes one removes it, unless it was killed.
    pub(super) twin: bool,
}

impl Place {
    /// What decides about the objects of this launch.
    pub(super) fn request<'a>(
        &'a self,
        workspace: &'a Workspace,
        context: &'a Context,
        template: &'a Document,
        window: &'a [SocketAddr],
    ) -> Request<'a> {
        Request {
            settings: &context.settings,
            identity: &self.identity,
            location: &self.location,
            member: workspace.spec.member,
            uid: workspace.metadata.uid.as_deref().unwrap_or_default(),
            launch: workspace.spec.launch,
            template,
            gate_key: context.gate_key.public(),
            window,
        }
    }
}

/// Everything of a workspace that is its own, and what stands of its tenant when a launch begins.
pub(super) async fn find(workspace: &Workspace, context: &Context) -> Result<Result<Place, Problem>, kube::Error> {
    let identity = match workspace.identity() {
        Ok(identity) => identity,
        Err(problem) => return Ok(Err(problem)),
    };
    let begins = workspace.spec.run && decide::is_fresh(workspace);
    let derived = Location::of(context.settings.tenancy, &identity);
    let here = |location: &Location| read_at(context, &identity.id, location.namespace.clone(), begins);
    let (location, (pods, pod, standing)) = if begins {
        // Most users' homes are where their names say: what is there is read while the home is looked for.
        let (location, found) = tokio::try_join!(claim::locate(workspace, &identity, context), here(&derived))?;
        let found = if location == derived { found } else { here(&location).await? };
        (location, found)
    } else {
        let location = claim::locate(workspace, &identity, context).await?;
        let found = here(&location).await?;
        (location, found)
    };
    // Twins are made beside what is or was open, and by one reconciliation of it at a time: the one
    // that stands now was left by a controller that was killed.
    let mut twin = false;
    if workspace.status.as_ref().is_some_and(|status| status.opened_at.is_some())
        && let Some(left) = pods.get_opt(&objects::twin_name(&identity.id)).await?
    {
        remove(&pods, &left).await?;
        twin = true;
    }
    Ok(Ok(Place { identity, location, pods, pod, standing, twin }))
}

/// The pod of this name in a namespace, and what stands there when a launch begins.
async fn read_at(
    context: &Context,
    id: &WorkspaceId,
    namespace: String,
    begins: bool,
) -> Result<(Api<Pod>, Option<Pod>, Standing), kube::Error> {
    let pods = Api::<Pod>::namespaced(context.client.clone(), &namespace);
    let (pod, standing) =
        tokio::try_join!(pods.get_opt(id.as_str()), when(begins, Box::pin(Standing::read(context, &namespace))))?;
    Ok((pods, pod, standing.unwrap_or_default()))
}

/// What a step decides from.
pub(super) struct Found {
    pub(super) place: Result<Place, Problem>,
    /// The template, when a launch is on its way.
    pub(super) document: Option<Result<Document, Problem>>,
    /// Whom the gate will dial, when a launch begins.
    pub(super) window: Option<Vec<SocketAddr>>,
}

impl Found {
    /// All at once, as each request takes its time.
    pub(super) async fn read(workspace: &Workspace, context: &Context) -> Result<Self, Error> {
        let (fresh, run) = (decide::is_fresh(workspace), workspace.spec.run);
        let state = workspace.status.as_ref().and_then(|status| status.state);
        let on_its_way = fresh || matches!(state, Some(State::Pending | State::Proving));
        let (place, document, window) = tokio::try_join!(
            find(workspace, context),
            when(run && on_its_way, template(workspace, context)),
            when(run && fresh, surroundings::window(&context.client, &context.settings)),
        )?;
        Ok(Self { place, document, window })
    }
}

async fn when<T>(wanted: bool, read: impl Future<Output = Result<T, kube::Error>>) -> Result<Option<T>, kube::Error> {
    if wanted { read.await.map(Some) } else { Ok(None) }
}

/// The template that it names.
pub(super) async fn template(
    workspace: &Workspace,
    context: &Context,
) -> Result<Result<Document, Problem>, kube::Error> {
    let name = &workspace.spec.template;
    let api = Api::<Template>::all(context.client.clone());
    let Some(template) = api.get_opt(name).await? else {
        let shown = name.escape_default();
        return Ok(Err(Problem::not_found(
            format!("there is no template \"{shown}\""),
            "list them with `kubectl get templates`",
        )));
    };
    Ok(template.document().and_then(|document| context.settings.can_provide(&document).map(|()| document)))
}
