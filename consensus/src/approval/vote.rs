//! The rules that a validator keeps before it signs (protocol §9, rules 1 to 3). Start
//! with [`check_vote`].
//!
//! Rule 4 is the node's task: it must have written the [`VoteRecord`] to disk before
//! the signature leaves the process.

use std::collections::BTreeMap;

use thiserror::Error;

use super::{Approval, ApprovalError, Checkpoint, Link, check_link};
use crate::hash::BlockHash;
use crate::height::Height;

/// Which of the two rules a pair of votes breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VoteOffence {
    /// Rule 1: two approvals with one target height.
    DoubleVote,
    /// Rule 2: one approval surrounds the other.
    SurroundVote,
}

/// A validator must not sign a vote.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum VoteError {
    /// The approval would be invalid by itself.
    #[error(transparent)]
    Form(#[from] ApprovalError),
    /// Rule 1: an earlier vote has the same target height.
    #[error("target height {} was voted for before, with another vote", earlier.target.height)]
    TargetHeightTwice {
        /// The vote of the record.
        earlier: Link,
    },
    /// Rule 2: the vote would surround an earlier one.
    #[error(
        "it would surround an earlier vote, {} to {}", earlier.source.height, earlier.target.height
    )]
    SurroundsEarlier {
        /// The vote of the record.
        earlier: Link,
    },
    /// Rule 2: an earlier vote would surround this one.
    #[error(
        "an earlier vote, {} to {}, would surround it", earlier.source.height, earlier.target.height
    )]
    SurroundedByEarlier {
        /// The vote of the record.
        earlier: Link,
    },
    /// Rules 1 and 2, for earlier votes of which only a floor is kept.
    #[error(
        "votes up to height {} are on record as a floor only: a vote needs a higher target, and a source at {} or above",
        floor.target, floor.source
    )]
    NotAboveFloor {
        /// The floor of the record.
        floor: VoteFloor,
    },
    /// Rule 3: the target is a checkpoint of the fully validated best chain.
    #[error("checkpoint {} at height {} is not on the best chain", target.hash, target.height)]
    TargetNotOnBestChain { target: Checkpoint },
    /// Rule 3: the target is above the last final block, which is on the best chain.
    #[error("the target does not descend from the last final block {}", last_final.hash)]
    TargetNotAboveFinal {
        /// The last final block.
        last_final: Checkpoint,
    },
    /// Rule 3: the source is the highest approved checkpoint of the best chain.
    #[error(
        "source {} at height {}, but {} at height {} is the highest approved checkpoint of the best chain",
        found.hash, found.height, expected.hash, expected.height
    )]
    WrongSource {
        /// The source of the vote.
        found: Checkpoint,
        /// The highest approved checkpoint of the best chain.
        expected: Checkpoint,
    },
    /// Rule 3: the source is a checkpoint that the best chain contains.
    #[error("source {} at height {} is not an ancestor of the target", source_checkpoint.hash, source_checkpoint.height)]
    SourceNotAncestor {
        /// The source of the vote.
        source_checkpoint: Checkpoint,
    },
}

/// The state of the chain, as far as rule 3 depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VoteContext {
    /// Blocks from one checkpoint to the next.
    pub checkpoint_interval: u32,
    /// The last final block.
    pub last_final: Checkpoint,
    /// The highest approved checkpoint that the validator's best chain contains.
    pub highest_approved: Checkpoint,
}

/// The rest of votes that a record no longer keeps one by one: their highest source and
/// their highest target. A new vote contradicts none of them if its source is at or
/// above the former and its target is above the latter.
///
/// Consider a floor with source 20 and target 40:
///
/// | Vote | |
/// |---|---|
/// | 20 → 50 | allowed |
/// | 30 → 40 | refused: the target is not above 40 |
/// | 10 → 50 | refused: the source is below 20 |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VoteFloor {
    /// The lowest source that is allowed.
    pub source: Height,
    /// Targets must be above this.
    pub target: Height,
}

