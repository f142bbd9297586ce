//! How long a node needs for the costliest blocks that the rules allow, one for each resource
//! (ADR 12), with so many accounts in its database. Stores are in a temporary folder; set TMPDIR to
//! measure another disk. Each block is new to the node: all is checked, committed and synced.
//!
//! `cargo bench -p pithead-core --bench costliest -- 1000000 12000`: accounts, and account changes
//! of a block. With 100,000 changes the blocks are those of a network without that limit.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pithead_consensus::block::EMPTY_BLOCK_BYTES;
use pithead_consensus::genesis::{AllocationEntry, GenesisFile};
use pithead_consensus::hash::sha256;
use pithead_consensus::{Address, Block, BlockHash, Output, SignedTransaction, TransactionBody};
use pithead_consensus::{merkle, transaction};
use pithead_core::node::Node;
use pithead_core::store::{RedbStore, Store};
use pithead_testkit::chain::mine;
use pithead_testkit::nodes::{NOW, file, give_all, open};
use pithead_testkit::{KEYS, grains, key};

/// The database's cache, as the node's default is.
const CACHE_BYTES: usize = 64 << 20;
/// How often each block is built and connected.
const ROUNDS: usize = 3;
/// Most accounts that the genesis makes; blocks make the others.
const ALLOCATED_MAX: u64 = 1_000_000;
/// What each output carries: as much as opens an account.
const AMOUNT: u64 = 10_000;
/// Spenders; each owns this, PIT.
const SPENDERS: usize = 4;
const SPENDER_PIT: u64 = 10_000_000;

/// What the transactions of a block look like.
#[derive(Clone, Copy)]
struct Shape {
    name: &'static str,
    outputs: usize,
    data: usize,
    /// Whether the outputs go to new addresses.
    opens: bool,
}

const SHAPES: [Shape; 5] = [
    shape("signatures and old accounts", 1, 0, false),
    shape("signatures and new accounts", 1, 0, true),
    shape("old accounts", transaction::MAX_OUTPUTS, 0, false),
    shape("new accounts", transaction::MAX_OUTPUTS, 0, true),
    shape("data", 1, transaction::MAX_DATA_BYTES, false),
];

const fn shape(name: &'static str, outputs: usize, data: usize, opens: bool) -> Shape {
    Shape {
        name,
        outputs,
        data,
        opens,
    }
}

/// A node and what is known of its accounts.
struct Bench {
    node: Node,
    genesis: BlockHash,
    bytes_max: usize,
    changes_max: usize,
    /// Accounts made so far; their addresses come from their numbers.
    accounts: u64,
    /// Draws old accounts.
    draws: u64,
    sequences: [u64; SPENDERS],
}

fn main() {
    let numbers: Vec<u64> = std::env::args()
        .filter_map(|arg| arg.parse().ok())
        .collect();
    let accounts = numbers.first().copied().unwrap_or(20_000);
    let changes = numbers.get(1).copied().unwrap_or(12_000);
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(dir.path(), accounts, u32::try_from(changes).unwrap());
    println!(
        "{accounts} accounts, {changes} account changes a block, {} MB on disk",
        megabytes(dir.path())
    );
    for shape in SHAPES {
        let before = megabytes(dir.path());
        let mut took = Vec::new();
        let mut last = None;
        for _ in 0..ROUNDS {
            let block = bench.block(shape);
            took.push(bench.connect(&block));
            last = Some(block);
        }
        took.sort();
        let block = last.unwrap();
        let changed = block.transactions.iter();
        let changed: usize = changed.map(|each| each.body.account_changes()).sum();
        println!(
            "{:<28} {:>5} transactions {changed:>6} changes {:>8} bytes {:>7.0} ms, +{} MB",
            shape.name,
            block.transactions.len(),
            block.size(),
            took[ROUNDS / 2].as_secs_f64() * 1_000.0,
            (megabytes(dir.path()) - before) / ROUNDS as u64,
        );
    }
}

