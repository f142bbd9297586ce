//! One snapshot of the chain, and how its parts are shown.
//!
//! Handlers ask a [`ChainReader`] and never the store itself, so that all of one answer comes from
//! one moment. Start at [`Api::query`].

use pithead_api::convert::{self, BlockSummary};
use pithead_api::v1;
use pithead_consensus::{BlockHash, Checkpoint, Height, SignedTransaction, Txid};
use pithead_core::store::schema::{self, ChainEntry, Place};
use pithead_core::store::{Snapshot, StoreError};
use tonic::{Response, Status};

use crate::api::{Api, internal};
use crate::block_finality::BlockFinality;
use crate::status;

/// A snapshot of the chain, with the finality of the same moment.
pub(crate) struct ChainReader<'a> {
    api: &'a Api,
    snapshot: Box<dyn Snapshot>,
    tip: ChainEntry,
    finality: BlockFinality,
}

impl Api {
    /// Runs a query on a thread where it may read much, off the threads that serve connections.
    pub(crate) async fn query<T: Send + 'static>(
        &self,
        query: impl FnOnce(&ChainReader<'_>) -> Result<T, Status> + Send + 'static,
    ) -> Result<Response<T>, Status> {
        let api = self.clone();
        tokio::task::spawn_blocking(move || query(&ChainReader::new(&api)?))
            .await
            .map_err(|error| {
                tracing::error!(%error, "a query ended early");
                status::internal("the query ended early; the node's log says more")
            })?
            .map(Response::new)
    }
}

impl<'a> ChainReader<'a> {
    pub(crate) fn new(api: &'a Api) -> Result<Self, Status> {
        // Finality first: its certificates are on disk by then, so a snapshot that is taken later
        // has the blocks that they rest on.
        let state = api.finality();
        let snapshot = api.engine.store().snapshot().map_err(internal)?;
        let tip = schema::tip_entry(snapshot.as_ref()).map_err(internal)?;
        let finality = BlockFinality::new(&state, tip.height, |checkpoint| {
            schema::is_best(snapshot.as_ref(), &checkpoint.hash, checkpoint.height)
                .map_err(internal)
        })?;
        drop(state);
        Ok(Self {
            api,
            snapshot,
            tip,
            finality,
        })
    }

    pub(crate) fn api(&self) -> &'a Api {
        self.api
    }

    pub(crate) fn snapshot(&self) -> &dyn Snapshot {
        self.snapshot.as_ref()
    }

    pub(crate) fn tip(&self) -> &ChainEntry {
        &self.tip
    }

    pub(crate) fn finality(&self) -> &BlockFinality {
        &self.finality
    }

    /// The finality of a block; `best` says whether the block is on the best chain.
    pub(crate) fn finality_of(&self, height: Height, best: bool) -> v1::Finality {
        if best {
            self.finality.of_height(height)
        } else {
            v1::Finality::Unspecified
        }
    }

    /// The highest approved checkpoint.
    pub(crate) fn approved(&self) -> Result<ChainEntry, Status> {
        self.checkpoint(&self.finality.status.approved)
    }

    /// The last final checkpoint.
    pub(crate) fn last_final(&self) -> Result<ChainEntry, Status> {
        self.checkpoint(&self.finality.status.last_final)
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

    /// The entry of a block on any branch, valid or not.
    pub(crate) fn entry(&self, hash: &BlockHash) -> Result<Option<ChainEntry>, Status> {
        schema::entry(self.snapshot(), hash).map_err(internal)
    }

    /// The entry of the best chain's block at a height; an error if the chain ends below.
    pub(crate) fn entry_at(&self, height: Height) -> Result<ChainEntry, Status> {
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

    /// Whether a block is on the best chain.
    pub(crate) fn is_best(&self, hash: &BlockHash, height: Height) -> Result<bool, Status> {
        schema::is_best(self.snapshot(), hash, height).map_err(internal)
    }

    /// A block's header, as an answer shows it.
    pub(crate) fn header(&self, entry: &ChainEntry) -> v1::BlockHeader {
        convert::header(&entry.header, entry.height, entry.chain_work)
    }

    /// A block without its transactions, as an answer shows it.
    pub(crate) fn block(&self, entry: &ChainEntry) -> Result<v1::Block, Status> {
        let best = self.is_best(&entry.hash(), entry.height)?;
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

    fn confirmations(&self, height: Height) -> u64 {
        (self.tip.height.0 + 1).saturating_sub(height.0)
    }

    /// Where the best chain has a transaction; `None` if it has not.
    pub(crate) fn place(&self, txid: &Txid) -> Result<Option<Place>, Status> {
        schema::place(self.snapshot(), txid).map_err(internal)
    }

    /// The status of a mined transaction, as an answer shows it; `entry` is of its block.
    pub(crate) fn mined_status(&self, place: Place, entry: &ChainEntry) -> v1::TransactionStatus {
        v1::TransactionStatus {
            state: self.finality.of_mined(place.height).into(),
            block_hash: entry.hash().to_string(),
            block_height: place.height.0,
            position: place.position,
            confirmations: self.confirmations(place.height),
            block_time: Some(convert::timestamp(u64::from(entry.header.time))),
            received_time: None,
            detail: String::new(),
        }
    }
}

/// Reads mined transactions one after the other. Transactions of the same block cost one read if
/// they follow one another.
pub(crate) struct MinedTransactions<'a> {
    reader: &'a ChainReader<'a>,
    /// The block that was read last.
    block: Option<(ChainEntry, Vec<SignedTransaction>)>,
    /// Bytes of the blocks read so far.
    pub(crate) bytes_read: usize,
}

impl<'a> MinedTransactions<'a> {
    pub(crate) fn new(reader: &'a ChainReader<'a>) -> Self {
        Self {
            reader,
            block: None,
            bytes_read: 0,
        }
    }

    /// The transaction at a place of the best chain, with the entry of its block.
    pub(crate) fn at(&mut self, place: Place) -> Result<(&SignedTransaction, &ChainEntry), Status> {
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