/// The votes that a validator has cast, by target height.
///
/// No two of them break rule 1 or 2. Their sources therefore rise with their targets: a
/// vote with a higher target and a lower source would surround the other. So it is
/// enough to compare a new vote with its two neighbours.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VoteRecord {
    /// Covers the votes below all others.
    floor: Option<VoteFloor>,
    votes: BTreeMap<Height, Link>,
}

/// The rule that two votes of one validator break; `None` if a validator may sign both.
/// The same vote twice is no offence, because signatures are randomised.
#[must_use]
pub fn offence(a: &Link, b: &Link) -> Option<VoteOffence> {
    if a == b {
        None
    } else if a.target.height == b.target.height {
        // # Consensus: §9 "never signs two approvals with one target height".
        Some(VoteOffence::DoubleVote)
    } else if surrounds(a, b) || surrounds(b, a) {
        // # Consensus: §9 "never signs one that surrounds an earlier one or is
        // surrounded by it".
        Some(VoteOffence::SurroundVote)
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

    /// Whether the floor forbids a vote.
    fn bars(&self, link: &Link) -> bool {
        link.target.height <= self.target || link.source.height < self.source
    }

    /// The floor that covers the votes of both.
    fn and(self, other: Self) -> Self {
        Self {
            source: self.source.max(other.source),
            target: self.target.max(other.target),
        }
    }
}

impl VoteRecord {
    /// A record that begins with a floor, without any single vote.
    #[must_use]
    pub fn above(floor: VoteFloor) -> Self {
        Self {
            floor: Some(floor),
            votes: BTreeMap::new(),
        }
    }

    /// Checks a vote against rules 1 and 2. A vote of the record may be signed again: a
    /// validator does so if it stopped after it wrote the record and before it sent the
    /// signature.
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
        // Sources rise with targets. Of the votes below, the nearest has the highest
        // source; of the votes above, the nearest has the lowest.
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

    /// Checks a vote and puts it on record. The record must be durable before the
    /// signature leaves the process (rule 4).
    ///
    /// # Errors
    /// Those of [`VoteRecord::check`]; the record then stays as it was.
    pub fn record(&mut self, link: Link) -> Result<(), VoteError> {
        self.check(&link)?;
        self.votes.insert(link.target.height, link);
        Ok(())
    }

    /// Takes in another record of the same validator. Votes that a floor covers become
    /// part of the floor.
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

    /// Raises the floor, and drops the single votes that it covers.
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

    /// Keeps `count` votes, those with the highest targets. The floor covers the others.
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

    /// Whether a vote is on record, by itself or under the floor.
    #[must_use]
    pub fn accounts_for(&self, link: &Link) -> bool {
        let covered = |floor: VoteFloor| link.target.height <= floor.target;
        self.floor.is_some_and(covered) || self.vote_at(link.target.height) == Some(link)
    }

    /// The votes, ascending by target height.
    pub fn votes(&self) -> impl Iterator<Item = &Link> {
        self.votes.values()
    }

    /// The number of votes that are kept one by one.
    #[must_use]
    pub fn len(&self) -> usize {
        self.votes.len()
    }

    /// Whether there is neither a vote nor a floor.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.votes.is_empty() && self.floor.is_none()
    }

    /// The floor under the votes that are kept one by one.
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
/// `best_chain` returns the hash of the fully validated best chain at a height; `None`
/// above its tip.
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
    // # Consensus: §9 "with the highest approved checkpoint that this chain contains as
    // the source".
    if link.source != context.highest_approved {
        return Err(VoteError::WrongSource {
            found: link.source,
            expected: context.highest_approved,
        });
    }
    // The caller names the source; a wrong one must not be signed.
    if !on_best_chain(&link.source) {
        return Err(VoteError::SourceNotAncestor {
            source_checkpoint: link.source,
        });
    }
    Ok(())
}
