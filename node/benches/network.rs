//! How fast real nodes catch up and tell each other of blocks, over loopback:
//!
//! ```sh
//! cargo bench -p pithead-node --bench network -- sync [BLOCKS [TRANSACTIONS_A_BLOCK]]
//! cargo bench -p pithead-node --bench network -- relay [NODES [BLOCKS]]
//! cargo bench -p pithead-node --bench network -- finality [CHECKPOINTS]
//! ```
//!
//! - `sync`: an empty node catches up with a node that holds a chain of that length. Its time is
//!   shown beside the cost of verifying the same signatures alone.
//! - `relay`: the first of many nodes gets solutions, and the time is taken when each other node
//!   has the block. Before that, the cost of idle nodes is measured.
//! - `finality`: the same with the 25 validators of the reference network, first without votes and
//!   then with a vote for every block. The difference is what a checkpoint costs.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pithead_api::v1;
use pithead_api::v1::subscribe_chain_response::Event;
use pithead_consensus::SignedTransaction;
use pithead_core::store::{RedbStore, Store};
use pithead_testkit::nodes::give_all;
use pithead_testkit::process::reference::{Reference, VALIDATORS};
use pithead_testkit::process::{Network, TestNode, data_dir};
use pithead_testkit::{FEE, key};
use rayon::prelude::*;
use tempfile::TempDir;
use tokio::sync::mpsc;

/// The keys that pay, each its share of a block's transactions.
const SENDERS: usize = 4;
/// Blocks handed to the core at a time.
const CHUNK_BLOCKS: usize = 100;
/// Seconds from one block of the chain to the next: the network's block interval.
const INTERVAL_SECS: u32 = 2;
/// The database's cache, as the node's default is.
const CACHE_BYTES: usize = 64 << 20;
/// Pause between two looks at how far a node is.
const POLL: Duration = Duration::from_millis(20);
/// How long nodes still exchange addresses and the like after they met.
const SETTLE: Duration = Duration::from_secs(60);
/// How long idle nodes are watched.
const IDLE: Duration = Duration::from_secs(30);
/// Pause after a block, for its echoes to die down.
const PAUSE: Duration = Duration::from_millis(300);
/// From one checkpoint to the next: the network's block interval.
const PACE: Duration = Duration::from_secs(2);
/// Payments in each block of the second half of a relay run.
const PAYMENTS: usize = 20;

#[tokio::main]
async fn main() {
    // Cargo adds --bench.
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    let number = |place: usize, default: usize| {
        let given = arguments.get(place).map(|text| text.parse().unwrap());
        given.unwrap_or(default)
    };
    match arguments.first().map(String::as_str) {
        Some("sync") => sync(number(1, 10_000), number(2, 20)).await,
        Some("relay") => relay(number(1, 25), number(2, 100)).await,
        Some("finality") => {
            println!(
                "| 25 nodes | approved at the first node, p50 / p99 / max | approved everywhere | final everywhere | bytes a block and node | CPU a block and node | all nodes, of one core |"
            );
            println!("|---|--:|--:|--:|--:|--:|--:|");
            for voting in [false, true] {
                finality(number(1, 60), voting).await;
            }
        }
        None => {
            sync(1_000, 20).await;
            relay(5, 20).await;
        }
        Some(other) => panic!("{other} is none of sync, relay and finality"),
    }
}

/// A network whose genesis is old enough for so many blocks.
fn network(blocks: usize) -> Network {
    let age = u32::try_from(blocks).unwrap() * INTERVAL_SECS + 600;
    Network::with(|file| file.time -= age)
}

fn start(network: &Network, dir: &Path, bootnode: Option<&str>) -> TestNode {
    let mut flags = vec!["--listen", "/ip4/127.0.0.1/tcp/0"];
    if let Some(bootnode) = bootnode {
        flags.extend(["--bootnode", bootnode]);
    }
    TestNode::start_with(network, dir, &flags)
}

/// CPU seconds that a process has used.
fn cpu_secs(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The name in brackets may hold blanks.
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks: f64 = [11, 12]
        .map(|field: usize| fields[field].parse::<f64>().unwrap())
        .iter()
        .sum();
    // Linux counts a hundred ticks a second for programs to read.
    ticks / 100.0
}

/// Resident memory of a process, MiB.
fn resident_mib(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS"))
        .unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<f64>()
        .unwrap()
        / 1_024.0
}

/// Payments of all senders in turn, `sequences` of each.
fn payments(network: &Network, sequences: std::ops::Range<u64>) -> Vec<SignedTransaction> {
    let all: Vec<(u64, usize)> = sequences
        .flat_map(|sequence| (0..SENDERS).map(move |sender| (sequence, sender)))
        .collect();
    all.par_iter()
        .map(|(sequence, sender)| network.pay(*sender, *sequence, sender + SENDERS, 10_000, FEE))
        .collect()
}

