//! Faults planted on purpose, so that the simulation can show that it finds
//! them. Only in builds with the feature `fault-injection`.

use std::cell::Cell;

use pithead_consensus::check::CheckedBlock;
use pithead_consensus::connect::ConnectContext;
use pithead_consensus::{Height, VoteRecord};

thread_local! {
    static SKIP_STATE_ROOT: Cell<bool> = const { Cell::new(false) };
    static ALLOW_SURROUND: Cell<bool> = const { Cell::new(false) };
}

/// Lets validators on this thread vote without rule 2 of protocol §9.
pub fn allow_surround(allow: bool) {
    ALLOW_SURROUND.set(allow);
}

/// The votes that a vote for this height is held against, if the node has the
/// fault.
pub(crate) fn forget_others(record: &VoteRecord, height: Height) -> Option<VoteRecord> {
    if !ALLOW_SURROUND.get() {
        return None;
    }
    let mut left = VoteRecord::default();
    if let Some(vote) = record.vote_at(height) {
        // One vote contradicts nothing.
        let _ = left.record(*vote);
    }
    Some(left)
}

/// Lets nodes on this thread take any state root for the right one.
pub fn skip_state_root(skip: bool) {
    SKIP_STATE_ROOT.set(skip);
}

/// The context as it would be if the node had the fault.
pub(crate) fn spoil<'a>(context: ConnectContext<'a>, block: &CheckedBlock) -> ConnectContext<'a> {
    if SKIP_STATE_ROOT.get() {
        return ConnectContext {
            state_root: block.block().commitment.state_root,
            ..context
        };
    }
    context
}
