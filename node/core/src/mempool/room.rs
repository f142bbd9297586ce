//! Which transactions leave a full mempool for a new one, and what the new one has to pay for that.
//! What would be mined last leaves first. Start reading at [`Mempool::room_for`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use pithead_consensus::check::CheckedTransaction;
use pithead_consensus::{Address, Txid};

use super::admission::Place;
use super::queue::Rank;
use super::{FeeRate, Mempool, Obstacle, RejectReason};

/// What has to leave so that a transaction fits.
#[derive(Debug, Default)]
pub(super) struct Room {
    pub(super) victims: Vec<Txid>,
    /// The fee rate that the new transaction has to reach, grains a byte.
    pub(super) required: u64,
}

impl Mempool {
    /// Finds room for a transaction (node policy):
    /// 1. Only the last transaction of a queue leaves, never one that others build on, and none of
    ///    the new one's sender.
    /// 2. What can't be mined now leaves first; then what would be mined last.
    /// 3. The new transaction reaches a fee rate one step above those that leave and can be mined.
    /// 4. Nothing leaves for a transaction that can't be mined now.
    ///
    /// # Errors
    /// [`RejectReason::FullAtAnyFee`] if no fee of this transaction would make room for it.
    pub(super) fn room_for(
        &self,
        checked: &CheckedTransaction,
        place: &Place,
    ) -> Result<Room, RejectReason> {
        let body = &checked.transaction().body;
        let freed = place.replaced.as_ref().map_or(0, |old| old.size());
        let over = (self.bytes + checked.size())
            .saturating_sub(freed)
            .saturating_sub(self.limits.bytes_max);
        if over == 0 {
            return Ok(Room::default());
        }
        let full = |obstacle| RejectReason::FullAtAnyFee(obstacle);
        if body.sequence > place.next_sequence {
            let sequence = place.next_sequence;
            return Err(full(Obstacle::MissingSequence { sequence }));
        }
        let leaving = self
            .leaving_first(over, Some(&body.sender))
            .ok_or_else(|| full(Obstacle::OwnTransactions))?;
        let required = self.step_above(leaving.last().map(|(rank, _)| *rank));
        let queue = self.by_sender.get(&body.sender);
        let cheapest = queue.and_then(|queue| queue.cheapest_before(body.sequence));
        match cheapest {
            Some(earlier) if earlier.fee_rate() < FeeRate::per_byte(required) => {
                Err(full(Obstacle::CheapPredecessor {
                    sequence: earlier.body().sequence,
                    required,
                }))
            }
            _ => Ok(Room {
                victims: leaving.into_iter().map(|(_, txid)| txid).collect(),
                required,
            }),
        }
    }

    /// The fee rate that an ordinary payment of `weight` from another account must reach to be
    /// admitted now, grains a byte.
    #[must_use]
    pub fn entry_rate(&self, weight: usize) -> u64 {
        let over = (self.bytes + weight).saturating_sub(self.limits.bytes_max);
        let leaving = self.leaving_first(over, None);
        self.step_above(leaving.and_then(|leaving| leaving.last().map(|(rank, _)| *rank)))
    }

    /// The whole fee rate that is a step above the highest that has to leave. The step is the
    /// minimum rate: what leaves was relayed for nothing, and the new transaction pays for that.
    fn step_above(&self, highest: Option<Rank>) -> u64 {
        let least = self.limits.min_fee_rate;
        match highest {
            Some(Rank { ready: true, rate }) => {
                let step = least.max(1);
                rate.grains_per_byte().saturating_add(step).max(least)
            }
            _ => least,
        }
    }

    /// The transactions that leave first until `over` bytes are free, lowest rank first; `None` if
    /// even all of them are too few. None is of the sender `spared`.
    ///
    /// It looks at the ends of queues in order of rank, and at the one before an end once that end
    /// is chosen. No rank rises along a queue, so that the ranks found never fall. The number of
    /// transactions looked at is that of those found, and one more.
    fn leaving_first(&self, over: usize, spared: Option<&Address>) -> Option<Vec<(Rank, Txid)>> {
        let mut found = Vec::new();
        let mut freed = 0;
        let mut ends = self.ends.iter().copied().peekable();
        let mut exposed: BTreeSet<(Rank, Txid)> = BTreeSet::new();
        let mut taken: BTreeMap<Address, usize> = BTreeMap::new();
        while freed < over {
            let exposed_is_lower = match (ends.peek(), exposed.first()) {
                (Some(end), Some(first)) => first < end,
                (end, _) => end.is_none(),
            };
            let next = if exposed_is_lower {
                exposed.pop_first()?
            } else {
                ends.next()?
            };
            self.looked_at.fetch_add(1, Ordering::Relaxed);
            let pending = self.by_txid.get(&next.1)?;
            let sender = pending.body().sender;
            if spared == Some(&sender) {
                continue;
            }
            freed += pending.size();
            found.push(next);
            let of_sender = taken.entry(sender).or_default();
            *of_sender += 1;
            let ranked = self.by_sender.get(&sender).map(|queue| queue.ranked());
            let before = ranked.and_then(|ranked| ranked.into_iter().rev().nth(*of_sender));
            exposed.extend(before.map(|(rank, pending)| (rank, pending.txid())));
        }
        Some(found)
    }
}
