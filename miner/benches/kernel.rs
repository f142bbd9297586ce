//! Hashes a second on one core: each kernel of this machine, with as many
//! versions as suit it, and for comparison the reference, which calls the header
//! hash of `pithead_consensus` for every nonce. The ratio of two throughputs is
//! what a kernel is worth.

use divan::Bencher;
use divan::counter::ItemsCount;
use pithead_consensus::Target;
use pithead_miner::kernel::{self, Job};

fn main() {
    divan::main();
}

/// Divisible by the number of versions of every kernel.
const HASHES: u32 = 160_000;

#[divan::bench(args = kernel::all().iter().map(|kernel| kernel.name()))]
fn scan(bencher: Bencher<'_, '_>, name: &str) {
    let kernel = kernel::by_name(name).expect("the names come from the same list");
    // No hash meets it: the price of hits is not what is measured.
    let mut one = [0; 32];
    one[0] = 1;
    let target = Target::from_le_bytes(one).expect("one is not zero");
    let versions: Vec<u32> = (0..).take(kernel.versions()).collect();
    let job = Job::with_versions(kernel::bitcoin_genesis(), target, &versions);
    let nonces = HASHES / u32::try_from(versions.len()).expect("a few versions");
    let mut hits = Vec::new();
    bencher
        .counter(ItemsCount::new(HASHES))
        .bench_local(|| kernel.scan(divan::black_box(&job), 0, nonces, &mut hits));
    assert!(hits.is_empty());
}
