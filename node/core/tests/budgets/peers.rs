//! What peers send: announcements, approvals, and answers to the node's own questions.

use pithead_consensus::{Address, BlockHash, BlockHeader, Checkpoint, Height, Link, Txid};
use pithead_core::node::Event;
use pithead_core::sync::{Gossip, PeerEvent, Request, RequestId, Response};
use pithead_testkit::nodes::{branch, empty, file};
use pithead_testkit::votes::{at, certificates, miner, voting};
use pithead_testkit::{key, link};

use crate::Row;
use crate::bench::{Bench, Cost, PEER, answer_event};

/// Blocks below every measured event.
const BELOW: usize = 40;
/// Headers in the largest answer (protocol §13).
const HEADERS: usize = 2_000;
/// Txids in the largest answer (protocol §13).
const TXIDS: u32 = 50_000;

pub(crate) const ROWS: &[Row] = &[
    ("a peer that connects", connected),
    ("a peer that leaves", disconnected),
    ("an announcement without a known parent", unknown_parent),
    ("an announcement of a known block", known_header),
    ("an approval that is admitted", admitted),
    ("an approval with a false signature", false_approval),
    ("another signature on a known approval", known_approval),
    ("an approval of a stranger", strangers_approval),
    ("an answer that was not asked for", unrequested),
    ("an answer with 2,000 headers", headers),
    ("an answer with 50,000 unknown txids", txids),
    ("an answer with 2,000 approvals that are known", approvals),
    (
        "a slice of 64 certificates of 5 approvals",
        certificate_slice,
    ),
];

/// A node with validators and a peer that claims more than the node has.
fn bench() -> (Bench, Vec<pithead_consensus::Block>) {
    let blocks = branch(&voting(), &[], &miner(), &empty(BELOW));
    let mut bench = Bench::new(&voting(), &blocks);
    let approved = Checkpoint {
        height: Height(BELOW as u64),
        hash: blocks[BELOW - 1].header.hash(),
    };
    bench.connect_peer(approved);
    (bench, blocks)
}

fn connected() -> Cost {
    let (mut bench, _) = bench();
    bench.cost_of(Event::Peer(PeerEvent::Connected {
        peer: pithead_core::sync::PeerKey(2),
        inbound: true,
    }))
}

fn disconnected() -> Cost {
    let (mut bench, _) = bench();
    bench.cost_of(Event::Peer(PeerEvent::Disconnected { peer: PEER }))
}

fn announced(header: BlockHeader) -> Cost {
    let (mut bench, _) = bench();
    let event = bench.gossip(Gossip::Block(header));
    bench.cost_of(event)
}

fn unknown_parent() -> Cost {
    let (_, blocks) = bench();
    let mut header = blocks[BELOW - 1].header;
    header.prev = BlockHash([9; 32]);
    pithead_testkit::chain::mine(&mut header);
    announced(header)
}

fn known_header() -> Cost {
    let (_, blocks) = bench();
    announced(blocks[BELOW / 2].header)
}

/// The vote of a validator for the first checkpoint.
fn vote(bench: &Bench, blocks: &[pithead_consensus::Block], validator: usize) -> Gossip {
    let first = Link {
        source: at(&bench.genesis, blocks, 0),
        target: at(&bench.genesis, blocks, 2),
    };
    let genesis = bench.genesis.params.genesis_hash;
    Gossip::Approval(Box::new(key(validator).approve(&genesis, first)))
}

fn cost_of_vote(alter: impl FnOnce(&mut pithead_consensus::SignedApproval)) -> Cost {
    let (mut bench, blocks) = bench();
    let Gossip::Approval(mut signed) = vote(&bench, &blocks, 0) else {
        panic!("a vote is an approval");
    };
    alter(&mut signed);
    let event = bench.gossip(Gossip::Approval(signed));
    bench.cost_of(event)
}

fn admitted() -> Cost {
    cost_of_vote(|_| {})
}

fn false_approval() -> Cost {
    cost_of_vote(|signed| signed.signature.0[0] ^= 1)
}

fn strangers_approval() -> Cost {
    cost_of_vote(|signed| signed.approval.validator = Address([7; 32]))
}

fn known_approval() -> Cost {
    let (mut bench, blocks) = bench();
    let first = vote(&bench, &blocks, 0);
    let event = bench.gossip(first);
    bench.handle(event);
    // Signatures are randomised, so this is another one.
    let again = vote(&bench, &blocks, 0);
    let event = bench.gossip(again);
    bench.cost_of(event)
}

fn unrequested() -> Cost {
    let (mut bench, blocks) = bench();
    let headers: Vec<_> = blocks.iter().map(|block| block.header).collect();
    let id = RequestId(u64::MAX);
    bench.cost_of(answer_event(id, Response::Headers(headers)))
}

fn headers() -> Cost {
    let mut bench = Bench::new(&file(), &[]);
    let chain = branch(&file(), &[], &miner(), &vec![(Vec::new(), 1); HEADERS]);
    bench.connect_peer(Checkpoint::genesis(bench.genesis.params.genesis_hash));
    let id = bench.await_request(|request| matches!(request, Request::Headers { .. }));
    let headers = chain.iter().map(|block| block.header).collect();
    bench.cost_of(answer_event(id, Response::Headers(headers)))
}

fn txids() -> Cost {
    let mut bench = Bench::new(&file(), &branch(&file(), &[], &miner(), &empty(1)));
    bench.handle(Event::Peer(PeerEvent::Connected {
        peer: PEER,
        inbound: false,
    }));
    let id = bench.await_request(|request| matches!(request, Request::Status(_)));
    let tip = bench.node.chain().tip();
    let status = pithead_core::sync::Status {
        best_hash: tip.hash(),
        height: tip.height,
        chain_work: tip.chain_work,
        approved: Checkpoint::genesis(bench.genesis.params.genesis_hash),
    };
    bench.answer(id, Response::Status(status));
    let id = bench.await_request(|request| matches!(request, Request::Mempool));
    let txids = (0..TXIDS).map(|number| {
        let mut txid = [0; 32];
        txid[..4].copy_from_slice(&number.to_le_bytes());
        Txid(txid)
    });
    bench.cost_of(answer_event(id, Response::Mempool(txids.collect())))
}

fn approvals() -> Cost {
    let (mut bench, blocks) = bench();
    let Gossip::Approval(known) = vote(&bench, &blocks, 0) else {
        panic!("a vote is an approval");
    };
    let event = bench.gossip(Gossip::Approval(known.clone()));
    bench.handle(event);
    let id = bench.await_request(|request| matches!(request, Request::Approvals(_)));
    let copies = vec![*known; 2_000];
    bench.cost_of(answer_event(id, Response::Approvals(copies)))
}

fn certificate_slice() -> Cost {
    let blocks = branch(&voting(), &[], &miner(), &empty(2 * 70));
    let mut bench = Bench::new(&voting(), &blocks);
    let all = certificates(&bench.genesis, 0, &blocks, 0, 2 * 70);
    let last = all.last().unwrap().link().target;
    bench.connect_peer(last);
    let id = bench.await_request(|request| matches!(request, Request::Certificates(_)));
    assert_eq!(all[0].link().source.height, link(0, 2).source.height);
    bench.cost_of(answer_event(id, Response::Certificates(all)))
}
