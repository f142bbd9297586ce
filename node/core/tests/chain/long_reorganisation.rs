//! Long reorganisations: they are worked out piece by piece, in bounded memory, between other
//! events. Readers see all of one or nothing; a crash leaves all of it, nothing, or what goes on at
//! the next start.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pithead_consensus::{Block, Finality, Hash256, Height, Link};
use pithead_core::chain::{
    AcceptContext, AcceptError, Advance, Budget, Chain, ReorganisationLimits, UNDO_BLOCKS, verify,
};
use pithead_core::finality::FinalityView;
use pithead_core::node::{Answer, BlockVerdict, Effect, Event, Node};
use pithead_core::store::schema::{self, BlockStatus};
use pithead_core::store::staged::{StagedView, stage};
use pithead_core::store::{
    Batch, MemoryStore, PendingRecord, RedbStore, Snapshot, Store, StoreError, Table,
};
use pithead_core::sync::{Gossip, PeerEffect, PeerEvent, PeerKey};
use pithead_testkit::chain::mine;
use pithead_testkit::key;
use pithead_testkit::nodes::{
    GENESIS_TIME, NOW, Plan, assert_equals_replay, best_chain_state, branch, empty, file, give,
    give_all, memory, open, pay, stores, table, tip,
};
use pithead_testkit::votes::{INTERVAL, at, voting};

use crate::reorganisation::{permutation, submit, two_branches};

/// Limits so low that a branch of a few blocks is long: one block in each piece, and some rows in
/// each commit that moves them.
const TINY: ReorganisationLimits = ReorganisationLimits {
    at_once: Budget {
        blocks: 1,
        bytes: usize::MAX,
    },
    piece: Budget {
        blocks: 1,
        bytes: 4_096,
    },
};

/// Opens a node with the limits [`TINY`].
fn open_tiny(store: &Arc<dyn Store>) -> Node {
    open(store, &file().check().unwrap(), NOW).with_reorganisations(TINY)
}

/// Lets a node do what it put off; returns the effects and how many events it took.
fn go_on(node: &mut Node) -> (Vec<Effect>, usize) {
    let (mut all, mut events) = (Vec::new(), 0);
    while node.has_more() {
        all.extend(node.handle(Event::Continue, NOW).1);
        events += 1;
        assert!(events < 100_000, "it ends");
    }
    (all, events)
}

/// How a store failed, and what it committed.
#[derive(Default)]
struct Log {
    /// Commits that are still to succeed.
    left: AtomicUsize,
    /// Bytes of keys and values of the largest commit.
    largest: AtomicUsize,
    commits: AtomicUsize,
}

/// A store whose process dies after some commits.
struct Mortal {
    inner: Arc<dyn Store>,
    log: Log,
}

impl Mortal {
    fn new(inner: &Arc<dyn Store>, commits: usize) -> Arc<Self> {
        let log = Log::default();
        log.left.store(commits, Ordering::Relaxed);
        let inner = Arc::clone(inner);
        Arc::new(Self { inner, log })
    }

    fn largest(&self) -> usize {
        self.log.largest.swap(0, Ordering::Relaxed)
    }

    fn commits(&self) -> usize {
        self.log.commits.load(Ordering::Relaxed)
    }
}

impl Store for Mortal {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        self.inner.snapshot()
    }

    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        if self.log.left.load(Ordering::Relaxed) == 0 {
            return Err(StoreError::Database("the process dies here".to_owned()));
        }
        self.log.left.fetch_sub(1, Ordering::Relaxed);
        self.log.commits.fetch_add(1, Ordering::Relaxed);
        let bytes = batch.changes.iter().map(|((_, key), value)| {
            let value = value.as_ref().map_or(0, Vec::len);
            key.len() + value
        });
        self.log.largest.fetch_max(bytes.sum(), Ordering::Relaxed);
        self.inner.commit(batch)
    }

    fn append_pending(&self, record: &PendingRecord) -> Result<(), StoreError> {
        self.inner.append_pending(record)
    }

    fn pending(&self) -> Result<Vec<PendingRecord>, StoreError> {
        self.inner.pending()
    }

    fn rewrite_pending(&self, records: &[PendingRecord]) -> Result<(), StoreError> {
        self.inner.rewrite_pending(records)
    }

    fn backup(&self, dir: &Path) -> Result<(u64, Box<dyn Snapshot>), StoreError> {
        self.inner.backup(dir)
    }

    fn size_bytes(&self) -> u64 {
        self.inner.size_bytes()
    }
}

