//! Answers to peers: a node gives headers, blocks and transactions in the documented order, within
//! its limits, and only from what it has validated.

use std::sync::Arc;

use pithead_consensus::check::check_block;
use pithead_consensus::genesis::GenesisFile;
use pithead_consensus::{Block, BlockHash, Decode as _, Encode as _, Txid};
use pithead_core::node::{Event, Node};
use pithead_core::sync::{
    CONTENT_BYTES_MAX, HEADERS_MAX, RecentBlocks, Request, Response, Status, response_bytes_max,
    serve,
};
use pithead_testkit::key;
use pithead_testkit::nodes::{NOW, branch, chain_of, empty, file, give_all, memory, open, pay};

/// A node with these blocks.
fn node_with(blocks: &[Block]) -> Node {
    let genesis = file().check().unwrap();
    let mut node = open(&memory(), &genesis, NOW);
    give_all(&mut node, blocks, NOW);
    node
}

fn blocks(count: usize) -> Vec<Block> {
    branch(&file(), &[], &key(0).address, &vec![(Vec::new(), 1); count])
}

fn answer_with(node: &Node, recent: &RecentBlocks, request: &Request) -> Response {
    let snapshot = node.chain().store().snapshot().unwrap();
    let (mempool, finality) = (node.mempool(), node.finality());
    let response = serve(snapshot.as_ref(), mempool, finality, recent, request).unwrap();
    let bytes = response.encode();
    let max = node.chain().params().max_block_bytes;
    assert!(bytes.len() <= response_bytes_max(max));
    assert_eq!(Response::decode(&bytes).unwrap(), response);
    response
}

fn answer(node: &Node, request: &Request) -> Response {
    answer_with(node, &RecentBlocks::default(), request)
}

fn hash(block: &Block) -> BlockHash {
    block.header.hash()
}

fn headers(response: Response) -> Vec<BlockHash> {
    match response {
        Response::Headers(headers) => headers.iter().map(|header| header.hash()).collect(),
        other => panic!("{other:?}"),
    }
}

