//! The SHA instructions of x86: two rounds in one instruction.
//!
//! A round needs what the one before it gives, and takes several cycles: two to
//! four nonces go through together, so that the unit never waits. The message
//! schedule of the first hash is computed once for all versions of a job.
//!
//! The instructions keep the state as two vectors, ABEF and CDGH, the first
//! letter in the highest word (Intel SDM, SHA256RNDS2).

use std::arch::x86_64::{
    __m128i, _mm_add_epi32, _mm_alignr_epi8, _mm_cvtsi128_si32, _mm_loadl_epi64, _mm_set_epi32,
    _mm_setzero_si128, _mm_sha256msg1_epu32, _mm_sha256msg2_epu32, _mm_sha256rnds2_epu32,
    _mm_shuffle_epi32, _mm_storeu_si128, _mm_unpackhi_epi64, _mm_unpacklo_epi64,
};

use super::job::{Job, Midstate, Schedule};
use super::sha256::{IV, K, sigma0};
use super::{Hit, Kernel};

/// Groups of four words of a message schedule.
const GROUPS: usize = 16;
const PADDING: u32 = 0x8000_0000;
const DIGEST_BITS: u32 = 256;

/// Four round constants plus words, rounds in ascending order.
#[derive(Clone, Copy)]
#[repr(align(16))]
struct Four([u32; 4]);

/// Constants plus words of a whole compression.
type Sums = [Four; GROUPS];

macro_rules! kernel {
    ($type:ident, $scan:ident, $name:literal, $lanes:literal, $features:literal, [$($feature:tt),*], $doc:literal) => {
        #[doc = $doc]
        #[derive(Debug, Clone, Copy)]
        pub(super) struct $type(());

        impl $type {
            /// The kernel, if the processor can run it.
            pub(super) fn detect() -> Option<Self> {
                let runs = true $(&& is_x86_feature_detected!($feature))*;
                runs.then_some(Self(()))
            }
        }

        impl Kernel for $type {
            fn name(&self) -> &'static str {
                $name
            }

            fn versions(&self) -> usize {
                16
            }

            fn scan(&self, job: &Job, start: u32, count: u32, hits: &mut Vec<Hit>) {
                // SAFETY: only `detect` makes a value of this type.
                unsafe { $scan(job, start, count, hits) }
            }
        }

        #[target_feature(enable = $features)]
        fn $scan(job: &Job, start: u32, count: u32, hits: &mut Vec<Hit>) {
            // SAFETY: this function is compiled for, and only called on, a
            // processor with these features.
            unsafe { scan::<$lanes>(job, start, count, hits) }
        }
    };
}

kernel!(
    ShaNi1,
    scan_1,
    "sha-ni-1",
    1,
    "sha,sse4.1,ssse3",
    ["sha", "sse4.1", "ssse3"],
    "One nonce at a time."
);
kernel!(
    ShaNi2,
    scan_2,
    "sha-ni-2",
    2,
    "sha,sse4.1,ssse3",
    ["sha", "sse4.1", "ssse3"],
    "Two nonces at a time."
);
kernel!(
    ShaNi3,
    scan_3,
    "sha-ni-3",
    3,
    "sha,sse4.1,ssse3",
    ["sha", "sse4.1", "ssse3"],
    "Three nonces at a time."
);
kernel!(
    ShaNi4,
    scan_4,
    "sha-ni-4",
    4,
    "sha,sse4.1,ssse3",
    ["sha", "sse4.1", "ssse3"],
    "Four nonces at a time."
);
kernel!(
    ShaNi4Vl,
    scan_4_vl,
    "sha-ni-4-vl",
    4,
    "sha,avx512f,avx512vl",
    ["sha", "avx512f", "avx512vl"],
    "Four nonces at a time in the 32 registers of AVX-512."
);

/// Scans as [`Kernel::scan`] does, `N` nonces together.
///
/// # Safety
/// The processor must have the SHA instructions and SSE 4.1.
#[inline(always)]
unsafe fn scan<const N: usize>(job: &Job, start: u32, count: u32, hits: &mut Vec<Hit>) {
    let schedule = job.schedule();
    let lanes_max = u32::try_from(N).unwrap_or(u32::MAX);
    let mut sums = [[Four([0; 4]); GROUPS]; N];
    let mut done = 0;
    while done < count {
        let first = start.wrapping_add(done);
        let nonces: [u32; N] = std::array::from_fn(|lane| first.wrapping_add(lane as u32));
        let words = nonces.map(u32::swap_bytes);
        // SAFETY: here and below, as required of the caller.
        unsafe { expand(schedule, &words, &mut sums) };
        let lanes = (count - done).min(lanes_max) as usize;
        for midstate in job.midstates() {
            // SAFETY: as required of the caller of `scan`.
            let last = unsafe {
                let digests = first_hash(schedule, midstate, &words, &sums);
                last_word_of_second_hash(digests)
            };
            for (nonce, last) in nonces.iter().zip(last).take(lanes) {
                if last.swap_bytes() <= job.target_top() {
                    job.confirm(midstate.version, *nonce, hits);
                }
            }
        }
        done = done.saturating_add(lanes_max);
    }
}

