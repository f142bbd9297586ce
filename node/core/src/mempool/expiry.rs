//! How long transactions wait, and which of them expired here lately. Knows no wall clock: a clock
//! of the machine that jumps makes nothing expire. Start reading at [`Waited`].

use std::collections::{HashMap, VecDeque};

use pithead_consensus::Txid;

/// Most expired transactions that are remembered (docs/node-policy.md).
pub const EXPIRED_MAX: usize = 100_000;

/// The time that transactions of this process have waited, measured by a clock that never jumps. It
/// begins at 0 with the first reading.
#[derive(Debug, Default)]
pub struct Waited {
    last_ms: Option<u64>,
    total_ms: u64,
}

impl Waited {
    /// Takes a reading of the clock, milliseconds since any fixed moment.
    pub fn read(&mut self, clock_ms: u64) {
        let passed = clock_ms.saturating_sub(self.last_ms.unwrap_or(clock_ms));
        self.total_ms = self.total_ms.saturating_add(passed);
        self.last_ms = Some(clock_ms);
    }

    /// Milliseconds between the first reading and the last.
    #[must_use]
    pub fn ms(&self) -> u64 {
        self.total_ms
    }
}

/// The transactions that expired here, each until it could not come back from a node that had it a
/// little longer. Another node may still hold what expired here, and would otherwise give it back
/// for ever.
///
/// The fact is that a transaction with this txid expired. It depends on nothing that the txid does
/// not cover: a copy with another signature is as old.
#[derive(Debug, Default)]
pub(super) struct Expired {
    forget_at_ms: HashMap<Txid, u64>,
    /// Oldest first. One that was forgotten early stays here until its time.
    order: VecDeque<(u64, Txid)>,
}

impl Expired {
    pub(super) fn contains(&self, txid: &Txid) -> bool {
        self.forget_at_ms.contains_key(txid)
    }

    pub(super) fn insert(&mut self, txid: Txid, forget_at_ms: u64) {
        self.forget_at_ms.insert(txid, forget_at_ms);
        self.order.push_back((forget_at_ms, txid));
        while self.order.len() > EXPIRED_MAX {
            self.pop();
        }
    }

    pub(super) fn forget(&mut self, txid: &Txid) {
        self.forget_at_ms.remove(txid);
    }

    /// Forgets what has been remembered for long enough.
    pub(super) fn sweep(&mut self, now_ms: u64) {
        while self.order.front().is_some_and(|(at, _)| *at < now_ms) {
            self.pop();
        }
    }

    fn pop(&mut self) {
        if let Some((at, txid)) = self.order.pop_front()
            && self.forget_at_ms.get(&txid) == Some(&at)
        {
            self.forget_at_ms.remove(&txid);
        }
    }
}
