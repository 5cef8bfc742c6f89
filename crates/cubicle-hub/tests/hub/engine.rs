//! An engine in memory: real in every answer the hub looks at, but what it opens is the test's
//! own notebook server.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use cubicle_core::engine::{Activity, Connection, DoctorFinding, DoctorStatus, Engine, LaunchRequest, Volume};
use cubicle_core::level::{EngineKind, Level};
use cubicle_core::name::{TemplateName, UserId, WorkspaceId};
use cubicle_core::problem::{Problem, ProblemKind};
use cubicle_core::report::{Report, Summary};
use cubicle_core::template::{API_VERSION, Template};
use cubicle_core::trace::TraceParent;
use cubicle_core::workspace::{Progress, State, Step, StepEvent, Usage, Workspace};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use jiff::Timestamp;
use secrecy::SecretString;

/// The notebook's own token, which no browser may ever see.
pub(crate) const NOTEBOOK_TOKEN: &str = "the-notebooks-own-token";

pub(crate) struct TestEngine {
    pub(crate) notebook: Mutex<SocketAddr>,
    pub(crate) workspaces: Mutex<Vec<Workspace>>,
    pub(crate) templates: Mutex<HashMap<String, Template>>,
    pub(crate) activities: Mutex<Vec<(WorkspaceId, Activity)>>,
    pub(crate) volumes: Mutex<Vec<Volume>>,
}

pub(crate) fn template(name: &str, groups: &[&str]) -> Template {
    serde_json::from_value(serde_json::json!({
        "apiVersion": API_VERSION,
        "kind": "Template",
        "metadata": {"name": name},
        "spec": {"image": "jupyterlab", "groups": groups},
    }))
    .expect("a template")
}

impl TestEngine {
    pub(crate) fn new(notebook: SocketAddr) -> Arc<Self> {
        let templates = [template("jupyterlab", &[]), template("secret-lab", &["insiders"])];
        Arc::new(Self {
            notebook: Mutex::new(notebook),
            workspaces: Mutex::default(),
            templates: Mutex::new(
                templates.into_iter().map(|template| (template.metadata.name.to_string(), template)).collect(),
            ),
            activities: Mutex::default(),
            volumes: Mutex::default(),
        })
    }

    fn change(&self, id: &WorkspaceId, state: State) -> Result<Workspace, Problem> {
        let mut all = self.workspaces.lock().expect("unpoisoned");
        let found = all.iter_mut().find(|workspace| workspace.id == *id).ok_or_else(absent)?;
        found.state = state;
        Ok(found.clone())
    }
}

fn absent() -> Problem {
    Problem::not_found("no such workspace", "")
}

#[async_trait]
impl Engine for TestEngine {
    fn kind(&self) -> EngineKind {
        EngineKind::Local
    }

    async fn templates(&self) -> Result<Vec<Template>, Problem> {
        let mut all: Vec<_> = self.templates.lock().expect("unpoisoned").values().cloned().collect();
        all.sort_by_key(|template| template.metadata.name.to_string());
        Ok(all)
    }

    async fn apply_template(&self, template: Template) -> Result<(), Problem> {
        self.templates.lock().expect("unpoisoned").insert(template.metadata.name.to_string(), template);
        Ok(())
    }

    async fn delete_template(&self, name: &TemplateName) -> Result<(), Problem> {
        let gone = self.templates.lock().expect("unpoisoned").remove(name.as_str());
        gone.map(drop).ok_or_else(|| Problem::not_found("no such template", ""))
    }

    async fn launch(&self, request: LaunchRequest) -> Result<Workspace, Problem> {
        let templates = self.templates.lock().expect("unpoisoned");
        let template =
            templates.get(request.template.as_str()).ok_or_else(|| Problem::not_found("no such template", ""))?;
        let groups = &template.spec.groups;
        if !groups.is_empty() && !groups.iter().any(|group| request.groups.contains(group)) {
            return Err(Problem::new(ProblemKind::NotAllowed, "not in a group of this template", ""));
        }
        let workspace = Workspace {
            id: WorkspaceId::from_random(rand::random()),
            name: if request.name.is_empty() { request.template.to_string() } else { request.name },
            owner: request.owner.clone(),
            template: request.template,
            level: Level::Standard,
            engine: EngineKind::Local,
            state: State::Running,
            reason: String::new(),
            pid: Some(4711),
            created_at: Timestamp::now(),
            opened_at: Some(Timestamp::now()),
            last_activity: None,
            stops_at: None,
            warnings: Vec::new(),
        };
        self.workspaces.lock().expect("unpoisoned").insert(0, workspace.clone());
        self.volumes.lock().expect("unpoisoned").push(Volume {
            owner: request.owner,
            backend: "image".to_owned(),
            limit: Some(1 << 30),
            used: 1 << 20,
            created_at: Timestamp::now(),
        });
        Ok(workspace)
    }

