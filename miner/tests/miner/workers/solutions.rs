//! What the workers hand in, and what they do when a kernel is wrong.

use std::time::Instant;

use pithead_consensus::Target;
use pithead_miner::kernel::PortableKernel;
use pithead_miner::workers::WorkerError;

use super::kernels::{LyingKernel, NonsenseKernel, PanickingKernel};
use super::{RunningPool, start, work};
use crate::PATIENCE;
use crate::fake_node::WorkSpec;

#[test]
fn hands_in_only_what_consensus_confirms() {
    let mut running = start(2, LyingKernel);
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
fn a_full_queue_of_shares_stops_no_worker() {
    let spec = WorkSpec {
        share_hashes: 1,
        ..WorkSpec::default()
    };
    let running = start(1, PortableKernel);
    running.board.publish(work(&spec, Instant::now()));
    let deadline = Instant::now() + PATIENCE;
    // The test never reads the queue.
    while running.stats.summary().lost < 2_000 {
        assert!(Instant::now() < deadline, "the workers wait for the queue");
        std::thread::yield_now();
    }
    assert_eq!(running.queues.shares.len(), 256);
    running.pool.stop().unwrap();
}

/// Work of which almost every hash is a block.
fn easiest(prev: u8) -> WorkSpec {
    WorkSpec {
        bits: Target::MAX.to_compact().0,
        version_mask: 0,
        prev,
        ..WorkSpec::default()
    }
}

#[test]
fn each_tip_takes_one_block_however_many_are_found() {
    let mut running = start(2, PortableKernel);
    for prev in 1..=20 {
        running.board.publish(work(&easiest(prev), Instant::now()));
        let block = running.queues.blocks.blocking_recv().unwrap();
        assert_eq!(block.work.header.prev.0, [prev; 32]);
        assert!(block.is_block());
        // Work with other transactions on the same tip is no reason for a second block.
        running.board.publish(work(&easiest(prev), Instant::now()));
    }
    running.board.stop();
    // Whatever was found besides has been dropped.
    assert!(running.queues.blocks.blocking_recv().is_none());
    running.pool.stop().unwrap();
    let summary = running.stats.summary();
    assert_eq!(summary.lost, 0);
    assert!(summary.spare > 0, "a batch finds dozens");
}

#[test]
fn a_tip_that_was_given_back_takes_another_block() {
    let mut running = start(1, PortableKernel);
    running.board.publish(work(&easiest(1), Instant::now()));
    let first = running.queues.blocks.blocking_recv().unwrap();
    running.board.publish(work(&easiest(1), Instant::now()));
    running.board.give_tip_back(&first.work.header.prev);
    let second = running.queues.blocks.blocking_recv().unwrap();
    assert_eq!(second.work.header.prev, first.work.header.prev);
    assert_ne!(second.hash, first.hash);
    // A new connection opens all tips.
    let first_work = work(&easiest(1), Instant::now()).unwrap();
    running.board.start_over(first_work);
    let third = running.queues.blocks.blocking_recv().unwrap();
    assert_ne!(third.hash, second.hash);
    running.pool.stop().unwrap();
}

/// Waits for the failure of a pool.
fn failure_of(running: &RunningPool) -> WorkerError {
    let mut failure = running.pool.failure();
    let failed = async { failure.wait_for(Option::is_some).await.unwrap().clone() };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(failed).unwrap()
}

#[test]
fn a_panic_of_one_worker_ends_all_and_is_reported_at_once() {
    let running = start(3, PanickingKernel::default());
    running
        .board
        .publish(work(&WorkSpec::default(), Instant::now()));
    assert_eq!(failure_of(&running), WorkerError::Panicked);
    assert_eq!(running.pool.stop(), Err(WorkerError::Panicked));
}

#[test]
fn a_kernel_with_false_hits_only_ends_the_run() {
    let mut running = start(2, NonsenseKernel);
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
