//! The way from one block to another through their last common ancestor. Start reading at
//! [`path_between`].

use crate::store::schema::{self, ChainEntry};
use crate::store::{Snapshot, StoreError};

/// The blocks that a reorganisation disconnects and connects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainPath {
    /// Blocks to disconnect, newest first.
    pub down: Vec<ChainEntry>,
    /// The last common ancestor of both ends.
    pub fork: ChainEntry,
    /// Blocks to connect, oldest first.
    pub up: Vec<ChainEntry>,
}

/// The way from the tip `from` to the tip `to`.
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
    while low.hash() != high.hash() {
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
