//! Nodes without a process, as tests of the core use them: opened on a store in memory or on disk,
//! and given blocks of the [`SmallChain`]. Start with [`file`], [`branch`] and [`open`].

use std::path::Path;
use std::sync::Arc;

use pithead_consensus::genesis::GenesisFile;
use pithead_consensus::{Address, Block, BlockHash, Genesis, SignedTransaction};
use pithead_core::chain::AcceptError;
use pithead_core::mempool::MempoolLimits;
use pithead_core::node::{Answer, BlockVerdict, Effect, Event, Node, NodeSettings, TemplatePolicy};
use pithead_core::store::{KeyValue, MemoryStore, RedbStore, Store, Table};
use tempfile::TempDir;

use crate::chain::{SmallChain, easy_network};
use crate::{ALLOCATION, FEE, PIT, key};

/// The genesis time of the test networks.
pub const GENESIS_TIME: u32 = 1_793_491_200;
/// The clock of the tests: an hour later.
pub const NOW: u64 = GENESIS_TIME as u64 + 3_600;

/// A genesis with four funded keys and rewards that are paid at once, whose blocks take two hashes.
pub fn file() -> GenesisFile {
    let allocations: Vec<_> = (0..4)
        .map(|index| (key(index).address, ALLOCATION))
        .collect();
    GenesisFile {
        time: GENESIS_TIME,
        half_life_secs: 86_400,
        ..easy_network(&allocations, 0)
    }
}

/// A payment of one PIT under a genesis.
pub fn pay(file: &GenesisFile, from: usize, sequence: u64, to: usize) -> SignedTransaction {
    let genesis = file.check().unwrap().params.genesis_hash;
    key(from).pay(&genesis, sequence, FEE, &[(key(to).address, PIT)])
}

/// What one block of a branch holds, and how long after its parent it comes.
pub type Plan = (Vec<SignedTransaction>, u32);

/// The blocks of a branch on top of `below`; the reward goes to `reward`, so
/// that two branches never share a block.
pub fn branch(file: &GenesisFile, below: &[Block], reward: &Address, plans: &[Plan]) -> Vec<Block> {
    let mut chain = chain_of(file, below);
    plans
        .iter()
        .map(|(transactions, elapsed)| {
            let block = chain.assemble(transactions.clone(), *reward, *elapsed);
            chain.connect(block.clone()).unwrap();
            block
        })
        .collect()
}

/// A small chain that has these blocks.
pub fn chain_of(file: &GenesisFile, blocks: &[Block]) -> SmallChain {
    let mut chain = SmallChain::new(file);
    for block in blocks {
        chain.connect(block.clone()).unwrap();
    }
    chain
}

/// Plans of `count` empty blocks, two seconds apart.
pub fn empty(count: usize) -> Vec<Plan> {
    vec![(Vec::new(), 2); count]
}

/// Both kinds of store, each with the folder that it needs.
pub fn stores() -> Vec<(Arc<dyn Store>, TempDir)> {
    let dir = tempfile::tempdir().unwrap();
    let disk = RedbStore::open(dir.path(), 4 << 20).unwrap();
    vec![
        (Arc::new(MemoryStore::new()), tempfile::tempdir().unwrap()),
        (Arc::new(disk), dir),
    ]
}

/// A new store in memory.
pub fn memory() -> Arc<dyn Store> {
    Arc::new(MemoryStore::new())
}

/// Opens a node on a store.
pub fn open(store: &Arc<dyn Store>, genesis: &Genesis, now: u64) -> Node {
    let settings = NodeSettings {
        mempool: MempoolLimits {
            bytes_max: 1 << 20,
            expiry_secs: 3_600,
            min_fee_rate: 1,
        },
        templates: TemplatePolicy {
            refresh_secs: 30,
            growth_percent: 1,
        },
    };
    let path = Path::new("test");
    Node::open(Arc::clone(store), genesis.clone(), path, settings, now).unwrap()
}

/// Hands a block to a node.
pub fn give(node: &mut Node, block: &Block, now: u64) -> Result<BlockVerdict, AcceptError> {
    let (answer, effects) = node.handle(Event::Block(Box::new(block.clone())), now);
    let Answer::Block(verdict) = answer else {
        panic!("another answer: {answer:?}");
    };
    let tip_changed = effects
        .iter()
        .any(|effect| matches!(effect, Effect::TipChanged { .. }));
    if matches!(verdict, Ok(BlockVerdict::NewTip)) {
        assert!(tip_changed, "a new tip is told of");
    }
    verdict
}

/// Hands blocks to a node. It may accept each of them or keep it for later, but refuse none.
pub fn give_all(node: &mut Node, blocks: &[Block], now: u64) {
    for block in blocks {
        match give(node, block, now) {
            Ok(_) | Err(AcceptError::NotYet { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// The tip of a node.
pub fn tip(node: &Node) -> BlockHash {
    node.chain().tip().hash()
}

/// Everything in a table.
pub fn table(store: &Arc<dyn Store>, table: Table) -> Vec<KeyValue> {
    let snapshot = store.snapshot().unwrap();
    snapshot
        .range(table, &[], &[0xff; 128], usize::MAX, false)
        .unwrap()
}

/// Every table that depends on the best chain alone, and not on the order in which blocks came.
pub fn best_chain_state(store: &Arc<dyn Store>) -> Vec<(Table, Vec<KeyValue>)> {
    [
        Table::BestChain,
        Table::Undo,
        Table::Accounts,
        Table::StateNodes,
        Table::StaleNodes,
        Table::Transactions,
        Table::AccountTransactions,
    ]
    .into_iter()
    .map(|each| (each, table(store, each)))
    .collect()
}

/// Asserts that a node's store equals a replay of `blocks` from the genesis, table by table and
/// byte by byte.
pub fn assert_equals_replay(node: &Node, genesis: &Genesis, blocks: &[Block], now: u64) {
    let store = memory();
    let mut replay = open(&store, genesis, now);
    give_all(&mut replay, blocks, now);
    assert_eq!(tip(node), tip(&replay));
    assert_eq!(node.chain().tip().outcome, replay.chain().tip().outcome);
    let (found, expected) = (
        best_chain_state(node.chain().store()),
        best_chain_state(&store),
    );
    for ((name, found), (_, expected)) in found.iter().zip(&expected) {
        assert!(found == expected, "{name:?} differs from a replay");
    }
}
