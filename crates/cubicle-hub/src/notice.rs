//! What the site tells everybody: an announcement, and whether it is closed for maintenance.
//!
//! While it is closed nobody but an administrator launches anything; what runs goes on.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use cubicle_core::problem::{Problem, ProblemKind};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::hub::{Caller, Hub};
use crate::journal;

/// The longest announcement, in characters.
pub(crate) const LONGEST: usize = 500;
/// How often a hub looks whether another one has changed it.
const PACE: Duration = Duration::from_secs(5);

/// What stands on top of every page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Notice {
    /// Plain text; may be empty when the site is closed.
    pub(crate) text: String,
    /// Whether the site is closed for launches.
    pub(crate) maintenance: bool,
    /// When it was written.
    pub(crate) at: Timestamp,
}

/// The notice as this hub last saw it: for pages, where a few seconds do not matter.
#[derive(Default)]
pub(crate) struct NoticeBoard {
    seen: RwLock<Option<Notice>>,
}

impl NoticeBoard {
    /// The notice as last seen.
    pub(crate) fn seen(&self) -> Option<Notice> {
        self.seen.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn put(&self, notice: Option<Notice>) {
        *self.seen.write().unwrap_or_else(PoisonError::into_inner) = notice;
    }
}

impl Hub {
    /// Refuses everybody but administrators while the site is closed. Asks the store, because a
    /// launch that slips through may be cut off by the maintenance.
    pub(crate) async fn require_open(&self, caller: &Caller) -> Result<(), Problem> {
        match self.store.notice().await? {
            Some(notice) if notice.maintenance && !caller.is_admin() => {
                let why = if notice.text.is_empty() { String::new() } else { format!(": {}", notice.text) };
                Err(Problem::new(
                    ProblemKind::Exhausted,
                    format!("the site is closed for maintenance{why}"),
                    "running notebooks go on; launch again when it is over",
                ))
            }
            _ => Ok(()),
        }
    }

    /// Writes the notice, or takes it away when there is neither text nor maintenance.
    pub(crate) async fn set_notice(&self, text: &str, maintenance: bool) -> Result<Option<Notice>, Problem> {
        let text = text.trim();
        let length = text.chars().count();
        if length > LONGEST || text.chars().any(char::is_control) {
            return Err(Problem::bad_input(
                format!("the announcement has {length} characters, or some that are not plain text"),
                format!("use one line of up to {LONGEST} characters"),
            ));
        }
        let notice = (maintenance || !text.is_empty()).then(|| Notice {
            text: text.to_owned(),
            maintenance,
            at: Timestamp::now(),
        });
        journal::about(match &notice {
            None => "no notice".to_owned(),
            Some(notice) => format!("maintenance {}: {}", notice.maintenance, notice.text),
        });
        self.store.set_notice(notice.clone()).await?;
        self.notices.put(notice.clone());
        Ok(notice)
    }

    /// Keeps what pages show close to what the store holds, for ever.
    pub(crate) async fn follow_notice(self: Arc<Self>) {
        let mut interval = tokio::time::interval(PACE);
        loop {
            interval.tick().await;
            if let Ok(notice) = self.store.notice().await {
                self.notices.put(notice);
            }
        }
    }
}
