//! The oracle: what `consensus` alone says of each block and each template, from states that it
//! has computed itself from the genesis on.
//!
//! The oracle knows no node, no store and no cache of checked signatures. A verdict depends on
//! nothing but the encoded block (its parent is named in it), so all nodes share the verdicts, and
//! the key of a verdict is the hash of the whole encoding: two bodies under one header are two
//! blocks here. Start reading at [`Oracle::judge`].

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use pithead_consensus::block::BASE_VERSION;
use pithead_consensus::check::{
    BlockError, CheckedBlock, CheckedTransaction, check_assembled, check_block,
    check_header_in_context,
};
use pithead_consensus::connect::{ConnectContext, ConnectedBlock, Reward, connect_block};
use pithead_consensus::difficulty::{Ancestors, expected_bits};
use pithead_consensus::hash::sha256;
use pithead_consensus::state_tree::{NodeSource, update};
use pithead_consensus::{
    Account, Accounts, Address, Amount, Block, BlockCommitment, BlockHash, BlockHeader,
    ConsensusParams, Decode as _, Encode as _, Genesis, Hash256, SignedTransaction, merkle,
};
use pithead_core::template::BlockTemplate;

/// What `consensus` says of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The block keeps every rule.
    Valid,
    /// The block breaks this rule.
    Invalid(BlockError),
    /// The block's parent is invalid.
    InvalidParent,
    /// The block's parent is unknown, so the block can't be judged.
    Orphan,
}

/// The chain up to a valid block, as far as the rules for its children need it.
struct State {
    parent: BlockHash,
    height: u64,
    header: BlockHeader,
    accounts: Accounts,
    root: Hash256,
    reward: Option<Reward>,
}

/// Everything that was judged so far.
pub(crate) struct Oracle {
    params: ConsensusParams,
    states: HashMap<BlockHash, Arc<State>>,
    /// The verdicts that can't change, by the hash of the encoded block.
    verdicts: HashMap<[u8; 32], Verdict>,
    /// The headers that commit to an invalid block.
    condemned: HashSet<BlockHash>,
    /// The verdicts on templates, by parent, state root and transactions root. They cover every
    /// byte of every transaction.
    templates: HashMap<(BlockHash, Hash256, Hash256), Result<(), String>>,
}

/// A state tree that is built from scratch.
struct EmptyTree;

impl NodeSource for EmptyTree {
    fn node(&self, _: &[u8]) -> Result<Option<Vec<u8>>, String> {
        Ok(None)
    }
}

fn root_of(accounts: &BTreeMap<Address, Account>) -> Option<Hash256> {
    update(&EmptyTree, 0, accounts).ok().map(|tree| tree.root)
}

impl Oracle {
    /// An oracle that knows the genesis.
    pub(crate) fn new(genesis: &Genesis) -> Self {
        let with_balance = |(address, balance): (&Address, &Amount)| {
            let account = Account {
                balance: *balance,
                ..Account::default()
            };
            (*address, account)
        };
        let accounts: BTreeMap<_, _> = genesis.allocations.iter().map(with_balance).collect();
        let first = State {
            parent: genesis.block.header.prev,
            height: 0,
            header: genesis.block.header,
            root: root_of(&accounts).unwrap_or_default(),
            accounts: Accounts(accounts),
            reward: None,
        };
        let hash = genesis.params.genesis_hash;
        Self {
            params: genesis.params.clone(),
            states: HashMap::from([(hash, Arc::new(first))]),
            verdicts: HashMap::new(),
            condemned: HashSet::new(),
            templates: HashMap::new(),
        }
    }

    /// Judges a block by its bytes.
    pub(crate) fn judge(&mut self, block: &Block) -> Verdict {
        let bytes = block.encode();
        let key = sha256(&bytes);
        if let Some(known) = self.verdicts.get(&key) {
            return known.clone();
        }
        let verdict = self.judge_bytes(&bytes);
        match &verdict {
            Verdict::Orphan => return verdict,
            Verdict::Invalid(error) if error.condemns_header() => {
                self.condemned.insert(block.header.hash());
            }
            Verdict::InvalidParent => {
                self.condemned.insert(block.header.hash());
            }
            Verdict::Valid | Verdict::Invalid(_) => {}
        }
        self.verdicts.insert(key, verdict.clone());
        verdict
    }

    /// Whether the block with this hash is known to be invalid, or to descend from such a block.
    pub(crate) fn condemns(&self, hash: &BlockHash) -> bool {
        self.condemned.contains(hash)
    }

    /// Whether the block with this hash is known to keep every rule.
    pub(crate) fn knows_valid(&self, hash: &BlockHash) -> bool {
        self.states.contains_key(hash)
    }