/// What a replay of these blocks leaves in every table of the best chain.
fn state_after(blocks: &[Block]) -> Vec<(Table, Vec<(Vec<u8>, Vec<u8>)>)> {
    let store = memory();
    let mut node = open(&store, &file().check().unwrap(), NOW);
    give_all(&mut node, blocks, NOW);
    best_chain_state(&store)
}

#[test]
fn readers_see_all_of_a_long_reorganisation_or_nothing() {
    let genesis = file().check().unwrap();
    let (a, b) = two_branches();
    let (before, after) = (state_after(&a), state_after(&b));
    for (store, _dir) in stores() {
        let mut node = open_tiny(&store);
        give_all(&mut node, &a, NOW);
        give_all(&mut node, &b[..3], NOW);
        assert_eq!(give(&mut node, &b[3], NOW).unwrap(), BlockVerdict::Side);
        assert_eq!(node.chain().reorganising(), Some((1, 7)));
        let mut switched = 0;
        while node.has_more() {
            let building = node.chain().reorganising().is_some();
            assert!(
                best_chain_state(&store)
                    == if building {
                        before.clone()
                    } else {
                        after.clone()
                    }
            );
            let tip_seen = schema::tip_entry(store.snapshot().unwrap().as_ref()).unwrap();
            assert_eq!(tip_seen.hash(), tip(&node));
            let (_, effects) = node.handle(Event::Continue, NOW);
            switched += effects
                .iter()
                .filter(|effect| {
                    matches!(
                        effect,
                        Effect::TipChanged {
                            disconnected: 3,
                            ..
                        }
                    )
                })
                .count();
        }
        assert_eq!(switched, 1);
        assert!(
            table(&store, Table::Staged).is_empty(),
            "nothing is left over"
        );
        assert_equals_replay(&node, &genesis, &b, NOW);
        let report = verify(store.as_ref(), &genesis, |_, _| {}).unwrap();
        assert_eq!((report.blocks, report.transactions), (4, 4));
    }
}

#[test]
fn blocks_in_every_order_end_in_one_state_piece_by_piece_too() {
    let (a, b) = two_branches();
    let expected = state_after(&b);
    let all = [a, b.clone()].concat();
    // Every eleventh of the 5,040 orders; between two blocks there is time for 0 to 3 pieces.
    for number in (0..5_040).step_by(11) {
        let store = memory();
        let mut node = open_tiny(&store);
        for (index, block) in permutation(&all, number).iter().enumerate() {
            give_all(&mut node, std::slice::from_ref(block), NOW);
            for _ in 0..(number / 11 + index) % 4 {
                node.handle(Event::Continue, NOW);
            }
        }
        go_on(&mut node);
        assert_eq!(tip(&node), b[3].header.hash(), "order {number}");
        assert!(best_chain_state(&store) == expected, "order {number}");
    }
}

#[test]
fn a_crash_at_any_commit_leaves_a_chain_that_goes_on() {
    let (a, b) = two_branches();
    let (before, after) = (state_after(&a), state_after(&b));
    let mut resumed = 0;
    for commits in 0.. {
        let (store, _dir) = stores().remove(0);
        give_all(&mut open_tiny(&store), &a, NOW);
        let mortal = Mortal::new(&store, commits);
        let dying: Arc<dyn Store> = mortal.clone();
        let mut node = open_tiny(&dying);
        let mut died = false;
        for block in &b {
            died |= matches!(give(&mut node, block, NOW), Err(AcceptError::Internal(_)));
        }
        while node.has_more() && !died {
            let (_, effects) = node.handle(Event::Continue, NOW);
            died = effects
                .iter()
                .any(|effect| matches!(effect, Effect::Fatal(_)));
        }
        drop(node);
        let found = best_chain_state(&store);
        assert!(found == before || found == after, "after {commits} commits");
        // The next start goes on where the rows say.
        let mut node = open_tiny(&store);
        let done = node.chain().reorganising().map_or(0, |(done, _)| done);
        resumed = resumed.max(done);
        for block in &b {
            // Those that were stored before the crash are known.
            let _ = give(&mut node, block, NOW);
        }
        go_on(&mut node);
        assert!(best_chain_state(&store) == after, "after {commits} commits");
        assert!(table(&store, Table::Staged).is_empty());
        if !died {
            assert_eq!(resumed, 6, "it went on with six blocks of seven done");
            return;
        }
    }
}

