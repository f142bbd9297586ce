//! Answers to peers: each request of protocol §13 at its largest.

use pithead_consensus::{
    Address, Block, BlockHash, Certificate, Checkpoint, Decode as _, Encode as _, Height, Txid,
};
use pithead_core::finality::put_certificate;
use pithead_core::store::schema;
use pithead_core::store::{Batch, Store as _, Table};
use pithead_core::sync::{Request, Status};
use pithead_testkit::nodes::{branch, empty, file};
use pithead_testkit::votes::{miner, voting};
use pithead_testkit::{key, link};

use crate::Row;
use crate::bench::{Bench, Cost};

/// Blocks of the chain: more than the largest answer has headers.
const BLOCKS: usize = 2_100;
/// Approvals of a certificate on a network with 1,000 validators.
const APPROVALS: u32 = 667;
/// Certificates on record, of 192 KB each: far more than an answer may have.
const CERTIFICATES: u64 = 100;

/// Large blocks on record, of 140 KB each: more than an answer may have.
const LARGE_BLOCKS: usize = 60;

pub(crate) const ROWS: &[Row] = &[
    ("the status", status),
    ("2,000 headers after 100 unknown hashes", headers),
    ("1,000 blocks that are unknown", unknown_blocks),
    ("1,000 blocks", blocks),
    ("1,000 blocks of 140 KB", large_blocks),
    ("1,000 transactions that are unknown", transactions),
    ("the mempool", mempool),
    ("all approvals", approvals),
    ("all certificates, of 667 approvals each", certificates),
];

fn chain(count: usize) -> (Bench, Vec<Block>) {
    let blocks = branch(&file(), &[], &miner(), &vec![(Vec::new(), 1); count]);
    (Bench::new(&file(), &blocks), blocks)
}

fn unknown(count: u16) -> Vec<BlockHash> {
    let hash = |number: u16| {
        let mut hash = [0xee; 32];
        hash[..2].copy_from_slice(&number.to_le_bytes());
        BlockHash(hash)
    };
    (0..count).map(hash).collect()
}

fn status() -> Cost {
    let (mut bench, _) = chain(20);
    let tip = bench.node.chain().tip();
    let status = Status {
        best_hash: tip.hash(),
        height: tip.height,
        chain_work: tip.chain_work,
        approved: Checkpoint::genesis(bench.genesis.params.genesis_hash),
    };
    bench.cost_of_answer(&Request::Status(status))
}

fn headers() -> Cost {
    let (mut bench, _) = chain(BLOCKS);
    let mut locator = unknown(100);
    locator.push(bench.genesis.params.genesis_hash);
    bench.cost_of_answer(&Request::Headers {
        locator,
        stop: None,
    })
}

fn unknown_blocks() -> Cost {
    let (mut bench, _) = chain(20);
    bench.cost_of_answer(&Request::Blocks(unknown(1_000)))
}

fn blocks() -> Cost {
    let (mut bench, blocks) = chain(1_000);
    let hashes = blocks.iter().map(|block| block.header.hash());
    bench.cost_of_answer(&Request::Blocks(hashes.collect()))
}

/// A block with transactions of the largest kind. Nobody judges it again when it is served.
fn large_block(genesis: &BlockHash, tip: &Block) -> Block {
    let output = |number: u8| (Address([number; 32]), 1);
    let outputs: Vec<_> = (0..255).map(output).collect();
    let payment = key(0).pay(genesis, 1, 1, &outputs);
    Block {
        transactions: vec![payment; 13],
        ..tip.clone()
    }
}

/// Many hashes with one large body, as if the chain had as many such blocks.
fn large_blocks() -> Cost {
    let (mut bench, blocks) = chain(20);
    let tip = blocks.last().unwrap();
    let mut entry = schema::tip_entry(bench.store.snapshot().unwrap().as_ref()).unwrap();
    let body = large_block(&bench.genesis.params.genesis_hash, tip).encode();
    entry.size = u32::try_from(body.len()).unwrap();
    let hashes = unknown(1_000);
    let mut batch = Batch::default();
    for hash in hashes.iter().take(LARGE_BLOCKS) {
        batch.put(Table::Entries, hash.0, entry.encode());
        batch.bodies.push((*hash, body.clone()));
    }
    bench.store.commit(&batch).unwrap();
    bench.cost_of_answer(&Request::Blocks(hashes))
}

fn transactions() -> Cost {
    let (mut bench, _) = chain(20);
    let hashes = unknown(1_000).into_iter();
    let txids = hashes.map(|hash| Txid(hash.0)).collect();
    bench.cost_of_answer(&Request::Transactions(txids))
}

fn mempool() -> Cost {
    let (mut bench, _) = chain(20);
    bench.cost_of_answer(&Request::Mempool)
}

fn approvals() -> Cost {
    let blocks = branch(&voting(), &[], &miner(), &empty(20));
    let mut bench = Bench::new(&voting(), &blocks);
    bench.cost_of_answer(&Request::Approvals(Height(0)))
}

/// A certificate that can be read. Nobody checks its signatures again when it is served.
fn large_certificate(number: u64) -> Certificate {
    let mut bytes = vec![1];
    bytes.extend(link(2 * number, 2 * number + 2).encode());
    bytes.extend(APPROVALS.to_le_bytes());
    for validator in 0..APPROVALS {
        let mut address = [0; 32];
        address[..4].copy_from_slice(&validator.to_be_bytes());
        bytes.extend(address);
        bytes.extend([7; 256]);
    }
    Certificate::decode(&bytes).unwrap()
}

fn certificates() -> Cost {
    let mut bench = Bench::new(&voting(), &[]);
    let mut batch = Batch::default();
    for number in 0..CERTIFICATES {
        put_certificate(&mut batch, &large_certificate(number));
    }
    bench.store.commit(&batch).unwrap();
    bench.cost_of_answer(&Request::Certificates(Height(0)))
}
