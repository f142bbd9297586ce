//! Nonces a second on one core: each kernel, and for comparison the header hash
//! of `pithead_consensus`, which the reference kernel calls for every nonce.
//! The ratio of the two throughputs is what the midstate and the fixed second
//! block are worth.

use divan::Bencher;
use divan::counter::ItemsCount;
use pithead_consensus::Target;
use pithead_miner::kernel::{self, Job};

fn main() {
    divan::main();
}

const NONCES: u32 = 100_000;

#[divan::bench(args = kernel::all().map(|kernel| kernel.name()))]
fn scan(bencher: Bencher<'_, '_>, name: &str) {
    let kernel = kernel::all()
        .into_iter()
        .find(|kernel| kernel.name() == name)
        .expect("the names come from the same list");
    // No hash meets it: the price of hits is not what is measured.
    let mut one = [0; 32];
    one[0] = 1;
    let target = Target::from_le_bytes(one).expect("one is not zero");
    let job = Job::new(kernel::bitcoin_genesis(), target);
    let mut hits = Vec::new();
    bencher
        .counter(ItemsCount::new(NONCES))
        .bench_local(|| kernel.scan(divan::black_box(&job), 0, NONCES, &mut hits));
    assert!(hits.is_empty());
}
