//! The once-a-second look at every deadline.

use pithead_consensus::BlockHash;

use super::SyncState;
use super::node_view::NodeView;

/// Sweeps are a second apart. If more than this has passed, the core itself was busy, and
/// answers that came in the meantime still wait in its queue.
const SWEEP_GAP_MS: u64 = 3_000;
/// A tip that stays the same for so many block intervals is a reason to look for more
/// peers. By chance, one block in 20,000 takes so long.
const STILL_INTERVALS: u64 = 10;

/// When the last sweep was, and how long the tip has stayed the same.
#[derive(Debug)]
pub(super) struct SweepState {
    last_ms: Option<u64>,
    tip: BlockHash,
    tip_since_ms: u64,
    tip_stands_still: bool,
}

impl SweepState {
    pub(super) fn new(tip: BlockHash) -> Self {
        Self {
            last_ms: None,
            tip,
            tip_since_ms: 0,
            tip_stands_still: false,
        }
    }

    pub(super) fn tip_stands_still(&self) -> bool {
        self.tip_stands_still
    }
}

impl SyncState {
    /// Looks at every deadline. To be called once a second.
    pub(crate) fn sweep(&mut self, view: &NodeView<'_>) {
        self.note_tip(view);
        let before = self.sweeps.last_ms.replace(view.ms);
        let gap = view.ms.saturating_sub(before.unwrap_or(view.ms));
        if gap > SWEEP_GAP_MS {
            self.extend_deadlines(view, gap);
        }
        self.sweep_requests(view);
        self.sweep_searches(view);
        self.sweep_statuses(view);
        self.sweep_announcements(view);
        self.sweep_transactions(view);
        self.announce_local(view);
    }

    /// Notices a tip that stands still. A node without peers expects no new tip.
    fn note_tip(&mut self, view: &NodeView<'_>) {
        let tip = view.tip.hash();
        if self.sweeps.tip != tip || self.peers.is_empty() {
            self.sweeps.tip = tip;
            self.sweeps.tip_since_ms = view.ms;
        }
        let still_ms = view.ms.saturating_sub(self.sweeps.tip_since_ms);
        let interval_ms = u64::from(view.params.block_interval_secs).saturating_mul(1_000);
        self.sweeps.tip_stands_still = still_ms >= STILL_INTERVALS.saturating_mul(interval_ms);
    }
}
