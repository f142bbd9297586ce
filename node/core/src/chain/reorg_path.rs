//! The way from one block to another through their last common ancestor.

use pithead_consensus::BlockHash;

use crate::store::schema::{self, ChainEntry};
use crate::store::{Snapshot, StoreError};

/// The steps from one block to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainPath {
    /// Blocks to leave, newest first.
    pub down: Vec<ChainEntry>,
    /// The last common ancestor.
    pub fork: ChainEntry,
    /// Blocks to join, oldest first.
    pub up: Vec<ChainEntry>,
}

/// The way from `from` to `to`.
///
/// # Errors
/// [`StoreError`] if storage fails or is damaged.
pub fn path_between(
    snapshot: &dyn Snapshot,
    from: &ChainEntry,
    to: &ChainEntry,
) -> Result<ChainPath, StoreError> {
    let parent = |entry: &ChainEntry| schema::expect_entry(snapshot, &entry.header.prev);
    let (mut low, mut high) = (from.clone(), to.clone());
    let (mut down, mut up) = (Vec::new(), Vec::new());
    while high.height > low.height {
        let next = parent(&high)?;
        up.push(std::mem::replace(&mut high, next));
    }
    while low.height > high.height {
        let next = parent(&low)?;
        down.push(std::mem::replace(&mut low, next));
    }
    while hash(&low) != hash(&high) {
        let (next_low, next_high) = (parent(&low)?, parent(&high)?);
        down.push(std::mem::replace(&mut low, next_low));
        up.push(std::mem::replace(&mut high, next_high));
    }
    up.reverse();
    Ok(ChainPath {
        down,
        fork: low,
        up,
    })
}

fn hash(entry: &ChainEntry) -> BlockHash {
    entry.hash()
}
