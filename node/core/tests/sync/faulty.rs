//! Faulty and hostile peers under a virtual clock. Each is dropped or banned, what a node holds for
//! them stays bounded, and honest peers are never blamed.

use pithead_consensus::block::BASE_VERSION;
use pithead_consensus::genesis::GenesisFile;
use pithead_consensus::{
    Address, Block, BlockHash, BlockHeader, CompactTarget, Hash256, Signature, Txid, merkle,
};
use pithead_core::sync::{
    Gossip, HEADERS_MAX, Offence, Request, RequestFailure, Response, Status, Verdict,
};
use pithead_testkit::chain::mine;
use pithead_testkit::key;
use pithead_testkit::nodes::{self, branch, chain_of, empty, pay};
use pithead_testkit::world::{Reply, World, boastful_status};

/// Blocks that all members start with.
const COMMON: usize = 20;
/// Index of the node under test.
const NODE: usize = 0;
/// Index of its honest peer.
const HONEST: usize = 1;

fn miner() -> Address {
    key(0).address
}

/// A node and an honest peer, both with the same blocks.
fn pair() -> (World, Vec<Block>) {
    let mut world = World::new();
    let blocks = branch(&world.file, &[], &miner(), &empty(COMMON));
    assert_eq!(world.add(&blocks), NODE);
    assert_eq!(world.add(&blocks), HONEST);
    world.connect(NODE, HONEST);
    (world, blocks)
}

/// The two of them and a peer that answers by a policy of its own.
fn pair_and(
    policy: impl FnMut(&Request, Response) -> Reply + 'static,
) -> (World, Vec<Block>, usize) {
    let (mut world, blocks) = pair();
    let odd = world.add_odd(&blocks, policy);
    world.connect(NODE, odd);
    (world, blocks, odd)
}

/// The same with a peer that answers honestly: its faults are in its gossip.
fn pair_and_gossiper() -> (World, Vec<Block>, usize) {
    let (mut world, blocks, odd) = pair_and(|_, honest| Reply::Answer(honest));
    world.run_for(2_000);
    (world, blocks, odd)
}

/// A header on top of these blocks, without its proof of work.
fn next_header(world: &World, blocks: &[Block]) -> BlockHeader {
    chain_of(&world.file, blocks)
        .assemble(Vec::new(), miner(), 2)
        .header
}

/// Raises the nonce until the header does not meet its target.
fn spoil(header: &mut BlockHeader) {
    let target = header.bits.to_target().unwrap();
    while target.is_met_by(&header.hash()) {
        header.nonce += 1;
    }
}

/// Asserts that the node still follows its honest peer, and blames at most the odd one.
fn assert_network_goes_on(world: &mut World, odd: usize) {
    let header = world.mine(HONEST);
    world.run_until(5_000, |world| world.tip(NODE) == header.hash());
    let blamed: Vec<usize> = world.blamed().into_iter().collect();
    assert!(blamed.is_empty() || blamed == [odd], "blamed: {blamed:?}");
}

#[test]
fn announcing_a_header_without_work_is_banned() {
    let (mut world, blocks, odd) = pair_and_gossiper();
    let mut header = next_header(&world, &blocks);
    spoil(&mut header);
    world.gossip_to(odd, NODE, Gossip::Block(header));
    world.run_for(1_000);
    assert_eq!(world.verdicts_on(NODE, odd), [Verdict::Reject]);
    assert_eq!(world.ban(NODE, odd), Some(Offence::InvalidHeader));
    assert_eq!(world.node(NODE).sync_usage().headers, 0);
    assert_network_goes_on(&mut world, odd);
}

#[test]
fn announcing_a_wrong_target_is_banned() {
    let (mut world, blocks, odd) = pair_and_gossiper();
    let mut header = next_header(&world, &blocks);
    // Harder than expected is as wrong as easier.
    header.bits = CompactTarget(0x2000_ffff);
    mine(&mut header);
    world.gossip_to(odd, NODE, Gossip::Block(header));
    world.run_for(1_000);
    assert_eq!(world.verdicts_on(NODE, odd), [Verdict::Reject]);
    assert_eq!(world.ban(NODE, odd), Some(Offence::InvalidHeader));
    assert_network_goes_on(&mut world, odd);
}

