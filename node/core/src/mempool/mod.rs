//! The mempool: transactions that wait to be mined (docs/node-policy.md).
//!
//! The transactions of one sender form a `queue` by sequence; between senders the fee rate decides.
//! [`Mempool::judge`] decides about admission, `room` finds room in a full mempool, `limits` drops,
//! `select` picks transactions for a block. Nothing here reads a clock or storage: the time and a
//! new sender's account are arguments, and the accounts of senders are kept. Start reading at
//! [`Mempool::judge`].

mod admission;
mod expiry;
mod limits;
mod queue;
mod room;
mod select;
mod signature;
#[cfg(test)]
mod tests;
mod weight;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pithead_consensus::check::{CheckedBlock, CheckedTransaction};
use pithead_consensus::{
    Account, Address, Amount, Hash256, PublicKey, SignedTransaction, TransactionBody, Txid,
};

pub use admission::{Admission, Admitted, IncomingTransaction, Judgement, Obstacle, RejectReason};
use expiry::Expired;
pub use expiry::{EXPIRED_MAX, Waited};
use queue::{Head, Queue, Rank};
pub use select::{BlockRoom, SELECT_MISSES_MAX, Selection};
pub use signature::VerifiedTransaction;
pub use weight::weight_of;

/// Most pending transactions of one sender (docs/node-policy.md).
pub const SENDER_TRANSACTIONS_MAX: usize = 64;
/// How far a sequence may run ahead of the next one due (docs/node-policy.md).
pub const SEQUENCE_GAP_MAX: u64 = 16;
/// How many transactions that left are remembered, with the reason.
const FATES_MAX: usize = 20_000;

/// The limits of the mempool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MempoolLimits {
    /// Most bytes, counted as encoded.
    pub bytes_max: usize,
    /// Seconds after which a transaction expires.
    pub expiry_secs: u64,
    /// Lowest fee rate that is admitted, grains a byte.
    pub min_fee_rate: u64,
}

/// A transaction in the mempool: its rules hold, its signature was verified, and its sender can
/// pay for it together with the sender's other pending ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    transaction: VerifiedTransaction,
    /// When it was accepted, Unix seconds.
    pub received: u64,
    /// When it expires, milliseconds of [`Waited`].
    expires_ms: u64,
}

impl Pending {
    /// The transaction with its txid, leaf and encoding.
    #[must_use]
    pub fn checked(&self) -> &CheckedTransaction {
        self.transaction.checked()
    }

    /// The transaction itself.
    #[must_use]
    pub fn transaction(&self) -> &SignedTransaction {
        self.checked().transaction()
    }

    /// The transaction's body: everything that the signature covers.
    #[must_use]
    pub fn body(&self) -> &TransactionBody {
        &self.transaction().body
    }

    /// Identifies the body; a forged copy may have the same txid.
    #[must_use]
    pub fn txid(&self) -> Txid {
        self.checked().txid()
    }

    /// Encoded size, bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.checked().size()
    }

    /// Sum that the transaction takes from its sender: amounts and fee.
    #[must_use]
    pub fn total(&self) -> Amount {
        self.checked().total()
    }

    /// The fee for each byte of weight.
    #[must_use]
    pub fn fee_rate(&self) -> FeeRate {
        FeeRate::of(self.body().fee, self.weight())
    }

    fn weight(&self) -> usize {
        weight_of(self.checked())
    }
}

/// Fee per byte of weight, in thousandths of a grain: fine enough to order by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct FeeRate(pub u64);

impl FeeRate {
    /// The rate of a fee over a weight in bytes.
    #[must_use]
    pub fn of(fee: Amount, weight: usize) -> Self {
        let weight = u128::try_from(weight.max(1)).unwrap_or(1);
        let rate = u128::from(fee.grains()) * 1_000 / weight;
        Self(u64::try_from(rate).unwrap_or(u64::MAX))
    }

    /// The rate of so many whole grains a byte.
    #[must_use]
    pub const fn per_byte(grains: u64) -> Self {
        Self(grains.saturating_mul(1_000))
    }

    /// Whole grains a byte, rounded down.
    #[must_use]
    pub const fn grains_per_byte(self) -> u64 {
        self.0 / 1_000
    }
}

/// Why a transaction left without being mined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// Another transaction with the same sender and sequence took its place.
    Replaced {
        /// The txid of that transaction.
        by: Txid,
    },
    /// The mempool removed it.
    Dropped {
        /// The reason, for people to read.
        reason: &'static str,
    },
}

/// A change of the mempool, as subscribers receive it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PendingChange {
    /// A transaction came in.
    Added(Arc<Pending>),
    /// A transaction was mined.
    Mined(Arc<Pending>),
    /// A transaction left without being mined.
    Left(Arc<Pending>, Fate),
}

