//! Finality on disk. A node shows nothing as approved before it is durable, makes good at the next
//! start what a crash interrupted, and counts votes on record as evidence.

use std::io::Write;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use pithead_consensus::approval::vote::VoteOffence;
use pithead_consensus::{Checkpoint, Encode as _, Evidence, Link};
use pithead_core::chain::verify;
use pithead_core::finality::{KeptProof, Proof};
use pithead_core::node::{Effect, Event};
use pithead_core::store::{Batch, Store, Table};
use pithead_core::sync::{GossipId, PeerEvent, PeerKey, Verdict};
use pithead_testkit::key;
use pithead_testkit::nodes::{branch, empty, give_all, memory, open, pay, tip};
use pithead_testkit::votes::{
    QUORUM, VALIDATORS, accused, add_with, approve, at, certificates, genesis_checkpoint, give,
    gossip, in_conflict, miner, put, voting,
};
use pithead_testkit::watched_store::Watched;
use pithead_testkit::world::World;

#[test]
fn nothing_is_approved_before_it_is_on_disk() {
    let world = World::on(voting());
    let blocks = branch(&world.file, &[], &miner(), &empty(2));
    let store = Watched::new();
    let shared: Arc<dyn Store> = store.clone();
    let mut node = open(&shared, &world.genesis, world.unix_secs());
    give_all(&mut node, &blocks, world.unix_secs());
    let peer = PeerKey(1);
    let connected = PeerEvent::Connected {
        peer,
        inbound: false,
    };
    node.handle(Event::Peer(connected), world.unix_secs());
    let link = Link {
        source: genesis_checkpoint(&world),
        target: at(&world.genesis, &blocks, 2),
    };
    let mut vote = |validator: usize| {
        let gossip = gossip(&approve(&world, validator, link));
        let id = GossipId(validator as u64);
        let event = PeerEvent::Gossip { peer, id, gossip };
        node.handle(Event::Peer(event), world.unix_secs()).1
    };
    for validator in 1..QUORUM as usize {
        vote(validator);
    }
    store.fails.store(true, Ordering::Relaxed);
    let effects = vote(0);
    assert!(effects.iter().any(|each| matches!(each, Effect::Fatal(_))));
    let moved = |each: &Effect| matches!(each, Effect::FinalityMoved(_));
    assert!(!effects.iter().any(moved));
    assert!(
        !node
            .finality()
            .read()
            .unwrap()
            .view()
            .is_approved(&link.target)
    );
}

#[test]
fn a_crash_between_certificate_and_switch_is_made_good() {
    let world = World::on(voting());
    let now = world.unix_secs();
    let payment = pay(&world.file, 0, 0, 1);
    let approved = branch(&world.file, &[], &miner(), &empty(3));
    let mut plans = empty(5);
    plans[1].0.push(payment.clone());
    let heavier = branch(&world.file, &[], &key(6).address, &plans);
    for first in [&approved, &heavier] {
        let other = if first == &approved {
            &heavier
        } else {
            &approved
        };
        let store = memory();
        let mut node = open(&store, &world.genesis, now);
        give_all(&mut node, first, now);
        give_all(&mut node, other, now);
        assert_eq!(tip(&node), heavier[4].header.hash());
        drop(node);
        // The certificate is on disk, and nothing that follows from it.
        put(&store, &certificates(&world.genesis, 0, &approved, 0, 2));
        let node = open(&store, &world.genesis, now);
        assert_eq!(
            tip(&node),
            approved[2].header.hash(),
            "with what is above it"
        );
        let txid = payment.txid(&world.genesis.params.genesis_hash);
        let pending = node.mempool().read().unwrap().get(&txid).is_some();
        assert!(pending, "what the other branch paid");
        drop(node);
        // The branch that was left is remembered as well.
        let node = open(&store, &world.genesis, now);
        assert_eq!(tip(&node), approved[2].header.hash());
    }
}

