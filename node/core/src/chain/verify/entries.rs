//! The checks of what a replay of the best chain does not reach: side branches, and the single
//! values. Start reading at [`check_entries`].

use pithead_consensus::check::{check_block, check_header_in_context};
use pithead_consensus::{BlockHash, Decode as _, Genesis, Height};

use super::VerifyError;
use super::replay::entry_after;
use super::rows::for_each_row;
use crate::chain::ancestors;
use crate::store::schema::{self, BlockOutcome, BlockStatus, ChainEntry};
use crate::store::{Snapshot, Table, staged};

/// Checks every entry: that it is under its hash, and, off the best chain, that it fits to its
/// parent and to its body. The highest rank of arrival is on record.
pub(super) fn check_entries(
    stored: &dyn Snapshot,
    genesis: &Genesis,
    tip: Height,
) -> Result<(), VerifyError> {
    // The highest rank of a block that is not invalid, and of any block.
    let (mut last_kept, mut last_arrival) = (0, 0);
    let mut best = 0;
    for_each_row(stored, Table::Entries, |key, value| {
        let wrong = |what: String| VerifyError::row(Table::Entries, key, what);
        let entry = ChainEntry::decode(value).map_err(|error| wrong(error.to_string()))?;
        let hash = entry.hash();
        if hash.0 != key {
            return Err(wrong(format!("it is the entry of block {hash}")));
        }
        last_arrival = entry.arrival.max(last_arrival);
        if entry.status != BlockStatus::Invalid {
            last_kept = entry.arrival.max(last_kept);
        }
        if schema::is_best(stored, &hash, entry.height)? {
            best += 1;
            return Ok(());
        }
        check_side(stored, genesis, &entry).map_err(|what| match what {
            SideError::Wrong(what) => wrong(what),
            SideError::Store(error) => error.into(),
        })
    })?;
    if best != tip.0 + 1 {
        return Err(VerifyError::table(Table::Entries, &[]));
    }
    // The next block's rank must be a new one. That of a block which was refused is given again.
    if !(last_kept..=last_arrival).contains(&schema::last_arrival(stored)?) {
        let what = format!("the last block to arrive has rank {last_arrival}");
        return Err(VerifyError::row(Table::Meta, schema::META_ARRIVAL, what));
    }
    Ok(())
}

enum SideError {
    Wrong(String),
    Store(crate::store::StoreError),
}

impl From<crate::store::StoreError> for SideError {
    fn from(error: crate::store::StoreError) -> Self {
        Self::Store(error)
    }
}

/// Checks a block off the best chain. A block that was found invalid need not keep the rules.
fn check_side(
    stored: &dyn Snapshot,
    genesis: &Genesis,
    entry: &ChainEntry,
) -> Result<(), SideError> {
    let wrong = |what: &str| SideError::Wrong(what.to_owned());
    let hash = entry.hash();
    let parent = schema::entry(stored, &entry.header.prev)?;
    let parent = parent.ok_or_else(|| wrong("its parent is missing"))?;
    // A block that was refused when it came is remembered without its body.
    if entry.status == BlockStatus::Invalid && stored.body(&hash)?.is_none() {
        return Ok(());
    }
    let block = schema::expect_block(stored, &hash)?;
    if block.header.hash() != hash || block.commitment != entry.commitment {
        return Err(wrong("its body is that of another block"));
    }
    let block = match check_block(&genesis.params, block) {
        Ok(block) => block,
        Err(_) if entry.status == BlockStatus::Invalid => return Ok(()),
        Err(error) => return Err(SideError::Wrong(error.to_string())),
    };
    let ancestors = ancestors(stored, &parent)?;
    check_header_in_context(&genesis.params, &entry.header, &ancestors)
        .map_err(|error| SideError::Wrong(error.to_string()))?;
    let expected = ChainEntry {
        status: entry.status,
        // Only a block that was connected has an outcome, and nothing compares that one.
        outcome: match entry.status {
            BlockStatus::Connected | BlockStatus::Invalid => entry.outcome,
            BlockStatus::Stored => BlockOutcome::default(),
        },
        ..entry_after(&parent, &block, entry.arrival)
    };
    if *entry != expected {
        return Err(wrong("it does not fit to its parent and its body"));
    }
    Ok(())
}

/// Checks the single values: the tip, and the ends of side branches.
pub(super) fn check_meta(stored: &dyn Snapshot, tip: Height) -> Result<(), VerifyError> {
    let best = schema::best_hash(stored, tip)?;
    if best.is_none() || best != schema::tip_hash(stored)? {
        return Err(VerifyError::row(
            Table::Meta,
            schema::META_TIP,
            "the tip is not the end of the best chain",
        ));
    }
    for leaf in schema::leaves(stored)? {
        check_leaf(stored, &leaf)?;
    }
    Ok(())
}

/// Checks that the rows of a long reorganisation can be read, and that there are none without one.
/// What live rows say was compared with the replay, which sees them over the tables.
pub(super) fn check_staged(stored: &dyn Snapshot) -> Result<(), VerifyError> {
    let staging = schema::staging(stored)?;
    for_each_row(stored, Table::Staged, |row, value| {
        if staging.is_none() {
            let what = "there is no long reorganisation";
            return Err(VerifyError::row(Table::Staged, row, what));
        }
        Ok(staged::check_row(row, value)?)
    })?;
    Ok(())
}

fn check_leaf(stored: &dyn Snapshot, leaf: &BlockHash) -> Result<(), VerifyError> {
    match schema::entry(stored, leaf)? {
        Some(_) => Ok(()),
        None => Err(VerifyError::row(
            Table::Meta,
            schema::META_LEAVES,
            format!("block {leaf} is not stored"),
        )),
    }
}
