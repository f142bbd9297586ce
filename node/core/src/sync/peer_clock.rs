//! Whether this node's clock is behind those of its peers. Such a node refuses every new block as
//! one from the future, and would mine a chain of its own without noticing.
//!
//! A peer counts as ahead while it shows a header that keeps every rule, has more work than the
//! tip, and is too far ahead of the clock: somebody has worked for it. Anybody who can find a
//! block can also date it ahead, so one peer never decides where others can be asked: see
//! [`SyncState::watch_clock`].

use super::SyncState;
use super::headers::FutureHeader;
use super::node_view::NodeView;
use super::peer_events::PeerKey;

/// A peer counts as ahead for so long after the clock has reached its header, unless it shows
/// headers that are not ahead. In that time the node asks for its next headers.
const GRACE_SECS: u64 = 30;
/// How far behind the clock is, is worked out again when it has changed by this.
const STEP_SECS: u64 = 60;
/// The log says again that the clock is behind after this.
const LOG_AGAIN_MS: u64 = 600_000;

/// What one peer shows of the time.
#[derive(Debug, Default)]
pub(super) struct PeerClock {
    ahead: Option<Ahead>,
}

#[derive(Debug, Clone, Copy)]
struct Ahead {
    header: FutureHeader,
    /// The time of the peer's last header, Unix seconds: a claim.
    claimed_time: u32,
    shown_ms: u64,
}

impl PeerClock {
    /// How many seconds the peer's headers are ahead of the clock, if it counts as ahead.
    fn ahead_secs(&self, view: &NodeView<'_>) -> Option<u64> {
        let ahead = self.ahead?;
        let is_ahead = ahead.header.from_secs.saturating_add(GRACE_SECS) > view.unix_secs;
        let leads = ahead.header.chain_work > view.tip.chain_work;
        (is_ahead && leads).then(|| {
            let time = u64::from(ahead.claimed_time.max(ahead.header.time));
            let since_secs = view.ms.saturating_sub(ahead.shown_ms) / 1_000;
            time.saturating_add(since_secs)
                .saturating_sub(view.unix_secs)
        })
    }
}

/// What the peers together say about this node's clock.
#[derive(Debug, Default)]
pub(super) struct ClockWatch {
    behind_secs: u64,
    logged_ms: Option<u64>,
}

impl ClockWatch {
    /// Zero unless most peers are ahead.
    pub(super) fn behind_secs(&self) -> u64 {
        self.behind_secs
    }

    fn may_log(&mut self, now_ms: u64) -> bool {
        let again = |before: u64| now_ms.saturating_sub(before) >= LOG_AGAIN_MS;
        let may = self.logged_ms.is_none_or(again);
        if may {
            self.logged_ms = Some(now_ms);
        }
        may
    }
}

/// How many peers of some kind there are, and how far those of them are ahead that are.
struct PeerTimes {
    peers: usize,
    ahead_secs: Vec<u64>,
}

impl PeerTimes {
    fn is_majority(&self) -> bool {
        self.ahead_secs.len() * 2 > self.peers
    }
}

impl SyncState {
    /// A peer has shown a header that is too far ahead of the clock. `claimed_time` is the time of
    /// the last header after it.
    pub(super) fn header_from_future(
        &mut self,
        view: &NodeView<'_>,
        peer: PeerKey,
        header: FutureHeader,
        claimed_time: u32,
    ) {
        if let Some(state) = self.peers.get_mut(&peer) {
            state.headers.want_from(header.from_secs);
            state.clock.ahead = Some(Ahead {
                header,
                claimed_time,
                shown_ms: view.ms,
            });
        }
    }

    /// A peer has shown headers of which none is too far ahead.
    pub(super) fn headers_in_time(&mut self, peer: PeerKey) {
        if let Some(state) = self.peers.get_mut(&peer) {
            state.clock.ahead = None;
        }
    }

    /// Works out whether the clock is behind: more than half of the outbound peers are ahead of
    /// it and, if there is only one, more than half of all peers.
    ///
    /// An attacker can't choose this node's outbound peers. Examples:
    /// 1. Ten outbound peers, of which five lie: the clock counts as right. With six it does not.
    /// 2. One honest outbound peer and 60 inbound liars: right.
    /// 3. One outbound liar and two honest inbound peers: right.
    /// 4. One peer, outbound: its word counts, because nobody else can be asked.
    pub(super) fn watch_clock(&mut self, view: &NodeView<'_>) {
        let outbound = self.peer_times(view, |inbound| !inbound);
        let all = self.peer_times(view, |_| true);
        let is_behind = outbound.is_majority() && (outbound.peers > 1 || all.is_majority());
        let behind_secs = if is_behind {
            median(outbound.ahead_secs.clone()).max(1)
        } else {
            0
        };
        let was = self.clock.behind_secs;
        if (was > 0) != is_behind || was.abs_diff(behind_secs) >= STEP_SECS {
            self.clock.behind_secs = behind_secs;
        }
        if was > 0 && !is_behind {
            self.clock.logged_ms = None;
            tracing::info!("this machine's clock agrees with the peers again");
        } else if is_behind && self.clock.may_log(view.ms) {
            let (ahead, peers) = (outbound.ahead_secs.len(), outbound.peers);
            tracing::warn!(
                behind_secs,
                ahead,
                peers,
                "this machine's clock is behind: set it. Miners get no work meanwhile, and new \
                 blocks come late"
            );
        } else if !all.ahead_secs.is_empty() && self.clock.may_log(view.ms) {
            let (ahead, peers) = (all.ahead_secs.len(), all.peers);
            let ahead_secs = median(all.ahead_secs);
            tracing::warn!(
                ahead_secs,
                ahead,
                peers,
                "some peers have blocks ahead of this machine's clock: is it right?"
            );
        }
    }

    fn peer_times(&self, view: &NodeView<'_>, counts: impl Fn(bool) -> bool) -> PeerTimes {
        let peers = self.peers.values().filter(|state| counts(state.inbound));
        PeerTimes {
            peers: peers.clone().count(),
            ahead_secs: peers
                .filter_map(|state| state.clock.ahead_secs(view))
                .collect(),
        }
    }
}

/// The middle one; of an even number, the smaller of the two.
fn median(mut numbers: Vec<u64>) -> u64 {
    numbers.sort_unstable();
    let middle = numbers.len().saturating_sub(1) / 2;
    numbers.get(middle).copied().unwrap_or(0)
}
