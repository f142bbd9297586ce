//! Measures the speed of kernels on the calling thread.

use std::time::{Duration, Instant};

use super::samples::{bitcoin_genesis, unreachable_target};
use super::{Job, Kernel};

/// How many turns each kernel gets. Its best turn counts, because disturbances can only
/// make a measurement slower.
const TURNS: u32 = 4;
/// A turn begins with a warm-up of its length divided by this. Meanwhile the processor's
/// units wake up and the kernel's data comes into the cache.
const WARM_UP: u32 = 4;
/// The number of nonces between two looks at the clock is a multiple of this, which is
/// itself a multiple of every kernel's width.
const STRIDE_MIN: u32 = 192;
/// About how many times the clock is read in a turn.
const LOOKS: u32 = 8;

/// The speed of a kernel on one thread.
#[derive(Debug, Clone, Copy)]
pub struct MeasuredKernel {
    /// The kernel that was measured.
    pub kernel: &'static dyn Kernel,
    /// Hashes a second.
    pub hash_rate: f64,
}

/// Measures kernels on this thread, in turns, for `length` all together. The fastest
/// comes first.
#[must_use]
pub fn calibrate(kernels: &[&'static dyn Kernel], length: Duration) -> Vec<MeasuredKernel> {
    let turns = u32::try_from(kernels.len()).unwrap_or(u32::MAX).max(1) * TURNS;
    let turn = length / turns;
    let header = bitcoin_genesis();
    let mut measured: Vec<_> = kernels
        .iter()
        .map(|kernel| {
            let versions: Vec<u32> = (0u32..).take(kernel.versions()).collect();
            let job = Job::with_versions(header, unreachable_target(), &versions);
            let one = MeasuredKernel {
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
            // The rate so far decides how many nonces come between two looks.
            let between = rate * (turn - warm_up).as_secs_f64() / f64::from(LOOKS);
            let strides = (between / f64::from(STRIDE_MIN)).clamp(1.0, 4_096.0);
            *stride = STRIDE_MIN * strides as u32;
            let rate = nonce_rate(one.kernel, job, *stride, turn - warm_up);
            let versions = one.kernel.versions() as f64;
            one.hash_rate = one.hash_rate.max(rate * versions);
        }
    }
    let mut measured: Vec<MeasuredKernel> = measured.into_iter().map(|(one, ..)| one).collect();
    measured.sort_by(|a, b| b.hash_rate.total_cmp(&a.hash_rate));
    measured
}

/// Nonces a second. The kernel tries whole strides until `length` is over.
fn nonce_rate(kernel: &dyn Kernel, job: &Job, stride: u32, length: Duration) -> f64 {
    let timer = ThreadTimer::start();
    let (mut nonces, mut hits) = (0u64, Vec::new());
    loop {
        // The nonces wrap around in a long measurement, which does not change the speed.
        kernel.scan(job, nonces as u32, stride, &mut hits);
        nonces += u64::from(stride);
        let elapsed = timer.elapsed();
        if elapsed >= length {
            return nonces as f64 / elapsed.as_secs_f64().max(1e-9);
        }
    }
}

/// Measures the processor time of this thread, or the elapsed time if the system does
/// not show the former. Other programs on the processor must not decide which kernel is
/// the fastest.
struct ThreadTimer {
    wall: Instant,
    thread_time: Option<Duration>,
}

impl ThreadTimer {
    fn start() -> Self {
        Self {
            wall: Instant::now(),
            thread_time: Self::thread_time(),
        }
    }

    fn elapsed(&self) -> Duration {
        match self.thread_time.zip(Self::thread_time()) {
            Some((before, now)) => now.saturating_sub(before),
            None => self.wall.elapsed(),
        }
    }

    fn thread_time() -> Option<Duration> {
        #[cfg(unix)]
        {
            let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
            Duration::try_from(time).ok()
        }
        #[cfg(not(unix))]
        None
    }
}
