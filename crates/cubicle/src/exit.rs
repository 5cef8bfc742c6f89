//! Exit codes: the only place where an answer becomes a number.

use std::process::ExitCode;

use cubicle_core::problem::ProblemKind;
use cubicle_core::report::Summary;

/// How a command that did its work ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Done, or nothing breached.
    Done,
    /// A check answered no.
    No,
    /// A check could not be decided.
    Undecided,
    /// The exit code of a command that ran inside a workspace.
    PassedThrough(u8),
}

impl Outcome {
    /// What a report says about the walls: one breach outweighs everything unproven.
    pub(crate) fn of_report(summary: &Summary) -> Self {
        match summary {
            Summary { breached: 1.., .. } => Self::No,
            Summary { unproven: 1.., .. } => Self::Undecided,
            _ => Self::Done,
        }
    }
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        Self::from(match outcome {
            Outcome::Done => 0,
            Outcome::No => 1,
            Outcome::Undecided => 3,
            Outcome::PassedThrough(code) => code,
        })
    }
}

/// The exit code of a command that was refused or failed.
pub(crate) fn of_problem(kind: ProblemKind) -> ExitCode {
    ExitCode::from(match kind {
        ProblemKind::BadInput | ProblemKind::Conflict => 2,
        ProblemKind::NotFound | ProblemKind::NotAllowed => 4,
        ProblemKind::Exhausted | ProblemKind::Engine => 5,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_breach_outweighs_what_is_unproven() {
        let summary = |breached, unproven| Summary { held: 9, breached, unproven, absent: 9, not_claimed: 9 };
        assert_eq!(Outcome::of_report(&summary(0, 0)), Outcome::Done);
        assert_eq!(Outcome::of_report(&summary(0, 2)), Outcome::Undecided);
        assert_eq!(Outcome::of_report(&summary(1, 2)), Outcome::No);
    }
}
