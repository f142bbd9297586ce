//! What the chain knows of final blocks (protocol §9): not only the last one, since a
//! node that has not reached it yet must tell the right chain by those before it.

use std::fmt;
use std::sync::Arc;

use pithead_consensus::{Checkpoint, Height};

use super::contains_best;
use crate::store::{Snapshot, StoreError};

type FinalAt = dyn Fn(Height) -> Checkpoint + Send + Sync;

/// The highest final checkpoint at or below any height, as certificates show it.
/// They descend from one another, so that each chain contains them up to one of them
/// and none after it.
#[derive(Clone)]
pub struct FinalPath(Arc<FinalAt>);

impl FinalPath {
    /// From what knows it.
    pub fn new(at: impl Fn(Height) -> Checkpoint + Send + Sync + 'static) -> Self {
        Self(Arc::new(at))
    }

    /// The highest final checkpoint at or below a height.
    #[must_use]
    pub fn at(&self, height: Height) -> Checkpoint {
        (self.0)(height)
    }

    /// The highest of them on the best chain up to a height.
    ///
    /// # Errors
    /// [`StoreError`] if storage fails.
    pub fn on_best(&self, from: &dyn Snapshot, top: Height) -> Result<Checkpoint, StoreError> {
        highest(
            |height| self.at(height),
            top,
            |checkpoint| contains_best(from, checkpoint),
        )
    }
}

impl fmt::Debug for FinalPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FinalPath(up to {:?})", self.at(Height(u64::MAX)))
    }
}

/// The highest of a path of checkpoints, up to a height, that a chain holds; it holds
/// those below that one too, and none above. `at` gives the path's highest checkpoint
/// at or below a height: at height 0 the genesis, which every chain holds.
///
/// # Errors
/// That of `holds`.
pub fn highest<E>(
    at: impl Fn(Height) -> Checkpoint,
    top: Height,
    mut holds: impl FnMut(&Checkpoint) -> Result<bool, E>,
) -> Result<Checkpoint, E> {
    let first = at(top);
    if holds(&first)? {
        return Ok(first);
    }
    // Between the two lies the answer: by halves.
    let (mut held, mut missing) = (at(Height::GENESIS), first.height.0);
    let mut low = 0_u64;
    while missing.saturating_sub(low) > 1 {
        let middle = low.saturating_add(missing.saturating_sub(low) / 2);
        let checkpoint = at(Height(middle));
        if checkpoint == held || holds(&checkpoint)? {
            held = checkpoint;
            low = middle;
        } else {
            missing = checkpoint.height.0;
        }
    }
    Ok(held)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use pithead_consensus::BlockHash;

    use super::*;

    #[test]
    fn the_highest_that_a_chain_holds_is_found() {
        let path = [0_u64, 10, 20, 50, 60, 90];
        let at = |height: Height| Checkpoint {
            height: Height(*path.iter().rev().find(|at| **at <= height.0).unwrap()),
            hash: BlockHash([0; 32]),
        };
        for fork in [0, 5, 10, 15, 49, 50, 89, 90, 200] {
            for top in [0, 10, 55, 90, 1_000] {
                let holds = |found: &Checkpoint| Ok::<_, ()>(found.height.0 <= fork);
                let found = highest(at, Height(top), holds).unwrap();
                assert_eq!(found, at(Height(fork.min(top))), "{fork} {top}");
            }
        }
    }
}
