//! `--verify`: replays the whole best chain from the genesis in memory, and compares every block's
//! outcome and the resulting accounts with the store. Start reading at [`verify`].

use std::path::Path;
use std::sync::Arc;

use pithead_consensus::check::check_block;
use pithead_consensus::{BlockHash, Genesis, Height};
use thiserror::Error;

use super::{AcceptContext, AcceptError, Accepted, Chain};
use crate::finality::FinalityView;
use crate::store::schema;
use crate::store::{MemoryStore, Snapshot, Store, StoreError, Table};

/// How many accounts are read and compared at a time.
const ACCOUNTS_PER_READ: usize = 10_000;

/// The size of a replay that found no difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyReport {
    /// Number of blocks replayed, without the genesis.
    pub blocks: u64,
    /// Number of transactions replayed.
    pub transactions: u64,
    /// Number of accounts compared.
    pub accounts: u64,
    /// Hash of the last block replayed.
    pub tip: BlockHash,
}

/// The first fault that a replay found.
#[derive(Debug, Error)]
pub enum VerifyError {
    /// A stored block does not pass the rules.
    #[error("block {hash} at height {height} does not pass: {error}")]
    BadBlock {
        height: Height,
        hash: BlockHash,
        /// Why the block is not accepted.
        error: Box<AcceptError>,
    },
    /// A stored outcome differs from the replayed one.
    #[error("block {hash} at height {height}: stored {what} differs from the replayed one")]
    Differs {
        height: Height,
        hash: BlockHash,
        /// The part of the outcome that differs.
        what: &'static str,
    },
    /// The accounts differ although the roots agree.
    #[error("the stored accounts differ from the replayed ones at {address}")]
    AccountsDiffer {
        /// The first address that differs, as hex.
        address: String,
    },
    /// Storage failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Replays the best chain in `store`. After each block, `progress` receives its height and the
/// height of the tip.
///
/// # Errors
/// [`VerifyError`] names the first block or account that is wrong.
pub fn verify(
    store: &dyn Store,
    genesis: &Genesis,
    mut progress: impl FnMut(Height, Height),
) -> Result<VerifyReport, VerifyError> {
    let stored = store.snapshot()?;
    let tip = schema::tip_entry(stored.as_ref())?;
    let memory: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let mut replay = Chain::open(Arc::clone(&memory), genesis.clone(), Path::new("(memory)"))?;
    let mut transactions = 0;
    let mut height = Height::GENESIS;
    while height < tip.height {
        height = height.next();
        let hash = schema::best_hash(stored.as_ref(), height)?
            .ok_or_else(|| StoreError::Damaged(format!("no block at height {height}")))?;
        replay_block(&mut replay, stored.as_ref(), height, hash)?;
        transactions += u64::from(replay.tip().transaction_count);
        progress(height, tip.height);
    }
    let accounts = compare_accounts(stored.as_ref(), memory.snapshot()?.as_ref())?;
    Ok(VerifyReport {
        blocks: tip.height.0,
        transactions,
        accounts,
        tip: tip.hash(),
    })
}

fn replay_block(
    replay: &mut Chain,
    stored: &dyn Snapshot,
    height: Height,
    hash: BlockHash,
) -> Result<(), VerifyError> {
    let bad = |error| VerifyError::BadBlock {
        height,
        hash,
        error: Box::new(error),
    };
    let entry = schema::expect_entry(stored, &hash)?;
    let block = schema::expect_block(stored, &hash)?;
    check_block(replay.params(), block.clone())
        .map_err(|error| bad(AcceptError::Invalid(error)))?;
    // The clock was at least at the block's time when the block was accepted.
    let now = u64::from(block.header.time);
    // The replay sees one chain only, so finality has nothing to choose.
    let finality = FinalityView::of_genesis(replay.params());
    let context = AcceptContext {
        now,
        finality: &finality,
    };
    match replay.accept_block(block, context, &mut |_| {}) {
        Ok(Accepted::NewTip(_)) => {}
        Ok(Accepted::Side) => {
            return Err(VerifyError::Differs {
                height,
                hash,
                what: "place on the best chain",
            });
        }
        Err(error) => return Err(bad(error)),
    }
    let replayed = replay.tip();
    let differs = |what| VerifyError::Differs { height, hash, what };
    if replayed.hash() != hash {
        return Err(differs("hash"));
    }
    if replayed.outcome.state_root != entry.outcome.state_root {
        return Err(differs("state root"));
    }
    if replayed.outcome != entry.outcome {
        return Err(differs("supply, fees or subsidy"));
    }
    if replayed.chain_work != entry.chain_work {
        return Err(differs("chain work"));
    }
    Ok(())
}

fn compare_accounts(stored: &dyn Snapshot, replayed: &dyn Snapshot) -> Result<u64, VerifyError> {
    let end = [0xff; 33];
    let mut from = Vec::new();
    let mut count = 0;
    loop {
        let a = stored.range(Table::Accounts, &from, &end, ACCOUNTS_PER_READ, false)?;
        let b = replayed.range(Table::Accounts, &from, &end, ACCOUNTS_PER_READ, false)?;
        if a != b {
            let different = a.iter().zip(&b).find(|(a, b)| a != b).map(|(a, _)| a);
            let longer = a.get(b.len()).or_else(|| b.get(a.len()));
            let address = different.or(longer).map(|(key, _)| hex::encode(key));
            return Err(VerifyError::AccountsDiffer {
                address: address.unwrap_or_default(),
            });
        }
        count += a.len() as u64;
        match a.last() {
            Some((key, _)) => from = [key.as_slice(), &[0]].concat(),
            None => return Ok(count),
        }
    }
}
