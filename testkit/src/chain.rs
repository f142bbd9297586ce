//! A chain in memory that assembles, connects and disconnects blocks under the real rules, and
//! nothing else: no store, mempool or fork choice. Start with [`SmallChain::new`].

use std::collections::{BTreeMap, HashMap, HashSet};

use pithead_consensus::block::BASE_VERSION;
use pithead_consensus::check::{BlockError, CheckedBlock, check_block, check_header_in_context};
use pithead_consensus::connect::{ConnectContext, ConnectedBlock, Reward, connect_block};
use pithead_consensus::difficulty::{Ancestors, expected_bits};
use pithead_consensus::genesis::{AllocationEntry, Genesis, GenesisFile, Network};
use pithead_consensus::merkle;
use pithead_consensus::state_tree::{self, NodeSource};
use pithead_consensus::{
    Account, Accounts, Address, Amount, Block, BlockCommitment, BlockHeader, Hash256,
    SignedTransaction,
};

/// Tree nodes in a map.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryTree {
    /// Nodes by key.
    pub nodes: HashMap<Vec<u8>, Vec<u8>>,
}

impl NodeSource for MemoryTree {
    fn node(&self, key: &[u8]) -> Result<Option<Vec<u8>>, String> {
        Ok(self.nodes.get(key).cloned())
    }
}

impl MemoryTree {
    /// Writes the next version and returns its root; stale nodes stay.
    pub fn update(&mut self, version: u64, changes: &[(Address, Account)]) -> Hash256 {
        let changes = changes.iter().map(|(address, account)| (address, account));
        let update = state_tree::update(self, version, changes).expect("the tree is whole");
        self.nodes.extend(update.nodes);
        update.root
    }

    /// Drops every version from `version` on.
    pub fn drop_from(&mut self, version: u64) {
        self.nodes
            .retain(|key, _| key[..8] < version.to_be_bytes()[..]);
    }
}

/// A connected block, with what is needed to disconnect it.
struct Connected {
    header: BlockHeader,
    block: ConnectedBlock,
}

/// A chain from its genesis, with its accounts.
pub struct SmallChain {
    pub genesis: Genesis,
    /// The accounts after the tip.
    pub accounts: Accounts,
    /// The state root after each block, genesis first.
    pub roots: Vec<Hash256>,
    tree: MemoryTree,
    blocks: Vec<Connected>,
}

/// A network whose blocks take two hashes, with these allocations in grains.
pub fn easy_network(allocations: &[(Address, u64)], reward_maturity: u32) -> GenesisFile {
    let prefix = pithead_consensus::AddressPrefix::new("dpit").expect("a prefix");
    GenesisFile {
        name: "unit tests".to_owned(),
        bits: 0x207f_ffff,
        reward_maturity,
        allocations: allocations
            .iter()
            .map(|(address, grains)| AllocationEntry {
                address: address.to_text(&prefix),
                amount: crate::grains(*grains).to_string(),
            })
            .collect(),
        ..Network::Dev.genesis_file()
    }
}

/// Raises the nonce until the hash meets the target.
pub fn mine(header: &mut BlockHeader) {
    let target = header.bits.to_target().expect("a canonical target");
    while !target.is_met_by(&header.hash()) {
        header.nonce = header.nonce.checked_add(1).expect("an easy target");
    }
}

impl SmallChain {
    /// A chain of the genesis alone.
    pub fn new(file: &GenesisFile) -> Self {
        let genesis = file.check().expect("a valid genesis");
        let accounts: BTreeMap<Address, Account> = genesis
            .allocations
            .iter()
            .map(|(address, balance)| {
                let account = Account {
                    balance: *balance,
                    ..Account::default()
                };
                (*address, account)
            })
            .collect();
        let mut tree = MemoryTree::default();
        let first: Vec<_> = accounts.clone().into_iter().collect();
        let root = tree.update(0, &first);
        Self {
            genesis,
            accounts: Accounts(accounts),
            roots: vec![root],
            tree,
            blocks: Vec::new(),
        }
    }

    pub fn height(&self) -> usize {
        self.blocks.len()
    }

    pub fn tip(&self) -> &BlockHeader {
        self.header_at(self.height())
    }

    fn header_at(&self, height: usize) -> &BlockHeader {
        match height.checked_sub(1) {
            None => &self.genesis.block.header,
            Some(index) => &self.blocks[index].header,
        }
    }

