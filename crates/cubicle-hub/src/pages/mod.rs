//! The web pages: one view per page, filled by the hub, rendered on the server.
//!
//! Every page works without JavaScript except the live progress of a launch. No page holds an
//! inline script or style, so that the hub can send
//! `Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self';
//! img-src 'self' data:; connect-src 'self'; form-action 'self' ...; base-uri 'none'`.
//! All text is escaped by askama: names, logs and evidence are hostile until shown.
//!
//! Paths that the pages link and post to. Every form is a POST with the hidden field `csrf`
//! and is answered by a redirect (303) or by the same page with its `problem` set.
//!
//! | method and path | fields | answer |
//! |---|---|---|
//! | GET `/` | query `search`, `page` | [`home`] |
//! | GET, POST `/sign-in` | `name`, `password`, `next` | [`sign_in`] |
//! | GET, POST `/sign-in/link` | `token` (the GET's query, the POST's field), `next` | [`sign_in_link`] |
//! | POST `/sign-out` | | 303 `/sign-in` |
//! | GET `/signed-out` | query `provider` | [`signed_out`] |
//! | GET `/account` | | [`account`] |
//! | POST `/account/password` | `current`, `password`, `repeat` | 303 or [`account`] |
//! | POST `/account/tokens` | `name`, `scope`, `days` | [`account`] with the token, once |
//! | POST `/account/tokens/{token id}/delete` | | 303 `/account` |
//! | POST `/workspaces` | `template`, `name` | 303 `/workspaces/{id}` |
//! | GET `/workspaces/{id}` | | [`launch`] |
//! | GET `/workspaces/{id}/open` | | 303 to the workspace's own origin |
//! | POST `/workspaces/{id}/start`, `.../stop` | | 303 `/workspaces/{id}` or `/` |
//! | GET `/workspaces/{id}/delete` | | [`confirm`] |
//! | POST `/workspaces/{id}/delete` | `volume` (`yes` or missing) | 303 `/` |
//! | GET `/workspaces/{id}/isolation` | query `verdict` | [`isolation`] |
//! | POST `/workspaces/{id}/verify` | | 303 `/workspaces/{id}/isolation` |
//! | GET `/admin/users` | query `search`, `page` | [`admin_users`] |
//! | POST `/admin/users` | `name`, `admin` (`yes` or missing) | [`admin_users`] with the link, once |
//! | POST `/admin/users/{user id}/sign-in-link` | | [`admin_users`] with the link, once |
//! | GET `/admin/users/{user id}/disable` | | [`confirm`] |
//! | POST `/admin/users/{user id}/disable`, `.../enable` | | 303 `/admin/users` |
//! | GET `/admin/workspaces` | query `search`, `page` | [`admin_workspaces`] |
//! | GET `/admin/templates` | | [`admin_templates`] |
//! | GET `/admin/templates/{name}` | | [`admin_templates`] with the YAML of that one |
//! | POST `/admin/templates` | `yaml` | 303 `/admin/templates` or the page with `problem` |
//! | GET, POST `/admin/templates/{name}/delete` | | [`confirm`], 303 `/admin/templates` |
//! | GET `/admin/machine` | | [`admin_machine`] |
//! | GET `/admin/usage` | query `from`, `to` | [`admin_usage`] |
//! | GET, POST `/admin/notice` | `text`, `maintenance` (`yes` or missing) | [`admin_notice`] |
//! | GET `/admin/log` | query `search`, `page` | [`admin_log`] |
//! | GET `/assets/{name}` | | [`assets::find`] |
//! | GET `/.cubicle/assets/{name}` on a workspace's origin | | [`assets::find`], for [`not_running`] |
//!
//! The launch page reads `/api/v1/workspaces/{id}/events`; the isolation page links
//! `/api/v1/workspaces/{id}/report`.

pub mod account;
pub mod admin_log;
pub mod admin_machine;
pub mod admin_notice;
pub mod admin_templates;
pub mod admin_usage;
pub mod admin_users;
pub mod admin_workspaces;
pub mod assets;
pub mod confirm;
pub mod home;
pub mod isolation;
pub mod launch;
pub mod not_running;
pub mod problem;
pub mod sign_in;
pub mod sign_in_link;
pub mod signed_out;
mod words;

