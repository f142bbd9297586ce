//! Certificates of a long chain: memory and a start do not grow with it, and what is far below
//! the last final block is still known.

use std::sync::Arc;

use pithead_consensus::{
    BlockHash, Certificate, Checkpoint, Decode as _, Encode as _, Genesis, Height, Link,
};
use pithead_core::finality::{FinalityState, LINKS_IN_MEMORY_MAX, put_certificate};
use pithead_core::store::{Batch, Store};
use pithead_testkit::votes::{INTERVAL, voting};
use pithead_testkit::watched_store::Watched;

/// Certificates on record: far more than memory holds.
const CERTIFICATES: u64 = 1_000;
/// Bytes of a link with its key.
const LINK_BYTES: usize = 88;
/// Certificates that a start reads for the validators' participation, each with one approval.
const RECENT: usize = 100;
const CERTIFICATE_BYTES: usize = 85 + 288 + 8;

fn genesis() -> Genesis {
    voting().check().unwrap()
}

fn checkpoint(number: u64) -> Checkpoint {
    if number == 0 {
        return Checkpoint::genesis(genesis().params.genesis_hash);
    }
    Checkpoint {
        height: Height(number * INTERVAL),
        hash: BlockHash([u8::try_from(number % 251).unwrap() + 1; 32]),
    }
}

/// A certificate that can be read. Certificates in the store are believed.
fn certificate(source: u64, target: u64) -> Certificate {
    let link = Link {
        source: checkpoint(source),
        target: checkpoint(target),
    };
    let approval = [7; 288].to_vec();
    let raw = [
        vec![1],
        link.encode(),
        1_u32.to_le_bytes().to_vec(),
        approval,
    ]
    .concat();
    Certificate::decode(&raw).unwrap()
}

/// A chain of certificates. Every tenth checkpoint is approved and then left: 11 builds on 9.
fn put_chain(store: &Arc<Watched>, count: u64) {
    let mut batch = Batch::default();
    let mut source = 0;
    for target in 1..=count {
        put_certificate(&mut batch, &certificate(source, target));
        if target % 10 != 0 {
            source = target;
        }
    }
    store.commit(&batch).unwrap();
}

fn open(store: &Arc<Watched>) -> FinalityState {
    let store: Arc<dyn Store> = Arc::clone(store) as Arc<dyn Store>;
    FinalityState::open(&genesis(), &store).unwrap()
}

/// The chain of [`put_chain`], as a node knows it.
fn assert_known(state: &FinalityState, count: u64) {
    let view = state.view();
    assert_eq!(view.status().approved, checkpoint(count));
    assert_eq!(view.last_final(), checkpoint(count - 1));
    for number in 0..count {
        assert!(view.is_approved(&checkpoint(number)), "{number}");
        let last = if number > 0 && number % 10 == 0 {
            number - 1
        } else {
            number
        };
        let found = view.final_at(Height(number * INTERVAL + 1));
        assert_eq!(found, checkpoint(last), "{number}");
    }
    let below = view.approved_below(Height(u64::MAX));
    let expected: Vec<Checkpoint> = (0..=count).rev().map(checkpoint).collect();
    assert_eq!(below.collect::<Vec<_>>(), expected);
    assert!(view.sound().is_ok());
}

#[test]
fn a_start_reads_no_more_than_the_last_links() {
    let store = Watched::new();
    put_chain(&store, CERTIFICATES - 1);
    // The first start works out what is final, and records it.
    assert_known(&open(&store), CERTIFICATES - 1);
    let (reads, bytes) = (store.reads(), store.bytes_read());
    let state = open(&store);
    let (reads, bytes) = (store.reads() - reads, store.bytes_read() - bytes);
    assert!(reads <= 2 * RECENT + 10, "{reads}");
    let max = (LINKS_IN_MEMORY_MAX + RECENT + 4) * LINK_BYTES + RECENT * CERTIFICATE_BYTES;
    assert!(bytes <= max, "{bytes} of {max}");
    assert_known(&state, CERTIFICATES - 1);
}

#[test]
fn certificates_that_come_later_are_known_far_below() {
    let store = Watched::new();
    let mut state = open(&store);
    let mut source = 0;
    for target in 1..CERTIFICATES {
        let certificate = certificate(source, target);
        let mut batch = Batch::default();
        put_certificate(&mut batch, &certificate);
        state.put_final_path(&mut batch, std::iter::once(certificate.link()));
        store.commit(&batch).unwrap();
        // Questions about what is near the tip do not reach the store.
        let before = store.reads();
        state.accept(&certificate, None).unwrap();
        assert!(state.view().is_approved(&checkpoint(target)));
        assert_eq!(store.reads(), before, "{target}");
        if target % 10 != 0 {
            source = target;
        }
    }
    assert_known(&state, CERTIFICATES - 1);
    // Nothing is worked out again at the next start.
    let commits = store.commits.load(std::sync::atomic::Ordering::Relaxed);
    assert_known(&open(&store), CERTIFICATES - 1);
    let after = store.commits.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(after, commits);
}

/// Several certificates of one batch, one of which builds on another of the same batch.
#[test]
fn what_one_batch_makes_final_is_on_record_with_it() {
    let store = Watched::new();
    let state = open(&store);
    let all: Vec<Certificate> = (0..20)
        .map(|number| certificate(number, number + 1))
        .collect();
    let mut batch = Batch::default();
    for each in &all {
        put_certificate(&mut batch, each);
    }
    state.put_final_path(&mut batch, all.iter().map(Certificate::link));
    store.commit(&batch).unwrap();
    let commits = store.commits.load(std::sync::atomic::Ordering::Relaxed);
    let state = open(&store);
    let after = store.commits.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(after, commits);
    let view = state.view();
    assert_eq!(view.last_final(), checkpoint(19));
    for number in 0..=19 {
        let found = view.final_at(Height(number * INTERVAL));
        assert_eq!(found, checkpoint(number));
    }
}