/// The transactions that wait to be mined.
#[derive(Debug)]
pub struct Mempool {
    limits: MempoolLimits,
    by_txid: HashMap<Txid, Arc<Pending>>,
    by_sender: BTreeMap<Address, Queue>,
    /// All by fee rate, lowest first.
    by_rate: BTreeSet<(FeeRate, Txid)>,
    /// The last of each queue, in the order in which they leave a full mempool.
    ends: BTreeSet<(Rank, Txid)>,
    /// The first of each queue that can be mined, in the order of mining.
    heads: BTreeSet<Head>,
    by_expiry: BTreeSet<(u64, Txid)>,
    expired: Expired,
    /// Sum that pending transactions pay to each address, grains.
    incoming: HashMap<Address, u128>,
    bytes: usize,
    fees: u128,
    fates: HashMap<Txid, Fate>,
    fate_order: VecDeque<Txid>,
    /// How many transactions were looked at in the search for room.
    looked_at: AtomicU64,
}

impl Mempool {
    /// An empty mempool.
    #[must_use]
    pub fn new(limits: MempoolLimits) -> Self {
        Self {
            limits,
            by_txid: HashMap::new(),
            by_sender: BTreeMap::new(),
            by_rate: BTreeSet::new(),
            ends: BTreeSet::new(),
            heads: BTreeSet::new(),
            by_expiry: BTreeSet::new(),
            expired: Expired::default(),
            incoming: HashMap::new(),
            bytes: 0,
            fees: 0,
            fates: HashMap::new(),
            fate_order: VecDeque::new(),
            looked_at: AtomicU64::new(0),
        }
    }

    /// How much the mempool may hold.
    #[must_use]
    pub fn limits(&self) -> &MempoolLimits {
        &self.limits
    }

