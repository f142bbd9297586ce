//! Kernels: the code that tries nonces.
//!
//! A [`Job`] is one header with everything precomputed that does not depend on
//! the nonce, in one or more versions. A [`Kernel`] scans a range of nonces of a
//! job and reports every one whose hash meets the job's target: all of them, no
//! others. Kernels know nothing of work, threads or nodes, and none is used before
//! [`check`] has compared it with the header hash of `pithead_consensus`. Which is
//! the fastest is [measured](fastest), not guessed.
//!
//! To add a kernel, implement [`Kernel`] in a module of its own and list it in
//! [`all`]; the start-up check, the tests and the benches then cover it.

mod choice;
mod job;
mod portable;
mod reference;
mod sha256;

#[cfg(target_arch = "aarch64")]
mod armv8;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod lanes;
#[cfg(target_arch = "x86_64")]
mod mix;
#[cfg(target_arch = "x86_64")]
mod sha_avx512;
#[cfg(target_arch = "x86_64")]
mod sha_ni;

/// What the assembly that `build/` writes reads.
#[cfg(target_arch = "x86_64")]
mod constants {
    include!(concat!(env!("OUT_DIR"), "/constants.rs"));
}

pub use choice::{
    Choice, Measured, UnknownKernel, all, bitcoin_genesis, by_name, calibrate, check, fastest,
};
pub use job::Job;
pub use portable::Portable;
pub use reference::Reference;

use thiserror::Error;

/// A header that meets the target: the job's, with this version and nonce.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hit {
    /// The nonce.
    pub nonce: u32,
    /// The version.
    pub version: u32,
}

/// Tries nonces.
pub trait Kernel: Send + Sync {
    /// Short name, for logs and `--kernel`.
    fn name(&self) -> &'static str;

    /// With how many versions a job is scanned best: more than one where what
    /// they have in common need then be computed only once. Any number works.
    fn versions(&self) -> usize {
        1
    }

    /// Tries `count` nonces from `start`, wrapping around after `u32::MAX`, with
    /// each of the job's versions, and appends to `hits`, in any order, each
    /// one whose hash meets the job's target.
    fn scan(&self, job: &Job, start: u32, count: u32, hits: &mut Vec<Hit>);
}

impl std::fmt::Debug for dyn Kernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A kernel that found other nonces than consensus does. It must not mine.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "kernel {kernel} is wrong on this machine: from nonce {start}, {count} nonces on, \
     it found {found:?} and consensus finds {expected:?}; choose another with --kernel"
)]
pub struct KernelError {
    /// Name of the kernel.
    pub kernel: &'static str,
    /// First nonce tried.
    pub start: u32,
    /// How many were tried.
    pub count: u32,
    /// What the kernel found.
    pub found: Vec<Hit>,
    /// What it should have found.
    pub expected: Vec<Hit>,
}
