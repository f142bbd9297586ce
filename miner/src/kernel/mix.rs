//! AVX-512 and the SHA instructions at once: they run in different units of the
//! processor, so that one core can do both.
//!
//! Of 48 nonces, 32 go through vectors as in `lanes`, and 16 through the SHA
//! instructions: their rounds only, since the message schedules are made faster in
//! vectors. A *step* runs the vectors of one version together with the first hash
//! of the 16 in this version and the second hash of the 16 in the version before;
//! in between, the schedule of the second hash is computed from the first one's
//! result. The code of half a step is written by `build/mix.rs`.

use std::arch::asm;
use std::arch::x86_64::{
    __m512i, _mm512_setzero_si512, _mm512_unpackhi_epi32, _mm512_unpackhi_epi64,
    _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
};
use std::mem::offset_of;

use super::avx512::Sixteen;
use super::constants::CONSTANTS;
use super::job::{Job, Midstate};
use super::lanes::{self, Lanes as _};
use super::{Hit, Kernel};

/// Nonces of a round of steps.
const WIDTH: u32 = 48;

/// AVX-512 and the SHA instructions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mix(());

impl Mix {
    /// The kernel, if the processor can run it.
    pub(super) fn detect() -> Option<Self> {
        let runs = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("sha")
            && is_x86_feature_detected!("sse4.1");
        runs.then_some(Self(()))
    }
}

impl Kernel for Mix {
    fn name(&self) -> &'static str {
        "avx512-sha"
    }

    fn versions(&self) -> usize {
        16
    }

    fn scan(&self, job: &Job, start: u32, count: u32, hits: &mut Vec<Hit>) {
        // SAFETY: only `detect` makes a value of this type.
        unsafe { scan(job, start, count, hits) }
    }
}

/// Constants plus words of a compression of sixteen nonces; place 0 holds the
/// nonces themselves.
#[repr(C, align(64))]
struct Sums([Sixteen; 64]);

/// What the SHA instructions work on. Sixteen lanes in four groups: 64 bytes
/// hold four words of lane 0, of lane 4, of lane 8, of lane 12; the next those
/// of lanes 1, 5, 9 and 13.
#[repr(C, align(64))]
struct Lanes {
    /// Constants plus words of the first hash, four rounds by four.
    kw1: [[Sixteen; 4]; 16],
    /// The same of the second hash.
    kw2: [[Sixteen; 4]; 16],
    /// The nonce's word at the places of E and A.
    nonces: [Sixteen; 4],
    /// State after the first hash.
    abef: [Sixteen; 4],
    /// The rest of it.
    cdgh: [Sixteen; 4],
    /// State after round 61 of the second hash.
    last: [Sixteen; 4],
}

/// What depends on the version.
#[repr(C, align(64))]
struct Version {
    after_four: [u32; 8],
    midstate: [u32; 8],
    packed_after_four: [u32; 8],
}

impl Version {
    fn new(midstate: &Midstate) -> Self {
        let [a, b, c, d, e, f, g, h] = midstate.after_four;
        Self {
            after_four: midstate.after_four,
            midstate: midstate.state,
            packed_after_four: [f, e, b, a, h, g, d, c],
        }
    }
}

/// Where `build/mix.rs` looks for things.
const _: () = {
    assert!(offset_of!(Lanes, kw1) == 0 && offset_of!(Lanes, kw2) == 4_096);
    assert!(offset_of!(Lanes, nonces) == 8_192 && offset_of!(Lanes, abef) == 8_448);
    assert!(offset_of!(Lanes, cdgh) == 8_704 && offset_of!(Lanes, last) == 8_960);
    assert!(offset_of!(Version, after_four) == 0 && offset_of!(Version, midstate) == 32);
    assert!(offset_of!(Version, packed_after_four) == 64);
};

/// See [`half_step`].
type HalfStep = unsafe fn(&Version, &Sums, &mut Sums, &mut Lanes, usize);

/// Sixteen nonces in one version whose second hash is under way.
#[derive(Clone, Copy)]
struct Pending {
    version: u32,
    first: u32,
    count: u32,
    digest: [Sixteen; 8],
}

