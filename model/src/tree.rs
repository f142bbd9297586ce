//! The tree of blocks that a run may build, and the links that validators may sign on it. Knows
//! neither validators nor fork choice. Start reading at [`Tree::new`].

use crate::votes::LinkSet;

/// Where one branch leaves another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fork {
    /// The branch that it leaves, with a lower number.
    pub from: usize,
    /// The height of the last block in common.
    pub height: u8,
}

/// A set of blocks, one bit each.
pub type Blocks = u64;

/// A block, by its number.
pub type Block = usize;

/// A link of protocol §9, from a checkpoint to a later one on the same chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// The source checkpoint.
    pub source: Block,
    /// The target checkpoint.
    pub target: Block,
}

/// Every block that can exist: a few branches, each up to the same height.
#[derive(Debug, Clone)]
pub struct Tree {
    forks: Vec<Fork>,
    top: u8,
    /// Checkpoints are the blocks at multiples of this height.
    pub interval: u8,
    /// Every link, by ascending height of its target.
    pub links: Vec<Link>,
    /// For each link, those that the same validator can't sign as well.
    pub conflicts: Vec<LinkSet>,
}

impl Tree {
    /// Branch 0 starts at the genesis, and each of `forks` adds one branch. All may grow up to the
    /// height `top`.
    #[must_use]
    pub fn new(forks: &[Fork], top: u8, interval: u8) -> Self {
        let genesis = Fork { from: 0, height: 0 };
        let mut tree = Self {
            forks: [&[genesis], forks].concat(),
            top,
            interval,
            links: Vec::new(),
            conflicts: Vec::new(),
        };
        tree.links = tree.all_links();
        let links = &tree.links;
        let conflict = |one: &Link, other: &Link| one != other && tree.breaks_a_rule(one, other);
        tree.conflicts = links
            .iter()
            .map(|one| {
                let others = (0..links.len()).filter(|other| conflict(one, &links[*other]));
                others.fold(LinkSet::default(), LinkSet::with)
            })
            .collect();
        assert!(tree.links.len() <= LinkSet::LINKS_MAX && tree.block_count() <= 64);
        tree
    }

    /// How many branches there are.
    #[must_use]
    pub fn branches(&self) -> usize {
        self.forks.len()
    }

    /// The height up to which every branch may grow.
    #[must_use]
    pub fn top(&self) -> u8 {
        self.top
    }

    /// Where a branch leaves the one below it.
    #[must_use]
    pub fn fork(&self, branch: usize) -> Fork {
        self.forks[branch]
    }

    fn block_count(&self) -> usize {
        self.forks.len() * (usize::from(self.top) + 1)
    }

    /// The block at a height of the chain that a branch ends.
    #[must_use]
    pub fn block(&self, mut branch: usize, height: u8) -> Block {
        while branch > 0 && height <= self.forks[branch].height {
            branch = self.forks[branch].from;
        }
        branch * (usize::from(self.top) + 1) + usize::from(height)
    }

    /// The branch that a block was built on.
    #[must_use]
    pub fn branch_of(&self, block: Block) -> usize {
        block / (usize::from(self.top) + 1)
    }

    /// A block's height.
    #[must_use]
    pub fn height(&self, block: Block) -> u8 {
        u8::try_from(block % (usize::from(self.top) + 1)).unwrap_or(u8::MAX)
    }

    /// Whether the chain with a block at its end contains another block.
    #[must_use]
    pub fn contains(&self, end: Block, block: Block) -> bool {
        let height = self.height(block);
        height <= self.height(end) && self.block(self.branch_of(end), height) == block
    }

    /// The height of the last block that two chains have in common.
    #[must_use]
    pub fn common(&self, one: Block, other: Block) -> u8 {
        let lower = self.height(one).min(self.height(other));
        let shared = |height: &u8| {
            self.block(self.branch_of(one), *height) == self.block(self.branch_of(other), *height)
        };
        (0..=lower).rev().find(shared).unwrap_or(0)
    }

    /// The blocks of a chain, as a set.
    #[must_use]
    pub fn chain(&self, end: Block) -> Blocks {
        let branch = self.branch_of(end);
        (0..=self.height(end)).fold(0, |set, height| set | 1 << self.block(branch, height))
    }

    /// The height of the highest of some blocks that lie on one chain.
    #[must_use]
    pub fn highest(&self, blocks: Blocks) -> Option<Block> {
        let each = (0..self.block_count()).filter(|block| blocks & (1 << block) != 0);
        each.max_by_key(|block| self.height(*block))
    }

    /// The number of a link, if both its ends are checkpoints of one chain.
    #[must_use]
    pub fn link(&self, source: Block, target: Block) -> Option<usize> {
        self.links
            .iter()
            .position(|link| *link == Link { source, target })
    }

    /// A block as a reader of a trace sees it: the branch as a letter, and the height.
    #[must_use]
    pub fn name(&self, block: Block) -> String {
        let letter = ["A", "B", "C", "D"]
            .get(self.branch_of(block))
            .unwrap_or(&"?");
        format!("{letter}{}", self.height(block))
    }

    fn all_links(&self) -> Vec<Link> {
        let mut links = Vec::new();
        let interval = usize::from(self.interval);
        for target_height in (0..=self.top).step_by(interval).skip(1) {
            for branch in 0..self.forks.len() {
                if branch > 0 && target_height <= self.forks[branch].height {
                    continue;
                }
                let sources = (0..target_height).step_by(interval);
                links.extend(sources.map(|height| Link {
                    source: self.block(branch, height),
                    target: self.block(branch, target_height),
                }));
            }
        }
        links
    }

    /// Whether one validator that signs both links breaks rule 1 or 2 of protocol §9.
    fn breaks_a_rule(&self, one: &Link, other: &Link) -> bool {
        let heights = |link: &Link| (self.height(link.source), self.height(link.target));
        let ((a, b), (c, d)) = (heights(one), heights(other));
        b == d || (a < c && d < b) || (c < a && b < d)
    }
}
