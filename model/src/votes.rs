//! What validators signed, and what that makes approved and final (protocol §9). Start reading at
//! [`Standing::of`].

use crate::tree::{Block, Blocks, Tree};

/// A set of links, by their numbers in the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LinkSet([u64; 4]);

impl LinkSet {
    /// Most links that a tree may have.
    pub const LINKS_MAX: usize = 256;

    /// With one more link.
    #[must_use]
    pub fn with(mut self, link: usize) -> Self {
        self.0[link / 64] |= 1 << (link % 64);
        self
    }

    /// Whether the link is in the set.
    #[must_use]
    pub fn has(&self, link: usize) -> bool {
        self.0[link / 64] & (1 << (link % 64)) != 0
    }

    /// Whether the sets share a link.
    #[must_use]
    pub fn meets(&self, other: &Self) -> bool {
        self.0
            .iter()
            .zip(other.0)
            .any(|(one, other)| one & other != 0)
    }

    /// The links of either set.
    #[must_use]
    pub fn or(mut self, other: Self) -> Self {
        for (mine, others) in self.0.iter_mut().zip(other.0) {
            *mine |= others;
        }
        self
    }

    /// The links in the set.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().enumerate().flat_map(|(word, bits)| {
            let bits = *bits;
            (0..64)
                .filter(move |bit| bits & (1 << bit) != 0)
                .map(move |bit| word * 64 + bit)
        })
    }
}

/// The numbers of a network's validators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validators {
    /// All of them.
    pub count: usize,
    /// How many votes on one link make its target approved.
    pub quorum: usize,
}

impl Validators {
    /// Most validators that may be stranded on a votable chain (protocol §8).
    #[must_use]
    pub fn stranded_max(&self) -> usize {
        (self.count - self.quorum) / 2
    }
}

/// What one validator, or several that did the same, signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Record {
    /// The links that were signed.
    pub signed: LinkSet,
}

impl Record {
    /// Whether the validator may sign the link besides (protocol §9, rules 1 and 2).
    #[must_use]
    pub fn allows(&self, tree: &Tree, link: usize) -> bool {
        !self.signed.has(link) && !self.signed.meets(&tree.conflicts[link])
    }

    /// The record with one more link.
    #[must_use]
    pub fn with(self, link: usize) -> Self {
        Self {
            signed: self.signed.with(link),
        }
    }
}

/// What the votes that a node knows have shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// The approved checkpoints.
    pub approved: Blocks,
    /// The final checkpoints, without those that are final only as ancestors of others.
    pub finals: Blocks,
    /// The highest approved checkpoint.
    pub highest_approved: Block,
}

impl Standing {
    /// Works out what is approved and final. Each record stands for as many validators as its
    /// number says.
    #[must_use]
    pub fn of(tree: &Tree, quorum: usize, records: &[(usize, Record)]) -> Self {
        let genesis = tree.block(0, 0);
        let (mut approved, mut finals): (Blocks, Blocks) = (1 << genesis, 1 << genesis);
        let any = records
            .iter()
            .fold(LinkSet::default(), |all, (_, record)| all.or(record.signed));
        // Links come by ascending target. A source is therefore judged before what rests on it.
        for number in any.iter() {
            let link = tree.links[number];
            let votes = records
                .iter()
                .filter(|(_, record)| record.signed.has(number));
            let count: usize = votes.map(|(count, _)| count).sum();
            if count < quorum || approved & (1 << link.source) == 0 {
                continue;
            }
            approved |= 1 << link.target;
            if tree.height(link.target) == tree.height(link.source) + tree.interval {
                finals |= 1 << link.source;
            }
        }
        let highest_approved = tree.highest(approved).unwrap_or(genesis);
        Self {
            approved,
            finals,
            highest_approved,
        }
    }

    /// Whether two final checkpoints lie on different chains.
    #[must_use]
    pub fn finals_conflict(&self, tree: &Tree) -> bool {
        let highest = tree.highest(self.finals);
        highest.is_some_and(|highest| self.finals & !tree.chain(highest) != 0)
    }

    /// The highest approved checkpoint that a chain contains.
    #[must_use]
    pub fn approved_on(&self, tree: &Tree, end: Block) -> Block {
        tree.highest(self.approved & tree.chain(end)).unwrap_or(0)
    }

    /// The highest final checkpoint that a chain contains.
    #[must_use]
    pub fn final_on(&self, tree: &Tree, end: Block) -> Block {
        tree.highest(self.finals & tree.chain(end)).unwrap_or(0)
    }

    /// The height of the highest final checkpoint.
    #[must_use]
    pub fn finals_height(&self, tree: &Tree) -> u8 {
        tree.highest(self.finals)
            .map_or(0, |block| tree.height(block))
    }

    /// How many validators voted from an approved source above a height.
    #[must_use]
    pub fn stranded(&self, tree: &Tree, records: &[(usize, Record)], above: u8) -> usize {
        let leads = |record: &Record| {
            record.signed.iter().any(|link| {
                let source = tree.links[link].source;
                self.approved & (1 << source) != 0 && tree.height(source) > above
            })
        };
        records
            .iter()
            .filter(|(_, record)| leads(record))
            .map(|(count, _)| count)
            .sum()
    }
}
