//! The way from one block to another through their last common ancestor. Start reading at
//! [`path_between`].

use pithead_consensus::BlockHash;

use crate::store::schema::{self, ChainEntry};
use crate::store::{Snapshot, StoreError};

/// The blocks that a reorganisation disconnects and connects. It names them, 32 bytes each,
/// because the blocks of a long reorganisation are more than memory holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainPath {
    /// Blocks to disconnect, newest first.
    pub down: Vec<BlockHash>,
    /// The last common ancestor of both ends.
    pub fork: ChainEntry,
    /// Blocks to connect, oldest first.
    pub up: Vec<BlockHash>,
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
    let (mut low, mut high) = (from.clone(), to.clone());
    let (mut down, mut up) = (Vec::new(), Vec::new());
    while high.height > low.height {
        up.push(step_down(snapshot, &mut high)?);
    }
    while low.height > high.height {
        down.push(step_down(snapshot, &mut low)?);
    }
    while low.hash() != high.hash() {
        down.push(step_down(snapshot, &mut low)?);
        up.push(step_down(snapshot, &mut high)?);
    }
    up.reverse();
    Ok(ChainPath {
        down,
        fork: low,
        up,
    })
}

/// Goes to the parent; returns the hash of the block that it left.
fn step_down(snapshot: &dyn Snapshot, at: &mut ChainEntry) -> Result<BlockHash, StoreError> {
    let parent = schema::expect_entry(snapshot, &at.header.prev)?;
    Ok(std::mem::replace(at, parent).hash())
}
