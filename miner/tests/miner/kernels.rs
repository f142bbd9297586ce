//! The kernels against consensus, and against real headers of Bitcoin.

use std::path::Path;

use pithead_consensus::block::HEADER_BYTES;
use pithead_consensus::hash::Hash256;
use pithead_consensus::{BlockHash, BlockHeader, CompactTarget, Decode as _, Target};
use pithead_miner::kernel::{self, Hit, Job, Kernel};
use proptest::prelude::*;

use crate::fake_node::target_of;

/// The hits of a kernel, in ascending order.
fn scan(kernel: &dyn Kernel, job: &Job, start: u32, count: u32) -> Vec<Hit> {
    let mut hits = Vec::new();
    kernel.scan(job, start, count, &mut hits);
    hits.sort_unstable();
    hits
}

/// The nonces of a kernel's hits for a job of one version, in the order of the scan.
fn nonces(kernel: &dyn Kernel, job: &Job, start: u32, count: u32) -> Vec<u32> {
    let mut hits = Vec::new();
    kernel.scan(job, start, count, &mut hits);
    let version = job.versions().next().unwrap();
    assert!(hits.iter().all(|hit| hit.version == version));
    let distance = |nonce: &u32| nonce.wrapping_sub(start);
    let mut nonces: Vec<u32> = hits.into_iter().map(|hit| hit.nonce).collect();
    nonces.sort_unstable_by_key(distance);
    nonces
}

/// The hits that consensus finds, in ascending order.
fn expected(job: &Job, start: u32, count: u32) -> Vec<Hit> {
    let mut hits: Vec<Hit> = (0..count)
        .map(|step| start.wrapping_add(step))
        .flat_map(|nonce| job.versions().map(move |version| Hit { nonce, version }))
        .filter(|hit| job.target().is_met_by(&job.header(*hit).hash()))
        .collect();
    hits.sort_unstable();
    hits
}

#[test]
fn every_kernel_passes_its_own_check() {
    for kernel in kernel::all().iter().copied() {
        kernel::check(kernel).unwrap();
    }
}

/// A wrong kernel: it leaves out the last nonce of a range.
struct OffByOneKernel;

impl Kernel for OffByOneKernel {
    fn name(&self) -> &'static str {
        "off-by-one"
    }

    fn scan(&self, job: &Job, start: u32, count: u32, hits: &mut Vec<Hit>) {
        kernel::ReferenceKernel.scan(job, start, count - 1, hits);
    }
}

#[test]
fn the_check_finds_a_kernel_that_skips_one_nonce() {
    let error = kernel::check(&OffByOneKernel).unwrap_err();
    assert_eq!(error.kernel, "off-by-one");
    assert_eq!(error.found.len() + 1, error.expected.len());
}

/// A wrong kernel: it finds nothing with more than three versions.
struct FewVersionsKernel;

impl Kernel for FewVersionsKernel {
    fn name(&self) -> &'static str {
        "few-versions"
    }

    fn scan(&self, job: &Job, start: u32, count: u32, hits: &mut Vec<Hit>) {
        if job.versions().count() <= 3 {
            kernel::ReferenceKernel.scan(job, start, count, hits);
        }
    }
}

#[test]
fn the_check_tries_as_many_versions_as_miners_do() {
    let error = kernel::check(&FewVersionsKernel).unwrap_err();
    assert_eq!(error.kernel, "few-versions");
}

#[test]
fn finds_the_nonce_of_the_bitcoin_genesis_block() {
    let header = kernel::bitcoin_genesis();
    assert_eq!(
        header.hash().to_string(),
        "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f"
    );
    let job = Job::new(header, header.bits.to_target().unwrap());
    for kernel in kernel::all().iter().copied() {
        for (start, count) in [
            (header.nonce - 10_000, 20_000),
            // The nonce is the first of the range, the last, and the only one.
            (header.nonce, 1_000),
            (header.nonce - 999, 1_000),
            (header.nonce, 1),
        ] {
            assert_eq!(nonces(kernel, &job, start, count), [header.nonce]);
        }
        for (start, count) in [
            (header.nonce - 1_000, 1_000),
            (header.nonce + 1, 1_000),
            (header.nonce, 0),
        ] {
            assert_eq!(nonces(kernel, &job, start, count), [0u32; 0]);
        }
    }
}

