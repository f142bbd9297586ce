//! What must hold of finality (protocol §9), whoever lies, crashes or is silent:
//! rules 3 and 4 at each vote, one chain of final blocks, proofs against those
//! who broke rules, and that finality moves where enough are honest.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{PoisonError, RwLockReadGuard};

use pithead_consensus::{Address, BlockHash, Checkpoint, Link, SignedApproval};
use pithead_core::finality::{FinalityState, FinalityStatus, Proof, Voter};
use pithead_core::node::{Effect, Node};
use pithead_core::store::schema;

use crate::keys::{Pen, keys};
use crate::record::Record;
use crate::rules;
use crate::world::{SECOND_US, Simulation, Violation};

/// Checkpoints that what is approved or final may be behind the tip once all is
/// calm: the next approval makes the last but one final.
pub(crate) const LAG_CHECKPOINTS_MAX: u64 = 3;

/// What is known of finality in a run.
#[derive(Debug, Default)]
pub(crate) struct FinalityWatch {
    /// Every block that was final anywhere, by height.
    last_final: BTreeMap<u64, BlockHash>,
    /// How often a node saw certificates conflict.
    pub(crate) conflicts: u64,
    /// Votes by liars.
    pub(crate) lies: u64,
    /// Pairs of votes by one liar that break a rule together.
    pub(crate) contradictions: u64,
    /// How often such a pair met at one honest node.
    pub(crate) pairs_met: u64,
    /// What each liar has signed.
    pub(crate) told: BTreeMap<usize, Vec<Link>>,
    /// Votes that left an honest node.
    pub(crate) votes_left: u64,
}

/// Where a node stood when an event came to it.
pub(crate) struct Stand {
    tip: BlockHash,
    status: FinalityStatus,
}

impl Stand {
    pub(crate) fn of(node: &Node) -> Self {
        Self {
            tip: node.chain().tip().hash(),
            status: status_of(node),
        }
    }
}

/// What a node knows of finality.
pub(crate) fn state_of(node: &Node) -> RwLockReadGuard<'_, FinalityState> {
    let state = node.finality().read();
    state.unwrap_or_else(PoisonError::into_inner)
}

/// How far a node's chain is secured.
pub(crate) fn status_of(node: &Node) -> FinalityStatus {
    state_of(node).status()
}

impl Simulation {
    /// The record of a node that is a validator.
    pub(crate) fn record_of(&self, index: usize) -> Option<Record> {
        let settings = &self.settings;
        let crashes = self.weather.crash_secs.is_finite();
        let record = || Record::new(settings.seed, index, crashes, settings.plant);
        (index < settings.validators).then(record)
    }

    /// Whether a validator's node votes honestly, now.
    fn votes(&self, index: usize) -> bool {
        let settings = &self.settings;
        let liar = index < settings.equivocators;
        // The silent ones are the last.
        let silent = index + settings.silent >= settings.validators;
        let (from, until) = settings.silence_secs;
        let away = (from * SECOND_US..until * SECOND_US).contains(&self.now_us);
        !(liar || silent && away)
    }

    pub(crate) fn voter(&self, index: usize) -> Option<Voter> {
        let record = self.members.get(index)?.record.clone()?;
        if !self.votes(index) {
            return None;
        }
        let votes = record.read_back();
        let pen = Pen::new(keys().get(index)?, record.clone());
        Some(Voter::new(Box::new(pen), Box::new(record), votes))
    }

    /// Some validators fall silent, or come back: their nodes start again.
    pub(crate) fn turn_silent(&mut self) -> Result<(), Violation> {
        let validators = self.settings.validators;
        for index in validators.saturating_sub(self.settings.silent)..validators {
            if self.members[index].node.is_some() {
                self.crash_now(index)?;
            }
        }
        Ok(())
    }

    /// Rule 3, at each vote that an event put on record: `effects` says what the
    /// node knew by then.
    pub(crate) fn check_votes_cast(
        &self,
        index: usize,
        before: &Stand,
        effects: &[Effect],
    ) -> Result<(), Violation> {
        let Some(record) = &self.members[index].record else {
            return Ok(());
        };
        for (known, vote) in record.fresh() {
            let Stand {
                mut tip,
                mut status,
            } = *before;
            for effect in effects.iter().take(known) {
                match effect {
                    Effect::TipChanged { tip: entry, .. } => tip = entry.hash(),
                    Effect::FinalityMoved(moved) => status = *moved,
                    _ => {}
                }
            }
            let holds = |tip: &BlockHash, at: &Checkpoint| {
                self.ledger.ancestor(tip, at.height.0) == Some(at.hash)
            };
            let last_final = &status.last_final;
            let wrong = if !holds(&tip, &vote.target) {
                "its target is not on its best chain"
            } else if vote.target.height <= last_final.height
                || !holds(&vote.target.hash, last_final)
            {
                "its target does not descend from its last final block"
            } else if vote.source != status.approved {
                "its source is not the highest approved checkpoint that it knows"
            } else if !holds(&vote.target.hash, &vote.source) {
                "its source is not below its target"
            } else {
                continue;
            };
            let what = format!("vote {} breaks rule 3: {wrong}", rules::words(&vote));
            return Err(self.violation(Some(index), what));
        }
        Ok(())
    }

