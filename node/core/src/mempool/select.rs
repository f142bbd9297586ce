//! Which transactions go into the next block: the highest fee rate first, and those of one sender
//! in sequence. Start reading at [`Mempool::select`].

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::sync::Arc;

use pithead_consensus::{Amount, Txid};

use super::queue::{Head, head_of};
use super::{Mempool, Pending};

/// A selection ends after so many transactions that did not fit.
pub const SELECT_MISSES_MAX: usize = 256;
/// Encoded bytes of the smallest transaction: one output, no data and no key (protocol §3).
const TRANSACTION_BYTES_MIN: usize = 351;

/// How much a block has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockRoom {
    /// Encoded bytes of transactions.
    pub bytes: usize,
    /// Accounts that transactions change (protocol §4).
    pub account_changes: usize,
}

/// Transactions for a block, in block order.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    pub transactions: Vec<Arc<Pending>>,
    /// Encoded bytes of the transactions.
    pub bytes: usize,
    /// Accounts that they change, as protocol §4 counts them.
    pub account_changes: usize,
    /// Sum of the fees.
    pub fees: Amount,
    /// How many pending transactions were looked at: the selected ones and those that did not fit.
    pub looked_at: usize,
}

impl Selection {
    fn has_room(&self, pending: &Pending, room: BlockRoom) -> bool {
        self.bytes + pending.size() <= room.bytes
            && self.account_changes + pending.body().account_changes() <= room.account_changes
    }
}

impl Mempool {
    /// Selects transactions that have `room`, without those `left_out` and what builds on them. It
    /// looks at what it selects and at [`SELECT_MISSES_MAX`] more, however many wait.
    #[must_use]
    pub fn select(&self, room: BlockRoom, left_out: &HashSet<Txid>) -> Selection {
        let mut selection = Selection::default();
        let mut misses = 0;
        let mut heads = self.heads.iter().copied().peekable();
        // Those whose earlier ones are selected.
        let mut followers: BinaryHeap<Reverse<Head>> = BinaryHeap::new();
        while misses <= SELECT_MISSES_MAX && selection.bytes + TRANSACTION_BYTES_MIN <= room.bytes {
            let follower_is_first = match (heads.peek(), followers.peek()) {
                (Some(head), Some(Reverse(follower))) => follower < head,
                (head, _) => head.is_none(),
            };
            let next = if follower_is_first {
                followers.pop().map(|Reverse(follower)| follower)
            } else {
                heads.next()
            };
            let Some((_, _, txid)) = next else {
                break;
            };
            selection.looked_at += 1;
            // One that does not fit holds back the later ones of its sender only.
            let fits = self
                .get(&txid)
                .filter(|pending| selection.has_room(pending, room) && !left_out.contains(&txid));
            let Some(pending) = fits else {
                misses += 1;
                continue;
            };
            let body = pending.body();
            let Some(fees) = selection.fees.checked_add(body.fee) else {
                misses += 1;
                continue;
            };
            selection.fees = fees;
            selection.bytes += pending.size();
            selection.account_changes += body.account_changes();
            selection.transactions.push(Arc::clone(pending));
            let queue = self.by_sender.get(&body.sender);
            let next = body.sequence.saturating_add(1);
            let follower = queue.and_then(|queue| queue.get(next));
            followers.extend(follower.map(|follower| Reverse(head_of(follower))));
        }
        selection
    }
}
