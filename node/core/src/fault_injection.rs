//! Fault injection: rules and limits that a test can switch off, so that simulation and budgets can
//! show that they notice. Only builds with the feature `fault-injection` contain this. Start
//! reading at [`allow_surround`], [`skip_state_root`], [`trust_copies`], [`answer_all`],
//! [`follow_any_approval`] and [`retry_all_waiting`].

use std::cell::{Cell, RefCell};
use std::collections::HashSet;

use pithead_consensus::check::CheckedBlock;
use pithead_consensus::connect::ConnectContext;
use pithead_consensus::fork_choice::{Candidate, Ground};
use pithead_consensus::{Hash256, Height, VoteRecord};

thread_local! {
    static SKIP_STATE_ROOT: Cell<bool> = const { Cell::new(false) };
    static ALLOW_SURROUND: Cell<bool> = const { Cell::new(false) };
    static TRUST_COPIES: Cell<bool> = const { Cell::new(false) };
    static COPIES: RefCell<HashSet<Hash256>> = RefCell::default();
    static ANSWER_ALL: Cell<bool> = const { Cell::new(false) };
    static FOLLOW_ANY_APPROVAL: Cell<bool> = const { Cell::new(false) };
    static RETRY_ALL_WAITING: Cell<bool> = const { Cell::new(false) };
}

/// Lets nodes on this thread take a transaction for verified if it has the txid of a known one,
/// although a txid does not cover the signature.
pub fn trust_copies(trust: bool) {
    TRUST_COPIES.set(trust);
    COPIES.take();
}

/// Remembers a transaction that came as a copy of a known one.
pub(crate) fn note_copy(leaf: Hash256) {
    if TRUST_COPIES.get() {
        COPIES.with_borrow_mut(|copies| copies.insert(leaf));
    }
}

/// The leaves that count as verified while [`trust_copies`] is on; `None` while it is off.
pub(crate) fn with_copies(verified: &HashSet<Hash256>) -> Option<HashSet<Hash256>> {
    TRUST_COPIES.get().then(|| {
        let copies = COPIES.with_borrow(Clone::clone);
        verified.union(&copies).copied().collect()
    })
}

/// Lets nodes on this thread follow the highest approved checkpoint however deep they have to go back
/// for it, and whether or not a quorum can vote on its chain: protocol §8 without rule 2 and without
/// the limit of rule 3.
pub fn follow_any_approval(follow: bool) {
    FOLLOW_ANY_APPROVAL.set(follow);
}

/// A chain as fork choice sees it while [`follow_any_approval`] is on.
pub(crate) fn as_followed(candidate: Candidate) -> Candidate {
    if !FOLLOW_ANY_APPROVAL.get() || candidate.ground == Ground::Contains {
        return Candidate {
            votable: candidate.votable || FOLLOW_ANY_APPROVAL.get(),
            ..candidate
        };
    }
    Candidate {
        votable: true,
        ground: Ground::Near,
        ..candidate
    }
}

/// Lets nodes on this thread try every waiting block again at each tick.
pub fn retry_all_waiting(retry: bool) {
    RETRY_ALL_WAITING.set(retry);
}

/// Whether [`retry_all_waiting`] is on.
pub(crate) fn retries_all_waiting() -> bool {
    RETRY_ALL_WAITING.get()
}

/// Lets nodes on this thread answer peers with as many bytes as they ask for.
pub fn answer_all(all: bool) {
    ANSWER_ALL.set(all);
}

/// The room for content in an answer: without a limit while [`answer_all`] is on.
pub(crate) fn content_bytes(limit: usize) -> usize {
    if ANSWER_ALL.get() { usize::MAX } else { limit }
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
