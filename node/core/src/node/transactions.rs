//! Where the relay of transactions meets the mempool: the node judges the transactions that
//! peers send, and announces those that come in through its API. When to fetch or to announce
//! again is decided in `crate::sync`.

use pithead_consensus::check::TransactionError;
use pithead_consensus::{Address, SignedTransaction, Txid};

use super::{Effect, Node, Now, RejectedTransaction, Sink, TransactionVerdict};
use crate::chain::ChainUpdate;
use crate::mempool::{Obstacle, RejectReason};
use crate::store::StoreError;
use crate::sync::{PeerKey, ReceivedTransaction, Verdict};

/// A reorganisation of at least so many blocks is taken for the end of a network split: other
/// nodes may lack the transactions that it brings back.
const SPLIT_BLOCKS_MIN: usize = 3;
/// Most transactions announced after a reorganisation.
pub(super) const REPUBLISHED_MAX: usize = 1_000;
/// If more transactions than this are fetched at once, none of them is announced: it is this
/// node that was away, and the others know them.
const FETCHED_PUBLISHED_MAX: usize = 100;
/// Most pending transactions that are taken for local ones after a restart.
const RELOADED_LOCAL_MAX: usize = 1_000;

/// What the mempool makes of a transaction that a peer sent.
enum Fitness {
    Admitted,
    Known,
    /// A transaction or block that it builds on may be on its way.
    Orphan,
    /// Policy keeps it out.
    Declined,
    /// It breaks a rule and always will.
    Invalid,
}

impl Node {
    /// Announces a transaction that came in through this node.
    pub(super) fn announce_local(
        &mut self,
        txid: Txid,
        sender: &Address,
        now: Now,
        out: &mut Sink<'_>,
    ) {
        // The pending transaction, not the one that came: a duplicate may be a forged copy.
        let pending = self.read_mempool().get(&txid).cloned();
        let announced = self.with_view(now, |sync, view| {
            if let Some(pending) = pending {
                sync.local_transaction(view, txid, pending.transaction().clone());
            }
            Ok(())
        });
        if let Err(error) = announced.and_then(|()| self.retry_orphans(Some(sender), now, out)) {
            out(Effect::Fatal(error.to_string()));
        }
    }

    /// Takes pending transactions for local ones after a restart. It is not on record which of
    /// them are, and it does no harm to announce other nodes' transactions again.
    pub(super) fn track_reloaded(&mut self) {
        let reloaded = self.read_mempool().in_order_of_arrival();
        let newest = reloaded.iter().rev().take(RELOADED_LOCAL_MAX);
        let txids: Vec<_> = newest.map(|pending| pending.txid()).collect();
        let start = Now {
            unix_secs: 0,
            monotonic_ms: 0,
        };
        // If storage fails here, it fails again at the first event, which reports it.
        let _ = self.with_view(start, |sync, view| {
            txids.iter().for_each(|txid| sync.track_local(view, *txid));
            Ok(())
        });
    }

    /// After a network split has ended, announces the transactions that came back.
    pub(super) fn publish_taken_back(&mut self, update: &ChainUpdate) -> Result<(), StoreError> {
        if update.disconnected.len() < SPLIT_BLOCKS_MIN {
            return Ok(());
        }
        let mut back: Vec<SignedTransaction> = Vec::new();
        for hash in update.disconnected.iter().rev() {
            if back.len() >= REPUBLISHED_MAX || self.read_mempool().is_empty() {
                break;
            }
            let block = self.chain.block(hash)?;
            let mempool = self.read_mempool();
            let pending = block.txids().iter().filter_map(|txid| mempool.get(txid));
            let left = REPUBLISHED_MAX.saturating_sub(back.len());
            back.extend(pending.take(left).map(|each| each.transaction().clone()));
        }
        for transaction in back {
            self.sync.publish_transaction(transaction);
        }
        Ok(())
    }

    /// Judges a transaction that came by gossip.
    pub(super) fn judge_gossiped(
        &mut self,
        received: ReceivedTransaction,
        now: Now,
        out: &mut Sink<'_>,
    ) -> Result<(), StoreError> {
        let judges = self
            .sync
            .judges_transactions(received.from, now.monotonic_ms);
        if !judges {
            self.answer_gossip(&received, Verdict::Ignore);
            return Ok(());
        }
        let sender = received.transaction.body.sender;
        match self.judge(&received.transaction, now, out)? {
            Fitness::Admitted => {
                self.answer_gossip(&received, Verdict::Accept);
                self.retry_orphans(Some(&sender), now, out)
            }
            Fitness::Known => {
                self.answer_gossip(&received, Verdict::Ignore);
                Ok(())
            }
            Fitness::Declined => {
                self.answer_gossip(&received, Verdict::Ignore);
                self.hold_against(received.from, &received.transaction, now);
                Ok(())
            }
            Fitness::Invalid => {
                self.answer_gossip(&received, Verdict::Reject);
                self.blame_for_transaction(received.from, now)
            }
            Fitness::Orphan => {
                self.sync.hold_orphan(received);
                Ok(())
            }
        }
    }

    /// Holds it against a peer that its transaction was refused; returns the transaction's txid.
    fn hold_against(&mut self, peer: PeerKey, transaction: &SignedTransaction, now: Now) -> Txid {
        let txid = transaction.txid(&self.chain.params().genesis_hash);
        self.sync.refused(peer, txid, now.monotonic_ms);
        txid
    }

