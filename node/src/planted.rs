//! Faults planted on purpose, so that the simulation can show that it finds
//! them. Only in builds with the feature `planted`.

use std::cell::Cell;

use pithead_consensus::check::CheckedBlock;
use pithead_consensus::connect::ConnectContext;

thread_local! {
    static SKIP_STATE_ROOT: Cell<bool> = const { Cell::new(false) };
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