#[test]
fn validators_are_known_by_their_certificates_after_a_restart() {
    let mut world = World::on(voting());
    let genesis = world.genesis.clone();
    let blocks = branch(&world.file, &[], &miner(), &empty(8));
    let all = certificates(&genesis, 0, &blocks, 0, 8);
    let node = add_with(&mut world, &blocks, &all);
    {
        let state = world.node(node).finality().read().unwrap();
        for validator in 0..QUORUM as usize {
            let address = key(validator).address;
            let seen = state.seen(&address).unwrap();
            assert_eq!(seen.approval.approval.link.target.height.0, 8);
            assert_eq!(seen.time, Some(u64::from(blocks[7].header.time)));
            assert_eq!(state.participation(&address), (4, 4));
        }
        assert!(state.seen(&key(VALIDATORS - 1).address).is_none());
    }
    // Without the blocks it is not known when.
    let without = add_with(&mut world, &[], &all);
    let state = world.node(without).finality().read().unwrap();
    assert_eq!(state.seen(&key(0).address).unwrap().time, None);
}

#[test]
fn what_is_on_record_is_evidence_too() {
    let mut world = World::on(voting());
    let genesis = world.genesis.clone();
    let blocks = branch(&world.file, &[], &miner(), &empty(20));
    let others = branch(&world.file, &[], &key(6).address, &empty(22));
    let all = certificates(&genesis, 0, &blocks, 0, 20);
    let step = |source: Checkpoint, target: Checkpoint| Link { source, target };
    let a = |height| at(&genesis, &blocks, height);
    let b = |height| at(&genesis, &others, height);
    for (link, offence) in [
        (step(a(8), b(10)), VoteOffence::DoubleVote),
        (step(a(4), a(10)), VoteOffence::DoubleVote),
        (step(a(0), a(20)), VoteOffence::DoubleVote),
        (step(a(4), b(22)), VoteOffence::SurroundVote),
    ] {
        let node = add_with(&mut world, &blocks, &all);
        let peer = world.add(&blocks);
        world.connect(node, peer);
        world.run_for(100);
        // One that is in the certificates, and one that is not.
        for validator in [1, VALIDATORS - 1] {
            let signed = approve(&world, validator, link);
            world.gossip_to(peer, node, gossip(&signed));
        }
        world.run_for(500);
        assert_eq!(world.verdicts_on(node, peer), [Verdict::Accept; 2]);
        assert_eq!(accused(world.node(node)), [key(1).address], "{link:?}");
        let state = world.node(node).finality().read().unwrap();
        let Proof::Votes(evidence) = &state.proofs()[0].proof else {
            panic!("another kind");
        };
        let validators = state.validators();
        assert_eq!(evidence.check(validators).unwrap(), offence);
    }
}

#[test]
fn a_certificate_is_held_against_earlier_votes() {
    let mut world = World::on(voting());
    let genesis = world.genesis.clone();
    let blocks = branch(&world.file, &[], &miner(), &empty(2));
    let others = branch(&world.file, &[], &key(6).address, &empty(2));
    let node = world.add(&blocks);
    let peer = add_with(
        &mut world,
        &blocks,
        &certificates(&genesis, 0, &blocks, 0, 2),
    );
    world.connect(node, peer);
    // The vote comes before the certificate that shows it for what it is.
    let link = Link {
        source: genesis_checkpoint(&world),
        target: at(&genesis, &others, 2),
    };
    world.gossip_to(peer, node, gossip(&approve(&world, 2, link)));
    world.run_until(5_000, |world| world.secured(node) == (2, 0));
    assert_eq!(accused(world.node(node)), [key(2).address]);
}