#[test]
fn block_from_the_future_is_not_blamed_and_taken_later() {
    let (mut world, blocks, odd) = pair_and_gossiper();
    let ahead = world.genesis.params.max_future_secs + 5;
    let mut chain = chain_of(&world.file, &blocks);
    let now = u32::try_from(world.unix_secs()).unwrap();
    let elapsed = now + ahead - chain.tip().time;
    let block = chain.assemble(Vec::new(), miner(), elapsed);
    chain.connect(block.clone()).unwrap();
    // The odd one's clock is ahead.
    world.give_later(odd, &block);
    world.gossip_to(odd, NODE, Gossip::Block(block.header));
    world.run_for(1_000);
    assert_eq!(world.verdicts_on(NODE, odd), [Verdict::Ignore]);
    assert_eq!(world.height(NODE), COMMON as u64);
    world.run_until(20_000, |world| world.tip(NODE) == block.header.hash());
    assert!(world.blamed().is_empty());
}

#[test]
fn flood_of_headers_without_work_is_banned_at_the_first() {
    let (mut world, _, odd) = pair_and(move |request, honest| match request {
        Request::Status(_) => boast(honest),
        Request::Headers { locator, .. } => {
            let mut prev = locator[0];
            let headers = (0..HEADERS_MAX)
                .map(|number| {
                    let mut header = BlockHeader {
                        version: BASE_VERSION,
                        prev,
                        merkle_root: Hash256([7; 32]),
                        time: u32::try_from(nodes::NOW).unwrap(),
                        bits: CompactTarget(0x1d00_ffff),
                        nonce: u32::try_from(number).unwrap(),
                    };
                    spoil(&mut header);
                    prev = header.hash();
                    header
                })
                .collect();
            Reply::Answer(Response::Headers(headers))
        }
        _ => Reply::Answer(honest),
    });
    world.run_for(2_000);
    assert_eq!(world.ban(NODE, odd), Some(Offence::InvalidHeader));
    assert_eq!(world.members[NODE].most.headers, 0);
    assert_network_goes_on(&mut world, odd);
}

/// A status that promises far more work than any chain has.
fn boast(honest: Response) -> Reply {
    Reply::Answer(Response::Status(boastful_status(honest)))
}

#[test]
fn promising_headers_and_giving_none_is_banned() {
    let (mut world, _, odd) = pair_and(|request, honest| match request {
        Request::Status(_) => boast(honest),
        Request::Headers { .. } => Reply::Answer(Response::Headers(Vec::new())),
        _ => Reply::Answer(honest),
    });
    world.run_for(10_000);
    assert_eq!(world.ban(NODE, odd), Some(Offence::UselessHeaders));
    assert_network_goes_on(&mut world, odd);
}

/// A peer that promises more work, but answers with known headers and then not at all, does not
/// make the node count as behind.
#[test]
fn a_promise_followed_by_known_headers_does_not_stop_mining() {
    // Old enough for so many blocks.
    let mut world = World::on(GenesisFile {
        time: nodes::GENESIS_TIME - 100_000,
        ..nodes::file()
    });
    let blocks = branch(&world.file, &[], &miner(), &empty(HEADERS_MAX + 10));
    world.add(&blocks);
    world.add(&blocks);
    world.connect(NODE, HONEST);
    let known: Vec<BlockHeader> = blocks[..HEADERS_MAX]
        .iter()
        .map(|block| block.header)
        .collect();
    let mut answers = vec![known];
    let odd = world.add_odd(&blocks, move |request, honest| match request {
        Request::Status(_) => {
            let mut status = boastful_status(honest);
            status.height.0 += 1_000_000;
            Reply::Answer(Response::Status(status))
        }
        Request::Headers { .. } => match answers.pop() {
            Some(known) => Reply::Answer(Response::Headers(known)),
            None => Reply::Silence,
        },
        _ => Reply::Answer(honest),
    });
    world.connect(NODE, odd);
    world.run_for(5_000);
    let asked = |request: &Request| matches!(request, Request::Headers { .. });
    let count = |world: &World| {
        let all = world.members[NODE].asked.iter();
        all.filter(|(who, request)| *who == odd && asked(request))
            .count()
    };
    assert_eq!(world.height(NODE), blocks.len() as u64);
    assert_eq!(count(&world), 2, "the second one waits for its answer");
    assert!(!world.node(NODE).sync_status().syncing);
    assert_network_goes_on(&mut world, odd);
}

