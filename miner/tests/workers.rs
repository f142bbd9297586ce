//! The workers, with kernels that watch what they are given: every nonce once,
//! a new extra nonce after the last, other work when the board says so, and
//! nothing handed in that consensus does not confirm.

#![allow(clippy::unwrap_used)]

mod fake_node;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use fake_node::{WorkSpec, reward_address};
use pithead_consensus::Target;
use pithead_consensus::hash::Hash256;
use pithead_miner::board::WorkBoard;
use pithead_miner::clock::Clock;
use pithead_miner::kernel::{Hit, Job, Kernel, Portable};
use pithead_miner::stats::Stats;
use pithead_miner::work::Work;
use pithead_miner::workers::{
    PoolConfig, SolutionQueues, WorkerError, WorkerPool, solution_queues,
};

const PATIENCE: Duration = Duration::from_secs(60);

/// One call of a kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Call {
    merkle_root: Hash256,
    time: u32,
    start: u32,
    count: u32,
    versions: Vec<u32>,
}

/// Tells what it is asked, and hashes nothing.
struct Watcher(mpsc::SyncSender<Call>);

/// The same, with four versions at a time.
struct FourVersions(Watcher);

impl Kernel for FourVersions {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn versions(&self) -> usize {
        4
    }

    fn scan(&self, job: &Job, start: u32, count: u32, hits: &mut Vec<Hit>) {
        self.0.scan(job, start, count, hits);
    }
}

impl Kernel for Watcher {
    fn name(&self) -> &'static str {
        "watcher"
    }

    fn scan(&self, job: &Job, start: u32, count: u32, _: &mut Vec<Hit>) {
        let versions: Vec<u32> = job.versions().collect();
        let header = job.header(Hit {
            nonce: start,
            version: versions[0],
        });
        // Nobody listens any more when the test is over.
        let _ = self.0.send(Call {
            merkle_root: header.merkle_root,
            time: header.time,
            start,
            count,
            versions,
        });
    }
}

/// Claims that nothing but nonsense is a solution, very often.
struct Fool;

impl Kernel for Fool {
    fn name(&self) -> &'static str {
        "fool"
    }

    fn scan(&self, job: &Job, start: u32, _: u32, hits: &mut Vec<Hit>) {
        let version = job.versions().next().unwrap();
        let hit = |nonce| Hit { nonce, version };
        let wrong = |hit: &Hit| !job.target().is_met_by(&job.header(*hit).hash());
        hits.extend((start..).map(hit).filter(wrong).take(10));
    }
}

/// Panics in its first worker but one call.
struct Bomb(std::sync::atomic::AtomicUsize);

impl Kernel for Bomb {
    fn name(&self) -> &'static str {
        "bomb"
    }

    fn scan(&self, _: &Job, _: u32, _: u32, _: &mut Vec<Hit>) {
        let call = self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        assert!(call != 5, "this kernel panics for a test");
    }
}

/// Claims that the first nonce of every range is a solution, besides those that are.
struct Liar;

impl Kernel for Liar {
    fn name(&self) -> &'static str {
        "liar"
    }

    fn scan(&self, job: &Job, start: u32, count: u32, hits: &mut Vec<Hit>) {
        let version = job.versions().next().unwrap();
        hits.push(Hit {
            nonce: start,
            version,
        });
        Portable.scan(job, start, count, hits);
    }
}

struct Running {
    pool: WorkerPool,
    board: Arc<WorkBoard>,
    stats: Arc<Stats>,
    queues: SolutionQueues,
}

fn start(threads: usize, kernel: impl Kernel + 'static) -> Running {
    // Kernels live as long as the program.
    start_pool(PoolConfig::new(threads, Box::leak(Box::new(kernel))))
}

fn start_pool(config: PoolConfig) -> Running {
    let threads = config.threads;
    let board = Arc::new(WorkBoard::default());
    let stats = Arc::new(Stats::new(threads));
    let (solutions, queues) = solution_queues();
    let pool =
        WorkerPool::start(config, Arc::clone(&board), Arc::clone(&stats), solutions).unwrap();
    Running {
        pool,
        board,
        stats,
        queues,
    }
}

fn work(spec: &WorkSpec, arrived: Instant) -> Option<Arc<Work>> {
    let work = Work::from_message(spec.message(), &reward_address(), 1, arrived).unwrap();
    Some(Arc::new(work))
}

#[test]
fn tries_every_nonce_once_and_then_rolls_the_extra_nonce() {
    let (sender, calls) = mpsc::sync_channel(0);
    let running = start(1, Watcher(sender));
    // Without versions to roll, which come before.
    let spec = WorkSpec {
        version_mask: 0,
        ..WorkSpec::default()
    };
    running.board.publish(work(&spec, Instant::now()));
    let mut next = 0u64;
    let first = calls.recv_timeout(PATIENCE).unwrap();
    let mut call = first.clone();
    while call.merkle_root == first.merkle_root {
        assert_eq!(u64::from(call.start), next);
        next += u64::from(call.count);
        call = calls.recv_timeout(PATIENCE).unwrap();
    }
    assert_eq!(next, 1 << 32);
    assert_eq!(call.start, 0);
    drop(calls);
    running.pool.stop().unwrap();
    assert!(running.stats.hashes() >= 1 << 32);
}