/// Makes a chain on disk; returns its transactions.
fn make_chain(
    network: &Network,
    dir: &Path,
    blocks: usize,
    per_block: usize,
) -> Vec<SignedTransaction> {
    let sequences = u64::try_from((blocks * per_block).div_ceil(SENDERS)).unwrap();
    let all = payments(network, 0..sequences);
    let store: Arc<dyn Store> = Arc::new(RedbStore::open(dir, CACHE_BYTES).unwrap());
    let now = pithead_testkit::process::now();
    let mut node = pithead_testkit::nodes::open(&store, &network.genesis, now);
    let mut mirror = network.mirror();
    let mut rest = all.as_slice();
    for done in (0..blocks).step_by(CHUNK_BLOCKS) {
        let mut chunk = Vec::new();
        for _ in done..blocks.min(done + CHUNK_BLOCKS) {
            let (now, later) = rest.split_at(per_block.min(rest.len()));
            rest = later;
            let block = mirror.assemble(now.to_vec(), key(7).address, INTERVAL_SECS);
            mirror.connect(block.clone()).unwrap();
            chunk.push(block);
        }
        give_all(&mut node, &chunk, now);
    }
    assert_eq!(node.chain().tip().height.0, blocks as u64);
    all
}

/// Seconds to verify all signatures, on one core and on all.
fn verify_bare(network: &Network, all: &[SignedTransaction]) -> (f64, f64) {
    let verifies = |transaction: &SignedTransaction| {
        let sender = (0..SENDERS).find(|index| key(*index).address == transaction.body.sender);
        let message = transaction.body.signing_message(&network.hash());
        key(sender.unwrap())
            .public
            .verifies(&message, &transaction.signature)
    };
    let began = Instant::now();
    assert!(all.iter().all(verifies));
    let one = began.elapsed().as_secs_f64();
    let began = Instant::now();
    assert!(all.par_iter().all(verifies));
    (one, began.elapsed().as_secs_f64())
}

async fn sync(blocks: usize, per_block: usize) {
    let network = network(blocks);
    let (first_dir, second_dir) = (data_dir(), data_dir());
    eprintln!("making {blocks} blocks of {per_block} transactions …");
    let all = make_chain(&network, first_dir.path(), blocks, per_block);
    let first = start(&network, first_dir.path(), None);
    let bootnode = first.listen_address().await;
    let before = cpu_secs(first.pid());
    let began = Instant::now();
    let second = start(&network, second_dir.path(), Some(&bootnode));
    while second.height().await < blocks as u64 {
        tokio::time::sleep(POLL).await;
    }
    let secs = began.elapsed().as_secs_f64();
    let (served, synced) = (cpu_secs(first.pid()) - before, cpu_secs(second.pid()));
    let memory = resident_mib(second.pid());
    assert!(second.terminate().await.success());
    assert!(first.terminate().await.success());
    let (one, every) = verify_bare(&network, &all);
    let count = all.len() as f64;
    println!("| | s | blocks/s | transactions/s |\n|---|--:|--:|--:|");
    let row = |what: &str, secs: f64| {
        println!(
            "| {what} | {secs:.2} | {:.0} | {:.0} |",
            blocks as f64 / secs,
            count / secs
        );
    };
    row("an empty node catches up", secs);
    row("its CPU time", synced);
    row("its peer's CPU time", served);
    row("only verifying the signatures, one core", one);
    row("only verifying the signatures, all cores", every);
    println!(
        "catching up takes {:.2} × the time of verifying on all cores, {:.2} × its CPU time; {memory:.0} MiB resident at the end",
        secs / every,
        synced / one
    );
}

/// A running network.
struct Nodes {
    network: Network,
    nodes: Vec<TestNode>,
    /// Where they listen for each other.
    ports: Vec<String>,
    _dirs: Vec<TempDir>,
}

impl Nodes {
    async fn start(count: usize) -> Self {
        let network = network(0);
        let dirs: Vec<TempDir> = (0..count).map(|_| data_dir()).collect();
        let mut nodes = vec![start(&network, dirs[0].path(), None)];
        let bootnode = nodes[0].listen_address().await;
        for dir in &dirs[1..] {
            nodes.push(start(&network, dir.path(), Some(&bootnode)));
        }
        Self::of(network, nodes, dirs).await
    }

    /// The reference network; whether its validators vote.
    async fn reference(voting: bool) -> Self {
        let mut all = Reference::new();
        let start = if voting {
            Reference::start
        } else {
            Reference::start_mute
        };
        start(&mut all, 0, None);
        let bootnode = all.address(0).await;
        for index in 1..VALIDATORS {
            start(&mut all, index, Some(&bootnode));
        }
        let nodes = all.nodes.into_iter().flatten().collect();
        Self::of(all.network, nodes, all.dirs).await
    }

