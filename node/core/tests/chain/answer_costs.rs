//! What answers to peers cost: no request makes a node read much more than its answer may hold.
//! Costs are counted by the store, in reads and bytes. Start reading at [`cost_of`].

use std::sync::{Arc, RwLock};

use pithead_consensus::{
    Address, Block, BlockHash, Certificate, Checkpoint, Decode as _, Encode as _, Height,
    SignedApproval, Txid,
};
use pithead_core::finality::{
    COMPARED_BYTES_MAX, FinalityState, certificates_above, put_certificate,
};
use pithead_core::mempool::{Mempool, MempoolLimits};
use pithead_core::store::schema;
use pithead_core::store::{Batch, Store, Table};
use pithead_core::sync::{
    CONTENT_BYTES_MAX, HEADERS_MAX, IDS_MAX, LOCATOR_MAX, RecentBlocks, Request, Response,
    response_bytes_max, serve,
};
use pithead_testkit::nodes::{NOW, branch, file, give_all, open};
use pithead_testkit::votes::voting;
use pithead_testkit::watched_store::Watched;
use pithead_testkit::{key, link};

/// Approvals of the largest certificate: a genesis lists at most so many validators.
const VALIDATORS_MAX: u32 = 1_000;
/// Bytes of an entry in the store, at most.
const ENTRY_BYTES: usize = 512;

#[derive(Debug)]
struct Cost {
    reads: usize,
    bytes: usize,
}

/// The answer to a request, and what it took from the store.
fn cost_of(store: &Arc<Watched>, request: &Request) -> (Response, Cost) {
    let genesis = voting().check().unwrap();
    let snapshot = store.snapshot().unwrap();
    let shared: Arc<dyn Store> = Arc::clone(store) as Arc<dyn Store>;
    let finality = FinalityState::open(&genesis, &shared).unwrap();
    let mempool = Mempool::new(MempoolLimits {
        bytes_max: 1 << 20,
        expiry_secs: 3_600,
        min_fee_rate: 1,
    });
    let recent = RecentBlocks::default();
    let (reads, bytes) = (store.reads(), store.bytes_read());
    let (mempool, finality) = (RwLock::new(mempool), RwLock::new(finality));
    let response = serve(snapshot.as_ref(), &mempool, &finality, &recent, request).unwrap();
    let cost = Cost {
        reads: store.reads() - reads,
        bytes: store.bytes_read() - bytes,
    };
    let encoded = response.encode();
    let all = response_bytes_max(genesis.params.max_block_bytes);
    let max = request.response_bytes_max(all);
    assert!(encoded.len() <= max, "{} of {max}", encoded.len());
    (response, cost)
}

fn store_with(blocks: &[Block]) -> Arc<Watched> {
    let store = Watched::new();
    let shared: Arc<dyn Store> = Arc::clone(&store) as Arc<dyn Store>;
    let mut node = open(&shared, &file().check().unwrap(), NOW);
    give_all(&mut node, blocks, NOW);
    store
}

fn blocks(count: usize) -> Vec<Block> {
    branch(&file(), &[], &key(0).address, &vec![(Vec::new(), 1); count])
}

fn unknown(count: usize) -> Vec<BlockHash> {
    let hash = |number: usize| {
        let mut hash = [0xee; 32];
        hash[..8].copy_from_slice(&number.to_le_bytes());
        BlockHash(hash)
    };
    (0..count).map(hash).collect()
}

/// A certificate that can be read. Its signatures are not checked when it is served.
fn certificate(number: u64, approvals: u32) -> Certificate {
    let mut bytes = vec![1];
    let mut link = link(2 * number, 2 * number + 2);
    if number == 0 {
        link.source = Checkpoint::genesis(voting().check().unwrap().params.genesis_hash);
    }
    bytes.extend(link.encode());
    bytes.extend(approvals.to_le_bytes());
    for validator in 0..approvals {
        let mut address = [0; 32];
        address[..4].copy_from_slice(&validator.to_be_bytes());
        bytes.extend(address);
        bytes.extend([7; 256]);
    }
    Certificate::decode(&bytes).unwrap()
}

fn store_certified(count: u64, approvals: u32) -> Arc<Watched> {
    let store = store_with(&[]);
    let mut batch = Batch::default();
    for number in 0..count {
        put_certificate(&mut batch, &certificate(number, approvals));
    }
    store.commit(&batch).unwrap();
    store
}

fn count(response: &Response) -> usize {
    match response {
        Response::Status(_) => 1,
        Response::Headers(found) => found.len(),
        Response::Blocks(found) => found.len(),
        Response::Transactions(found) => found.len(),
        Response::Mempool(found) => found.len(),
        Response::Approvals(found) => found.len(),
        Response::Certificates(found) => found.len(),
    }
}

#[test]
fn certificates_cost_their_answer_and_one_more() {
    let largest = certificate(0, VALIDATORS_MAX).encoded_len();
    let store = store_certified(60, VALIDATORS_MAX);
    let (response, cost) = cost_of(&store, &Request::Certificates(Height(0)));
    assert_eq!(count(&response), CONTENT_BYTES_MAX / (largest + 4));
    assert!(cost.bytes <= CONTENT_BYTES_MAX + largest + 16, "{cost:?}");
    assert!(cost.reads <= count(&response) + 1, "{cost:?}");
    // Small ones end with the number of ids.
    let store = store_certified(IDS_MAX as u64 + 5, 1);
    let (response, cost) = cost_of(&store, &Request::Certificates(Height(0)));
    assert_eq!(count(&response), IDS_MAX);
    assert!(cost.bytes <= CONTENT_BYTES_MAX, "{cost:?}");
    assert_eq!(cost.reads, IDS_MAX);
}

