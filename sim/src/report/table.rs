//! The results of a run as a Markdown table, which the command prints and the
//! documentation quotes.
//!
//! It shows numbers and computes no results. Start reading at the implementation of `Display` for [`Report`].

use std::fmt;

use crate::report::summary::{Percentiles, Report};

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
    /// The settings, and how blocks spread and forked.
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

    /// Messages and bytes per block.
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

    /// The trouble that the nodes met, and how much was checked.
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

    /// Counts of reorganisations by depth; the first three only if there are many.
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
