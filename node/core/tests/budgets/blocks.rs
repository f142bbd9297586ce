//! Blocks, templates and ticks.

use pithead_consensus::{Address, Block, BlockHash};
use pithead_core::node::Event;
use pithead_testkit::chain::mine;
use pithead_testkit::nodes::{branch, chain_of, empty, file};
use pithead_testkit::{FEE, PIT, key};

use crate::Row;
use crate::bench::{Bench, Cost};

/// Blocks below every measured event, enough to tell a cost that grows with the chain.
const BELOW: usize = 100;
/// Most blocks that wait for their parent (docs/node-policy.md).
const WAITING: usize = 64;
/// Payments in a measured block, each to an address of its own.
const PAYMENTS: u64 = 60;

pub(crate) const ROWS: &[Row] = &[
    ("a block that is known", known_block),
    ("a block without its parent, when 64 wait", orphan_block),
    ("a block beside the tip, when 64 wait", sibling_block),
    ("a block on the tip, when 64 wait", empty_block),
    ("a block with 60 payments to new addresses", paying_block),
    ("a block with a false signature at its end", forged_block),
    ("a tick, when 64 blocks wait", idle_tick),
    (
        "a template, with 256 pending payments of 4 senders",
        template,
    ),
];

fn blocks() -> Vec<Block> {
    branch(&file(), &[], &key(0).address, &empty(BELOW))
}

fn block_event(block: &Block) -> Event {
    Event::Block(Box::new(block.clone()))
}

/// A node with a chain on which as many blocks wait as may.
fn with_waiting() -> (Bench, Vec<Block>) {
    let blocks = blocks();
    let mut bench = Bench::new(&file(), &blocks);
    let block = next(&blocks, 0xaa);
    for number in 0..WAITING {
        bench.handle(block_event(&orphan(&block, number)));
    }
    (bench, blocks)
}

/// A block whose parent nobody knows.
fn orphan(block: &Block, number: usize) -> Block {
    let mut block = block.clone();
    block.header.prev = BlockHash([u8::try_from(number).unwrap(); 32]);
    mine(&mut block.header);
    block
}

/// A block on these, whose reward goes to an address with this number.
fn next(blocks: &[Block], reward: u8) -> Block {
    chain_of(&file(), blocks).assemble(Vec::new(), Address([reward; 32]), 2)
}

fn known_block() -> Cost {
    let (mut bench, blocks) = with_waiting();
    bench.cost_of(block_event(&blocks[BELOW / 2]))
}

fn orphan_block() -> Cost {
    let (mut bench, blocks) = with_waiting();
    bench.cost_of(block_event(&orphan(&next(&blocks, 0xaa), WAITING + 1)))
}

fn sibling_block() -> Cost {
    let (mut bench, blocks) = with_waiting();
    let sibling = next(&blocks[..BELOW - 1], 0xbb);
    bench.cost_of(block_event(&sibling))
}

fn empty_block() -> Cost {
    let (mut bench, blocks) = with_waiting();
    let block = next(&blocks, 0xcc);
    bench.cost_of(block_event(&block))
}

/// A block with payments to new addresses, sent by four keys in turn.
fn with_payments(blocks: &[Block]) -> Block {
    let genesis = file().check().unwrap().params.genesis_hash;
    let payments = (0..PAYMENTS).map(|number| {
        let from = usize::try_from(number % 4).unwrap();
        let mut to = [0xdd; 32];
        to[..8].copy_from_slice(&number.to_le_bytes());
        key(from).pay(&genesis, number / 4, FEE, &[(Address(to), PIT)])
    });
    chain_of(&file(), blocks).assemble(payments.collect(), key(0).address, 2)
}

fn paying_block() -> Cost {
    let blocks = blocks();
    let mut bench = Bench::new(&file(), &blocks);
    let block = with_payments(&blocks);
    let cost = bench.cost_of(block_event(&block));
    assert_eq!(bench.node.chain().tip().hash(), block.header.hash());
    cost
}

fn forged_block() -> Cost {
    let blocks = blocks();
    let mut bench = Bench::new(&file(), &blocks);
    let mut transactions = with_payments(&blocks).transactions;
    transactions.last_mut().unwrap().signature.0[0] ^= 1;
    let block = chain_of(&file(), &blocks).assemble(transactions, key(0).address, 2);
    let cost = bench.cost_of(block_event(&block));
    assert_ne!(bench.node.chain().tip().hash(), block.header.hash());
    cost
}

fn idle_tick() -> Cost {
    let (mut bench, _) = with_waiting();
    bench.handle(Event::FreshTemplate);
    bench.cost_of(Event::Tick)
}

fn template() -> Cost {
    let mut bench = Bench::new(&file(), &blocks());
    let genesis = bench.genesis.params.genesis_hash;
    for sequence in 0..64 {
        for from in 0..4 {
            let payment = key(from).pay(&genesis, sequence, FEE, &[(key(5).address, PIT)]);
            bench.handle(Event::Transaction(Box::new(payment)));
        }
    }
    assert_eq!(bench.node.mempool().read().unwrap().len(), 256);
    bench.cost_of(Event::FreshTemplate)
}
