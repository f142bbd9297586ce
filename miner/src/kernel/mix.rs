//! The kernel `avx512-sha`: whole hashes with AVX-512 and rounds with the SHA
//! instructions at the same time. The two run in different units of the processor, so one
//! core can do both.
//!
//! Of 48 nonces, 32 go through vectors as in `lanes`. The other 16 go through the SHA
//! instructions, which do their rounds only; vectors are faster for their message
//! schedules. The work comes in *steps*, one for each version. A step runs:
//!
//! - both hashes of the 32 nonces, in vectors;
//! - the first hash of the 16 nonces, in this version;
//! - the second hash of the 16 nonces, in the version before.
//!
//! Between two steps, the result of the first hash becomes the schedule of the second.
//! `build/mix.rs` writes the code of half a step.

use std::arch::x86_64::{
    __m512i, _mm512_setzero_si512, _mm512_unpackhi_epi32, _mm512_unpackhi_epi64,
    _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
};
use std::mem::offset_of;

use super::Hit;
use super::avx512::Sixteen;
use super::frame::processor_kernel;
use super::generated::{CONSTANTS, generated_asm};
use super::job::{Job, Midstate, NonceGroup};
use super::lanes::{self, Lanes as _};
use super::sha256::{IV, abef_cdgh};

/// The number of nonces that a step works on.
const WIDTH: u32 = 48;

processor_kernel! {
    /// AVX-512 for whole hashes, and the SHA instructions beside it.
    Mix, "avx512-sha", ["avx512f", "avx512bw", "sha", "sse4.1"], scan
}

/// Constants plus words of a compression of sixteen nonces. Place 0 holds the nonces
/// themselves.
#[repr(C, align(64))]
struct Sums([Sixteen; 64]);

/// The values of the sixteen lanes of the SHA instructions, in four groups of four. 64
/// bytes hold four words of each of lanes 0, 4, 8 and 12; the next 64 bytes those of
/// lanes 1, 5, 9 and 13; and so on.
#[repr(C, align(64))]
struct ShaLanes {
    /// Constants plus words of the first hash, for four rounds at a time.
    kw1: [[Sixteen; 4]; 16],
    /// The same of the second hash.
    kw2: [[Sixteen; 4]; 16],
    /// The nonce's word in the places of E and A, zero in the other two.
    nonces: [Sixteen; 4],
    /// Half of the state after the first hash.
    abef: [Sixteen; 4],
    /// The other half.
    cdgh: [Sixteen; 4],
    /// The state after round 61 of the second hash.
    last: [Sixteen; 4],
}

/// The values that depend on the version.
#[repr(C, align(64))]
struct VersionState {
    after_four: [u32; 8],
    midstate: [u32; 8],
    packed_after_four: [u32; 8],
}

impl VersionState {
    fn new(midstate: &Midstate) -> Self {
        Self {
            after_four: midstate.after_four,
            midstate: midstate.state,
            packed_after_four: abef_cdgh(midstate.after_four),
        }
    }
}

/// `build/mix.rs` relies on these offsets.
const _: () = {
    assert!(offset_of!(ShaLanes, kw1) == 0 && offset_of!(ShaLanes, kw2) == 4_096);
    assert!(offset_of!(ShaLanes, nonces) == 8_192 && offset_of!(ShaLanes, abef) == 8_448);
    assert!(offset_of!(ShaLanes, cdgh) == 8_704 && offset_of!(ShaLanes, last) == 8_960);
    assert!(offset_of!(VersionState, after_four) == 0);
    assert!(offset_of!(VersionState, midstate) == 32);
    assert!(offset_of!(VersionState, packed_after_four) == 64);
};

/// The type of [`half_step`].
type HalfStep = unsafe fn(&VersionState, &Sums, &mut Sums, &mut ShaLanes, usize);

/// Sixteen nonces in one version that still need their second hash.
#[derive(Clone, Copy)]
struct PendingGroup {
    nonces: NonceGroup,
    digest: [Sixteen; 8],
}

/// Scans as [`Kernel::scan`](super::Kernel::scan) does.
///
/// # Safety
/// The processor must have the instructions.
#[target_feature(enable = "avx512f,avx512bw,sha,sse4.1")]
unsafe fn scan(job: &Job, start: u32, count: u32, hits: &mut Vec<Hit>) {
    let zero = Sixteen(_mm512_setzero_si512());
    let versions: Vec<VersionState> = job.midstates().iter().map(VersionState::new).collect();
    let mut vectors = [Sums([zero; 64]), Sums([zero; 64])];
    let mut sums = Sums([zero; 64]);
    let mut words = Sums([zero; 64]);
    let mut state = ShaLanes {
        kw1: [[zero; 4]; 16],
        kw2: [[zero; 4]; 16],
        nonces: [zero; 4],
        abef: [zero; 4],
        cdgh: [zero; 4],
        last: [zero; 4],
    };
    let target_top = job.target_top();
    // `black_box` keeps the compiler from inlining the call twice: two copies of the code
    // would not fit the instruction cache.
    let half_step = std::hint::black_box(half_step as HalfStep);
    let mut pending: Option<PendingGroup> = None;
    let mut done = 0;
    while done < count {
        let (first, left) = (start.wrapping_add(done), count - done);
        let group = |midstate: &Midstate, offset: u32| NonceGroup {
            version: midstate.version,
            first: first.wrapping_add(offset),
            count: left.saturating_sub(offset),
        };
        for (sums, at) in vectors.iter_mut().zip([0, 16]) {
            prepare(job, first.wrapping_add(at), sums);
        }
        prepare(job, first.wrapping_add(32), &mut sums);
        state.kw1 = by_lane(&sums);
        state.nonces = nonces_by_lane(sums.0[0]);
        for (midstate, version) in job.midstates().iter().zip(&versions) {
            for ((half, sums), offset) in vectors.iter().enumerate().zip([0, 16]) {
                // SAFETY: the halves are 0 and 1.
                unsafe { half_step(version, sums, &mut words, &mut state, half) };
                // SAFETY: the processor has the features of this function.
                let found = words.0[0].at_most_reversed(unsafe { Sixteen::splat(target_top) });
                group(midstate, offset).confirm_lanes(job, found, hits);
            }
            if let Some(before) = pending {
                let found = found_by_lane(&state.last, target_top);
                before.nonces.confirm_lanes(job, found, hits);
            }
            let digest = digest(&state, midstate);
            let kw2 = &mut state.kw2;
            // SAFETY: here and below, the processor has the features of this function.
            unsafe {
                lanes::expand_digest(digest, |group, sums| kw2[group] = transposed(sums));
            }
            pending = Some(PendingGroup {
                nonces: group(midstate, 32),
                digest,
            });
        }
        done = done.saturating_add(WIDTH);
    }
    if let Some(last) = pending {
        // SAFETY: the processor has the features of this function.
        let found = unsafe {
            lanes::last_word_of_second_hash(last.digest)
                .at_most_reversed(Sixteen::splat(target_top))
        };
        last.nonces.confirm_lanes(job, found, hits);
    }
}

