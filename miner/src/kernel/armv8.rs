//! The kernels for the SHA-2 instructions of Armv8, which do four rounds in a pair of
//! instructions.
//!
//! Two or four nonces go through together, so that the unit does not wait for its own
//! results. The instructions keep the state as two vectors, ABCD and EFGH, each with its
//! first letter in the lowest word (Arm ARM, SHA256H and SHA256H2). Start reading at
//! [`scan`].

use std::arch::aarch64::{
    uint32x4_t, vaddq_u32, vdupq_n_u32, vgetq_lane_u32, vld1q_u32, vsha256h2q_u32, vsha256hq_u32,
    vsha256su0q_u32, vsha256su1q_u32,
};

use super::Hit;
use super::frame::processor_kernel;
use super::job::{Job, MessageSchedule, Midstate, NonceGroup};
use super::sha256::{DIGEST_BITS, HEADER_BITS, IV, K, PADDING, sigma0};

/// The number of groups of four words in a message schedule.
const GROUPS: usize = 16;

processor_kernel! {
    /// Two nonces at a time.
    Armv8x2, "armv8-2", ["neon", "sha2"], scan::<2>
}

processor_kernel! {
    /// Four nonces at a time.
    Armv8x4, "armv8-4", ["neon", "sha2"], scan::<4>
}

/// Constants plus words of a whole compression.
type Sums = [uint32x4_t; GROUPS];

