//! How many refused transactions one peer may cost: a budget that repeats use up fastest. A peer
//! over its budget is no offender, because an honest one may have other limits than this node; its
//! transactions are only not looked at for a while. Start reading at [`Refusals::note`].

use pithead_consensus::Txid;

use super::bounded_set::BoundedSet;

/// A budget of refusals lasts so long.
const WINDOW_MS: u64 = 60_000;
/// What the refusals of one peer may cost in that time (docs/node-policy.md).
pub(super) const REFUSALS_MAX: u32 = 1_000;
/// What the refusal of a transaction costs that was refused from the same peer before in that time.
/// Its bytes may be others: a txid does not cover the signature.
pub(super) const REPEAT_COST: u32 = 10;

/// What was refused from one peer lately.
#[derive(Debug)]
pub(super) struct Refusals {
    spent: u32,
    began_ms: u64,
    txids: BoundedSet<Txid>,
}

impl Refusals {
    pub(super) fn new() -> Self {
        Self {
            spent: 0,
            began_ms: 0,
            txids: BoundedSet::new(REFUSALS_MAX as usize),
        }
    }

    /// Counts a refused transaction.
    pub(super) fn note(&mut self, txid: Txid, now_ms: u64) {
        if self.is_over(now_ms) {
            self.spent = 0;
            self.began_ms = now_ms;
            self.txids.clear();
        }
        let is_repeat = self.txids.contains(&txid);
        self.txids.insert(txid);
        let cost = if is_repeat { REPEAT_COST } else { 1 };
        self.spent = self.spent.saturating_add(cost);
    }

    /// Whether the peer's transactions are not looked at now.
    pub(super) fn are_too_many(&self, now_ms: u64) -> bool {
        self.spent >= REFUSALS_MAX && !self.is_over(now_ms)
    }

    fn is_over(&self, now_ms: u64) -> bool {
        now_ms.saturating_sub(self.began_ms) >= WINDOW_MS
    }
}
