//! Hashes a second on one core, for each kernel of this machine, with the number of
//! versions that the kernel works best with.
//!
//! The reference kernel calls the header hash of `pithead_consensus` for every nonce. The
//! ratio to its throughput shows what a kernel gains.

use divan::Bencher;
use divan::counter::ItemsCount;
use pithead_miner::kernel::{self, Job};

fn main() {
    divan::main();
}

/// A multiple of every kernel's number of versions.
const HASHES: u32 = 160_000;

#[divan::bench(args = kernel::all().iter().map(|kernel| kernel.name()))]
fn scan(bencher: Bencher<'_, '_>, name: &str) {
    let kernel = kernel::by_name(name).expect("the names come from the same list");
    let versions: Vec<u32> = (0..).take(kernel.versions()).collect();
    // No hash meets the target: the cost of hits is not measured.
    let target = kernel::unreachable_target();
    let job = Job::with_versions(kernel::bitcoin_genesis(), target, &versions);
    let nonces = HASHES / u32::try_from(versions.len()).expect("a few versions");
    let mut hits = Vec::new();
    bencher
        .counter(ItemsCount::new(HASHES))
        .bench_local(|| kernel.scan(divan::black_box(&job), 0, nonces, &mut hits));
    assert!(hits.is_empty());
}