#[test]
fn verify_checks_certificates_their_links_and_proofs() {
    let world = World::on(voting());
    let (genesis, now) = (&world.genesis, world.unix_secs());
    let blocks = branch(&world.file, &[], &miner(), &empty(4));
    let others = branch(&world.file, &[], &key(6).address, &empty(2));
    let store = memory();
    give_all(&mut open(&store, genesis, now), &blocks, now);
    put(&store, &certificates(genesis, 0, &blocks, 0, 4));
    let vote = |chain| {
        let (source, target) = (genesis_checkpoint(&world), at(genesis, chain, 2));
        approve(&world, 1, Link { source, target })
    };
    let (evidence, _) = Evidence::of(&vote(&blocks), &vote(&others)).unwrap();
    let kept = KeptProof {
        time: now,
        proof: Proof::Votes(Box::new(evidence)),
    };
    let mut batch = Batch::default();
    batch.put(Table::Evidence, 0u64.to_be_bytes(), kept.encode());
    let leading = vote(&blocks);
    batch.put(Table::LeadingVotes, key(1).address.0, leading.encode());
    store.commit(&batch).unwrap();
    verify(store.as_ref(), genesis, |_, _| {}).unwrap();
    let tables = [
        Table::Certificates,
        Table::Links,
        Table::Evidence,
        Table::LeadingVotes,
    ];
    for table in tables {
        let snapshot = store.snapshot().unwrap();
        for (key, value) in snapshot.range(table, &[], &[0xff; 33], 9, false).unwrap() {
            let mut altered = value.clone();
            *altered.last_mut().unwrap() ^= 1;
            // Nothing else tells which proofs and which votes are on record.
            let tells = [Table::Certificates, Table::Links].contains(&table);
            let missing = tells.then_some(None);
            for change in [Some(Some(altered)), missing].into_iter().flatten() {
                let mut batch = Batch::default();
                batch.changes.insert((table, key.clone()), change);
                store.commit(&batch).unwrap();
                let found = verify(store.as_ref(), genesis, |_, _| {});
                assert!(found.is_err(), "{table:?} {key:?}");
                batch.put(table, key.clone(), value.clone());
                store.commit(&batch).unwrap();
            }
        }
    }
    verify(store.as_ref(), genesis, |_, _| {}).unwrap();
}

/// Lines of the log, as text.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// What is logged meanwhile, on this thread.
    fn of(act: impl FnOnce()) -> String {
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, act);
        let bytes = log.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }
}

#[test]
fn the_alarm_is_raised_once_and_at_each_start() {
    let mut world = World::on(voting());
    let genesis = world.genesis.clone();
    let ours = branch(&world.file, &[], &miner(), &empty(2));
    let theirs = branch(&world.file, &[], &key(6).address, &empty(2));
    let node = add_with(&mut world, &ours, &certificates(&genesis, 0, &ours, 0, 2));
    let peer = world.add(&ours);
    world.connect(node, peer);
    world.run_for(100);
    let link = Link {
        source: genesis_checkpoint(&world),
        target: at(&genesis, &theirs, 2),
    };
    let another = branch(&world.file, &[], &key(5).address, &empty(2));
    let another = Link {
        target: at(&genesis, &another, 2),
        ..link
    };
    let alarms = |log: &str| log.matches("two certificates conflict").count();
    let log = Log::of(|| {
        // A quorum and two more, and then all of it for another branch.
        for (link, validator) in [link, another]
            .into_iter()
            .flat_map(|link| (0..VALIDATORS).map(move |validator| (link, validator)))
        {
            let signed = approve(&world, validator, link);
            world.gossip_to(peer, node, gossip(&signed));
        }
        world.run_for(1_000);
    });
    assert!(in_conflict(&world, node));
    assert_eq!(alarms(&log), 1, "{log}");
    let pairs = |world: &World| {
        let state = world.node(node).finality().read().unwrap();
        let proofs = state.proofs().iter();
        proofs
            .filter(|kept| matches!(kept.proof, Proof::Certificates(..)))
            .count()
    };
    assert_eq!(pairs(&world), 2);
    let log = Log::of(|| world.restart(node));
    assert_eq!(alarms(&log), 1, "{log}");
    assert!(in_conflict(&world, node));
    // Nothing is switched by it.
    give(&mut world, node, &theirs);
    assert_eq!(world.tip(node), ours[1].header.hash());
}