use cubicle_core::name::UserName;
use cubicle_core::workspace::{State, Usage, Workspace};
use jiff::Timestamp;

/// Why a page could not be rendered; only a formatting error, never the content's fault.
pub use askama::Error as RenderError;

/// What surrounds every page: who looks at it, and what its forms carry.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Who is signed in; nobody on the pages before.
    pub viewer: Option<Viewer>,
    /// The value of every form's hidden `csrf` field.
    pub csrf: String,
    /// The time that "5 minutes ago" counts from.
    pub now: Timestamp,
    /// What the last action did, in one sentence; shown once on top.
    pub notice: Option<String>,
    /// What the site tells everybody.
    pub announcement: Option<Announcement>,
}

/// What the site tells everybody.
#[derive(Debug, Clone)]
pub struct Announcement {
    /// Plain text; may be empty.
    pub text: String,
    /// Whether the site is closed for launches.
    pub maintenance: bool,
}

impl Frame {
    /// Whether the viewer may run, stop or delete anything: an auditor only looks.
    fn works(&self) -> bool {
        self.viewer.as_ref().is_some_and(|viewer| viewer.role != "auditor")
    }
}

/// The person who looks at a page.
#[derive(Debug, Clone)]
pub struct Viewer {
    /// The name.
    pub name: UserName,
    /// What the person may do: `admin`, `auditor` or `user`.
    pub role: &'static str,
}

/// One page of a list that is searched and cut on the server.
#[derive(Debug, Clone)]
pub struct Paging {
    /// What was searched for; empty for everything.
    pub search: String,
    /// The number of this page, from 1.
    pub page: usize,
    /// Rows per page.
    pub size: usize,
    /// Rows on all pages.
    pub total: usize,
}

/// A workspace with what it uses now.
#[derive(Debug, Clone)]
pub struct WorkspaceRow {
    /// The workspace.
    pub workspace: Workspace,
    /// What it uses; none when it does not run or could not be asked.
    pub usage: Option<Usage>,
    /// Processor time per time between the last two readings, in thousandths of one CPU; none
    /// before the second reading.
    pub cpu_now: Option<u64>,
    /// The template's limit in thousandths of one CPU; none when the template is gone.
    pub cpu_limit: Option<u64>,
}

impl WorkspaceRow {
    /// Whether a launch from the first step is possible.
    fn can_start(&self) -> bool {
        matches!(self.workspace.state, State::Stopped | State::Refused | State::Failed)
    }

    /// Whether there is something to stop.
    fn can_stop(&self) -> bool {
        matches!(self.workspace.state, State::Pending | State::Proving | State::Running)
    }

    /// Whether so little of the home is left that saving fails or soon will: less than one
    /// part in fifty.
    fn home_is_full(&self) -> bool {
        self.usage.is_some_and(|usage| usage.home_limit.is_some_and(|limit| usage.home >= limit - limit / 50))
    }
}

impl Paging {
    /// The number of the last page, at least 1.
    pub fn last(&self) -> usize {
        self.total.div_ceil(self.size.max(1)).max(1)
    }

    /// The position of the first row on this page, from 1; 0 when there is none.
    fn first_row(&self) -> usize {
        if self.total == 0 { 0 } else { (self.page.max(1) - 1) * self.size + 1 }
    }

    /// The position of the last row on this page.
    fn last_row(&self) -> usize {
        (self.page.max(1) * self.size).min(self.total)
    }

    /// The query of another page of the same search.
    fn query(&self, page: usize) -> String {
        format!("?search={}&page={page}", words::percent_encoded(&self.search))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paging_counts_from_one() {
        let paging = |page, total| Paging { search: "a b&c".to_owned(), page, size: 50, total };
        assert_eq!((paging(1, 0).last(), paging(1, 0).first_row(), paging(1, 0).last_row()), (1, 0, 0));
        assert_eq!((paging(2, 51).last(), paging(2, 51).first_row(), paging(2, 51).last_row()), (2, 51, 51));
        assert_eq!(paging(1, 51).query(2), "?search=a%20b%26c&page=2");
    }
}
