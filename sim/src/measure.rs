//! What is counted on the way.

/// Messages of one kind.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Traffic {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
}

impl Traffic {
    pub(crate) fn add(&mut self, bytes: usize) {
        self.messages += 1;
        self.bytes += bytes as u64;
    }
}

/// Counts of a run.
#[derive(Debug, Default)]
pub(crate) struct Measure {
    /// Headers of new blocks, gossiped.
    pub(crate) announcements: Traffic,
    /// Transactions, gossiped.
    pub(crate) transactions: Traffic,
    pub(crate) approvals: Traffic,
    pub(crate) requests: Traffic,
    /// Answers that hold blocks.
    pub(crate) bodies: Traffic,
    /// All other answers.
    pub(crate) responses: Traffic,
    /// Reorganisations by depth, at index depth.
    pub(crate) reorganisations: Vec<u64>,
    pub(crate) payments: u64,
    pub(crate) connections: u64,
    pub(crate) crashes: u64,
    pub(crate) splits: u64,
    pub(crate) lies: u64,
    pub(crate) bans: u64,
    /// Honest peers let go without a ban: too slow, or gone.
    pub(crate) dismissals: u64,
    /// The most points that an honest node ever gave an honest one.
    pub(crate) honest_points_max: u32,
}

impl Measure {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Notes that a tip changed with so many blocks left behind.
    pub(crate) fn reorganised(&mut self, depth: usize) {
        if depth == 0 {
            return;
        }
        if self.reorganisations.len() <= depth {
            self.reorganisations.resize(depth + 1, 0);
        }
        self.reorganisations[depth] += 1;
    }
}