/// SAFETY of all that follows: called only from `scan`, into which it is
/// inlined, on a processor with the instructions.
#[inline(always)]
unsafe fn set(words: [u32; 4]) -> __m128i {
    let [a, b, c, d] = words.map(u32::cast_signed);
    // SAFETY: as required of the caller of `scan`.
    unsafe { _mm_set_epi32(d, c, b, a) }
}

#[inline(always)]
unsafe fn constants(group: usize) -> __m128i {
    // SAFETY: as required of the caller of `scan`.
    unsafe {
        set([
            K[4 * group],
            K[4 * group + 1],
            K[4 * group + 2],
            K[4 * group + 3],
        ])
    }
}

/// The four words that come seven before a group: the last three of one group
/// and the first of the next.
#[inline(always)]
unsafe fn seven_before(next: __m128i, group: __m128i) -> __m128i {
    // SAFETY: as required of the caller of `scan`.
    unsafe { _mm_alignr_epi8::<4>(next, group) }
}

/// Constants plus words of rounds 16 to 63 of a header's second block.
#[inline(always)]
unsafe fn expand<const N: usize>(schedule: &Schedule, words: &[u32; N], sums: &mut [Sums; N]) {
    // SAFETY: as required of the caller of `scan`.
    unsafe {
        let rest = |group: usize| {
            let at = 4 * group - 20;
            set([
                schedule.rest[at],
                schedule.rest[at + 1],
                schedule.rest[at + 2],
                schedule.rest[at + 3],
            ])
        };
        // Word 17 comes from the group itself, not from what is precomputed.
        let rest_5 = rest(5);
        let rest_7 = rest(7);
        let mut window = [[_mm_setzero_si128(); 4]; N];
        for (w, word) in window.iter_mut().zip(*words) {
            w[0] = set([
                schedule.w16,
                schedule.w17,
                schedule.w18.wrapping_add(sigma0(word)),
                schedule.w19.wrapping_add(word),
            ]);
        }
        for w in &mut window {
            w[1] = _mm_sha256msg2_epu32(rest_5, w[0]);
        }
        for w in &mut window {
            w[2] = _mm_sha256msg2_epu32(seven_before(w[1], w[0]), w[1]);
        }
        for w in &mut window {
            let sum = _mm_add_epi32(rest_7, seven_before(w[2], w[1]));
            w[3] = _mm_sha256msg2_epu32(sum, w[2]);
        }
        for group in 4..8 {
            for lane in 0..N {
                let sum = _mm_add_epi32(window[lane][group - 4], constants(group));
                store(&mut sums[lane][group], sum);
            }
        }
        for group in 8..GROUPS {
            for lane in 0..N {
                let w = &mut window[lane];
                w[group % 4] = next(w, group);
                store(
                    &mut sums[lane][group],
                    _mm_add_epi32(w[group % 4], constants(group)),
                );
            }
        }
    }
}

/// Words of a group from the four groups before it, which are in the window.
#[inline(always)]
unsafe fn next(w: &[__m128i; 4], group: usize) -> __m128i {
    // SAFETY: as required of the caller of `scan`.
    unsafe {
        let old = _mm_sha256msg1_epu32(w[group % 4], w[(group + 1) % 4]);
        let sum = _mm_add_epi32(old, seven_before(w[(group + 3) % 4], w[(group + 2) % 4]));
        _mm_sha256msg2_epu32(sum, w[(group + 3) % 4])
    }
}

#[inline(always)]
unsafe fn store(to: &mut Four, sum: __m128i) {
    // SAFETY: 16 bytes; this store needs no alignment.
    unsafe { _mm_storeu_si128(to.0.as_mut_ptr().cast(), sum) }
}

/// Two rounds of every lane; the low two words of `sums` are theirs.
#[inline(always)]
unsafe fn two_rounds<const N: usize>(
    from: &[__m128i; N],
    to: &mut [__m128i; N],
    sums: [__m128i; N],
) {
    for lane in 0..N {
        // What was ABEF before the rounds is CDGH after them.
        // SAFETY: as required of the caller of `scan`.
        to[lane] = unsafe { _mm_sha256rnds2_epu32(to[lane], from[lane], sums[lane]) };
    }
}

