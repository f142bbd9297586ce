//! What a run came to, as numbers and as a table.

use std::fmt;

use serde::Serialize;

use crate::ledger::NOT_ARRIVED;
use crate::measure::Traffic;
use crate::settings::Settings;
use crate::world::{SECOND_US, Simulation};

/// Milliseconds at which so many per cent are reached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Percentiles {
    /// Half of them.
    pub p50: u32,
    /// Nine of ten.
    pub p90: u32,
    /// All but one in a hundred.
    pub p99: u32,
    /// All.
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

/// Messages of one kind, per block of the best chain.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TrafficReport {
    /// What they are.
    pub kind: &'static str,
    /// How many in the whole network.
    pub messages: f64,
    /// Their bytes, frames included.
    pub bytes: f64,
}

/// The best honest node at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Moment {
    /// Virtual seconds.
    pub secs: u64,
    /// Height of its tip.
    pub height: u64,
    /// Height of the highest checkpoint that it knows to be approved.
    pub approved: u64,
    /// Height of its last final block.
    pub last_final: u64,
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// What was run.
    pub settings: Settings,
    /// One number for all that happened.
    pub digest: String,
    /// Events that nodes handled.
    pub events: u64,
    /// Virtual seconds, settling included.
    pub virtual_secs: u64,
    /// Blocks found by honest miners.
    pub blocks_found: u64,
    /// Of these, those on the best chain.
    pub blocks_best: u64,
    /// Of those found while the network was whole: the part that is stale.
    pub stale_rate: f64,
    /// Transactions on the best chain.
    pub transactions: u64,
    /// From a block's solution to its validation at another node, over all blocks
    /// and nodes, milliseconds.
    pub propagation: Percentiles,
    /// From a block's solution until half of the nodes have it, over all blocks.
    pub half_of_nodes: Percentiles,
    /// The same for 99 in 100 nodes.
    pub nearly_all_nodes: Percentiles,
    /// Reorganisations by depth: at index 1 those of one block.
    pub reorganisations: Vec<u64>,
    /// Traffic per block of the best chain.
    pub traffic: Vec<TrafficReport>,
    /// Crashes.
    pub crashes: u64,
    /// Splits.
    pub splits: u64,
    /// Connections made.
    pub connections: u64,
    /// Honest nodes, liars not counted.
    pub honest: usize,
    /// Lies that nobody asked for.
    pub lies: u64,
    /// Bans; all of liars.
    pub bans: u64,
    /// Honest peers that were let go without a ban.
    pub dismissals: u64,
    /// The most points that one honest node gave another; at 100 it would have
    /// been banned.
    pub honest_points_max: u32,
    /// The most requests that a node had open.
    pub requests_max: usize,
    /// The most headers that a node kept ahead of its chain.
    pub headers_max: usize,
    /// The most bytes of bodies that waited at a node.
    pub body_bytes_max: usize,
    /// Height of the last final block, at the best node; 0 without validators.
    pub final_height: u64,
    /// Height of that node's tip.
    pub height: u64,
    /// Votes by validators that lie.
    pub double_votes: u64,
    /// Pairs of votes by one liar that break a rule together.
    pub contradictions: u64,
    /// How often such a pair met at one honest node, which then had a proof.
    pub pairs_met: u64,
    /// Votes that honest validators sent out.
    pub votes_sent: u64,
    /// How often a node saw certificates conflict.
    pub finality_conflicts: u64,
    /// The best chain at each look at the network.
    pub timeline: Vec<Moment>,
    /// Looks at the whole network.
    pub inspections: u64,
    /// Chains replayed from the genesis.
    pub replays: u64,
    /// Every delay that the percentiles are of, sorted, milliseconds.
    #[serde(skip)]
    pub delays_ms: Vec<u32>,
}

