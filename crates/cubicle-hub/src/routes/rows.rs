//! Workspaces with what they use, cut into pages.

use cubicle_core::template::Template;
use cubicle_core::workspace::{State, Workspace};
use futures::StreamExt as _;
use serde::Deserialize;

use crate::hub::Hub;
use crate::pages::{Paging, WorkspaceRow};

/// Rows on one page.
const SIZE: usize = 25;

/// The query of a list.
#[derive(Debug, Default, Deserialize)]
pub(super) struct ListQuery {
    #[serde(default)]
    search: String,
    #[serde(default)]
    page: String,
    /// What was just done, by its code.
    #[serde(default)]
    pub(super) done: String,
}

impl ListQuery {
    /// What was searched for.
    pub(super) fn search(&self) -> &str {
        self.search.trim()
    }

    /// Items that were searched already, cut to the page that was asked for.
    pub(super) fn cut_found<T>(&self, items: Vec<T>) -> (Paging, Vec<T>) {
        let everything = Self { search: String::new(), page: self.page.clone(), done: String::new() };
        let (paging, rows) = everything.cut(items, |_| String::new());
        (Paging { search: self.search().chars().take(100).collect(), ..paging }, rows)
    }

    /// The items that match the search, cut to the page that was asked for.
    pub(super) fn cut<T>(&self, mut items: Vec<T>, text: impl Fn(&T) -> String) -> (Paging, Vec<T>) {
        let search: String = self.search.trim().chars().take(100).collect();
        let wanted = search.to_lowercase();
        if !wanted.is_empty() {
            items.retain(|item| text(item).to_lowercase().contains(&wanted));
        }
        let mut paging = Paging { search, page: 1, size: SIZE, total: items.len() };
        paging.page = self.page.parse().unwrap_or(1).clamp(1, paging.last());
        let rows = items.into_iter().skip((paging.page - 1) * SIZE).take(SIZE).collect();
        (paging, rows)
    }
}

/// What a search looks through.
pub(super) fn searchable(workspace: &Workspace) -> String {
    format!("{} {} {} {} {:?}", workspace.id, workspace.name, workspace.owner.name, workspace.template, workspace.state)
}

/// Asks what each workspace uses, a few at a time.
pub(super) async fn rows(hub: &Hub, workspaces: Vec<Workspace>, templates: &[Template]) -> Vec<WorkspaceRow> {
    futures::stream::iter(workspaces).map(|workspace| row(hub, workspace, templates)).buffered(8).collect().await
}

/// Asks what one workspace uses.
pub(super) async fn row(hub: &Hub, workspace: Workspace, templates: &[Template]) -> WorkspaceRow {
    let usage = match workspace.state {
        State::Running | State::Proving => hub.engine.usage(&workspace.id).await.ok(),
        _ => None,
    };
    let cpu_now = usage.as_ref().and_then(|usage| hub.meter.read(&workspace.id, usage));
    let template = templates.iter().find(|template| template.metadata.name == workspace.template);
    WorkspaceRow { cpu_limit: template.map(|template| template.spec.resources.cpu.0), workspace, usage, cpu_now }
}

/// What was done, in words. Only known codes are shown, so that no link can put words here.
pub(super) fn notice(done: &str) -> Option<String> {
    let words = match done {
        "password" => "Your password is set. Your other sessions ended.",
        "token-deleted" => "The token is gone and works no more.",
        "deleted" => "The workspace is gone.",
        "deleted-with-home" => "The workspace and the home are gone.",
        "proven" => "The walls were proven again just now.",
        "disabled" => "The account is closed and its sessions ended.",
        "enabled" => "The account is open again.",
        "notice" => "Saved. Every page says so within seconds.",
        "template-saved" => "The template is saved.",
        "template-deleted" => "The template is gone. Its workspaces live on.",
        _ => return None,
    };
    Some(words.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_searched_and_cut() {
        let items: Vec<String> = (0..60).map(|number| format!("Item {number}")).collect();
        let query = |search: &str, page: &str| ListQuery {
            search: search.to_owned(),
            page: page.to_owned(),
            done: String::new(),
        };
        let (paging, rows) = query("", "3").cut(items.clone(), Clone::clone);
        assert_eq!((paging.page, paging.total, rows.len()), (3, 60, 10));
        for strange in ["0", "-1", "x", "99999999999999999999"] {
            assert_eq!(query("", strange).cut(items.clone(), Clone::clone).0.page, 1, "{strange}");
        }
        assert_eq!(query("", "99").cut(items.clone(), Clone::clone).0.page, 3);
        let (paging, rows) = query("iTEM 59", "").cut(items, Clone::clone);
        assert_eq!((paging.total, rows), (1, vec!["Item 59".to_owned()]));
    }
}
