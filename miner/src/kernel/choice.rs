//! Which kernels there are, whether they are right, and which is the fastest
//! here.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use pithead_consensus::hash::Hash256;
use pithead_consensus::{BlockHash, BlockHeader, CompactTarget, Target};
use thiserror::Error;

use super::{Job, Kernel, KernelError, Portable, Reference};

/// How long the kernels of a machine are compared, all together.
const CALIBRATION: Duration = Duration::from_millis(50);
/// Turns that each kernel gets; its best one counts, since what disturbs a
/// measurement only ever makes it slower.
const TURNS: u32 = 4;
/// What a turn does for nothing at first, of its length: the units that a kernel
/// needs wake, and its data comes into the cache.
const WARM_UP: u32 = 4;
/// Nonces between two looks at the clock are multiples of this one, which is a
/// multiple of what any kernel takes at once.
const STRIDE_MIN: u32 = 192;
/// Looks at the clock in a turn, about: a kernel's speed is the number of
/// whole strides in it.
const LOOKS: u32 = 8;

/// Lists a kernel, which lives as long as the process, if it can run.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! push_if_it_runs {
    ($all:ident, $type:ty) => {{
        static KERNEL: OnceLock<Option<$type>> = OnceLock::new();
        if let Some(kernel) = KERNEL.get_or_init(<$type>::detect) {
            $all.push(kernel);
        }
    }};
}

/// Every kernel that runs on this machine; the reference is the last.
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
        all.push(&Portable);
        all.push(&Reference);
        all
    })
}

/// A name that no kernel of this machine has.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("no kernel {name:?} runs on this machine; there are: {}", .known.join(", "))]
pub struct UnknownKernel {
    /// The name.
    pub name: String,
    /// Those that there are.
    pub known: Vec<&'static str>,
}

/// The kernel of this name.
///
/// # Errors
/// [`UnknownKernel`] if there is none, or if it can't run here.
pub fn by_name(name: &str) -> Result<&'static dyn Kernel, UnknownKernel> {
    let found = all().iter().copied().find(|kernel| kernel.name() == name);
    found.ok_or_else(|| UnknownKernel {
        name: name.to_owned(),
        known: all().iter().map(|kernel| kernel.name()).collect(),
    })
}

/// The speed of a kernel on one thread.
#[derive(Debug, Clone, Copy)]
pub struct Measured {
    /// The kernel.
    pub kernel: &'static dyn Kernel,
    /// Hashes a second.
    pub hash_rate: f64,
}

/// What calibration found.
#[derive(Debug, Clone)]
pub struct Choice {
    /// The fastest kernel.
    pub kernel: &'static dyn Kernel,
    /// All that are right, the fastest first.
    pub measured: Vec<Measured>,
    /// Those that are not; they are left alone.
    pub wrong: Vec<KernelError>,
}

/// Checks every kernel, then compares their speeds on this thread, for about
/// 50 ms of its time.
///
/// # Errors
/// The first [`KernelError`] if none is right.
pub fn fastest() -> Result<Choice, KernelError> {
    let mut wrong = Vec::new();
    let mut right = Vec::new();
    for kernel in all().iter().copied() {
        match check(kernel) {
            Ok(()) => right.push(kernel),
            Err(error) => wrong.push(error),
        }
    }
    // The reference shows what the others are worth; it is not for mining.
    right.retain(|kernel| kernel.name() != Reference.name());
    let measured = calibrate(&right, CALIBRATION);
    match measured.first() {
        Some(first) => Ok(Choice {
            kernel: first.kernel,
            measured,
            wrong,
        }),
        None => Err(wrong.swap_remove(0)),
    }
}

