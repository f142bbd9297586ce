//! Kernels that watch how workers call them, and kernels that do wrong.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use pithead_consensus::hash::Hash256;
use pithead_miner::kernel::{Hit, Job, Kernel, PortableKernel};

/// One call of a kernel's `scan`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ScanCall {
    pub(super) merkle_root: Hash256,
    pub(super) time: u32,
    pub(super) start: u32,
    pub(super) count: u32,
    pub(super) versions: Vec<u32>,
}

/// Reports every call, and hashes nothing.
pub(super) struct WatchingKernel(pub(super) mpsc::SyncSender<ScanCall>);

/// Reports every call, for jobs with four versions.
pub(super) struct FourVersionsKernel(pub(super) WatchingKernel);

impl Kernel for FourVersionsKernel {
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

impl Kernel for WatchingKernel {
    fn name(&self) -> &'static str {
        "watcher"
    }

    fn scan(&self, job: &Job, start: u32, count: u32, _: &mut Vec<Hit>) {
        let versions: Vec<u32> = job.versions().collect();
        let header = job.header(Hit {
            nonce: start,
            version: versions[0],
        });
        // The send fails when the test is over.
        let _ = self.0.send(ScanCall {
            merkle_root: header.merkle_root,
            time: header.time,
            start,
            count,
            versions,
        });
    }
}

/// Reports false hits only, ten in every call.
pub(super) struct NonsenseKernel;

impl Kernel for NonsenseKernel {
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

/// Panics in its sixth call.
#[derive(Default)]
pub(super) struct PanickingKernel(AtomicUsize);

impl Kernel for PanickingKernel {
    fn name(&self) -> &'static str {
        "bomb"
    }

    fn scan(&self, _: &Job, _: u32, _: u32, _: &mut Vec<Hit>) {
        let call = self.0.fetch_add(1, Ordering::Relaxed);
        assert!(call != 5, "this kernel panics for a test");
    }
}

/// Reports the first nonce of every range as a hit, in addition to the true hits.
pub(super) struct LyingKernel;

impl Kernel for LyingKernel {
    fn name(&self) -> &'static str {
        "liar"
    }

    fn scan(&self, job: &Job, start: u32, count: u32, hits: &mut Vec<Hit>) {
        let version = job.versions().next().unwrap();
        hits.push(Hit {
            nonce: start,
            version,
        });
        PortableKernel.scan(job, start, count, hits);
    }
}