#[test]
fn headers_that_do_not_follow_from_the_locator_cost_points() {
    let mut world = World::new();
    let blocks = branch(&world.file, &[], &miner(), &empty(COMMON + 10));
    world.add(&blocks[..COMMON]);
    let last = blocks.last().unwrap().header;
    let odd = world.add_odd(&blocks, move |request, honest| match request {
        Request::Headers { .. } => Reply::Answer(Response::Headers(vec![last])),
        _ => Reply::Answer(honest),
    });
    world.connect(NODE, odd);
    world.run_for(2_000);
    let points = Offence::UselessHeaders.points();
    assert_eq!(world.members[NODE].scored.first(), Some(&(odd, points)));
    assert_eq!(world.node(NODE).sync_usage().headers, 0);
}

/// A network on which difficulty doubles with every block that comes at once.
fn steep() -> GenesisFile {
    GenesisFile {
        time: nodes::GENESIS_TIME - 100_000,
        half_life_secs: 2,
        ..nodes::file()
    }
}

#[test]
fn endless_headers_of_little_work_are_bounded() {
    let mut world = World::on(steep());
    let plans = vec![(Vec::new(), 0); 16];
    let blocks = branch(&world.file, &[], &miner(), &plans);
    world.add(&blocks);
    world.add(&blocks);
    world.connect(NODE, HONEST);
    // Another branch, each header as easy as can be.
    let genesis = world.genesis.block.header;
    let mut headers = vec![genesis];
    while headers.len() <= 12 * HEADERS_MAX {
        let prev = headers[headers.len() - 1];
        let mut header = BlockHeader {
            prev: prev.hash(),
            merkle_root: Hash256([9; 32]),
            time: prev.time + 2,
            nonce: 0,
            version: BASE_VERSION,
            bits: genesis.bits,
        };
        mine(&mut header);
        headers.push(header);
    }
    let hashes: Vec<BlockHash> = headers.iter().map(BlockHeader::hash).collect();
    let odd = world.add_odd(&blocks, move |request, honest| match request {
        Request::Status(_) => boast(honest),
        Request::Headers { locator, .. } => {
            let place = |hash: &BlockHash| hashes.iter().position(|have| have == hash);
            let from = locator.iter().find_map(place).unwrap() + 1;
            let some = headers.iter().skip(from).take(HEADERS_MAX);
            Reply::Answer(Response::Headers(some.copied().collect()))
        }
        _ => Reply::Answer(honest),
    });
    world.connect(NODE, odd);
    world.run_for(10_000);
    let dropped = &world.members[NODE].dropped;
    assert_eq!(dropped[..], [(odd, Offence::UselessHeaders, false)]);
    assert!(world.members[NODE].most.headers <= 11 * HEADERS_MAX);
    assert_eq!(world.node(NODE).sync_usage().headers, 0);
    assert!(!world.blamed().contains(&HONEST));
}

#[test]
fn mutated_body_is_blamed_and_its_header_stays_good() {
    let mut world = World::new();
    let blocks = branch(&world.file, &[], &miner(), &empty(60));
    assert_eq!(world.add(&[]), NODE);
    assert_eq!(world.add(&blocks), HONEST);
    let extra = pay(&world.file, 0, 0, 1);
    let odd = world.add_odd(&blocks, move |_, honest| match honest {
        Response::Blocks(mut blocks) => {
            for block in &mut blocks {
                block.transactions.push(extra.clone());
            }
            Reply::Answer(Response::Blocks(blocks))
        }
        honest => Reply::Answer(honest),
    });
    world.connect(NODE, odd);
    world.run_for(15);
    world.connect(NODE, HONEST);
    world.run_until(30_000, |world| world.height(NODE) == 60);
    assert_eq!(world.ban(NODE, odd), Some(Offence::MutatedBody));
    assert!(!world.blamed().contains(&HONEST));
}

