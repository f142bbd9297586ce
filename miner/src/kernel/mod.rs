//! Kernels: the code that tries nonces.
//!
//! A [`Job`] is one header in one or more versions, with everything precomputed that does
//! not depend on the nonce. A [`Kernel`] scans a range of nonces of a job and reports
//! exactly those whose hash meets the job's target.
//!
//! *Invariant:* kernels know nothing of work, threads or nodes. *Invariant:* no kernel
//! mines before [`check`] has compared it with the header hash of `pithead_consensus`.
//!
//! Start reading at `reference` and `portable`, the two simple kernels, then at `lanes`,
//! the same hash on vectors. Which kernel is the fastest is [measured](fastest).
//!
//! To add a kernel, implement [`Kernel`] in a new module and list it in [`all`]. The
//! check at the start, the tests and the benchmarks then cover it.

mod calibrate;
mod check;
mod choice;
mod job;
mod portable;
mod reference;
mod samples;
// Some of its functions are for the kernels of x86 only.
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
mod sha256;

#[cfg(target_arch = "aarch64")]
mod armv8;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod frame;
#[cfg(target_arch = "x86_64")]
mod generated;
#[cfg(target_arch = "x86_64")]
mod lanes;
#[cfg(target_arch = "x86_64")]
mod mix;
#[cfg(target_arch = "x86_64")]
mod sha_avx512;
#[cfg(target_arch = "x86_64")]
mod sha_ni;

pub use calibrate::{MeasuredKernel, calibrate};
pub use check::{KernelError, check};
pub use choice::{ChooseKernelError, KernelChoice, UnknownKernel, all, by_name, fastest};
pub use job::Job;
pub use portable::PortableKernel;
pub use reference::ReferenceKernel;
pub use samples::{bitcoin_genesis, unreachable_target};

/// A nonce and a version with which the job's header meets the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hit {
    /// The nonce that was found.
    pub nonce: u32,
    /// The version that it was found with.
    pub version: u32,
}

/// Tries nonces.
pub trait Kernel: Send + Sync {
    /// A short name, for logs and `--kernel`.
    fn name(&self) -> &'static str;

    /// The number of versions per job with which the kernel is fastest.
    ///
    /// It is more than one for kernels that compute the versions' common part only once.
    /// A job may have any other number of versions, too.
    fn versions(&self) -> usize {
        1
    }

    /// Tries `count` nonces from `start`, with each of the job's versions.
    ///
    /// Nonces wrap around after `u32::MAX`. Each hit is appended to `hits`; the order is
    /// not specified.
    fn scan(&self, job: &Job, start: u32, count: u32, hits: &mut Vec<Hit>);
}

impl std::fmt::Debug for dyn Kernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