#[test]
fn a_kill_at_any_moment_leaves_files_that_go_on() {
    let genesis = file().check().unwrap();
    let (a, b) = two_branches();
    for pieces in 0.. {
        let dir = tempfile::tempdir().unwrap();
        let reopen =
            || -> Arc<dyn Store> { Arc::new(RedbStore::open(dir.path(), 4 << 20).unwrap()) };
        let store = reopen();
        let mut node = open_tiny(&store);
        give_all(&mut node, &[a.clone(), b.clone()].concat(), NOW);
        for _ in 0..pieces {
            node.handle(Event::Continue, NOW);
        }
        let was_done = !node.has_more();
        drop(node);
        drop(store);
        // --verify reads the same chain that a node shows.
        let store = reopen();
        verify(store.as_ref(), &genesis, |_, _| {}).unwrap();
        let mut node = open_tiny(&store);
        go_on(&mut node);
        assert_equals_replay(&node, &genesis, &b, NOW);
        if was_done {
            return;
        }
    }
}

/// Blocks with a payment each.
fn paying(count: usize, from: usize) -> Vec<Plan> {
    let file = file();
    (0..count)
        .map(|sequence| (vec![pay(&file, from, sequence as u64, 4)], 2))
        .collect()
}

#[test]
fn memory_and_pieces_do_not_grow_with_the_depth() {
    let file = file();
    let genesis = file.check().unwrap();
    let limits = ReorganisationLimits {
        at_once: Budget {
            blocks: 12,
            bytes: 1 << 20,
        },
        piece: Budget {
            blocks: 4,
            bytes: 16 << 10,
        },
    };
    let mut largest = Vec::new();
    for depth in [10, 40] {
        let mortal = Mortal::new(&memory(), usize::MAX);
        let store: Arc<dyn Store> = mortal.clone();
        let mut node = open(&store, &genesis, NOW).with_reorganisations(limits);
        let a = branch(&file, &[], &key(6).address, &paying(depth, 0));
        let b = branch(&file, &[], &key(7).address, &paying(depth + 1, 1));
        give_all(&mut node, &a, NOW);
        let a_block = mortal.largest();
        give_all(&mut node, &b, NOW);
        go_on(&mut node);
        assert_equals_replay(&node, &genesis, &b, NOW);
        let most = mortal.largest();
        let bound = 20 * a_block;
        assert!(most <= bound, "{most} bytes in one commit, at most {bound}");
        largest.push(most);
    }
    assert!(largest[1] < 2 * largest[0], "{largest:?}");
}

#[test]
fn bytes_end_a_piece_as_well() {
    let file = file();
    let genesis = file.check().unwrap();
    let a = branch(&file, &[], &key(6).address, &paying(10, 0));
    let b = branch(&file, &[], &key(7).address, &paying(11, 1));
    // The limit in bytes, and the changes of one block on top: rows have a tag and a kind each.
    let bytes = 8_192;
    let limits = ReorganisationLimits {
        at_once: Budget {
            blocks: usize::MAX,
            bytes,
        },
        piece: Budget {
            blocks: usize::MAX,
            bytes,
        },
    };
    let mortal = Mortal::new(&memory(), usize::MAX);
    let store: Arc<dyn Store> = mortal.clone();
    let mut node = open(&store, &genesis, NOW).with_reorganisations(limits);
    give_all(&mut node, &a, NOW);
    let a_block = mortal.largest();
    give_all(&mut node, &b, NOW);
    go_on(&mut node);
    assert_equals_replay(&node, &genesis, &b, NOW);
    let most = mortal.largest();
    let bound = bytes + 2 * a_block;
    assert!(most <= bound, "{most} bytes in one commit, at most {bound}");
}

