//! Launches that somebody announces.

use cubicle_core::engine::no_reservation;
use cubicle_core::name::WorkspaceId;
use cubicle_core::problem::{Problem, ProblemKind};
use cubicle_core::reservation::{NewReservation, Reservation};
use jiff::Timestamp;

use crate::supervisor::Supervisor;
use crate::templates::no_template;

/// More than this is a mistake of a program.
const MOST: usize = 1000;

impl Supervisor {
    pub(crate) fn reserve(&self, asked: NewReservation) -> Result<Reservation, Problem> {
        asked.validate(Timestamp::now())?;
        if self.store.template(&asked.template)?.is_none() {
            return Err(no_template(&asked.template));
        }
        if self.store.reservations()?.len() >= MOST {
            return Err(Problem::new(
                ProblemKind::Exhausted,
                format!("there are {MOST} reservations already"),
                "cancel some, or wait until they are past",
            ));
        }
        let NewReservation { template, at, count } = asked;
        // The same letters as of workspaces.
        let letters = WorkspaceId::from_random(rand::random());
        let id = format!("r-{}", letters.as_str().trim_start_matches("w-"));
        let reservation = Reservation { id, template, at, count };
        self.store.put_reservation(&reservation)?;
        self.pool.look_again();
        Ok(reservation)
    }

    pub(crate) fn cancel_reservation(&self, id: &str) -> Result<(), Problem> {
        if !self.store.delete_reservation(id)? {
            return Err(no_reservation(id));
        }
        self.pool.look_again();
        Ok(())
    }
}
