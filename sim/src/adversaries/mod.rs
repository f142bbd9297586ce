//! Adversaries: they see the state of every honest node and decide by it, at each step anew, what to
//! withhold and what to release.
//!
//! An adversary holds the keys of some validators and may mine where it likes. It never signs two
//! votes that contradict each other, so that nobody can prove anything against it. What it sees
//! and what it can do is in `hands`; what nodes must withstand is judged in `checks`. Start
//! reading at [`Adversary`], then at [`late_votes`].

mod hands;
mod late_votes;
mod wanderer;

use crate::events::{SECOND_US, SimEvent};
use crate::settings::{AdversaryKind, SimSettings};
use crate::violation::Violation;
use crate::world::Simulation;

/// Time between two steps of an adversary.
const STEP_US: u64 = SECOND_US;

/// Somebody who looks at the whole network once a second and then acts.
pub(crate) trait Adversary {
    /// One step: looks at the world and does something, or nothing.
    ///
    /// # Errors
    /// The violation that the step has shown, for example that a node refuses a valid block.
    fn act(&mut self, world: &mut Simulation) -> Result<(), Violation>;
}

/// The adversary of a run, if it has one.
pub(crate) fn of_settings(settings: &SimSettings) -> Option<Box<dyn Adversary>> {
    Some(match settings.adversary? {
        AdversaryKind::LateVotes => Box::new(late_votes::LateVotes::new(settings)),
        AdversaryKind::Wanderer => Box::new(wanderer::Wanderer::new(settings)),
    })
}

impl Simulation {
    /// Schedules the first step of the adversary.
    pub(crate) fn schedule_adversary(&mut self) {
        if self.adversary.is_some() {
            self.after(STEP_US, SimEvent::Adversary);
        }
    }

    /// The adversary takes a step, and the next one is scheduled. It rests once trouble has ended.
    pub(crate) fn adversary_acts(&mut self) -> Result<(), Violation> {
        let Some(mut adversary) = self.adversary.take().filter(|_| self.trouble) else {
            return Ok(());
        };
        self.after(STEP_US, SimEvent::Adversary);
        let acted = adversary.act(self);
        self.adversary = Some(adversary);
        acted
    }
}
