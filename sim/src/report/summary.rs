//! The results of a run as numbers.
//!
//! The JSON output of the command is [`Report`] with exactly these names; `table` shows
//! the same as text. Start reading at [`Report`].

use std::collections::HashSet;

use pithead_consensus::BlockHash;
use pithead_core::sync::SyncUsage;
use serde::Serialize;

use crate::events::SECOND_US;
use crate::model::chain::{ModelBlock, NOT_ARRIVED};
use crate::model::counters::{RunCounters, TrafficCounter};
use crate::model::monitor::TimelinePoint;
use crate::nodes::sim_node::finality_status;
use crate::settings::SimSettings;
use crate::world::Simulation;

/// Percentiles of delays, milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Percentiles {
    /// The median.
    pub p50: u32,
    /// The 90th percentile.
    pub p90: u32,
    /// The 99th percentile.
    pub p99: u32,
    /// The longest delay.
    pub max: u32,
}

impl Percentiles {
    fn of(sorted: &[u32]) -> Self {
        let at = |part: f64| {
            let last = sorted.len().saturating_sub(1);
            let index = libm::round(part * last as f64) as usize;
            sorted.get(index).copied().unwrap_or_default()
        };
        Self {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            max: at(1.0),
        }
    }
}

/// Messages of one kind in the whole network, per block of the best chain.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TrafficReport {
    /// The kind of message, as the table names it.
    pub kind: &'static str,
    /// Number of messages per block.
    pub messages: f64,
    /// Bytes per block, frames included.
    pub bytes: f64,
}

/// The results of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The settings that the run followed from.
    pub settings: SimSettings,
    /// A hash over everything that happened. Equal runs have equal digests.
    pub digest: String,
    /// Events that the nodes' cores have handled.
    pub events: u64,
    /// Length of the run, virtual seconds, settling at the end included.
    pub virtual_secs: u64,
    /// Blocks found by honest miners.
    pub blocks_found: u64,
    /// Blocks on the best chain.
    pub blocks_best: u64,
    /// Part of the blocks that are not on the best chain, among those that honest miners
    /// found while the network was whole.
    pub stale_rate: f64,
    /// Transactions on the best chain.
    pub transactions: u64,
    /// Time from a block's discovery to its validation at another node, over all blocks
    /// and nodes.
    pub propagation: Percentiles,
    /// Time from a block's discovery until half of the nodes have it, over all blocks.
    pub half_of_nodes: Percentiles,
    /// Time from a block's discovery until 99 % of the nodes have it, over all blocks.
    pub nearly_all_nodes: Percentiles,
    /// Number of reorganisations of honest nodes, by the number of blocks that they undid.
    /// For example, index 1 counts reorganisations that undid one block.
    pub reorganisations: Vec<u64>,
    /// The most blocks that a reorganisation of an honest node undid; 0 without one.
    pub deepest_reorganisation: usize,
    /// Votes that the adversary has released.
    pub late_votes: u64,
    /// The most reads of the store in one event that moved no block: a tick, another one without an
    /// answer of a peer, and one with an answer.
    pub reads_max: [u64; 3],
    /// Traffic per block of the best chain, by kind of message.
    pub traffic: Vec<TrafficReport>,
    /// How often a node has crashed.
    pub crashes: u64,
    /// How often the network has split.
    pub splits: u64,
    /// How often a node's clock has jumped.
    pub clock_jumps: u64,
    /// How often a node has paused.
    pub pauses: u64,
    /// How many nodes went away for good.
    pub left: u64,
    /// How many connections were made.
    pub connections: u64,
    /// How many nodes are honest, slow ones included.
    pub honest: usize,
    /// Lies of nodes that no peer had asked for.
    pub lies: u64,
    /// How often a node has banned another. An honest node was never banned by another
    /// honest one: that would have ended the run.
    pub bans: u64,
    /// How often an honest node disconnected another without a ban.
    pub dismissals: u64,
    /// The most penalty points that an honest node has given another. At 100 it would
    /// have banned it.
    pub honest_points_max: u32,
    /// The most requests that a node had open at once.
    pub requests_max: usize,
    /// The most headers that a node kept ahead of its chain.
    pub headers_max: usize,
    /// The most bytes of block bodies that waited at a node.
    pub body_bytes_max: usize,
    /// Height of the last final block at the best honest node; 0 without validators.
    pub final_height: u64,
    /// Height of that node's tip.
    pub height: u64,
    /// Votes that the lying validators have cast.
    pub double_votes: u64,
    /// Pairs of votes by one lying validator that break a rule together.
    pub contradictions: u64,
    /// How often both votes of a contradicting pair came to one honest node. That node must
    /// hold a proof of them.
    pub pairs_met: u64,
    /// Votes that honest validators have sent.
    pub votes_sent: u64,
    /// How often a node met conflicting certificates.
    pub finality_conflicts: u64,
    /// The best honest node at each inspection.
    pub timeline: Vec<TimelinePoint>,
    /// How often the whole network was inspected.
    pub inspections: u64,
    /// How often a node's whole chain was replayed from the genesis.
    pub replays: u64,
    /// The delays that [`Report::propagation`] summarises, sorted, milliseconds.
    #[serde(skip)]
    pub delays_ms: Vec<u32>,
}