#[test]
fn the_limits_of_a_node_count_blocks() {
    let limits = ReorganisationLimits::default();
    assert_eq!(
        (limits.at_once.blocks, limits.at_once.bytes),
        (256, 32 << 20)
    );
    assert_eq!((limits.piece.blocks, limits.piece.bytes), (64, 8 << 20));
    let file = file();
    let genesis = file.check().unwrap();
    // Between branches of equal blocks the way is odd: 255 blocks are gone at once, 257 are not.
    for (down, is_long) in [(127, false), (128, true)] {
        let a = branch(&file, &[], &key(6).address, &empty(down));
        let b = branch(&file, &[], &key(7).address, &empty(down + 1));
        let mut node = open(&memory(), &genesis, NOW);
        give_all(&mut node, &a, NOW);
        give_all(&mut node, &b[..down], NOW);
        assert_eq!(tip(&node), a[down - 1].header.hash());
        let verdict = give(&mut node, &b[down], NOW).unwrap();
        assert_eq!(verdict == BlockVerdict::Side, is_long);
        assert_eq!(node.chain().reorganising(), is_long.then_some((256, 257)));
        go_on(&mut node);
        assert_eq!(tip(&node), b[down].header.hash());
    }
}

/// A node on `a` that has begun to switch to `b`, which is longer by one block.
fn begun(store: &Arc<dyn Store>, a: &[Block], b: &[Block]) -> Node {
    let mut node = open_tiny(store);
    give_all(&mut node, a, NOW);
    give_all(&mut node, b, NOW);
    assert!(node.chain().reorganising().is_some());
    assert_eq!(tip(&node), a[a.len() - 1].header.hash());
    node
}

fn status_of(store: &Arc<dyn Store>, block: &Block) -> BlockStatus {
    let snapshot = store.snapshot().unwrap();
    let entry = schema::expect_entry(snapshot.as_ref(), &block.header.hash());
    entry.unwrap().status
}

#[test]
fn an_invalid_block_far_along_the_way_leaves_the_chain_as_it_was() {
    let file = file();
    let genesis = file.check().unwrap();
    for (store, _dir) in stores() {
        let a = branch(&file, &[], &key(6).address, &paying(3, 0));
        let good = branch(&file, &[], &key(7).address, &paying(5, 1));
        let mut b = good.clone();
        b[2].commitment.state_root = Hash256([9; 32]);
        b[2].header.merkle_root = b[2].commitment.merkle_root();
        for index in 2..4 {
            b[index].header.prev = b[index - 1].header.hash();
            b[index].header.nonce = 0;
            mine(&mut b[index].header);
        }
        let mut node = begun(&store, &a, &b[..4]);
        let before = best_chain_state(&store);
        let (effects, _) = go_on(&mut node);
        assert!(best_chain_state(&store) == before, "nothing moved");
        let moved =
            |effect: &Effect| matches!(effect, Effect::TipChanged { .. } | Effect::Fatal(_));
        assert!(!effects.iter().any(moved));
        let expected = [
            BlockStatus::Stored,
            BlockStatus::Stored,
            BlockStatus::Invalid,
        ];
        assert_eq!(
            [&b[0], &b[1], &b[2]].map(|block| status_of(&store, block)),
            expected
        );
        assert_eq!(status_of(&store, &b[3]), BlockStatus::Invalid);
        assert!(table(&store, Table::Staged).is_empty());
        // Its sound parent still carries other branches.
        give_all(&mut node, &good[2..], NOW);
        go_on(&mut node);
        assert_equals_replay(&node, &genesis, &good, NOW);
    }
}

#[test]
fn blocks_that_come_meanwhile_count_at_the_end() {
    let file = file();
    let genesis = file.check().unwrap();
    let (a, b) = two_branches();
    let on_a = [a.clone(), branch(&file, &a, &key(6).address, &empty(2))].concat();
    let on_b = [b.clone(), branch(&file, &b, &key(7).address, &empty(3))].concat();
    let third = branch(&file, &b[..2], &key(3).address, &empty(4));
    let on_third = [b[..2].to_vec(), third].concat();
    // Which blocks come while six pieces are left or fewer, the chain that is the best then, and
    // how often blocks are undone for it: not for a branch that is no longer the best.
    let cases = [
        (&on_a[3..4], &b, 1),
        (&on_a[3..5], &on_a, 0),
        (&on_b[4..7], &on_b, 1),
        (&on_third[2..6], &on_third, 2),
    ];
    for (given, best, undone) in cases {
        for pieces in 0..6 {
            let mut node = begun(&memory(), &a, &b);
            let mut effects = Vec::new();
            for _ in 0..pieces {
                effects.extend(node.handle(Event::Continue, NOW).1);
            }
            give_all(&mut node, given, NOW);
            effects.extend(go_on(&mut node).0);
            assert_equals_replay(&node, &genesis, best, NOW);
            let is_undone = |effect: &&Effect| matches!(effect, Effect::TipChanged { disconnected, .. } if *disconnected > 0);
            assert_eq!(effects.iter().filter(is_undone).count(), undone);
        }
    }
}