    /// How many transactions are pending.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_txid.len()
    }

    /// Whether no transaction is pending.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_txid.is_empty()
    }

    /// Encoded bytes of all pending transactions.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Sum of the fees of all pending transactions, grains.
    #[must_use]
    pub fn fees(&self) -> u64 {
        u64::try_from(self.fees).unwrap_or(u64::MAX)
    }

    /// The pending transaction with a txid.
    #[must_use]
    pub fn get(&self, txid: &Txid) -> Option<&Arc<Pending>> {
        self.by_txid.get(txid)
    }

    /// Why a transaction left without being mined, if that is remembered.
    #[must_use]
    pub fn fate(&self, txid: &Txid) -> Option<&Fate> {
        self.fates.get(txid)
    }

    /// All pending transactions, highest fee rate first.
    pub fn iter_by_rate(&self) -> impl Iterator<Item = &Arc<Pending>> {
        self.by_rate
            .iter()
            .rev()
            .filter_map(|(_, txid)| self.by_txid.get(txid))
    }

    /// The txids of all pending transactions, highest fee rate first.
    pub fn txids_by_rate(&self) -> impl Iterator<Item = Txid> {
        self.by_rate.iter().rev().map(|(_, txid)| *txid)
    }

    /// The leaves of a block's transactions that are pending in these very bytes: their signatures
    /// were verified ([`VerifiedTransaction`]), so that connecting the block need not check them.
    #[must_use]
    pub fn verified_of(&self, block: &CheckedBlock) -> HashSet<Hash256> {
        let each = block.txids().iter().zip(block.leaf_hashes());
        each.filter(|(txid, leaf)| {
            let pending = self.by_txid.get(txid);
            pending.is_some_and(|pending| pending.checked().leaf_hash() == **leaf)
        })
        .map(|(_, leaf)| *leaf)
        .collect()
    }

    /// Whether a transaction with this txid expired here lately. It does not come back from peers.
    #[must_use]
    pub fn has_expired(&self, txid: &Txid) -> bool {
        self.expired.contains(txid)
    }

    /// The confirmed account of a sender with pending transactions, as it was last given.
    #[must_use]
    pub fn account_of(&self, sender: &Address) -> Option<&Account> {
        self.by_sender.get(sender).map(Queue::account)
    }

    /// The key of a sender with pending transactions, if it is on record or comes with one of them.
    #[must_use]
    pub fn key_of(&self, sender: &Address) -> Option<&PublicKey> {
        self.by_sender.get(sender).and_then(Queue::key)
    }

    /// How many transactions were looked at in the search for room in a full mempool, in all: for
    /// tests of what a refusal costs.
    #[must_use]
    pub fn looked_at(&self) -> u64 {
        self.looked_at.load(Ordering::Relaxed)
    }

    /// The pending transactions of one sender, by sequence.
    pub fn of_sender(&self, sender: &Address) -> impl Iterator<Item = &Arc<Pending>> {
        let queue = self.by_sender.get(sender);
        queue.into_iter().flat_map(Queue::iter)
    }

    /// Senders with pending transactions.
    pub fn senders(&self) -> impl Iterator<Item = &Address> {
        self.by_sender.keys()
    }

    /// The first sequence, from the account's own upwards, for which the sender has no pending
    /// transaction. For example, with account sequence 3 and pending 3, 4 and 6, it is 5.
    #[must_use]
    pub fn next_sequence(&self, sender: &Address, account_sequence: u64) -> u64 {
        let queue = self.by_sender.get(sender);
        queue.map_or(account_sequence, |queue| {
            queue.next_sequence(account_sequence)
        })
    }

    /// Whether a transaction could be mined now: no earlier one of its sender is missing.
    #[must_use]
    pub fn is_ready(&self, pending: &Pending, account_sequence: u64) -> bool {
        let body = pending.body();
        body.sequence < self.next_sequence(&body.sender, account_sequence)
    }

    /// Sum that pending transactions pay to an address.
    #[must_use]
    pub fn incoming(&self, address: &Address) -> Amount {
        let grains = self.incoming.get(address).copied().unwrap_or(0);
        u64::try_from(grains)
            .ok()
            .and_then(|grains| Amount::from_grains(grains).ok())
            .unwrap_or(Amount::MAX_MONEY)
    }

    /// All pending transactions, oldest first: the order in which they are logged.
    #[must_use]
    pub fn in_order_of_arrival(&self) -> Vec<Arc<Pending>> {
        let mut all: Vec<_> = self.by_txid.values().cloned().collect();
        // The txid comes last: without it, the order of equals would be that of a hash map.
        all.sort_by_key(|pending| {
            let sequence = pending.body().sequence;
            (pending.received, sequence, pending.txid())
        });
        all
    }

    /// Takes in a transaction; `account` is its sender's, used if it is the first of the sender.
    fn insert(&mut self, pending: Arc<Pending>, account: &Account) {
        let (body, txid) = (pending.body(), pending.txid());
        self.bytes += pending.size();
        self.fees += u128::from(body.fee.grains());
        self.by_rate.insert((pending.fee_rate(), txid));
        self.by_expiry.insert((pending.expires_ms, txid));
        for output in &body.outputs {
            *self.incoming.entry(output.recipient).or_default() +=
                u128::from(output.amount.grains());
        }
        self.fates.remove(&txid);
        self.expired.forget(&txid);
        self.by_txid.insert(txid, Arc::clone(&pending));
        let sender = body.sender;
        self.by_sender
            .entry(sender)
            .or_insert_with(|| Queue::new(account.clone()));
        self.change_queue(&sender, |queue| queue.insert(pending));
    }

    fn remove(&mut self, txid: &Txid) -> Option<Arc<Pending>> {
        let pending = self.by_txid.remove(txid)?;
        let body = pending.body();
        self.bytes -= pending.size();
        self.fees -= u128::from(body.fee.grains());
        self.by_rate.remove(&(pending.fee_rate(), *txid));
        self.by_expiry.remove(&(pending.expires_ms, *txid));
        for output in &body.outputs {
            if let Some(sum) = self.incoming.get_mut(&output.recipient) {
                *sum -= u128::from(output.amount.grains());
                if *sum == 0 {
                    self.incoming.remove(&output.recipient);
                }
            }
        }
        self.change_queue(&body.sender, |queue| queue.remove(body.sequence));
        Some(pending)
    }

    /// Changes a queue, and keeps the orders of ends and heads in step with it.
    fn change_queue(&mut self, sender: &Address, change: impl FnOnce(&mut Queue)) {
        let Some(queue) = self.by_sender.get_mut(sender) else {
            return;
        };
        if let Some(end) = queue.end() {
            self.ends.remove(&end);
        }
        if let Some(head) = queue.head() {
            self.heads.remove(&head);
        }
        change(queue);
        self.ends.extend(queue.end());
        self.heads.extend(queue.head());
        if queue.len() == 0 {
            self.by_sender.remove(sender);
        }
    }

    /// Removes a transaction and remembers the reason.
    fn remove_as(&mut self, txid: &Txid, fate: Fate) -> Option<PendingChange> {
        let pending = self.remove(txid)?;
        if self.fates.insert(*txid, fate.clone()).is_none() {
            self.fate_order.push_back(*txid);
        }
        while self.fate_order.len() > FATES_MAX {
            if let Some(oldest) = self.fate_order.pop_front() {
                self.fates.remove(&oldest);
            }
        }
        Some(PendingChange::Left(pending, fate))
    }
}
