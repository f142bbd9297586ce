//! The kernels for the SHA instructions of x86, which do two rounds in one instruction.
//!
//! A round takes several cycles and needs the result of the round before. Two to four
//! nonces therefore go through together, so that the unit never waits. The message
//! schedule of the first hash is computed once for all versions of a job.
//!
//! The instructions keep the state as two vectors, ABEF and CDGH; see
//! [`abef_cdgh`](super::sha256::abef_cdgh). Start reading at [`scan`].

use std::arch::x86_64::{
    __m128i, _mm_add_epi32, _mm_alignr_epi8, _mm_cvtsi128_si32, _mm_loadl_epi64, _mm_set_epi32,
    _mm_setzero_si128, _mm_sha256msg1_epu32, _mm_sha256msg2_epu32, _mm_sha256rnds2_epu32,
    _mm_shuffle_epi32, _mm_storeu_si128, _mm_unpackhi_epi64, _mm_unpacklo_epi64,
};

use super::Hit;
use super::frame::processor_kernel;
use super::job::{Job, MessageSchedule, Midstate, NonceGroup};
use super::sha256::{DIGEST_BITS, IV, K, PADDING, abef_cdgh, sigma0};

/// The number of groups of four words in a message schedule.
const GROUPS: usize = 16;

/// Constants plus words of four rounds, in ascending order.
#[derive(Clone, Copy)]
#[repr(align(16))]
struct Four([u32; 4]);

/// Constants plus words of a whole compression.
type Sums = [Four; GROUPS];

processor_kernel! {
    /// One nonce at a time.
    ShaNi1, "sha-ni-1", ["sha", "sse4.1", "ssse3"], scan::<1>
}

processor_kernel! {
    /// Two nonces at a time.
    ShaNi2, "sha-ni-2", ["sha", "sse4.1", "ssse3"], scan::<2>
}

processor_kernel! {
    /// Three nonces at a time.
    ShaNi3, "sha-ni-3", ["sha", "sse4.1", "ssse3"], scan::<3>
}

processor_kernel! {
    /// Four nonces at a time.
    ShaNi4, "sha-ni-4", ["sha", "sse4.1", "ssse3"], scan::<4>
}

processor_kernel! {
    /// Four nonces at a time, in the 32 registers of AVX-512.
    ShaNi4Vl, "sha-ni-4-vl", ["sha", "avx512f", "avx512vl"], scan::<4>
}

/// Scans as [`Kernel::scan`](super::Kernel::scan) does, `N` nonces at a time.
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
        // SHA-256 reads the header's little-endian nonce as a big-endian word.
        let words: [u32; N] =
            std::array::from_fn(|lane| first.wrapping_add(lane as u32).swap_bytes());
        // SAFETY: here and below, as required of the caller.
        unsafe { expand(schedule, &words, &mut sums) };
        let left = count - done;
        for midstate in job.midstates() {
            // SAFETY: as required of the caller of `scan`.
            let last = unsafe {
                let digests = first_hash(schedule, midstate, &words, &sums);
                last_word_of_second_hash(digests)
            };
            let group = NonceGroup {
                version: midstate.version,
                first,
                count: left,
            };
            job.confirm_last_words(group, last, hits);
        }
        done = done.saturating_add(lanes_max);
    }
}

// SAFETY of all functions below: only `scan` calls them, on a processor with the
// instructions, and they are inlined into it.

/// Four words as a vector, the first one lowest.
#[inline(always)]
unsafe fn set(words: [u32; 4]) -> __m128i {
    let [a, b, c, d] = words.map(u32::cast_signed);
    // SAFETY: as required of the caller of `scan`.
    unsafe { _mm_set_epi32(d, c, b, a) }
}

/// The round constants of a group.
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

/// The words that the schedule adds from seven places before: the last three words of
/// `group` and the first of the group after it.
#[inline(always)]
unsafe fn seven_before(next: __m128i, group: __m128i) -> __m128i {
    // SAFETY: as required of the caller of `scan`.
    unsafe { _mm_alignr_epi8::<4>(next, group) }
}

/// Computes the constants plus words of rounds 16 to 63 of a header's second block.
#[inline(always)]
unsafe fn expand<const N: usize>(
    schedule: &MessageSchedule,
    words: &[u32; N],
    sums: &mut [Sums; N],
) {
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

/// The words of a group, computed from the four groups before it, which are in the
/// window `w`.
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

/// Two rounds of every lane. The low two words of each of `sums` belong to them.
#[inline(always)]
unsafe fn two_rounds<const N: usize>(
    from: &[__m128i; N],
    to: &mut [__m128i; N],
    sums: [__m128i; N],
) {
    for lane in 0..N {
        // The old ABEF becomes the new CDGH, so the instruction writes only one vector.
        // SAFETY: as required of the caller of `scan`.
        to[lane] = unsafe { _mm_sha256rnds2_epu32(to[lane], from[lane], sums[lane]) };
    }
}

/// A state as the vectors ABEF and CDGH.
#[inline(always)]
unsafe fn packed(state: [u32; 8]) -> (__m128i, __m128i) {
    let [f, e, b, a, h, g, d, c] = abef_cdgh(state);
    // SAFETY: as required of the caller of `scan`.
    unsafe { (set([f, e, b, a]), set([h, g, d, c])) }
}

/// The digests of the header in one version, each as two vectors of four words.
#[inline(always)]
unsafe fn first_hash<const N: usize>(
    schedule: &MessageSchedule,
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
            // Each pair is loaded by itself. A shuffle would take a unit that is busy, and
            // loads are free here.
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

/// The last words of the digests of digests. Each is the value of `e` after round 60,
/// which is `f` after round 61.
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
                    // Of words 8 to 12, all but word 8 are zero.
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
        // Rounds 60 and 61 wrote the new ABEF over the old CDGH.
        std::array::from_fn(|lane| {
            _mm_cvtsi128_si32(cdgh[lane])
                .cast_unsigned()
                .wrapping_add(IV[7])
        })
    }
}