    fn judge_bytes(&mut self, bytes: &[u8]) -> Verdict {
        // What a node encodes, a node can decode; otherwise nobody could send the block on.
        let Ok(block) = Block::decode(bytes) else {
            return Verdict::Orphan;
        };
        let checked = match check_block(&self.params, block) {
            Ok(checked) => checked,
            Err(error) => return Verdict::Invalid(error),
        };
        let header = checked.block().header;
        let Some(parent) = self.states.get(&header.prev).cloned() else {
            return if self.condemned.contains(&header.prev) {
                Verdict::InvalidParent
            } else {
                Verdict::Orphan
            };
        };
        let below = self.ancestors(&parent);
        if let Err(error) = check_header_in_context(&self.params, &header, &below) {
            return Verdict::Invalid(BlockError::Header(error));
        }
        match self.connect(&parent, &checked) {
            Ok(connected) => {
                let state = state_after(&parent, &checked, connected);
                self.states.insert(checked.hash(), Arc::new(state));
                Verdict::Valid
            }
            Err(error) => Verdict::Invalid(error),
        }
    }

    fn ancestors(&self, parent: &State) -> Ancestors {
        let grandparent = self.states.get(&parent.parent);
        Ancestors {
            parent_time: parent.header.time,
            parent_bits: parent.header.bits,
            grandparent_time: grandparent.map(|state| state.header.time),
        }
    }

    /// Connects a block with every signature checked.
    fn connect(&self, parent: &State, block: &CheckedBlock) -> Result<ConnectedBlock, BlockError> {
        let context = ConnectContext {
            params: &self.params,
            parent_time: parent.header.time,
            state_root: parent.root,
            matured_reward: self.matured_reward(parent),
        };
        connect_block(&context, block, &parent.accounts, &HashSet::new())
    }

    /// The reward that a child of `parent` pays out (protocol §5).
    fn matured_reward(&self, parent: &State) -> Option<Reward> {
        let maturity = u64::from(self.params.reward_maturity);
        let height = (parent.height + 1).checked_sub(maturity)?;
        if maturity == 0 || height == 0 {
            return None;
        }
        let mut at = parent;
        while at.height > height {
            at = self.states.get(&at.parent)?;
        }
        at.reward
    }

    /// Judges a template on a parent that is known: every transaction must keep every rule, with
    /// its signature checked here.
    pub(crate) fn judge_template(&mut self, template: &BlockTemplate) -> Result<(), String> {
        let key = (
            template.parent,
            template.state_root,
            template.transactions_root,
        );
        if let Some(known) = self.templates.get(&key) {
            return known.clone();
        }
        let Some(parent) = self.states.get(&template.parent).cloned() else {
            return Ok(());
        };
        let verdict = self.connect_template(&parent, template);
        let verdict = verdict.map_err(|error| error.to_string());
        self.templates.insert(key, verdict.clone());
        verdict
    }

    fn connect_template(&self, parent: &State, template: &BlockTemplate) -> Result<(), BlockError> {
        let mut checked = Vec::new();
        for (index, transaction) in template.transactions.iter().enumerate() {
            let each = CheckedTransaction::new(&self.params, transaction.clone());
            checked.push(each.map_err(|failed| BlockError::Transaction {
                index,
                error: failed.error,
            })?);
        }
        let commitment = template.commitment(Address([0; 32]), [0; 8]);
        let header = template.header(&commitment);
        let each: Vec<_> = checked.iter().collect();
        let assembled = check_assembled(&self.params, header, commitment, &each)?;
        self.connect(parent, &assembled).map(drop)
    }

    /// A block on a known parent, without its proof of work: for adversaries, which mine wherever
    /// they like. `None` if the parent is unknown.
    pub(crate) fn assemble(
        &self,
        parent: &BlockHash,
        transactions: Vec<SignedTransaction>,
        reward_address: Address,
        time: u32,
        extra_nonce: [u8; 8],
    ) -> Option<Block> {
        let state = self.states.get(parent)?;
        let leaves: Vec<_> = transactions.iter().map(|each| each.leaf_hash()).collect();
        let commitment = BlockCommitment {
            transactions_root: merkle::root(&leaves),
            state_root: state.root,
            reward_address,
            extra_nonce,
        };
        let header = BlockHeader {
            version: BASE_VERSION,
            prev: *parent,
            merkle_root: commitment.merkle_root(),
            time: time.max(state.header.time),
            bits: expected_bits(&self.params, &self.ancestors(state)),
            nonce: 0,
        };
        Some(Block {
            header,
            commitment,
            transactions,
        })
    }
}

fn state_after(parent: &State, block: &CheckedBlock, connected: ConnectedBlock) -> State {
    let mut accounts = parent.accounts.clone();
    connected.change.apply(&mut accounts);
    State {
        parent: block.block().header.prev,
        height: parent.height + 1,
        header: block.block().header,
        root: root_of(&accounts.0).unwrap_or_default(),
        accounts,
        reward: Some(connected.reward),
    }
}
