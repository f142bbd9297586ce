//! What a devnet shows on the terminal. It decides on wording and layout only; it
//! asks no node and starts no process.

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use indicatif::{ProgressBar, ProgressStyle};
use pithead_api::v1;
use pithead_client::DEFAULT_NODE_URL;
use pithead_consensus::Amount;

use super::layout::Layout;
use super::plan::Plan;
use super::stopwatch::Spread;
use crate::terminal::output::{BOLD, ColorChoice, Column, DIM, GREEN, Printer, RED, table};
use crate::terminal::words;

/// Blocks shown from each end of a long chain.
const BLOCKS_SHOWN_EACH_END: usize = 12;

/// Writes to standard output. If that is closed, the network runs on in silence.
#[derive(Clone)]
pub(super) struct DevnetView {
    out: Printer,
    /// Number of steps that were shown.
    steps: Arc<AtomicUsize>,
    /// Height of the last final block that was shown.
    shown_final: Arc<AtomicU64>,
}

/// An account, as the table of balances shows it.
pub(super) struct BalanceRow {
    pub(super) name: String,
    pub(super) address: String,
    pub(super) balance: Amount,
    pub(super) sequence: u64,
}

/// A node, as the table of nodes shows it.
pub(super) struct NodeRow {
    pub(super) name: String,
    pub(super) url: String,
    pub(super) peers: u32,
    pub(super) height: u64,
    pub(super) miners: u32,
    /// Heights of its highest approved and its last final block, if it has any.
    pub(super) secured: Option<(u64, u64)>,
}

/// What the examples at the end of the demonstration are made from.
pub(super) struct NextSteps<'a> {
    pub(super) layout: &'a Layout,
    pub(super) plan: &'a Plan,
    /// URL of the first node's API.
    pub(super) url: &'a str,
    /// Name and address of a wallet.
    pub(super) example: (&'a str, String),
    /// Whether the folder outlives this process.
    pub(super) kept: bool,
}

impl NextSteps<'_> {
    /// The commands to try, each ready to be copied.
    fn commands(&self) -> Vec<String> {
        let flag = match self.url {
            DEFAULT_NODE_URL => String::new(),
            url => format!(" --node {url}"),
        };
        let (name, address) = &self.example;
        let host = self.url.trim_start_matches("http://");
        let wallets = format!("--wallet-dir {}", self.layout.wallets().display());
        let token = self.layout.mine_token(1);
        let token = token.display();
        let has_validators = self.plan.validators() > 0;
        let until = if has_validators { "=final" } else { "" };
        let mut commands = vec![
            format!("pithead{flag} chain"),
            format!("pithead{flag} watch"),
            format!("pithead{flag} peers"),
            format!("pithead{flag} {wallets} balance"),
            format!("pithead{flag} {wallets} send --from miner --to {name}=2.5 --wait{until}"),
            format!("pithead{flag} workers --token-file {token}"),
            format!("grpcurl -plaintext {host} list pithead.v1.ChainService"),
            format!(
                "grpcurl -plaintext -d '{{\"address\":\"{address}\"}}' {host} pithead.v1.ChainService/GetAccount"
            ),
            format!("grpcurl -plaintext {host} pithead.v1.ChainService/SubscribeChain"),
            format!(
                "grpcurl -plaintext -H \"authorization: Bearer $(cat {token})\" {host} pithead.v1.MiningService/ListWorkers"
            ),
        ];
        if has_validators {
            commands.insert(3, format!("pithead{flag} validators"));
        }
        if self.kept {
            commands.push(format!(
                "pithead devnet --data-dir {} --nodes {}",
                self.layout.folder().display(),
                self.plan.nodes
            ));
        }
        commands
    }
}

/// A bar that shows how many keys are made; nothing if the output is no terminal.
pub(super) struct KeyProgress(Option<ProgressBar>);

impl KeyProgress {
    pub(super) fn tick(&self) {
        if let Some(bar) = &self.0 {
            bar.inc(1);
        }
    }

