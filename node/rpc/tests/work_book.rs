//! The book of work that a node assigns to its miners, without a node. Each solution counts once, and
//! for the miner that found it; what the book remembers is bounded.

#![allow(clippy::unwrap_used)]

use std::collections::HashSet;
use std::sync::Arc;

use pithead_consensus::{BlockHash, BlockHeader, Genesis};
use pithead_core::node::Node;
use pithead_core::store::{MemoryStore, Store};
use pithead_core::template::BlockTemplate;
use pithead_rpc::workers::{
    AssignedWork, BlockCredit, JudgeContext, SolutionVerdict, SubmittedSolution, WorkBook,
    WorkSettings, WorkSubscription, WorkerId,
};
use pithead_testkit::key;
use pithead_testkit::nodes::{self, NOW};

/// A book, and templates for it. With `HARD`, a block of their network needs far more hashes than a
/// share; otherwise about two.
struct Desk {
    store: Arc<dyn Store>,
    genesis: Genesis,
    book: WorkBook,
    worker: WorkerId,
}

impl Desk {
    fn new(bits: Option<u32>) -> Self {
        let mut file = nodes::file();
        file.bits = bits.unwrap_or(file.bits);
        Self {
            store: Arc::new(MemoryStore::new()),
            genesis: file.check().unwrap(),
            book: WorkBook::new(WorkSettings {
                run: 0x0123_4567_ffff_fffe,
                share_interval_ms: 5_000,
            }),
            worker: WorkerId {
                name: "one".to_owned(),
                reward_address: key(7).address,
            },
        }
    }

    fn node(&self) -> Node {
        nodes::open(&self.store, &self.genesis, NOW)
    }

    fn subscribe(&mut self, now: u64) -> WorkSubscription {
        let worker = self.worker.clone();
        self.book
            .subscribe(worker, "tests/1".into(), "here".into(), now)
    }

    fn moment(&self, tip: BlockHash) -> JudgeContext {
        JudgeContext {
            tip,
            now: NOW,
            max_future_secs: self.genesis.params.max_future_secs,
        }
    }

    /// Accepted shares, stale ones, rejected ones.
    fn counts(&self) -> (u64, u64, u64) {
        let record = self.book.workers()[0].1;
        (record.accepted_shares, record.stale, record.rejected)
    }
}

/// The first solution of work from a nonce on.
fn share_of(work: &AssignedWork, nonce: u32) -> (SubmittedSolution, BlockHeader) {
    let mut header = work.template.header(&work.commitment);
    header.nonce = nonce;
    while !work.share_target.is_met_by(&header.hash()) {
        header.nonce += 1;
    }
    let solution = SubmittedSolution {
        work_id: work.work_id.clone(),
        extra_nonce: [0; 4],
        time: header.time,
        nonce: header.nonce,
        version: 0,
        first_hash_ms: None,
    };
    (solution, header)
}

/// A target far harder than that of a share: no share is a block.
const HARD: Option<u32> = Some(0x1c00_ffff);

#[test]
fn shares_are_told_from_blocks_and_stale_ones_from_both() {
    let mut desk = Desk::new(HARD);
    let template = desk.node().template(NOW).unwrap();
    let subscription = desk.subscribe(NOW);
    let work = desk.book.assign(&subscription, template.clone(), NOW);
    assert!(work.share_target > template.target);
    let (solution, header) = share_of(&work, 0);
    let moment = desk.moment(template.parent);
    let judged = desk.book.judge(&solution, &moment);
    assert!(matches!(judged, SolutionVerdict::Share(hash) if hash == header.hash()));
    let judged = desk.book.judge(&solution, &moment);
    assert!(matches!(judged, SolutionVerdict::Duplicate(hash) if hash == header.hash()));
    assert_eq!(desk.counts(), (1, 0, 1));
    // The rate is over at least ten seconds, so that one early share does not exaggerate it.
    let proven = work.share_target.work().to_f64() / 10.0;
    assert!((desk.book.workers()[0].1.hash_rate(NOW) - proven).abs() < 1.0);

    // The next share, but a new tip was faster.
    let (solution, header) = share_of(&work, solution.nonce + 1);
    let moment = desk.moment(header.hash());
    let judged = desk.book.judge(&solution, &moment);
    assert!(matches!(judged, SolutionVerdict::Stale(hash) if hash == header.hash()));
    assert_eq!(desk.counts(), (1, 1, 1));
}

#[test]
fn a_block_counts_as_what_the_core_says() {
    for (credit, counts, blocks) in [
        (BlockCredit::Tip, (1, 0, 0), (1, 0)),
        (BlockCredit::Side, (0, 1, 0), (0, 1)),
        (BlockCredit::Spare, (0, 1, 0), (0, 0)),
        (BlockCredit::Rejected, (0, 0, 1), (0, 0)),
    ] {
        let mut desk = Desk::new(None);
        let template = desk.node().template(NOW).unwrap();
        let subscription = desk.subscribe(NOW);
        let work = desk.book.assign(&subscription, template.clone(), NOW);
        let (solution, _) = share_of(&work, 0);
        let moment = desk.moment(template.parent);
        let SolutionVerdict::Block { finder, .. } = desk.book.judge(&solution, &moment) else {
            panic!("every share of this network is a block");
        };
        assert_eq!(desk.counts(), (0, 0, 0), "nothing before the verdict");
        desk.book.record_block(&finder, credit, NOW);
        assert_eq!(desk.counts(), counts);
        let record = desk.book.workers()[0].1;
        assert_eq!((record.accepted_blocks, record.side_blocks), blocks);
        assert_eq!(record.hash_rate(NOW) > 0.0, credit == BlockCredit::Tip);
    }
}

