//! Processor time per time, from two readings of a counter that only grows.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use cubicle_core::name::WorkspaceId;
use cubicle_core::workspace::Usage;

/// The shortest time between two readings that give a rate.
const SHORTEST: Duration = Duration::from_millis(500);
/// Readings older than this say nothing about now.
const LONGEST: Duration = Duration::from_secs(300);

/// The last readings.
#[derive(Default)]
pub(crate) struct Meter {
    readings: Mutex<HashMap<WorkspaceId, Reading>>,
}

struct Reading {
    at: Instant,
    cpu_us: u64,
    /// In thousandths of one CPU, between the last two readings.
    rate: Option<u64>,
}

impl Meter {
    /// Takes a reading; gives thousandths of one CPU since the one before.
    pub(crate) fn read(&self, id: &WorkspaceId, usage: &Usage) -> Option<u64> {
        self.read_at(id, usage.cpu_us, Instant::now())
    }

    fn read_at(&self, id: &WorkspaceId, cpu_us: u64, now: Instant) -> Option<u64> {
        let mut readings = self.readings.lock().unwrap_or_else(PoisonError::into_inner);
        readings.retain(|_, reading| now.duration_since(reading.at) < LONGEST);
        let Some(last) = readings.get_mut(id) else {
            readings.insert(id.clone(), Reading { at: now, cpu_us, rate: None });
            return None;
        };
        let passed = now.duration_since(last.at);
        if passed < SHORTEST {
            return last.rate;
        }
        // A smaller value is a counter that began anew.
        let rate = cpu_us.checked_sub(last.cpu_us).and_then(|used| {
            let micros = u64::try_from(passed.as_micros()).ok()?;
            used.checked_mul(1000)?.checked_div(micros)
        });
        *last = Reading { at: now, cpu_us, rate };
        rate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_readings_make_a_rate() {
        let meter = Meter::default();
        let id: WorkspaceId = "w-000000000000".parse().expect("valid");
        let now = Instant::now();
        assert_eq!(meter.read_at(&id, 1_000_000, now), None);
        assert_eq!(meter.read_at(&id, 2_000_000, now + Duration::from_secs(2)), Some(500));
        assert_eq!(meter.read_at(&id, 2_100_000, now + Duration::from_millis(2100)), Some(500));
        assert_eq!(meter.read_at(&id, 0, now + Duration::from_secs(4)), None);
    }
}