#[test]
fn certificates_fill_an_answer_to_the_byte() {
    let store = store_certified(5, 3);
    let snapshot = store.snapshot().unwrap();
    let each = certificate(0, 3).encoded_len() + 4;
    assert_eq!(certificate(0, 3).encode().len() + 4, each);
    let found = |bytes| {
        let found = certificates_above(snapshot.as_ref(), Height(0), IDS_MAX, bytes);
        found.unwrap().len()
    };
    assert_eq!(found(3 * each), 3);
    assert_eq!(found(3 * each - 1), 2);
    // The first one is given whatever its size, and alone.
    assert_eq!(found(0), 1);
}

#[test]
fn bodies_without_room_are_not_read() {
    let chain = blocks(3);
    let store = store_with(&chain);
    let entry = schema::tip_entry(store.snapshot().unwrap().as_ref()).unwrap();
    let outputs: Vec<_> = (0..255).map(|number| (Address([number; 32]), 1)).collect();
    let genesis = file().check().unwrap().params.genesis_hash;
    let body = Block {
        transactions: vec![key(0).pay(&genesis, 1, 1, &outputs); 150],
        ..chain[2].clone()
    }
    .encode();
    let entry = schema::ChainEntry {
        size: u32::try_from(body.len()).unwrap(),
        ..entry
    };
    let hashes = unknown(IDS_MAX);
    let mut batch = Batch::default();
    for hash in &hashes[..10] {
        batch.put(Table::Entries, hash.0, entry.encode());
        batch.bodies.push((*hash, body.clone()));
    }
    store.commit(&batch).unwrap();
    let (response, cost) = cost_of(&store, &Request::Blocks(hashes));
    assert_eq!(count(&response), CONTENT_BYTES_MAX / (body.len() + 4));
    assert!(
        cost.bytes <= CONTENT_BYTES_MAX + 10 * ENTRY_BYTES,
        "{cost:?}"
    );
}

#[test]
fn a_thousand_blocks_cost_their_bodies_and_entries() {
    let chain = blocks(IDS_MAX);
    let store = store_with(&chain);
    let hashes = chain.iter().map(|block| block.header.hash()).collect();
    let (response, cost) = cost_of(&store, &Request::Blocks(hashes));
    assert_eq!(count(&response), IDS_MAX);
    let answer = response.encode().len();
    assert!(cost.bytes <= answer + IDS_MAX * ENTRY_BYTES, "{cost:?}");
    assert!(cost.reads <= 2 * IDS_MAX, "{cost:?}");
}

#[test]
fn unknown_ids_cost_one_read_each_and_no_bytes() {
    let store = store_with(&blocks(3));
    let (response, cost) = cost_of(&store, &Request::Blocks(unknown(IDS_MAX)));
    assert_eq!((count(&response), cost.bytes), (0, 0));
    assert!(cost.reads <= IDS_MAX, "{cost:?}");
    let txids = unknown(IDS_MAX).into_iter().map(|hash| Txid(hash.0));
    let (response, cost) = cost_of(&store, &Request::Transactions(txids.collect()));
    assert_eq!((count(&response), cost.bytes, cost.reads), (0, 0, 0));
}

#[test]
fn headers_cost_an_entry_each_after_the_longest_locator() {
    let store = store_with(&blocks(HEADERS_MAX + 50));
    let mut locator = unknown(LOCATOR_MAX - 1);
    locator.push(file().check().unwrap().params.genesis_hash);
    let request = Request::Headers {
        locator,
        stop: None,
    };
    let (response, cost) = cost_of(&store, &request);
    assert_eq!(count(&response), HEADERS_MAX);
    let read = HEADERS_MAX + LOCATOR_MAX;
    assert!(cost.reads <= 2 * read, "{cost:?}");
    assert!(cost.bytes <= read * ENTRY_BYTES, "{cost:?}");
    // No locator hash is known: nothing but the locator is looked up.
    let request = Request::Headers {
        locator: unknown(LOCATOR_MAX),
        stop: None,
    };
    let (response, cost) = cost_of(&store, &request);
    assert_eq!((count(&response), cost.bytes), (0, 0));
    assert_eq!(cost.reads, LOCATOR_MAX);
}

#[test]
fn what_is_in_memory_costs_the_store_nothing() {
    let store = store_certified(5, 3);
    for request in [Request::Mempool, Request::Approvals(Height(0))] {
        let (_, cost) = cost_of(&store, &request);
        assert_eq!((cost.reads, cost.bytes), (0, 0), "{request:?}");
    }
}

/// An approval that surrounds every certificate makes the node look for its validator in them.
#[test]
fn an_approval_is_compared_with_a_bounded_number_of_bytes() {
    let store = store_certified(60, VALIDATORS_MAX);
    let genesis = voting().check().unwrap();
    let snapshot = store.snapshot().unwrap();
    let shared: Arc<dyn Store> = Arc::clone(&store) as Arc<dyn Store>;
    let finality = FinalityState::open(&genesis, &shared).unwrap();
    let signed: SignedApproval = key(0).approve(&genesis.params.genesis_hash, link(0, 1_000));
    let before = store.bytes_read();
    let proofs = finality.contradicted(&signed, snapshot.as_ref()).unwrap();
    // The key is in none of these certificates.
    assert!(proofs.is_empty());
    let bytes = store.bytes_read() - before;
    let largest = certificate(0, VALIDATORS_MAX).encoded_len();
    assert!(
        bytes > 0 && bytes <= COMPARED_BYTES_MAX + largest,
        "{bytes}"
    );
}