    /// Waits until the first node is connected with all others.
    async fn of(network: Network, nodes: Vec<TestNode>, dirs: Vec<TempDir>) -> Self {
        while nodes[0].peers().await.len() < nodes.len() - 1 {
            tokio::time::sleep(POLL).await;
        }
        let mut ports = Vec::new();
        for node in &nodes {
            // /ip4/127.0.0.1/tcp/PORT/p2p/ID
            let address = node.listen_address().await;
            ports.push(address.split('/').nth(4).unwrap().to_owned());
        }
        Self {
            network,
            nodes,
            ports,
            _dirs: dirs,
        }
    }

    /// What the nodes cost while nothing happens: part of a core, and bytes a second.
    async fn idle(&self) -> (f64, f64) {
        tokio::time::sleep(SETTLE).await;
        let (before, sent) = (self.cpu_secs(), self.sent());
        tokio::time::sleep(IDLE).await;
        let secs = IDLE.as_secs_f64();
        let bytes = (self.sent() - sent) as f64 / secs;
        ((self.cpu_secs() - before) / secs, bytes)
    }

    fn cpu_secs(&self) -> f64 {
        self.nodes.iter().map(|node| cpu_secs(node.pid())).sum()
    }

    /// Bytes that all nodes have sent one another so far, as the kernel counted
    /// them: of every message, repeated announcements and encryption included.
    fn sent(&self) -> u64 {
        let listing = Command::new("ss").arg("-tinHO").output();
        let listing = listing.expect("ss, of iproute2, counts the bytes");
        let text = String::from_utf8(listing.stdout).unwrap();
        let is_ours = |address: &str| {
            let port = address.rsplit(':').next().unwrap_or_default();
            self.ports.iter().any(|ours| ours == port)
        };
        text.lines()
            .filter_map(|line| {
                let fields: Vec<&str> = line.split_whitespace().collect();
                // State, two queues, local and peer address, then the counters.
                (is_ours(fields.get(3)?) || is_ours(fields.get(4)?)).then_some(())?;
                let sent = fields
                    .iter()
                    .find_map(|field| field.strip_prefix("bytes_sent:"));
                sent?.parse::<u64>().ok()
            })
            .sum()
    }

    /// Notes when each node has a block, approved or final at last.
    async fn listen(&self) -> mpsc::UnboundedReceiver<Sighting> {
        let (sender, receiver) = mpsc::unbounded_channel();
        for (node, process) in self.nodes.iter().enumerate() {
            let request = v1::SubscribeChainRequest {
                view: v1::BlockView::Header.into(),
                ..Default::default()
            };
            let answer = process.chain().subscribe_chain(request).await;
            let (mut stream, sender) = (answer.unwrap().into_inner(), sender.clone());
            tokio::spawn(async move {
                while let Ok(Some(step)) = stream.message().await {
                    let when = Instant::now();
                    let (what, header) = match step.event {
                        Some(Event::Connected(block)) => (Stage::Connected, block.header.unwrap()),
                        Some(Event::Approved(header)) => (Stage::Approved, header),
                        Some(Event::Final(header)) => (Stage::Final, header),
                        _ => continue,
                    };
                    let _ = sender.send(Sighting {
                        node,
                        what,
                        height: header.height,
                        when,
                    });
                }
            });
        }
        receiver
    }
}

/// How far a block has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Connected,
    Approved,
    Final,
}

/// A block has come so far at a node.
#[derive(Debug)]
struct Sighting {
    node: usize,
    what: Stage,
    height: u64,
    when: Instant,
}

/// The median, the 99th percentile and the largest.
fn spread(values: &mut [f64]) -> String {
    values.sort_by(f64::total_cmp);
    if values.is_empty() {
        return "–".to_owned();
    }
    let [half, most, largest] = [50, 99, 100].map(|per_cent| quantile(values, per_cent));
    format!("{half:.1} / {most:.1} / {largest:.1} ms")
}

/// The value that this percentage of the sorted values does not exceed.
fn quantile(sorted: &[f64], per_cent: usize) -> f64 {
    sorted[(sorted.len() * per_cent / 100).min(sorted.len() - 1)]
}

