//! Which peers are asked for certificates that are missing here. The node checks them.
//!
//! A peer's status names the highest checkpoint that it knows to be approved. If that
//! checkpoint is not approved here, the peer's certificates are asked for in order, in a
//! [`CertificateWalk`]. Example, with our highest approved checkpoint at 100 and the peer's
//! claim at 300:
//! 1. The walk asks for certificates above 100. If their sources are approved here, it goes on
//!    up to 300.
//! 2. If a source is not approved here, the peer follows another chain of certificates. The
//!    walk steps down, ever further, until a source is known, and goes up from there.
//!
//! By this, two nodes that approved different blocks find out, wherever their chains parted.
//!
//! A status names one checkpoint only. While our best chain does not contain the highest approved
//! checkpoint, votes on it may build on a lower one whose certificate is missing here. From time to
//! time a walk then goes through a peer's certificates that are known here already.

use std::collections::BTreeMap;

use pithead_consensus::{Certificate, Checkpoint, Height};

use super::message::{APPROVAL_BYTES, CONTENT_BYTES_MAX, IDS_MAX, Request, Status};
use super::node_view::NodeView;
use super::peer_events::{Offence, PeerKey};
use super::requests::RequestContext;
use super::{SyncState, mix};

/// Most walks at a time.
const WALKS_MAX: usize = 3;
/// Most answers that wait to be judged. An answer has up to 4 MiB, so all of them together bound
/// the memory that certificates take before they are checked.
pub(super) const WAITING_ANSWERS_MAX: usize = 4;
/// Most walks with inbound peers. One place is always left for an outbound peer.
const WALKS_INBOUND_MAX: usize = 2;
/// A second walk begins beside the first if no walk has brought anything for this long.
const PATIENCE_MS: u64 = 3_000;
/// The first step down if a source is not approved here, in checkpoints. Each further step is
/// twice as long.
const STEP_DOWN: u64 = 16;
/// Most steps down in one walk. Doubling steps are enough for a chain of any length.
const STEPS_DOWN_MAX: u32 = 64;
/// While the best chain does not contain the highest approved checkpoint, a walk through known
/// certificates begins this often.
const RECHECK_MS: u64 = 30_000;
/// A peer is asked for its status ahead of time at most this often.
const HURRY_MS: u64 = 5_000;

/// How the check of a peer's certificates ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CertificatesEnd {
    /// All are valid. This is the last one's target.
    Taken(Checkpoint),
    /// The source of a certificate is not approved here.
    SourceUnknown,
    /// A certificate breaks a rule.
    Invalid,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WalkStage {
    /// The next request may be made.
    Ready,
    Asked,
    /// The node checks the answer.
    Judging,
}

/// A walk along one peer's certificates.
#[derive(Debug)]
struct CertificateWalk {
    /// The approved checkpoint of the peer's status, where the walk ends.
    claim: Checkpoint,
    /// The next request asks for certificates above this height.
    above: Height,
    steps_down: u32,
    stage: WalkStage,
    /// The answer does not reach the claim, although there was room in it.
    falls_short: bool,
    /// The claim is approved here already. The walk is for lower certificates.
    is_recheck: bool,
}

/// The walks under way, at most one with each peer.
#[derive(Debug, Default)]
pub(super) struct CertificateWalks {
    by_peer: BTreeMap<PeerKey, CertificateWalk>,
    /// The claim of each peer's last walk, which is over: there is no second walk for it.
    settled: BTreeMap<PeerKey, Checkpoint>,
    /// When new certificates last came or a walk last began.
    progress_ms: u64,
    /// When the last walk through known certificates began.
    rechecked_ms: u64,
    /// When each peer's status was last asked for ahead of time.
    hurried: BTreeMap<PeerKey, u64>,
}

impl CertificateWalks {
    pub(super) fn forget_peer(&mut self, peer: PeerKey) {
        self.by_peer.remove(&peer);
        self.settled.remove(&peer);
        self.hurried.remove(&peer);
    }

    /// A request for certificates was answered or given up.
    pub(super) fn request_ended(&mut self, peer: PeerKey) {
        if let Some(walk) = self.by_peer.get_mut(&peer)
            && walk.stage == WalkStage::Asked
        {
            walk.stage = WalkStage::Ready;
        }
    }

    /// A request for certificates failed, so the walk gives its place to another peer.
    pub(super) fn failed(&mut self, peer: PeerKey) {
        self.by_peer.remove(&peer);
    }

    /// Ends a walk for good: the peer's claim is of no more interest.
    fn settle(&mut self, peer: PeerKey) {
        if let Some(walk) = self.by_peer.remove(&peer) {
            self.settled.insert(peer, walk.claim);
        }
    }
}

