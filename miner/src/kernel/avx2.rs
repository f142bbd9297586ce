//! The kernel for processors with AVX2: eight nonces in each vector. The hash itself is
//! in `lanes`.

use std::arch::x86_64::{
    __m256i, _mm256_add_epi32, _mm256_and_si256, _mm256_castsi256_ps, _mm256_cmpeq_epi32,
    _mm256_min_epu32, _mm256_movemask_ps, _mm256_or_si256, _mm256_set1_epi32, _mm256_setr_epi8,
    _mm256_setr_epi32, _mm256_shuffle_epi8, _mm256_slli_epi32, _mm256_srli_epi32, _mm256_xor_si256,
};

use super::frame::processor_kernel;
use super::lanes::{self, Lanes};

processor_kernel! {
    /// Eight nonces in each vector.
    Avx2, "avx2", ["avx2"], lanes::scan::<Eight>
}

/// Eight 32-bit words.
#[derive(Clone, Copy)]
struct Eight(__m256i);

// SAFETY of every block: a value of this type exists only on a processor with the processor
// features named above, and the caller of an unsafe function guarantees them; see `Lanes`.
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
            // a ⊕ b of this round is b ⊕ c of the next round, so the compiler computes
            // only one of the two.
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
