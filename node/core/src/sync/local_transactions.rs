//! This node's local transactions, those that came in through its API: it announces each
//! of them again from time to time until it is mined and deep in the chain.

use std::collections::BTreeMap;

use pithead_consensus::{SignedTransaction, Txid};

use super::node_view::NodeView;
use super::peer_events::Gossip;
use super::{PeerEffect, SyncState, mix};
use crate::store::schema;

/// A local transaction is announced again after this.
const REANNOUNCE_MS: u64 = 300_000;
/// A random part of this is added.
const REANNOUNCE_SPREAD_MS: u64 = 60_000;
/// Most local transactions that are tracked.
const LOCAL_MAX: usize = 10_000;
/// Most transactions announced again in one sweep, which is once a second.
const REANNOUNCED_PER_SWEEP: usize = 50;
/// A transaction this many blocks below the tip is not tracked any more: no reorganisation
/// is expected to bring it back.
const SETTLED_BLOCKS: u64 = 20;

/// Local transactions, and when to announce each again, milliseconds.
#[derive(Debug, Default)]
pub(super) struct LocalTransactions(BTreeMap<Txid, u64>);

impl LocalTransactions {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The first peer has connected: all are announced with the next sweeps.
    pub(super) fn announce_soon(&mut self, now_ms: u64) {
        self.0.values_mut().for_each(|due_ms| *due_ms = now_ms);
    }
}

impl SyncState {
    /// Announces a transaction that came in through this node, and tracks it.
    pub(crate) fn local_transaction(
        &mut self,
        view: &NodeView<'_>,
        txid: Txid,
        transaction: SignedTransaction,
    ) {
        if view.mempool().get(&txid).is_none() {
            // It is mined already.
            return;
        }
        self.track_local(view, txid);
        if !self.peers.is_empty() {
            let gossip = Gossip::Transaction(Box::new(transaction));
            self.effects.push(PeerEffect::Publish(gossip));
        }
    }

    /// Announces a transaction from time to time from now on.
    pub(crate) fn track_local(&mut self, view: &NodeView<'_>, txid: Txid) {
        if self.local.len() < LOCAL_MAX {
            let due_ms = self.next_announcement(view, &txid);
            self.local.0.insert(txid, due_ms);
        }
    }

    fn next_announcement(&self, view: &NodeView<'_>, txid: &Txid) -> u64 {
        let number = u64::from_le_bytes(txid.0[..8].try_into().unwrap_or([0; 8]));
        let spread = mix(self.settings.seed, number) % REANNOUNCE_SPREAD_MS;
        view.ms.saturating_add(REANNOUNCE_MS + spread)
    }

    /// Announces the local transactions that are due.
    pub(super) fn announce_local(&mut self, view: &NodeView<'_>) {
        if self.peers.is_empty() || self.status.syncing {
            return;
        }
        let due: Vec<Txid> = self
            .local
            .0
            .iter()
            .filter(|(_, due_ms)| **due_ms <= view.ms)
            .map(|(txid, _)| *txid)
            .take(REANNOUNCED_PER_SWEEP)
            .collect();
        for txid in due {
            let pending = view.mempool().get(&txid).cloned();
            if let Some(pending) = &pending {
                let gossip = Gossip::Transaction(Box::new(pending.transaction().clone()));
                self.effects.push(PeerEffect::Publish(gossip));
            }
            // A reorganisation may bring back what was mined lately.
            let place = schema::place(view.store, &txid).ok().flatten();
            let lately = place.is_some_and(|place| {
                view.tip.height.0.saturating_sub(place.height.0) < SETTLED_BLOCKS
            });
            if pending.is_some() || lately {
                let next = self.next_announcement(view, &txid);
                self.local.0.insert(txid, next);
            } else {
                self.local.0.remove(&txid);
            }
        }
    }
}
