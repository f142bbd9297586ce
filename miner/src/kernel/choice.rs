//! Lists the kernels of this machine, finds one by its name, and chooses the fastest.

use std::sync::OnceLock;
use std::time::Duration;

use thiserror::Error;

use super::calibrate::{MeasuredKernel, calibrate};
use super::check::{KernelError, check};
use super::{Kernel, PortableKernel, ReferenceKernel};

/// How long all kernels of a machine are measured to find the fastest.
const CALIBRATION: Duration = Duration::from_millis(50);

/// Adds a kernel to a list if this processor can run it. The kernel lives as long as the
/// process.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! push_if_it_runs {
    ($all:ident, $type:ty) => {{
        static KERNEL: OnceLock<Option<$type>> = OnceLock::new();
        if let Some(kernel) = KERNEL.get_or_init(<$type>::detect) {
            $all.push(kernel);
        }
    }};
}

/// Every kernel that runs on this machine. The reference kernel is the last.
#[must_use]
pub fn all() -> &'static [&'static dyn Kernel] {
    static ALL: OnceLock<Vec<&'static dyn Kernel>> = OnceLock::new();
    ALL.get_or_init(|| {
        let mut all: Vec<&'static dyn Kernel> = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            use super::{avx2::Avx2, avx512::Avx512, mix::Mix, sha_avx512::ShaAvx512, sha_ni};
            push_if_it_runs!(all, ShaAvx512);
            push_if_it_runs!(all, Mix);
            push_if_it_runs!(all, Avx512);
            push_if_it_runs!(all, sha_ni::ShaNi4Vl);
            push_if_it_runs!(all, sha_ni::ShaNi4);
            push_if_it_runs!(all, sha_ni::ShaNi3);
            push_if_it_runs!(all, sha_ni::ShaNi2);
            push_if_it_runs!(all, sha_ni::ShaNi1);
            push_if_it_runs!(all, Avx2);
        }
        #[cfg(target_arch = "aarch64")]
        {
            use super::armv8;
            push_if_it_runs!(all, armv8::Armv8x4);
            push_if_it_runs!(all, armv8::Armv8x2);
        }
        all.push(&PortableKernel);
        all.push(&ReferenceKernel);
        all
    })
}

/// A name that no kernel of this machine has.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("no kernel {name:?} runs on this machine; there are: {}", .known.join(", "))]
pub struct UnknownKernel {
    /// The name that was asked for.
    pub name: String,
    /// The names of this machine's kernels.
    pub known: Vec<&'static str>,
}

/// Why no kernel could be chosen.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ChooseKernelError {
    /// The kernel disagrees with consensus.
    #[error(transparent)]
    Wrong(#[from] KernelError),
    /// This machine has no kernel of the name.
    #[error(transparent)]
    Unknown(#[from] UnknownKernel),
}

/// The kernel of this name, not checked yet.
///
/// # Errors
/// [`UnknownKernel`] if there is no kernel of the name, or if it can't run here.
pub fn by_name(name: &str) -> Result<&'static dyn Kernel, UnknownKernel> {
    let found = all().iter().copied().find(|kernel| kernel.name() == name);
    found.ok_or_else(|| UnknownKernel {
        name: name.to_owned(),
        known: all().iter().map(|kernel| kernel.name()).collect(),
    })
}

/// The fastest kernel, and what was measured to find it.
#[derive(Debug, Clone)]
pub struct KernelChoice {
    /// The fastest kernel.
    pub kernel: &'static dyn Kernel,
    /// The speed of every right kernel, the fastest first.
    pub measured: Vec<MeasuredKernel>,
    /// The wrong kernels, which are not used.
    pub wrong: Vec<KernelError>,
}

/// Checks every kernel, then measures the right ones on this thread for about 50 ms.
///
/// # Errors
/// The first [`KernelError`] if every kernel is wrong.
pub fn fastest() -> Result<KernelChoice, KernelError> {
    let mut wrong = Vec::new();
    let mut right = Vec::new();
    for kernel in all().iter().copied() {
        match check(kernel) {
            Ok(()) => right.push(kernel),
            Err(error) => wrong.push(error),
        }
    }
    // The reference kernel is for comparison, not for mining.
    right.retain(|kernel| kernel.name() != ReferenceKernel.name());
    let measured = calibrate(&right, CALIBRATION);
    match measured.first() {
        Some(first) => Ok(KernelChoice {
            kernel: first.kernel,
            measured,
            wrong,
        }),
        None => Err(wrong.swap_remove(0)),
    }
}
