//! Answers about the chain, from one snapshot.

use pithead_api::convert::{self, BlockSummary};
use pithead_api::v1;
use pithead_consensus::subsidy::subsidy;
use pithead_consensus::{Address, BlockHash, Checkpoint, Height, SignedTransaction, Txid, Work};
use tonic::Status;

use super::Api;
use super::finality::Secured;
use super::status;
use pithead_core::chain::next_bits;
use pithead_core::finality::FinalityStatus;
use pithead_core::mempool::{Fate, Pending};
use pithead_core::store::schema::{self, ChainEntry, Place};
use pithead_core::store::{Snapshot, StoreError};

/// Blocks over which rates are estimated.
const RATE_WINDOW_BLOCKS: u64 = 120;

/// One snapshot and what is needed to show it.
pub(super) struct Reader<'a> {
    api: &'a Api,
    snapshot: Box<dyn Snapshot>,
    tip: ChainEntry,
    secured: Secured,
}

/// Reads mined transactions one after the other; those of one block in a row
/// cost one read.
pub(super) struct History<'a> {
    reader: &'a Reader<'a>,
    block: Option<(ChainEntry, Vec<SignedTransaction>)>,
    /// Bytes of the blocks read so far.
    pub(super) bytes_read: usize,
}

impl<'a> History<'a> {
    pub(super) fn new(reader: &'a Reader<'a>) -> Self {
        Self {
            reader,
            block: None,
            bytes_read: 0,
        }
    }

    /// The transaction at a place of the best chain, with its block's entry.
    pub(super) fn transaction(
        &mut self,
        place: Place,
    ) -> Result<(&SignedTransaction, &ChainEntry), Status> {
        let block = match self.block.take() {
            Some((entry, transactions)) if entry.height == place.height => (entry, transactions),
            _ => {
                let entry = self.reader.entry_at(place.height)?;
                let block = schema::expect_block(self.reader.snapshot(), &entry.hash());
                self.bytes_read += entry.size as usize;
                (entry, block.map_err(internal)?.transactions)
            }
        };
        let (entry, transactions) = self.block.insert(block);
        let transaction = transactions
            .get(place.position as usize)
            .ok_or_else(|| internal(StoreError::Damaged("place of a transaction".to_owned())))?;
        Ok((transaction, entry))
    }
}

/// Storage failed: nothing that the caller could do about it.
pub(super) fn internal(error: StoreError) -> Status {
    tracing::error!(%error, "a query failed");
    status::internal("the node could not read its data; its log says more")
}

impl<'a> Reader<'a> {
    pub(super) fn new(api: &'a Api) -> Result<Self, Status> {
        // Finality first: what it knows is on disk, so the snapshot has it too.
        let state = api.finality();
        let snapshot = api.engine.store().snapshot().map_err(internal)?;
        let tip = schema::tip_entry(snapshot.as_ref()).map_err(internal)?;
        let secured = Secured::new(&state, tip.height, |checkpoint| {
            schema::is_best(snapshot.as_ref(), &checkpoint.hash, checkpoint.height)
                .map_err(internal)
        })?;
        drop(state);
        Ok(Self {
            api,
            snapshot,
            tip,
            secured,
        })
    }

    /// How far the chain is secured.
    pub(super) fn secured(&self) -> &Secured {
        &self.secured
    }

    /// How far a block is secured; `best`: whether it is on the best chain.
    pub(super) fn finality_of(&self, height: Height, best: bool) -> v1::Finality {
        if best {
            self.secured.of_height(height)
        } else {
            v1::Finality::Unspecified
        }
    }

    /// The highest approved checkpoint.
    pub(super) fn approved(&self) -> Result<ChainEntry, Status> {
        self.checkpoint(&self.secured.status.approved)
    }

    /// The last final block.
    pub(super) fn last_final(&self) -> Result<ChainEntry, Status> {
        self.checkpoint(&self.secured.status.last_final)
    }

    fn checkpoint(&self, checkpoint: &Checkpoint) -> Result<ChainEntry, Status> {
        self.entry(&checkpoint.hash)?.ok_or_else(|| {
            status::not_found(
                "BLOCK_NOT_FOUND",
                format!(
                    "checkpoint {} at height {} is not here yet: the node is catching up",
                    checkpoint.hash, checkpoint.height
                ),
            )
        })
    }

    pub(super) fn snapshot(&self) -> &dyn Snapshot {
        self.snapshot.as_ref()
    }

    pub(super) fn tip(&self) -> &ChainEntry {
        &self.tip
    }

    pub(super) fn entry(&self, hash: &BlockHash) -> Result<Option<ChainEntry>, Status> {
        schema::entry(self.snapshot(), hash).map_err(internal)
    }

