//! Activity is what a user did: requests and kernel messages, not what an open tab does by
//! itself. `busy` is what the notebook says about its kernels, and only ever a claim.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::Method;
use cubicle_core::engine::Activity;
use cubicle_core::name::WorkspaceId;
use jiff::Timestamp;

/// What JupyterLab, Notebook 7 and their extensions ask by themselves while a tab is open
/// (jupyterlab/packages/services: polls of kernels, sessions, terminals, kernelspecs, user;
/// filebrowser: poll of contents; settings, layout and translations through `/lab/api`).
const POLLED: [&str; 15] = [
    "/api",
    "/api/status",
    "/api/me",
    "/api/kernels",
    "/api/sessions",
    "/api/terminals",
    "/api/kernelspecs",
    "/api/contents",
    "/api/metrics",
    "/api/events",
    "/api/spec.yaml",
    "/metrics",
    "/lsp",
    "/kernelspecs",
    "/favicon.ico",
];

/// Files of the application itself.
const STATIC: [&str; 8] = [
    "/static/",
    "/lab/static/",
    "/lab/extensions/",
    "/lab/api/",
    "/nbextensions/",
    "/custom/",
    "/.cubicle/",
    "/service-worker",
];

/// Whether a plain request is something that the user did.
pub(crate) fn is_by_user(method: &Method, path: &str) -> bool {
    let under = |prefix: &str| path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    // Layout and settings are saved there whenever a tab feels like it, with PUT too.
    if STATIC.iter().any(|prefix| path.starts_with(prefix)) {
        return false;
    }
    if !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) {
        return true;
    }
    path != "/api" && !POLLED.iter().skip(1).any(|prefix| under(prefix))
}

/// Whether messages on this WebSocket are something that the user did: kernels and terminals.
pub(crate) fn is_user_socket(path: &str) -> bool {
    (path.starts_with("/api/kernels/") && path.ends_with("/channels")) || path.starts_with("/terminals/websocket/")
}

/// What was seen and not yet reported.
#[derive(Default)]
pub(crate) struct ActivityBook {
    seen: Mutex<HashMap<WorkspaceId, Seen>>,
}

struct Seen {
    at: Timestamp,
    busy_at: Option<Timestamp>,
    pending: bool,
    reported: Option<Instant>,
}

impl ActivityBook {
    /// The user did something just now.
    pub(crate) fn by_user(&self, id: &WorkspaceId) {
        let now = Timestamp::now();
        self.note(id, now, None);
    }

    /// The notebook said that a kernel is busy; `last` is when the user last did something, as
    /// far as the engine knows.
    pub(crate) fn busy(&self, id: &WorkspaceId, last: Timestamp) {
        self.note(id, last, Some(Timestamp::now()));
    }

    fn note(&self, id: &WorkspaceId, at: Timestamp, busy_at: Option<Timestamp>) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = seen.entry(id.clone()).or_insert(Seen { at, busy_at: None, pending: false, reported: None });
        entry.at = entry.at.max(at);
        entry.busy_at = entry.busy_at.max(busy_at);
        entry.pending = true;
    }

    /// Takes what is due: at most one report per workspace and `interval`.
    pub(crate) fn due(&self, interval: Duration) -> Vec<(WorkspaceId, Activity)> {
        let now = Instant::now();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        // What was quiet for long needs no memory; the engine knows it.
        seen.retain(|_, entry| entry.pending || entry.reported.is_none_or(|at| now.duration_since(at) < interval * 2));
        seen.iter_mut()
            .filter(|(_, entry)| entry.pending && entry.reported.is_none_or(|at| now.duration_since(at) >= interval))
            .map(|(id, entry)| {
                entry.pending = false;
                entry.reported = Some(now);
                (id.clone(), Activity { at: entry.at, busy_at: entry.busy_at })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polls_are_not_the_user() {
        for path in [
            "/api",
            "/api/status",
            "/api/kernels",
            "/api/kernels/4-2",
            "/api/sessions",
            "/api/terminals",
            "/api/kernelspecs",
            "/api/contents",
            "/api/contents/work/a.ipynb",
            "/api/contents/a.ipynb/checkpoints",
            "/api/me",
            "/metrics",
            "/lab/api/settings",
            "/lab/api/translations/en",
            "/static/lab/main.js",
            "/lab/static/x.js",
            "/favicon.ico",
        ] {
            assert!(!is_by_user(&Method::GET, path), "{path}");
        }
        assert!(!is_by_user(&Method::PUT, "/lab/api/workspaces/default"));
    }

    #[test]
    fn deeds_are_the_user() {
        for (method, path) in [
            (Method::GET, "/lab"),
            (Method::GET, "/lab/tree/a.ipynb"),
            (Method::GET, "/files/a.csv"),
            (Method::GET, "/apiary"),
            (Method::PUT, "/api/contents/a.ipynb"),
            (Method::POST, "/api/sessions"),
            (Method::POST, "/api/kernels/4-2/restart"),
            (Method::DELETE, "/api/terminals/1"),
        ] {
            assert!(is_by_user(&method, path), "{method} {path}");
        }
        assert!(is_user_socket("/api/kernels/4-2/channels"));
        assert!(is_user_socket("/terminals/websocket/1"));
        assert!(!is_user_socket("/api/events/subscribe"));
        assert!(!is_user_socket("/lsp/ws/pylsp"));
    }

    #[test]
    fn reports_have_a_pace() {
        let book = ActivityBook::default();
        let id: WorkspaceId = "w-000000000000".parse().expect("valid");
        book.by_user(&id);
        assert_eq!(book.due(Duration::from_secs(30)).len(), 1);
        book.by_user(&id);
        assert_eq!(book.due(Duration::from_secs(30)).len(), 0);
        assert_eq!(book.due(Duration::ZERO).len(), 1);
    }

    #[test]
    fn a_busy_kernel_is_not_the_user() {
        let book = ActivityBook::default();
        let id: WorkspaceId = "w-000000000000".parse().expect("valid");
        let long_ago = Timestamp::UNIX_EPOCH;
        book.busy(&id, long_ago);
        let due = book.due(Duration::from_secs(30));
        assert_eq!(due[0].1.at, long_ago);
        assert!(due[0].1.busy_at.is_some());
    }
}
