//! Block templates: what miners work on.
//!
//! A template is a block that lacks only its reward address, extra nonce and nonce. It is validated
//! in full, by the code that connects blocks, before a miner receives it. Knows nothing of miners,
//! nor of when a template is due. Start reading at [`assemble_template`].

use std::collections::HashSet;
use std::sync::Arc;

use pithead_consensus::block::{BASE_VERSION, EMPTY_BLOCK_BYTES};
use pithead_consensus::check::{BlockError, check_assembled};
use pithead_consensus::connect::{ConnectContext, Reward, connect_block, touched_addresses};
use pithead_consensus::subsidy::subsidy;
use pithead_consensus::{
    Account, Accounts, Address, Amount, Block, BlockCommitment, BlockHash, BlockHeader,
    CompactTarget, ConsensusParams, Hash256, Height, SignedTransaction, Target, merkle,
};
use thiserror::Error;

use crate::chain::{Chain, next_bits};
use crate::credits::drop_uncreditable;
use crate::mempool::{BlockRoom, Selection};
use crate::store::StoreError;
use crate::store::schema;

/// Once a tip's templates have needed so many accounts, they are read anew.
const BASIS_ACCOUNTS_MAX: usize = 200_000;

/// A block for a miner to complete.
#[derive(Debug, Clone)]
pub struct BlockTemplate {
    /// Number of this template; later templates have higher numbers.
    pub id: u64,
    pub height: Height,
    pub parent: BlockHash,
    /// The parent's time: the earliest that the block may carry, Unix seconds.
    pub time_min: u32,
    /// When it was assembled, Unix seconds; the block's time to start with.
    pub time: u32,
    pub bits: CompactTarget,
    /// The target that `bits` stands for.
    pub target: Target,
    /// Root of the state after the parent.
    pub state_root: Hash256,
    pub transactions_root: Hash256,
    /// In block order.
    pub transactions: Arc<Vec<SignedTransaction>>,
    /// Amount that the block newly issues.
    pub subsidy: Amount,
    pub fees: Amount,
}

impl BlockTemplate {
    /// The miner's earnings from the block: subsidy and fees.
    #[must_use]
    pub fn reward(&self) -> Amount {
        self.subsidy
            .checked_add(self.fees)
            .unwrap_or(Amount::MAX_MONEY)
    }

    /// The commitment of a block that pays this address.
    #[must_use]
    pub fn commitment(&self, reward_address: Address, extra_nonce: [u8; 8]) -> BlockCommitment {
        BlockCommitment {
            transactions_root: self.transactions_root,
            state_root: self.state_root,
            reward_address,
            extra_nonce,
        }
    }

    /// The header over a commitment, with nonce 0.
    #[must_use]
    pub fn header(&self, commitment: &BlockCommitment) -> BlockHeader {
        BlockHeader {
            version: BASE_VERSION,
            prev: self.parent,
            merkle_root: commitment.merkle_root(),
            time: self.time,
            bits: self.bits,
            nonce: 0,
        }
    }

    /// The whole block for a solved header.
    #[must_use]
    pub fn block(&self, header: BlockHeader, commitment: BlockCommitment) -> Block {
        Block {
            header,
            commitment,
            transactions: self.transactions.as_ref().clone(),
        }
    }
}

/// Why a template could not be assembled.
#[derive(Debug, Error)]
pub enum TemplateError {
    /// Storage failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The block would break a rule. Admission to the mempool should have prevented that.
    #[error("the assembled block does not pass: {0}")]
    Invalid(#[from] BlockError),
}

/// What templates on one tip are made from: facts of the tip, and accounts as they are there. All of
/// it depends on the tip's hash alone, so that the next template on the same tip reads from the store
/// only what no earlier one needed.
#[derive(Debug, Default)]
pub struct TemplateBasis {
    tip: Option<TipFacts>,
    accounts: Accounts,
}

/// What follows from a tip for the block after it.
#[derive(Debug, Clone, Copy)]
struct TipFacts {
    hash: BlockHash,
    bits: CompactTarget,
    matured: Option<Reward>,
}

impl TemplateBasis {
    /// The facts of the chain's tip. Those of another tip are forgotten, with the accounts.
    fn facts(&mut self, chain: &Chain) -> Result<TipFacts, StoreError> {
        let parent = chain.tip();
        if let Some(facts) = self.tip
            && facts.hash == parent.hash()
        {
            return Ok(facts);
        }
        let snapshot = chain.store().snapshot()?;
        let facts = TipFacts {
            hash: parent.hash(),
            bits: next_bits(chain.params(), snapshot.as_ref(), parent)?,
            matured: chain.matured_reward(snapshot.as_ref(), parent.height.next())?,
        };
        *self = Self {
            tip: Some(facts),
            accounts: Accounts::default(),
        };
        Ok(facts)
    }