impl Report {
    pub(crate) fn of(world: &Simulation) -> Self {
        let tip = world.best_honest().and_then(|index| {
            let node = world.members[index].node.as_ref()?;
            Some(node.chain().tip().clone())
        });
        let best: std::collections::HashSet<_> = tip
            .as_ref()
            .map(|tip| world.ledger.chain(&tip.hash()))
            .unwrap_or_default()
            .into_iter()
            .collect();
        let honest_blocks = || world.ledger.in_order().filter(|(_, found)| found.valid);
        let counted: Vec<bool> = honest_blocks()
            .filter(|(_, found)| found.counts)
            .map(|(hash, _)| best.contains(hash))
            .collect();
        let stale = counted.iter().filter(|on_best| !**on_best).count();
        let honest = world.members.iter().filter(|member| member.is_honest());
        let honest = honest.count();
        let arrivals = Arrivals::of(world, &best);
        let blocks_best = best.len() as u64;
        let most = |of: fn(&pithead_core::sync::SyncUsage) -> usize| {
            let all = world.members.iter().map(|member| of(&member.most));
            all.max().unwrap_or_default()
        };
        let measure = &world.measure;
        Self {
            settings: world.settings.clone(),
            digest: world.digest.text(),
            events: world.digest.events,
            virtual_secs: world.now_us / SECOND_US,
            blocks_found: honest_blocks().count() as u64,
            blocks_best,
            stale_rate: stale as f64 / counted.len().max(1) as f64,
            transactions: tip.as_ref().map_or(0, |tip| tip.outcome.transactions_total),
            propagation: Percentiles::of(&arrivals.all),
            half_of_nodes: Percentiles::of(&arrivals.half),
            nearly_all_nodes: Percentiles::of(&arrivals.nearly_all),
            reorganisations: measure.reorganisations.clone(),
            traffic: [
                ("announcements", measure.announcements),
                ("block requests and others", measure.requests),
                ("bodies", measure.bodies),
                ("other answers", measure.responses),
                ("transactions", measure.transactions),
                ("approvals", measure.approvals),
            ]
            .into_iter()
            .map(|(kind, traffic)| per_block(kind, traffic, blocks_best))
            .collect(),
            crashes: measure.crashes,
            splits: measure.splits,
            connections: measure.connections,
            honest,
            lies: measure.lies,
            bans: measure.bans,
            dismissals: measure.dismissals,
            honest_points_max: measure.honest_points_max,
            requests_max: most(|usage| usage.requests),
            headers_max: most(|usage| usage.headers),
            body_bytes_max: most(|usage| usage.body_bytes),
            final_height: world
                .best_honest()
                .and_then(|index| world.members[index].node.as_ref())
                .map_or(0, |node| crate::finality::status_of(node).last_final.height.0),
            height: tip.as_ref().map_or(0, |tip| tip.height.0),
            double_votes: world.finality.lies,
            contradictions: world.finality.contradictions,
            pairs_met: world.finality.pairs_met,
            votes_sent: world.finality.votes_left,
            finality_conflicts: world.finality.conflicts,
            timeline: world.watch.timeline.clone(),
            inspections: world.watch.inspections,
            replays: world.watch.replays,
            delays_ms: arrivals.all,
        }
    }
}

fn per_block(kind: &'static str, traffic: Traffic, blocks: u64) -> TrafficReport {
    let blocks = blocks.max(1) as f64;
    TrafficReport {
        kind,
        messages: traffic.messages as f64 / blocks,
        bytes: traffic.bytes as f64 / blocks,
    }
}

/// Delays of blocks, sorted, milliseconds.
#[derive(Default)]
struct Arrivals {
    all: Vec<u32>,
    half: Vec<u32>,
    nearly_all: Vec<u32>,
}

impl Arrivals {
    /// Of blocks on the best chain that were found while the network was whole.
    /// The finder itself does not count, nor do nodes that had a rival of the same
    /// height: they fetch the block once it has won.
    fn of(
        world: &Simulation,
        best: &std::collections::HashSet<pithead_consensus::BlockHash>,
    ) -> Self {
        let mut arrivals = Self::default();
        for (hash, found) in world.ledger.in_order() {
            if !found.counts || !best.contains(hash) {
                continue;
            }
            let came = found.arrivals_ms.iter().copied();
            let mut came: Vec<u32> = came.filter(|ms| *ms != NOT_ARRIVED).collect();
            came.sort_unstable();
            let at = |part: f64| (libm::ceil(part * found.audience as f64) as usize).max(1) - 1;
            arrivals.half.extend(came.get(at(0.5)));
            arrivals.nearly_all.extend(came.get(at(0.99)));
            arrivals.all.extend(came.iter().skip(1));
        }
        arrivals.all.sort_unstable();
        arrivals.half.sort_unstable();
        arrivals.nearly_all.sort_unstable();
        arrivals
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = [("", String::new()), ("-", String::new())]
            .into_iter()
            .chain(self.chain_rows())
            .map(|(name, value)| (name.to_owned(), value))
            .chain(self.traffic_rows())
            .chain(
                self.trouble_rows()
                    .map(|(name, value)| (name.to_owned(), value)),
            );
        for (name, value) in rows {
            if name == "-" {
                writeln!(f, "|{}|{}|", "-".repeat(46), "-".repeat(35) + ":")?;
            } else {
                writeln!(f, "| {name:<44} | {value:>34} |")?;
            }
        }
        writeln!(f, "\ndigest {}", self.digest)
    }
}

