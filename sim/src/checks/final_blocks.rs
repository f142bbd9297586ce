//! Checks of final blocks (protocol §9): they never move back, all of them lie on one
//! chain, and after a conflict of certificates the proofs name the validators at fault.
//!
//! This is safety: it must hold with any number of silent validators, and with lying ones
//! up to the point at which certificates can conflict. Start reading at
//! [`Simulation::check_final`].

use std::collections::BTreeSet;

use pithead_consensus::{Address, BlockHash, Checkpoint};
use pithead_core::finality::{FinalityStatus, Proof};
use pithead_core::store::schema;

use crate::checks::liveness::LAG_CHECKPOINTS_MAX;
use crate::nodes::keys::validator_keys;
use crate::nodes::sim_node::{finality_of, finality_status};
use crate::violation::Violation;
use crate::world::Simulation;

impl Simulation {
    /// Whether enough validators lie for two certificates to conflict.
    pub(crate) fn may_conflict(&self) -> bool {
        let settings = &self.settings;
        settings.validators > 0 && settings.equivocators >= settings.quorum_overlap()
    }

    /// After each event of an honest node: its last final block has not moved back, and
    /// its tip builds on that block if it has the block at all.
    pub(crate) fn check_chain(&mut self, index: usize) -> Result<(), Violation> {
        if self.settings.validators == 0 || !self.nodes[index].is_honest() {
            return Ok(());
        }
        let Some(core) = &self.nodes[index].core else {
            return Ok(());
        };
        let (tip, last_final) = (core.chain().tip().hash(), finality_status(core).last_final);
        let checked = self.nodes[index].checked;
        if checked == Some((tip, last_final)) {
            return Ok(());
        }
        if let Some((_, earlier)) = checked
            && last_final.height <= earlier.height
            && last_final != earlier
        {
            let (from, to) = (earlier.height, last_final.height);
            let what = format!("its last final block moves back from height {from} to {to}");
            return Err(self.violation(Some(index), what));
        }
        let (height, hash) = (last_final.height.0, last_final.hash);
        if self.model.ancestor(&tip, height) != Some(hash) {
            let snapshot = core.chain().store().snapshot();
            let known = snapshot.and_then(|snapshot| schema::entry(snapshot.as_ref(), &hash));
            let known = known.map_err(|error| self.storage_failed(index, &error))?;
            if known.is_some() {
                let what =
                    format!("its tip {tip} does not build on its final block at height {height}");
                return Err(self.violation(Some(index), what));
            }
        }
        self.nodes[index].checked = Some((tip, last_final));
        Ok(())
    }

    /// Finality has moved at an honest node: its last final block must lie on one chain
    /// with the final blocks of all other honest nodes.
    pub(crate) fn check_final(
        &mut self,
        index: usize,
        status: &FinalityStatus,
    ) -> Result<(), Violation> {
        if status.conflict {
            return self.check_conflict(index);
        }
        let Checkpoint { height, hash } = status.last_final;
        match self.conflicting_final_block(&status.last_final) {
            None => {
                self.finality.final_blocks.insert(height.0, hash);
                Ok(())
            }
            Some((other_height, other)) if !self.may_conflict() => {
                let what = format!(
                    "two conflicting blocks are final: {other} at height {other_height} and {hash} at height {height}"
                );
                Err(self.violation(Some(index), what))
            }
            Some(_) => {
                self.finality.conflicts += 1;
                Ok(())
            }
        }
    }

    /// A block that is final at some node and not on one chain with this one.
    ///
    /// The final blocks that are known so far lie on one chain. So it is enough to compare
    /// the new one with the two next to it by height. For example, with final blocks at
    /// heights 10, 20 and 40, a new one at height 30 is compared with those at 20 and 40.
    fn conflicting_final_block(&self, last_final: &Checkpoint) -> Option<(u64, BlockHash)> {
        let (height, hash) = (last_final.height.0, last_final.hash);
        let known = &self.finality.final_blocks;
        let below = known.range(..=height).next_back();
        let above = known.range(height.saturating_add(1)..).next();
        let mut neighbours = [below, above].into_iter().flatten();
        let conflict = neighbours.find(|(at, other)| {
            let (low, low_hash, top) = if **at <= height {
                (**at, **other, &hash)
            } else {
                (height, hash, *other)
            };
            self.model.ancestor(top, low) != Some(low_hash)
        });
        conflict.map(|(at, other)| (*at, *other))
    }

    /// A node has met two conflicting certificates. Only enough lying validators can make
    /// them, and the node's proofs must name as many validators as two quorums share.
    fn check_conflict(&mut self, index: usize) -> Result<(), Violation> {
        if !self.may_conflict() {
            return Err(self.violation(Some(index), "two certificates conflict"));
        }
        self.finality.conflicts += 1;
        let (named, shared) = (self.accused(index).len(), self.settings.quorum_overlap());
        if named < shared {
            let what =
                format!("after a conflict its proofs name {named} validators, fewer than {shared}");
            return Err(self.violation(Some(index), what));
        }
        Ok(())
    }

    /// The validators that a node's proofs name as having broken a rule.
    fn accused(&self, index: usize) -> BTreeSet<Address> {
        let Some(core) = &self.nodes[index].core else {
            return BTreeSet::new();
        };
        let state = finality_of(core);
        let proofs = state.proofs().iter();
        proofs
            .filter_map(|kept| match &kept.proof {
                Proof::Votes(evidence) => Some(evidence.validator()),
                Proof::Certificates(..) => None,
            })
            .collect()
    }

    /// The checks of finality at the end of a run. No honest validator is accused, each
    /// node that knows of a conflict can name the validators at fault, and finality has
    /// followed the tip where enough validators are honest.
    pub(crate) fn check_finality_at_end(&self) -> Result<(), Violation> {
        let settings = &self.settings;
        if settings.validators == 0 {
            return Ok(());
        }
        let honest: Vec<Address> = validator_keys()
            .iter()
            .take(settings.validators)
            .skip(settings.equivocators)
            .map(|key| key.address)
            .collect();
        for (index, node) in self.nodes.iter().enumerate() {
            let Some(core) = node.core.as_ref().filter(|_| node.is_honest()) else {
                continue;
            };
            let accused = self.accused(index);
            if let Some(address) = honest.iter().find(|address| accused.contains(address)) {
                let what = format!("it accuses {address:?}, an honest validator");
                return Err(self.violation(Some(index), what));
            }
            if finality_status(core).conflict && accused.len() < settings.quorum_overlap() {
                let what = format!("it knows of a conflict and names {} liars", accused.len());
                return Err(self.violation(Some(index), what));
            }
        }
        // Finality had followed the tip when mining ended. The last block, and blocks that
        // were under way, may have passed one more checkpoint since.
        if self.must_finalise()
            && let Some((index, what)) = self.first_lagging_node(LAG_CHECKPOINTS_MAX + 1)
        {
            return Err(self.violation(Some(index), what + &self.describe_nodes()));
        }
        Ok(())
    }
}
