//! What all requests share.

use std::net::SocketAddr;
use std::sync::Arc;

use cubicle_core::engine::Engine;
use cubicle_core::name::WorkspaceId;
use cubicle_core::problem::{Problem, ProblemKind};
use cubicle_core::workspace::{State, Workspace};
use jiff::{SignedDuration, Timestamp};
use secrecy::ExposeSecret as _;

use crate::accounting::Prices;
use crate::activity::ActivityBook;
use crate::api::TokenUses;
use crate::caps::Caps;
use crate::config::{HubConfig, Records, Timing};
use crate::identity::{Identities, PortalSettings};
use crate::journal::Journal;
use crate::limit::{LaunchLimits, SignInLimits};
use crate::liveness::Liveness;
use crate::meter::Meter;
use crate::notice::NoticeBoard;
use crate::origin::Origins;
use crate::password::Passwords;
use crate::portal::Doors;
use crate::secret::{self, Digest, Purpose};
use crate::store::{Account, File, Role, Shared, Store};

/// The running hub.
pub(crate) struct Hub {
    pub(crate) origins: Origins,
    pub(crate) timing: Timing,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) store: Store,
    pub(crate) identities: Identities,
    pub(crate) passwords: Passwords,
    pub(crate) limits: SignInLimits,
    pub(crate) launches: LaunchLimits,
    pub(crate) liveness: Liveness,
    pub(crate) activity: ActivityBook,
    pub(crate) meter: Meter,
    pub(crate) journal: Arc<Journal>,
    pub(crate) portal: Option<Portal>,
    /// What people may have at once.
    pub(crate) caps: Caps,
    /// What an hour costs.
    pub(crate) prices: Prices,
    /// One launch at a time is counted.
    pub(crate) admitting: tokio::sync::Mutex<()>,
    /// When tokens were last used.
    pub(crate) token_uses: TokenUses,
    /// What every page says on top.
    pub(crate) notices: NoticeBoard,
}

/// A portal that shows workspaces on its own origin.
pub(crate) struct Portal {
    pub(crate) settings: PortalSettings,
    pub(crate) doors: Doors,
    /// One launch at a time.
    pub(crate) launching: tokio::sync::Mutex<()>,
}

/// Who asks.
#[derive(Debug, Clone)]
pub(crate) enum Caller {
    /// The machine's administrator on the root-only socket.
    Root,
    /// A person.
    Account(Account),
}

impl Caller {
    /// Whether the caller may see and manage everything.
    pub(crate) fn is_admin(&self) -> bool {
        match self {
            Self::Root => true,
            Self::Account(account) => account.role == Role::Admin,
        }
    }

    /// Whether the caller may see everybody's workspaces and their reports.
    pub(crate) fn sees_all(&self) -> bool {
        match self {
            Self::Root => true,
            Self::Account(account) => matches!(account.role, Role::Admin | Role::Auditor),
        }
    }

    /// Refuses whoever may not look at everything.
    pub(crate) fn require_sight(&self) -> Result<(), Problem> {
        if self.sees_all() {
            return Ok(());
        }
        Err(Problem::new(ProblemKind::NotAllowed, "only administrators and auditors may see this", "ask one of them"))
    }

    /// Refuses auditors: they look, and run nothing.
    pub(crate) fn require_work(&self) -> Result<(), Problem> {
        match self {
            Self::Account(account) if account.role == Role::Auditor => Err(auditor_runs_nothing()),
            _ => Ok(()),
        }
    }

    /// Refuses everybody but administrators.
    pub(crate) fn require_admin(&self) -> Result<(), Problem> {
        if self.is_admin() {
            return Ok(());
        }
        Err(Problem::new(ProblemKind::NotAllowed, "only an administrator may do this", "ask an administrator"))
    }

    /// Whether the workspace is the caller's own.
    pub(crate) fn owns(&self, workspace: &Workspace) -> bool {
        matches!(self, Self::Account(account) if account.id == workspace.owner.id)
    }
}

/// Why an auditor is refused.
pub(crate) fn auditor_runs_nothing() -> Problem {
    Problem::new(
        ProblemKind::NotAllowed,
        "an auditor sees reports and runs nothing",
        "use an account with the role user, or ask an administrator",
    )
}

impl Hub {
    /// Opens the database and prepares everything else.
    pub(crate) fn new(config: &HubConfig, engine: Arc<dyn Engine>, listen: SocketAddr) -> Result<Self, Problem> {
        Ok(Self {
            origins: Origins::new(config, listen)?,
            timing: config.timing,
            engine,
            store: match &config.records {
                Records::File(folder) => Store::File(File::open(folder)?),
                Records::Shared(registry) => Store::Shared(Shared::new(Arc::clone(registry))),
            },
            identities: Identities::new(&config.sign_in)?,
            passwords: Passwords::new()?,
            limits: SignInLimits::default(),
            launches: LaunchLimits::default(),
            liveness: Liveness::default(),
            activity: ActivityBook::default(),
            meter: Meter::default(),
            journal: Arc::new(match &config.records {
                Records::File(folder) => Journal::in_folder(folder)?,
                Records::Shared(_) => Journal::printed(),
            }),
            caps: config.sign_in.caps.clone(),
            prices: config.sign_in.prices.clone(),
            admitting: tokio::sync::Mutex::default(),
            token_uses: TokenUses::default(),
            notices: NoticeBoard::default(),
            portal: config.sign_in.portal.clone().map(|settings| Portal {
                settings,
                doors: Doors::default(),
                launching: tokio::sync::Mutex::default(),
            }),
        })
    }