impl Report {
    /// What was run, and what became of the blocks.
    fn chain_rows(&self) -> [(&'static str, String); 10] {
        let settings = &self.settings;
        let times =
            |of: &Percentiles| format!("{} / {} / {} / {} ms", of.p50, of.p90, of.p99, of.max);
        let hours = self.virtual_secs as f64 / 3_600.0;
        [
            ("scenario", settings.scenario.name().to_owned()),
            ("seed", settings.seed.to_string()),
            (
                "nodes (honest), miners",
                format!("{} ({}), {}", settings.nodes, self.honest, settings.miners),
            ),
            (
                "virtual time, block interval",
                format!("{hours:.1} h, {} s", settings.interval_secs),
            ),
            (
                "blocks found, on the best chain",
                format!("{}, {}", self.blocks_found, self.blocks_best),
            ),
            ("stale rate", format!("{:.2} %", 100.0 * self.stale_rate)),
            (
                "propagation to a node: p50/p90/p99/max",
                times(&self.propagation),
            ),
            (
                "to half of the nodes: p50/p90/p99/max",
                times(&self.half_of_nodes),
            ),
            (
                "to 99 % of the nodes: p50/p90/p99/max",
                times(&self.nearly_all_nodes),
            ),
            ("reorganisations by depth (all nodes)", self.depths()),
        ]
    }

    /// Messages and bytes, per block.
    fn traffic_rows(&self) -> Vec<(String, String)> {
        let mut rows: Vec<(String, String)> = self
            .traffic
            .iter()
            .map(|traffic| {
                let value = format!("{:.0}: {:.1} kB", traffic.messages, traffic.bytes / 1e3);
                (format!("{} per block", traffic.kind), value)
            })
            .collect();
        let all: f64 = self.traffic.iter().map(|traffic| traffic.bytes).sum();
        let messages: f64 = self.traffic.iter().map(|traffic| traffic.messages).sum();
        let nodes = self.settings.nodes as f64;
        rows.push((
            "all of it per block and node".to_owned(),
            format!("{:.1}: {:.2} kB", messages / nodes, all / nodes / 1e3),
        ));
        rows
    }

    /// What went wrong around the nodes, and what was looked at.
    fn trouble_rows(&self) -> impl Iterator<Item = (&'static str, String)> {
        [
            (
                "final of blocks, conflicts",
                format!(
                    "{} of {}, {}",
                    self.final_height, self.height, self.finality_conflicts
                ),
            ),
            (
                "votes by liars, pairs that break a rule",
                format!("{}, {}", self.double_votes, self.contradictions),
            ),
            ("transactions mined", self.transactions.to_string()),
            (
                "crashes, splits, connections made",
                format!("{}, {}, {}", self.crashes, self.splits, self.connections),
            ),
            (
                "lies, bans of liars, bans of honest nodes",
                format!("{}, {}, 0", self.lies, self.bans),
            ),
            (
                "honest peers let go, their most points of 100",
                format!("{}, {}", self.dismissals, self.honest_points_max),
            ),
            (
                "most requests open, headers ahead at a node",
                format!("{}, {}", self.requests_max, self.headers_max),
            ),
            (
                "inspections, chains replayed",
                format!("{}, {}", self.inspections, self.replays),
            ),
            ("events", self.events.to_string()),
        ]
        .into_iter()
    }

    fn depths(&self) -> String {
        let depths = self.reorganisations.iter().enumerate();
        let parts: Vec<String> = depths
            .filter(|(_, count)| **count > 0)
            .map(|(depth, count)| format!("{depth}: {count}"))
            .collect();
        if parts.is_empty() {
            "none".to_owned()
        } else if parts.len() > 4 {
            let deepest = self.reorganisations.len() - 1;
            format!("{}, … deepest {deepest}", parts[..3].join(", "))
        } else {
            parts.join(", ")
        }
    }
}
