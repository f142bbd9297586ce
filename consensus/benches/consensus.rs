//! The cost of consensus: hashing, signatures, a full block, the state tree.
//!
//! Run it with `cargo bench -p pithead-consensus`. docs/benchmarks.md has results.

#![allow(clippy::unwrap_used)]

use std::collections::HashSet;
use std::sync::OnceLock;

use divan::Bencher;
use divan::counter::ItemsCount;
use pithead_consensus::check::{CheckedBlock, check_block};
use pithead_consensus::connect::connect_block;
use pithead_consensus::hash::sha256;
use pithead_consensus::state_tree::update;
use pithead_consensus::{Account, Address, Hash256, PublicKey, Signature};
use pithead_testkit::chain::{MemoryTree, SmallChain, easy_network};
use pithead_testkit::{grains, key};
use rayon::prelude::*;

fn main() {
    divan::main();
}

/// Accounts in the large tree.
const ACCOUNTS: u64 = 1_000_000;
/// Transactions of the full block.
const TRANSACTIONS: usize = 5_000;

#[divan::bench]
fn header_hash(bencher: Bencher<'_, '_>) {
    let header = SmallChain::new(&easy_network(&[], 0)).genesis.block.header;
    bencher
        .counter(ItemsCount::new(1u32))
        .bench_local(|| divan::black_box(&header).hash());
}

/// A message, its signature, and the key under which it verifies.
type Signed = (Vec<u8>, Signature, PublicKey);

/// 1,000 different messages with good signatures.
fn signed_messages() -> &'static [Signed] {
    static SIGNED: OnceLock<Vec<Signed>> = OnceLock::new();
    SIGNED.get_or_init(|| {
        (0..1_000usize)
            .map(|index| {
                let signer = key(index % pithead_testkit::KEYS);
                let message = sha256(&index.to_le_bytes()).repeat(5);
                let signature = signer.sign(&message);
                (message, signature, signer.public.clone())
            })
            .collect()
    })
}

fn verifies((message, signature, key): &Signed) -> bool {
    key.verifies(message, signature)
}

fn bench_signatures(bencher: Bencher<'_, '_>, all_verify: fn(&[Signed]) -> bool) {
    let signed = signed_messages();
    bencher
        .counter(ItemsCount::new(signed.len()))
        .bench_local(|| assert!(all_verify(signed)));
}

#[divan::bench(sample_count = 10)]
fn signatures_one_core(bencher: Bencher<'_, '_>) {
    bench_signatures(bencher, |signed| signed.iter().all(verifies));
}

#[divan::bench(sample_count = 10)]
fn signatures_all_cores(bencher: Bencher<'_, '_>) {
    bench_signatures(bencher, |signed| signed.par_iter().all(verifies));
}

/// A chain and a block of 5,000 payments on top of it.
fn full_block() -> &'static (SmallChain, CheckedBlock) {
    static BLOCK: OnceLock<(SmallChain, CheckedBlock)> = OnceLock::new();
    BLOCK.get_or_init(|| {
        let allocations: Vec<_> = (0..pithead_testkit::KEYS)
            .map(|index| (key(index).address, 1_000_000_000_000))
            .collect();
        let chain = SmallChain::new(&easy_network(&allocations, 0));
        let genesis = chain.genesis.params.genesis_hash;
        let transactions = (0..TRANSACTIONS)
            .map(|index| {
                let sequence = (index / pithead_testkit::KEYS) as u64;
                // Each pays an account of its own.
                let recipient = Address(sha256(&index.to_le_bytes()));
                key(index % pithead_testkit::KEYS).pay(
                    &genesis,
                    sequence,
                    400,
                    &[(recipient, 10_000)],
                )
            })
            .collect();
        let block = chain.assemble(transactions, key(0).address, 2);
        let checked = chain.check(block).unwrap();
        (chain, checked)
    })
}

#[divan::bench(sample_count = 10)]
fn check_block_of_5000(bencher: Bencher<'_, '_>) {
    let (chain, block) = full_block();
    bencher
        .counter(ItemsCount::new(TRANSACTIONS))
        .with_inputs(|| block.block().clone())
        .bench_local_values(|block| check_block(&chain.genesis.params, block).unwrap());
}

#[divan::bench(sample_count = 10)]
fn connect_block_of_5000(bencher: Bencher<'_, '_>) {
    let (chain, block) = full_block();
    let none = HashSet::new();
    bencher
        .counter(ItemsCount::new(TRANSACTIONS))
        .bench_local(|| connect_block(&chain.context(), block, &chain.accounts, &none).unwrap());
}

/// The case of a block whose transactions were all in the mempool.
#[divan::bench(sample_count = 10)]
fn connect_block_of_5000_verified_before(bencher: Bencher<'_, '_>) {
    let (chain, block) = full_block();
    let verified: HashSet<Hash256> = block.leaf_hashes().iter().copied().collect();
    bencher
        .counter(ItemsCount::new(TRANSACTIONS))
        .bench_local(|| {
            connect_block(&chain.context(), block, &chain.accounts, &verified).unwrap()
        });
}

fn address(number: u64) -> Address {
    Address(sha256(&number.to_le_bytes()))
}

fn account(balance: u64) -> Account {
    Account {
        balance: grains(balance),
        ..Account::default()
    }
}

/// A tree of a million accounts in memory, without stale nodes, and the number of its
/// next version.
fn large_tree() -> &'static (MemoryTree, u64) {
    static TREE: OnceLock<(MemoryTree, u64)> = OnceLock::new();
    TREE.get_or_init(|| {
        let chunk = 50_000;
        let mut tree = MemoryTree::default();
        for version in 0..ACCOUNTS / chunk {
            let first = version * chunk;
            let changes: Vec<_> = (first..first + chunk)
                .map(|number| (address(number), account(number + 1)))
                .collect();
            let step = update(&tree, version, changes.iter().map(|(a, b)| (a, b))).unwrap();
            tree.nodes.extend(step.nodes);
            for stale in step.stale {
                tree.nodes.remove(&stale);
            }
        }
        (tree, ACCOUNTS / chunk)
    })
}

/// 1,000 of a million accounts change, spread evenly. Storage does not count.
#[divan::bench(sample_count = 20)]
fn state_tree_1000_of_a_million(bencher: Bencher<'_, '_>) {
    let (tree, version) = large_tree();
    let changes: Vec<_> = (0..1_000)
        .map(|index| (address(index * 997 % ACCOUNTS), account(7_000_000 + index)))
        .collect();
    bencher
        .counter(ItemsCount::new(changes.len()))
        .bench_local(|| update(tree, *version, changes.iter().map(|(a, b)| (a, b))).unwrap());
}