impl Bench {
    fn new(dir: &Path, accounts: u64, changes: u32) -> Self {
        let base = file();
        let prefix = pithead_consensus::AddressPrefix::new(&base.address_prefix).unwrap();
        let entry = |address: Address, pit: u64| AllocationEntry {
            address: address.to_text(&prefix),
            amount: pit.to_string(),
        };
        let spenders = (0..SPENDERS).map(|index| entry(key(index).address, SPENDER_PIT));
        let allocated = accounts.min(ALLOCATED_MAX - KEYS as u64);
        let others = (0..allocated).map(|number| entry(address(number), 1));
        let file = GenesisFile {
            max_account_changes: changes,
            allocations: spenders.chain(others).collect(),
            ..base
        };
        let genesis = file.check().unwrap();
        let store: Arc<dyn Store> = Arc::new(RedbStore::open(dir, CACHE_BYTES).unwrap());
        let mut bench = Self {
            node: open(&store, &genesis, NOW),
            genesis: genesis.params.genesis_hash,
            bytes_max: file.max_block_bytes as usize - EMPTY_BLOCK_BYTES,
            changes_max: changes as usize,
            accounts: allocated,
            draws: 0,
            sequences: [0; SPENDERS],
        };
        while bench.accounts < accounts {
            let block = bench.block(SHAPES[3]);
            bench.connect(&block);
        }
        bench
    }

    /// A block full of transactions of one shape.
    fn block(&mut self, shape: Shape) -> Block {
        let (mut bytes, mut changes) = (self.bytes_max, self.changes_max);
        let mut transactions: Vec<SignedTransaction> = Vec::new();
        loop {
            let from = transactions.len() % SPENDERS;
            let outputs = shape.outputs.min(changes.saturating_sub(1));
            let mut body = TransactionBody {
                sender: key(from).address,
                sequence: self.sequences[from],
                fee: grains(1),
                outputs: vec![],
                data: vec![0; shape.data],
            };
            let room = bytes.saturating_sub(body.signed_size()) / transaction::OUTPUT_BYTES;
            let outputs = outputs.min(room);
            if outputs == 0 || bytes < body.signed_size() {
                break;
            }
            body.outputs = (0..outputs)
                .map(|_| Output {
                    recipient: self.recipient(shape.opens),
                    amount: grains(AMOUNT),
                })
                .collect();
            changes -= body.account_changes();
            bytes -= body.signed_size();
            self.sequences[from] += 1;
            transactions.push(key(from).sign_body(body, &self.genesis));
        }
        let mut template = (*self.node.template(NOW).unwrap()).clone();
        let leaves: Vec<_> = transactions.iter().map(|each| each.leaf_hash()).collect();
        template.transactions_root = merkle::root(&leaves);
        template.transactions = Arc::new(transactions);
        let commitment = template.commitment(key(7).address, [0; 8]);
        let mut header = template.header(&commitment);
        mine(&mut header);
        template.block(header, commitment)
    }

    fn recipient(&mut self, opens: bool) -> Address {
        if opens {
            self.accounts += 1;
            return address(self.accounts - 1);
        }
        self.draws += 1;
        let draw = sha256(&self.draws.to_le_bytes());
        let number = u64::from_le_bytes(*draw.first_chunk().unwrap());
        address(number % self.accounts)
    }

    fn connect(&mut self, block: &Block) -> Duration {
        let started = Instant::now();
        give_all(&mut self.node, std::slice::from_ref(block), NOW);
        let took = started.elapsed();
        assert_eq!(self.node.chain().tip().hash(), block.header.hash());
        took
    }
}

/// The address of an account by its number.
fn address(number: u64) -> Address {
    Address(sha256(
        &[b"account".as_slice(), &number.to_le_bytes()].concat(),
    ))
}

/// Megabytes of the files in a folder and those below it.
fn megabytes(dir: &Path) -> u64 {
    fn bytes(dir: &Path) -> u64 {
        let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
        entries
            .map(|entry| match entry.metadata().unwrap() {
                meta if meta.is_dir() => bytes(&entry.path()),
                meta => meta.len(),
            })
            .sum()
    }
    bytes(dir) / 1_000_000
}