    fn answer_gossip(&mut self, received: &ReceivedTransaction, verdict: Verdict) {
        if let Some(id) = received.gossip {
            self.sync.verdict(received.from, id, verdict);
        }
    }

    fn blame_for_transaction(&mut self, peer: PeerKey, now: Now) -> Result<(), StoreError> {
        self.with_view(now, |sync, view| {
            sync.bad_transaction(view, peer);
            Ok(())
        })
    }

    /// Judges transactions that were fetched because gossip missed them.
    pub(super) fn take_fetched(
        &mut self,
        peer: PeerKey,
        transactions: Vec<SignedTransaction>,
        now: Now,
        out: &mut Sink<'_>,
    ) -> Result<(), StoreError> {
        let publish = transactions.len() <= FETCHED_PUBLISHED_MAX;
        let mut any_invalid = false;
        for transaction in transactions {
            match self.judge(&transaction, now, out)? {
                Fitness::Admitted => {
                    let sender = transaction.body.sender;
                    if publish {
                        self.sync.publish_transaction(transaction);
                    }
                    self.retry_orphans(Some(&sender), now, out)?;
                }
                Fitness::Known => {}
                Fitness::Declined => {
                    let txid = self.hold_against(peer, &transaction, now);
                    self.sync.declined(txid);
                }
                Fitness::Orphan => self.sync.hold_orphan(ReceivedTransaction {
                    transaction: Box::new(transaction),
                    from: peer,
                    gossip: None,
                    since_ms: now.monotonic_ms,
                }),
                // The rest is judged all the same, since it was asked of no other peer.
                Fitness::Invalid => any_invalid = true,
            }
        }
        if any_invalid {
            self.blame_for_transaction(peer, now)?;
        }
        Ok(())
    }

    /// Judges orphans again, of one sender or all: what they build on may be there now.
    pub(super) fn retry_orphans(
        &mut self,
        sender: Option<&Address>,
        now: Now,
        out: &mut Sink<'_>,
    ) -> Result<(), StoreError> {
        for orphan in self.sync.take_orphans(sender) {
            let verdict = match self.judge(&orphan.transaction, now, out)? {
                Fitness::Orphan => {
                    self.sync.hold_orphan(orphan);
                    continue;
                }
                Fitness::Admitted => Verdict::Accept,
                Fitness::Known | Fitness::Declined => Verdict::Ignore,
                Fitness::Invalid => Verdict::Reject,
            };
            match orphan.gossip {
                Some(id) => {
                    self.sync.verdict(orphan.from, id, verdict);
                    if verdict == Verdict::Reject {
                        self.blame_for_transaction(orphan.from, now)?;
                    }
                }
                None if verdict == Verdict::Accept => {
                    self.sync.publish_transaction(*orphan.transaction);
                }
                None => {}
            }
        }
        Ok(())
    }

    fn judge(
        &mut self,
        transaction: &SignedTransaction,
        now: Now,
        out: &mut Sink<'_>,
    ) -> Result<Fitness, StoreError> {
        let txid = transaction.txid(&self.chain.params().genesis_hash);
        if self.read_mempool().has_expired(&txid) {
            return Ok(Fitness::Declined);
        }
        match self.handle_transaction(transaction.clone(), now.unix_secs, out) {
            Ok((TransactionVerdict::Duplicate, _)) => Ok(Fitness::Known),
            Ok((TransactionVerdict::Accepted | TransactionVerdict::Replaced { .. }, _)) => {
                Ok(Fitness::Admitted)
            }
            Err(RejectedTransaction::Internal(error)) => Err(error),
            Err(RejectedTransaction::Rule(reason)) => Ok(fitness(&reason)),
        }
    }
}

/// Tells a reason that can pass from one that can't. An honest peer may be a block ahead of us,
/// or have other limits, and is not penalised for that.
fn fitness(reason: &RejectReason) -> Fitness {
    match reason {
        RejectReason::Rule(
            TransactionError::WrongSequence { .. } | TransactionError::InsufficientBalance { .. },
        )
        | RejectReason::InsufficientBalance { .. }
        | RejectReason::SequenceGap { .. }
        | RejectReason::FullAtAnyFee(Obstacle::MissingSequence { .. })
        | RejectReason::KeyUnknown { .. } => Fitness::Orphan,
        RejectReason::Rule(
            TransactionError::NoOutputs
            | TransactionError::ZeroOutput { .. }
            | TransactionError::TotalOutOfRange
            | TransactionError::KeyMissing
            | TransactionError::KeySuperfluous { .. }
            | TransactionError::KeyNotSenders { .. }
            | TransactionError::BadSignature,
        ) => Fitness::Invalid,
        // The recipient's account may be open at a peer that is a block ahead.
        RejectReason::Rule(TransactionError::OpeningTooSmall { .. })
        | RejectReason::SequenceUsed { .. }
        | RejectReason::FeeTooLow { .. }
        | RejectReason::ReplacementFeeTooLow { .. }
        | RejectReason::TooManyPending
        | RejectReason::Full { .. }
        | RejectReason::FullAtAnyFee(
            Obstacle::CheapPredecessor { .. } | Obstacle::OwnTransactions,
        ) => Fitness::Declined,
    }
}