/// A block that breaks a rule and commits to doing so: the state root is wrong.
fn committed_lie(world: &World, blocks: &[Block]) -> Block {
    let mut block = chain_of(&world.file, blocks).assemble(Vec::new(), miner(), 2);
    block.commitment.state_root = Hash256([0x55; 32]);
    block.commitment.transactions_root = merkle::root(&[]);
    block.header.merkle_root = block.commitment.merkle_root();
    block.header.nonce = 0;
    mine(&mut block.header);
    block
}

#[test]
fn announcing_an_invalid_block_is_banned() {
    let world = World::new();
    let blocks = branch(&world.file, &[], &miner(), &empty(COMMON));
    let lie = committed_lie(&world, &blocks);
    let header = lie.header;
    let (mut world, _, odd) = pair_and(move |request, honest| match request {
        Request::Blocks(hashes) if hashes[..] == [header.hash()] => {
            Reply::Answer(Response::Blocks(vec![lie.clone()]))
        }
        _ => Reply::Answer(honest),
    });
    world.run_for(2_000);
    world.gossip_to(odd, NODE, Gossip::Block(header));
    world.run_for(2_000);
    assert_eq!(world.verdicts_on(NODE, odd), [Verdict::Reject]);
    assert_eq!(world.ban(NODE, odd), Some(Offence::InvalidBlock));
    assert_eq!(world.node(NODE).sync_usage().headers, 0);
    assert_network_goes_on(&mut world, odd);
    // A peer that announces it again is banned without a download.
    let again = world.add(&blocks);
    world.connect(NODE, again);
    world.run_for(1_000);
    world.gossip_to(again, NODE, Gossip::Block(header));
    world.run_for(1_000);
    assert_eq!(world.ban(NODE, again), Some(Offence::InvalidBlock));
}

/// The invalid block is found only after the whole branch was stored, in a later piece of the
/// reorganisation.
#[test]
fn a_long_branch_with_an_invalid_block_is_banned() {
    let mut world = World::new();
    let ours = branch(&world.file, &[], &miner(), &empty(130));
    let good = branch(&world.file, &[], &key(1).address, &empty(135));
    let mut theirs = good[..127].to_vec();
    theirs.push(committed_lie(&world, &theirs));
    for block in &good[128..] {
        let mut block = block.clone();
        block.header.prev = theirs[theirs.len() - 1].header.hash();
        block.header.nonce = 0;
        mine(&mut block.header);
        theirs.push(block);
    }
    assert_eq!(world.add(&ours), NODE);
    let known = theirs.clone();
    let odd = world.add_odd(&good, move |request, honest| match (request, honest) {
        (Request::Headers { .. }, _) => Reply::Answer(Response::Headers(
            known.iter().map(|each| each.header).collect(),
        )),
        (Request::Blocks(hashes), _) => {
            let of = |hash: &BlockHash| known.iter().find(|each| each.header.hash() == *hash);
            Reply::Answer(Response::Blocks(
                hashes.iter().filter_map(of).cloned().collect(),
            ))
        }
        (_, Response::Status(status)) => Reply::Answer(Response::Status(Status {
            best_hash: known[known.len() - 1].header.hash(),
            ..status
        })),
        (_, honest) => Reply::Answer(honest),
    });
    world.connect(NODE, odd);
    world.run_for(20_000);
    assert_eq!(world.ban(NODE, odd), Some(Offence::InvalidBlock));
    assert_eq!(world.tip(NODE), ours[129].header.hash());
}