#[test]
fn rolls_the_versions_that_the_node_allows_before_the_extra_nonce() {
    let (sender, calls) = mpsc::sync_channel(0);
    let running = start(1, FourVersions(Watcher(sender)));
    let spec = WorkSpec {
        // Three bits: eight versions.
        version_mask: 0b111 << 20,
        ..WorkSpec::default()
    };
    running.board.publish(work(&spec, Instant::now()));
    let mut calls_of_nonce_0 = calls.iter().filter(|call| call.start == 0);
    let groups: Vec<Call> = calls_of_nonce_0.by_ref().take(3).collect();
    let version = |index: u32| spec.version | index << 20;
    assert_eq!(groups[0].versions, [0, 1, 2, 3].map(version));
    assert_eq!(groups[1].versions, [4, 5, 6, 7].map(version));
    assert_eq!(groups[1].merkle_root, groups[0].merkle_root);
    // Then, and only then, another extra nonce.
    assert_eq!(groups[2].versions, groups[0].versions);
    assert_ne!(groups[2].merkle_root, groups[0].merkle_root);
    drop(calls);
    running.pool.stop().unwrap();
}

#[test]
fn workers_never_share_an_extra_nonce() {
    let (sender, calls) = mpsc::sync_channel(0);
    let running = start(3, Watcher(sender));
    let mut roots = HashSet::new();
    // The same work three times: every worker takes a new extra nonce each time.
    for round in 1..=3 {
        running
            .board
            .publish(work(&WorkSpec::default(), Instant::now()));
        while roots.len() < 3 * round {
            let call = calls.recv_timeout(PATIENCE).unwrap();
            if call.start == 0 {
                assert!(roots.insert(call.merkle_root), "{call:?} came twice");
            }
        }
    }
    drop(calls);
    running.pool.stop().unwrap();
}

/// The extra nonces of a node begin anew with its restart: two miners may then have
/// the very same work, one of them from before.
#[test]
fn processes_begin_at_extra_nonces_of_their_own() {
    let spec = WorkSpec::default();
    let begun_at = |first_extra_nonce: u32| {
        let (sender, calls) = mpsc::sync_channel(0);
        let running = start_pool(PoolConfig {
            first_extra_nonce,
            ..PoolConfig::new(1, Box::leak(Box::new(Watcher(sender))))
        });
        let work = work(&spec, Instant::now()).unwrap();
        let expected = work.header_with(first_extra_nonce.to_le_bytes(), spec.time);
        running.board.publish(Some(work));
        let call = calls.recv_timeout(PATIENCE).unwrap();
        drop(calls);
        running.pool.stop().unwrap();
        assert_eq!(call.merkle_root, expected.merkle_root);
        call.merkle_root
    };
    assert_ne!(begun_at(7), begun_at(0x8000_0001));
}

#[test]
fn takes_new_work_after_the_batch_under_way() {
    let (sender, calls) = mpsc::sync_channel(0);
    let running = start(1, Watcher(sender));
    for time in [1_700_000_001, 1_700_000_002, 1_700_000_003] {
        let spec = WorkSpec {
            time,
            ..WorkSpec::default()
        };
        running.board.publish(work(&spec, Instant::now()));
        // The call waiting to be told about may still be of the work before.
        let late = (0..2).find(|_| calls.recv_timeout(PATIENCE).unwrap().time >= time);
        assert!(late.is_some(), "the work before went on");
    }
    // No work: the worker waits, it does not go on. One call may be waiting to be
    // told about. A busy machine can hide a second one, never make one up.
    running.board.publish(None);
    let left = [(); 2].map(|()| calls.recv_timeout(Duration::from_millis(100)).is_ok());
    assert_ne!(left, [true; 2], "the worker goes on without work");
    drop(calls);
    running.pool.stop().unwrap();
}

#[test]
fn it_is_known_when_every_worker_is_on_new_work() {
    let (sender, calls) = mpsc::sync_channel(0);
    let running = start(2, Watcher(sender));
    let work = work(&WorkSpec::default(), Instant::now()).unwrap();
    assert_eq!((work.first_hash_us(), work.last_worker_us(2)), (None, None));
    running.board.publish(Some(Arc::clone(&work)));
    // Until the call of each of them has been told of.
    let mut roots = HashSet::new();
    while roots.len() < 2 {
        roots.insert(calls.recv_timeout(PATIENCE).unwrap().merkle_root);
    }
    let (first, last) = (work.first_hash_us(), work.last_worker_us(2));
    assert!(first.is_some() && last >= first, "{first:?}, {last:?}");
    assert_eq!(work.last_worker_us(3), None);
    drop(calls);
    running.pool.stop().unwrap();
}