#[test]
fn ranges_wrap_around() {
    let job = Job::new(kernel::bitcoin_genesis(), Target::MAX);
    for kernel in kernel::all().iter().copied() {
        assert_eq!(
            nonces(kernel, &job, u32::MAX - 1, 4),
            [u32::MAX - 1, u32::MAX, 0, 1]
        );
    }
}

#[test]
fn a_hash_equal_to_the_target_meets_it_and_one_above_does_not() {
    let header = kernel::bitcoin_genesis();
    let hash = header.hash();
    let equal = Target::from_le_bytes(hash.0).unwrap();
    let mut below = hash.0;
    // Byte 0 is the least significant one, which only the full comparison reads.
    assert_ne!(below[0], 0);
    below[0] -= 1;
    let below = Target::from_le_bytes(below).unwrap();
    for kernel in kernel::all().iter().copied() {
        let found = |target| nonces(kernel, &Job::new(header, target), header.nonce, 1);
        assert_eq!(found(equal), [header.nonce]);
        assert_eq!(found(below), [0u32; 0]);
    }
}

#[test]
fn hits_are_appended() {
    let job = Job::new(kernel::bitcoin_genesis(), Target::MAX);
    let before = Hit {
        nonce: 99,
        version: 99,
    };
    for kernel in kernel::all() {
        let mut hits = vec![before];
        kernel.scan(&job, 7, 2, &mut hits);
        assert_eq!(hits.len(), 3);
        assert_eq!(hits[0], before);
    }
}

#[test]
fn finds_the_nonce_of_bitcoin_block_125552() {
    let bytes = hex::decode(
        "0100000081cd02ab7e569e8bcd9317e2fe99f2de44d49ab2b8851ba4a308000000000000\
         e320b6c2fffc8d750423db8b1eb942ae710e951ed797f7affc8892b0f1fc122bc7f5d74d\
         f2b9441a42a14695",
    )
    .unwrap();
    let header = BlockHeader::decode(&bytes).unwrap();
    let job = Job::new(header, header.bits.to_target().unwrap());
    for kernel in kernel::all().iter().copied() {
        let start = header.nonce - 5_000;
        assert_eq!(nonces(kernel, &job, start, 10_000), [header.nonce]);
    }
}

#[test]
fn every_lane_finds_a_hit_and_no_other_does() {
    let header = kernel::bitcoin_genesis();
    let job = Job::new(header, header.bits.to_target().unwrap());
    for kernel in kernel::all().iter().copied() {
        // No kernel takes more than 48 nonces at once. Some hash a second group while
        // the first is still under way, so 96 nonces cover two groups.
        for before in 0..96 {
            let start = header.nonce - before;
            assert_eq!(nonces(kernel, &job, start, 96), [header.nonce]);
            // The range ends just before the nonce, or with it.
            assert_eq!(nonces(kernel, &job, start, before), [0u32; 0]);
            assert_eq!(nonces(kernel, &job, start, before + 1), [header.nonce]);
        }
    }
}

#[test]
fn the_version_that_solves_is_told_from_those_that_do_not() {
    let header = kernel::bitcoin_genesis();
    let target = header.bits.to_target().unwrap();
    let hit = Hit {
        nonce: header.nonce,
        version: header.version,
    };
    for kernel in kernel::all().iter().copied() {
        for count in 1..40u32 {
            for place in [0, count / 2, count - 1] {
                let versions: Vec<u32> = (0..count)
                    .map(|at| if at == place { 1 } else { 0x2000_0000 + at })
                    .collect();
                let job = Job::with_versions(header, target, &versions);
                assert_eq!(scan(kernel, &job, header.nonce - 20, 40), [hit]);
            }
        }
        let none = Job::with_versions(header, Target::MAX, &[]);
        assert_eq!(scan(kernel, &none, 0, 100), []);
    }
}

