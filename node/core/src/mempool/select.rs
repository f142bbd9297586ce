//! Which transactions go into the next block: the highest fee rate first, and those of one sender
//! in sequence. Start reading at [`Mempool::select`].

use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use pithead_consensus::{Account, Address, Amount};

use super::{FeeRate, Mempool, Pending};

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
}

impl Selection {
    fn has_room(&self, pending: &Pending, room: BlockRoom) -> bool {
        self.bytes + pending.size() <= room.bytes
            && self.account_changes + pending.body().account_changes() <= room.account_changes
    }
}

impl Mempool {
    /// Selects transactions that have room in a block. `accounts` gives the confirmed account of
    /// each sender that has pending transactions.
    pub fn select(
        &self,
        room: BlockRoom,
        mut accounts: impl FnMut(&Address) -> Account,
    ) -> Selection {
        let mut balances: BTreeMap<Address, Amount> = BTreeMap::new();
        // The heap holds the next transaction of each sender. The highest fee rate is on top, and
        // among equals the transaction that came first.
        let mut heap: BinaryHeap<(FeeRate, std::cmp::Reverse<u64>, std::cmp::Reverse<_>)> =
            BinaryHeap::new();
        let push = |heap: &mut BinaryHeap<_>, pending: &Arc<Pending>| {
            heap.push((
                pending.fee_rate(),
                std::cmp::Reverse(pending.received),
                std::cmp::Reverse(pending.txid()),
            ));
        };
        for sender in self.senders() {
            let account = accounts(sender);
            balances.insert(*sender, account.balance);
            let first = self
                .of_sender(sender)
                .find(|pending| pending.body().sequence == account.sequence);
            if let Some(first) = first {
                push(&mut heap, first);
            }
        }
        let mut selection = Selection::default();
        while let Some((_, _, std::cmp::Reverse(txid))) = heap.pop() {
            let Some(pending) = self.get(&txid) else {
                continue;
            };
            let body = pending.body();
            let Some(balance) = balances.get_mut(&body.sender) else {
                continue;
            };
            // A transaction that does not fit holds back the later ones of its sender only.
            let (Some(left), true) = (
                balance.checked_sub(pending.total()),
                selection.has_room(pending, room),
            ) else {
                continue;
            };
            let Some(fees) = selection.fees.checked_add(body.fee) else {
                continue;
            };
            *balance = left;
            selection.fees = fees;
            selection.bytes += pending.size();
            selection.account_changes += body.account_changes();
            selection.transactions.push(Arc::clone(pending));
            let next = body.sequence.saturating_add(1);
            let following = self
                .by_sender
                .get(&body.sender)
                .and_then(|queue| queue.get(&next))
                .and_then(|txid| self.get(txid));
            if let Some(following) = following {
                push(&mut heap, following);
            }
        }
        selection
    }
}
