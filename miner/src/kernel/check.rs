//! Compares a kernel with consensus before the kernel may mine.

use pithead_consensus::Target;
use thiserror::Error;

use super::samples::bitcoin_genesis;
use super::{Hit, Job, Kernel, ReferenceKernel};

/// A kernel that found other hits than consensus did. It must not mine.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "kernel {kernel} is wrong on this machine: from nonce {start}, {count} nonces on, \
     it found {found:?} and consensus finds {expected:?}; choose another with --kernel"
)]
pub struct KernelError {
    /// The kernel's name.
    pub kernel: &'static str,
    /// The first nonce that was tried.
    pub start: u32,
    /// How many nonces were tried.
    pub count: u32,
    /// The hits that the kernel reported, in ascending order.
    pub found: Vec<Hit>,
    /// The hits that consensus finds, in ascending order.
    pub expected: Vec<Hit>,
}

/// Compares a kernel with consensus on three targets, each with 1, 3 and 16 versions:
///
/// 1. the easiest target, where every nonce is a hit, across the wrap-around of nonces;
/// 2. the real target of a real header, where one nonce in 1,000 is a hit;
/// 3. a target where one nonce in four is a hit.
///
/// # Errors
/// [`KernelError`] shows the first range on which the two differ.
pub fn check(kernel: &dyn Kernel) -> Result<(), KernelError> {
    let header = bitcoin_genesis();
    // Each entry is a target, the nonce in the middle of the range, and how many hashes
    // are tried.
    let mut ranges = vec![(Target::MAX, 1u32, 3u32)];
    if let Ok(target) = header.bits.to_target() {
        ranges.push((target, header.nonce, 1_000));
    }
    // 2^254 − 1: one hash in four is at or below it.
    let mut easy = [0xff; 32];
    easy[31] = 0x3f;
    if let Some(target) = Target::from_le_bytes(easy) {
        ranges.push((target, 0, 1_000));
    }
    for (target, middle, hashes) in ranges {
        // The fastest kernels work best with 16 versions.
        let sixteen: Vec<u32> = (0..16).map(|at| header.version ^ at << 13).collect();
        let three = [2, header.version, 0x2000_0000];
        for versions in [&[header.version][..], &three, &sixteen] {
            let count = (hashes / versions.len() as u32).max(3);
            let start = middle.wrapping_sub(count / 2);
            let job = Job::with_versions(header, target, versions);
            let (mut found, mut expected) = (Vec::new(), Vec::new());
            kernel.scan(&job, start, count, &mut found);
            ReferenceKernel.scan(&job, start, count, &mut expected);
            found.sort_unstable();
            expected.sort_unstable();
            if found != expected {
                return Err(KernelError {
                    kernel: kernel.name(),
                    start,
                    count,
                    found,
                    expected,
                });
            }
        }
    }
    Ok(())
}
