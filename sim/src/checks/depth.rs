//! How deep late votes may reorganise the chain (protocol §8).
//!
//! The limit holds for runs with an adversary, whose own chains are short. A network that was split
//! may undo more by work alone. Start reading at [`Simulation::check_depth`].

use crate::violation::Violation;
use crate::world::Simulation;

/// The most blocks that late or withheld votes may undo.
pub const LATE_VOTES_UNDO_MAX: usize = 8;

impl Simulation {
    /// An honest node has undone so many blocks at once.
    pub(crate) fn check_depth(&self, index: usize, disconnected: usize) -> Result<(), Violation> {
        let limited = self.settings.adversary.is_some();
        if limited && disconnected > LATE_VOTES_UNDO_MAX {
            let what = format!(
                "late votes undo {disconnected} of its blocks, more than {LATE_VOTES_UNDO_MAX}"
            );
            return Err(self.violation(Some(index), what + &self.describe_nodes()));
        }
        Ok(())
    }
}
