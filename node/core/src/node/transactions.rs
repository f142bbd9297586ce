//! Where the relay of transactions meets the mempool: judges what peers bring,
//! and tells them of what comes in here.

use pithead_consensus::check::TransactionError;
use pithead_consensus::{Address, SignedTransaction, Txid};

use super::{Effect, Node, Now, RejectedTransaction, Sink, TransactionVerdict};
use crate::chain::ChainUpdate;
use crate::mempool::RejectReason;
use crate::store::StoreError;
use crate::sync::{Early, GossipId, PeerKey, Verdict};

/// Reorganisations of at least so many blocks end a split, after which others
/// may lack the transactions that come back.
const SPLIT_BLOCKS_MIN: usize = 3;
/// Most transactions told of after a reorganisation.
const REPUBLISHED_MAX: usize = 1_000;
/// Most fetched at once that are told of: more means that it is this node that
/// was away.
const FETCHED_PUBLISHED_MAX: usize = 100;
/// Most pending transactions taken as this node's own after a restart.
const RELOADED_OWN_MAX: usize = 1_000;

/// What is to be done with a transaction that a peer brought.
enum Fitness {
    Admitted,
    Known,
    /// What it builds on may be on its way.
    Early,
    /// Policy keeps it out.
    Declined,
    /// It breaks a rule for ever.
    Bad,
}

impl Node {
    /// Tells everyone of a transaction that came in through this node.
    pub(super) fn announce_own(
        &mut self,
        txid: Txid,
        sender: &Address,
        now: Now,
        out: &mut Sink<'_>,
    ) {
        // The pending transaction, not the one that came: a duplicate may be a forged copy.
        let pending = self.read_mempool().get(&txid).cloned();
        let told = self.with_view(now, |sync, view| {
            if let Some(pending) = pending {
                sync.own_transaction(view, txid, pending.transaction().clone());
            }
            Ok(())
        });
        if let Err(error) = told.and_then(|()| self.retry_early(Some(sender), now, out)) {
            out(Effect::Fatal(error.to_string()));
        }
    }

    /// Which of the reloaded transactions are this node's own is not on
    /// record; announcing those of others again does no harm.
    pub(super) fn track_reloaded(&mut self) {
        let reloaded = self.read_mempool().in_order_of_arrival();
        let newest = reloaded.iter().rev().take(RELOADED_OWN_MAX);
        let txids: Vec<_> = newest.map(|pending| pending.txid()).collect();
        let start = Now {
            unix_secs: 0,
            monotonic_ms: 0,
        };
        // A snapshot that fails now fails again at the first event.
        let _ = self.with_view(start, |sync, view| {
            txids.iter().for_each(|txid| sync.track_own(view, *txid));
            Ok(())
        });
    }

    /// After a split has ended, tells everyone of what came back.
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

    pub(super) fn judge_gossiped(
        &mut self,
        peer: PeerKey,
        id: GossipId,
        transaction: SignedTransaction,
        now: Now,
        out: &mut Sink<'_>,
    ) -> Result<(), StoreError> {
        if !self.sync.judges_transactions(peer) {
            self.sync.verdict(peer, id, Verdict::Ignore);
            return Ok(());
        }
        let sender = transaction.body.sender;
        let verdict = match self.judge(&transaction, now, out)? {
            Fitness::Admitted => Verdict::Accept,
            Fitness::Known | Fitness::Declined => Verdict::Ignore,
            Fitness::Bad => {
                self.sync.verdict(peer, id, Verdict::Reject);
                return self.with_view(now, |sync, view| {
                    sync.bad_transaction(view, peer);
                    Ok(())
                });
            }
            Fitness::Early => {
                self.sync.hold_early(Early {
                    transaction: Box::new(transaction),
                    from: peer,
                    gossip: Some(id),
                    since_ms: now.monotonic_ms,
                });
                return Ok(());
            }
        };
        self.sync.verdict(peer, id, verdict);
        if verdict == Verdict::Accept {
            self.retry_early(Some(&sender), now, out)?;
        }
        Ok(())
    }

    /// Takes in transactions that were fetched because gossip missed them.
    pub(super) fn take_fetched(
        &mut self,
        peer: PeerKey,
        transactions: Vec<SignedTransaction>,
        now: Now,
        out: &mut Sink<'_>,
    ) -> Result<(), StoreError> {
        let publish = transactions.len() <= FETCHED_PUBLISHED_MAX;
        let mut bad = false;
        for transaction in transactions {
            match self.judge(&transaction, now, out)? {
                Fitness::Admitted => {
                    let sender = transaction.body.sender;
                    if publish {
                        self.sync.publish_transaction(transaction);
                    }
                    self.retry_early(Some(&sender), now, out)?;
                }
                Fitness::Known => {}
                Fitness::Declined => {
                    let txid = transaction.txid(&self.chain.params().genesis_hash);
                    self.sync.declined(txid);
                }
                Fitness::Early => self.sync.hold_early(Early {
                    transaction: Box::new(transaction),
                    from: peer,
                    gossip: None,
                    since_ms: now.monotonic_ms,
                }),
                // The others are judged all the same: they are asked of nobody else.
                Fitness::Bad => bad = true,
            }
        }
        if bad {
            self.with_view(now, |sync, view| {
                sync.bad_transaction(view, peer);
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Tries transactions again that came before what they build on.
    pub(super) fn retry_early(
        &mut self,
        sender: Option<&Address>,
        now: Now,
        out: &mut Sink<'_>,
    ) -> Result<(), StoreError> {
        for early in self.sync.take_early(sender) {
            let verdict = match self.judge(&early.transaction, now, out)? {
                Fitness::Early => {
                    self.sync.hold_early(early);
                    continue;
                }
                Fitness::Admitted => Verdict::Accept,
                Fitness::Known | Fitness::Declined => Verdict::Ignore,
                Fitness::Bad => Verdict::Reject,
            };
            match early.gossip {
                Some(id) => {
                    self.sync.verdict(early.from, id, verdict);
                    if verdict == Verdict::Reject {
                        self.with_view(now, |sync, view| {
                            sync.bad_transaction(view, early.from);
                            Ok(())
                        })?;
                    }
                }
                None if verdict == Verdict::Accept => {
                    self.sync.publish_transaction(*early.transaction);
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

/// Tells what can change from what can't: an honest peer may be a block ahead,
/// or keep to other limits.
fn fitness(reason: &RejectReason) -> Fitness {
    match reason {
        RejectReason::Rule(
            TransactionError::WrongSequence { .. } | TransactionError::InsufficientBalance { .. },
        )
        | RejectReason::InsufficientBalance { .. }
        | RejectReason::SequenceGap { .. }
        | RejectReason::KeyUnknown { .. } => Fitness::Early,
        RejectReason::Rule(
            TransactionError::NoOutputs
            | TransactionError::ZeroOutput { .. }
            | TransactionError::TotalOutOfRange
            | TransactionError::KeyMissing
            | TransactionError::KeySuperfluous { .. }
            | TransactionError::KeyNotSenders { .. }
            | TransactionError::BadSignature,
        ) => Fitness::Bad,
        RejectReason::SequenceUsed { .. }
        | RejectReason::FeeTooLow { .. }
        | RejectReason::ReplacementFeeTooLow { .. }
        | RejectReason::TooManyPending
        | RejectReason::Full { .. } => Fitness::Declined,
    }
}
