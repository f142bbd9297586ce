//! The rules that a validator keeps before it signs (protocol §9, rules 1 to 3).
//!
//! Rule 4, that the vote is on disk before the signature leaves the process, is
//! the node's: [`VoteRecord`] is what it must have written by then.

use std::collections::BTreeMap;

use thiserror::Error;

use super::{Approval, ApprovalError, Checkpoint, LINK_BYTES, Link, check_link};
use crate::encoding::{Decode, DecodeError, Encode, Reader};
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

/// The votes that a validator has cast, by target height.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VoteRecord(BTreeMap<Height, Link>);

/// Which rule two votes of one validator break; `None` if they may stand side
/// by side. Casting one vote twice is no offence: signatures are randomised.
#[must_use]
pub fn offence(a: &Link, b: &Link) -> Option<Offence> {
    if a == b {
        None
    } else if a.target.height == b.target.height {
        // # Consensus: §9 (1) "never signs two approvals with one target height".
        Some(Offence::DoubleVote)
    } else if surrounds(a, b) || surrounds(b, a) {
        // # Consensus: §9 (2) "never signs one that surrounds, or is surrounded
        // by, an earlier one".
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

impl VoteRecord {
    /// Checks a vote against rules 1 and 2. A vote of the record may be signed
    /// again: that is how a validator goes on after stopping between writing
    /// the record and sending the signature.
    ///
    /// # Errors
    /// [`VoteError::TargetHeightTwice`], [`VoteError::SurroundsEarlier`] or
    /// [`VoteError::SurroundedByEarlier`].
    pub fn check(&self, link: &Link) -> Result<(), VoteError> {
        if let Some(earlier) = self.0.get(&link.target.height) {
            return if earlier == link {
                Ok(())
            } else {
                Err(VoteError::TargetHeightTwice { earlier: *earlier })
            };
        }
        for earlier in self.0.values() {
            if surrounds(link, earlier) {
                return Err(VoteError::SurroundsEarlier { earlier: *earlier });
            }
            if surrounds(earlier, link) {
                return Err(VoteError::SurroundedByEarlier { earlier: *earlier });
            }
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
        self.0.insert(link.target.height, link);
        Ok(())
    }

    /// The vote with this target height.
    #[must_use]
    pub fn vote_at(&self, target: Height) -> Option<&Link> {
        self.0.get(&target)
    }

    /// The votes, ascending by target height.
    pub fn votes(&self) -> impl Iterator<Item = &Link> {
        self.0.values()
    }

    /// The vote with the highest target.
    #[must_use]
    pub fn last(&self) -> Option<&Link> {
        self.0.last_key_value().map(|(_, link)| link)
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
    // # Consensus: §9 (3) "only fully validated best-chain checkpoints".
    if !on_best_chain(&link.target) {
        return Err(VoteError::TargetNotOnBestChain {
            target: link.target,
        });
    }
    // # Consensus: §9 (3) "that descend from its last final block".
    if link.target.height <= context.last_final.height || !on_best_chain(&context.last_final) {
        return Err(VoteError::TargetNotAboveFinal {
            last_final: context.last_final,
        });
    }
    // # Consensus: §9 (3) "with the highest approved checkpoint that it knows as
    // source".
    if link.source != context.highest_approved {
        return Err(VoteError::WrongSource {
            found: link.source,
            expected: context.highest_approved,
        });
    }
    // Fork choice keeps the best chain on the highest approved checkpoint unless
    // the last final block forbids it; a vote across two branches says nothing.
    if !on_best_chain(&link.source) {
        return Err(VoteError::SourceNotAncestor {
            source_checkpoint: link.source,
        });
    }
    Ok(())
}

impl Encode for VoteRecord {
    fn encode_to(&self, out: &mut Vec<u8>) {
        let count = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&count.to_le_bytes());
        for link in self.0.values() {
            link.encode_to(out);
        }
    }
}

impl Decode for VoteRecord {
    fn decode_from(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let count = reader.count("vote count", LINK_BYTES)?;
        let mut votes = BTreeMap::new();
        let mut last = None;
        for _ in 0..count {
            let link = Link::decode_from(reader)?;
            // One vote a height, ascending: anything else is not this encoding.
            if last.is_some_and(|last| link.target.height <= last) {
                return Err(DecodeError::BadValue {
                    field: "target height",
                    found: link.target.height.0,
                    expected: "more than the vote before it",
                });
            }
            last = Some(link.target.height);
            votes.insert(link.target.height, link);
        }
        Ok(Self(votes))
    }
}
