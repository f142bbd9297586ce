//! Compares fully valid chains: which one is better (protocol §8). Start reading at
//! [`FinalityRank::of`]. The type [`VoteSources`](crate::approval::vote_sources::VoteSources)
//! counts the votes that rule 2 asks about.

use std::cmp::Ordering;

use crate::approval::vote_sources::VoteSources;
use crate::height::Height;
use crate::target::Work;

/// A checkpoint that is approved and not final takes a chain's place only while that chain
/// is at most so many blocks above its last block in common with the checkpoint's chain.
pub const APPROVAL_REORG_MAX: u64 = 8;

/// Everything about a chain and the certificates that rules 1 to 3 depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainFinality {
    /// Height of the chain's last block.
    pub height: Height,
    /// Height of the highest final block that the chain contains. A node that has not
    /// reached the last final block yet still prefers the chain with the most of the
    /// way to it.
    pub final_height: Height,
    /// Height of the highest approved checkpoint that the chain contains.
    pub approved_height: Height,
    /// Height of the last block that the chain has in common with the chain that ends in
    /// the highest approved checkpoint; `None` if the node lacks that checkpoint's block.
    pub common_height: Option<Height>,
}

/// How a chain compares with others before work counts. The greater rank is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct FinalityRank {
    /// Rule 1: height of the highest final block that the chain contains.
    pub final_height: Height,
    /// Rule 2: whether enough validators can still vote on the chain.
    pub votable: bool,
    /// Rule 3: whether the chain contains the highest approved checkpoint, or is more than
    /// [`APPROVAL_REORG_MAX`] blocks above its last block in common with it.
    pub holds_ground: bool,
}

/// One chain, as far as fork choice depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Rules 1 to 3.
    pub rank: FinalityRank,
    /// Work of the chain.
    pub chain_work: Work,
    /// When the chain's last block arrived at this node: a lower number is earlier.
    pub arrival: u64,
}

impl FinalityRank {
    /// The rank of a chain. `highest_approved` is the height of the highest approved
    /// checkpoint of all chains, and `sources` are those of the validators' votes.
    #[must_use]
    pub fn of(chain: &ChainFinality, highest_approved: Height, sources: &VoteSources) -> Self {
        // # Consensus: §8 "The better chain is votable, and the other is not".
        let votable = sources.votable(chain.approved_height);
        // # Consensus: §8 "The better chain holds its ground against the highest approved
        // checkpoint, and the other does not".
        let holds_ground = chain.common_height.is_some_and(|common| {
            common == highest_approved
                || chain.height.0.saturating_sub(common.0) > APPROVAL_REORG_MAX
        });
        Self {
            final_height: chain.final_height,
            votable,
            holds_ground,
        }
    }

    /// The rank of a chain after two certificates were found to conflict: rules 2 and 3 no
    /// longer count (protocol §9).
    #[must_use]
    pub fn after_conflict(final_height: Height) -> Self {
        Self {
            final_height,
            votable: true,
            holds_ground: true,
        }
    }
}

/// Orders two chains. The greater one is better: its rank is greater; if that is equal, it
/// has more work; then it was seen first (protocol §8).
#[must_use]
pub fn compare(a: &Candidate, b: &Candidate) -> Ordering {
    a.rank
        .cmp(&b.rank)
        .then(a.chain_work.cmp(&b.chain_work))
        .then(b.arrival.cmp(&a.arrival))
}
