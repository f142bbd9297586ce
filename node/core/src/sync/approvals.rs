//! Which peers are asked for approvals that gossip missed, while the highest checkpoint of our
//! chain is not approved. The node checks them. Certificates are asked for in
//! `certificate_walks`.

use pithead_consensus::{Height, SignedApproval};

use super::message::Request;
use super::node_view::NodeView;
use super::peer_events::{Gossip, Offence, PeerKey};
use super::requests::RequestContext;
use super::{PeerEffect, SyncState, mix};
use crate::store::StoreError;

/// While the highest checkpoint is not approved, one peer is asked for approvals this often.
const ASK_MS: u64 = 3_000;
/// A random part of this is added.
const ASK_SPREAD_MS: u64 = 2_000;

/// When approvals are asked for.
#[derive(Debug, Default)]
pub(super) struct ApprovalRequests {
    /// When to ask again.
    due_ms: u64,
    /// How often approvals have been asked for.
    rounds: u64,
}

impl SyncState {
    /// Makes the requests for certificates and approvals that are due.
    pub(super) fn plan_approvals(&mut self, view: &NodeView<'_>) -> Result<(), StoreError> {
        let Some(checkpoint) = view.checkpoint else {
            return Ok(());
        };
        let approved = view.approved_on_best()?.height;
        self.plan_walks(view, approved);
        if view.finality.status().conflict {
            return Ok(());
        }
        if checkpoint <= approved || self.status.syncing {
            // Approvals get time to come by gossip first.
            self.approvals.due_ms = view.ms.saturating_add(ASK_MS);
        } else if view.ms >= self.approvals.due_ms {
            self.ask_approvals(view, approved);
        }
        Ok(())
    }

    fn ask_approvals(&mut self, view: &NodeView<'_>, approved: Height) {
        self.approvals.rounds += 1;
        let seed = self.settings.seed ^ self.approvals.rounds;
        let spread = mix(seed, view.ms) % ASK_SPREAD_MS;
        self.approvals.due_ms = view.ms.saturating_add(ASK_MS + spread);
        let chosen = self
            .peers
            .iter()
            .filter(|(_, state)| !state.responses.is_paused(view.ms))
            .map(|(peer, _)| *peer)
            .min_by_key(|peer| mix(seed, peer.0));
        if let Some(peer) = chosen {
            let request = Request::Approvals(approved);
            self.ask(view, peer, RequestContext::Approvals, request);
        }
    }

    /// A peer sent an approval or a certificate that breaks a rule.
    pub(crate) fn bad_approval(&mut self, view: &NodeView<'_>, peer: PeerKey) {
        self.offend(view, peer, Offence::InvalidApproval);
    }

    /// Announces an approval to every peer.
    pub(crate) fn publish_approval(&mut self, signed: SignedApproval) {
        if self.peers.is_empty() {
            return;
        }
        let gossip = Gossip::Approval(Box::new(signed));
        self.effects.push(PeerEffect::Publish(gossip));
    }
}
