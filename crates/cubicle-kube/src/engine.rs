//! The engine as the hub sees it: it writes Workspace objects and reads what became of them. All
//! power is the controller's, and the hub never calls it.

mod claim;
mod line;

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use cubicle_core::engine::{Activity, Connection, DoctorFinding, Engine, LaunchRequest, Volume};
use cubicle_core::level::{EngineKind, Level};
use cubicle_core::name::{TemplateName, UserId, WorkspaceId};
use cubicle_core::problem::{Problem, ProblemKind};
use cubicle_core::report::Report;
use cubicle_core::template::Template as Document;
use cubicle_core::trace::TraceParent;
use cubicle_core::workspace::{Progress, State, Step, StepEvent, Usage, Workspace as Record};
use futures::StreamExt;
use futures::stream::BoxStream;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::followed::Followed;
use crate::keys::RouteKey;
use crate::names;
use crate::registry::unanswered;
use crate::resources::{OwnerSpec, Template, Workspace, WorkspaceSpec};
use line::Line;

/// How long stopping and deleting may take until the hub stops waiting for it.
const END: Duration = Duration::from_secs(60);
/// How long a proof may take.
const PROOF: Duration = Duration::from_secs(120);
/// How long a pod may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// Writes that are tried again because somebody else came before.
const ATTEMPTS: usize = 5;

/// What the hub has of a cluster.
pub struct KubernetesEngine {
    client: Client,
    /// Where the controller keeps reports.
    namespace: String,
    route_key: RouteKey,
    workspaces: Arc<Followed<Workspace>>,
    templates: Arc<Followed<Template>>,
}

fn absent(id: &WorkspaceId) -> Problem {
    Problem::not_found(format!("there is no workspace \"{id}\""), "list them with `cubicle list`")
}

fn elsewhere(what: &str, remedy: impl Into<String>) -> Problem {
    Problem::new(ProblemKind::NotAllowed, format!("the hub of a cluster may not {what}"), remedy)
}

impl KubernetesEngine {
    /// The cluster behind this client; `namespace` is the controller's.
    pub fn new(client: &Client, namespace: &str, route_key: RouteKey) -> Self {
        Self {
            client: client.clone(),
            namespace: namespace.to_owned(),
            route_key,
            workspaces: Followed::begin(Api::all(client.clone())),
            templates: Followed::begin(Api::all(client.clone())),
        }
    }

    fn api(&self) -> Api<Workspace> {
        Api::all(self.client.clone())
    }

    /// The object as it is now.
    async fn now(&self, id: &WorkspaceId) -> Result<Workspace, Problem> {
        match self.api().get_opt(id.as_str()).await {
            Ok(Some(object)) => {
                self.workspaces.put(object.clone());
                Ok(object)
            }
            Ok(None) => {
                self.workspaces.forget(id.as_str());
                Err(absent(id))
            }
            // The API server is down for a moment: what was known last is shown.
            Err(error) if !matches!(error, kube::Error::Api(_)) => {
                self.workspaces.get(id.as_str()).ok_or_else(|| unanswered(&error))
            }
            Err(error) => Err(unanswered(&error)),
        }
    }

    async fn document(&self, name: &TemplateName) -> Result<Document, Problem> {
        let api = Api::<Template>::all(self.client.clone());
        let template = api.get_opt(name.as_str()).await.map_err(|error| unanswered(&error))?;
        let template = template.ok_or_else(|| {
            Problem::not_found(format!("there is no template \"{name}\""), "list them with `cubicle template list`")
        })?;
        if let Some(refused) = template
            .status
            .iter()
            .flat_map(|status| &status.conditions)
            .find(|one| one.type_ == "Accepted" && one.status == "False")
        {
            return Err(Problem::bad_input(refused.message.clone(), "ask who runs this site"));
        }
        template.document()
    }

