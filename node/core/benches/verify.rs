//! The memory that `--verify` takes: makes a chain on disk, or verifies one and prints the most
//! memory that the process ever had.
//!
//! ```sh
//! cargo bench -p pithead-core --bench verify -- make DIR BLOCKS PAYMENTS
//! cargo bench -p pithead-core --bench verify -- disk DIR      # as pithead-node --verify does it
//! cargo bench -p pithead-core --bench verify -- memory DIR    # the replay in memory, to compare
//! ```
//!
//! Each block has so many payments, all to an address that is new.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use pithead_consensus::Address;
use pithead_core::chain::verify_stored;
use pithead_core::store::{MemoryStore, RedbStore, ScratchStore, Store, StoreReader};
use pithead_testkit::chain::SmallChain;
use pithead_testkit::nodes::{NOW, file, give, open};
use pithead_testkit::{FEE, key};

/// Half of the node's default cache, as `--verify` divides it.
const CACHE_BYTES: usize = 32 << 20;
/// What each payment pays.
const GRAINS: u64 = 10_000;

fn main() {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|each| !each.starts_with("--"))
        .collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["make", dir, blocks, payments] => make(
            Path::new(dir),
            blocks.parse().expect("a number"),
            payments.parse().expect("a number"),
        ),
        ["disk", dir] => measure(Path::new(dir), true),
        ["memory", dir] => measure(Path::new(dir), false),
        _ => println!("see the first lines of benches/verify.rs"),
    }
}

fn make(dir: &Path, count: u64, payments: u64) {
    let file = file();
    let genesis = file.check().expect("the test network is sound");
    let store = RedbStore::open(dir, CACHE_BYTES).expect("a new folder");
    let store: Arc<dyn Store> = Arc::new(store);
    let mut node = open(&store, &genesis, NOW);
    let mut chain = SmallChain::new(&file);
    for number in 0..count {
        let mut recipient = [0; 32];
        recipient[..8].copy_from_slice(&number.to_be_bytes());
        let outputs = [(Address(recipient), GRAINS)];
        let sequences = number * payments..(number + 1) * payments;
        let paid = sequences
            .map(|sequence| key(0).pay(&genesis.params.genesis_hash, sequence, FEE, &outputs))
            .collect();
        let block = chain.assemble(paid, key(7).address, 2);
        chain.connect(block.clone()).expect("a valid block");
        give(&mut node, &block, NOW + 2 * count).expect("a valid block");
    }
}

fn measure(dir: &Path, on_disk: bool) {
    let genesis = file().check().expect("the test network is sound");
    let started = Instant::now();
    let reader = StoreReader::open(dir, CACHE_BYTES).expect("a chain");
    let stored = reader.snapshot().expect("a chain");
    let scratch = ScratchStore::make(dir, CACHE_BYTES).expect("room");
    let replay: Arc<dyn Store> = if on_disk {
        scratch.store()
    } else {
        Arc::new(MemoryStore::new())
    };
    let report = verify_stored(stored.as_ref(), &genesis, replay, |_, _| {}).expect("sound");
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find(|line| line.starts_with("VmHWM"));
    println!(
        "{} blocks, {} transactions, {} accounts: {:.0?}, {}",
        report.blocks,
        report.transactions,
        report.accounts,
        started.elapsed(),
        peak.unwrap_or("VmHWM unknown")
    );
}