#[test]
fn announcing_a_block_and_withholding_it_does_not_harm_others() {
    let (mut world, blocks, odd) = pair_and(|request, honest| match request {
        Request::Blocks(_) => Reply::Answer(Response::Blocks(Vec::new())),
        _ => Reply::Answer(honest),
    });
    world.run_for(2_000);
    let mut chain = chain_of(&world.file, &blocks);
    for number in 1..=5_u64 {
        let block = chain.assemble(Vec::new(), key(3).address, 2 * number as u32);
        world.gossip_to(odd, NODE, Gossip::Block(block.header));
        world.run_for(500);
    }
    assert_eq!(world.ban(NODE, odd), Some(Offence::Withheld));
    world.run_for(25_000);
    let verdicts = world.members[NODE].verdicts.len();
    assert_eq!(verdicts, 0, "those of a banned peer need none");
    let usage = world.node(NODE).sync_usage();
    assert_eq!((usage.headers, usage.held_announcements), (0, 0));
    let next = chain.assemble(Vec::new(), miner(), 100);
    chain.connect(next).unwrap();
    assert_network_goes_on(&mut world, odd);
}

#[test]
fn silent_announcer_is_passed_over() {
    let mut world = World::new();
    let blocks = branch(&world.file, &[], &miner(), &empty(COMMON));
    let longer = branch(&world.file, &blocks, &miner(), &empty(1));
    assert_eq!(world.add(&blocks), NODE);
    let odd = world.add_odd(&blocks, |request, honest| match request {
        Request::Blocks(_) => Reply::Silence,
        _ => Reply::Answer(honest),
    });
    world.connect(NODE, odd);
    let all: Vec<Block> = blocks.iter().chain(&longer).cloned().collect();
    world.run_for(2_000);
    let honest = world.add(&blocks);
    world.connect(NODE, honest);
    world.run_for(2_000);
    // The honest peer comes to have it too, but its own announcement is lost.
    world.give_later(honest, &all[COMMON]);
    world.gossip_to(odd, NODE, Gossip::Block(longer[0].header));
    world.run_until(6_000, |world| world.height(NODE) == 21);
    assert!(!world.blamed().contains(&honest));
}

#[test]
fn unrequested_data_costs_points_until_the_ban() {
    let (mut world, blocks, odd) = pair_and_gossiper();
    for _ in 0..5 {
        assert_eq!(world.ban(NODE, odd), None);
        world.answer_unasked(odd, NODE, Response::Blocks(blocks.clone()));
        world.run_for(100);
    }
    assert_eq!(world.ban(NODE, odd), Some(Offence::Unrequested));
    assert_eq!(world.members[NODE].most.bodies, 0);
    assert_network_goes_on(&mut world, odd);
}

#[test]
fn blocks_that_were_not_asked_for_are_not_kept() {
    let mut world = World::new();
    let blocks = branch(&world.file, &[], &miner(), &empty(60));
    let foreign = branch(&world.file, &[], &key(2).address, &empty(60));
    assert_eq!(world.add(&[]), NODE);
    assert_eq!(world.add(&blocks), HONEST);
    let odd = world.add_odd(&blocks, move |request, honest| match request {
        Request::Blocks(_) => Reply::Answer(Response::Blocks(foreign.clone())),
        _ => Reply::Answer(honest),
    });
    world.connect(NODE, odd);
    world.connect(NODE, HONEST);
    world.run_until(30_000, |world| world.height(NODE) == 60);
    assert!(world.blamed().contains(&odd));
    assert!(!world.blamed().contains(&HONEST));
}

#[test]
fn bodies_that_wait_for_an_earlier_one_are_bounded() {
    let mut world = World::new();
    let blocks = branch(&world.file, &[], &miner(), &vec![(Vec::new(), 1); 1_300]);
    let first = blocks[0].header.hash();
    assert_eq!(world.add(&[]), NODE);
    let odd: Vec<usize> = (0..3)
        .map(|_| {
            world.add_odd(&blocks, move |_, honest| match honest {
                Response::Blocks(mut blocks) => {
                    blocks.retain(|block| block.header.hash() != first);
                    Reply::Answer(Response::Blocks(blocks))
                }
                honest => Reply::Answer(honest),
            })
        })
        .collect();
    for odd in &odd {
        world.connect(NODE, *odd);
    }
    world.run_for(60_000);
    assert_eq!(world.height(NODE), 0);
    let most = world.members[NODE].most;
    assert!(most.bodies < 1_024, "{most:?}");
    let honest = world.add(&blocks);
    world.connect(NODE, honest);
    world.run_until(30_000, |world| world.height(NODE) == 1_300);
    assert!(!world.blamed().contains(&honest));
}