    /// Rule 4: a vote leaves its node, by gossip or in an answer.
    pub(crate) fn check_vote_leaves(
        &mut self,
        index: usize,
        signed: &SignedApproval,
    ) -> Result<(), Violation> {
        let own = keys().get(index).map(|key| key.address);
        // What is passed on for others, or is a liar's, is none of its own.
        if own != Some(signed.approval.validator) || index < self.settings.equivocators {
            return Ok(());
        }
        let Some(record) = &self.members[index].record else {
            return Ok(());
        };
        let link = signed.approval.link;
        if !record.holds(&link) {
            let vote = rules::words(&link);
            let what = format!("vote {vote} leaves before it is on record: rule 4");
            return Err(self.violation(Some(index), what));
        }
        self.finality.votes_left += 1;
        Ok(())
    }

    /// After each event: a node's chain contains its last final block, if it has
    /// that block at all, and the last final block never moves back.
    pub(crate) fn check_stand(&mut self, index: usize) -> Result<(), Violation> {
        if self.settings.validators == 0 || !self.members[index].is_honest() {
            return Ok(());
        }
        let Some(node) = &self.members[index].node else {
            return Ok(());
        };
        let (tip, last_final) = (node.chain().tip().hash(), status_of(node).last_final);
        let stand = (tip, last_final);
        let seen = self.members[index].stand;
        if seen == Some(stand) {
            return Ok(());
        }
        if let Some((_, earlier)) = seen {
            let kept = last_final.height > earlier.height || last_final == earlier;
            if !kept {
                let (from, to) = (earlier.height, last_final.height);
                let what = format!("its last final block moves back from height {from} to {to}");
                return Err(self.violation(Some(index), what));
            }
        }
        let (height, hash) = (last_final.height.0, last_final.hash);
        if self.ledger.ancestor(&tip, height) != Some(hash) {
            let snapshot = node.chain().store().snapshot();
            let known = snapshot.and_then(|snapshot| schema::entry(snapshot.as_ref(), &hash));
            let known = known.map_err(|error| self.storage_failed(index, &error))?;
            if known.is_some() {
                let what =
                    format!("its tip {tip} does not build on its final block at height {height}");
                return Err(self.violation(Some(index), what));
            }
        }
        self.members[index].stand = Some(stand);
        Ok(())
    }