/// Scans as [`Kernel::scan`](super::Kernel::scan) does, `N` nonces at a time.
///
/// # Safety
/// The processor must have the SHA-2 instructions.
#[inline(always)]
unsafe fn scan<const N: usize>(job: &Job, start: u32, count: u32, hits: &mut Vec<Hit>) {
    let schedule = job.schedule();
    let lanes_max = u32::try_from(N).unwrap_or(u32::MAX);
    // SAFETY: here and below, as required of the caller.
    let mut sums = [[unsafe { vdupq_n_u32(0) }; GROUPS]; N];
    let mut done = 0;
    while done < count {
        let first = start.wrapping_add(done);
        // SHA-256 reads the header's little-endian nonce as a big-endian word.
        let words: [u32; N] =
            std::array::from_fn(|lane| first.wrapping_add(lane as u32).swap_bytes());
        for (sums, word) in sums.iter_mut().zip(words) {
            // SAFETY: as required of the caller of `scan`.
            unsafe { expand(schedule, word, sums) };
        }
        let left = count - done;
        for midstate in job.midstates() {
            // SAFETY: as required of the caller of `scan`.
            let last = unsafe {
                let digests = first_hash(midstate, &words, &sums);
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
unsafe fn set(words: [u32; 4]) -> uint32x4_t {
    // SAFETY: four words are read, and there are four.
    unsafe { vld1q_u32(words.as_ptr()) }
}

/// The round constants of a group.
#[inline(always)]
unsafe fn constants(group: usize) -> uint32x4_t {
    let at = 4 * group;
    // SAFETY: as required of the caller of `scan`.
    unsafe { set([K[at], K[at + 1], K[at + 2], K[at + 3]]) }
}

/// The words of a group, computed from the four groups before it, which are in the
/// window `w`.
#[inline(always)]
unsafe fn next(w: &[uint32x4_t; 4], group: usize) -> uint32x4_t {
    // SAFETY: as required of the caller of `scan`.
    unsafe {
        let old = vsha256su0q_u32(w[group % 4], w[(group + 1) % 4]);
        vsha256su1q_u32(old, w[(group + 2) % 4], w[(group + 3) % 4])
    }
}

/// Computes the constants plus words of rounds 4 to 63 of a header's second block.
#[inline(always)]
unsafe fn expand(schedule: &MessageSchedule, word: u32, sums: &mut Sums) {
    let kw = &schedule.kw;
    // SAFETY: as required of the caller of `scan`.
    unsafe {
        for group in 1..4 {
            let at = 4 * group;
            sums[group] = set([kw[at], kw[at + 1], kw[at + 2], kw[at + 3]]);
        }
        let mut w = [
            set([
                schedule.w16,
                schedule.w17,
                schedule.w18.wrapping_add(sigma0(word)),
                schedule.w19.wrapping_add(word),
            ]),
            set([PADDING, 0, 0, 0]),
            vdupq_n_u32(0),
            set([0, 0, 0, HEADER_BITS]),
        ];
        sums[4] = vaddq_u32(w[0], constants(4));
        for group in 5..GROUPS {
            w[group % 4] = next(&w, group);
            sums[group] = vaddq_u32(w[group % 4], constants(group));
        }
    }
}

/// Four rounds of every lane.
#[inline(always)]
unsafe fn four_rounds<const N: usize>(
    abcd: &mut [uint32x4_t; N],
    efgh: &mut [uint32x4_t; N],
    sums: [uint32x4_t; N],
) {
    for ((abcd, efgh), sum) in abcd.iter_mut().zip(efgh).zip(sums) {
        let before = *abcd;
        // SAFETY: as required of the caller of `scan`.
        unsafe {
            *abcd = vsha256hq_u32(*abcd, *efgh, sum);
            *efgh = vsha256h2q_u32(*efgh, before, sum);
        }
    }
}

/// A state as the vectors ABCD and EFGH.
#[inline(always)]
unsafe fn packed([a, b, c, d, e, f, g, h]: [u32; 8]) -> [uint32x4_t; 2] {
    // SAFETY: as required of the caller of `scan`.
    unsafe { [set([a, b, c, d]), set([e, f, g, h])] }
}

/// The digests of the header in one version, each as two vectors of four words.
#[inline(always)]
unsafe fn first_hash<const N: usize>(
    midstate: &Midstate,
    words: &[u32; N],
    sums: &[Sums; N],
) -> [[uint32x4_t; 2]; N] {
    // SAFETY: as required of the caller of `scan`.
    unsafe {
        let [abcd, efgh] = packed(midstate.after_four);
        let mut abcd: [uint32x4_t; N] =
            std::array::from_fn(|lane| vaddq_u32(abcd, set([words[lane], 0, 0, 0])));
        let mut efgh: [uint32x4_t; N] =
            std::array::from_fn(|lane| vaddq_u32(efgh, set([words[lane], 0, 0, 0])));
        for group in 1..GROUPS {
            let sums = std::array::from_fn(|lane| sums[lane][group]);
            four_rounds(&mut abcd, &mut efgh, sums);
        }
        let [abcd_before, efgh_before] = packed(midstate.state);
        std::array::from_fn(|lane| {
            [
                vaddq_u32(abcd[lane], abcd_before),
                vaddq_u32(efgh[lane], efgh_before),
            ]
        })
    }
}

/// The last words of the digests of digests.
#[inline(always)]
unsafe fn last_word_of_second_hash<const N: usize>(digests: [[uint32x4_t; 2]; N]) -> [u32; N] {
    // SAFETY: as required of the caller of `scan`.
    unsafe {
        let [abcd, efgh] = packed(IV);
        let (mut abcd, mut efgh) = ([abcd; N], [efgh; N]);
        let (one, length) = (set([PADDING, 0, 0, 0]), set([0, 0, 0, DIGEST_BITS]));
        let mut window: [[uint32x4_t; 4]; N] = digests.map(|[low, high]| [low, high, one, length]);
        for group in 0..GROUPS {
            if group >= 4 {
                for w in &mut window {
                    w[group % 4] = next(w, group);
                }
            }
            let sums =
                std::array::from_fn(|lane| vaddq_u32(window[lane][group % 4], constants(group)));
            four_rounds(&mut abcd, &mut efgh, sums);
        }
        efgh.map(|efgh| vgetq_lane_u32::<3>(efgh).wrapping_add(IV[7]))
    }
}