#[test]
fn a_long_reorganisation_is_given_up_once_certificates_favour_the_present_chain() {
    let file = voting();
    let genesis = file.check().unwrap();
    let a = branch(&file, &[], &key(6).address, &empty(4));
    let b = branch(&file, &[], &key(7).address, &empty(5));
    let mut finality = Finality::new(INTERVAL.try_into().unwrap(), at(&genesis, &a, 0));
    let nothing = FinalityView::new(finality.clone());
    let link = Link {
        source: at(&genesis, &a, 0),
        target: at(&genesis, &a, 2),
    };
    finality.accept(link).unwrap();
    let approved = FinalityView::new(finality);
    // The chain is told at once, or finds out at the end.
    for told in [true, false] {
        let store = memory();
        let path = Path::new("test");
        let mut chain = Chain::open(Arc::clone(&store), genesis.clone(), path).unwrap();
        chain.set_limits(TINY);
        for block in a.iter().chain(&b) {
            let context = AcceptContext {
                now: NOW,
                finality: &nothing,
            };
            let accepted = chain.accept_block(block.clone(), context, &mut |_| {});
            accepted.unwrap();
        }
        assert_eq!(chain.reorganising(), Some((1, 9)));
        chain.advance(&nothing, &mut |_| {}).unwrap();
        if told {
            let update = chain.reconsider(&approved, &mut |_| {}).unwrap();
            assert!(update.is_none());
            assert_eq!(chain.reorganising(), None);
        }
        while chain.has_more() {
            let advance = chain.advance(&approved, &mut |_| panic!("no new tip"));
            assert!(matches!(advance, Ok(Advance::Nothing)));
        }
        assert_eq!(chain.tip().hash(), a[3].header.hash());
        assert!(table(&store, Table::Staged).is_empty());
    }
}

/// A chain of more blocks than can be undone, and two that are shorter and have more work: their
/// blocks come faster, so that each takes more hashes.
#[test]
fn what_was_pruned_stays_out_of_reach_on_a_shorter_chain() {
    let mut file = file();
    file.time = GENESIS_TIME - 100_000;
    file.half_life_secs = 10 * file.block_interval_secs;
    let genesis = file.check().unwrap();
    let length = usize::try_from(UNDO_BLOCKS).unwrap() + 10;
    let plans = vec![(Vec::new(), file.block_interval_secs); length];
    let long = branch(&file, &[], &key(6).address, &plans);
    let quick = |below: &[Block], owner: usize, count: usize| {
        let plans = vec![(Vec::new(), 0); count];
        let own = branch(&file, below, &key(owner).address, &plans);
        [below.to_vec(), own].concat()
    };
    let store = memory();
    let mut node = open(&store, &genesis, NOW);
    give_all(&mut node, &long, NOW);
    let pruned =
        |store: &Arc<dyn Store>| schema::pruned(store.snapshot().unwrap().as_ref()).unwrap();
    assert_eq!(pruned(&store), Height(10));
    // Fork above what was pruned: the node follows.
    let short = quick(&long[..1_000], 7, 100);
    give_all(&mut node, &short[1_000..], NOW);
    go_on(&mut node);
    assert_eq!(tip(&node), short[short.len() - 1].header.hash());
    assert_eq!(pruned(&store), Height(10), "it never goes down");
    // A version without that record finds out from the records that are there.
    drop(node);
    let mut old = Batch::default();
    old.delete(Table::Meta, schema::META_PRUNED);
    store.commit(&old).unwrap();
    let mut node = open(&store, &genesis, NOW);
    assert_eq!(pruned(&store), Height(10));
    // A fork at the last block that can be kept is followed; one block below, it is refused.
    let deepest = quick(&long[..10], 3, 112);
    let too_deep = quick(&long[..9], 2, 130);
    let tip_before = tip(&node);
    let mut refused = 0;
    for block in &too_deep[9..] {
        match give(&mut node, block, NOW) {
            Ok(verdict) => assert_eq!(verdict, BlockVerdict::Side),
            Err(AcceptError::TooDeep { depth, reach }) => {
                assert_eq!((depth, reach), (1_091, 1_090));
                refused += 1;
                // Served again, it is known.
                let again = give(&mut node, block, NOW);
                assert!(matches!(again, Err(AcceptError::Known { .. })), "{again:?}");
            }
            Err(error) => panic!("{error}"),
        }
        let (effects, _) = go_on(&mut node);
        assert!(
            !effects
                .iter()
                .any(|effect| matches!(effect, Effect::Fatal(_)))
        );
    }
    assert!(refused > 1, "the branch became the better one");
    assert_eq!(tip(&node), tip_before);
    // A start looks at it again and leaves it.
    drop(node);
    let mut node = open(&store, &genesis, NOW);
    go_on(&mut node);
    assert_eq!(tip(&node), tip_before);
    give_all(&mut node, &deepest[10..], NOW);
    go_on(&mut node);
    assert_eq!(tip(&node), deepest[deepest.len() - 1].header.hash());
}