    /// An account as it is after the tip.
    fn account(&mut self, chain: &Chain, address: &Address) -> Result<Account, StoreError> {
        if let Some(account) = self.accounts.0.get(address) {
            return Ok(account.clone());
        }
        let account = schema::account(chain.store().snapshot()?.as_ref(), address)?;
        self.accounts.0.insert(*address, account.clone());
        Ok(account)
    }

    /// The accounts that a block on the tip touches, and perhaps others.
    fn accounts(
        &mut self,
        chain: &Chain,
        block: &Block,
        matured: Option<&Reward>,
    ) -> Result<&Accounts, StoreError> {
        if self.accounts.0.len() > BASIS_ACCOUNTS_MAX {
            self.accounts = Accounts::default();
        }
        let mut snapshot = None;
        for address in touched_addresses(block, matured) {
            if self.accounts.0.contains_key(&address) {
                continue;
            }
            let from = match &snapshot {
                Some(snapshot) => snapshot,
                None => snapshot.insert(chain.store().snapshot()?),
            };
            let account = schema::account(from.as_ref(), &address)?;
            self.accounts.0.insert(address, account);
        }
        Ok(&self.accounts)
    }
}

/// Drops from a selection what the accounts after the tip may be unable to take.
///
/// # Errors
/// [`StoreError`] if storage fails.
pub(crate) fn keep_creditable(
    chain: &Chain,
    basis: &mut TemplateBasis,
    mut selection: Selection,
) -> Result<Selection, StoreError> {
    basis.facts(chain)?;
    let supply = chain.tip().outcome.supply;
    let mut account = |address: &Address| basis.account(chain, address);
    drop_uncreditable(&mut selection, &mut account, chain.params(), supply)?;
    Ok(selection)
}

/// Assembles a template of the selected transactions on the tip, and validates it; `now` is Unix
/// seconds.
///
/// # Errors
/// [`TemplateError::Invalid`] names the rule that the template breaks; [`TemplateError::Store`] if
/// storage fails.
pub fn assemble_template(
    chain: &Chain,
    basis: &mut TemplateBasis,
    selection: &Selection,
    id: u64,
    now: u64,
) -> Result<BlockTemplate, TemplateError> {
    let parent = chain.tip();
    let facts = basis.facts(chain)?;
    let leaves: Vec<Hash256> = selection
        .transactions
        .iter()
        .map(|pending| pending.checked().leaf_hash())
        .collect();
    let transactions = selection
        .transactions
        .iter()
        .map(|pending| pending.transaction().clone())
        .collect();
    // Never before the parent, whatever this machine's clock says.
    let clock = u32::try_from(now).unwrap_or(u32::MAX);
    let template = BlockTemplate {
        id,
        height: parent.height.next(),
        parent: parent.hash(),
        time_min: parent.header.time,
        time: clock.max(parent.header.time),
        bits: facts.bits,
        target: facts.bits.to_target().unwrap_or(chain.params().pow_limit),
        state_root: parent.outcome.state_root,
        transactions_root: merkle::root(&leaves),
        transactions: Arc::new(transactions),
        subsidy: subsidy(parent.header.time),
        fees: selection.fees,
    };
    validate(chain, basis, &template, selection, &leaves)?;
    Ok(template)
}

/// What the rules leave to the transactions of a block.
pub(crate) fn block_room(params: &ConsensusParams) -> BlockRoom {
    let size = |limit| usize::try_from(limit).unwrap_or(usize::MAX);
    BlockRoom {
        bytes: size(params.max_block_bytes).saturating_sub(EMPTY_BLOCK_BYTES),
        account_changes: size(params.max_account_changes),
    }
}

/// Checks the block as if a miner had found it, except for its proof of work.
fn validate(
    chain: &Chain,
    basis: &mut TemplateBasis,
    template: &BlockTemplate,
    selection: &Selection,
    leaves: &[Hash256],
) -> Result<(), TemplateError> {
    let commitment = template.commitment(Address([0; 32]), [0; 8]);
    let header = template.header(&commitment);
    let matured_reward = basis.facts(chain)?.matured;
    let transactions: Vec<_> = selection
        .transactions
        .iter()
        .map(|pending| pending.checked())
        .collect();
    let checked = check_assembled(chain.params(), header, commitment, &transactions)?;
    let accounts = basis.accounts(chain, checked.block(), matured_reward.as_ref())?;
    let context = ConnectContext {
        params: chain.params(),
        parent_time: chain.tip().header.time,
        state_root: template.state_root,
        matured_reward,
    };
    // Each of them is pending, hence verified in these very bytes.
    let verified: HashSet<Hash256> = leaves.iter().copied().collect();
    let verdict = connect_block(&context, &checked, accounts, &verified);
    #[cfg(debug_assertions)]
    {
        let snapshot = chain.store().snapshot()?;
        crate::chain::oracle::confirm_template(chain, snapshot.as_ref(), &checked, &verdict);
    }
    verdict?;
    Ok(())
}