    /// Finality moved at an honest node: all that is final lies on one chain.
    pub(crate) fn check_final(
        &mut self,
        index: usize,
        status: &FinalityStatus,
    ) -> Result<(), Violation> {
        if status.conflict {
            return self.check_conflict(index);
        }
        let Checkpoint { height, hash } = status.last_final;
        // What was final lies on one chain already: its neighbours decide.
        let known = &self.finality.last_final;
        let below = known.range(..=height.0).next_back();
        let above = known.range(height.0.saturating_add(1)..).next();
        let conflict = [below, above].into_iter().flatten().find(|(at, other)| {
            let (low, low_hash, top) = if **at <= height.0 {
                (**at, **other, &hash)
            } else {
                (height.0, hash, *other)
            };
            self.ledger.ancestor(top, low) != Some(low_hash)
        });
        let conflict = conflict.map(|(at, other)| (*at, *other));
        match conflict {
            None => {
                self.finality.last_final.insert(height.0, hash);
                Ok(())
            }
            Some((other_height, other)) if !self.is_beyond_repair() => {
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

    /// How many validators any two quorums share.
    fn shared(&self) -> usize {
        (2 * self.settings.quorum()).saturating_sub(self.settings.validators)
    }

    /// More validators lie than two quorums must share.
    pub(crate) fn is_beyond_repair(&self) -> bool {
        self.settings.validators > 0 && self.settings.equivocators >= self.shared()
    }

    /// Two certificates conflict: allowed only if enough lie, and then the proofs
    /// name them.
    fn check_conflict(&mut self, index: usize) -> Result<(), Violation> {
        if !self.is_beyond_repair() {
            return Err(self.violation(Some(index), "two certificates conflict"));
        }
        self.finality.conflicts += 1;
        let (named, shared) = (self.accused(index).len(), self.shared());
        if named < shared {
            let what =
                format!("after a conflict its proofs name {named} validators, fewer than {shared}");
            return Err(self.violation(Some(index), what));
        }
        Ok(())
    }

    fn accused(&self, index: usize) -> BTreeSet<Address> {
        let Some(node) = &self.members[index].node else {
            return BTreeSet::new();
        };
        let state = state_of(node);
        let proofs = state.proofs().iter();
        proofs
            .filter_map(|kept| match &kept.proof {
                Proof::Votes(evidence) => Some(evidence.validator()),
                Proof::Certificates(..) => None,
            })
            .collect()
    }

    /// The height below which honest validators have bound themselves on some
    /// branch; above it all of them may vote.
    pub(crate) fn highest_vote(&self) -> u64 {
        let honest = self.members.iter().skip(self.settings.equivocators);
        let records = honest.filter_map(|member| member.record.as_ref());
        records.map(Record::highest_target).max().unwrap_or(0)
    }

    /// Whether so many are honest that finality must go on whatever the rest does.
    pub(crate) fn must_finalise(&self) -> bool {
        let settings = &self.settings;
        settings.validators > 0
            && settings.validators - settings.equivocators >= settings.quorum()
            && (settings.silent == 0 || settings.silence_secs.1 <= settings.secs)
    }

    /// Whether every honest node's finality has followed its tip to within so many
    /// checkpoints; the first whose has not, in words.
    pub(crate) fn laggard(&self, checkpoints: u64) -> Option<(usize, String)> {
        let most = checkpoints * u64::from(self.settings.checkpoint_interval);
        (0..self.members.len()).find_map(|index| {
            let member = &self.members[index];
            let node = member.node.as_ref().filter(|_| member.is_honest())?;
            let status = status_of(node);
            let tip = node.chain().tip().height.0;
            let (approved, last_final) = (status.approved.height.0, status.last_final.height.0);
            let behind = tip.saturating_sub(approved.min(last_final));
            let what = format!(
                "at height {tip} only {approved} is approved and {last_final} final, more than {most} blocks behind"
            );
            (behind > most && !status.conflict).then_some((index, what))
        })
    }

    /// Where each node stands, one a line: what finality may wait for.
    pub(crate) fn standings(&self) -> String {
        let members = self.members.iter().enumerate();
        members
            .filter_map(|(index, member)| {
                let node = member.node.as_ref()?;
                let status = status_of(node);
                let (tip, height) = member.tip()?;
                let votes = member.record.as_ref().map(Record::read_back);
                let last = votes.and_then(|votes| votes.last().map(rules::words));
                Some(format!(
                    "\n  node {index}: tip {height}/{}, approved {}/{}, final {}, last vote {}, votes: {}, catching up: {}",
                    hex::encode(&tip.0[..4]),
                    status.approved.height,
                    hex::encode(&status.approved.hash.0[..4]),
                    status.last_final.height,
                    last.unwrap_or_default(),
                    node.voter().is_some(),
                    member.syncing,
                ))
            })
            .collect()
    }

    /// No honest validator is ever accused; whoever knows of a conflict can name
    /// who made it; and where enough are honest, finality has followed the tip.
    pub(crate) fn check_finality_at_end(&self) -> Result<(), Violation> {
        let settings = &self.settings;
        if settings.validators == 0 {
            return Ok(());
        }
        let honest: Vec<Address> = keys()
            .iter()
            .take(settings.validators)
            .skip(settings.equivocators)
            .map(|key| key.address)
            .collect();
        for (index, member) in self.members.iter().enumerate() {
            let Some(node) = member.node.as_ref().filter(|_| member.is_honest()) else {
                continue;
            };
            let accused = self.accused(index);
            if let Some(address) = honest.iter().find(|address| accused.contains(address)) {
                let what = format!("it accuses {address:?}, an honest validator");
                return Err(self.violation(Some(index), what));
            }
            if status_of(node).conflict && accused.len() < self.shared() {
                let what = format!("it knows of a conflict and names {} liars", accused.len());
                return Err(self.violation(Some(index), what));
            }
        }
        // It had followed when mining ended. Blocks that were under way, and the last
        // one, may have passed one more checkpoint since.
        if self.must_finalise()
            && let Some((index, what)) = self.laggard(LAG_CHECKPOINTS_MAX + 1)
        {
            let what = what + &self.standings();
            return Err(self.violation(Some(index), what));
        }
        Ok(())
    }
}