/// Computes everything about sixteen nonces that is the same for all versions.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn prepare(job: &Job, first: u32, sums: &mut Sums) {
    let schedule = job.schedule();
    // SAFETY: the processor has the features of this function.
    unsafe {
        let nonces = Sixteen::nonces(first);
        lanes::expand(schedule, nonces, &mut sums.0);
        for (sum, kw) in sums.0.iter_mut().zip(schedule.kw).skip(4) {
            *sum = Sixteen::splat(kw);
        }
        sums.0[0] = nonces;
    }
}

/// Turns four vectors, each with one word of sixteen lanes, into four vectors of four
/// lanes with four words each; and back.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn transposed(words: [Sixteen; 4]) -> [Sixteen; 4] {
    let [a, b, c, d] = words.map(|words| words.0);
    let (ab_low, ab_high) = (_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    let (cd_low, cd_high) = (_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    let low = |ab: __m512i, cd: __m512i| Sixteen(_mm512_unpacklo_epi64(ab, cd));
    let high = |ab: __m512i, cd: __m512i| Sixteen(_mm512_unpackhi_epi64(ab, cd));
    [
        low(ab_low, cd_low),
        high(ab_low, cd_low),
        low(ab_high, cd_high),
        high(ab_high, cd_high),
    ]
}

/// Constants plus words of all rounds, in the layout of [`ShaLanes`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn by_lane(sums: &Sums) -> [[Sixteen; 4]; 16] {
    std::array::from_fn(|group| {
        let [a, b, c, d] = [0, 1, 2, 3].map(|word| sums.0[4 * group + word]);
        transposed([a, b, c, d])
    })
}

/// The nonces in the layout of [`ShaLanes`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn nonces_by_lane(nonces: Sixteen) -> [Sixteen; 4] {
    // SAFETY: the processor has the features of this function.
    unsafe {
        let zero = Sixteen::splat(0);
        transposed([zero, nonces, zero, nonces])
    }
}

/// The digests of the sixteen lanes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn digest(state: &ShaLanes, midstate: &Midstate) -> [Sixteen; 8] {
    // SAFETY: the processor has the features of this function.
    unsafe {
        let [f, e, b, a] = transposed(state.abef);
        let [h, g, d, c] = transposed(state.cdgh);
        let mut digest = [a, b, c, d, e, f, g, h];
        for (word, before) in digest.iter_mut().zip(midstate.state) {
            *word = word.add(Sixteen::splat(before));
        }
        digest
    }
}

/// A bit for each lane whose hash may meet the target.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn found_by_lane(last: &[Sixteen; 4], target_top: u32) -> u32 {
    // SAFETY: the processor has the features of this function.
    let (limit, initial) = unsafe { (Sixteen::splat(target_top), Sixteen::splat(IV[7])) };
    // F is the first of each four words. After round 61 it has the value that E had after
    // round 60.
    let mut found = 0;
    for (group, last) in last.iter().enumerate() {
        let bits = last.add(initial).at_most_reversed(limit) & 0x1111;
        found |= bits << group;
    }
    found
}

/// Both hashes of sixteen nonces in vectors, with their last words in place 0 of `words`
/// afterwards; and, for half of the lanes of the SHA instructions, the first hash and the
/// second hash.
///
/// # Safety
/// `half` is 0 or 1.
#[target_feature(enable = "avx512f,avx512bw,sha,sse4.1")]
unsafe fn half_step(
    version: &VersionState,
    sums: &Sums,
    words: &mut Sums,
    state: &mut ShaLanes,
    half: usize,
) {
    // Half 0 has lanes 0 to 7, half 1 has lanes 8 to 15.
    let sha = std::ptr::from_mut(state).wrapping_byte_add(32 * half);
    // SAFETY: the code reads `version`, `sums` and the constants, reads and writes the
    // first 16 places of `words` and, because `half` is 0 or 1, stays within `state`. It
    // uses no register but the operands and the vector registers, and no stack.
    unsafe {
        generated_asm!(
            "/mix.s",
            version = in(reg) std::ptr::from_ref(version),
            kw = in(reg) std::ptr::from_ref(sums),
            w = in(reg) std::ptr::from_mut(words),
            sha = in(reg) sha,
            k = in(reg) std::ptr::from_ref(&CONSTANTS),
        );
    }
}