    /// A workspace that the caller may change.
    pub(crate) async fn workspace(&self, caller: &Caller, id: &str) -> Result<Workspace, Problem> {
        let workspace = self.visible(caller, id).await?;
        if caller.is_admin() || caller.owns(&workspace) { Ok(workspace) } else { Err(auditor_runs_nothing()) }
    }

    /// A workspace that the caller may look at. Somebody else's is not there, so that nobody learns
    /// which exist.
    pub(crate) async fn visible(&self, caller: &Caller, id: &str) -> Result<Workspace, Problem> {
        let id: WorkspaceId = id.parse()?;
        let absent = || {
            Problem::not_found(
                format!("there is no workspace \"{id}\""),
                "list your workspaces with `cubicle list`, or look at the hub's first page",
            )
        };
        let workspace = match self.engine.workspace(&id).await {
            Err(problem) if problem.kind == ProblemKind::NotFound => return Err(absent()),
            other => other?,
        };
        if caller.sees_all() || caller.owns(&workspace) { Ok(workspace) } else { Err(absent()) }
    }

    /// The workspaces that the caller may see, newest first.
    pub(crate) async fn workspaces(&self, caller: &Caller) -> Result<Vec<Workspace>, Problem> {
        let mut all = self.engine.workspaces().await?;
        all.retain(|workspace| caller.sees_all() || caller.owns(workspace));
        Ok(all)
    }

    /// Makes a one-time sign-in link; the text is a secret.
    pub(crate) async fn sign_in_link(
        &self,
        account: &Account,
        host: Option<&str>,
    ) -> Result<(String, Timestamp), Problem> {
        if account.service {
            return Err(Problem::conflict(
                format!("\"{}\" is an account for programs: nobody signs in to it", account.name),
                "make it a token instead",
            ));
        }
        let token = secret::generate();
        let expires_at = from_now(self.timing.link);
        tracing::info!(user = %account.id, "a sign-in link was made");
        self.store.add_link(Digest::of(Purpose::Link, token.expose_secret()), account.id.clone(), expires_at).await?;
        Ok((format!("{}/sign-in/link?token={}", self.origins.hub(host), token.expose_secret()), expires_at))
    }

    /// Disables or enables an account, closing whatever it has open.
    pub(crate) async fn set_disabled(&self, account: &Account, disabled: bool) -> Result<(), Problem> {
        for ended in self.store.set_disabled(account.id.clone(), disabled).await? {
            self.liveness.end(&ended);
        }
        self.liveness.end(&crate::portal::connections_of(account));
        tracing::info!(user = %account.id, disabled, "an account was changed");
        Ok(())
    }

    /// Deletes a workspace and the cookies of its origin.
    pub(crate) async fn delete(&self, workspace: &Workspace, volume: bool) -> Result<(), Problem> {
        self.engine.delete(&workspace.id, volume).await?;
        self.store.forget_workspace(workspace.id.clone()).await
    }

    /// Does what has to be done from time to time, for ever.
    pub(crate) async fn keep_house(self: Arc<Self>) {
        let busy = self.clone().watch_busy();
        let report = self.clone().report_activity();
        let forget = async {
            let mut interval = tokio::time::interval(std::time::Duration::from_secs(300));
            loop {
                interval.tick().await;
                self.liveness.forget_unfollowed();
                if let Err(problem) = self.store.forget_expired().await {
                    tracing::warn!(%problem, "expired sessions could not be forgotten");
                }
            }
        };
        tokio::join!(busy, report, forget, self.clone().follow_notice(), self.clone().account_usage());
    }

    /// Closes what hangs on sessions that another hub has ended, for ever.
    pub(crate) async fn follow_others(&self, records: &Records) {
        use futures::StreamExt as _;
        if let Records::Shared(registry) = records {
            let mut ended = registry.ended_sessions();
            while let Some(name) = ended.next().await {
                if let Some(digest) = Digest::from_hexadecimal(&name) {
                    self.liveness.end(&digest);
                }
            }
        }
        std::future::pending().await
    }

    async fn report_activity(self: Arc<Self>) {
        let pace = (self.timing.activity_report / 10).max(std::time::Duration::from_millis(20));
        let mut interval = tokio::time::interval(pace);
        loop {
            interval.tick().await;
            for (id, activity) in self.activity.due(self.timing.activity_report) {
                if let Err(problem) = self.engine.record_activity(&id, activity).await {
                    tracing::debug!(workspace = %id, %problem, "activity was not recorded");
                }
            }
        }
    }

    /// Asks every running notebook in turn; one that hangs costs its own few seconds only.
    async fn watch_busy(self: Arc<Self>) {
        use futures::StreamExt as _;
        let mut interval = tokio::time::interval(self.timing.busy_poll);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            let Ok(workspaces) = self.engine.workspaces().await else { continue };
            let templates = self.engine.templates().await.unwrap_or_default();
            let bases: std::collections::HashMap<_, _> =
                templates.iter().map(|known| (&known.metadata.name, known.spec.base_path.as_str())).collect();
            let running = workspaces.into_iter().filter(|workspace| workspace.state == State::Running);
            futures::stream::iter(running)
                .for_each_concurrent(8, |workspace| {
                    let (hub, base) = (&self, bases.get(&workspace.template).copied().unwrap_or("/"));
                    async move {
                        if crate::proxy::kernels_busy(hub, &workspace.id, base).await {
                            let last = workspace.last_activity.or(workspace.opened_at).unwrap_or(workspace.created_at);
                            hub.activity.busy(&workspace.id, last);
                        }
                    }
                })
                .await;
        }
    }
}

/// The time that lies this far ahead.
pub(crate) fn from_now(duration: std::time::Duration) -> Timestamp {
    let duration = SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX);
    Timestamp::now().saturating_add(duration).unwrap_or(Timestamp::MAX)
}