    pub(super) fn end(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

impl DevnetView {
    pub(super) fn new() -> Self {
        Self {
            out: Printer::new(ColorChoice::Auto),
            steps: Arc::default(),
            shown_final: Arc::default(),
        }
    }

    pub(super) fn line(&self, text: &str) {
        let _ = self.out.line(text);
    }

    /// Shows what the network consists of and where its data is.
    pub(super) fn banner(&self, layout: &Layout, plan: &Plan, kept: bool, resumed: bool) {
        let count = |count: u32, what: &str| match count {
            1 => format!("one {what}"),
            _ => format!("{count} {what}s"),
        };
        let nodes = count(plan.nodes, "node");
        let miners = count(plan.miners, "miner");
        let title = "Pithead devnet";
        self.line(&format!(
            "{}: a chain of its own on this machine, with {nodes} and {miners}, each a process",
            self.out.paint(&[BOLD], title)
        ));
        if let Some(quorum) = plan.quorum {
            self.line(&format!("Quorum: {quorum}"));
        }
        let fate = match (kept, resumed) {
            (true, true) => "it goes on where it was",
            (true, false) => "kept",
            (false, _) => "removed at the end; keep it with --data-dir",
        };
        self.line(&format!("Data: {} ({fate})", layout.folder().display()));
    }

    /// Begins a step: its number and title.
    pub(super) fn step(&self, title: &str) {
        let number = self.steps.fetch_add(1, Ordering::Relaxed) + 1;
        self.line("");
        self.line(&self.out.paint(&[BOLD], &format!("{number}. {title}")));
    }

    /// Shows a result that was checked.
    pub(super) fn done(&self, result: impl AsRef<str>) {
        let mark = self.out.paint(&[GREEN], "✓");
        self.line(&format!("  {mark} {}", result.as_ref()));
    }

    /// Starts a bar for `total` keys.
    pub(super) fn progress(&self, total: usize) -> KeyProgress {
        if !std::io::stderr().is_terminal() {
            return KeyProgress(None);
        }
        let bar = ProgressBar::new(total as u64);
        if let Ok(style) = ProgressStyle::with_template("  {bar:30} {pos}/{len} keys") {
            bar.set_style(style);
        }
        KeyProgress(Some(bar))
    }

    /// Shows a new block.
    pub(super) fn block(&self, block: &v1::Block) {
        let header = block.header.clone().unwrap_or_default();
        let transactions = match block.transaction_count {
            1 => "1 transaction".to_owned(),
            count => format!("{count} transactions"),
        };
        self.line(&format!(
            "  block {:>4}  {}  {:<16} difficulty {}",
            header.height,
            header.hash,
            transactions,
            words::si(header.difficulty)
        ));
    }

    /// Shows the highest approved and the last final block, and how far behind the
    /// tip each is.
    pub(super) fn secured(&self, tip: u64, approved: u64, last_final: u64) {
        // A new stream begins with the last final block, which was shown before.
        if self.shown_final.swap(last_final, Ordering::Relaxed) == last_final {
            return;
        }
        let lag = |height: u64| match tip.saturating_sub(height) {
            0 => "the tip".to_owned(),
            lag => format!("{lag} behind"),
        };
        let text = format!(
            "final {last_final:>4} ({}), approved {approved:>4} ({})",
            lag(last_final),
            lag(approved)
        );
        self.line(&format!("  {}", self.out.paint(&[GREEN], &text)));
    }

    /// Shows how long blocks took to be approved or to become final.
    pub(super) fn spread(&self, what: &str, spread: Option<Spread>) {
        if let Some(spread) = spread {
            self.done(format!(
                "from block to {what}: p50 {:.3} s, p99 {:.3} s, of {} blocks, as a client of the first node saw it",
                spread.p50.as_secs_f64(),
                spread.p99.as_secs_f64(),
                spread.count
            ));
        }
    }

    pub(super) fn payments(&self, lines: &[(String, String, String)], amount: &str) {
        let columns = [
            Column::Left("from"),
            Column::Left("to"),
            Column::Right("PIT"),
            Column::Left("txid"),
        ];
        let rows = lines.iter().map(|(from, to, txid)| {
            vec![from.clone(), to.clone(), amount.to_owned(), txid.clone()]
        });
        self.line(&table(&columns, rows));
    }

    pub(super) fn balances(&self, rows: &[BalanceRow]) {
        let columns = [
            Column::Left("wallet"),
            Column::Left("address"),
            Column::Right("sent"),
            Column::Right("balance / PIT"),
        ];
        let rows = rows.iter().map(|row| {
            vec![
                row.name.clone(),
                row.address.clone(),
                row.sequence.to_string(),
                PaddedPit(row.balance).to_string(),
            ]
        });
        self.line(&table(&columns, rows));
    }

    /// Shows the chain, oldest block first, without the middle of a long one.
    pub(super) fn chain(&self, newest_first: &[v1::Block]) {
        let columns = [
            Column::Right("height"),
            Column::Left("hash"),
            Column::Left("time"),
            Column::Right("txs"),
            Column::Right("fees / PIT"),
            Column::Right("difficulty"),
        ];
        let count = newest_first.len();
        let gap = count > 2 * BLOCKS_SHOWN_EACH_END + 1;
        let mut rows = Vec::new();
        for (index, block) in newest_first.iter().rev().enumerate() {
            let hidden =
                gap && index >= BLOCKS_SHOWN_EACH_END && index < count - BLOCKS_SHOWN_EACH_END;
            if hidden {
                if index == BLOCKS_SHOWN_EACH_END {
                    let left_out = count - 2 * BLOCKS_SHOWN_EACH_END;
                    rows.push(vec!["…".to_owned(), format!("{left_out} more blocks")]);
                }
                continue;
            }
            let header = block.header.clone().unwrap_or_default();
            rows.push(vec![
                header.height.to_string(),
                header.hash.clone(),
                words::iso(header.time.as_ref()),
                block.transaction_count.to_string(),
                words::pit(block.fees),
                words::si(header.difficulty),
            ]);
        }
        self.line(&table(&columns, rows));
    }

    /// Shows totals of the chain and of the money.
    pub(super) fn summary(&self, info: &v1::GetChainInfoResponse, workers: u32, issued: u64) {
        let tip = info.tip.clone().unwrap_or_default();
        self.done(format!(
            "{} blocks, {} transactions, {workers} miners at {} together",
            tip.height,
            info.transaction_count,
            words::hash_rate(info.network_hash_rate),
        ));
        self.done(format!(
            "supply {}: the allocations and {} of subsidies, to the grain",
            words::pit_unit(info.supply),
            words::pit_unit(issued)
        ));
        self.line("");
    }

    /// Shows commands to try on the network that keeps running.
    pub(super) fn next_steps(&self, next: &NextSteps<'_>) {
        let bold = self
            .out
            .paint(&[BOLD], "The network keeps running until Ctrl-C.");
        self.line(&bold);
        let log = next.layout.log("node");
        self.line(&format!("API: {}   logs: {}", next.url, log.display()));
        self.line("Try, in another terminal (the programs are in target/release/ of a clone):");
        for command in next.commands() {
            self.line(&format!("  {command}"));
        }
        self.line("");
        self.line(&self.out.paint(&[DIM], "Blocks as they come:"));
    }

    /// Shows how many peers and miners each node has, and where its chain stands.
    pub(super) fn nodes(&self, rows: &[NodeRow]) {
        let mut columns = vec![
            Column::Left("node"),
            Column::Left("API"),
            Column::Right("peers"),
            Column::Right("height"),
            Column::Right("miners"),
        ];
        if rows.iter().any(|row| row.secured.is_some()) {
            columns.extend([Column::Right("approved"), Column::Right("final")]);
        }
        let rows = rows.iter().map(|row| {
            let mut cells = vec![
                row.name.clone(),
                row.url.clone(),
                row.peers.to_string(),
                row.height.to_string(),
                row.miners.to_string(),
            ];
            if let Some((approved, last_final)) = row.secured {
                cells.extend([approved.to_string(), last_final.to_string()]);
            }
            cells
        });
        self.line(&table(&columns, rows));
    }

    /// Shows the last lines of a process's log.
    pub(super) fn log_end(&self, name: &str, lines: &[&str]) {
        self.line(
            &self
                .out
                .paint(&[RED], &format!("End of the log of {name}:")),
        );
        for line in lines {
            self.line(&format!("  {line}"));
        }
    }
}

/// An amount with all eight decimals, so that a column of them is aligned.
struct PaddedPit(Amount);

impl std::fmt::Display for PaddedPit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let grains = self.0.grains();
        let unit = pithead_consensus::amount::GRAINS_PER_PIT;
        write!(f, "{}.{:08}", grains / unit, grains % unit)
    }
}
