//! This node's own transactions: announced from time to time until they are
//! mined for good.

use pithead_consensus::{SignedTransaction, Txid};

use super::peer::Gossip;
use super::{Order, SyncState, View, mix};
use crate::store::schema;

/// Own transactions are announced again this often.
const REANNOUNCE_MS: u64 = 300_000;
/// Spread of that.
const REANNOUNCE_SPREAD_MS: u64 = 60_000;
/// Most own transactions kept track of.
const OWN_MAX: usize = 10_000;
/// Most announced again in a second.
const REANNOUNCED_PER_SWEEP: usize = 50;
/// Depth at which an own transaction counts as mined for good.
const SETTLED_BLOCKS: u64 = 20;

impl SyncState {
    /// This node brought a transaction in: tell everyone, and again until it
    /// is mined.
    pub(crate) fn own_transaction(
        &mut self,
        view: &View<'_>,
        txid: Txid,
        transaction: SignedTransaction,
    ) {
        if view.mempool().get(&txid).is_none() {
            // Mined already.
            return;
        }
        self.track_own(view, txid);
        if !self.peers.is_empty() {
            let gossip = Gossip::Transaction(Box::new(transaction));
            self.orders.push(Order::Publish(gossip));
        }
    }

    /// Announces a transaction from time to time from now on.
    pub(crate) fn track_own(&mut self, view: &View<'_>, txid: Txid) {
        if self.relay.own.len() < OWN_MAX {
            let due = self.next_announcement(view, &txid);
            self.relay.own.insert(txid, due);
        }
    }

    fn next_announcement(&self, view: &View<'_>, txid: &Txid) -> u64 {
        let number = u64::from_le_bytes(txid.0[..8].try_into().unwrap_or([0; 8]));
        let spread = mix(self.settings.seed, number) % REANNOUNCE_SPREAD_MS;
        view.ms.saturating_add(REANNOUNCE_MS + spread)
    }

    pub(super) fn announce_own(&mut self, view: &View<'_>) {
        if self.peers.is_empty() || self.status.syncing {
            return;
        }
        let due: Vec<Txid> = self
            .relay
            .own
            .iter()
            .filter(|(_, due)| **due <= view.ms)
            .map(|(txid, _)| *txid)
            .take(REANNOUNCED_PER_SWEEP)
            .collect();
        for txid in due {
            let pending = view.mempool().get(&txid).cloned();
            if let Some(pending) = &pending {
                let gossip = Gossip::Transaction(Box::new(pending.transaction().clone()));
                self.orders.push(Order::Publish(gossip));
            }
            // Mined lately, it may come back.
            let place = schema::place(view.store, &txid).ok().flatten();
            let lately = place.is_some_and(|place| {
                view.tip.height.0.saturating_sub(place.height.0) < SETTLED_BLOCKS
            });
            if pending.is_some() || lately {
                let next = self.next_announcement(view, &txid);
                self.relay.own.insert(txid, next);
            } else {
                self.relay.own.remove(&txid);
            }
        }
    }
}
