//! The rules of fork choice that the model examines: how a node chooses one of the chains that it
//! knows. Start reading at [`Rule::choose`].

use crate::tree::{Block, Tree};
use crate::votes::{Record, Standing, Validators};

/// A rule of fork choice. `K` stands for the number of blocks that protocol §8 sets at 8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// The highest final block, then the highest approved checkpoint, then work. Votes have the
    /// highest approved checkpoint of all as their source.
    ApprovedFirst,
    /// Final, votable, then between each two chains: one contains the highest approved checkpoint
    /// and the other is at most `K` blocks above their fork; then work. The node keeps the chain
    /// that it follows until another beats it.
    Pairwise,
    /// Final, votable, then each chain by itself: it contains the highest approved checkpoint or is
    /// more than `K` blocks above its fork with it; then work.
    Ranked,
    /// As `Ranked`, but of the chains without the highest approved checkpoint only the one with the
    /// most work is excused for being more than `K` blocks above the fork.
    HeaviestExcused,
}

/// What a node knows when it chooses.
#[derive(Debug, Clone, Copy)]
pub struct Knowledge<'a> {
    /// The tree.
    pub tree: &'a Tree,
    /// The network's validators.
    pub validators: Validators,
    /// What is approved and final.
    pub standing: &'a Standing,
    /// What the validators signed, as far as it was seen.
    pub records: &'a [(usize, Record)],
    /// The `K` of the rule.
    pub reorg_max: u8,
}

impl Knowledge<'_> {
    fn final_height(&self, end: Block) -> u8 {
        self.tree.height(self.standing.final_on(self.tree, end))
    }

    /// Whether enough validators can still vote on the chain.
    #[must_use]
    pub fn votable(&self, end: Block) -> bool {
        let approved = self.tree.height(self.standing.approved_on(self.tree, end));
        let stranded = self.standing.stranded(self.tree, self.records, approved);
        stranded <= self.validators.stranded_max()
    }

    /// Whether the chain contains the highest approved checkpoint.
    #[must_use]
    pub fn contains_approved(&self, end: Block) -> bool {
        self.tree.contains(end, self.standing.highest_approved)
    }

    /// Whether the chain is more than `K` blocks above its fork with another one.
    fn is_far_above(&self, end: Block, other: Block) -> bool {
        self.tree.height(end) - self.tree.common(end, other) > self.reorg_max
    }

    fn work(&self, end: Block) -> u8 {
        self.tree.height(end)
    }
}

impl Rule {
    /// The best of the chains that end in these blocks. Of equal chains it is the one that comes
    /// first: the caller puts the chain that the node follows at the front.
    #[must_use]
    pub fn choose(self, know: &Knowledge<'_>, ends: &[Block]) -> Block {
        let finality = |end: Block| (know.final_height(end), know.votable(end));
        match self {
            Self::ApprovedFirst => first_best(ends, |end| {
                (
                    know.final_height(end),
                    know.contains_approved(end),
                    know.work(end),
                )
            }),
            Self::Pairwise => ends.iter().copied().fold(ends[0], |best, other| {
                if self.beats(know, other, best) {
                    other
                } else {
                    best
                }
            }),
            Self::Ranked => first_best(ends, |end| {
                let holds = know.contains_approved(end)
                    || know.is_far_above(end, know.standing.highest_approved);
                (finality(end), holds, know.work(end))
            }),
            Self::HeaviestExcused => {
                let heaviest = first_best(ends, |end| (finality(end), know.work(end)));
                first_best(ends, |end| {
                    let excused =
                        end == heaviest && know.is_far_above(end, know.standing.highest_approved);
                    (
                        finality(end),
                        know.contains_approved(end) || excused,
                        know.work(end),
                    )
                })
            }
        }
    }

    /// Whether one chain is better than another by [`Rule::Pairwise`].
    #[must_use]
    pub fn beats(self, know: &Knowledge<'_>, one: Block, other: Block) -> bool {
        let key = |end: Block, against: Block| {
            let taken = know.contains_approved(end) && !know.is_far_above(against, end);
            (
                know.final_height(end),
                know.votable(end),
                taken,
                know.work(end),
            )
        };
        key(one, other) > key(other, one)
    }

    /// The source of an honest vote on a chain, or `None` if the rule forbids a vote there.
    #[must_use]
    pub fn source(self, know: &Knowledge<'_>, end: Block) -> Option<Block> {
        match self {
            Self::ApprovedFirst => know
                .contains_approved(end)
                .then_some(know.standing.highest_approved),
            _ => Some(know.standing.approved_on(know.tree, end)),
        }
    }
}

fn first_best<K: Ord>(ends: &[Block], key: impl Fn(Block) -> K) -> Block {
    let better = |best: Block, end: &Block| if key(*end) > key(best) { *end } else { best };
    ends.iter().fold(ends[0], better)
}
