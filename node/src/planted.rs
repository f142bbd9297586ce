//! Faults planted on purpose, so that the simulation can show that it finds
//! them. Only in builds with the feature `planted`.

use std::cell::Cell;
use std::collections::BTreeMap;

use pithead_consensus::check::CheckedBlock;
use pithead_consensus::connect::ConnectContext;
use pithead_consensus::{Decode as _, Encode as _, Height, Link, VoteRecord};

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

/// Puts a vote on record whatever it contradicts, as a node with the fault
/// would. Reading a record back is where consensus does not look for that.
pub(crate) fn record_anyway(record: &mut VoteRecord, link: Link) {
    let mut votes: BTreeMap<Height, Link> = record
        .votes()
        .map(|vote| (vote.target.height, *vote))
        .collect();
    votes.entry(link.target.height).or_insert(link);
    let mut bytes = u32::try_from(votes.len())
        .unwrap_or(u32::MAX)
        .to_le_bytes()
        .to_vec();
    for vote in votes.values() {
        vote.encode_to(&mut bytes);
    }
    if let Ok(read) = VoteRecord::decode(&bytes) {
        *record = read;
    }
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
