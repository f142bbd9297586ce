//! Which of the fully valid chains that a node knows is the best (protocol §8). Start reading at
//! [`best`]. The type [`VoteSources`]
//! counts the votes that rule 2 asks about.

use std::cmp::Ordering;

use crate::approval::vote_sources::VoteSources;
use crate::height::Height;
use crate::target::Work;

/// A node leaves the heaviest chain for a checkpoint that is approved and not final only if that
/// chain is at most so many blocks above its last block in common with the checkpoint's chain.
pub const APPROVAL_REORG_MAX: u64 = 8;

/// Everything about a chain and the certificates that fork choice depends on besides votes and
/// work.
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

/// Where a chain stands against the highest approved checkpoint. The greater is the better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ground {
    /// The chain lacks the checkpoint and is at most [`APPROVAL_REORG_MAX`] blocks above the last
    /// block in common with its chain.
    Near,
    /// The chain lacks the checkpoint and is more blocks above that, or the node lacks the
    /// checkpoint's block and can't tell.
    Far,
    /// The chain contains the checkpoint.
    Contains,
}

/// One chain, as far as fork choice depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Rule 1: height of the highest final block that the chain contains.
    pub final_height: Height,
    /// Rule 2: whether enough validators can still vote on the chain.
    pub votable: bool,
    /// What rule 3 asks of the heaviest chain.
    pub ground: Ground,
    /// Work of the chain.
    pub chain_work: Work,
    /// When the chain's last block arrived at this node: a lower number is earlier.
    pub arrival: u64,
}

impl ChainFinality {
    /// Whether enough validators can vote on the chain, where `sources` are those of their votes.
    #[must_use]
    pub fn votable(&self, sources: &VoteSources) -> bool {
        // # Consensus: §8 "The better chain is votable, and the other is not".
        sources.votable(self.approved_height)
    }

    /// Where the chain stands against the highest approved checkpoint, which has this height.
    #[must_use]
    pub fn ground(&self, highest_approved: Height) -> Ground {
        match self.common_height {
            Some(common) if common == highest_approved => Ground::Contains,
            // # Consensus: §8 "more than 8 blocks above the last block that it has in common with
            // the chain that ends in that checkpoint".
            Some(common) if self.height.0.saturating_sub(common.0) <= APPROVAL_REORG_MAX => {
                Ground::Near
            }
            _ => Ground::Far,
        }
    }
}

/// Orders two chains by all rules but rule 3. The greater one contains the higher final block; if
/// that is equal, it is votable; then it has more work; then it was seen first (protocol §8).
#[must_use]
pub fn compare(a: &Candidate, b: &Candidate) -> Ordering {
    a.final_height
        .cmp(&b.final_height)
        .then(a.votable.cmp(&b.votable))
        .then(a.chain_work.cmp(&b.chain_work))
        .then(b.arrival.cmp(&a.arrival))
}

/// The number of the best chain among all that a node knows; `None` if there is none.
#[must_use]
pub fn best(candidates: &[Candidate]) -> Option<usize> {
    let best_of = |any: &dyn Fn(&Candidate) -> bool| {
        let numbered = candidates.iter().enumerate();
        let allowed = numbered.filter(|(_, candidate)| any(candidate));
        allowed.max_by(|(_, a), (_, b)| compare(a, b))
    };
    let (number, heaviest) = best_of(&|_| true)?;
    if heaviest.ground > Ground::Near {
        return Some(number);
    }
    // # Consensus: §8 "Otherwise it follows the best chain that contains the highest approved
    // checkpoint".
    let contains = |candidate: &Candidate| {
        candidate.ground == Ground::Contains
            && candidate.final_height == heaviest.final_height
            && candidate.votable == heaviest.votable
    };
    Some(best_of(&contains).map_or(number, |(number, _)| number))
}