#[target_feature(enable = "avx512f,avx512bw,sha,sse4.1")]
fn scan(job: &Job, start: u32, count: u32, hits: &mut Vec<Hit>) {
    let zero = Sixteen(_mm512_setzero_si512());
    let versions: Vec<Version> = job.midstates().iter().map(Version::new).collect();
    let mut vectors = [Sums([zero; 64]), Sums([zero; 64])];
    let mut sums = Sums([zero; 64]);
    let mut words = Sums([zero; 64]);
    let mut state = Lanes {
        kw1: [[zero; 4]; 16],
        kw2: [[zero; 4]; 16],
        nonces: [zero; 4],
        abef: [zero; 4],
        cdgh: [zero; 4],
        last: [zero; 4],
    };
    let target_top = job.target_top();
    // Called where the compiler does not see what it calls: two copies of its
    // code would not fit the cache for instructions.
    let half_step = std::hint::black_box(half_step as HalfStep);
    let mut pending: Option<Pending> = None;
    let mut done = 0;
    while done < count {
        let first = start.wrapping_add(done);
        let left = count - done;
        for (sums, at) in vectors.iter_mut().zip([0, 16]) {
            prepare(job, first.wrapping_add(at), sums);
        }
        prepare(job, first.wrapping_add(32), &mut sums);
        state.kw1 = by_lane(&sums);
        state.nonces = nonces_by_lane(sums.0[0]);
        for (midstate, version) in job.midstates().iter().zip(&versions) {
            for (half, sums) in vectors.iter().enumerate() {
                let offset = 16 * u32::try_from(half).unwrap_or(0);
                // SAFETY: the halves are 0 and 1.
                unsafe { half_step(version, sums, &mut words, &mut state, half) };
                // SAFETY: the processor has the features of this function.
                let found = words.0[0].at_most_reversed(unsafe { Sixteen::splat(target_top) });
                let nonces = first.wrapping_add(offset);
                confirm(
                    job,
                    midstate.version,
                    nonces,
                    left.saturating_sub(offset),
                    found,
                    hits,
                );
            }
            if let Some(before) = pending {
                let found = found_by_lane(&state.last, target_top);
                confirm(job, before.version, before.first, before.count, found, hits);
            }
            let digest = digest(&state, midstate);
            let kw2 = &mut state.kw2;
            // SAFETY: here and below: this function is compiled for, and only
            // called on, a processor with these features.
            unsafe {
                lanes::expand_digest(digest, |group, sums| kw2[group] = transposed(sums));
            }
            pending = Some(Pending {
                version: midstate.version,
                first: first.wrapping_add(32),
                count: left.saturating_sub(32),
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
        confirm(job, last.version, last.first, last.count, found, hits);
    }
}

/// Looks closely at those of the first `count` of sixteen nonces that have a bit
/// in `found`.
#[inline(always)]
fn confirm(job: &Job, version: u32, first: u32, count: u32, found: u32, hits: &mut Vec<Hit>) {
    let mut found = found;
    while found != 0 {
        let lane = found.trailing_zeros();
        found &= found - 1;
        if lane < count {
            job.confirm(version, first.wrapping_add(lane), hits);
        }
    }
}

/// Everything about sixteen nonces that no version changes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn prepare(job: &Job, first: u32, sums: &mut Sums) {
    let schedule = job.schedule();
    // SAFETY: the features are there, as for all that follows.
    unsafe {
        let nonces = Sixteen::nonces(first);
        lanes::expand(schedule, nonces, &mut sums.0);
        for (sum, kw) in sums.0.iter_mut().zip(schedule.kw).skip(4) {
            *sum = Sixteen::splat(kw);
        }
        sums.0[0] = nonces;
    }
}

/// Four vectors of words, each of sixteen lanes, as four vectors of lanes with
/// four words each; and the other way round.
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

/// Constants plus words of all rounds, four by four.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn by_lane(sums: &Sums) -> [[Sixteen; 4]; 16] {
    std::array::from_fn(|group| {
        let [a, b, c, d] = [0, 1, 2, 3].map(|word| sums.0[4 * group + word]);
        transposed([a, b, c, d])
    })
}

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
fn digest(state: &Lanes, midstate: &Midstate) -> [Sixteen; 8] {
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
    let (limit, initial) = unsafe {
        (
            Sixteen::splat(target_top),
            Sixteen::splat(super::sha256::IV[7]),
        )
    };
    // F, the first of each four words, is what e was a round before.
    let mut found = 0;
    for (group, last) in last.iter().enumerate() {
        let bits = last.add(initial).at_most_reversed(limit) & 0x1111;
        found |= bits << group;
    }
    found
}

/// Both hashes of sixteen nonces in vectors, whose last words then are in place 0
/// of `words`; and one half of the first hash and of the second hash of those
/// that the SHA instructions have.
///
/// # Safety
/// `half` is 0 or 1.
#[target_feature(enable = "avx512f,avx512bw,sha,sse4.1")]
unsafe fn half_step(
    version: &Version,
    sums: &Sums,
    words: &mut Sums,
    state: &mut Lanes,
    half: usize,
) {
    // Half of the groups of four lanes: lanes 0 to 7, then 8 to 15.
    let sha = std::ptr::from_mut(state).wrapping_byte_add(32 * half);
    // SAFETY: the code reads `version`, `sums` and the constants, reads and writes
    // the first 16 places of `words` and, with half being 0 or 1, stays within
    // `state`. It uses the vector registers named here and no others, nor the
    // stack.
    unsafe {
        asm!(
            include_str!(concat!(env!("OUT_DIR"), "/mix.s")),
            version = in(reg) std::ptr::from_ref(version),
            kw = in(reg) std::ptr::from_ref(sums),
            w = in(reg) std::ptr::from_mut(words),
            sha = in(reg) sha,
            k = in(reg) std::ptr::from_ref(&CONSTANTS),
            out("zmm0") _, out("zmm1") _, out("zmm2") _, out("zmm3") _,
            out("zmm4") _, out("zmm5") _, out("zmm6") _, out("zmm7") _,
            out("zmm8") _, out("zmm9") _, out("zmm10") _, out("zmm11") _,
            out("zmm12") _, out("zmm13") _, out("zmm14") _, out("zmm15") _,
            out("zmm16") _, out("zmm17") _, out("zmm18") _, out("zmm19") _,
            out("zmm20") _, out("zmm21") _, out("zmm22") _, out("zmm23") _,
            out("zmm24") _, out("zmm25") _, out("zmm26") _, out("zmm27") _,
            out("zmm28") _, out("zmm29") _, out("zmm30") _, out("zmm31") _,
            options(nostack, preserves_flags),
        );
    }
}
