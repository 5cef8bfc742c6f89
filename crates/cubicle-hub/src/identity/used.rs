//! What may be used once: remembered until it would be too old anyway.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::secret::{Digest, Purpose};

/// How many are remembered. Only what was proven to come from a provider is, so strangers cannot
/// fill it; beyond that nothing is taken until some are too old.
const MOST: usize = 50_000;

/// What was used of late.
#[derive(Default)]
pub(super) struct Used {
    until: Mutex<HashMap<Digest, Instant>>,
}

impl Used {
    /// Uses something up; false when it was used before.
    pub(super) fn first_use(&self, what: &str, lifetime: Duration) -> bool {
        let now = Instant::now();
        let mut until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        if until.len() >= MOST {
            until.retain(|_, end| *end > now);
        }
        if until.len() >= MOST {
            return false;
        }
        match until.insert(Digest::of(Purpose::Used, what), now + lifetime) {
            Some(end) => end <= now,
            None => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_is_once_until_it_is_too_old() {
        let used = Used::default();
        assert!(used.first_use("a", Duration::from_secs(60)));
        assert!(!used.first_use("a", Duration::from_secs(60)));
        assert!(used.first_use("b", Duration::ZERO));
        assert!(used.first_use("b", Duration::ZERO));
    }
}
