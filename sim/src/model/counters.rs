//! What a run counts on its way.
//!
//! These are plain numbers. Start reading at [`RunCounters`].

/// Messages of one kind, and their bytes with frames.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct TrafficCounter {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
}

impl TrafficCounter {
    /// Counts one message.
    pub(crate) fn add(&mut self, bytes: usize) {
        self.messages += 1;
        self.bytes += bytes as u64;
    }
}

/// Counts of a whole run.
#[derive(Debug, Default)]
pub(crate) struct RunCounters {
    /// Gossiped headers of new blocks.
    pub(crate) announcements: TrafficCounter,
    /// Gossiped transactions.
    pub(crate) transactions: TrafficCounter,
    /// Gossiped approvals.
    pub(crate) approvals: TrafficCounter,
    pub(crate) requests: TrafficCounter,
    /// Responses with blocks.
    pub(crate) bodies: TrafficCounter,
    /// All other responses.
    pub(crate) responses: TrafficCounter,
    /// Number of reorganisations of honest nodes, by the number of blocks that they undid.
    pub(crate) reorganisations: Vec<u64>,
    /// Payments that a node has accepted.
    pub(crate) payments: u64,
    pub(crate) connections: u64,
    pub(crate) crashes: u64,
    pub(crate) splits: u64,
    /// How often a node's clock has jumped.
    pub(crate) clock_jumps: u64,
    /// How often a node has paused.
    pub(crate) pauses: u64,
    /// How many nodes went away for good.
    pub(crate) left: u64,
    /// Lies of nodes that no peer had asked for.
    pub(crate) lies: u64,
    /// The most reads of one event that moved no block: a tick, another one without an answer of a
    /// peer, and one with an answer.
    pub(crate) reads_max: [u64; 3],
    /// Votes that an adversary has released.
    pub(crate) late_votes: u64,
    pub(crate) bans: u64,
    /// How often an honest node disconnected another without a ban.
    pub(crate) dismissals: u64,
    /// The most penalty points that an honest node has given another.
    pub(crate) honest_points_max: u32,
}

impl RunCounters {
    /// Counts a change of an honest node's tip that took `depth` blocks off its chain.
    pub(crate) fn count_reorganisation(&mut self, depth: usize) {
        if depth == 0 {
            return;
        }
        if self.reorganisations.len() <= depth {
            self.reorganisations.resize(depth + 1, 0);
        }
        self.reorganisations[depth] += 1;
    }
}
