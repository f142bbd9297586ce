//! Every block that was ever found in a run, by whom and when: what the
//! simulation knows by itself and holds the nodes against.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use pithead_consensus::state::Account;
use pithead_consensus::state_tree::{NodeSource, update};
use pithead_consensus::subsidy::subsidy;
use pithead_consensus::{Address, Amount, Block, BlockHash, Genesis, Hash256};
use pithead_core::store::schema::{self, ChainEntry};
use pithead_core::store::{Snapshot, StoreError};

/// A block arrived nowhere yet.
pub(crate) const NOT_ARRIVED: u32 = u32::MAX;

/// Balance, grains, and sequence of each account that was ever used (protocol §5).
pub(crate) type Accounts = BTreeMap<Address, (u64, u64)>;

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
    /// Every account after it, as the simulation reckons; of blocks that keep the
    /// rules only.
    pub(crate) accounts: Arc<Accounts>,
    /// What it earned, and whom.
    reward: (Address, u64),
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
            accounts: Arc::new(
                genesis
                    .allocations
                    .iter()
                    .map(|(address, amount)| (*address, (amount.grains(), 0)))
                    .collect(),
            ),
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
            accounts: Arc::clone(&parent.accounts),
            reward: (
                block.commitment.reward_address,
                subsidy(parent.time).grains() + fees,
            ),
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
        let matured = matured
            .and_then(|height| self.ancestor(&hash, height))
            .and_then(|hash| self.blocks.get(&hash));
        let paid = matured.map_or(0, |found| found.rewards_total);
        let reward = matured
            .filter(|found| found.height > 0)
            .map(|found| found.reward);
        let supply = self.allocated + paid - fees_total;
        if let Some(found) = self.blocks.get_mut(&hash) {
            found.supply = supply;
            if found.valid {
                pay(Arc::make_mut(&mut found.accounts), block, reward);
            }
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

    /// Holds the accounts that a node has at its tip against what they must be; returns
    /// what is wrong.
    pub(crate) fn judge_accounts(
        &self,
        tip: &BlockHash,
        at: &dyn Snapshot,
    ) -> Result<Result<(), String>, StoreError> {
        let Some(found) = self.blocks.get(tip) else {
            return Ok(Ok(()));
        };
        let before = self.blocks.get(&found.parent).map(|at| &at.accounts);
        for (address, expected) in found.accounts.iter() {
            // Those that the parent left the same were looked at there.
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
        match found.state_root {
            Some(first) if first != root => {
                return Err(format!(
                    "its state after block {hash} is not that of others"
                ));
            }
            None if root_of(&found.accounts) != Some(root) => {
                return Err(format!(
                    "its state root after block {hash} is not that of the accounts as they must be"
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

/// What a block that keeps the rules does to the accounts (protocol §5).
fn pay(accounts: &mut Accounts, block: &Block, reward: Option<(Address, u64)>) {
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
        accounts.entry(address).or_default().0 += grains;
    }
}

/// The root of a tree that is built anew, without the nodes of any earlier one.
fn root_of(accounts: &Accounts) -> Option<Hash256> {
    struct Nothing;
    impl NodeSource for Nothing {
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
    update(&Nothing, 0, &accounts).ok().map(|tree| tree.root)
}