    /// The entry at a height of the best chain, which must be there.
    pub(super) fn entry_at(&self, height: Height) -> Result<ChainEntry, Status> {
        let hash = schema::best_hash(self.snapshot(), height)
            .map_err(internal)?
            .ok_or_else(|| {
                status::not_found(
                    "BLOCK_NOT_FOUND",
                    format!(
                        "no block at height {height}: the chain ends at {}",
                        self.tip.height
                    ),
                )
            })?;
        schema::expect_entry(self.snapshot(), &hash).map_err(internal)
    }

    pub(super) fn header(&self, entry: &ChainEntry) -> v1::BlockHeader {
        convert::header(&entry.header, entry.height, entry.chain_work)
    }

    /// A block without its transactions.
    pub(super) fn block(&self, entry: &ChainEntry) -> Result<v1::Block, Status> {
        let best =
            schema::is_best(self.snapshot(), &entry.hash(), entry.height).map_err(internal)?;
        let maturity = u64::from(self.api.engine.genesis().params.reward_maturity);
        let matured = entry.height.checked_sub(maturity);
        let summary = BlockSummary {
            transaction_count: entry.transaction_count,
            subsidy: entry.outcome.subsidy,
            fees: entry.outcome.fees,
            size: entry.size,
            best_chain: best,
            confirmations: if best {
                self.confirmations(entry.height)
            } else {
                0
            },
            matured_reward_height: matured
                .filter(|height| *height > Height::GENESIS)
                .map(|height| height.0),
        };
        let header = self.header(entry);
        let mut block = self.api.chain.block(header, &entry.commitment, &summary);
        block.finality = self.finality_of(entry.height, best).into();
        Ok(block)
    }

    pub(super) fn confirmations(&self, height: Height) -> u64 {
        (self.tip.height.0 + 1).saturating_sub(height.0)
    }

    /// The transaction at a place of the best chain, with its block's entry.
    pub(super) fn mined(&self, place: Place) -> Result<(SignedTransaction, ChainEntry), Status> {
        let entry = self.entry_at(place.height)?;
        let block = schema::expect_block(self.snapshot(), &entry.hash()).map_err(internal)?;
        let transaction = block
            .transactions
            .into_iter()
            .nth(place.position as usize)
            .ok_or_else(|| internal(StoreError::Damaged("place of a transaction".to_owned())))?;
        Ok((transaction, entry))
    }

    pub(super) fn place(&self, txid: &Txid) -> Result<Option<Place>, Status> {
        schema::place(self.snapshot(), txid).map_err(internal)
    }

    pub(super) fn mined_status(&self, place: Place, entry: &ChainEntry) -> v1::TransactionStatus {
        v1::TransactionStatus {
            state: self.secured.of_mined(place.height).into(),
            block_hash: entry.hash().to_string(),
            block_height: place.height.0,
            position: place.position,
            confirmations: self.confirmations(place.height),
            block_time: Some(convert::timestamp(u64::from(entry.header.time))),
            received_time: None,
            detail: String::new(),
        }
    }

    pub(super) fn chain_info(&self) -> Result<v1::GetChainInfoResponse, Status> {
        let genesis = self.api.engine.genesis();
        let params = &genesis.params;
        let bits = next_bits(params, self.snapshot(), &self.tip).map_err(internal)?;
        let next_target = bits.to_target().unwrap_or(params.pow_limit);
        let (hash_rate, interval) = self.rates()?;
        let pending = self.api.mempool().len();
        let FinalityStatus {
            approved,
            last_final,
            conflict,
        } = self.secured.status;
        Ok(v1::GetChainInfoResponse {
            network: genesis.name.clone(),
            address_prefix: genesis.prefix.to_string(),
            genesis_hash: params.genesis_hash.to_string(),
            tip: Some(self.header(&self.tip)),
            next_bits: bits.0,
            next_difficulty: convert::work_f64(next_target),
            next_subsidy: subsidy(self.tip.header.time).grains(),
            supply: self.tip.outcome.supply.grains(),
            network_hash_rate: hash_rate,
            mean_block_interval_secs: interval,
            parameters: Some(v1::ConsensusParameters {
                block_interval_secs: params.block_interval_secs,
                half_life_secs: params.half_life_secs,
                max_future_secs: params.max_future_secs,
                max_block_bytes: params.max_block_bytes,
                reward_maturity: params.reward_maturity,
                checkpoint_interval: params.checkpoint_interval,
                approval_quorum: params.approval_quorum,
                validator_count: u32::try_from(genesis.validators.len()).unwrap_or(u32::MAX),
                pow_limit_bits: params.pow_limit.to_compact().0,
                max_transaction_bytes: MAX_TRANSACTION_BYTES,
                max_data_bytes: MAX_DATA_BYTES,
                max_outputs: MAX_OUTPUTS,
            }),
            approved_height: approved.height.0,
            final_height: last_final.height.0,
            pending_transaction_count: pending as u64,
            state_root: self.tip.outcome.state_root.to_string(),
            transaction_count: self.tip.outcome.transactions_total,
            approved_hash: approved.hash.to_string(),
            final_hash: last_final.hash.to_string(),
            approved_lag: self.tip.height.0.saturating_sub(approved.height.0),
            final_lag: self.tip.height.0.saturating_sub(last_final.height.0),
            finality_conflict: conflict,
        })
    }

