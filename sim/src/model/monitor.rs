//! What the checks remember from one look at the network to the next.
//!
//! These are plain values: they know no node. Start reading at [`ProgressMonitor`].

use std::collections::BTreeMap;

use pithead_consensus::{BlockHash, Link};
use serde::Serialize;

/// The best honest node at one inspection of the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct TimelinePoint {
    /// The moment of the inspection, virtual seconds from the start.
    pub secs: u64,
    /// Height of the node's tip.
    pub height: u64,
    /// Height of the highest checkpoint that the node knows to be approved.
    pub approved: u64,
    /// Height of the node's last final block.
    pub last_final: u64,
}

/// How the best chain has grown so far.
#[derive(Debug, Default)]
pub(crate) struct ProgressMonitor {
    /// Time in microseconds and best height of each inspection.
    pub(crate) heights: Vec<(u64, u64)>,
    pub(crate) best_height: u64,
    /// How many blocks were to be expected since the best chain last grew.
    pub(crate) missing_blocks: f64,
    pub(crate) timeline: Vec<TimelinePoint>,
    /// When a node's whole chain was last replayed, microseconds.
    pub(crate) replayed_us: u64,
    pub(crate) inspections: u64,
    pub(crate) replays: u64,
}

impl ProgressMonitor {
    /// Starts over after a split: the best chain of the whole network may be lower than
    /// that of a part.
    pub(crate) fn reset_after_split(&mut self) {
        self.missing_blocks = 0.0;
        self.heights.clear();
    }

    /// The best height at the last inspection up to `at_us`; 0 if there was no inspection
    /// by then.
    pub(crate) fn height_before(&self, at_us: u64) -> u64 {
        let known = self.heights.iter().rev().find(|(when, _)| *when <= at_us);
        known.map_or(0, |(_, height)| *height)
    }
}

/// What has happened to finality so far.
#[derive(Debug, Default)]
pub(crate) struct FinalityMonitor {
    /// Every block that was the last final one at some honest node, by height.
    pub(crate) final_blocks: BTreeMap<u64, BlockHash>,
    /// How often a node met conflicting certificates.
    pub(crate) conflicts: u64,
    /// How many votes the lying validators have cast.
    pub(crate) lying_votes: u64,
    /// Pairs of votes by one lying validator that break a rule together.
    pub(crate) contradictions: u64,
    /// How often both votes of a contradicting pair came to one honest node.
    pub(crate) pairs_met: u64,
    /// The different votes that each lying validator has signed, by validator number.
    pub(crate) signed_by_liars: BTreeMap<usize, Vec<Link>>,
    /// How many votes honest validators have sent.
    pub(crate) votes_sent: u64,
}
