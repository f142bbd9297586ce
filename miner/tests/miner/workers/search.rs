//! Which headers the workers try, in which order, and when they change to new work.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use pithead_miner::clock::WorkerClock;
use pithead_miner::workers::PoolConfig;

use super::kernels::{FourVersionsKernel, ScanCall, WatchingKernel};
use super::{pool_config, start, start_pool, work};
use crate::PATIENCE;
use crate::fake_node::WorkSpec;

#[test]
fn tries_every_nonce_once_and_then_rolls_the_extra_nonce() {
    let (sender, calls) = mpsc::sync_channel(0);
    let running = start(1, WatchingKernel(sender));
    // There are no versions to roll, which would come first.
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
    let running = start(1, FourVersionsKernel(WatchingKernel(sender)));
    let spec = WorkSpec {
        // Three bits make eight versions.
        version_mask: 0b111 << 20,
        ..WorkSpec::default()
    };
    running.board.publish(work(&spec, Instant::now()));
    let mut calls_of_nonce_0 = calls.iter().filter(|call| call.start == 0);
    let groups: Vec<ScanCall> = calls_of_nonce_0.by_ref().take(3).collect();
    let version = |index: u32| spec.version | index << 20;
    assert_eq!(groups[0].versions, [0, 1, 2, 3].map(version));
    assert_eq!(groups[1].versions, [4, 5, 6, 7].map(version));
    assert_eq!(groups[1].merkle_root, groups[0].merkle_root);
    // The extra nonce changes after the last version, not before.
    assert_eq!(groups[2].versions, groups[0].versions);
    assert_ne!(groups[2].merkle_root, groups[0].merkle_root);
    drop(calls);
    running.pool.stop().unwrap();
}

#[test]
fn workers_never_share_an_extra_nonce() {
    let (sender, calls) = mpsc::sync_channel(0);
    let running = start(3, WatchingKernel(sender));
    let mut roots = HashSet::new();
    // The same work comes three times. Every worker takes a new extra nonce each time.
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

/// A restarted node numbers its prefixes from the start again. Two miners may then have
/// the same work: one of them got it before the restart.
#[test]
fn processes_begin_at_extra_nonces_of_their_own() {
    let spec = WorkSpec::default();
    let begun_at = |first_extra_nonce: u32| {
        let (sender, calls) = mpsc::sync_channel(0);
        let running = start_pool(PoolConfig {
            first_extra_nonce,
            ..pool_config(1, WatchingKernel(sender))
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
    let running = start(1, WatchingKernel(sender));
    for time in [1_700_000_001, 1_700_000_002, 1_700_000_003] {
        let spec = WorkSpec {
            time,
            ..WorkSpec::default()
        };
        running.board.publish(work(&spec, Instant::now()));
        // One call of the previous work may still wait in the channel.
        let late = (0..2).find(|_| calls.recv_timeout(PATIENCE).unwrap().time >= time);
        assert!(late.is_some(), "the work before went on");
    }
    // Without work the worker waits. One call may still wait in the channel; a second one
    // would show that the worker goes on. A busy machine can hide a second call, but never
    // cause one.
    running.board.publish(None);
    let left = [(); 2].map(|()| calls.recv_timeout(Duration::from_millis(100)).is_ok());
    assert_ne!(left, [true; 2], "the worker goes on without work");
    drop(calls);
    running.pool.stop().unwrap();
}

#[test]
fn work_records_when_every_worker_has_taken_it_up() {
    let (sender, calls) = mpsc::sync_channel(0);
    let running = start(2, WatchingKernel(sender));
    let work = work(&WorkSpec::default(), Instant::now()).unwrap();
    assert_eq!((work.first_hash_us(), work.last_worker_us(2)), (None, None));
    running.board.publish(Some(Arc::clone(&work)));
    // Each worker has another root, so two roots mean a call of each worker.
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
    let elapsed_ms = Arc::new(AtomicU64::new(900));
    let clock = Arc::clone(&elapsed_ms);
    let running = start_pool(PoolConfig {
        clock: WorkerClock::new(move || {
            let ms = clock.load(Ordering::SeqCst);
            began + Duration::from_millis(ms)
        }),
        ..pool_config(1, WatchingKernel(sender))
    });
    let spec = WorkSpec::default();
    running.board.publish(work(&spec, began));
    let mut before = calls.recv_timeout(PATIENCE).unwrap();
    assert_eq!(before.time, spec.time);
    elapsed_ms.store(1_000, Ordering::SeqCst);
    let later = loop {
        let call = calls.recv_timeout(PATIENCE).unwrap();
        if call.time > spec.time {
            break call;
        }
        before = call;
    };
    assert_eq!(later.time, spec.time + 1);
    // The same job goes on with the new time, unless it had just ended.
    if later.start > 0 {
        assert_eq!(later.merkle_root, before.merkle_root);
        assert_eq!(later.start, before.start + before.count);
    }
    drop(calls);
    running.pool.stop().unwrap();
}