#[test]
fn never_answering_is_dropped() {
    let (mut world, _, odd) = pair_and(|_, _| Reply::Silence);
    world.run_for(180_000);
    let dropped = &world.members[NODE].dropped;
    assert_eq!(dropped[..], [(odd, Offence::Timeout, false)]);
    assert!(!world.are_connected(NODE, odd));
    assert!(world.members[NODE].most.requests <= 32);
    assert_network_goes_on(&mut world, odd);
}

#[test]
fn undecodable_answers_are_banned() {
    let (mut world, _, odd) = pair_and(|_, _| Reply::Fails(RequestFailure::Undecodable));
    world.run_for(300_000);
    assert_eq!(world.ban(NODE, odd), Some(Offence::Malformed));
    assert_network_goes_on(&mut world, odd);
}

#[test]
fn answers_of_another_kind_are_banned() {
    let (mut world, _, odd) = pair_and(|_, _| Reply::Answer(Response::Mempool(Vec::new())));
    world.run_for(300_000);
    assert_eq!(world.ban(NODE, odd), Some(Offence::Malformed));
    assert_network_goes_on(&mut world, odd);
}

#[test]
fn declining_is_no_offence_and_no_use() {
    let (mut world, blocks, called) = pair_and(|_, _| Reply::Fails(RequestFailure::Refused));
    let calls = world.add_odd(&blocks, |_, _| Reply::Fails(RequestFailure::Refused));
    world.connect(calls, NODE);
    world.run_for(600_000);
    // An outbound place is too valuable for a peer that declines everything.
    let dropped = &world.members[NODE].dropped;
    assert_eq!(dropped[..], [(called, Offence::Declines, false)]);
    assert!(world.are_connected(NODE, calls));
    assert!(world.members[NODE].scored.is_empty());
    assert_network_goes_on(&mut world, called);
}

#[test]
fn listing_transactions_and_withholding_them_is_banned() {
    let listed: Vec<Txid> = (0..50_u8).map(|number| Txid([number; 32])).collect();
    let (mut world, _, odd) = pair_and(move |request, honest| match request {
        Request::Mempool => Reply::Answer(Response::Mempool(listed.clone())),
        Request::Transactions(_) => Reply::Answer(Response::Transactions(Vec::new())),
        _ => Reply::Answer(honest),
    });
    world.run_for(60_000);
    assert!(
        world.blamed().is_empty(),
        "once may be an accident of timing"
    );
    assert_eq!(world.node(NODE).sync_usage().wanted_transactions, 0);
    world.run_for(60 * 60_000);
    assert!(world.blamed().contains(&odd));
    assert_network_goes_on(&mut world, odd);
}

#[test]
fn withheld_transaction_comes_from_another_peer() {
    let mut world = World::new();
    assert_eq!(world.add(&[]), NODE);
    assert_eq!(world.add(&[]), HONEST);
    // The honest peer has it from another, and so does not announce it again.
    let other = world.add(&[]);
    world.connect(HONEST, other);
    world.run_for(2_000);
    let transaction = pay(&world.file, 0, 0, 1);
    let txid = world.submit(other, transaction);
    world.run_until(1_000, |world| world.has_pending(HONEST, &txid));
    let odd = world.add_odd(&[], move |request, honest| match request {
        Request::Mempool => Reply::Answer(Response::Mempool(vec![txid])),
        Request::Transactions(_) => Reply::Silence,
        _ => Reply::Answer(honest),
    });
    world.connect(NODE, odd);
    world.run_for(30);
    world.connect(NODE, HONEST);
    world.run_until(8_000, |world| world.has_pending(NODE, &txid));
    assert!(!world.blamed().contains(&HONEST));
    assert!(world.are_connected(NODE, odd));
}

