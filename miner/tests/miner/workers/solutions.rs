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

#[test]
fn no_block_is_dropped_however_many_wait() {
    let spec = WorkSpec {
        // Almost every hash is a block.
        bits: Target::MAX.to_compact().0,
        version_mask: 0,
        ..WorkSpec::default()
    };
    let mut running = start(1, PortableKernel);
    running.board.publish(work(&spec, Instant::now()));
    // These are more than the queue holds, so the worker has to wait. It loses none.
    let mut next = 0;
    for _ in 0..20_000 {
        let block = running.queues.blocks.blocking_recv().unwrap();
        let mut header = block.header();
        // The nonces in between make no block.
        while next < block.nonce {
            header.nonce = next;
            assert!(!block.work.block_target.is_met_by(&header.hash()), "{next}");
            next += 1;
        }
        assert_eq!(block.nonce, next);
        next += 1;
    }
    // A stopped worker still hands in what it has found, and then closes the queue.
    running.board.stop();
    while let Some(block) = running.queues.blocks.blocking_recv() {
        assert!(block.nonce >= next);
        next = block.nonce + 1;
    }
    running.pool.stop().unwrap();
    assert_eq!(running.stats.summary().lost, 0);
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
