//! Answers to the requests of peers. An answer depends only on a snapshot, the mempool, the
//! approvals and the blocks that are being committed, so the network shell calls [`serve()`]
//! without the core. It knows nothing of sync's state.
//!
//! Every loop here ends with the bytes of its answer: what has no room in it is not read.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use pithead_consensus::check::CheckedBlock;
use pithead_consensus::{Block, BlockHash, BlockHeader, Decode, Encode as _, Height};

use super::message::{
    APPROVALS_MAX, CONTENT_BYTES_MAX, HEADERS_MAX, IDS_MAX, LOCATOR_MAX, MEMPOOL_IDS_MAX, Request,
    Response, Status,
};
use crate::finality::{FinalityState, certificates_above};
use crate::mempool::Mempool;
use crate::store::schema::{self, BlockStatus};
use crate::store::{Snapshot, StoreError};

/// Most blocks that are kept at hand.
const RECENT_BLOCKS_MAX: usize = 8;
/// Bytes of the length in front of each block or transaction in an answer.
const LENGTH_BYTES: usize = 4;

/// The last validated blocks. Peers ask for a block as soon as it is announced, which may be
/// before its commit has ended.
#[derive(Debug, Clone, Default)]
pub struct RecentBlocks(VecDeque<Arc<Recent>>);

#[derive(Debug)]
struct Recent {
    block: Arc<CheckedBlock>,
    /// The encoded answer with this block alone. It is made when the first peer asks, and its
    /// bytes are shared with all others.
    answer: OnceLock<Arc<[u8]>>,
}

impl RecentBlocks {
    /// Keeps the block of a `PeerEffect::BlockValidated`.
    pub fn push(&mut self, block: Arc<CheckedBlock>) {
        if self.0.len() >= RECENT_BLOCKS_MAX {
            self.0.pop_front();
        }
        let answer = OnceLock::new();
        self.0.push_back(Arc::new(Recent { block, answer }));
    }

    /// Whether the request is for a single block, and that block is at hand.
    #[must_use]
    pub fn holds(&self, hashes: &[BlockHash]) -> bool {
        matches!(hashes, [hash] if self.get(hash).is_some())
    }

    /// The encoded answer to a request for one block, if that block is at hand.
    #[must_use]
    pub fn answer(&self, request: &Request) -> Option<Arc<[u8]>> {
        let Request::Blocks(hashes) = request else {
            return None;
        };
        let [hash] = hashes[..] else {
            return None;
        };
        let recent = self.find(|block| block.hash() == hash)?;
        let encode = || {
            let block = recent.block.block().clone();
            Arc::from(Response::Blocks(vec![block]).encode())
        };
        Some(Arc::clone(recent.answer.get_or_init(encode)))
    }

    fn find(&self, is_it: impl Fn(&CheckedBlock) -> bool) -> Option<&Recent> {
        let mut newest_first = self.0.iter().rev();
        newest_first
            .find(|recent| is_it(&recent.block))
            .map(|recent| &**recent)
    }

    fn get(&self, hash: &BlockHash) -> Option<&CheckedBlock> {
        let recent = self.find(|block| block.hash() == *hash)?;
        Some(&recent.block)
    }

    fn child_of(&self, parent: &BlockHash) -> Option<&CheckedBlock> {
        let recent = self.find(|block| block.block().header.prev == *parent)?;
        Some(&recent.block)
    }
}

