//! How much the node's core does in a second: transactions admitted, blocks of 5,000 transactions
//! connected, and a reorganisation of 100 blocks. Stores on disk are in a temporary folder; set
//! TMPDIR to measure another disk.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use pithead_consensus::check::CheckedTransaction;
use pithead_consensus::genesis::GenesisFile;
use pithead_consensus::{Account, Amount, Block, SignedTransaction};
use pithead_core::mempool::{IncomingTransaction, Mempool, MempoolLimits, VerifiedTransaction};
use pithead_core::node::Node;
use pithead_core::store::{MemoryStore, RedbStore, Store};
use pithead_testkit::chain::SmallChain;
use pithead_testkit::nodes::{NOW, branch, empty, file, give_all, open};
use pithead_testkit::{FEE, key};
use tempfile::TempDir;

/// Transactions of one block.
const BLOCK_TRANSACTIONS: usize = 5_000;
/// Blocks of a reorganisation.
const REORG_BLOCKS: usize = 100;
/// The database's cache, as the node's default is.
const CACHE_BYTES: usize = 64 << 20;

fn main() {
    divan::main();
}

/// A network whose blocks have room for so many transactions.
fn roomy() -> GenesisFile {
    GenesisFile {
        max_block_bytes: 3_000_000,
        ..file()
    }
}

/// Payments of four senders in turn, from their first on.
fn payments(file: &GenesisFile, count: usize) -> Vec<SignedTransaction> {
    let genesis = file.check().unwrap().params.genesis_hash;
    (0..count)
        .map(|index| {
            let sequence = (index / 4) as u64;
            key(index % 4).pay(&genesis, sequence, FEE, &[(key(5).address, 10_000)])
        })
        .collect()
}

/// Admission with the signature check, one core: four senders, 64 each.
#[divan::bench]
fn transactions_admitted(bencher: Bencher<'_, '_>) {
    let file = file();
    let params = file.check().unwrap().params;
    let all = payments(&file, 256);
    let account = Account {
        balance: Amount::from_grains(pithead_testkit::ALLOCATION).unwrap(),
        ..Account::default()
    };
    let limits = MempoolLimits {
        bytes_max: 64 << 20,
        expiry_secs: 3_600,
        min_fee_rate: 1,
    };
    bencher
        .counter(ItemsCount::new(all.len()))
        .with_inputs(|| (Mempool::new(limits), all.clone()))
        .bench_local_values(|(mut mempool, all)| {
            for transaction in all {
                let checked = CheckedTransaction::new(&params, transaction).unwrap();
                mempool.judge(&checked, &account).unwrap();
                let key = mempool.signing_key(&checked, &account).cloned();
                let incoming = IncomingTransaction {
                    transaction: VerifiedTransaction::check(&params, checked, key.as_ref())
                        .unwrap(),
                    received: NOW,
                    expires_ms: u64::MAX,
                };
                let admitted = mempool.accept(incoming, &account);
                black_box(admitted).unwrap();
            }
            mempool
        });
}

/// A store of one kind, with the folder that it needs.
fn store(disk: bool) -> (Arc<dyn Store>, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let store: Arc<dyn Store> = if disk {
        Arc::new(RedbStore::open(dir.path(), CACHE_BYTES).unwrap())
    } else {
        Arc::new(MemoryStore::new())
    };
    (store, dir)
}

fn full_block(file: &GenesisFile) -> Block {
    let chain = SmallChain::new(file);
    chain.assemble(payments(file, BLOCK_TRANSACTIONS), key(7).address, 2)
}

/// A block of 5,000 transactions that the node has not seen before: every signature is checked,
/// on all cores, and the block is committed and synced.
#[divan::bench(args = [false, true], sample_count = 20)]
fn blocks_of_5000_transactions_connected(bencher: Bencher<'_, '_>, disk: bool) {
    let file = roomy();
    let genesis = file.check().unwrap();
    let block = full_block(&file);
    bencher
        .counter(ItemsCount::new(1usize))
        .with_inputs(|| {
            let (store, dir) = store(disk);
            (open(&store, &genesis, NOW), dir)
        })
        .bench_local_values(|(mut node, dir)| {
            give_all(&mut node, std::slice::from_ref(&block), NOW);
            assert_eq!(
                node.chain().tip().transaction_count as usize,
                BLOCK_TRANSACTIONS
            );
            (node, dir)
        });
}

/// 100 blocks of 20 transactions down and 101 up, in one commit.
#[divan::bench(args = [false, true], sample_count = 10)]
fn reorganisation_of_100_blocks(bencher: Bencher<'_, '_>, disk: bool) {
    let file = file();
    let genesis = file.check().unwrap();
    let all = payments(&file, 20 * REORG_BLOCKS);
    let plans: Vec<_> = all.chunks(20).map(|some| (some.to_vec(), 2)).collect();
    let old = branch(&file, &[], &key(6).address, &plans);
    let mut plans = plans;
    plans.extend(empty(1));
    let new = branch(&file, &[], &key(7).address, &plans);
    bencher
        .with_inputs(|| {
            let (store, dir) = store(disk);
            let mut node = open(&store, &genesis, NOW);
            give_all(&mut node, &old, NOW);
            give_all(&mut node, &new[..REORG_BLOCKS], NOW);
            (node, dir)
        })
        .bench_local_values(|(mut node, dir): (Node, TempDir)| {
            give_all(&mut node, &new[REORG_BLOCKS..], NOW);
            assert_eq!(node.chain().tip().height.0, 101);
            (node, dir)
        });
}
