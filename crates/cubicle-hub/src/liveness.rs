//! What is open dies with its session: sign-out, disabling and expiry close every request,
//! event stream and WebSocket that hangs on it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use jiff::Timestamp;
use tokio::sync::watch;

use crate::secret::Digest;

/// Who follows which session.
#[derive(Default)]
pub(crate) struct Liveness {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Counts endings.
    epoch: u64,
    followed: HashMap<Digest, watch::Sender<()>>,
}

/// A point in time between endings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Epoch(u64);

/// Resolves when the session ends.
pub(crate) struct Ending {
    ended: watch::Receiver<()>,
    expires_at: Timestamp,
    /// What else ends it.
    closed: BoxFuture<'static, ()>,
}

impl Ending {
    /// Waits for the end of the session, whatever ends it.
    pub(crate) async fn wait(self) {
        let Self { mut ended, expires_at, closed } = self;
        let left = Duration::try_from(expires_at.duration_since(Timestamp::now())).unwrap_or_default();
        tokio::select! {
            _ = tokio::time::timeout(left, async { while ended.changed().await.is_ok() {} }) => {}
            () = closed => {}
        }
    }

    /// The same, or earlier, when this resolves.
    pub(crate) fn or(mut self, closed: impl Future<Output = ()> + Send + 'static) -> Self {
        self.closed = closed.boxed();
        self
    }
}

impl Liveness {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be taken before the session is looked up.
    pub(crate) fn epoch(&self) -> Epoch {
        Epoch(self.state().epoch)
    }

    /// Follows a session that was looked up after `since`. Nothing when any session ended since:
    /// it may have been this one, so it must be looked up again.
    pub(crate) fn follow(&self, session: Digest, expires_at: Timestamp, since: Epoch) -> Option<Ending> {
        let mut state = self.state();
        if state.epoch != since.0 {
            return None;
        }
        let sender = state.followed.entry(session).or_insert_with(|| watch::channel(()).0);
        Some(Ending { ended: sender.subscribe(), expires_at, closed: futures::future::pending().boxed() })
    }

    /// Closes all that hangs on a session. To be called after it is gone from the database.
    pub(crate) fn end(&self, session: &Digest) {
        let mut state = self.state();
        state.epoch += 1;
        state.followed.remove(session);
    }

    /// Forgets sessions that nobody follows any more.
    pub(crate) fn forget_unfollowed(&self) {
        self.state().followed.retain(|_, sender| sender.receiver_count() > 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Purpose;

    fn later() -> Timestamp {
        Timestamp::now() + jiff::SignedDuration::from_secs(3600)
    }

    #[tokio::test]
    async fn ending_a_session_wakes_its_followers_only() {
        let liveness = Liveness::default();
        let (one, other) = (Digest::of(Purpose::Session, "1"), Digest::of(Purpose::Session, "2"));
        let since = liveness.epoch();
        let first = liveness.follow(one, later(), since).expect("followed");
        let second = liveness.follow(other, later(), since).expect("followed");
        liveness.end(&one);
        tokio::time::timeout(Duration::from_secs(1), first.wait()).await.expect("ended");
        assert!(tokio::time::timeout(Duration::from_millis(50), second.wait()).await.is_err());
    }

    #[tokio::test]
    async fn a_session_that_ended_during_the_look_up_is_not_followed() {
        let liveness = Liveness::default();
        let one = Digest::of(Purpose::Session, "1");
        let since = liveness.epoch();
        liveness.end(&one);
        assert!(liveness.follow(one, later(), since).is_none());
    }

    #[tokio::test]
    async fn expiry_ends_too() {
        let liveness = Liveness::default();
        let one = Digest::of(Purpose::Session, "1");
        let ending = liveness.follow(one, Timestamp::now(), liveness.epoch()).expect("followed");
        tokio::time::timeout(Duration::from_secs(1), ending.wait()).await.expect("ended");
    }
}