impl Report {
    /// The results of a run that has ended.
    pub(crate) fn of(world: &Simulation) -> Self {
        let best_core = world
            .best_honest()
            .and_then(|index| world.nodes[index].core.as_ref());
        let tip = best_core.map(|core| core.chain().tip());
        let best: HashSet<BlockHash> = tip
            .map(|tip| world.model.chain(&tip.hash()))
            .unwrap_or_default()
            .into_iter()
            .collect();
        let arrivals = Arrivals::of(world, &best);
        let blocks_best = best.len() as u64;
        let honest = world.nodes.iter().filter(|node| node.is_honest());
        let peak = |of: fn(&SyncUsage) -> usize| {
            let all = world.nodes.iter().map(|node| of(&node.sync_peak));
            all.max().unwrap_or_default()
        };
        let (counters, finality) = (&world.counters, &world.finality);
        Self {
            settings: world.settings.clone(),
            digest: world.digest.text(),
            events: world.digest.events,
            virtual_secs: world.now_us / SECOND_US,
            blocks_found: valid_blocks(world).count() as u64,
            blocks_best,
            stale_rate: stale_rate(world, &best),
            transactions: tip.map_or(0, |tip| tip.outcome.transactions_total),
            propagation: Percentiles::of(&arrivals.all),
            half_of_nodes: Percentiles::of(&arrivals.half),
            nearly_all_nodes: Percentiles::of(&arrivals.nearly_all),
            reorganisations: counters.reorganisations.clone(),
            deepest_reorganisation: counters.reorganisations.len().saturating_sub(1),
            late_votes: counters.late_votes,
            reads_max: counters.reads_max,
            traffic: traffic(counters, blocks_best),
            crashes: counters.crashes,
            splits: counters.splits,
            clock_jumps: counters.clock_jumps,
            pauses: counters.pauses,
            left: counters.left,
            connections: counters.connections,
            honest: honest.count(),
            lies: counters.lies,
            bans: counters.bans,
            dismissals: counters.dismissals,
            honest_points_max: counters.honest_points_max,
            requests_max: peak(|usage| usage.requests),
            headers_max: peak(|usage| usage.headers),
            body_bytes_max: peak(|usage| usage.body_bytes),
            final_height: best_core.map_or(0, |core| finality_status(core).last_final.height.0),
            height: tip.map_or(0, |tip| tip.height.0),
            double_votes: finality.lying_votes,
            contradictions: finality.contradictions,
            pairs_met: finality.pairs_met,
            votes_sent: finality.votes_sent,
            finality_conflicts: finality.conflicts,
            timeline: world.progress.timeline.clone(),
            inspections: world.progress.inspections,
            replays: world.progress.replays,
            delays_ms: arrivals.all,
        }
    }
}

/// All blocks that keep the rules; honest miners found them.
fn valid_blocks(world: &Simulation) -> impl Iterator<Item = (&BlockHash, &ModelBlock)> {
    let blocks = world.model.in_order();
    blocks.filter(|(_, found)| found.valid)
}

/// See [`Report::stale_rate`].
fn stale_rate(world: &Simulation, best: &HashSet<BlockHash>) -> f64 {
    let counted = valid_blocks(world).filter(|(_, found)| found.counts);
    let (mut all, mut stale) = (0_usize, 0_usize);
    for (hash, _) in counted {
        all += 1;
        stale += usize::from(!best.contains(hash));
    }
    stale as f64 / all.max(1) as f64
}

/// The traffic of a run, divided by the number of blocks on its best chain.
fn traffic(counters: &RunCounters, blocks: u64) -> Vec<TrafficReport> {
    let per_block = |(kind, traffic): (&'static str, TrafficCounter)| {
        let blocks = blocks.max(1) as f64;
        TrafficReport {
            kind,
            messages: traffic.messages as f64 / blocks,
            bytes: traffic.bytes as f64 / blocks,
        }
    };
    let kinds = [
        ("announcements", counters.announcements),
        ("block requests and others", counters.requests),
        ("bodies", counters.bodies),
        ("other answers", counters.responses),
        ("transactions", counters.transactions),
        ("approvals", counters.approvals),
    ];
    kinds.into_iter().map(per_block).collect()
}

/// Delays from a block's discovery, sorted, milliseconds.
#[derive(Default)]
struct Arrivals {
    /// Delays until validation at a node, for all pairs of a block and a node.
    all: Vec<u32>,
    /// Delays until half of the nodes have a block.
    half: Vec<u32>,
    /// Delays until 99 % of the nodes have a block.
    nearly_all: Vec<u32>,
}

impl Arrivals {
    /// The delays of blocks on the best chain that were found while the network was whole.
    ///
    /// The node that found a block does not count in `all`. Nor does a node that had a
    /// rival block of the same height: it fetches the block only once that has won.
    fn of(world: &Simulation, best: &HashSet<BlockHash>) -> Self {
        let mut arrivals = Self::default();
        for (hash, found) in world.model.in_order() {
            if !found.counts || !best.contains(hash) {
                continue;
            }
            let came = found.arrivals_ms.iter().copied();
            let mut came: Vec<u32> = came.filter(|ms| *ms != NOT_ARRIVED).collect();
            came.sort_unstable();
            let at = |part: f64| (libm::ceil(part * found.audience as f64) as usize).max(1) - 1;
            arrivals.half.extend(came.get(at(0.5)));
            arrivals.nearly_all.extend(came.get(at(0.99)));
            // The first arrival is that at the node that found the block.
            arrivals.all.extend(came.iter().skip(1));
        }
        arrivals.all.sort_unstable();
        arrivals.half.sort_unstable();
        arrivals.nearly_all.sort_unstable();
        arrivals
    }
}
