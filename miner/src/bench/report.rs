//! The results of a measurement, as JSON and as tables. This file measures nothing.

use std::fmt::Write as _;

use serde::Serialize;

use crate::report::si;

/// The results of a measurement.
#[derive(Debug, Clone, Serialize)]
pub struct BenchReport {
    /// Every kernel on one thread, the fastest first; empty unless all were compared.
    pub kernels: Vec<KernelRow>,
    /// The kernel that `rows` were measured with.
    pub kernel: &'static str,
    /// How many versions that kernel tried together.
    pub versions: usize,
    /// The name of the processor; `None` if the system does not show it.
    pub processor: Option<String>,
    /// How many processors this process may use.
    pub processors: usize,
    /// How many cores these processors belong to.
    pub cores: usize,
    /// One row for each number of threads, from 1 on.
    pub rows: Vec<BenchRow>,
    /// How long a block takes; `None` unless a node told its difficulty.
    pub estimate: Option<BlockEstimate>,
    /// Why the node that was asked gave no difficulty.
    pub estimate_error: Option<String>,
}

/// The speed of a kernel on one thread.
#[derive(Debug, Clone, Serialize)]
pub struct KernelRow {
    /// The kernel's name.
    pub name: &'static str,
    /// How many versions it tried together.
    pub versions: usize,
    /// Hashes a second; 0 for a wrong kernel.
    pub hash_rate: f64,
    /// The range on which a wrong kernel disagrees with consensus.
    pub error: Option<String>,
}

/// The speed of one number of threads.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct BenchRow {
    /// The number of mining threads.
    pub threads: usize,
    /// Length of the measurement.
    pub seconds: f64,
    /// Processor time that the whole process used meanwhile; `None` if the system does
    /// not show it.
    pub cpu_seconds: Option<f64>,
    /// Hashes that all threads tried.
    pub hashes: u64,
    /// Hashes a second, all threads together.
    pub hash_rate: f64,
    /// Millions of hashes a second, per thread.
    pub megahashes_per_thread: f64,
    /// The rate as a multiple of the rate of one thread.
    pub scaling: f64,
}

/// How long a block takes on a network, at the measured hash rate.
#[derive(Debug, Clone, Serialize)]
pub struct BlockEstimate {
    /// The network's name.
    pub network: String,
    /// The height of the node's tip.
    pub height: u64,
    /// How many hashes the next block takes on average.
    pub difficulty: f64,
    /// How long all threads take to find a block, on average.
    pub seconds_per_block: f64,
}

/// The table of all kernels.
#[must_use]
pub fn kernel_table(rows: &[KernelRow]) -> String {
    // The reference kernel runs on every machine, so there is always a row to compare
    // with.
    let reference = rows.iter().find(|row| row.name == "reference");
    let reference = reference.map_or(f64::NAN, |row| row.hash_rate);
    let mut text = format!(
        "{:<14}  {:>15}  {:>12}  {:>8}\n",
        "kernel", "MH/s per thread", "× reference", "versions"
    );
    for row in rows {
        if let Some(error) = &row.error {
            let _ = writeln!(text, "{:<14}  {error}", row.name);
            continue;
        }
        let _ = writeln!(
            text,
            "{:<14}  {:>15.3}  {:>12.2}  {:>8}",
            row.name,
            row.hash_rate / 1e6,
            row.hash_rate / reference,
            row.versions
        );
    }
    text
}

/// The head of the table of threads.
#[must_use]
pub fn table_head() -> String {
    format!(
        "{:>7}  {:>10}  {:>15}  {:>7}",
        "threads", "MH/s", "MH/s per thread", "scaling"
    )
}

/// One line of the table of threads.
#[must_use]
pub fn table_row(row: &BenchRow) -> String {
    let megahashes = row.hash_rate / 1e6;
    format!(
        "{:>7}  {megahashes:>10.3}  {:>15.3}  {:>6.2}×",
        row.threads, row.megahashes_per_thread, row.scaling
    )
}

/// The estimate as a sentence.
#[must_use]
pub fn estimate_text(estimate: &BlockEstimate) -> String {
    format!(
        "at the difficulty of network {} (height {}, {} hashes a block): a block every {}",
        estimate.network,
        estimate.height,
        si(estimate.difficulty, "").trim(),
        span(estimate.seconds_per_block)
    )
}

/// A length of time, in the largest unit of which it has at least two.
fn span(seconds: f64) -> String {
    const UNITS: [(f64, &str); 5] = [
        (365.25 * 86_400.0, "years"),
        (86_400.0, "days"),
        (3_600.0, "hours"),
        (60.0, "minutes"),
        (1.0, "seconds"),
    ];
    for (length, unit) in UNITS {
        if seconds >= 2.0 * length {
            return format!("{:.1} {unit}", seconds / length);
        }
    }
    format!("{:.3} seconds", seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_shown_in_a_fitting_unit() {
        for (seconds, text) in [
            (0.0004, "0.000 seconds"),
            (1.5, "1.500 seconds"),
            (119.0, "119.0 seconds"),
            (150.0, "2.5 minutes"),
            (86_400.0, "24.0 hours"),
            (1e9, "31.7 years"),
        ] {
            assert_eq!(span(seconds), text);
        }
    }

    #[test]
    fn tables_name_what_they_show() {
        let rows = [("avx", 16, 4e7), ("reference", 1, 5e6)].map(|(name, versions, hash_rate)| {
            KernelRow {
                name,
                versions,
                hash_rate,
                error: None,
            }
        });
        let table = kernel_table(&rows);
        assert!(table.contains("avx") && table.contains("40.000") && table.contains("8.00"));
        let estimate = estimate_text(&BlockEstimate {
            network: "dev".to_owned(),
            height: 7,
            difficulty: 4.2e6,
            seconds_per_block: 0.5,
        });
        assert!(
            estimate.contains("network dev (height 7, 4.20 M hashes a block): a block every 0.500"),
            "{estimate}"
        );
    }
}