#[test]
fn a_flood_of_side_blocks_does_not_delay_the_end() {
    let file = file();
    let (a, b) = two_branches();
    let steps = |flood: bool| {
        let store = memory();
        let mut node = begun(&store, &a, &b);
        let mut events = 0;
        while node.chain().reorganising().is_some() {
            if flood {
                // Siblings of the tip, and of the tip to be.
                for (below, owner) in [(&a[..2], 0), (&b[..3], 1)] {
                    let plans = [(Vec::new(), 10 + u32::try_from(events).unwrap())];
                    let side = branch(&file, below, &key(owner).address, &plans);
                    assert_eq!(give(&mut node, &side[0], NOW).unwrap(), BlockVerdict::Side);
                }
            }
            node.handle(Event::Continue, NOW);
            events += 1;
        }
        assert_eq!(tip(&node), b[3].header.hash());
        events
    };
    assert_eq!(steps(true), steps(false));
}

#[test]
fn the_core_answers_between_the_pieces() {
    let file = file();
    let (a, b) = two_branches();
    let mortal = Mortal::new(&memory(), usize::MAX);
    let store: Arc<dyn Store> = mortal.clone();
    let mut node = begun(&store, &a, &b);
    let mut pieces = 0;
    while node.chain().reorganising().is_some() {
        // Any other event costs what it always costs: no piece is worked out in it.
        let (commits, before) = (mortal.commits(), node.chain().reorganising());
        let template = match node.handle(Event::FreshTemplate, NOW).0 {
            Answer::Template(template) => template.unwrap(),
            other => panic!("{other:?}"),
        };
        assert_eq!(
            template.parent,
            a[2].header.hash(),
            "work on the chain that is valid"
        );
        let peer = PeerKey(pieces);
        let inbound = false;
        node.handle(Event::Peer(PeerEvent::Connected { peer, inbound }), NOW);
        submit(&mut node, &pay(&file, 3, pieces, 0), NOW);
        assert_eq!(
            (mortal.commits(), node.chain().reorganising()),
            (commits, before)
        );
        // A piece comes with each tick, however many events wait.
        node.handle(Event::Tick, NOW);
        assert_ne!(node.chain().reorganising(), before);
        assert_eq!(mortal.commits(), commits + 1);
        pieces += 1;
    }
    assert_eq!(pieces, 6);
    assert_eq!(node.template(NOW).unwrap().parent, b[3].header.hash());
    // What was paid meanwhile is still pending.
    let mempool = node.mempool().read().unwrap();
    assert_eq!(mempool.of_sender(&key(3).address).count(), 6);
}

#[test]
fn a_second_long_reorganisation_waits_until_the_rows_of_the_first_have_moved() {
    let file = file();
    let genesis = file.check().unwrap();
    let (a, b) = two_branches();
    let c = branch(&file, &[], &key(3).address, &paying(6, 2));
    for (store, _dir) in stores() {
        let mut node = begun(&store, &a, &b);
        while tip(&node) != b[3].header.hash() {
            node.handle(Event::Continue, NOW);
        }
        assert!(!table(&store, Table::Staged).is_empty());
        give_all(&mut node, &c[..5], NOW);
        assert_eq!(tip(&node), b[3].header.hash());
        assert_eq!(node.chain().reorganising(), None);
        give_all(&mut node, &c[5..], NOW);
        go_on(&mut node);
        assert_equals_replay(&node, &genesis, &c, NOW);
        assert!(table(&store, Table::Staged).is_empty());
    }
}

