//! Which validators vote honestly, and when the silent ones stop and start again.
//!
//! Lying validators vote in `liars::validators` instead. Start reading at
//! [`Simulation::voter`].

use pithead_core::finality::Voter;

use crate::events::SECOND_US;
use crate::nodes::keys::{RecordingSigner, validator_keys};
use crate::violation::Violation;
use crate::world::Simulation;

impl Simulation {
    /// Whether the validator on this node votes honestly at this moment.
    fn votes_honestly(&self, index: usize) -> bool {
        let settings = &self.settings;
        let lies = index < settings.without_own_votes();
        // The silent validators are the last ones.
        let is_silent = index + settings.silent >= settings.validators;
        let (from, until) = settings.silence_secs;
        let in_silence = (from * SECOND_US..until * SECOND_US).contains(&self.now_us);
        !(lies || is_silent && in_silence)
    }

    /// The voter of a node that is about to start; `None` if the node is not to vote.
    pub(crate) fn voter(&self, index: usize) -> Option<Voter> {
        let journal = self.nodes.get(index)?.journal.clone()?;
        if !self.votes_honestly(index) {
            return None;
        }
        let votes = journal.read_back();
        let signer = RecordingSigner::new(validator_keys().get(index)?, journal.clone());
        Some(Voter::new(Box::new(signer), Box::new(journal), votes))
    }

    /// The silence of some validators begins or ends. Their nodes crash, and vote or not
    /// when they start again.
    pub(crate) fn toggle_silence(&mut self) -> Result<(), Violation> {
        let validators = self.settings.validators;
        for index in validators.saturating_sub(self.settings.silent)..validators {
            if self.nodes[index].core.is_some() {
                self.crash_now(index)?;
            }
        }
        Ok(())
    }
}
