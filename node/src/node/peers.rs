//! Where sync meets the chain and the mempool: hands what peers tell to
//! `crate::sync`, judges the blocks and transactions that it brings, and passes
//! its orders on.

use pithead_consensus::SignedTransaction;
use pithead_consensus::check::TransactionError;

use super::{Effect, Node, Now, RejectedTransaction, Sink, TransactionVerdict};
use crate::chain::{AcceptError, ChainUpdate};
use crate::mempool::RejectReason;
use crate::store::StoreError;
use crate::sync::{
    BodyVerdict, Delivered, Early, Gossip, GossipId, Order, PeerEvent, PeerKey, SyncState, Verdict,
    View,
};

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

impl From<Order> for Effect {
    fn from(order: Order) -> Self {
        match order {
            Order::Request(peer, id, request) => Self::Request { peer, id, request },
            Order::Verdict(peer, id, verdict) => Self::Verdict { peer, id, verdict },
            Order::Publish(gossip) => Self::Publish(gossip),
            Order::Disconnect(peer, reason, ban) => Self::Disconnect { peer, reason, ban },
            Order::Scored(peer, points) => Self::PeerScored { peer, points },
        }
    }
}

impl Node {
    /// Lets sync do something with the node as it is now.
    fn with_view<T>(
        &mut self,
        now: Now,
        act: impl FnOnce(&mut SyncState, &View<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let snapshot = self.chain.store().snapshot()?;
        let view = View {
            params: self.chain.params(),
            store: snapshot.as_ref(),
            tip: self.chain.tip(),
            mempool: &self.mempool,
            unix_secs: now.unix_secs,
            ms: now.monotonic_ms,
        };
        act(&mut self.sync, &view)
    }

    fn pass_orders_on(&mut self, out: &mut Sink<'_>) {
        let orders = self.sync.take_orders();
        orders.into_iter().map(Effect::from).for_each(out);
    }

    pub(super) fn handle_peer(&mut self, event: PeerEvent, now: Now, out: &mut Sink<'_>) {
        if let Err(error) = self.try_handle_peer(event, now, out) {
            out(Effect::Fatal(error.to_string()));
        }
    }

    fn try_handle_peer(
        &mut self,
        event: PeerEvent,
        now: Now,
        out: &mut Sink<'_>,
    ) -> Result<(), StoreError> {
        match event {
            PeerEvent::Connected { peer, .. } => self.with_view(now, |sync, view| {
                sync.connected(view, peer);
                Ok(())
            }),
            PeerEvent::Disconnected { peer } => {
                self.sync.disconnected(peer);
                Ok(())
            }
            PeerEvent::Response { peer, id, response } => {
                let delivered = self.with_view(now, |sync, view| {
                    sync.answered(view, peer, id, response)
                })?;
                match delivered {
                    Delivered::Nothing => Ok(()),
                    Delivered::Transactions(transactions) => {
                        self.take_fetched(peer, transactions, now, out)
                    }
                }
            }
            PeerEvent::Gossip { peer, id, gossip } => match gossip {
                Gossip::Block(header) => self.with_view(now, |sync, view| {
                    sync.announced(view, peer, id, &header)
                }),
                Gossip::Transaction(transaction) => {
                    self.judge_gossiped(peer, id, *transaction, now, out)
                }
            },
        }
    }

    /// Judges what has come, and asks for what comes next.
    pub(super) fn advance(&mut self, now: Now, out: &mut Sink<'_>) {
        if let Err(error) = self.try_advance(now, out) {
            out(Effect::Fatal(error.to_string()));
        }
    }

    fn try_advance(&mut self, now: Now, out: &mut Sink<'_>) -> Result<(), StoreError> {
        loop {
            self.with_view(now, |sync, view| sync.plan(view))?;
            if let Some(status) = self.sync.refresh_status(self.chain.tip()) {
                out(Effect::SyncChanged(status));
                self.renew_stale_template(now.unix_secs, out)?;
            }
            self.pass_orders_on(out);
            let Some(body) = self.sync.next_body() else {
                return Ok(());
            };
            let (hash, from) = (body.hash, body.from);
            let result = self.accept_block(body.block, now.unix_secs, out);
            let stored = result.is_ok();
            let verdict = match result {
                Ok(_) | Err(AcceptError::Known { .. }) => BodyVerdict::Stored,
                Err(AcceptError::Invalid(error)) if error.condemns_header() => {
                    BodyVerdict::Invalid { bad: hash }
                }
                Err(AcceptError::Invalid(_)) => BodyVerdict::Mutated,
                Err(AcceptError::InvalidAncestor { ancestor }) => {
                    BodyVerdict::Invalid { bad: ancestor }
                }
                Err(AcceptError::NotYet(_) | AcceptError::TooDeep { .. }) => BodyVerdict::Unusable,
                Err(AcceptError::Internal(error)) => return Err(error),
            };
            self.with_view(now, |sync, view| {
                sync.judged(view, hash, from, verdict);
                Ok(())
            })?;
            if stored {
                self.retry_waiting(now.unix_secs, out);
                self.retry_early(None, now, out)?;
            }
        }
    }

    pub(super) fn sweep_peers(&mut self, now: Now, out: &mut Sink<'_>) {
        let swept = self.with_view(now, |sync, view| {
            sync.sweep(view);
            Ok(())
        });
        if let Err(error) = swept {
            out(Effect::Fatal(error.to_string()));
        }
    }

    /// Tells everyone of a transaction that came in through this node.
    pub(super) fn announce_own(
        &mut self,
        transaction: SignedTransaction,
        now: Now,
        out: &mut Sink<'_>,
    ) {
        let txid = transaction.txid(&self.chain.params().genesis_hash);
        let sender = transaction.body.sender;
        let told = self.with_view(now, |sync, view| {
            sync.own_transaction(view, txid, transaction);
            Ok(())
        });
        if let Err(error) = told.and_then(|()| self.retry_early(Some(&sender), now, out)) {
            out(Effect::Fatal(error.to_string()));
        }
    }

    /// Which of the reloaded transactions are this node's own is not on
    /// record; announcing those of others again does no harm.
    pub(super) fn track_reloaded(&mut self) {
        let reloaded = self.read_mempool().in_order_of_arrival();
        let newest = reloaded.iter().rev().take(RELOADED_OWN_MAX);
        let txids: Vec<_> = newest.map(|pending| pending.txid).collect();
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
    pub(super) fn publish_taken_back(&mut self, update: &ChainUpdate) {
        if update.disconnected.len() < SPLIT_BLOCKS_MIN {
            return;
        }
        let txids = update.disconnected.iter().rev().flat_map(|block| block.txids());
        let back: Vec<SignedTransaction> = {
            let mempool = self.read_mempool();
            let pending = txids.filter_map(|txid| mempool.get(txid));
            pending
                .take(REPUBLISHED_MAX)
                .map(|pending| pending.transaction.clone())
                .collect()
        };
        for transaction in back {
            self.sync.publish_transaction(transaction);
        }
    }

    fn judge_gossiped(
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
                    gossip: Some((peer, id)),
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
    fn take_fetched(
        &mut self,
        peer: PeerKey,
        transactions: Vec<SignedTransaction>,
        now: Now,
        out: &mut Sink<'_>,
    ) -> Result<(), StoreError> {
        let publish = transactions.len() <= FETCHED_PUBLISHED_MAX;
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
                    gossip: None,
                    since_ms: now.monotonic_ms,
                }),
                Fitness::Bad => {
                    // Not what it listed: everything of it is doubtful.
                    return self.with_view(now, |sync, view| {
                        sync.bad_transaction(view, peer);
                        Ok(())
                    });
                }
            }
        }
        Ok(())
    }

    /// Tries transactions again that came before what they build on.
    fn retry_early(
        &mut self,
        sender: Option<&pithead_consensus::Address>,
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
                Some((peer, id)) => {
                    self.sync.verdict(peer, id, verdict);
                    if verdict == Verdict::Reject {
                        self.with_view(now, |sync, view| {
                            sync.bad_transaction(view, peer);
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
            Ok(TransactionVerdict::Duplicate) => Ok(Fitness::Known),
            Ok(TransactionVerdict::Accepted | TransactionVerdict::Replaced { .. }) => {
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