/// The approved checkpoint that a status claims. The claim proves nothing, but it must be on
/// the chain that the status claims.
fn claim(status: &Status) -> Option<Checkpoint> {
    let claimed = status.approved;
    (claimed.height <= status.height && claimed.height > Height::GENESIS).then_some(claimed)
}

/// Whether an answer may have had no room for one more certificate.
fn is_full(certificates: &[Certificate]) -> bool {
    let bytes: usize = certificates
        .iter()
        .map(|each| each.count().saturating_mul(APPROVAL_BYTES))
        .sum();
    certificates.len() >= IDS_MAX || bytes >= CONTENT_BYTES_MAX / 2
}

/// Whether an honest peer can have given these certificates above a height: they ascend, and
/// the source of each is at or below that height, or the target of an earlier one.
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
    /// Makes the next request of each walk, and begins a walk if there is a place for one. There
    /// are no walks after two certificates have been found to conflict.
    /// `approved` is the height of the highest approved checkpoint of our best chain.
    pub(super) fn plan_walks(&mut self, view: &NodeView<'_>, approved: Height) {
        if view.finality.status().conflict {
            self.walks.by_peer.clear();
            return;
        }
        self.continue_walks(view);
        let misses = view.finality.status().approved.height > approved;
        let waited_ms = view.ms.saturating_sub(self.walks.rechecked_ms);
        let recheck_above = (misses && waited_ms >= RECHECK_MS).then_some(approved);
        self.begin_walk(view, recheck_above);
    }

    /// Whether no large request may be made to a peer now.
    fn is_paused(&self, view: &NodeView<'_>, peer: PeerKey) -> bool {
        let state = self.peers.get(&peer);
        state.is_none_or(|state| state.responses.is_paused(view.ms))
    }

    /// Makes the next request of every walk that is due.
    fn continue_walks(&mut self, view: &NodeView<'_>) {
        let ready = self.walks.by_peer.iter();
        let ready: Vec<(PeerKey, (Checkpoint, bool), Height)> = ready
            .filter(|(_, walk)| walk.stage == WalkStage::Ready)
            .map(|(peer, walk)| (*peer, (walk.claim, walk.is_recheck), walk.above))
            .collect();
        for (peer, (claim, is_recheck), above) in ready {
            if view.finality.is_approved(&claim) && !is_recheck {
                // Another peer has brought it meanwhile.
                self.walks.settle(peer);
            } else if !self.is_paused(view, peer) {
                self.ask_certificates(view, peer, above);
            }
        }
    }

    fn ask_certificates(&mut self, view: &NodeView<'_>, peer: PeerKey, above: Height) {
        let request = Request::Certificates(above);
        let asked = self
            .ask(view, peer, RequestContext::Certificates, request)
            .is_some();
        if let Some(walk) = self.walks.by_peer.get_mut(&peer)
            && asked
        {
            walk.stage = WalkStage::Asked;
        }
    }

    /// Begins a walk with a peer that claims an approved checkpoint which is not approved here.
    /// The peer is chosen by lot, since a claim costs nothing. There is one walk at a time,
    /// unless it is slow. With `recheck_above`, a claim that is approved here will do, and the walk
    /// begins above that height.
    fn begin_walk(&mut self, view: &NodeView<'_>, recheck_above: Option<Height>) {
        let busy = |inbound_only: bool| {
            let walks = self.walks.by_peer.keys();
            let counted = walks.filter(|peer| {
                let inbound = self.peers.get(*peer).is_some_and(|state| state.inbound);
                !self.is_paused(view, **peer) && (!inbound_only || inbound)
            });
            counted.count()
        };
        let (all, inbound) = (busy(false), busy(true));
        let idle_ms = view.ms.saturating_sub(self.walks.progress_ms);
        if all >= WALKS_MAX || (all > 0 && idle_ms < PATIENCE_MS) {
            return;
        }
        let seed = self.settings.seed ^ view.ms;
        let walks = &self.walks;
        let chosen = self
            .peers
            .iter()
            .filter(|(peer, state)| {
                !state.responses.is_paused(view.ms)
                    && !walks.by_peer.contains_key(peer)
                    && (!state.inbound || inbound < WALKS_INBOUND_MAX)
            })
            .filter_map(|(peer, state)| Some((*peer, claim(&state.chain.status()?)?)))
            .filter(|(peer, claim)| match recheck_above {
                Some(above) => claim.height > above,
                None => walks.settled.get(peer) != Some(claim) && !view.finality.is_approved(claim),
            })
            .min_by_key(|(peer, _)| mix(seed, peer.0));
        let Some((peer, claim)) = chosen else {
            return;
        };
        let below = claim.height.0.saturating_sub(1);
        let is_recheck = view.finality.is_approved(&claim);
        let approved = view.finality.status().approved.height;
        let above = Height(recheck_above.unwrap_or(approved).0.min(below));
        if recheck_above.is_some() {
            self.walks.rechecked_ms = view.ms;
        }
        let walk = CertificateWalk {
            claim,
            above,
            steps_down: 0,
            stage: WalkStage::Ready,
            falls_short: false,
            is_recheck,
        };
        self.walks.by_peer.insert(peer, walk);
        self.walks.progress_ms = view.ms;
        self.ask_certificates(view, peer, above);
    }

    /// Certificates came. Returns whether the node is to check them.
    pub(super) fn took_certificates(
        &mut self,
        view: &NodeView<'_>,
        peer: PeerKey,
        certificates: &[Certificate],
    ) -> bool {
        let walks = self.walks.by_peer.values();
        let judging = walks.filter(|walk| walk.stage == WalkStage::Judging);
        let judging = judging.count();
        let Some(walk) = self.walks.by_peer.get_mut(&peer) else {
            return false;
        };
        if walk.stage == WalkStage::Judging {
            return false;
        }
        let targets = certificates.iter().map(|each| each.link().target);
        let reaches = targets
            .clone()
            .any(|target| target.height >= walk.claim.height);
        let shown = targets.clone().any(|target| target == walk.claim);
        // The checkpoint that the peer claims must be among its certificates.
        let offence = if certificates.is_empty() || (reaches && !shown) {
            Some(Offence::Withheld)
        } else if is_in_order(certificates, walk.above) {
            None
        } else {
            Some(Offence::UselessCertificates)
        };
        if let Some(offence) = offence {
            self.walks.settle(peer);
            self.offend(view, peer, offence);
            return false;
        }
        if judging >= WAITING_ANSWERS_MAX {
            // Peers that stopped answering gave their places in the walks to others, and then
            // answered after all. This one may be asked again later.
            self.walks.failed(peer);
            return false;
        }
        walk.stage = WalkStage::Judging;
        walk.falls_short = !reaches && !is_full(certificates);
        true
    }

    /// Whether the node is to go on checking a peer's certificates.
    pub(crate) fn is_judging(&self, peer: PeerKey) -> bool {
        let walk = self.walks.by_peer.get(&peer);
        walk.is_some_and(|walk| walk.stage == WalkStage::Judging)
    }

    /// New certificates came, so the walk is not too slow.
    pub(crate) fn certificates_are_news(&mut self, ms: u64) {
        self.walks.progress_ms = ms;
    }

    /// A peer's certificates were checked: its walk goes on or ends.
    pub(crate) fn certificates_judged(
        &mut self,
        view: &NodeView<'_>,
        peer: PeerKey,
        end: CertificatesEnd,
    ) {
        if view.finality.status().conflict && end != CertificatesEnd::Invalid {
            self.walks.settle(peer);
            return;
        }
        let Some(walk) = self.walks.by_peer.get_mut(&peer) else {
            return;
        };
        walk.stage = WalkStage::Ready;
        match end {
            CertificatesEnd::Taken(last) => {
                walk.above = last.height;
                let falls_short = walk.falls_short;
                if last.height >= walk.claim.height || falls_short {
                    self.walks.settle(peer);
                }
                // A peer must fill its answers. A peer that gave certificates one by one would
                // keep other peers from being asked.
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
                // Above the genesis, every certificate comes after the one for its source.
                self.walks.settle(peer);
                self.offend(view, peer, Offence::UselessCertificates);
            }
            CertificatesEnd::Invalid => {
                self.walks.settle(peer);
                self.bad_approval(view, peer);
            }
        }
    }

    /// Whether a peer may be asked for its status ahead of time.
    pub(crate) fn may_hurry_status(&self, peer: PeerKey, ms: u64) -> bool {
        let hurried = self.walks.hurried.get(&peer);
        self.peers.contains_key(&peer)
            && hurried.is_none_or(|when| ms.saturating_sub(*when) >= HURRY_MS)
    }

    /// A peer passed on a vote that builds on certificates which are missing here: its status is
    /// asked for with the next sweep.
    pub(crate) fn hurry_status(&mut self, peer: PeerKey, ms: u64) {
        if let Some(state) = self.peers.get_mut(&peer) {
            state.chain.ask_status_by(ms);
            self.walks.hurried.insert(peer, ms);
        }
    }
}
