//! Certificates and approvals that gossip missed: whom to ask for them.
//! Certificates are fetched as soon as a peer knows of a higher one; approvals
//! while the highest checkpoint is not approved though it should be.

use pithead_consensus::{Certificate, Height};

use super::message::Request;
use super::peer::{Offence, PeerKey};
use super::requests::Asked;
use super::{SyncState, View, mix};

/// While a checkpoint is not approved, one peer is asked for approvals this
/// often.
const ASK_MS: u64 = 3_000;
/// Spread of that.
const ASK_SPREAD_MS: u64 = 2_000;

/// What is asked for, and when next.
#[derive(Debug, Default)]
pub(super) struct Approvals {
    pub(super) certificates_asked: bool,
    /// Ask from here rather than from the highest approved checkpoint: a source
    /// below it is not known.
    from: Option<Height>,
    /// When to ask for approvals again, and how often that was done.
    due_ms: u64,
    rounds: u64,
}

impl SyncState {
    pub(super) fn plan_approvals(&mut self, view: &View<'_>) {
        let Some(checkpoint) = view.checkpoint else {
            return;
        };
        if view.finality.conflict {
            return;
        }
        self.ask_certificates(view);
        let approved = view.finality.approved.height;
        if checkpoint <= approved || self.status.syncing {
            // What is on its way by gossip gets its time first.
            self.approvals.due_ms = view.ms.saturating_add(ASK_MS);
        } else if view.ms >= self.approvals.due_ms {
            self.ask_approvals(view, approved);
        }
    }

    fn ask_certificates(&mut self, view: &View<'_>) {
        if self.approvals.certificates_asked {
            return;
        }
        let approved = view.finality.approved.height;
        let knows_more = self
            .peers
            .iter()
            .filter(|(_, state)| state.quiet_until_ms <= view.ms)
            .filter_map(|(peer, state)| Some((state.status?.approved, *peer)))
            .filter(|(height, _)| *height > approved)
            .max_by_key(|(height, peer)| (*height, mix(self.settings.seed, peer.0)));
        let Some((_, peer)) = knows_more else {
            return;
        };
        let above = self.approvals.from.take().unwrap_or(approved);
        let request = Request::Certificates(above);
        if self.ask(view, peer, Asked::Certificates, request).is_some() {
            self.approvals.certificates_asked = true;
        }
    }

    fn ask_approvals(&mut self, view: &View<'_>, approved: Height) {
        self.approvals.rounds += 1;
        let seed = self.settings.seed ^ self.approvals.rounds;
        let spread = mix(seed, view.ms) % ASK_SPREAD_MS;
        self.approvals.due_ms = view.ms.saturating_add(ASK_MS + spread);
        let chosen = self
            .peers
            .iter()
            .filter(|(_, state)| state.quiet_until_ms <= view.ms)
            .map(|(peer, _)| *peer)
            .min_by_key(|peer| mix(seed, peer.0));
        if let Some(peer) = chosen {
            let request = Request::Approvals(approved);
            self.ask(view, peer, Asked::Approvals, request);
        }
    }

    /// Certificates came; `false` if there are none although the peer's status
    /// said so.
    pub(super) fn took_certificates(
        &mut self,
        view: &View<'_>,
        peer: PeerKey,
        certificates: &[Certificate],
    ) -> bool {
        let Some(state) = self.peers.get_mut(&peer) else {
            return false;
        };
        let promised = state
            .status
            .map_or(Height::GENESIS, |status| status.approved);
        let highest = certificates.iter().map(|each| each.link().target.height);
        let highest = highest.max().unwrap_or(Height::GENESIS);
        if certificates.is_empty() && promised > view.finality.approved.height {
            if let Some(status) = &mut state.status {
                status.approved = Height::GENESIS;
            }
            self.offend(view, peer, Offence::Withheld);
            return false;
        }
        // It may know of more by now.
        if let Some(status) = &mut state.status {
            status.approved = promised.max(highest);
        }
        true
    }

    /// A certificate's source is not known here: ask from there on.
    pub(crate) fn certificates_missing_from(&mut self, source: Height) {
        self.approvals.from = Some(Height(source.0.saturating_sub(1)));
    }

    /// A peer's certificates lead nowhere: do not ask it again for these.
    pub(crate) fn certificates_useless(&mut self, peer: PeerKey) {
        if let Some(status) = self
            .peers
            .get_mut(&peer)
            .and_then(|state| state.status.as_mut())
        {
            status.approved = Height::GENESIS;
        }
    }

    /// A peer sent an approval or a certificate that breaks a rule.
    pub(crate) fn bad_approval(&mut self, view: &View<'_>, peer: PeerKey) {
        self.offend(view, peer, Offence::InvalidApproval);
    }

    /// Tells every peer of an approval.
    pub(crate) fn publish_approval(&mut self, signed: pithead_consensus::SignedApproval) {
        if self.peers.is_empty() {
            return;
        }
        let gossip = super::Gossip::Approval(Box::new(signed));
        self.orders.push(super::Order::Publish(gossip));
    }
}