    /// Changes a workspace that is as the caller believes, by a merge patch.
    async fn change(
        &self,
        id: &WorkspaceId,
        change: impl Fn(&Workspace) -> Result<Value, Problem>,
    ) -> Result<Workspace, Problem> {
        for _ in 0..ATTEMPTS {
            let object = self.api().get_opt(id.as_str()).await.map_err(|error| unanswered(&error))?;
            let object = object.ok_or_else(|| absent(id))?;
            let mut patch = change(&object)?;
            patch["metadata"]["resourceVersion"] = json!(object.resource_version());
            match self.api().patch(id.as_str(), &PatchParams::default(), &Patch::Merge(&patch)).await {
                Ok(changed) => {
                    self.workspaces.put(changed.clone());
                    return Ok(changed);
                }
                Err(kube::Error::Api(status)) if status.is_conflict() => {}
                Err(kube::Error::Api(status)) if status.is_not_found() => return Err(absent(id)),
                Err(error) => return Err(unanswered(&error)),
            }
        }
        Err(Problem::conflict(format!("workspace \"{id}\" is being changed by somebody else"), "try again"))
    }

    /// Waits until the workspace is as wanted, or gone.
    async fn wait(
        &self,
        id: &WorkspaceId,
        patience: Duration,
        done: impl Fn(Option<&Workspace>) -> bool,
    ) -> Result<Option<Workspace>, Problem> {
        let mut changes = self.workspaces.changes();
        let waited = async {
            loop {
                changes.borrow_and_update();
                let known = self.workspaces.get(id.as_str());
                if done(known.as_ref()) {
                    return known;
                }
                if changes.changed().await.is_err() {
                    return known;
                }
            }
        };
        tokio::time::timeout(patience, waited).await.map_err(|_| {
            Problem::engine(
                format!("workspace \"{id}\" did not get there within {} s", patience.as_secs()),
                "is the controller running? It goes on by itself; look again later",
            )
        })
    }

    fn record(&self, object: &Workspace) -> Result<Record, Problem> {
        let identity = object.identity()?;
        if object.spec.member {
            // Nobody's yet, so that there is nobody to show it to.
            return Err(absent(&identity.id));
        }
        let status = object.status.clone().unwrap_or_default();
        let level = status.level.or_else(|| {
            let template = self.templates.get(identity.template.as_str())?;
            Some(template.spec.level)
        });
        let name = if object.spec.name.is_empty() { identity.template.to_string() } else { object.spec.name.clone() };
        Ok(Record {
            id: identity.id,
            name,
            owner: identity.owner,
            template: identity.template,
            level: level.unwrap_or(Level::Standard),
            engine: EngineKind::Kubernetes,
            state: state(object),
            reason: status.reason,
            pid: None,
            created_at: object.creation_timestamp().map_or(Timestamp::UNIX_EPOCH, |time| moment(time.0)),
            opened_at: status.opened_at.map(|time| moment(time.0)),
            last_activity: names::activity(object).map(|activity| activity.at),
            stops_at: status.stops_at.map(|time| moment(time.0)),
            warnings: status.warnings,
        })
    }
}

