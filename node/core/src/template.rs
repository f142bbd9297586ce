//! Block templates: what miners work on.
//!
//! A template is a block that lacks only its reward address, extra nonce and nonce. It is validated
//! in full, by the code that connects blocks, before a miner receives it. Knows nothing of miners,
//! nor of when a template is due. Start reading at [`assemble_template`].

use std::sync::Arc;

use pithead_consensus::block::{BASE_VERSION, EMPTY_BLOCK_BYTES};
use pithead_consensus::check::{BlockError, CheckedTransaction, check_assembled};
use pithead_consensus::connect::{ConnectContext, connect_block};
use pithead_consensus::subsidy::subsidy;
use pithead_consensus::{
    Address, Amount, Block, BlockCommitment, BlockHash, BlockHeader, CompactTarget,
    ConsensusParams, Hash256, Height, SignedTransaction, Target, merkle,
};
use thiserror::Error;

use crate::chain::{Chain, load_accounts, next_bits};
use crate::credits::drop_uncreditable;
use crate::mempool::{BlockRoom, Mempool};
use crate::store::StoreError;
use crate::store::schema;

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

/// Assembles and validates a template on the tip; `now` is Unix seconds.
///
/// # Errors
/// [`TemplateError::Invalid`] names the transaction that must leave the
/// mempool; [`TemplateError::Store`] if storage fails.
pub fn assemble_template(
    chain: &Chain,
    mempool: &Mempool,
    id: u64,
    now: u64,
) -> Result<BlockTemplate, TemplateError> {
    let snapshot = chain.store().snapshot()?;
    let parent = chain.tip();
    let params = chain.params();
    let bits = next_bits(params, snapshot.as_ref(), parent)?;
    let mut failure = None;
    let mut selection = mempool.select(block_room(params), |address| {
        schema::account(snapshot.as_ref(), address).unwrap_or_else(|error| {
            failure.get_or_insert(error);
            pithead_consensus::Account::default()
        })
    });
    if let Some(error) = failure {
        return Err(error.into());
    }
    drop_uncreditable(
        &mut selection,
        snapshot.as_ref(),
        params,
        parent.outcome.supply,
    )?;
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
        bits,
        target: bits.to_target().unwrap_or(params.pow_limit),
        state_root: parent.outcome.state_root,
        transactions_root: merkle::root(&leaves),
        transactions: Arc::new(transactions),
        subsidy: subsidy(parent.header.time),
        fees: selection.fees,
    };
    let checked: Vec<_> = selection
        .transactions
        .iter()
        .map(|pending| pending.checked())
        .collect();
    validate(chain, &template, &checked)?;
    Ok(template)
}

/// What the rules leave to the transactions of a block.
fn block_room(params: &ConsensusParams) -> BlockRoom {
    let size = |limit| usize::try_from(limit).unwrap_or(usize::MAX);
    BlockRoom {
        bytes: size(params.max_block_bytes).saturating_sub(EMPTY_BLOCK_BYTES),
        account_changes: size(params.max_account_changes),
    }
}

/// Checks the block as if a miner had found it, except for its proof of work.
fn validate(
    chain: &Chain,
    template: &BlockTemplate,
    transactions: &[&CheckedTransaction],
) -> Result<(), TemplateError> {
    let snapshot = chain.store().snapshot()?;
    let commitment = template.commitment(Address([0; 32]), [0; 8]);
    let header = template.header(&commitment);
    let matured = chain.matured_reward(snapshot.as_ref(), template.height)?;
    let checked = check_assembled(chain.params(), header, commitment, transactions)?;
    let accounts = load_accounts(snapshot.as_ref(), checked.block(), matured.as_ref())?;
    let context = ConnectContext {
        params: chain.params(),
        parent_time: chain.tip().header.time,
        state_root: template.state_root,
        matured_reward: matured,
    };
    let verdict = connect_block(&context, &checked, &accounts, chain.verified());
    #[cfg(debug_assertions)]
    crate::chain::oracle::confirm_template(chain, snapshot.as_ref(), &checked, &verdict);
    verdict?;
    Ok(())
}