    /// The headers that the difficulty rule reads for the next block.
    pub fn ancestors(&self) -> Ancestors {
        Ancestors {
            parent_time: self.tip().time,
            parent_bits: self.tip().bits,
            grandparent_time: self
                .height()
                .checked_sub(1)
                .map(|height| self.header_at(height).time),
        }
    }

    /// The reward that the next block pays out, if it pays an earlier one.
    pub fn matured_reward(&self) -> Option<Reward> {
        let maturity = self.genesis.params.reward_maturity as usize;
        if maturity == 0 {
            return None;
        }
        let height = (self.height() + 1).checked_sub(maturity)?;
        Some(self.blocks[height.checked_sub(1)?].block.reward)
    }

    /// The context in which the next block connects.
    pub fn context(&self) -> ConnectContext<'_> {
        ConnectContext {
            params: &self.genesis.params,
            parent_time: self.tip().time,
            state_root: self.roots[self.height()],
            matured_reward: self.matured_reward(),
        }
    }

    /// The next block, mined, `elapsed` seconds after the tip.
    pub fn assemble(
        &self,
        transactions: Vec<SignedTransaction>,
        reward_address: Address,
        elapsed: u32,
    ) -> Block {
        let leaves: Vec<_> = transactions.iter().map(|tx| tx.leaf_hash()).collect();
        let commitment = BlockCommitment {
            transactions_root: merkle::root(&leaves),
            state_root: self.roots[self.height()],
            reward_address,
            extra_nonce: [0; 8],
        };
        let mut header = BlockHeader {
            version: BASE_VERSION,
            prev: self.tip().hash(),
            merkle_root: commitment.merkle_root(),
            time: self.tip().time + elapsed,
            bits: expected_bits(&self.genesis.params, &self.ancestors()),
            nonce: 0,
        };
        mine(&mut header);
        Block {
            header,
            commitment,
            transactions,
        }
    }

    /// Checks a block against all rules but those about accounts.
    pub fn check(&self, block: Block) -> Result<CheckedBlock, BlockError> {
        check_header_in_context(&self.genesis.params, &block.header, &self.ancestors())?;
        check_block(&self.genesis.params, block)
    }

    /// Connects a block to the tip, all rules checked.
    pub fn connect(&mut self, block: Block) -> Result<&ConnectedBlock, BlockError> {
        let header = block.header;
        let checked = self.check(block)?;
        let connected = connect_block(&self.context(), &checked, &self.accounts, &HashSet::new())?;
        connected.change.apply(&mut self.accounts);
        let changes: Vec<_> = connected
            .change
            .0
            .iter()
            .map(|(address, change)| (*address, change.after.clone()))
            .collect();
        let version = self.roots.len() as u64;
        self.roots.push(self.tree.update(version, &changes));
        self.blocks.push(Connected {
            header,
            block: connected,
        });
        Ok(&self.blocks[self.blocks.len() - 1].block)
    }

    /// Disconnects the tip, exactly: accounts and roots are as before it.
    pub fn disconnect(&mut self) {
        let connected = self.blocks.pop().expect("a block above the genesis");
        connected
            .block
            .change
            .undo_record()
            .disconnect(&mut self.accounts);
        self.roots.pop();
        self.tree.drop_from(self.roots.len() as u64);
    }

    /// Sum of all balances, grains.
    pub fn balances(&self) -> u128 {
        let balances = self.accounts.0.values().map(|account| account.balance);
        balances.map(|balance| u128::from(balance.grains())).sum()
    }

    /// Sum of the allocations and of every subsidy so far, grains.
    pub fn issued(&self) -> u128 {
        let allocated = self.genesis.allocations.values().copied();
        let subsidies = self.blocks.iter().map(|each| each.block.subsidy);
        allocated.chain(subsidies).map(grains_of).sum()
    }

    /// Sum of the parts of rewards that no account had room for, grains.
    pub fn burnt(&self) -> u128 {
        let burnt = self.blocks.iter().map(|each| each.block.burnt);
        burnt.map(grains_of).sum()
    }

    /// Sum of the rewards that no block has paid out yet, grains.
    pub fn unmatured(&self) -> u128 {
        let earned: u128 = self
            .blocks
            .iter()
            .map(|each| grains_of(each.block.reward.amount))
            .sum();
        let paid = self.blocks.iter().filter_map(|each| each.block.paid);
        earned - paid.map(|paid| grains_of(paid.amount)).sum::<u128>()
    }
}

fn grains_of(amount: Amount) -> u128 {
    u128::from(amount.grains())
}
