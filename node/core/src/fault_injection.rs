//! Fault injection: rules that a test can switch off, so that the simulation can show that it
//! notices. Only builds with the feature `fault-injection` contain this. Start reading at
//! [`allow_surround`] and [`skip_state_root`].

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

/// The votes that a vote for this height is compared with while [`allow_surround`] is on: only the
/// vote for the same height, if there is one. `None` while it is off.
pub(crate) fn record_of_height(record: &VoteRecord, height: Height) -> Option<VoteRecord> {
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

/// Lets nodes on this thread accept any state root.
pub fn skip_state_root(skip: bool) {
    SKIP_STATE_ROOT.set(skip);
}

/// The context in which a block is connected: while [`skip_state_root`] is on, it expects the state
/// root that the block names.
pub(crate) fn with_state_root_of<'a>(
    context: ConnectContext<'a>,
    block: &CheckedBlock,
) -> ConnectContext<'a> {
    if SKIP_STATE_ROOT.get() {
        return ConnectContext {
            state_root: block.block().commitment.state_root,
            ..context
        };
    }
    context
}
