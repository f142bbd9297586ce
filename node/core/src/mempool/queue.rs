//! The pending transactions of one sender, and how soon each of them could be mined. Knows no other
//! sender. Start reading at [`Queue::ranked`].

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use pithead_consensus::{Account, Amount, PublicKey, Txid};

use super::{FeeRate, Pending};

/// How soon a transaction could be mined. The lowest rank is mined last and leaves first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    /// Whether no earlier transaction of its sender is missing. One that can't be mined now has a
    /// lower rank than any that can, whatever it pays.
    pub(super) ready: bool,
    /// The lowest fee rate among the transaction and those of its sender before it. They have to be
    /// mined first, so that a high fee behind a low one does not make it sooner.
    pub(super) rate: FeeRate,
}

/// The first transaction of a queue, which can be mined next: the highest fee rate comes first, and
/// among equals the one that came first.
pub(super) type Head = (Reverse<FeeRate>, u64, Txid);

/// The pending transactions of one sender.
#[derive(Debug)]
pub(super) struct Queue {
    /// The sender's confirmed account at the tip.
    account: Account,
    transactions: BTreeMap<u64, Arc<Pending>>,
}

impl Queue {
    pub(super) fn new(account: Account) -> Self {
        Self {
            account,
            transactions: BTreeMap::new(),
        }
    }

    pub(super) fn account(&self) -> &Account {
        &self.account
    }

    pub(super) fn set_account(&mut self, account: Account) {
        self.account = account;
    }

    pub(super) fn insert(&mut self, pending: Arc<Pending>) {
        let sequence = pending.body().sequence;
        self.transactions.insert(sequence, pending);
    }

    pub(super) fn remove(&mut self, sequence: u64) {
        self.transactions.remove(&sequence);
    }

    pub(super) fn get(&self, sequence: u64) -> Option<&Arc<Pending>> {
        self.transactions.get(&sequence)
    }

    pub(super) fn len(&self) -> usize {
        self.transactions.len()
    }

    /// The transactions by sequence.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &Arc<Pending>> {
        self.transactions.values()
    }

    /// The sender's key, if it is on record or comes with a pending transaction.
    pub(super) fn key(&self) -> Option<&PublicKey> {
        let pending = || {
            let first = self.iter().next();
            first.and_then(|pending| pending.transaction().key.as_ref())
        };
        self.account.key.as_ref().or_else(pending)
    }

    /// The first sequence from `from` upwards that is not pending.
    pub(super) fn next_sequence(&self, from: u64) -> u64 {
        let mut next = from;
        for (&sequence, _) in self.transactions.range(from..) {
            if sequence != next {
                break;
            }
            next = next.saturating_add(1);
        }
        next
    }

    /// Sum that the transactions take from the account, apart from the one with this sequence.
    pub(super) fn reserved_beside(&self, sequence: u64) -> Amount {
        let others = self.iter().filter(|each| each.body().sequence != sequence);
        Amount::sum(others.map(|pending| pending.total())).unwrap_or(Amount::MAX_MONEY)
    }

    /// The transaction before this sequence that pays the lowest fee rate.
    pub(super) fn cheapest_before(&self, sequence: u64) -> Option<&Arc<Pending>> {
        let before = self.transactions.range(..sequence);
        before
            .map(|(_, pending)| pending)
            .min_by_key(|pending| pending.fee_rate())
    }

    /// The transactions by sequence with their ranks, which never rise from one to the next.
    pub(super) fn ranked(&self) -> Vec<(Rank, &Arc<Pending>)> {
        let next = self.next_sequence(self.account.sequence);
        let mut rate = FeeRate(u64::MAX);
        self.iter()
            .map(|pending| {
                let sequence = pending.body().sequence;
                rate = rate.min(pending.fee_rate());
                let ready = (self.account.sequence..next).contains(&sequence);
                (Rank { ready, rate }, pending)
            })
            .collect()
    }

    /// The last transaction, which no other builds on.
    pub(super) fn end(&self) -> Option<(Rank, Txid)> {
        let ranked = self.ranked();
        ranked.last().map(|(rank, last)| (*rank, last.txid()))
    }

    /// The transaction that can be mined next.
    pub(super) fn head(&self) -> Option<Head> {
        self.get(self.account.sequence).map(|first| head_of(first))
    }
}

/// The order of a transaction among those that can be mined next.
pub(super) fn head_of(pending: &Pending) -> Head {
    (
        Reverse(pending.fee_rate()),
        pending.received,
        pending.txid(),
    )
}
