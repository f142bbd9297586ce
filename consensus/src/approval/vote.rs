//! The rules that a validator keeps before it signs (protocol §9, rules 1 to 3).
//!
//! Rule 4, that the vote is on disk before the signature leaves the process, is
//! the node's: [`VoteRecord`] is what it must have written by then.

use std::collections::BTreeMap;

use thiserror::Error;

use super::{Approval, ApprovalError, Checkpoint, Link, check_link};
use crate::hash::BlockHash;
use crate::height::Height;

/// Which of the two rules a pair of votes breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Offence {
    /// Rule 1: two approvals with one target height.
    DoubleVote,
    /// Rule 2: one approval surrounds the other.
    SurroundVote,
}

/// Why a validator must not sign a vote.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum VoteError {
    /// The vote would be invalid in itself.
    #[error(transparent)]
    Form(#[from] ApprovalError),
    /// Rule 1.
    #[error("target height {} was voted for before, with another vote", earlier.target.height)]
    TargetHeightTwice {
        /// The vote of the record.
        earlier: Link,
    },
    /// Rule 2.
    #[error(
        "it would surround an earlier vote, {} to {}", earlier.source.height, earlier.target.height
    )]
    SurroundsEarlier {
        /// The vote of the record.
        earlier: Link,
    },
    /// Rule 2.
    #[error(
        "an earlier vote, {} to {}, would surround it", earlier.source.height, earlier.target.height
    )]
    SurroundedByEarlier {
        /// The vote of the record.
        earlier: Link,
    },
    /// Rules 1 and 2, against votes that are no longer kept one by one.
    #[error(
        "votes up to height {} are on record as a floor only: a vote needs a higher target, and a source at {} or above",
        floor.target, floor.source
    )]
    NotAboveFloor {
        /// The floor of the record.
        floor: VoteFloor,
    },
    /// Rule 3: only fully validated checkpoints of the best chain.
    #[error("checkpoint {} at height {} is not on the best chain", target.hash, target.height)]
    TargetNotOnBestChain {
        /// The checkpoint.
        target: Checkpoint,
    },
    /// Rule 3: the target descends from the last final block.
    #[error("the target does not descend from the last final block {}", last_final.hash)]
    TargetNotAboveFinal {
        /// The last final block.
        last_final: Checkpoint,
    },
    /// Rule 3: the source is the highest approved checkpoint.
    #[error(
        "source {} at height {}, but {} at height {} is the highest approved checkpoint",
        found.hash, found.height, expected.hash, expected.height
    )]
    WrongSource {
        /// The source of the vote.
        found: Checkpoint,
        /// The highest approved checkpoint known.
        expected: Checkpoint,
    },
    /// Rule 3: a vote is a link along one chain.
    #[error("source {} at height {} is not an ancestor of the target", source_checkpoint.hash, source_checkpoint.height)]
    SourceNotAncestor {
        /// The source of the vote.
        source_checkpoint: Checkpoint,
    },
}

/// What rule 3 needs to know about the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VoteContext {
    /// Every how many blocks there is a checkpoint.
    pub checkpoint_interval: u32,
    /// The last final block.
    pub last_final: Checkpoint,
    /// The highest approved checkpoint that the validator knows.
    pub highest_approved: Checkpoint,
}

/// What is left of votes that a record no longer keeps one by one: their highest
/// source and their highest target. Whoever votes only with such a source or a
/// higher one, and above that target, contradicts none of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VoteFloor {
    /// No source below this.
    pub source: Height,
    /// No target at or below this.
    pub target: Height,
}

/// The votes that a validator has cast, by target height.
///
/// No two of them break rule 1 or 2, so their sources rise with their targets (of
/// two votes, the one with the higher target and the lower source would surround
/// the other). That is why a new vote need be held only against its neighbours.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VoteRecord {
    /// Of the votes below all others.
    floor: Option<VoteFloor>,
    votes: BTreeMap<Height, Link>,
}