/// The answer to a peer's request. Mempool and finality are locked for a moment only, never while the
/// store is read.
///
/// # Errors
/// [`StoreError`] if storage fails. The peer gets no answer then.
pub fn serve(
    snapshot: &dyn Snapshot,
    mempool: &RwLock<Mempool>,
    finality: &RwLock<FinalityState>,
    recent: &RecentBlocks,
    request: &Request,
) -> Result<Response, StoreError> {
    // Writers leave nothing half changed between calls, so a poisoned lock does no harm.
    let read_mempool = || mempool.read().unwrap_or_else(PoisonError::into_inner);
    let read_finality = || finality.read().unwrap_or_else(PoisonError::into_inner);
    Ok(match request {
        Request::Status(_) => {
            let tip = schema::tip_entry(snapshot)?;
            Response::Status(Status {
                best_hash: tip.hash(),
                height: tip.height,
                chain_work: tip.chain_work,
                approved: read_finality().status().approved,
            })
        }
        Request::Headers { locator, stop } => {
            Response::Headers(headers(snapshot, recent, locator, stop.as_ref())?)
        }
        Request::Blocks(hashes) => Response::Blocks(blocks(snapshot, recent, hashes)?),
        Request::Transactions(txids) => {
            let mut left = CONTENT_BYTES_MAX;
            let asked = txids.iter().take(IDS_MAX);
            let found: Vec<_> = {
                let mempool = read_mempool();
                asked
                    .filter_map(|txid| mempool.get(txid))
                    .take_while(|pending| take(&mut left, pending.size()))
                    .cloned()
                    .collect()
            };
            let transactions = found.iter().map(|pending| pending.transaction().clone());
            Response::Transactions(transactions.collect())
        }
        Request::Mempool => {
            let mempool = read_mempool();
            Response::Mempool(mempool.txids_by_rate().take(MEMPOOL_IDS_MAX).collect())
        }
        Request::Approvals(above) => {
            Response::Approvals(read_finality().approvals_above(*above, APPROVALS_MAX))
        }
        Request::Certificates(above) => {
            let found = certificates_above(snapshot, *above, IDS_MAX, CONTENT_BYTES_MAX);
            Response::Certificates(found?)
        }
    })
}

/// Takes an item's bytes off the room that is left in an answer; `false` if it has too few.
fn take(left: &mut usize, bytes: usize) -> bool {
    match left.checked_sub(bytes.saturating_add(LENGTH_BYTES)) {
        Some(rest) => {
            *left = rest;
            true
        }
        None => false,
    }
}

fn headers(
    snapshot: &dyn Snapshot,
    recent: &RecentBlocks,
    locator: &[BlockHash],
    stop: Option<&BlockHash>,
) -> Result<Vec<BlockHeader>, StoreError> {
    let mut found = Vec::new();
    let Some((mut height, mut last)) = first_on_best_chain(snapshot, locator)? else {
        return Ok(found);
    };
    while found.len() < HEADERS_MAX && stop != Some(&last) {
        height = height.next();
        let next = match schema::best_hash(snapshot, height)? {
            Some(hash) => (hash, schema::expect_entry(snapshot, &hash)?.header),
            // The commit of the tip's child may not have ended.
            None => match recent.child_of(&last) {
                Some(block) => (block.hash(), block.block().header),
                None => break,
            },
        };
        last = next.0;
        found.push(next.1);
    }
    Ok(found)
}

fn first_on_best_chain(
    snapshot: &dyn Snapshot,
    locator: &[BlockHash],
) -> Result<Option<(Height, BlockHash)>, StoreError> {
    for hash in locator.iter().take(LOCATOR_MAX) {
        if let Some(entry) = schema::entry(snapshot, hash)?
            && schema::is_best(snapshot, hash, entry.height)?
        {
            return Ok(Some((entry.height, *hash)));
        }
    }
    Ok(None)
}

fn blocks(
    snapshot: &dyn Snapshot,
    recent: &RecentBlocks,
    hashes: &[BlockHash],
) -> Result<Vec<Block>, StoreError> {
    let mut found: Vec<Block> = Vec::new();
    let mut left = CONTENT_BYTES_MAX;
    #[cfg(feature = "fault-injection")]
    {
        left = crate::fault_injection::content_bytes(left);
    }
    for hash in hashes.iter().take(IDS_MAX) {
        if let Some(block) = recent.get(hash) {
            // The first block goes out however large it is.
            if !take(&mut left, block.size()) && !found.is_empty() {
                break;
            }
            found.push(block.block().clone());
            continue;
        }
        let size = match schema::entry(snapshot, hash)? {
            Some(entry) if entry.status != BlockStatus::Invalid => entry.size as usize,
            _ => continue,
        };
        // A body for which there is no room is not even read.
        if size.saturating_add(LENGTH_BYTES) > left && !found.is_empty() {
            break;
        }
        let Some(raw) = snapshot.body(hash)? else {
            continue;
        };
        if !take(&mut left, raw.len()) && !found.is_empty() {
            break;
        }
        let block = Block::decode(&raw)
            .map_err(|error| StoreError::Damaged(format!("body of block {hash}: {error}")))?;
        found.push(block);
    }
    Ok(found)
}