#[test]
fn the_choice_names_every_kernel_that_is_right_and_the_fastest_first() {
    let choice = kernel::fastest().unwrap();
    assert!(choice.wrong.is_empty());
    // Every kernel is measured except the reference.
    assert_eq!(choice.measured.len() + 1, kernel::all().len());
    assert_eq!(choice.kernel.name(), choice.measured[0].kernel.name());
    let rates: Vec<f64> = choice.measured.iter().map(|one| one.hash_rate).collect();
    assert!(rates.is_sorted_by(|a, b| a >= b) && rates.iter().all(|rate| *rate > 0.0));
}

#[test]
fn an_unknown_name_is_answered_with_the_known_ones() {
    for kernel in kernel::all() {
        assert_eq!(
            kernel::by_name(kernel.name()).unwrap().name(),
            kernel.name()
        );
    }
    let error = kernel::by_name("warp").unwrap_err().to_string();
    assert!(
        error.contains("warp") && error.contains("portable"),
        "{error}"
    );
}

#[test]
fn finds_the_nonces_of_a_hundred_bitcoin_headers() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../shared/vectors/headers/bitcoin-mainnet-000-099.bin");
    let Ok(bytes) = std::fs::read(&path) else {
        println!("skipped: {} is not there", path.display());
        return;
    };
    assert_eq!(bytes.len(), 100 * HEADER_BYTES);
    for bytes in bytes.chunks_exact(HEADER_BYTES) {
        let header = BlockHeader::decode(bytes).unwrap();
        let job = Job::new(header, header.bits.to_target().unwrap());
        for kernel in kernel::all().iter().copied() {
            let start = header.nonce.wrapping_sub(200);
            assert_eq!(nonces(kernel, &job, start, 400), [header.nonce]);
        }
    }
}

prop_compose! {
    fn any_header()(
        version in any::<u32>(),
        prev in any::<[u8; 32]>(),
        merkle_root in any::<[u8; 32]>(),
        time in any::<u32>(),
        bits in any::<u32>(),
        nonce in any::<u32>(),
    ) -> BlockHeader {
        BlockHeader {
            version,
            prev: BlockHash(prev),
            merkle_root: Hash256(merkle_root),
            time,
            bits: CompactTarget(bits),
            nonce,
        }
    }
}

proptest! {
    #[test]
    fn kernels_agree_with_consensus(
        header in any_header(),
        start in any::<u32>(),
        count in prop_oneof![0u32..300, Just(192), Just(48), Just(16), Just(1)],
        hashes in 1u32..64,
        versions in prop::collection::hash_set(any::<u32>(), 0..20),
    ) {
        let versions: Vec<u32> = versions.into_iter().collect();
        let job = Job::with_versions(header, target_of(hashes), &versions);
        let expected = expected(&job, start, count);
        for kernel in kernel::all().iter().copied() {
            prop_assert_eq!(&scan(kernel, &job, start, count), &expected);
        }
    }

    /// The target is the hash of one nonce, so the hits are the nonces with a hash at or
    /// below it. All 256 bits decide.
    #[test]
    fn kernels_compare_all_bits(header in any_header(), start in any::<u32>(), at in 0u32..64) {
        let chosen = BlockHeader { nonce: start.wrapping_add(at), ..header };
        let job = Job::new(header, Target::from_le_bytes(chosen.hash().0).unwrap());
        let expected = expected(&job, start, 64);
        prop_assert!(expected.iter().any(|hit| hit.nonce == chosen.nonce));
        for kernel in kernel::all().iter().copied() {
            prop_assert_eq!(&scan(kernel, &job, start, 64), &expected);
        }
    }

    #[test]
    fn a_new_time_is_the_same_as_a_new_job(header in any_header(), time in any::<u32>(), start in any::<u32>()) {
        let target = target_of(16);
        let mut changed = Job::new(header, target);
        changed.set_time(time);
        let fresh = Job::new(BlockHeader { time, ..header }, target);
        for kernel in kernel::all().iter().copied() {
            prop_assert_eq!(scan(kernel, &changed, start, 128), scan(kernel, &fresh, start, 128));
        }
        let hit = Hit { nonce: start, version: header.version };
        prop_assert_eq!(changed.header(hit), fresh.header(hit));
    }
}