    /// Hashes a second and mean seconds a block over the last blocks.
    fn rates(&self) -> Result<(f64, f64), Status> {
        // The genesis's time says nothing about when mining began.
        let top = self.tip.height.0;
        let blocks = RATE_WINDOW_BLOCKS.min(top.saturating_sub(1));
        if blocks == 0 {
            return Ok((0.0, 0.0));
        }
        let first = self.entry_at(Height(top - blocks))?;
        let seconds = f64::from(self.tip.header.time.saturating_sub(first.header.time));
        let work: Work = self.tip.chain_work.saturating_sub(first.chain_work);
        // Whole seconds: blocks found within one count as one second.
        Ok((work.to_f64() / seconds.max(1.0), seconds / blocks as f64))
    }

    pub(super) fn account(&self, address: &Address) -> Result<v1::GetAccountResponse, Status> {
        let account = schema::account(self.snapshot(), address).map_err(internal)?;
        let mempool = self.api.mempool();
        let spent: u64 = mempool
            .of_sender(address)
            .map(|pending| pending.total().grains())
            .sum();
        let incoming: u64 = mempool.incoming(address).grains();
        let next_sequence = mempool.next_sequence(address, account.sequence);
        drop(mempool);
        Ok(v1::GetAccountResponse {
            address: self.api.chain.address_text(address),
            balance: account.balance.grains(),
            sequence: account.sequence,
            pending_balance: (account.balance.grains() + incoming).saturating_sub(spent),
            next_sequence,
            immature_rewards: self.immature_rewards(address)?,
            public_key: account
                .key
                .map_or_else(Vec::new, |key| key.modulus().to_vec())
                .into(),
            height: self.tip.height.0,
            block_hash: self.tip.hash().to_string(),
        })
    }

    /// Rewards of the last blocks that are not paid out yet (protocol §5).
    fn immature_rewards(&self, address: &Address) -> Result<u64, Status> {
        let maturity = u64::from(self.api.engine.genesis().params.reward_maturity);
        if maturity == 0 {
            return Ok(0);
        }
        // Block h pays the reward of block h - maturity.
        let first = (self.tip.height.0 + 1).saturating_sub(maturity).max(1);
        let mut total = 0u64;
        for height in first..=self.tip.height.0 {
            let reward = self.entry_at(Height(height))?.reward();
            if reward.address == *address {
                total = total.saturating_add(reward.amount.grains());
            }
        }
        Ok(total)
    }
}

/// Where a transaction stands; `None` if the node never heard of it.
///
/// The mempool is asked before the snapshot is taken: a transaction leaves it
/// only once its block is committed, so one that is mined in between is seen.
pub(super) fn transaction_status(
    api: &Api,
    txid: &Txid,
) -> Result<Option<v1::TransactionStatus>, Status> {
    let waiting = {
        let mempool = api.mempool();
        match (mempool.get(txid), mempool.fate(txid)) {
            (Some(pending), _) => Some(pending_status(pending)),
            (None, Some(fate)) => {
                let (state, detail) = fate_parts(fate);
                Some(v1::TransactionStatus {
                    state: state.into(),
                    detail,
                    ..v1::TransactionStatus::default()
                })
            }
            (None, None) => None,
        }
    };
    let reader = Reader::new(api)?;
    match reader.place(txid)? {
        Some(place) => {
            let entry = reader.entry_at(place.height)?;
            Ok(Some(reader.mined_status(place, &entry)))
        }
        None => Ok(waiting),
    }
}

/// The status of a transaction in the mempool.
pub(super) fn pending_status(pending: &Pending) -> v1::TransactionStatus {
    v1::TransactionStatus {
        state: v1::TransactionState::Pending.into(),
        received_time: Some(convert::timestamp(pending.received)),
        ..v1::TransactionStatus::default()
    }
}

/// Limits of protocol §3, as the wire shows them.
const MAX_TRANSACTION_BYTES: u32 = pithead_consensus::transaction::MAX_TRANSACTION_BYTES as u32;
const MAX_DATA_BYTES: u32 = pithead_consensus::transaction::MAX_DATA_BYTES as u32;
const MAX_OUTPUTS: u32 = pithead_consensus::transaction::MAX_OUTPUTS as u32;

/// What became of a transaction that left the mempool.
pub(super) fn fate_parts(fate: &Fate) -> (v1::TransactionState, String) {
    match fate {
        Fate::Replaced { by } => (v1::TransactionState::Replaced, by.to_string()),
        Fate::Dropped { reason } => (v1::TransactionState::Dropped, (*reason).to_owned()),
    }
}