fn hashes(response: Response) -> Vec<BlockHash> {
    match response {
        Response::Blocks(blocks) => blocks.iter().map(hash).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn status_is_the_tips() {
    let blocks = blocks(3);
    let node = node_with(&blocks);
    let asker = Status {
        best_hash: BlockHash::ZERO,
        height: pithead_consensus::Height(0),
        chain_work: pithead_consensus::Work::ZERO,
        approved: pithead_consensus::Checkpoint::genesis(node.chain().params().genesis_hash),
    };
    let tip = node.chain().tip();
    let expected = Status {
        best_hash: hash(&blocks[2]),
        height: tip.height,
        chain_work: tip.chain_work,
        approved: pithead_consensus::Checkpoint::genesis(node.chain().params().genesis_hash),
    };
    let response = answer(&node, &Request::Status(asker));
    assert_eq!(response, Response::Status(expected));
}

#[test]
fn headers_follow_the_first_hash_that_is_known_on_the_best_chain() {
    let blocks = blocks(10);
    let fork = branch(&file(), &blocks[..4], &key(1).address, &empty(2));
    let node = node_with(&[blocks.clone(), fork.clone()].concat());
    let all: Vec<BlockHash> = blocks.iter().map(hash).collect();
    let stranger = BlockHash([9; 32]);
    let ask = |locator: &[BlockHash], stop| {
        let locator = locator.to_vec();
        headers(answer(&node, &Request::Headers { locator, stop }))
    };
    // The fork's tip is stored, yet no part of the best chain.
    assert_eq!(ask(&[hash(&fork[1]), all[3], all[1]], None), all[4..]);
    assert_eq!(ask(&[stranger, all[7]], None), all[8..]);
    assert_eq!(ask(&[all[2]], Some(all[5])), all[3..=5]);
    assert!(ask(&[all[9]], None).is_empty());
    assert!(ask(&[stranger], None).is_empty());
    assert!(ask(&[], None).is_empty());
}

#[test]
fn headers_end_at_their_limit() {
    let blocks = blocks(HEADERS_MAX + 5);
    let node = node_with(&blocks);
    let locator = vec![node.chain().params().genesis_hash];
    let found = headers(answer(
        &node,
        &Request::Headers {
            locator,
            stop: None,
        },
    ));
    let expected: Vec<BlockHash> = blocks.iter().take(HEADERS_MAX).map(hash).collect();
    assert_eq!(found, expected);
}

#[test]
fn blocks_come_in_the_order_asked_without_those_unknown() {
    let blocks = blocks(5);
    let node = node_with(&blocks);
    let asked = vec![hash(&blocks[3]), BlockHash([7; 32]), hash(&blocks[0])];
    let found = hashes(answer(&node, &Request::Blocks(asked)));
    assert_eq!(found, [hash(&blocks[3]), hash(&blocks[0])]);
}

#[test]
fn block_that_is_being_committed_is_served() {
    let blocks = blocks(4);
    let node = node_with(&blocks[..3]);
    let mut recent = RecentBlocks::default();
    let checked = check_block(node.chain().params(), blocks[3].clone()).unwrap();
    recent.push(Arc::new(checked));
    let asked = vec![hash(&blocks[3])];
    let found = hashes(answer_with(&node, &recent, &Request::Blocks(asked.clone())));
    assert_eq!(found, asked);
    let locator = vec![hash(&blocks[1])];
    let request = Request::Headers {
        locator,
        stop: None,
    };
    let found = headers(answer_with(&node, &recent, &request));
    assert_eq!(found, [hash(&blocks[2]), hash(&blocks[3])]);
}

#[test]
fn content_ends_before_its_limit() {
    // Three blocks of about 1.6 MB: two fit. They change more accounts than other networks allow.
    let file = GenesisFile {
        max_account_changes: 100_000,
        ..file()
    };
    let mut chain = chain_of(&file, &[]);
    let mut sequence = 0;
    let big: Vec<Block> = (0..3)
        .map(|_| {
            let outputs = vec![(key(1).address, 1); 255];
            let genesis = file.check().unwrap().params.genesis_hash;
            let transactions = (0..150)
                .map(|_| {
                    let fee = 20_000;
                    let paid = key(0).pay(&genesis, sequence, fee, &outputs);
                    sequence += 1;
                    paid
                })
                .collect();
            let block = chain.assemble(transactions, key(0).address, 2);
            chain.connect(block.clone()).unwrap();
            block
        })
        .collect();
    let size = big[0].size();
    assert!(2 * size < CONTENT_BYTES_MAX && 3 * size > CONTENT_BYTES_MAX);
    let mut node = open(&memory(), &file.check().unwrap(), NOW);
    give_all(&mut node, &big, NOW);
    let asked: Vec<BlockHash> = big.iter().map(hash).collect();
    let found = hashes(answer(&node, &Request::Blocks(asked.clone())));
    assert_eq!(found, asked[..2]);
}

#[test]
fn mempool_is_listed_by_fee_rate_and_given_by_id() {
    let mut node = node_with(&[]);
    let genesis = node.chain().params().genesis_hash;
    let txids: Vec<Txid> = [(0, 2_000), (1, 9_000), (2, 4_000)]
        .into_iter()
        .map(|(owner, fee)| {
            let transaction = key(owner).pay(&genesis, 0, fee, &[(key(3).address, 5)]);
            let txid = transaction.txid(&genesis);
            node.handle(Event::Transaction(Box::new(transaction)), NOW);
            txid
        })
        .collect();
    let by_rate = vec![txids[1], txids[2], txids[0]];
    assert_eq!(answer(&node, &Request::Mempool), Response::Mempool(by_rate));
    let asked = vec![txids[2], Txid([5; 32]), txids[1]];
    let Response::Transactions(found) = answer(&node, &Request::Transactions(asked)) else {
        panic!("another kind");
    };
    let found: Vec<Txid> = found.iter().map(|found| found.txid(&genesis)).collect();
    assert_eq!(found, [txids[2], txids[1]]);
    // A mined transaction is not given: only pending ones are.
    let mined = pay(&file(), 3, 0, 0);
    let asked = Request::Transactions(vec![mined.txid(&genesis)]);
    let block = branch(&file(), &[], &key(0).address, &[(vec![mined], 2)]);
    give_all(&mut node, &block, NOW);
    assert_eq!(answer(&node, &asked), Response::Transactions(Vec::new()));
}

#[test]
fn ids_asked_for_twice_are_malformed() {
    let hashes: Vec<BlockHash> = blocks(3).iter().map(hash).collect();
    let txids: Vec<Txid> = hashes.iter().map(|hash| Txid(hash.0)).collect();
    for request in [
        Request::Blocks(hashes.clone()),
        Request::Transactions(txids.clone()),
    ] {
        assert_eq!(Request::decode(&request.encode()).unwrap(), request);
    }
    for request in [
        Request::Blocks(vec![hashes[0]; 1_000]),
        Request::Blocks(vec![hashes[0], hashes[1], hashes[0]]),
        Request::Transactions(vec![txids[2]; 2]),
    ] {
        assert!(Request::decode(&request.encode()).is_err());
    }
}

#[test]
fn all_share_the_bytes_of_a_recent_block() {
    let blocks = blocks(2);
    let mut recent = RecentBlocks::default();
    let asked = Request::Blocks(vec![hash(&blocks[0])]);
    assert!(recent.answer(&asked).is_none());
    let params = file().check().unwrap().params;
    recent.push(Arc::new(check_block(&params, blocks[0].clone()).unwrap()));
    let (first, second) = (recent.answer(&asked), recent.clone().answer(&asked));
    let (first, second) = (first.unwrap(), second.unwrap());
    assert!(Arc::ptr_eq(&first, &second));
    let expected = Response::Blocks(vec![blocks[0].clone()]);
    assert_eq!(Response::decode(&first).unwrap(), expected);
    // Only a request for exactly one block is answered from the recent ones.
    let both = Request::Blocks(blocks.iter().map(hash).collect());
    assert!(recent.answer(&both).is_none());
}
