//! The model of the chain: every block that was found in a run, and the accounts that
//! follow from it.
//!
//! The simulation enters each block when it is found and computes its accounts by simple
//! code of its own. Nodes are compared with the model; what a node says about a block
//! never enters it, except for its first state root. Start reading at [`ChainModel`].

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use pithead_consensus::state::Account;
use pithead_consensus::state_tree::{NodeSource, update};
use pithead_consensus::subsidy::subsidy;
use pithead_consensus::{Address, Amount, Block, BlockHash, Genesis, Hash256};
use pithead_core::store::schema::{self, ChainEntry};
use pithead_core::store::{Snapshot, StoreError};

/// The delay of a block that has not reached a node, in [`ModelBlock::arrivals_ms`].
pub(crate) const NOT_ARRIVED: u32 = u32::MAX;

/// Balance in grains and sequence of each account that was ever used (protocol §5).
pub(crate) type ModelAccounts = BTreeMap<Address, (u64, u64)>;

/// A block as the simulation knows it.
#[derive(Debug, Clone)]
pub(crate) struct ModelBlock {
    pub(crate) parent: BlockHash,
    pub(crate) height: u64,
    /// When it was found, microseconds.
    pub(crate) at_us: u64,
    /// Whether it keeps the rules. The simulation knows, since it forges all the blocks
    /// that break one.
    pub(crate) valid: bool,
    /// Whether the network was whole and settled when it was found; only these blocks
    /// count for stale rate and propagation.
    pub(crate) counts: bool,
    /// Honest nodes that were up and not catching up when it was found.
    pub(crate) audience: usize,
    time: u32,
    /// Rewards of this block and all blocks below it, grains.
    rewards_total: u64,
    /// Fees of this block and all blocks below it, grains.
    fees_total: u64,
    /// Coins in circulation after this block, grains.
    supply: u64,
    /// All accounts after this block. If the block breaks a rule, those of its parent.
    accounts: Arc<ModelAccounts>,
    /// The recipient of the block's reward, and grains.
    reward: (Address, u64),
    /// The state root after this block, as the first node computed it.
    state_root: Option<Hash256>,
    /// Milliseconds from the block's discovery to its validation, by node index, or
    /// [`NOT_ARRIVED`].
    pub(crate) arrivals_ms: Vec<u32>,
}

/// The circumstances in which a block was found.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Discovery {
    /// See [`ModelBlock::at_us`].
    pub(crate) at_us: u64,
    /// See [`ModelBlock::valid`].
    pub(crate) valid: bool,
    /// See [`ModelBlock::counts`].
    pub(crate) counts: bool,
    /// How many nodes the network has.
    pub(crate) nodes: usize,
    /// See [`ModelBlock::audience`].
    pub(crate) audience: usize,
}

/// All blocks of a run, on all branches.
pub(crate) struct ChainModel {
    blocks: HashMap<BlockHash, ModelBlock>,
    /// In the order in which blocks were found, without the genesis.
    order: Vec<BlockHash>,
    /// Blocks until a reward is paid out.
    maturity: u32,
    /// The sum of all allocations, grains.
    allocated: u64,
    genesis: BlockHash,
}