/// Which rule two votes of one validator break; `None` if they may stand side
/// by side. Casting one vote twice is no offence: signatures are randomised.
#[must_use]
pub fn offence(a: &Link, b: &Link) -> Option<Offence> {
    if a == b {
        None
    } else if a.target.height == b.target.height {
        // # Consensus: §9 "never signs two approvals with one target height".
        Some(Offence::DoubleVote)
    } else if surrounds(a, b) || surrounds(b, a) {
        // # Consensus: §9 "never signs one that surrounds an earlier one or is
        // surrounded by it".
        Some(Offence::SurroundVote)
    } else {
        None
    }
}

/// Whether `outer` starts before `inner` and ends after it.
#[must_use]
pub fn surrounds(outer: &Link, inner: &Link) -> bool {
    outer.source.height < inner.source.height && inner.target.height < outer.target.height
}

impl VoteFloor {
    /// The floor that covers this vote alone.
    #[must_use]
    pub fn of(link: &Link) -> Self {
        Self {
            source: link.source.height,
            target: link.target.height,
        }
    }

    /// Whether the floor stands in the way of a vote.
    fn bars(&self, link: &Link) -> bool {
        link.target.height <= self.target || link.source.height < self.source
    }

    /// The floor that covers what either covers.
    fn and(self, other: Self) -> Self {
        Self {
            source: self.source.max(other.source),
            target: self.target.max(other.target),
        }
    }
}

impl VoteRecord {
    /// A record of votes that are not known but for a floor.
    #[must_use]
    pub fn above(floor: VoteFloor) -> Self {
        Self {
            floor: Some(floor),
            votes: BTreeMap::new(),
        }
    }

    /// Checks a vote against rules 1 and 2. A vote of the record may be signed
    /// again: that is how a validator goes on after stopping between writing
    /// the record and sending the signature.
    ///
    /// # Errors
    /// [`VoteError::TargetHeightTwice`], [`VoteError::SurroundsEarlier`],
    /// [`VoteError::SurroundedByEarlier`] or [`VoteError::NotAboveFloor`].
    pub fn check(&self, link: &Link) -> Result<(), VoteError> {
        let target = link.target.height;
        if let Some(floor) = self.floor.filter(|floor| floor.bars(link)) {
            return Err(VoteError::NotAboveFloor { floor });
        }
        if let Some(earlier) = self.votes.get(&target) {
            return if earlier == link {
                Ok(())
            } else {
                Err(VoteError::TargetHeightTwice { earlier: *earlier })
            };
        }
        // Sources rise with targets: of the votes below, the nearest has the
        // highest source; of those above, the nearest has the lowest.
        let below = self.votes.range(..target).next_back();
        if let Some((_, earlier)) = below.filter(|(_, earlier)| surrounds(link, earlier)) {
            return Err(VoteError::SurroundsEarlier { earlier: *earlier });
        }
        let above = self.votes.range(target..).next();
        if let Some((_, earlier)) = above.filter(|(_, earlier)| surrounds(earlier, link)) {
            return Err(VoteError::SurroundedByEarlier { earlier: *earlier });
        }
        Ok(())
    }

    /// Checks a vote and puts it on record: what must be durable before the
    /// signature leaves the process (rule 4).
    ///
    /// # Errors
    /// Those of [`VoteRecord::check`]; the record then stays as it was.
    pub fn record(&mut self, link: Link) -> Result<(), VoteError> {
        self.check(&link)?;
        self.votes.insert(link.target.height, link);
        Ok(())
    }

    /// Takes in what another record of the same validator holds. What a floor
    /// covers becomes part of the floor.
    ///
    /// # Errors
    /// Those of [`VoteRecord::check`], if two votes contradict each other; the
    /// record then stays as it was.
    pub fn merge(&mut self, other: &Self) -> Result<(), VoteError> {
        let mut merged = self.clone();
        if let Some(floor) = other.floor {
            merged.raise_floor(floor);
        }
        for link in other.votes() {
            match merged.floor {
                Some(floor) if floor.bars(link) => merged.raise_floor(VoteFloor::of(link)),
                _ => merged.record(*link)?,
            }
        }
        *self = merged;
        Ok(())
    }