/// ABEF and CDGH of a state.
#[inline(always)]
unsafe fn packed([a, b, c, d, e, f, g, h]: [u32; 8]) -> (__m128i, __m128i) {
    // SAFETY: as required of the caller of `scan`.
    unsafe { (set([f, e, b, a]), set([h, g, d, c])) }
}

/// The digests of a header of one version, each as two vectors of four words.
#[inline(always)]
unsafe fn first_hash<const N: usize>(
    schedule: &Schedule,
    midstate: &Midstate,
    words: &[u32; N],
    sums: &[Sums; N],
) -> [[__m128i; 2]; N] {
    // SAFETY: as required of the caller of `scan`.
    unsafe {
        let (after_four, cdgh) = packed(midstate.after_four);
        let mut abef: [__m128i; N] = std::array::from_fn(|lane| {
            let word = words[lane];
            _mm_add_epi32(after_four, set([0, word, 0, word]))
        });
        let mut cdgh = [cdgh; N];
        for pair in (4..18).step_by(2) {
            let sum = set([schedule.kw[pair], schedule.kw[pair + 1], 0, 0]);
            if pair % 4 == 0 {
                two_rounds(&abef, &mut cdgh, [sum; N]);
            } else {
                two_rounds(&cdgh, &mut abef, [sum; N]);
            }
        }
        for pair in (18..64).step_by(2) {
            // A load of its own instead of a shuffle: loads are free here.
            let sum: [__m128i; N] = std::array::from_fn(|lane| {
                let four = &sums[lane][pair / 4].0;
                _mm_loadl_epi64(four.as_ptr().add(pair % 4).cast())
            });
            if pair % 4 == 0 {
                two_rounds(&abef, &mut cdgh, sum);
            } else {
                two_rounds(&cdgh, &mut abef, sum);
            }
        }
        let (abef_before, cdgh_before) = packed(midstate.state);
        std::array::from_fn(|lane| {
            let abef = _mm_add_epi32(abef[lane], abef_before);
            let cdgh = _mm_add_epi32(cdgh[lane], cdgh_before);
            let abef = _mm_shuffle_epi32::<0b00_01_10_11>(abef);
            let cdgh = _mm_shuffle_epi32::<0b00_01_10_11>(cdgh);
            [
                _mm_unpacklo_epi64(abef, cdgh),
                _mm_unpackhi_epi64(abef, cdgh),
            ]
        })
    }
}

/// The last words of the digests of digests. It is what `e` is after round 60,
/// and therefore `f` after round 61.
#[inline(always)]
unsafe fn last_word_of_second_hash<const N: usize>(digests: [[__m128i; 2]; N]) -> [u32; N] {
    // SAFETY: as required of the caller of `scan`.
    unsafe {
        let (abef, cdgh) = packed(IV);
        let (mut abef, mut cdgh) = ([abef; N], [cdgh; N]);
        let mut window: [[__m128i; 4]; N] = digests.map(|[low, high]| {
            [
                low,
                high,
                set([PADDING, 0, 0, 0]),
                set([0, 0, 0, DIGEST_BITS]),
            ]
        });
        for group in 0..GROUPS {
            for w in &mut window {
                w[group % 4] = match group {
                    0..4 => w[group],
                    // Words 9 to 12 are zero.
                    4 => _mm_sha256msg2_epu32(_mm_sha256msg1_epu32(w[0], w[1]), w[3]),
                    // Of words 8 to 12 only the first is not.
                    6 => {
                        let sum = _mm_add_epi32(w[2], seven_before(w[1], w[0]));
                        _mm_sha256msg2_epu32(sum, w[1])
                    }
                    _ => next(w, group),
                };
            }
            let sum: [__m128i; N] = std::array::from_fn(|lane| {
                _mm_add_epi32(window[lane][group % 4], constants(group))
            });
            two_rounds(&abef, &mut cdgh, sum);
            if group < GROUPS - 1 {
                let high = sum.map(|sum| _mm_shuffle_epi32::<0b00_00_11_10>(sum));
                two_rounds(&cdgh, &mut abef, high);
            }
        }
        // After rounds 60 and 61: the new ABEF is where CDGH was.
        std::array::from_fn(|lane| {
            _mm_cvtsi128_si32(cdgh[lane])
                .cast_unsigned()
                .wrapping_add(IV[7])
        })
    }
}