#[test]
fn payments_of_the_branch_that_is_left_come_back_block_by_block() {
    let file = file();
    let genesis = file.check().unwrap();
    let own: Vec<Plan> = (0..3)
        .map(|sequence| (vec![pay(&file, 0, sequence, 4)], 2))
        .collect();
    let a = branch(&file, &[], &key(6).address, &own);
    // The other branch mines the first of them, and one that was pending.
    let mut plans = empty(4);
    plans[2].0 = vec![a[0].transactions[0].clone(), pay(&file, 1, 0, 4)];
    let b = branch(&file, &[], &key(7).address, &plans);
    let store = memory();
    let mut node = open_tiny(&store);
    let peer = PeerKey(1);
    let inbound = false;
    node.handle(Event::Peer(PeerEvent::Connected { peer, inbound }), NOW);
    give_all(&mut node, &a, NOW);
    submit(&mut node, &pay(&file, 0, 3, 4), NOW);
    submit(&mut node, &pay(&file, 1, 0, 4), NOW);
    give_all(&mut node, &b, NOW);
    let (effects, _) = go_on(&mut node);
    assert_equals_replay(&node, &genesis, &b, NOW);
    let sequences = |node: &Node, index: usize| -> Vec<u64> {
        let mempool = node.mempool().read().unwrap();
        let pending = mempool.of_sender(&key(index).address);
        pending.map(|each| each.body().sequence).collect()
    };
    assert_eq!(sequences(&node, 0), [1, 2, 3]);
    assert_eq!(sequences(&node, 1), [0; 0], "mined on the new branch");
    let announced = effects.iter().filter(|effect| {
        matches!(
            effect,
            Effect::Peer(PeerEffect::Publish(Gossip::Transaction(_)))
        )
    });
    assert_eq!(announced.count(), 2, "those that came back");
    // A restart keeps them.
    drop(node);
    let node = open_tiny(&store);
    assert_eq!(sequences(&node, 0), [1, 2, 3]);
}

#[test]
fn rows_lie_over_their_tables_in_any_range() {
    let keys: Vec<Vec<u8>> = (0..600_u16).map(|key| key.to_be_bytes().to_vec()).collect();
    // Every second key is stored. Of every three, a row sets one and deletes one.
    let store = MemoryStore::new();
    let (mut stored, mut changes, mut whole) =
        (Batch::default(), Batch::default(), Batch::default());
    for (index, key) in keys.iter().enumerate() {
        if index % 2 == 0 {
            stored.put(Table::Accounts, key.clone(), "stored");
            whole.put(Table::Accounts, key.clone(), "stored");
        }
        match index % 3 {
            0 => changes.put(Table::Accounts, key.clone(), "row"),
            1 => changes.delete(Table::Accounts, key.clone()),
            _ => continue,
        }
    }
    let mut staged = Batch::default();
    stage(&changes.changes, &mut staged).unwrap();
    store.commit(&stored).unwrap();
    store.commit(&staged).unwrap();
    let expected = MemoryStore::new();
    expected.commit(&whole).unwrap();
    expected.commit(&changes).unwrap();
    let (snapshot, expected) = (store.snapshot().unwrap(), expected.snapshot().unwrap());
    let view = StagedView(snapshot.as_ref());
    for (from, to) in [(0, 599), (1, 2), (2, 300), (5, 5), (7, 3)] {
        for limit in [0, 1, 2, 255, 256, 257, usize::MAX] {
            for descending in [false, true] {
                let range = |from_where: &dyn Snapshot| {
                    from_where
                        .range(Table::Accounts, &keys[from], &keys[to], limit, descending)
                        .unwrap()
                };
                assert_eq!(range(&view), range(expected.as_ref()));
            }
        }
    }
    for key in &keys {
        let get = |from: &dyn Snapshot| from.get(Table::Accounts, key).unwrap();
        assert_eq!(get(&view), get(expected.as_ref()));
    }
    // Approvals and their like are never part of a reorganisation.
    let mut other = Batch::default();
    other.put(Table::Certificates, "a", "b");
    assert!(stage(&other.changes, &mut Batch::default()).is_err());
}
