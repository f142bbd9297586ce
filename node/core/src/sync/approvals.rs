//! Certificates and approvals that gossip missed: whom to ask for them.
//!
//! A peer's status names the highest checkpoint that it knows to be approved. If that
//! is not among ours, its certificates are gone through in a [`Walk`]: up from what is
//! approved here, or, where its chain of certificates is another one, down until a
//! source is known and up from there. So two sides that approved different blocks find
//! out, wherever they parted. Approvals are asked for while the highest checkpoint is
//! not approved though it should be.

use std::collections::BTreeMap;

use pithead_consensus::{Certificate, Checkpoint, Height};

use super::message::{APPROVAL_BYTES, CONTENT_BYTES_MAX, IDS_MAX, Request, Status};
use super::peer::{Offence, PeerKey};
use super::requests::Asked;
use super::{SyncState, View, mix};

/// While a checkpoint is not approved, one peer is asked for approvals this
/// often.
const ASK_MS: u64 = 3_000;
/// Spread of that.
const ASK_SPREAD_MS: u64 = 2_000;
/// Peers whose certificates are gone through at a time.
const WALKS_MAX: usize = 3;
/// The same of those that called us: one place is kept for a peer of our own choice.
const WALKS_INBOUND_MAX: usize = 2;
/// A second peer's are gone through beside the first's if that one has brought nothing
/// for this long.
const PATIENCE_MS: u64 = 3_000;
/// The first step down where a source is not known, checkpoints; each further one
/// is twice as long.
const STEP_DOWN: u64 = 16;
/// Steps down in one walk: enough for a chain of any length.
const STEPS_DOWN_MAX: u32 = 64;
/// A peer is asked for its status ahead of time at most this often.
const HURRY_MS: u64 = 5_000;

/// Why a peer's certificates were judged no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CertificatesEnd {
    /// All hold; the last one's target.
    Taken(Checkpoint),
    /// The source of one is not approved here.
    SourceUnknown,
    /// One breaks a rule.
    Invalid,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The next request may be made.
    Ready,
    Asked,
    /// The node judges what came.
    Judging,
}

/// One peer's certificates on their way.
#[derive(Debug)]
struct Walk {
    /// The approved checkpoint of its status: where the walk ends.
    claim: Checkpoint,
    /// Those above this height are asked for.
    above: Height,
    steps_down: u32,
    stage: Stage,
    /// The answer that is judged does not reach the claim, though there was room.
    falls_short: bool,
}

/// What is asked for, and when next.
#[derive(Debug, Default)]
pub(super) struct Approvals {
    walks: BTreeMap<PeerKey, Walk>,
    /// What came to an end with each peer: not asked for again.
    settled: BTreeMap<PeerKey, Checkpoint>,
    /// When certificates last came, or a walk began.
    progress_ms: u64,
    /// When a peer's status was last asked for ahead of time.
    hurried: BTreeMap<PeerKey, u64>,
    /// When to ask for approvals again, and how often that was done.
    due_ms: u64,
    rounds: u64,
}

impl Approvals {
    pub(super) fn forget_peer(&mut self, peer: PeerKey) {
        self.walks.remove(&peer);
        self.settled.remove(&peer);
        self.hurried.remove(&peer);
    }

    /// A request for certificates got its answer, or was given up.
    pub(super) fn unbook(&mut self, peer: PeerKey) {
        if let Some(walk) = self.walks.get_mut(&peer)
            && walk.stage == Stage::Asked
        {
            walk.stage = Stage::Ready;
        }
    }

    /// A request for certificates failed: others may be asked.
    pub(super) fn failed(&mut self, peer: PeerKey) {
        self.walks.remove(&peer);
    }

    /// Ends a walk; the peer's claim is of no more interest.
    fn settle(&mut self, peer: PeerKey) {
        if let Some(walk) = self.walks.remove(&peer) {
            self.settled.insert(peer, walk.claim);
        }
    }
}

/// What a status claims to be approved. Nobody needs to believe more of it than that
/// the chain reaches there.
fn claim(status: &Status) -> Option<Checkpoint> {
    let claimed = status.approved;
    (claimed.height <= status.height && claimed.height > Height::GENESIS).then_some(claimed)
}

