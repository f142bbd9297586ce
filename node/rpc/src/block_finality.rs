//! How far the blocks of the best chain are approved and final, as the API shows it.
//!
//! It knows no service and no store: the caller says what is on the best chain.

use pithead_api::v1;
use pithead_consensus::{Checkpoint, Height};
use pithead_core::finality::{FinalityState, FinalityStatus};
use tonic::Status;

use crate::api::internal;

/// Approved checkpoints above the last final one that are looked at. There are more of them only
/// where validators seldom agree.
const APPROVED_LOOKED_AT: usize = 1_000;

/// How far the best chain of one moment is approved and final.
///
/// Certificates may reach a node before the blocks that they are about, or be about another
/// branch. Then the highest checkpoint counts that the best chain does contain: with certificates
/// of 10 and 20 and a chain that ends at 15, the chain is approved up to 10.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BlockFinality {
    /// Whether the network has validators.
    pub(crate) active: bool,
    /// The highest approved and the last final checkpoint, on the best chain or not.
    pub(crate) status: FinalityStatus,
    /// Height up to which the best chain is approved.
    approved_to: Height,
    /// Height up to which the best chain is final.
    final_to: Height,
}

impl BlockFinality {
    /// `is_best` says whether a checkpoint is on the best chain, whose tip is at height `tip`. It
    /// must not know an older chain than the one that `state` knows.
    pub(crate) fn new(
        state: &FinalityState,
        tip: Height,
        mut is_best: impl FnMut(&Checkpoint) -> Result<bool, Status>,
    ) -> Result<Self, Status> {
        let view = state.view();
        let final_to = view.highest_final(tip, &mut is_best)?.height;
        let mut approved_to = final_to;
        let above = view
            .approved_below(tip)
            .take_while(|checkpoint| checkpoint.height > final_to);
        for checkpoint in above.take(APPROVED_LOOKED_AT) {
            if is_best(&checkpoint)? {
                approved_to = checkpoint.height;
                break;
            }
        }
        view.sound().map_err(internal)?;
        Ok(Self {
            active: state.is_active(),
            status: state.status(),
            approved_to,
            final_to,
        })
    }

    /// The finality of the best chain's block at a height.
    pub(crate) fn of_height(&self, height: Height) -> v1::Finality {
        if !self.active {
            v1::Finality::Unspecified
        } else if height <= self.final_to {
            v1::Finality::Final
        } else if height <= self.approved_to {
            v1::Finality::Approved
        } else {
            v1::Finality::Pending
        }
    }

    /// The state of a transaction in the best chain's block at a height.
    pub(crate) fn of_mined(&self, height: Height) -> v1::TransactionState {
        match self.of_height(height) {
            // The genesis block is final even without validators.
            _ if height == Height::GENESIS => v1::TransactionState::Final,
            v1::Finality::Final => v1::TransactionState::Final,
            v1::Finality::Approved => v1::TransactionState::Approved,
            v1::Finality::Pending | v1::Finality::Unspecified => v1::TransactionState::Mined,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use pithead_consensus::genesis::Network;
    use pithead_consensus::{BlockHash, Certificate, Decode as _, Encode as _, Link};

    use super::*;
    use pithead_core::finality::put_certificate;
    use std::sync::Arc;

    use pithead_core::store::{Batch, MemoryStore, Store};

    fn checkpoint(height: u64) -> Checkpoint {
        Checkpoint {
            height: Height(height),
            hash: BlockHash([u8::try_from(height).unwrap(); 32]),
        }
    }

    /// A state with certificates of 10, 20, 30 and 40: certificates in the store are believed.
    fn state() -> FinalityState {
        let genesis = Network::Main.genesis_file().check().unwrap();
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let mut batch = Batch::default();
        let first = Checkpoint::genesis(genesis.params.genesis_hash);
        let path = [
            first,
            checkpoint(10),
            checkpoint(20),
            checkpoint(30),
            checkpoint(40),
        ];
        for pair in path.windows(2) {
            let link = Link {
                source: pair[0],
                target: pair[1],
            };
            let raw = [vec![1], link.encode(), vec![0; 4]].concat();
            put_certificate(&mut batch, &Certificate::decode(&raw).unwrap());
        }
        store.commit(&batch).unwrap();
        FinalityState::open(&genesis, &store).unwrap()
    }

    /// How far a chain is approved and final that ends at `tip` and that left the
    /// approved chain after `fork`.
    fn approved_and_final(tip: u64, fork: u64) -> (u64, u64) {
        let is_best = |checkpoint: &Checkpoint| Ok(checkpoint.height.0 <= fork);
        let finality = BlockFinality::new(&state(), Height(tip), is_best).unwrap();
        (finality.approved_to.0, finality.final_to.0)
    }

    #[test]
    fn a_chain_is_approved_and_final_as_far_as_it_contains_such_checkpoints() {
        assert_eq!(approved_and_final(45, 45), (40, 30));
        // Its blocks are not all here yet.
        assert_eq!(approved_and_final(35, 35), (30, 30));
        assert_eq!(approved_and_final(29, 29), (20, 20));
        assert_eq!(approved_and_final(9, 9), (0, 0));
        // It is another branch.
        assert_eq!(approved_and_final(45, 35), (30, 30));
        assert_eq!(approved_and_final(45, 12), (10, 10));
        assert_eq!(approved_and_final(45, 3), (0, 0));
    }
}