    /// Rules out votes below a floor, and lets go of those it covers.
    pub fn raise_floor(&mut self, floor: VoteFloor) {
        let mut floor = self.floor.map_or(floor, |own| own.and(floor));
        while let Some(first) = self.votes.first_entry() {
            if !floor.bars(first.get()) {
                break;
            }
            floor = floor.and(VoteFloor::of(&first.remove()));
        }
        self.floor = Some(floor);
    }

    /// Keeps so many votes with the highest targets; the floor covers the others.
    pub fn keep_highest(&mut self, count: usize) {
        while self.votes.len() > count {
            let Some((_, lowest)) = self.votes.pop_first() else {
                return;
            };
            let covered = VoteFloor::of(&lowest);
            self.floor = Some(self.floor.map_or(covered, |floor| floor.and(covered)));
        }
    }

    /// The vote with this target height.
    #[must_use]
    pub fn vote_at(&self, target: Height) -> Option<&Link> {
        self.votes.get(&target)
    }

    /// Whether a vote is on record: as it is, or covered by the floor.
    #[must_use]
    pub fn accounts_for(&self, link: &Link) -> bool {
        let covered = |floor: VoteFloor| link.target.height <= floor.target;
        self.floor.is_some_and(covered) || self.vote_at(link.target.height) == Some(link)
    }

    /// The votes, ascending by target height.
    pub fn votes(&self) -> impl Iterator<Item = &Link> {
        self.votes.values()
    }

    /// How many votes are kept one by one.
    #[must_use]
    pub fn len(&self) -> usize {
        self.votes.len()
    }

    /// Whether nothing is on record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.votes.is_empty() && self.floor.is_none()
    }

    /// What is left of the votes below those that are kept.
    #[must_use]
    pub fn floor(&self) -> Option<VoteFloor> {
        self.floor
    }

    /// The vote with the highest target.
    #[must_use]
    pub fn last(&self) -> Option<&Link> {
        self.votes.last_key_value().map(|(_, link)| link)
    }

    /// The highest target on record.
    #[must_use]
    pub fn highest_target(&self) -> Option<Height> {
        let covered = self.floor.map(|floor| floor.target);
        self.last().map(|link| link.target.height).or(covered)
    }
}

/// Checks a vote against rules 1 to 3.
///
/// `best_chain` gives the hash of the fully validated best chain at a height,
/// `None` above its tip.
///
/// # Errors
/// [`VoteError`], one variant a rule.
pub fn check_vote(
    context: &VoteContext,
    record: &VoteRecord,
    approval: &Approval,
    best_chain: impl Fn(Height) -> Option<BlockHash>,
) -> Result<(), VoteError> {
    let link = &approval.link;
    let on_best_chain =
        |checkpoint: &Checkpoint| best_chain(checkpoint.height) == Some(checkpoint.hash);
    check_link(context.checkpoint_interval, link)?;
    record.check(link)?;
    // # Consensus: §9 "approves only checkpoints of its fully validated best chain".
    if !on_best_chain(&link.target) {
        return Err(VoteError::TargetNotOnBestChain {
            target: link.target,
        });
    }
    // # Consensus: §9 "above its last final block".
    if link.target.height <= context.last_final.height || !on_best_chain(&context.last_final) {
        return Err(VoteError::TargetNotAboveFinal {
            last_final: context.last_final,
        });
    }
    // # Consensus: §9 "with the highest approved checkpoint that it knows as
    // the source".
    if link.source != context.highest_approved {
        return Err(VoteError::WrongSource {
            found: link.source,
            expected: context.highest_approved,
        });
    }
    // # Consensus: §9 "The source lies on that chain, too". Fork choice keeps the
    // best chain on the highest approved checkpoint, unless the last final block
    // forbids it.
    if !on_best_chain(&link.source) {
        return Err(VoteError::SourceNotAncestor {
            source_checkpoint: link.source,
        });
    }
    Ok(())
}
