//! Launches that are announced, so that sandboxes are ready for them: a class at nine.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::name::TemplateName;
use crate::problem::Problem;

/// The most launches that one reservation announces.
pub const MOST_LAUNCHES: u32 = 10_000;
/// How far ahead something may be announced.
pub const FURTHEST: SignedDuration = SignedDuration::from_hours(400 * 24);

/// What somebody announces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewReservation {
    /// What will be launched.
    pub template: TemplateName,
    /// When.
    pub at: Timestamp,
    /// How many launches.
    pub count: u32,
}

/// An announcement that an engine keeps until it is past.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reservation {
    /// The identifier, `r-` and 12 characters.
    pub id: String,
    /// What will be launched.
    pub template: TemplateName,
    /// When.
    pub at: Timestamp,
    /// How many launches.
    pub count: u32,
}

impl NewReservation {
    /// Checks it against the rules.
    ///
    /// # Errors
    /// Bad input: nobody, too many, past, or too far ahead.
    pub fn validate(&self, now: Timestamp) -> Result<(), Problem> {
        if !(1..=MOST_LAUNCHES).contains(&self.count) {
            return Err(Problem::bad_input(
                format!("a reservation is for 1 to {MOST_LAUNCHES} launches; this one says {}", self.count),
                "say how many people will come",
            ));
        }
        let ahead = self.at.duration_since(now);
        if ahead.is_negative() || ahead > FURTHEST {
            return Err(Problem::bad_input(
                format!("a reservation is for a time within the next 400 days; this one says {}", self.at),
                "give a time to come, for example 2026-11-30T09:00:00Z",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_come_is_announced() {
        let now: Timestamp = "2026-11-26T09:00:00Z".parse().expect("a time");
        let valid = |at: SignedDuration, count: u32| {
            let at = now.checked_add(at).expect("in range");
            NewReservation { template: "lab".parse().expect("a name"), at, count }.validate(now).is_ok()
        };
        let hour = SignedDuration::from_hours(1);
        assert!(valid(hour, 1) && valid(hour, MOST_LAUNCHES) && valid(SignedDuration::ZERO, 1) && valid(FURTHEST, 1));
        assert!(!valid(hour, 0) && !valid(hour, MOST_LAUNCHES + 1) && !valid(-hour, 1) && !valid(FURTHEST + hour, 1));
    }
}
