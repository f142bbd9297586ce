//! Every block that was ever found in a run, by whom and when: what the
//! simulation knows by itself and holds the nodes against.

use std::collections::HashMap;

use pithead_consensus::subsidy::subsidy;
use pithead_consensus::{Amount, Block, BlockHash, Genesis, Hash256};
use pithead_node::store::schema::ChainEntry;

/// A block arrived nowhere yet.
pub(crate) const NOT_ARRIVED: u32 = u32::MAX;

/// A block as the simulation knows it.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) parent: BlockHash,
    pub(crate) height: u64,
    pub(crate) at_us: u64,
    /// Whether it keeps the rules; known by construction.
    pub(crate) valid: bool,
    /// Whether the network was split, or settling.
    pub(crate) counts: bool,
    /// Honest nodes that were up and not catching up when it was found.
    pub(crate) audience: usize,
    time: u32,
    rewards_total: u64,
    fees_total: u64,
    supply: u64,
    /// The state root that the first node computed after it.
    pub(crate) state_root: Option<Hash256>,
    /// Milliseconds to each node; [`NOT_ARRIVED`] if not.
    pub(crate) arrivals_ms: Vec<u32>,
}

/// The blocks of a run.
pub(crate) struct Ledger {
    blocks: HashMap<BlockHash, Found>,
    order: Vec<BlockHash>,
    maturity: u32,
    allocated: u64,
    genesis: BlockHash,
}

impl Ledger {
    pub(crate) fn new(genesis: &Genesis) -> Self {
        let allocated: u64 = genesis.allocations.values().map(|each| each.grains()).sum();
        let first = Found {
            parent: genesis.block.header.prev,
            height: 0,
            at_us: 0,
            valid: true,
            counts: false,
            audience: 0,
            time: genesis.block.header.time,
            rewards_total: 0,
            fees_total: 0,
            supply: allocated,
            state_root: None,
            arrivals_ms: Vec::new(),
        };
        let hash = genesis.params.genesis_hash;
        Self {
            blocks: HashMap::from([(hash, first)]),
            order: Vec::new(),
            maturity: genesis.params.reward_maturity,
            allocated,
            genesis: hash,
        }
    }

    pub(crate) fn get(&self, hash: &BlockHash) -> Option<&Found> {
        self.blocks.get(hash)
    }

    pub(crate) fn get_mut(&mut self, hash: &BlockHash) -> Option<&mut Found> {
        self.blocks.get_mut(hash)
    }

    /// Blocks in the order in which they were found, the genesis not counted.
    pub(crate) fn in_order(&self) -> impl Iterator<Item = (&BlockHash, &Found)> {
        let found = |hash| Some((hash, self.blocks.get(hash)?));
        self.order.iter().filter_map(found)
    }

    /// Enters a block that was just found. `false` if its parent is unknown.
    pub(crate) fn enter(
        &mut self,
        block: &Block,
        at_us: u64,
        valid: bool,
        counts: bool,
        (nodes, audience): (usize, usize),
    ) -> bool {
        let (hash, header) = (block.header.hash(), &block.header);
        let Some(parent) = self.blocks.get(&header.prev) else {
            return false;
        };
        let fees: u64 = block
            .transactions
            .iter()
            .map(|transaction| transaction.body.fee.grains())
            .sum();
        let found = Found {
            parent: header.prev,
            height: parent.height + 1,
            at_us,
            valid: valid && parent.valid,
            counts,
            audience,
            time: header.time,
            rewards_total: parent.rewards_total + subsidy(parent.time).grains() + fees,
            fees_total: parent.fees_total + fees,
            supply: 0,
            state_root: None,
            arrivals_ms: if valid {
                vec![NOT_ARRIVED; nodes]
            } else {
                Vec::new()
            },
        };
        let (height, fees_total) = (found.height, found.fees_total);
        if self.blocks.insert(hash, found).is_some() {
            return false;
        }
        self.order.push(hash);
        let matured = height.checked_sub(u64::from(self.maturity));
        let paid = matured
            .and_then(|height| self.ancestor(&hash, height))
            .and_then(|hash| self.blocks.get(&hash))
            .map_or(0, |found| found.rewards_total);
        let supply = self.allocated + paid - fees_total;
        if let Some(found) = self.blocks.get_mut(&hash) {
            found.supply = supply;
        }
        true
    }

    /// The block at a height on the chain that ends in `hash`.
    pub(crate) fn ancestor(&self, hash: &BlockHash, height: u64) -> Option<BlockHash> {
        let mut at = *hash;
        loop {
            let found = self.blocks.get(&at)?;
            if found.height <= height {
                return (found.height == height).then_some(at);
            }
            at = found.parent;
        }
    }

    /// Hashes from `tip` down to the first block.
    pub(crate) fn chain(&self, tip: &BlockHash) -> Vec<BlockHash> {
        let mut chain = Vec::new();
        let mut at = *tip;
        while at != self.genesis {
            let Some(found) = self.blocks.get(&at) else {
                break;
            };
            chain.push(at);
            at = found.parent;
        }
        chain
    }

    /// Holds a node's new tip against what is known of it; returns what is
    /// wrong.
    pub(crate) fn judge(&mut self, tip: &ChainEntry) -> Result<(), String> {
        let hash = tip.hash();
        let Some(found) = self.blocks.get(&hash) else {
            return Err(format!("its tip {hash} was found by nobody"));
        };
        if !found.valid {
            return Err(format!(
                "its tip {hash} at height {} breaks a rule, and it did not notice",
                found.height
            ));
        }
        if found.height != tip.height.0 {
            return Err(format!(
                "it has block {hash} at height {}, not {}",
                tip.height, found.height
            ));
        }
        if Amount::from_grains(found.supply).ok() != Some(tip.outcome.supply) {
            return Err(format!(
                "the supply after block {hash} is {} grains, not {}",
                tip.outcome.supply.grains(),
                found.supply
            ));
        }
        let before = self.blocks.get(&found.parent).and_then(|at| at.state_root);
        if before.is_some_and(|root| root != tip.commitment.state_root) {
            return Err(format!(
                "block {hash} commits to a state that is not its parent's"
            ));
        }
        let root = tip.outcome.state_root;
        if found.state_root.is_some_and(|first| first != root) {
            return Err(format!(
                "its state after block {hash} is not that of others"
            ));
        }
        if let Some(found) = self.blocks.get_mut(&hash) {
            found.state_root = Some(root);
        }
        Ok(())
    }
}