/// Whether a peer that has more would have given no more: a next one might not have
/// gone into the answer.
fn is_full(certificates: &[Certificate]) -> bool {
    let bytes: usize = certificates
        .iter()
        .map(|each| each.count().saturating_mul(APPROVAL_BYTES))
        .sum();
    certificates.len() >= IDS_MAX || bytes >= CONTENT_BYTES_MAX / 2
}

/// Whether these can be an honest peer's certificates above a height: ascending, each
/// from a source that is at or below that height or among those before it.
fn is_in_order(certificates: &[Certificate], above: Height) -> bool {
    let mut last = above;
    let mut before = BTreeMap::new();
    for certificate in certificates {
        let link = certificate.link();
        let follows = link.source.height <= above
            || before.get(&link.source.height) == Some(&link.source.hash);
        if link.target.height <= last || !follows {
            return false;
        }
        last = link.target.height;
        before.insert(last, link.target.hash);
    }
    true
}

impl SyncState {
    pub(super) fn plan_approvals(&mut self, view: &View<'_>) {
        let Some(checkpoint) = view.checkpoint else {
            return;
        };
        if view.finality.status().conflict {
            self.approvals.walks.clear();
            return;
        }
        self.go_on_walking(view);
        self.begin_walk(view);
        let approved = view.finality.status().approved.height;
        if checkpoint <= approved || self.status.syncing {
            // What is on its way by gossip gets its time first.
            self.approvals.due_ms = view.ms.saturating_add(ASK_MS);
        } else if view.ms >= self.approvals.due_ms {
            self.ask_approvals(view, approved);
        }
    }

    /// Whether nothing large is to be asked of a peer now.
    fn is_quiet(&self, view: &View<'_>, peer: PeerKey) -> bool {
        let state = self.peers.get(&peer);
        state.is_none_or(|state| state.quiet_until_ms > view.ms)
    }

    /// Makes the next request of every walk that is due.
    fn go_on_walking(&mut self, view: &View<'_>) {
        let ready = self.approvals.walks.iter();
        let ready: Vec<(PeerKey, Checkpoint, Height)> = ready
            .filter(|(_, walk)| walk.stage == Stage::Ready)
            .map(|(peer, walk)| (*peer, walk.claim, walk.above))
            .collect();
        for (peer, claim, above) in ready {
            if view.finality.is_approved(&claim) {
                // Another peer brought it meanwhile.
                self.approvals.settle(peer);
            } else if !self.is_quiet(view, peer) {
                self.ask_certificates(view, peer, above);
            }
        }
    }

    fn ask_certificates(&mut self, view: &View<'_>, peer: PeerKey, above: Height) {
        let request = Request::Certificates(above);
        let asked = self.ask(view, peer, Asked::Certificates, request).is_some();
        if let Some(walk) = self.approvals.walks.get_mut(&peer)
            && asked
        {
            walk.stage = Stage::Asked;
        }
    }

