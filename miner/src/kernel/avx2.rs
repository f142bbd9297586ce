//! Eight nonces in each vector, on processors with AVX2.

use std::arch::x86_64::{
    __m256i, _mm256_add_epi32, _mm256_and_si256, _mm256_castsi256_ps, _mm256_cmpeq_epi32,
    _mm256_min_epu32, _mm256_movemask_ps, _mm256_or_si256, _mm256_set1_epi32, _mm256_setr_epi8,
    _mm256_setr_epi32, _mm256_shuffle_epi8, _mm256_slli_epi32, _mm256_srli_epi32, _mm256_xor_si256,
};

use super::lanes::{self, Lanes};
use super::{Hit, Job, Kernel};

/// Eight lanes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Avx2(());

impl Avx2 {
    /// The kernel, if the processor can run it.
    pub(super) fn detect() -> Option<Self> {
        is_x86_feature_detected!("avx2").then_some(Self(()))
    }
}

impl Kernel for Avx2 {
    fn name(&self) -> &'static str {
        "avx2"
    }

    fn versions(&self) -> usize {
        16
    }

    fn scan(&self, job: &Job, start: u32, count: u32, hits: &mut Vec<Hit>) {
        // SAFETY: only `detect` makes a value of this type.
        unsafe { scan(job, start, count, hits) }
    }
}

#[target_feature(enable = "avx2")]
fn scan(job: &Job, start: u32, count: u32, hits: &mut Vec<Hit>) {
    // SAFETY: this function is compiled for, and only called on, a processor
    // with this feature.
    unsafe { lanes::scan::<Eight>(job, start, count, hits) }
}

#[derive(Clone, Copy)]
struct Eight(__m256i);

// SAFETY of every block: a value of this type, or the caller of an unsafe
// function, vouches for the processor's features; see `Lanes`.
impl Lanes for Eight {
    const COUNT: u32 = 8;

    #[inline(always)]
    unsafe fn splat(word: u32) -> Self {
        // SAFETY: see above.
        unsafe { Self(_mm256_set1_epi32(word.cast_signed())) }
    }

    #[inline(always)]
    unsafe fn nonces(start: u32) -> Self {
        // SAFETY: see above.
        unsafe {
            let steps = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
            let nonces = _mm256_add_epi32(_mm256_set1_epi32(start.cast_signed()), steps);
            Self(reversed(nonces))
        }
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { Self(_mm256_add_epi32(self.0, other.0)) }
    }

    #[inline(always)]
    fn xor3(self, b: Self, c: Self) -> Self {
        // SAFETY: see above.
        unsafe { Self(_mm256_xor_si256(_mm256_xor_si256(self.0, b.0), c.0)) }
    }

    #[inline(always)]
    fn ch(self, f: Self, g: Self) -> Self {
        // SAFETY: see above.
        unsafe {
            let differing = _mm256_and_si256(self.0, _mm256_xor_si256(f.0, g.0));
            Self(_mm256_xor_si256(differing, g.0))
        }
    }

    #[inline(always)]
    fn maj(self, b: Self, c: Self) -> Self {
        // SAFETY: see above.
        unsafe {
            // a ⊕ b of this round is b ⊕ c of the next.
            let (ab, bc) = (_mm256_xor_si256(self.0, b.0), _mm256_xor_si256(b.0, c.0));
            Self(_mm256_xor_si256(_mm256_and_si256(ab, bc), b.0))
        }
    }

    #[inline(always)]
    fn rotate_right<const BITS: i32, const REST: i32>(self) -> Self {
        // SAFETY: see above.
        unsafe {
            Self(_mm256_or_si256(
                _mm256_srli_epi32::<BITS>(self.0),
                _mm256_slli_epi32::<REST>(self.0),
            ))
        }
    }

    #[inline(always)]
    fn shift_right<const BITS: i32>(self) -> Self {
        // SAFETY: see above.
        unsafe { Self(_mm256_srli_epi32::<BITS>(self.0)) }
    }

    #[inline(always)]
    fn at_most_reversed(self, limit: Self) -> u32 {
        // SAFETY: see above.
        unsafe {
            let words = reversed(self.0);
            let at_most = _mm256_cmpeq_epi32(_mm256_min_epu32(words, limit.0), words);
            _mm256_movemask_ps(_mm256_castsi256_ps(at_most)).cast_unsigned()
        }
    }
}

/// Every word's bytes in reverse order.
#[inline]
#[target_feature(enable = "avx2")]
fn reversed(words: __m256i) -> __m256i {
    let order = _mm256_setr_epi8(
        3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12, 3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8,
        15, 14, 13, 12,
    );
    _mm256_shuffle_epi8(words, order)
}