#[test]
fn list_of_countless_transactions_is_bounded() {
    let listed: Vec<Txid> = (0..50_000_u32)
        .map(|number| {
            let mut txid = [1; 32];
            txid[..4].copy_from_slice(&number.to_le_bytes());
            Txid(txid)
        })
        .collect();
    let (mut world, _, odd) = pair_and(move |request, honest| match request {
        Request::Mempool => Reply::Answer(Response::Mempool(listed.clone())),
        Request::Transactions(_) => Reply::Silence,
        _ => Reply::Answer(honest),
    });
    world.run_for(120_000);
    assert!(world.members[NODE].most.wanted_transactions <= 20_000);
    assert!(world.blamed().contains(&odd));
    assert_network_goes_on(&mut world, odd);
}

#[test]
fn transaction_with_a_bad_signature_is_banned() {
    let (mut world, _, odd) = pair_and_gossiper();
    let mut transaction = pay(&world.file, 0, 0, 1);
    transaction.signature = Signature(Box::new([3; 256]));
    world.gossip_to(odd, NODE, Gossip::Transaction(Box::new(transaction)));
    world.run_for(1_000);
    assert_eq!(world.verdicts_on(NODE, odd), [Verdict::Reject]);
    assert_eq!(world.ban(NODE, odd), Some(Offence::InvalidTransaction));
    assert_network_goes_on(&mut world, odd);
}

#[test]
fn transaction_that_may_become_good_is_not_blamed() {
    let (mut world, _, odd) = pair_and_gossiper();
    // Key 5 owns nothing, sequence 40 is far ahead, the third pays no fee.
    let genesis = world.genesis.params.genesis_hash;
    let unfunded = pay(&world.file, 5, 0, 1);
    let ahead = pay(&world.file, 1, 40, 2);
    let unpaid = key(2).pay(&genesis, 0, 0, &[(miner(), 1)]);
    for transaction in [unfunded, ahead, unpaid] {
        world.gossip_to(odd, NODE, Gossip::Transaction(Box::new(transaction)));
    }
    world.run_for(30_000);
    assert_eq!(world.verdicts_on(NODE, odd), [Verdict::Ignore; 3]);
    assert!(world.blamed().is_empty());
}

/// A fork costs whoever shows it two blocks at an easy target. What a peer never completes must not
/// stay on disk.
#[test]
fn forks_that_peers_never_complete_are_not_stored() {
    let mut world = World::new();
    let blocks = branch(&world.file, &[], &key(0).address, &empty(5));
    world.add(&blocks);
    let stored = |world: &World| {
        let store = world.node(NODE).chain().store();
        nodes::table(store, pithead_core::store::Table::Entries).len()
    };
    let before = stored(&world);
    for liar in 1..=5 {
        // From two blocks below the tip, the third is the first with more work.
        let fork = branch(&world.file, &blocks[..3], &key(liar).address, &empty(3));
        let last = fork[2].clone();
        let all = [blocks[..3].to_vec(), fork].concat();
        let odd = world.add_odd(&all, move |request, honest| match (request, honest) {
            (Request::Blocks(_), Response::Blocks(mut given)) => {
                given.retain(|block| *block != last);
                Reply::Answer(Response::Blocks(given))
            }
            (_, honest) => Reply::Answer(honest),
        });
        world.connect(odd, NODE);
        world.run_for(60_000);
        assert_eq!(stored(&world), before, "liar {liar}");
    }
    assert_eq!(world.tip(NODE), blocks[4].header.hash());
    // An honest peer with a fork of that kind is followed.
    let fork = branch(&world.file, &blocks[..3], &key(6).address, &empty(3));
    let tip = fork[2].header.hash();
    let honest = world.add(&[blocks[..3].to_vec(), fork].concat());
    world.connect(honest, NODE);
    world.run_until(60_000, |world| world.tip(NODE) == tip);
}
