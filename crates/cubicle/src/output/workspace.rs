//! How a workspace is shown.

use anstyle::{AnsiColor, Style};
use cubicle_core::level::{EngineKind, Level};
use cubicle_core::name::{TemplateName, UserId, UserName, WorkspaceId};
use cubicle_core::workspace::{State, Workspace};
use jiff::Timestamp;
use serde::Serialize;

use super::table::{Cell, Table, wrap};
use super::{Printer, safe};

/// A workspace as the command line prints it; the keys are stable.
#[derive(Debug, Serialize)]
pub(crate) struct View {
    id: WorkspaceId,
    name: String,
    state: State,
    reason: String,
    url: String,
    user: UserName,
    user_id: UserId,
    template: TemplateName,
    level: Level,
    engine: EngineKind,
    pid: Option<u32>,
    created_at: Timestamp,
    opened_at: Option<Timestamp>,
    last_activity: Option<Timestamp>,
    stops_at: Option<Timestamp>,
    warnings: Vec<String>,
}

impl View {
    /// A workspace of the hub at `hub`, an address without a slash at the end.
    pub(crate) fn new(workspace: Workspace, hub: &str) -> Self {
        let url = format!("{hub}/workspaces/{}/open", workspace.id);
        Self {
            id: workspace.id,
            name: workspace.name,
            state: workspace.state,
            reason: workspace.reason,
            url,
            user: workspace.owner.name,
            user_id: workspace.owner.id,
            template: workspace.template,
            level: workspace.level,
            engine: workspace.engine,
            pid: workspace.pid,
            created_at: workspace.created_at,
            opened_at: workspace.opened_at,
            last_activity: workspace.last_activity,
            stops_at: workspace.stops_at,
            warnings: workspace.warnings,
        }
    }

    pub(crate) fn id(&self) -> &WorkspaceId {
        &self.id
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn state(&self) -> &'static str {
        state_word(self.state)
    }
}

/// The state in one word, as in JSON.
pub(crate) fn state_word(state: State) -> &'static str {
    match state {
        State::Pending => "pending",
        State::Proving => "proving",
        State::Running => "running",
        State::Stopping => "stopping",
        State::Stopped => "stopped",
        State::Refused => "refused",
        State::Failed => "failed",
    }
}

fn state_style(state: State) -> Style {
    let colour = match state {
        State::Running => AnsiColor::Green,
        State::Refused | State::Failed => AnsiColor::Red,
        State::Pending | State::Proving | State::Stopping => AnsiColor::Yellow,
        State::Stopped => return Style::new().dimmed(),
    };
    Style::new().fg_color(Some(colour.into()))
}

/// All workspaces, one per line.
pub(crate) fn table(printer: &Printer, views: &[View]) -> String {
    let mut table = Table::new(["ID", "STATE", "USER", "TEMPLATE", "LEVEL", "AGE", "NAME"]);
    for view in views {
        table.row([
            view.id.as_str().into(),
            Cell::styled(view.state(), state_style(view.state)),
            view.user.as_str().into(),
            view.template.as_str().into(),
            view.level.to_string().into(),
            age(view.created_at, Timestamp::now()).into(),
            view.name.as_str().into(),
        ]);
    }
    table.render(printer, "No workspaces. Launch one with `cubicle launch jupyterlab --wait`.")
}

/// One workspace, one field per line.
pub(crate) fn details(printer: &Printer, view: &View) -> String {
    let moment = |at: Option<Timestamp>| at.map(|at| at.to_string()).unwrap_or_default();
    let mut text = String::new();
    let mut field = |name: &str, value: &str, style: Style| {
        if !value.is_empty() {
            let width = printer.width.map_or(usize::MAX, |width| width.saturating_sub(15).max(20));
            let value = printer.paint(&wrap(&safe::line(value), width, 15), style);
            text.push_str(&format!("{name:<15}{value}\n"));
        }
    };
    let plain = Style::new();
    field("id", view.id.as_str(), plain);
    field("name", &view.name, plain);
    field("state", view.state(), state_style(view.state));
    field("reason", &view.reason, plain);
    field("url", &view.url, plain);
    field("user", view.user.as_str(), plain);
    field("template", view.template.as_str(), plain);
    field("level", &view.level.to_string(), plain);
    field("engine", &view.engine.to_string(), plain);
    field("pid", &view.pid.map(|pid| pid.to_string()).unwrap_or_default(), plain);
    field("created", &view.created_at.to_string(), plain);
    field("opened", &moment(view.opened_at), plain);
    field("last activity", &moment(view.last_activity), plain);
    field("stops", &moment(view.stops_at), plain);
    for warning in &view.warnings {
        field("warning", warning, Style::new().fg_color(Some(AnsiColor::Yellow.into())));
    }
    text
}

/// How long ago, in the largest whole unit.
pub(crate) fn age(then: Timestamp, now: Timestamp) -> String {
    let seconds = (now.as_second() - then.as_second()).max(0);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_have_one_unit() {
        let now = Timestamp::from_second(1_000_000).expect("valid");
        let at = |seconds: i64| Timestamp::from_second(1_000_000 - seconds).expect("valid");
        assert_eq!(age(at(-5), now), "0s");
        assert_eq!(age(at(59), now), "59s");
        assert_eq!(age(at(3599), now), "59m");
        assert_eq!(age(at(90_000), now), "1d");
    }
}
