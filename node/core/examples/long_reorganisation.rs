//! Measures a reorganisation of full blocks on disk: how long the core is away at most, and how
//! much memory it takes. The arguments are the blocks to undo, the payments in each, and `at-once`
//! to work it out in one event:
//!
//! ```sh
//! cargo run --release -p pithead-core --example long_reorganisation -- 40 2000
//! ```

#![allow(clippy::unwrap_used)]

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pithead_consensus::{Address, Block};
use pithead_core::chain::{Budget, ReorganisationLimits};
use pithead_core::node::{Event, Node};
use pithead_core::store::{RedbStore, Store};
use pithead_testkit::chain::SmallChain;
use pithead_testkit::nodes::{NOW, file, open};
use pithead_testkit::{FEE, key};

/// What each payment pays, grains. Each goes to an address of its own.
const PAID: u64 = 20_000;
const CACHE_BYTES: usize = 64 << 20;
const ALL: Budget = Budget {
    blocks: usize::MAX,
    bytes: usize::MAX,
};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |index: usize| arguments.get(index).and_then(|text| text.parse().ok());
    let (depth, payments) = (number(0).unwrap_or(10), number(1).unwrap_or(100));
    let limits = if arguments.iter().any(|text| text == "at-once") {
        ReorganisationLimits {
            at_once: ALL,
            piece: ALL,
        }
    } else {
        ReorganisationLimits::default()
    };
    let genesis = file().check().unwrap();
    let (old, new) = (
        full_blocks(0, depth, payments),
        full_blocks(1, depth + 1, payments),
    );
    let dir = tempfile::tempdir().unwrap();
    let store: Arc<dyn Store> = Arc::new(RedbStore::open(dir.path(), CACHE_BYTES).unwrap());
    let mut node = open(&store, &genesis, NOW).with_reorganisations(limits);
    old.iter()
        .chain(&new[..depth])
        .for_each(|block| give(&mut node, block));
    // The peak so far is forgotten.
    fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = status("VmRSS");
    let started = Instant::now();
    give(&mut node, &new[depth]);
    let mut longest = started.elapsed();
    let mut switched = Duration::ZERO;
    while node.has_more() {
        let event = Instant::now();
        node.handle(Event::Continue, NOW);
        longest = longest.max(event.elapsed());
        if switched.is_zero() && node.chain().tip().hash() == new[depth].header.hash() {
            switched = started.elapsed();
        }
    }
    assert_eq!(node.chain().tip().hash(), new[depth].header.hash());
    println!("{depth} blocks of {payments} payments undone");
    println!("longest event   {longest:.2?}");
    println!("switched after  {switched:.2?}");
    println!("all done after  {:.2?}", started.elapsed());
    println!(
        "memory          {before} before, {} at most",
        status("VmHWM")
    );
}

fn give(node: &mut Node, block: &Block) {
    node.handle(Event::Block(Box::new(block.clone())), NOW);
}

/// Blocks from the genesis on that one account fills with payments.
fn full_blocks(from: usize, count: usize, payments: usize) -> Vec<Block> {
    let file = file();
    let mut chain = SmallChain::new(&file);
    let genesis = file.check().unwrap().params.genesis_hash;
    let pay = |sequence: usize| {
        let mut address = [u8::try_from(from).unwrap(); 32];
        address[..8].copy_from_slice(&(sequence as u64 + 1).to_be_bytes());
        key(from).pay(&genesis, sequence as u64, FEE, &[(Address(address), PAID)])
    };
    (0..count)
        .map(|index| {
            let all = (index * payments..(index + 1) * payments)
                .map(pay)
                .collect();
            let block = chain.assemble(all, key(6 + from).address, 2);
            chain.connect(block.clone()).unwrap();
            block
        })
        .collect()
}

/// A line of this process's status, such as `VmRSS`.
fn status(name: &str) -> String {
    let text = fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace()
        .skip(1)
        .collect::<Vec<_>>()
        .join(" ")
}