#[test]
fn a_block_is_recognised_after_any_number_of_shares() {
    let mut desk = Desk::new(None);
    let template = desk.node().template(NOW).unwrap();
    let subscription = desk.subscribe(NOW);
    let work = desk.book.assign(&subscription, template.clone(), NOW);
    let moment = desk.moment(template.parent);
    let mut nonce = 0;
    // More than are remembered for one piece of work.
    for _ in 0..20_010 {
        let (solution, header) = share_of(&work, nonce);
        nonce = header.nonce + 1;
        let judged = desk.book.judge(&solution, &moment);
        let SolutionVerdict::Block { finder, .. } = judged else {
            panic!("{judged:?}");
        };
        // The core refuses it, so it is not one of the few that each parent takes.
        desk.book.record_block(&finder, BlockCredit::Rejected, NOW);
    }
    assert!(desk.book.needs_share_target(&subscription, NOW));
}

#[test]
fn a_worker_gives_the_core_four_blocks_of_one_parent_whatever_the_work() {
    let mut desk = Desk::new(None);
    let template = desk.node().template(NOW).unwrap();
    let subscription = desk.subscribe(NOW);
    let moment = desk.moment(template.parent);
    let (mut nonce, mut given) = (0, Vec::new());
    for round in 0..3 {
        // Further work on the same parent, as after new transactions.
        let work = desk.book.assign(&subscription, template.clone(), NOW);
        for _ in 0..300 {
            let (solution, header) = share_of(&work, nonce);
            nonce = header.nonce + 1;
            match desk.book.judge(&solution, &moment) {
                SolutionVerdict::Block { finder, .. } => given.push(finder),
                SolutionVerdict::EnoughBlocks(hash) => assert_eq!(hash, header.hash()),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(given.len(), 4, "round {round}");
    }
    assert_eq!(desk.counts(), (0, 896, 0));
    desk.book.record_block(&given[0], BlockCredit::Tip, NOW);
    for finder in &given[1..] {
        desk.book.record_block(finder, BlockCredit::Side, NOW);
    }
    assert_eq!(desk.counts(), (1, 899, 0));
    // Another worker has its own four.
    desk.worker.name = "two".to_owned();
    let subscription = desk.subscribe(NOW);
    let work = desk.book.assign(&subscription, template, NOW);
    let (solution, _) = share_of(&work, 0);
    let judged = desk.book.judge(&solution, &moment);
    assert!(matches!(judged, SolutionVerdict::Block { .. }));
}

#[test]
fn solutions_for_forgotten_work_count_for_its_miner_and_others_for_no_miner() {
    let mut desk = Desk::new(HARD);
    let template = desk.node().template(NOW).unwrap();
    let subscription = desk.subscribe(NOW);
    let work = desk.book.assign(&subscription, template.clone(), NOW);
    let (solution, _) = share_of(&work, 0);
    for _ in 0..8 {
        desk.book.assign(&subscription, template.clone(), NOW);
    }
    let moment = desk.moment(template.parent);
    let unknown = |desk: &mut Desk, work_id: &str| {
        let solution = SubmittedSolution {
            work_id: work_id.to_owned(),
            ..solution.clone()
        };
        let judged = desk.book.judge(&solution, &moment);
        assert!(matches!(judged, SolutionVerdict::UnknownWork), "{judged:?}");
        desk.counts()
    };
    assert_eq!(unknown(&mut desk, &work.work_id), (0, 1, 0));
    // Work of another run, of another subscription, and no work id at all.
    assert_eq!(work.work_id, "01234567-fffffffe-1");
    for other in ["01234568-fffffffe-1", "01234567-ffffffff-1", "nonsense"] {
        assert_eq!(unknown(&mut desk, other), (0, 1, 0));
    }
}

#[test]
fn a_thousand_reconnects_hold_no_more_than_the_limits() {
    let mut desk = Desk::new(None);
    let mut node = desk.node();
    let mut now = NOW;
    let mut prefixes = HashSet::new();
    for _ in 0..1_000 {
        // A template of its own each time, as after a tip.
        let template = Arc::new(BlockTemplate {
            id: prefixes.len() as u64 + 1,
            ..node.template(now).unwrap().as_ref().clone()
        });
        let subscription = desk.subscribe(now);
        assert!(prefixes.insert(subscription.number));
        desk.book.assign(&subscription, template, now);
        desk.book.unsubscribe(&subscription, now);
        let usage = desk.book.usage();
        assert!(usage.templates <= 16 && usage.work <= 16, "{usage:?}");
        assert!(
            usage.subscriptions <= 1_025 && usage.workers == 1,
            "{usage:?}"
        );
    }
    assert_eq!(desk.book.usage().templates, 16);
    // A subscription that stays keeps its work; the work of those that left goes.
    now += 100;
    let stays = desk.subscribe(now);
    let template = Arc::new(BlockTemplate {
        id: 1_001,
        ..node.template(now).unwrap().as_ref().clone()
    });
    let work = desk.book.assign(&stays, template.clone(), now);
    now += 100;
    let last = desk.subscribe(now);
    desk.book.unsubscribe(&last, now);
    let usage = desk.book.usage();
    assert_eq!(
        (usage.subscriptions, usage.work, usage.templates),
        (2, 1, 1)
    );
    let (solution, _) = share_of(&work, 0);
    let judged = desk.book.judge(&solution, &desk.moment(template.parent));
    assert!(
        matches!(judged, SolutionVerdict::Block { .. }),
        "{judged:?}"
    );
    // After ten minutes, that work is too old as well.
    now += 600;
    desk.subscribe(now);
    assert_eq!(desk.book.usage().work, 0);
}