    async fn workspaces(&self) -> Result<Vec<Workspace>, Problem> {
        Ok(self.workspaces.lock().expect("unpoisoned").clone())
    }

    async fn workspace(&self, id: &WorkspaceId) -> Result<Workspace, Problem> {
        let all = self.workspaces.lock().expect("unpoisoned");
        all.iter().find(|workspace| workspace.id == *id).cloned().ok_or_else(absent)
    }

    async fn events(&self, id: &WorkspaceId) -> Result<BoxStream<'static, StepEvent>, Problem> {
        self.workspace(id).await?;
        let past = futures::stream::iter(Step::ALL.map(|step| StepEvent {
            step,
            state: Progress::Done,
            message: format!("{step:?} is done"),
            elapsed_ms: 1,
        }));
        // A launch that never ends, so that only the session's end can end the stream.
        Ok(past.chain(futures::stream::pending()).boxed())
    }

    async fn start(&self, id: &WorkspaceId, _: Option<TraceParent>) -> Result<Workspace, Problem> {
        self.change(id, State::Running)
    }

    async fn stop(&self, id: &WorkspaceId) -> Result<Workspace, Problem> {
        self.change(id, State::Stopped)
    }

    async fn delete(&self, id: &WorkspaceId, _volume: bool) -> Result<(), Problem> {
        self.workspace(id).await?;
        self.workspaces.lock().expect("unpoisoned").retain(|workspace| workspace.id != *id);
        Ok(())
    }

    async fn verify(&self, id: &WorkspaceId, _only: &[String]) -> Result<Report, Problem> {
        self.report(id).await
    }

    async fn report(&self, id: &WorkspaceId) -> Result<Report, Problem> {
        let workspace = self.workspace(id).await?;
        Ok(Report {
            workspace: workspace.id,
            engine: EngineKind::Local,
            level: workspace.level,
            template: workspace.template,
            started_at: Timestamp::now(),
            duration_ms: 1,
            summary: Summary::default(),
            guarantees: Vec::new(),
        })
    }

    async fn usage(&self, id: &WorkspaceId) -> Result<Usage, Problem> {
        self.workspace(id).await?;
        Ok(Usage::default())
    }

    async fn logs(&self, id: &WorkspaceId) -> Result<String, Problem> {
        self.workspace(id).await?;
        Ok("<script>alert(1)</script>".to_owned())
    }

    async fn connect(&self, id: &WorkspaceId) -> Result<Connection, Problem> {
        let workspace = self.workspace(id).await?;
        if workspace.state != State::Running {
            return Err(Problem::conflict("the workspace is stopped", "start it"));
        }
        let address = *self.notebook.lock().expect("unpoisoned");
        let stream = std::net::TcpStream::connect(address).map_err(|error| Problem::engine(error.to_string(), ""))?;
        Ok(Connection { stream: OwnedFd::from(stream), token: SecretString::from(NOTEBOOK_TOKEN) })
    }

    async fn record_activity(&self, id: &WorkspaceId, activity: Activity) -> Result<(), Problem> {
        self.activities.lock().expect("unpoisoned").push((id.clone(), activity));
        Ok(())
    }

    async fn volumes(&self) -> Result<Vec<Volume>, Problem> {
        Ok(self.volumes.lock().expect("unpoisoned").clone())
    }

    async fn delete_volume(&self, user: &UserId) -> Result<(), Problem> {
        if self.workspaces.lock().expect("unpoisoned").iter().any(|workspace| workspace.owner.id == *user) {
            return Err(Problem::conflict("a workspace uses it", "delete the workspace first"));
        }
        self.volumes.lock().expect("unpoisoned").retain(|volume| volume.owner.id != *user);
        Ok(())
    }

    async fn doctor(&self) -> Result<Vec<DoctorFinding>, Problem> {
        Ok(vec![DoctorFinding {
            mechanism: "user-namespaces".to_owned(),
            status: DoctorStatus::Available,
            detail: "made one".to_owned(),
            required: true,
        }])
    }
}