/// Measures kernels on this thread, in turns, for `length` all together; the
/// fastest first.
#[must_use]
pub fn calibrate(kernels: &[&'static dyn Kernel], length: Duration) -> Vec<Measured> {
    let turns = u32::try_from(kernels.len()).unwrap_or(u32::MAX).max(1) * TURNS;
    let turn = length / turns;
    let header = bitcoin_genesis();
    let mut measured: Vec<_> = kernels
        .iter()
        .map(|kernel| {
            let versions: Vec<u32> = (0u32..).take(kernel.versions()).collect();
            let job = Job::with_versions(header, unreachable(), &versions);
            let one = Measured {
                kernel: *kernel,
                hash_rate: 0.0,
            };
            (one, job, STRIDE_MIN)
        })
        .collect();
    for _ in 0..TURNS {
        for (one, job, stride) in &mut measured {
            let warm_up = turn / WARM_UP;
            let rate = nonce_rate(one.kernel, job, *stride, warm_up);
            // The rate so far tells how many nonces there are between two looks.
            let between = rate * (turn - warm_up).as_secs_f64() / f64::from(LOOKS);
            let strides = (between / f64::from(STRIDE_MIN)).clamp(1.0, 4_096.0);
            *stride = STRIDE_MIN * strides as u32;
            let rate = nonce_rate(one.kernel, job, *stride, turn - warm_up);
            let versions = one.kernel.versions() as f64;
            one.hash_rate = one.hash_rate.max(rate * versions);
        }
    }
    let mut measured: Vec<Measured> = measured.into_iter().map(|(one, ..)| one).collect();
    measured.sort_by(|a, b| b.hash_rate.total_cmp(&a.hash_rate));
    measured
}

/// Nonces a second, tried in strides for at least this time: so many whole ones
/// that the last ends after it.
fn nonce_rate(kernel: &dyn Kernel, job: &Job, stride: u32, length: Duration) -> f64 {
    let clock = Clock::start();
    let (mut nonces, mut hits) = (0u64, Vec::new());
    loop {
        // Which nonces doesn't matter: a long measurement goes around.
        kernel.scan(job, nonces as u32, stride, &mut hits);
        nonces += u64::from(stride);
        let elapsed = clock.elapsed();
        if elapsed >= length {
            return nonces as f64 / elapsed.as_secs_f64().max(1e-9);
        }
    }
}

/// The time that this thread gets to run, if the system tells: what else wants
/// the processor meanwhile must not decide which kernel is the fastest.
struct Clock {
    wall: Instant,
    of_thread: Option<Duration>,
}

impl Clock {
    fn start() -> Self {
        Self {
            wall: Instant::now(),
            of_thread: Self::of_this_thread(),
        }
    }

    fn elapsed(&self) -> Duration {
        match self.of_thread.zip(Self::of_this_thread()) {
            Some((before, now)) => now.saturating_sub(before),
            None => self.wall.elapsed(),
        }
    }

    fn of_this_thread() -> Option<Duration> {
        #[cfg(unix)]
        {
            let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
            Duration::try_from(time).ok()
        }
        #[cfg(not(unix))]
        None
    }
}

/// A target that no hash meets in the lifetime of a machine.
fn unreachable() -> Target {
    let mut one = [0; 32];
    one[0] = 1;
    // One is no zero; the fallback is never taken.
    Target::from_le_bytes(one).unwrap_or(Target::MAX)
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
/// at easy ones where every nonce, or one in a few, is a hit, across the
/// wrap-around and in more versions than one.
///
/// # Errors
/// [`KernelError`] shows the first range where they differ.
pub fn check(kernel: &dyn Kernel) -> Result<(), KernelError> {
    let header = bitcoin_genesis();
    // A target, the nonce in the middle of what is tried, and how many hashes.
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
        // One alone, a few, and as many as the fastest kernels take at once.
        let sixteen: Vec<u32> = (0..16).map(|at| header.version ^ at << 13).collect();
        let few = [2, header.version, 0x2000_0000];
        for versions in [&[header.version][..], &few, &sixteen] {
            let count = (hashes / versions.len() as u32).max(3);
            let start = middle.wrapping_sub(count / 2);
            let job = Job::with_versions(header, target, versions);
            let (mut found, mut expected) = (Vec::new(), Vec::new());
            kernel.scan(&job, start, count, &mut found);
            Reference.scan(&job, start, count, &mut expected);
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