#[test]
fn the_headers_time_follows_the_clock() {
    let (sender, calls) = mpsc::sync_channel(0);
    let began = Instant::now();
    let elapsed_ms = Arc::new(std::sync::atomic::AtomicU64::new(900));
    let clock = Arc::clone(&elapsed_ms);
    let running = start_pool(PoolConfig {
        clock: Clock::new(move || {
            let ms = clock.load(std::sync::atomic::Ordering::SeqCst);
            began + Duration::from_millis(ms)
        }),
        ..PoolConfig::new(1, Box::leak(Box::new(Watcher(sender))))
    });
    let spec = WorkSpec::default();
    running.board.publish(work(&spec, began));
    let mut before = calls.recv_timeout(PATIENCE).unwrap();
    assert_eq!(before.time, spec.time);
    elapsed_ms.store(1_000, std::sync::atomic::Ordering::SeqCst);
    let later = loop {
        let call = calls.recv_timeout(PATIENCE).unwrap();
        if call.time > spec.time {
            break call;
        }
        before = call;
    };
    assert_eq!(later.time, spec.time + 1);
    // The same job goes on under the new time, unless it had just ended.
    if later.start > 0 {
        assert_eq!(later.merkle_root, before.merkle_root);
        assert_eq!(later.start, before.start + before.count);
    }
    drop(calls);
    running.pool.stop().unwrap();
}

#[test]
fn hands_in_only_what_consensus_confirms() {
    let mut running = start(2, Liar);
    running
        .board
        .publish(work(&WorkSpec::default(), Instant::now()));
    for _ in 0..5 {
        let solution = running.queues.shares.blocking_recv().unwrap();
        let mut header = solution
            .work
            .header_with(solution.extra_nonce, solution.time);
        header.nonce = solution.nonce;
        header.version = solution.version;
        assert_eq!(header.hash(), solution.hash);
        assert!(solution.work.share_target.is_met_by(&solution.hash));
        assert!(!solution.is_block());
    }
    running.pool.stop().unwrap();
}

#[test]
fn a_full_queue_of_shares_stops_nobody() {
    let spec = WorkSpec {
        share_hashes: 1,
        ..WorkSpec::default()
    };
    let running = start(1, Portable);
    running.board.publish(work(&spec, Instant::now()));
    let deadline = Instant::now() + PATIENCE;
    // Nobody empties it.
    while running.stats.summary().lost < 2_000 {
        assert!(Instant::now() < deadline, "the workers wait for the queue");
        std::thread::yield_now();
    }
    assert_eq!(running.queues.shares.len(), 256);
    running.pool.stop().unwrap();
}

#[test]
fn no_block_is_dropped_however_many_wait() {
    let spec = WorkSpec {
        // Practically every hash is a block.
        bits: Target::MAX.to_compact().0,
        version_mask: 0,
        ..WorkSpec::default()
    };
    let mut running = start(1, Portable);
    running.board.publish(work(&spec, Instant::now()));
    // More than the queue holds: the worker has to wait, and loses none.
    let mut next = 0;
    for _ in 0..20_000 {
        let block = running.queues.blocks.blocking_recv().unwrap();
        let mut header = block.header();
        // Those between are none.
        while next < block.nonce {
            header.nonce = next;
            assert!(!block.work.block_target.is_met_by(&header.hash()), "{next}");
            next += 1;
        }
        assert_eq!(block.nonce, next);
        next += 1;
    }
    // What a stopped worker still finds is there until its end of the queue closes.
    running.board.stop();
    while let Some(block) = running.queues.blocks.blocking_recv() {
        assert!(block.nonce >= next);
        next = block.nonce + 1;
    }
    running.pool.stop().unwrap();
    assert_eq!(running.stats.summary().lost, 0);
}

fn failure_of(running: &Running) -> WorkerError {
    let mut failure = running.pool.failure();
    let failed = async { failure.wait_for(Option::is_some).await.unwrap().clone() };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(failed).unwrap()
}

#[test]
fn a_panic_of_one_worker_ends_all_and_is_told_at_once() {
    let running = start(3, Bomb(std::sync::atomic::AtomicUsize::new(0)));
    running
        .board
        .publish(work(&WorkSpec::default(), Instant::now()));
    assert_eq!(failure_of(&running), WorkerError::Panicked);
    assert_eq!(running.pool.stop(), Err(WorkerError::Panicked));
}

#[test]
fn a_kernel_that_finds_only_nonsense_is_given_up() {
    let mut running = start(2, Fool);
    running
        .board
        .publish(work(&WorkSpec::default(), Instant::now()));
    let failure = failure_of(&running);
    let expected = WorkerError::WrongKernel {
        kernel: "fool",
        false_hits: 1_000,
    };
    assert_eq!(failure, expected);
    assert_eq!(running.pool.stop(), Err(expected));
    assert!(running.queues.shares.blocking_recv().is_none());
}
