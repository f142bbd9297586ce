//! Checks of single votes (protocol §9): an honest validator keeps rules 3 and 4, and a
//! node that accepts contradicting votes holds a proof of them.
//!
//! Rules 1 and 2 are checked where an honest validator signs, in `nodes::vote_journal`.
//! Start reading at [`Simulation::check_votes_cast`].

use pithead_consensus::{Address, BlockHash, Checkpoint, Link, SignedApproval};
use pithead_core::finality::{FinalityState, FinalityStatus, PROOFS_OF_ONE_MAX, Proof};
use pithead_core::node::{Effect, Node};

use crate::model::vote_rules;
use crate::nodes::keys::{validator_keys, validator_number};
use crate::nodes::sim_node::{finality_of, finality_status};
use crate::violation::Violation;
use crate::world::Simulation;

/// What a node knew of its own chain at one moment.
#[derive(Clone, Copy)]
pub(crate) struct ChainView {
    tip: BlockHash,
    status: FinalityStatus,
}

impl ChainView {
    pub(crate) fn of(core: &Node) -> Self {
        Self {
            tip: core.chain().tip().hash(),
            status: finality_status(core),
        }
    }

    /// What the node knew after these effects.
    fn after(mut self, effects: &[Effect]) -> Self {
        for effect in effects {
            match effect {
                Effect::TipChanged { tip, .. } => self.tip = tip.hash(),
                Effect::FinalityMoved(status) => self.status = *status,
                _ => {}
            }
        }
        self
    }
}

impl Simulation {
    /// Rule 3, for each vote that a node has recorded during an event. `before` is what
    /// the node knew at the start of the event, and `effects` is what it did since.
    pub(crate) fn check_votes_cast(
        &self,
        index: usize,
        before: &ChainView,
        effects: &[Effect],
    ) -> Result<(), Violation> {
        let Some(journal) = &self.nodes[index].journal else {
            return Ok(());
        };
        for cast in journal.votes_cast() {
            let known = cast.effects_before.min(effects.len());
            let view = before.after(&effects[..known]);
            if let Some(wrong) = self.against_rule_3(index, &cast.vote, &view) {
                let vote = vote_rules::describe_vote(&cast.vote);
                let what = format!("vote {vote} breaks rule 3: {wrong}");
                return Err(self.violation(Some(index), what));
            }
        }
        Ok(())
    }

    /// How a vote of a node breaks rule 3; `None` if it keeps it.
    ///
    /// The view names the highest approved checkpoint only. If the best chain does not contain it,
    /// the source must be a lower one that the node knows to be approved.
    fn against_rule_3(&self, index: usize, vote: &Link, view: &ChainView) -> Option<&'static str> {
        let is_on_chain = |at: &Checkpoint, tip: &BlockHash| {
            self.model.ancestor(tip, at.height.0) == Some(at.hash)
        };
        let last_final = &view.status.last_final;
        if !is_on_chain(&vote.target, &view.tip) {
            Some("its target is not on its best chain")
        } else if vote.target.height <= last_final.height
            || !is_on_chain(last_final, &vote.target.hash)
        {
            Some("its target does not descend from its last final block")
        } else if vote.source != view.status.approved
            && is_on_chain(&view.status.approved, &vote.target.hash)
        {
            Some("its source is not the highest approved checkpoint of its best chain")
        } else if !self.knows_approved(index, &vote.source) {
            Some("its source is not approved")
        } else if !is_on_chain(&vote.source, &vote.target.hash) {
            Some("its source is not below its target")
        } else {
            None
        }
    }

    /// Whether a node knows that a checkpoint is approved.
    fn knows_approved(&self, index: usize, checkpoint: &Checkpoint) -> bool {
        self.nodes[index].core.as_ref().is_some_and(|core| {
            let state = core.finality().read();
            state.is_ok_and(|state| state.view().is_approved(checkpoint))
        })
    }

    /// Rule 4, when a node sends a vote by gossip or in a response: if the vote is its
    /// own, it must be on record.
    pub(crate) fn check_vote_sent(
        &mut self,
        index: usize,
        signed: &SignedApproval,
    ) -> Result<(), Violation> {
        let own = validator_keys().get(index).map(|key| key.address);
        // Votes of other validators are only passed on, and liars keep no record.
        if own != Some(signed.approval.validator) || index < self.settings.without_own_votes() {
            return Ok(());
        }
        let Some(journal) = &self.nodes[index].journal else {
            return Ok(());
        };
        let vote = signed.approval.link;
        if !journal.contains(&vote) {
            let vote = vote_rules::describe_vote(&vote);
            let what = format!("vote {vote} leaves before it is on record: rule 4");
            return Err(self.violation(Some(index), what));
        }
        self.finality.votes_sent += 1;
        Ok(())
    }

    /// A node has accepted a vote of a lying validator. If the node has an earlier vote
    /// at hand that contradicts it, it must hold a proof of the two.
    pub(crate) fn check_vote_accepted(
        &mut self,
        index: usize,
        signed: &SignedApproval,
    ) -> Result<(), Violation> {
        let validator = signed.approval.validator;
        let vote = signed.approval.link;
        let liar =
            validator_number(&validator).filter(|number| *number < self.settings.equivocators);
        let (Some(number), Some(core)) = (liar, &self.nodes[index].core) else {
            return Ok(());
        };
        let mut unproven = None;
        {
            let state = finality_of(core);
            let proven = proven_pairs(&state, &validator);
            let accepted = self.nodes[index].accepted_lies.get(&number);
            for earlier in accepted.into_iter().flatten() {
                let contradicts = vote_rules::broken_rule(earlier, &vote).is_some()
                    && state.has(&validator, earlier)
                    && state.has(&validator, &vote);
                self.finality.pairs_met += u64::from(contradicts);
                let is_proven = proven
                    .iter()
                    .any(|pair| pair.contains(earlier) && pair.contains(&vote));
                // The number of proofs that a node keeps against one validator is limited.
                if contradicts && proven.len() < PROOFS_OF_ONE_MAX && !is_proven {
                    unproven = Some(*earlier);
                }
            }
        }
        let accepted = &mut self.nodes[index].accepted_lies;
        accepted.entry(number).or_default().push(vote);
        let Some(earlier) = unproven else {
            return Ok(());
        };
        let (earlier, later) = (
            vote_rules::describe_vote(&earlier),
            vote_rules::describe_vote(&vote),
        );
        let what =
            format!("it holds votes {earlier} and {later} of validator {number}, and no proof");
        Err(self.violation(Some(index), what))
    }
}

/// The pairs of votes by one validator that a node holds as proofs.
fn proven_pairs(state: &FinalityState, validator: &Address) -> Vec<[Link; 2]> {
    let proofs = state.proofs().iter();
    proofs
        .filter_map(|kept| match &kept.proof {
            Proof::Votes(evidence) if evidence.validator() == *validator => {
                let (first, second) = evidence.approvals();
                Some([first.approval.link, second.approval.link])
            }
            _ => None,
        })
        .collect()
}
