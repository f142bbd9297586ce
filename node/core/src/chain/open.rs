//! Opening a store: a new one gets the genesis, and one that belongs to another chain is refused.
//! Start reading at [`Chain::open`].

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;

use pithead_consensus::{Account, Address, BlockHash, Encode, Genesis, Height, Work};

use super::connect::write_tree;
use super::undo::find_pruned;
use super::way::{ReorganisationLimits, Waiting};
use super::{Ancestry, Chain};
use crate::store::schema::{self, BlockOutcome, BlockStatus, ChainEntry};
use crate::store::{Batch, Overlay, Snapshot, Store, StoreError, Table};

impl Chain {
    /// Opens the chain in `store`; errors name `dir` as its place.
    ///
    /// # Errors
    /// [`StoreError`] if storage fails, or the store was written for another
    /// genesis or by an incompatible version.
    pub fn open(store: Arc<dyn Store>, genesis: Genesis, dir: &Path) -> Result<Self, StoreError> {
        let snapshot = store.snapshot()?;
        let expected = genesis.params.genesis_hash;
        match snapshot.get(Table::Meta, schema::META_SCHEMA)? {
            None => {
                let mut overlay = Overlay::new(snapshot.as_ref());
                write_genesis(&mut overlay, &genesis)?;
                let mut batch = overlay.into_batch();
                schema::put_identity(&mut batch, &expected);
                store.commit(&batch)?;
            }
            Some(_) => check_identity(snapshot.as_ref(), &expected, dir)?,
        }
        let snapshot = store.snapshot()?;
        let tip = schema::tip_entry(snapshot.as_ref())?;
        if genesis.validators.is_empty() {
            record_pruned(store.as_ref(), snapshot.as_ref(), tip.height)?;
        }
        let leaves = VecDeque::from(schema::leaves(snapshot.as_ref())?);
        let waiting = if leaves.is_empty() {
            Waiting::Nothing
        } else {
            // The process may have ended before it had switched to the best one.
            Waiting::MayBeBetter
        };
        let mut chain = Self {
            genesis,
            store,
            tip,
            pending: None,
            defers_commits: false,
            has_deferred: false,
            ancestry: Ancestry::default(),
            leaves,
            reconsider_is_due: false,
            long_switch: None,
            waiting,
            limits: ReorganisationLimits::default(),
        };
        chain.resume_long_switch(snapshot.as_ref())?;
        Ok(chain)
    }
}

/// Refuses data of another schema version or another chain; errors name `dir` as its place.
///
/// # Errors
/// [`StoreError::WrongSchema`] or [`StoreError::WrongGenesis`]; other errors if storage fails or is
/// damaged, or holds no chain yet.
pub fn check_identity(
    from: &dyn Snapshot,
    expected: &BlockHash,
    dir: &Path,
) -> Result<(), StoreError> {
    let schema = from
        .get(Table::Meta, schema::META_SCHEMA)?
        .ok_or_else(|| StoreError::NoData {
            path: dir.to_owned(),
        })?;
    let found = schema.as_slice().try_into().map_or(0, u32::from_le_bytes);
    if found != schema::SCHEMA_VERSION {
        return Err(StoreError::WrongSchema {
            path: dir.to_owned(),
            found,
            expected: schema::SCHEMA_VERSION,
        });
    }
    let found = from
        .get(Table::Meta, schema::META_GENESIS)?
        .and_then(|bytes| bytes.as_slice().try_into().ok())
        .map(BlockHash)
        .ok_or_else(|| StoreError::Damaged("genesis hash".to_owned()))?;
    if found != *expected {
        return Err(StoreError::WrongGenesis {
            path: dir.to_owned(),
            found,
            expected: *expected,
        });
    }
    Ok(())
}

/// Puts on record up to which height undo records were dropped, if the store lacks that.
fn record_pruned(
    store: &dyn Store,
    snapshot: &dyn Snapshot,
    tip: Height,
) -> Result<(), StoreError> {
    if snapshot.get(Table::Meta, schema::META_PRUNED)?.is_some() {
        return Ok(());
    }
    let pruned = find_pruned(snapshot, tip)?;
    if pruned == Height::GENESIS {
        return Ok(());
    }
    let mut batch = Batch::default();
    batch.put(Table::Meta, schema::META_PRUNED, pruned.0.to_le_bytes());
    store.commit(&batch)
}

/// Writes the genesis block and its allocations (protocol §4, §10).
pub(super) fn write_genesis(
    overlay: &mut Overlay<'_>,
    genesis: &Genesis,
) -> Result<ChainEntry, StoreError> {
    let accounts: BTreeMap<Address, Account> = genesis
        .allocations
        .iter()
        .map(|(address, amount)| {
            let account = Account {
                balance: *amount,
                ..Account::default()
            };
            (*address, account)
        })
        .collect();
    for (address, account) in &accounts {
        schema::put_account(overlay, address, account);
    }
    // Version 0 is written even without allocations: version 1 of the tree builds on it.
    let state_root = write_tree(overlay, 0, &accounts)?;
    let allocated = genesis.allocations.values();
    let supply = allocated.map(|each| u128::from(each.grains())).sum();
    let entry = ChainEntry {
        header: genesis.block.header,
        commitment: genesis.block.commitment,
        height: Height::GENESIS,
        chain_work: Work::ZERO,
        arrival: 0,
        status: BlockStatus::Connected,
        transaction_count: 0,
        size: u32::try_from(genesis.block.size()).unwrap_or(u32::MAX),
        outcome: BlockOutcome {
            supply,
            state_root,
            ..BlockOutcome::default()
        },
    };
    let hash = entry.hash();
    overlay.put(Table::Entries, hash.0, entry.encode());
    overlay.put(Table::BestChain, Height::GENESIS.0.to_be_bytes(), hash.0);
    overlay.put(Table::Meta, schema::META_TIP, hash.0);
    overlay.put_body(hash, genesis.block.encode());
    Ok(entry)
}