    /// Turns to another peer that claims what is not known here, by lot: claiming
    /// costs nothing. One at a time, unless it is slow.
    fn begin_walk(&mut self, view: &View<'_>) {
        let busy = |inbound_too: bool| {
            let walks = self.approvals.walks.keys();
            let counted = walks.filter(|peer| {
                let inbound = self.peers.get(*peer).is_some_and(|state| state.inbound);
                !self.is_quiet(view, **peer) && (inbound_too || inbound)
            });
            counted.count()
        };
        let (all, inbound) = (busy(true), busy(false));
        let idle_ms = view.ms.saturating_sub(self.approvals.progress_ms);
        if all >= WALKS_MAX || (all > 0 && idle_ms < PATIENCE_MS) {
            return;
        }
        let seed = self.settings.seed ^ view.ms;
        let approvals = &self.approvals;
        let chosen = self
            .peers
            .iter()
            .filter(|(peer, state)| {
                state.quiet_until_ms <= view.ms
                    && !approvals.walks.contains_key(peer)
                    && (!state.inbound || inbound < WALKS_INBOUND_MAX)
            })
            .filter_map(|(peer, state)| Some((*peer, claim(&state.status?)?)))
            .filter(|(peer, claim)| approvals.settled.get(peer) != Some(claim))
            .filter(|(_, claim)| !view.finality.is_approved(claim))
            .min_by_key(|(peer, _)| mix(seed, peer.0));
        let Some((peer, claim)) = chosen else {
            return;
        };
        let below = claim.height.0.saturating_sub(1);
        let above = Height(view.finality.status().approved.height.0.min(below));
        let walk = Walk {
            claim,
            above,
            steps_down: 0,
            stage: Stage::Ready,
            falls_short: false,
        };
        self.approvals.walks.insert(peer, walk);
        self.approvals.progress_ms = view.ms;
        self.ask_certificates(view, peer, above);
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

    /// Certificates came; `true` if they are worth judging.
    pub(super) fn took_certificates(
        &mut self,
        view: &View<'_>,
        peer: PeerKey,
        certificates: &[Certificate],
    ) -> bool {
        let Some(walk) = self.approvals.walks.get_mut(&peer) else {
            return false;
        };
        if walk.stage == Stage::Judging {
            return false;
        }
        let targets = certificates.iter().map(|each| each.link().target);
        let reaches = targets
            .clone()
            .any(|target| target.height >= walk.claim.height);
        let shown = targets.clone().any(|target| target == walk.claim);
        // What it claims must be there, at the end of what it has at the latest.
        let offence = if certificates.is_empty() || (reaches && !shown) {
            Some(Offence::Withheld)
        } else if is_in_order(certificates, walk.above) {
            None
        } else {
            Some(Offence::UselessCertificates)
        };
        if let Some(offence) = offence {
            self.approvals.settle(peer);
            self.offend(view, peer, offence);
            return false;
        }
        walk.stage = Stage::Judging;
        walk.falls_short = !reaches && !is_full(certificates);
        true
    }

    /// Whether the node is to go on judging a peer's certificates.
    pub(crate) fn is_judging(&self, peer: PeerKey) -> bool {
        let walk = self.approvals.walks.get(&peer);
        walk.is_some_and(|walk| walk.stage == Stage::Judging)
    }

    /// Certificates came that were not known: whoever gives them is not too slow.
    pub(crate) fn certificates_are_news(&mut self, ms: u64) {
        self.approvals.progress_ms = ms;
    }

    /// A peer's certificates were judged: how its walk goes on.
    pub(crate) fn certificates_judged(
        &mut self,
        view: &View<'_>,
        peer: PeerKey,
        end: CertificatesEnd,
    ) {
        if view.finality.status().conflict && end != CertificatesEnd::Invalid {
            self.approvals.settle(peer);
            return;
        }
        let Some(walk) = self.approvals.walks.get_mut(&peer) else {
            return;
        };
        walk.stage = Stage::Ready;
        match end {
            CertificatesEnd::Taken(last) => {
                walk.above = last.height;
                let falls_short = walk.falls_short;
                if last.height >= walk.claim.height || falls_short {
                    self.approvals.settle(peer);
                }
                // Whoever has more gives as many as go into an answer: one by one, they
                // would keep others from being asked.
                if falls_short {
                    self.offend(view, peer, Offence::Withheld);
                }
            }
            CertificatesEnd::SourceUnknown
                if walk.above > Height::GENESIS && walk.steps_down < STEPS_DOWN_MAX =>
            {
                let interval = u64::from(view.params.checkpoint_interval);
                let doubled = 1_u64.checked_shl(walk.steps_down).unwrap_or(u64::MAX);
                let step = STEP_DOWN.saturating_mul(doubled).saturating_mul(interval);
                walk.above = Height(walk.above.0.saturating_sub(step));
                walk.steps_down += 1;
            }
            CertificatesEnd::SourceUnknown => {
                // From the genesis on, every source is shown before it is used.
                self.approvals.settle(peer);
                self.offend(view, peer, Offence::UselessCertificates);
            }
            CertificatesEnd::Invalid => {
                self.approvals.settle(peer);
                self.bad_approval(view, peer);
            }
        }
    }

    /// Whether asking a peer for its status ahead of time may bring anything.
    pub(crate) fn may_hurry_status(&self, peer: PeerKey, ms: u64) -> bool {
        let hurried = self.approvals.hurried.get(&peer);
        self.peers.contains_key(&peer)
            && hurried.is_none_or(|when| ms.saturating_sub(*when) >= HURRY_MS)
    }

    /// A peer passed on what it can't have without certificates that are missing here:
    /// its status is asked for with the next look at deadlines.
    pub(crate) fn hurry_status(&mut self, peer: PeerKey, ms: u64) {
        if let Some(state) = self.peers.get_mut(&peer) {
            state.status_due_ms = state.status_due_ms.min(ms);
            self.approvals.hurried.insert(peer, ms);
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