async fn relay(count: usize, blocks: usize) {
    let began = Instant::now();
    let nodes = Nodes::start(count).await;
    println!(
        "{count} nodes; the first has {} peers {:.1} s after the start",
        count - 1,
        began.elapsed().as_secs_f64()
    );
    let (idle, idle_bytes) = nodes.idle().await;
    println!(
        "idle: {:.1} % of one core and {:.1} kB/s sent, all nodes together; the first takes {:.0} MiB, the last {:.0} MiB",
        idle * 100.0,
        idle_bytes / 1e3,
        resident_mib(nodes.nodes[0].pid()),
        resident_mib(nodes.nodes[count - 1].pid())
    );
    let mut arrivals = nodes.listen().await;
    println!(
        "| blocks | first → each other node, p50 / p99 / max | first → last node, p50 / p99 / max | bytes a block and node | CPU a block and node |"
    );
    println!("|---|--:|--:|--:|--:|");
    let mut sequence = 0;
    for per_block in [0, PAYMENTS] {
        let (mut each, mut last) = (Vec::new(), Vec::new());
        let (sent, cpu, began) = (nodes.sent(), nodes.cpu_secs(), Instant::now());
        for _ in 0..blocks {
            let rounds = (per_block / SENDERS) as u64;
            for transaction in payments(&nodes.network, sequence..sequence + rounds) {
                nodes.nodes[0].accept(&transaction).await;
            }
            sequence += rounds;
            tokio::time::sleep(PAUSE).await;
            let (first, reward) = (&nodes.nodes[0], key(7).address);
            first.settle(&nodes.network).await;
            let block = first.next_block(&reward, &nodes.network).await;
            let height = first.height().await + 1;
            let solved = Instant::now();
            first.extend(&block).await;
            let mut times = Vec::new();
            while times.len() < count {
                let seen = arrivals.recv().await.unwrap();
                if seen.height == height {
                    times.push((seen.node, (seen.when - solved).as_secs_f64() * 1e3));
                }
            }
            let others = times.iter().filter(|(number, _)| *number > 0);
            each.extend(others.clone().map(|(_, ms)| *ms));
            last.push(others.map(|(_, ms)| *ms).fold(0.0, f64::max));
        }
        let secs = began.elapsed().as_secs_f64();
        let bytes = (nodes.sent() - sent) as f64 - idle_bytes * secs;
        let cpu = nodes.cpu_secs() - cpu - idle * secs;
        let share = (blocks * count) as f64;
        println!(
            "| {blocks} of {per_block} transactions | {} | {} | {:.2} kB | {:.2} ms |",
            spread(&mut each),
            spread(&mut last),
            bytes / share / 1e3,
            cpu / share * 1e3
        );
    }
    for node in nodes.nodes {
        assert!(node.terminate().await.success());
    }
}

/// Blocks one after the other, each with its approvals before the next one comes; or
/// with as long a time and no approvals.
async fn finality(checkpoints: usize, voting: bool) {
    let nodes = Nodes::reference(voting).await;
    let (idle, idle_bytes) = nodes.idle().await;
    let mut sightings = nodes.listen().await;
    let (mut first, mut everywhere, mut last_final) = (Vec::new(), Vec::new(), Vec::new());
    let (sent, cpu, began) = (nodes.sent(), nodes.cpu_secs(), Instant::now());
    let mut solved = Vec::new();
    let mut pace = tokio::time::interval(PACE);
    // One more makes the last one final.
    for height in 1..=checkpoints as u64 + 1 {
        pace.tick().await;
        let (node, reward) = (&nodes.nodes[0], key(7).address);
        let block = node.next_block(&reward, &nodes.network).await;
        solved.push(Instant::now());
        node.extend(&block).await;
        let awaited = if voting {
            Stage::Approved
        } else {
            Stage::Connected
        };
        let mut there = 0;
        while there < VALIDATORS {
            let seen = sightings.recv().await.unwrap();
            // The genesis is approved and final from the start.
            if seen.height == 0 {
                continue;
            }
            let since = |height: u64| {
                let began = solved[usize::try_from(height).unwrap() - 1];
                (seen.when - began).as_secs_f64() * 1e3
            };
            there += usize::from(seen.what == awaited && seen.height == height);
            match seen.what {
                Stage::Approved if seen.node == 0 => first.push(since(seen.height)),
                Stage::Approved => {}
                Stage::Final => last_final.push(since(seen.height)),
                _ => continue,
            }
            if seen.what == Stage::Approved {
                everywhere.push(since(seen.height));
            }
        }
    }
    tokio::time::sleep(PAUSE).await;
    let secs = began.elapsed().as_secs_f64();
    let bytes = (nodes.sent() - sent) as f64 - idle_bytes * secs;
    let busy = nodes.cpu_secs() - cpu;
    let share = ((checkpoints + 1) * VALIDATORS) as f64;
    println!(
        "| {} | {} | {} | {} | {:.2} kB | {:.2} ms | {:.1} % |",
        if voting { "voting" } else { "mute" },
        spread(&mut first),
        spread(&mut everywhere),
        spread(&mut last_final),
        bytes / share / 1e3,
        (busy - idle * secs) / share * 1e3,
        busy / secs * 100.0
    );
    for node in nodes.nodes {
        assert!(node.terminate().await.success());
    }
}
