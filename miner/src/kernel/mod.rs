//! Kernels: the code that tries nonces.
//!
//! A [`Job`] is one header with everything precomputed that does not depend on
//! the nonce. A [`Kernel`] scans a range of nonces of a job and reports every
//! one whose hash meets the job's target: all of them, no others. Kernels know
//! nothing of work, threads or nodes, and none is used before [`check`] has
//! compared it with the header hash of `pithead_consensus`.
//!
//! To add a kernel, implement [`Kernel`] in a module of its own and list it in
//! [`all`]; the start-up check, the tests and the benches then cover it.

mod job;
mod portable;
mod reference;

pub use job::Job;
pub use portable::Portable;
pub use reference::Reference;

use pithead_consensus::hash::Hash256;
use pithead_consensus::{BlockHash, BlockHeader, CompactTarget, Target};
use thiserror::Error;

/// Tries nonces.
pub trait Kernel: Send + Sync {
    /// Short name, for logs and `--kernel`-like choices.
    fn name(&self) -> &'static str;

    /// Tries `count` nonces from `start`, wrapping around after `u32::MAX`, and
    /// appends to `hits`, in the order tried, each one whose hash meets the
    /// job's target.
    fn scan(&self, job: &Job, start: u32, count: u32, hits: &mut Vec<u32>);
}

/// Every kernel that runs on this machine, the fastest first.
#[must_use]
pub fn all() -> [&'static dyn Kernel; 2] {
    [&Portable, &Reference]
}

/// The fastest kernel of this machine.
#[must_use]
pub fn fastest() -> &'static dyn Kernel {
    &Portable
}

/// A kernel that found other nonces than consensus does. It must not mine.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "kernel {kernel} is wrong on this machine: from nonce {start}, {count} nonces on, \
     it found {found:?} and consensus finds {expected:?}"
)]
pub struct KernelError {
    /// Name of the kernel.
    pub kernel: &'static str,
    /// First nonce tried.
    pub start: u32,
    /// How many were tried.
    pub count: u32,
    /// What the kernel found.
    pub found: Vec<u32>,
    /// What it should have found.
    pub expected: Vec<u32>,
}

/// The header of Bitcoin's first block: a real job whose answer everybody knows.
#[must_use]
pub fn bitcoin_genesis() -> BlockHeader {
    // Shown as 4a5e1e4b…: Bitcoin shows it byte-reversed.
    const MERKLE_ROOT: [u8; 32] = [
        0x3b, 0xa3, 0xed, 0xfd, 0x7a, 0x7b, 0x12, 0xb2, 0x7a, 0xc7, 0x2c, 0x3e, 0x67, 0x76, 0x8f,
        0x61, 0x7f, 0xc8, 0x1b, 0xc3, 0x88, 0x8a, 0x51, 0x32, 0x3a, 0x9f, 0xb8, 0xaa, 0x4b, 0x1e,
        0x5e, 0x4a,
    ];
    BlockHeader {
        version: 1,
        prev: BlockHash::ZERO,
        merkle_root: Hash256(MERKLE_ROOT),
        time: 1_231_006_505,
        bits: CompactTarget(0x1d00_ffff),
        nonce: 2_083_236_893,
    }
}

/// Compares a kernel with consensus: on a real header at its real target, and
/// at an easy one where one nonce in a few is a hit, across the wrap-around.
///
/// # Errors
/// [`KernelError`] shows the first range where they differ.
pub fn check(kernel: &dyn Kernel) -> Result<(), KernelError> {
    let header = bitcoin_genesis();
    let mut ranges = vec![(Target::MAX, 0u32, 3u32)];
    if let Ok(target) = header.bits.to_target() {
        ranges.push((target, header.nonce.wrapping_sub(500), 1_000));
    }
    // 2^254 − 1: one hash in four is at or below it.
    let mut easy = [0xff; 32];
    easy[31] = 0x3f;
    if let Some(target) = Target::from_le_bytes(easy) {
        ranges.push((target, u32::MAX - 499, 1_000));
    }
    for (target, start, count) in ranges {
        let job = Job::new(header, target);
        let (mut found, mut expected) = (Vec::new(), Vec::new());
        kernel.scan(&job, start, count, &mut found);
        Reference.scan(&job, start, count, &mut expected);
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
    Ok(())
}
