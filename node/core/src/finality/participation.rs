//! The last approval of each validator, and how many of the recent checkpoints it approved. Operators read this; no decision depends on it. Knows neither the pool nor the
//! store. Start reading at [`Participation`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use pithead_consensus::{Address, Certificate, Checkpoint, SignedApproval};

/// How many of the last certificates participation is counted over.
pub(super) const RECENT_CERTIFICATES: usize = 100;

/// The approval of a validator that this node heard of last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The validator's approval with the highest target.
    pub approval: SignedApproval,
    /// When it arrived, Unix seconds. If only a certificate contains it: the time of the block
    /// that it approves, or `None` if this node lacks that block.
    pub time: Option<u64>,
}

/// The last approval of each validator, and the validators that approved each recent checkpoint.
#[derive(Debug, Clone, Default)]
pub(super) struct Participation {
    seen: BTreeMap<Address, Seen>,
    /// The targets of the last certificates, oldest first, with every validator that approved them.
    recent: VecDeque<(Checkpoint, BTreeSet<Address>)>,
}

impl Participation {
    /// Notes an approval that arrived by itself, at `now` in Unix seconds. A late one counts for
    /// a checkpoint that is approved already.
    pub(super) fn note_approval(&mut self, signed: &SignedApproval, now: u64) {
        self.note_seen(Seen {
            approval: signed.clone(),
            time: Some(now),
        });
        let target = signed.approval.link.target;
        for (checkpoint, approvers) in &mut self.recent {
            if *checkpoint == target {
                approvers.insert(signed.approval.validator);
            }
        }
    }

    /// Notes a certificate. `time` is the time of the block that it approves, if this node has
    /// the block; `others` approved the same block without being in the certificate.
    pub(super) fn note_certificate(
        &mut self,
        certificate: &Certificate,
        time: Option<u64>,
        others: impl Iterator<Item = Address>,
    ) {
        let mut approvers: BTreeSet<Address> = others.collect();
        for approval in certificate.approvals() {
            approvers.insert(approval.approval.validator);
            self.note_seen(Seen { approval, time });
        }
        if self.recent.len() >= RECENT_CERTIFICATES {
            self.recent.pop_front();
        }
        let target = certificate.link().target;
        self.recent.push_back((target, approvers));
    }

    /// Keeps an approval if its target is higher than the known one's. At the same height the
    /// first one stays: an approval that arrived by itself has a better time than the same one in
    /// a certificate.
    fn note_seen(&mut self, seen: Seen) {
        let height = |seen: &Seen| seen.approval.approval.link.target.height;
        let validator = seen.approval.approval.validator;
        let known = self.seen.get(&validator).map(height);
        if known.is_none_or(|known| known < height(&seen)) {
            self.seen.insert(validator, seen);
        }
    }

    pub(super) fn seen(&self, validator: &Address) -> Option<&Seen> {
        self.seen.get(validator)
    }

    /// How many of the recent checkpoints a validator approved, and how many there are.
    pub(super) fn count(&self, validator: &Address) -> (usize, usize) {
        let approved = self
            .recent
            .iter()
            .filter(|(_, approvers)| approvers.contains(validator))
            .count();
        (approved, self.recent.len())
    }
}