impl ChainModel {
    /// A model that holds the genesis block only.
    pub(crate) fn new(genesis: &Genesis) -> Self {
        let allocated: u64 = genesis.allocations.values().map(|each| each.grains()).sum();
        let allocations = genesis.allocations.iter();
        let accounts = allocations.map(|(address, amount)| (*address, (amount.grains(), 0)));
        let first = ModelBlock {
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
            accounts: Arc::new(accounts.collect()),
            reward: (Address([0; 32]), 0),
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

    pub(crate) fn get(&self, hash: &BlockHash) -> Option<&ModelBlock> {
        self.blocks.get(hash)
    }

    pub(crate) fn get_mut(&mut self, hash: &BlockHash) -> Option<&mut ModelBlock> {
        self.blocks.get_mut(hash)
    }

    /// All blocks in the order in which they were found, without the genesis.
    pub(crate) fn in_order(&self) -> impl Iterator<Item = (&BlockHash, &ModelBlock)> {
        let with_block = |hash| Some((hash, self.blocks.get(hash)?));
        self.order.iter().filter_map(with_block)
    }

    /// Enters a block that was just found. Blocks without a known parent, and blocks
    /// that are entered already, are ignored.
    pub(crate) fn insert(&mut self, block: &Block, discovery: Discovery) {
        let (hash, header) = (block.header.hash(), &block.header);
        let Some(parent) = self.blocks.get(&header.prev) else {
            return;
        };
        let fees: u64 = block
            .transactions
            .iter()
            .map(|transaction| transaction.body.fee.grains())
            .sum();
        let reward = subsidy(parent.time).grains() + fees;
        let arrivals = if discovery.valid { discovery.nodes } else { 0 };
        let found = ModelBlock {
            parent: header.prev,
            height: parent.height + 1,
            at_us: discovery.at_us,
            valid: discovery.valid && parent.valid,
            counts: discovery.counts,
            audience: discovery.audience,
            time: header.time,
            rewards_total: parent.rewards_total + reward,
            fees_total: parent.fees_total + fees,
            supply: 0,
            accounts: Arc::clone(&parent.accounts),
            reward: (block.commitment.reward_address, reward),
            state_root: None,
            arrivals_ms: vec![NOT_ARRIVED; arrivals],
        };
        if self.blocks.insert(hash, found).is_some() {
            return;
        }
        self.order.push(hash);
        self.settle_accounts(&hash, block);
    }

    /// Computes supply and accounts after a block that was just entered. Its own reward
    /// is paid out only once it matures; the block that matures now is paid instead.
    fn settle_accounts(&mut self, hash: &BlockHash, block: &Block) {
        let Some(found) = self.blocks.get(hash) else {
            return;
        };
        let fees_total = found.fees_total;
        let matured = found.height.checked_sub(u64::from(self.maturity));
        let matured = matured
            .and_then(|height| self.ancestor(hash, height))
            .and_then(|hash| self.blocks.get(&hash));
        let paid = matured.map_or(0, |matured| matured.rewards_total);
        let reward = matured
            .filter(|matured| matured.height > 0)
            .map(|matured| matured.reward);
        let supply = self.allocated + paid - fees_total;
        if let Some(found) = self.blocks.get_mut(hash) {
            found.supply = supply;
            if found.valid {
                apply_block(Arc::make_mut(&mut found.accounts), block, reward);
            }
        }
    }

    /// The block at `height` on the chain that ends in `hash`.
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

    /// The hashes from `tip` down to the block above the genesis.
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

    /// Compares the accounts that a node has at its tip with the model. The inner error
    /// says what differs.
    pub(crate) fn check_accounts(
        &self,
        tip: &BlockHash,
        at: &dyn Snapshot,
    ) -> Result<Result<(), String>, StoreError> {
        let Some(found) = self.blocks.get(tip) else {
            return Ok(Ok(()));
        };
        let before = self.blocks.get(&found.parent).map(|at| &at.accounts);
        for (address, expected) in found.accounts.iter() {
            // Accounts that this block did not change were checked at its parent.
            if before.is_some_and(|before| before.get(address) == Some(expected)) {
                continue;
            }
            let account = schema::account(at, address)?;
            let is = (account.balance.grains(), account.sequence);
            if is != *expected {
                return Ok(Err(format!(
                    "after block {tip} account {address:?} has balance and sequence {is:?}, not {expected:?}"
                )));
            }
        }
        Ok(Ok(()))
    }

    /// Compares a node's new tip with the model. The error says what differs.
    pub(crate) fn check_tip(&mut self, tip: &ChainEntry) -> Result<(), String> {
        let hash = tip.hash();
        let Some(found) = self.blocks.get(&hash) else {
            return Err(format!("its tip {hash} was never found by a miner"));
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
        if u128::from(found.supply) != tip.outcome.supply {
            return Err(format!(
                "the supply after block {hash} is {} grains, not {}",
                tip.outcome.supply, found.supply
            ));
        }
        let before = self.blocks.get(&found.parent).and_then(|at| at.state_root);
        if before.is_some_and(|root| root != tip.commitment.state_root) {
            return Err(format!(
                "block {hash} commits to a state that is not its parent's"
            ));
        }
        let root = tip.outcome.state_root;
        match found.state_root {
            Some(first) if first != root => {
                return Err(format!(
                    "its state after block {hash} is not that of others"
                ));
            }
            None if state_root(&found.accounts) != Some(root) => {
                return Err(format!(
                    "its state root after block {hash} does not follow from the accounts of the model"
                ));
            }
            _ => {}
        }
        if let Some(found) = self.blocks.get_mut(&hash) {
            found.state_root = Some(root);
        }
        Ok(())
    }
}

/// Applies a valid block to the accounts (protocol §5): its payments, then the reward
/// that matures.
fn apply_block(accounts: &mut ModelAccounts, block: &Block, reward: Option<(Address, u64)>) {
    for transaction in &block.transactions {
        let body = &transaction.body;
        let sent: u64 = body.outputs.iter().map(|to| to.amount.grains()).sum();
        let sender = accounts.entry(body.sender).or_default();
        sender.0 -= sent + body.fee.grains();
        sender.1 += 1;
        for to in &body.outputs {
            accounts.entry(to.recipient).or_default().0 += to.amount.grains();
        }
    }
    if let Some((address, grains)) = reward {
        // What would raise the balance above the limit is burnt.
        let balance = &mut accounts.entry(address).or_default().0;
        *balance = (*balance + grains).min(Amount::MAX_MONEY.grains());
    }
}

/// The state root of these accounts, from a tree that is built from scratch. A node
/// instead updates the tree of the block before.
fn state_root(accounts: &ModelAccounts) -> Option<Hash256> {
    struct EmptyTree;
    impl NodeSource for EmptyTree {
        fn node(&self, _: &[u8]) -> Result<Option<Vec<u8>>, String> {
            Ok(None)
        }
    }
    let accounts: BTreeMap<Address, Account> = accounts
        .iter()
        .map(|(address, (balance, sequence))| {
            let account = Account {
                balance: Amount::from_grains(*balance).ok()?,
                sequence: *sequence,
                key: None,
            };
            Some((*address, account))
        })
        .collect::<Option<_>>()?;
    update(&EmptyTree, 0, &accounts).ok().map(|tree| tree.root)
}
