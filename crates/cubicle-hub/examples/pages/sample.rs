//! Values that several pages share.

use cubicle_core::level::{EngineKind, Level};
use cubicle_core::name::{UserId, WorkspaceId};
use cubicle_core::template::{Egress, EgressMode, Template};
use cubicle_core::workspace::{Owner, State, Usage, Workspace};
use cubicle_hub::pages::{Frame, Paging, Viewer, WorkspaceRow};
use jiff::Timestamp;

/// Markup and script in a name, as somebody will try.
pub(crate) const HOSTILE: &str = "<script>alert(1)</script><img src=x onerror=alert(2)> \" ' & {{7*7}}";
/// Right-to-left text, with an override mark that must not turn the rest of the page around.
pub(crate) const RIGHT_TO_LEFT: &str =
    "\u{202e}\u{645}\u{634}\u{631}\u{648}\u{639} \u{627}\u{644}\u{623}\u{62d}\u{64a}\u{627}\u{621}";

/// A moment on the day of all samples.
pub(crate) fn at(time: &str) -> Timestamp {
    format!("2026-03-14T{time}Z").parse().expect("a time of day")
}

/// The frame of a signed-in person's page.
pub(crate) fn frame(admin: bool) -> Frame {
    Frame {
        viewer: Some(Viewer {
            name: "ada.lovelace".parse().expect("valid"),
            role: if admin { "admin" } else { "user" },
        }),
        csrf: "sample-csrf".to_owned(),
        now: at("12:00:00"),
        announcement: None,
        notice: None,
    }
}

/// The frame before signing in.
pub(crate) fn stranger() -> Frame {
    Frame { viewer: None, ..frame(false) }
}

/// A list on one page.
pub(crate) fn paging(search: &str, page: usize, total: usize) -> Paging {
    Paging { search: search.to_owned(), page, size: 50, total }
}

/// A user identifier.
pub(crate) fn user_id(number: u8) -> UserId {
    UserId::from_random([number; 12])
}

/// A workspace identifier.
pub(crate) fn workspace_id(number: u8) -> WorkspaceId {
    WorkspaceId::from_random([number; 12])
}

/// A workspace in a state.
pub(crate) fn workspace(number: u8, name: &str, state: State, reason: &str) -> Workspace {
    Workspace {
        id: workspace_id(number),
        name: name.to_owned(),
        owner: Owner { id: user_id(1), name: "ada.lovelace".parse().expect("valid") },
        template: "jupyterlab".parse().expect("valid"),
        level: Level::Standard,
        engine: EngineKind::Local,
        state,
        reason: reason.to_owned(),
        pid: None,
        created_at: at("07:12:00"),
        opened_at: None,
        last_activity: (state == State::Running || state == State::Stopped).then(|| at("11:53:20")),
        stops_at: None,
        warnings: Vec::new(),
    }
}

/// A row without use.
pub(crate) fn quiet(workspace: Workspace) -> WorkspaceRow {
    WorkspaceRow { workspace, usage: None, cpu_now: None, cpu_limit: Some(1000) }
}

/// A row that uses something: memory and home in MiB, CPU in thousandths.
pub(crate) fn busy(workspace: Workspace, memory: u64, home: u64, cpu: u64) -> WorkspaceRow {
    WorkspaceRow {
        workspace,
        usage: Some(Usage {
            cpu_us: 73_000_000,
            memory: memory << 20,
            memory_limit: 2 << 30,
            pids: 31,
            pids_limit: 512,
            home: home << 20,
            home_limit: Some(2 << 30),
            frozen: false,
        }),
        cpu_now: Some(cpu),
        cpu_limit: Some(1000),
    }
}

/// A template with this level.
pub(crate) fn template(name: &str, description: &str, level: Level) -> Template {
    let document = format!(
        "{{apiVersion: cubicle.dev/v1alpha1, kind: Template, metadata: {{name: {name}}}, spec: {{image: jupyterlab, level: {level}}}}}"
    );
    let mut template: Template = serde_norway::from_str(&document).expect("a template");
    template.spec.description = description.to_owned();
    template
}

/// What a site might offer.
pub(crate) fn templates() -> Vec<Template> {
    let mut large =
        template("jupyterlab-large", "JupyterLab for larger data: ask before you use it for weeks.", Level::Standard);
    large.spec.resources.cpu = cubicle_core::quantity::MilliCpu(4500);
    large.spec.resources.memory = cubicle_core::quantity::Bytes(24 << 30);
    large.spec.groups = vec!["genomics".to_owned(), "imaging".to_owned()];
    let mut controlled =
        template("controlled-data", "For data that must not leave: no host but the package mirror.", Level::Strict);
    controlled.spec.egress =
        Some(Egress { mode: EgressMode::AllowList, allow: vec!["mirror.example.org:443".to_owned()] });
    let mut sealed = template("sealed", HOSTILE, Level::Strict);
    sealed.spec.egress = Some(Egress { mode: EgressMode::None, allow: Vec::new() });
    vec![
        template("jupyterlab", "JupyterLab with NumPy, pandas and Matplotlib.", Level::Standard),
        large,
        controlled,
        sealed,
    ]
}