/// The API's types have a clock library of their own.
pub(crate) fn moment(time: k8s_openapi::jiff::Timestamp) -> Timestamp {
    Timestamp::from_nanosecond(time.as_nanosecond()).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// The state, also between a request and the controller's answer.
fn state(object: &Workspace) -> State {
    let status = object.status.as_ref();
    let known = status.and_then(|status| status.state).unwrap_or(State::Pending);
    let fresh = status.is_none_or(|status| status.state.is_none() || status.launch < object.spec.launch);
    if object.metadata.deletion_timestamp.is_some() {
        return State::Stopping;
    }
    match object.spec.run {
        true if fresh => State::Pending,
        false if known.is_live() => State::Stopping,
        _ => known,
    }
}

fn events(object: &Workspace) -> Vec<StepEvent> {
    let steps = object.status.iter().filter(|status| status.launch == object.spec.launch);
    let steps = steps.flat_map(|status| &status.steps).map(|entry| StepEvent {
        step: entry.step,
        state: entry.state,
        message: entry.message.clone(),
        elapsed_ms: entry.elapsed_ms,
    });
    steps.collect()
}

fn is_last(event: &StepEvent) -> bool {
    event.state == Progress::Failed || (event.step == Step::Open && event.state == Progress::Done)
}

#[async_trait]
impl Engine for KubernetesEngine {
    fn kind(&self) -> EngineKind {
        EngineKind::Kubernetes
    }

    async fn templates(&self) -> Result<Vec<Document>, Problem> {
        let templates = match self.templates.all() {
            Some(templates) => templates,
            None => {
                let api = Api::<Template>::all(self.client.clone());
                api.list(&kube::api::ListParams::default()).await.map_err(|error| unanswered(&error))?.items
            }
        };
        // One that cannot be read cannot be launched; its status says why.
        let mut documents: Vec<Document> = templates.iter().filter_map(|template| template.document().ok()).collect();
        documents.sort_by(|a, b| a.metadata.name.as_str().cmp(b.metadata.name.as_str()));
        Ok(documents)
    }

    async fn apply_template(&self, template: Document) -> Result<(), Problem> {
        let name = &template.metadata.name;
        Err(elsewhere("write templates", format!("apply {name} with `kubectl apply`: the document is the same")))
    }

    async fn delete_template(&self, name: &TemplateName) -> Result<(), Problem> {
        Err(elsewhere("delete templates", format!("use `kubectl delete template {name}`")))
    }

    async fn launch(&self, request: LaunchRequest) -> Result<Record, Problem> {
        let document = self.document(&request.template).await?;
        let groups = &document.spec.groups;
        if !groups.is_empty() && !groups.iter().any(|group| request.groups.contains(group)) {
            return Err(Problem::new(
                ProblemKind::NotAllowed,
                format!("template \"{}\" is for members of {}", request.template, groups.join(", ")),
                "ask an administrator",
            ));
        }
        let spec = WorkspaceSpec {
            template: request.template.to_string(),
            owner: OwnerSpec { id: request.owner.id.to_string(), name: request.owner.name.to_string() },
            name: request.name,
            team: request.groups.first().cloned(),
            run: true,
            launch: 0,
            verify: 0,
            member: false,
            delete_home: false,
        };
        if let Some(claimed) = self.claim(&spec, request.trace).await? {
            return self.record(&claimed);
        }
        let id = WorkspaceId::from_random(rand::random());
        let mut object = Workspace::new(id.as_str(), spec);
        object.metadata.labels = Some([(names::OWNER.to_owned(), request.owner.id.to_string())].into_iter().collect());
        object.metadata.annotations =
            request.trace.map(|place| [(names::TRACE.to_owned(), names::trace_of(0, place))].into_iter().collect());
        let made = self.api().create(&PostParams::default(), &object).await.map_err(|error| match error {
            kube::Error::Api(status) if matches!(status.code, 403 | 422) => {
                Problem::bad_input(format!("the cluster refused the workspace: {}", status.message), "see the template")
            }
            error => unanswered(&error),
        })?;
        self.workspaces.put(made.clone());
        self.record(&made)
    }

    async fn workspaces(&self) -> Result<Vec<Record>, Problem> {
        let objects = match self.workspaces.all() {
            Some(objects) => objects,
            None => self.api().list(&kube::api::ListParams::default()).await.map_err(|error| unanswered(&error))?.items,
        };
        let mut records: Vec<Record> = objects.iter().filter_map(|object| self.record(object).ok()).collect();
        records.sort_by(|a, b| b.created_at.cmp(&a.created_at).then_with(|| a.id.as_str().cmp(b.id.as_str())));
        Ok(records)
    }

    async fn workspace(&self, id: &WorkspaceId) -> Result<Record, Problem> {
        match self.workspaces.get(id.as_str()) {
            Some(object) => self.record(&object),
            // Another hub may have made it just now.
            None => self.record(&self.now(id).await?),
        }
    }

    async fn events(&self, id: &WorkspaceId) -> Result<BoxStream<'static, StepEvent>, Problem> {
        let object = self.now(id).await?;
        let (id, launch) = (id.clone(), object.spec.launch);
        let workspaces = Arc::clone(&self.workspaces);
        let (send, receive) = tokio::sync::mpsc::channel(16);
        tokio::spawn(async move {
            let mut changes = workspaces.changes();
            let mut sent = 0;
            let mut line = Line::default();
            loop {
                changes.borrow_and_update();
                let Some(object) = workspaces.get(id.as_str()) else { return };
                if object.spec.launch != launch {
                    return;
                }
                for event in events(&object).into_iter().skip(sent) {
                    sent += 1;
                    let last = is_last(&event);
                    if send.send(event).await.is_err() || last {
                        return;
                    }
                }
                if let Some(news) = line.news(&object, &workspaces)
                    && send.send(news).await.is_err()
                {
                    return;
                }
                if !state(&object).is_live() {
                    return;
                }
                tokio::select! {
                    changed = changes.changed() => if changed.is_err() { return },
                    () = send.closed() => return,
                    () = tokio::time::sleep(line::PACE), if line.waits() => {}
                }
            }
        });
        Ok(tokio_stream::wrappers::ReceiverStream::new(receive).boxed())
    }

    async fn start(&self, id: &WorkspaceId, trace: Option<TraceParent>) -> Result<Record, Problem> {
        let started = self.change(id, |object| {
            let state = state(object);
            if state.is_live() {
                return Err(Problem::conflict(
                    format!("workspace \"{id}\" is not stopped"),
                    "stop it first, or open it as it is",
                ));
            }
            let launch = object.spec.launch + 1;
            Ok(json!({
                "metadata": {"annotations": {names::TRACE: trace.map(|place| names::trace_of(launch, place))}},
                "spec": {"run": true, "launch": launch},
            }))
        });
        self.record(&started.await?)
    }

    async fn stop(&self, id: &WorkspaceId) -> Result<Record, Problem> {
        self.change(id, |_| Ok(json!({"spec": {"run": false}}))).await?;
        let ended = self
            .wait(id, END, |object| object.is_none_or(|object| !object.spec.run && !state(object).is_live()))
            .await?;
        self.record(&ended.ok_or_else(|| absent(id))?)
    }

    async fn delete(&self, id: &WorkspaceId, volume: bool) -> Result<(), Problem> {
        let object = self.now(id).await?;
        if volume {
            let owner = &object.spec.owner.id;
            let others = self.workspaces.all().unwrap_or_default();
            if others.iter().any(|other| other.spec.owner.id == *owner && other.name_any() != id.as_str()) {
                return Err(Problem::conflict(
                    format!("another workspace of {} uses the same home", object.spec.owner.name),
                    "delete that one first, or keep the home",
                ));
            }
            self.change(id, |_| Ok(json!({"spec": {"deleteHome": true}}))).await?;
        }
        match self.api().delete(id.as_str(), &DeleteParams::default()).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.is_not_found() => return Ok(()),
            Err(error) => return Err(unanswered(&error)),
        }
        self.wait(id, END, |object| object.is_none()).await.map(drop)
    }

    async fn verify(&self, id: &WorkspaceId, only: &[String]) -> Result<Report, Problem> {
        let asked = self.change(id, |object| match state(object) {
            State::Running => Ok(json!({"spec": {"verify": object.spec.verify + 1}})),
            _ => Err(Problem::conflict(format!("workspace \"{id}\" does not run"), "start it first")),
        });
        let asked = asked.await?.spec.verify;
        let proven = self
            .wait(id, PROOF, |object| {
                object.is_none_or(|object| {
                    state(object) != State::Running
                        || object.status.as_ref().is_some_and(|status| status.verified >= asked)
                })
            })
            .await?
            .ok_or_else(|| absent(id))?;
        if proven.status.is_none_or(|status| status.verified < asked) {
            return Err(Problem::conflict(format!("workspace \"{id}\" ended before it was proven"), "start it again"));
        }
        let mut report = self.report(id).await?;
        if !only.is_empty() {
            report.guarantees.retain(|one| only.iter().any(|name| *name == one.id || *name == one.alias));
            report.summary = cubicle_core::report::Summary::of(&report.guarantees);
        }
        Ok(report)
    }

    async fn report(&self, id: &WorkspaceId) -> Result<Report, Problem> {
        let api = Api::<ConfigMap>::namespaced(self.client.clone(), &self.namespace);
        let map = api.get_opt(&names::report(id)).await.map_err(|error| unanswered(&error))?;
        let text = map.and_then(|map| map.data).and_then(|mut data| data.remove("report.json")).ok_or_else(|| {
            Problem::not_found(format!("workspace \"{id}\" has no report yet"), "wait until it was proven once")
        })?;
        serde_json::from_str(&text).map_err(|error| {
            Problem::engine(format!("the report of \"{id}\" cannot be read: {error}"), "prove it again")
        })
    }

    async fn usage(&self, _: &WorkspaceId) -> Result<Usage, Problem> {
        Err(elsewhere("ask nodes what a workspace uses", "use `kubectl top pod`"))
    }

    async fn logs(&self, id: &WorkspaceId) -> Result<String, Problem> {
        let namespace = self.now(id).await?.status.and_then(|status| status.namespace).unwrap_or_default();
        Err(elsewhere("read logs of pods", format!("use `kubectl logs -n {namespace} {id}`")))
    }

    async fn connect(&self, id: &WorkspaceId) -> Result<Connection, Problem> {
        let closed =
            || Problem::conflict(format!("workspace \"{id}\" is not open"), "start it, or see its page for the reason");
        let open = |object: Workspace| {
            let running = state(&object) == State::Running;
            let uid = object.uid()?;
            let status = object.status.filter(|_| running)?;
            let route = status.route?;
            let address = SocketAddr::new(route.address.parse().ok()?, route.port);
            Some((address, self.route_key.token(&uid, &status.nonce?)))
        };
        let known = self.workspaces.get(id.as_str()).and_then(open);
        let (address, token) = match known {
            Some(known) => known,
            None => open(self.now(id).await?).ok_or_else(closed)?,
        };
        let silent = |why: String| {
            Problem::engine(
                format!("the notebook of \"{id}\" does not answer: {why}"),
                "look at its page, or start it again",
            )
        };
        let stream = tokio::time::timeout(CONNECT, TcpStream::connect(address))
            .await
            .map_err(|_| silent("no connection in time".to_owned()))?
            .map_err(|error| silent(error.to_string()))?;
        let stream = stream.into_std().map_err(|error| silent(error.to_string()))?;
        Ok(Connection { stream: OwnedFd::from(stream), token })
    }

    async fn closed(&self, id: &WorkspaceId) {
        let mut changes = self.workspaces.changes();
        loop {
            changes.borrow_and_update();
            let known = self.workspaces.get(id.as_str());
            let open = known.is_some_and(|object| object.status.is_some_and(|status| status.route.is_some()));
            if !open || changes.changed().await.is_err() {
                return;
            }
        }
    }

    async fn record_activity(&self, id: &WorkspaceId, activity: Activity) -> Result<(), Problem> {
        let known = self.workspaces.get(id.as_str()).ok_or_else(|| absent(id))?;
        // Several hubs tell; the latest of what each knows counts.
        let before = names::activity(&known);
        let activity = Activity {
            at: before.map_or(activity.at, |before| before.at.max(activity.at)),
            busy_at: before.and_then(|before| before.busy_at).max(activity.busy_at),
        };
        let text = serde_json::to_string(&activity).unwrap_or_default();
        let patch = json!({"metadata": {"annotations": {names::ACTIVITY: text}}});
        let patched = self.api().patch(id.as_str(), &PatchParams::default(), &Patch::Merge(&patch)).await;
        self.workspaces.put(patched.map_err(|error| unanswered(&error))?);
        Ok(())
    }

    async fn volumes(&self) -> Result<Vec<Volume>, Problem> {
        Err(elsewhere("see volumes", "use `kubectl get persistentvolumeclaims -A -l cubicle.dev/tenant`"))
    }

    async fn delete_volume(&self, user: &UserId) -> Result<(), Problem> {
        Err(elsewhere(
            "delete volumes",
            format!(
                "delete a workspace with its home, or its claim: `kubectl get persistentvolumeclaims -A -l {}={user}`",
                names::OWNER
            ),
        ))
    }

    async fn doctor(&self) -> Result<Vec<DoctorFinding>, Problem> {
        Err(elsewhere("examine nodes", "run `cubicle doctor --cluster` with an administrator's kubeconfig"))
    }
}
