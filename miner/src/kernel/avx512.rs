//! The kernel for processors with AVX-512: sixteen nonces in each vector. The hash itself
//! is in `lanes`.
//!
//! Rotations and functions of three words are single instructions here, and the 32
//! registers hold a whole compression.

use std::arch::x86_64::{
    __m512i, _mm512_add_epi32, _mm512_cmple_epu32_mask, _mm512_ror_epi32, _mm512_set1_epi32,
    _mm512_set4_epi32, _mm512_setr_epi32, _mm512_shuffle_epi8, _mm512_srli_epi32,
    _mm512_ternarylogic_epi32,
};

use super::frame::processor_kernel;
use super::lanes::{self, Lanes};

processor_kernel! {
    /// Sixteen nonces in each vector.
    Avx512, "avx512", ["avx512f", "avx512bw"], lanes::scan::<Sixteen>
}

/// Sixteen 32-bit words.
#[derive(Clone, Copy)]
pub(super) struct Sixteen(pub(super) __m512i);

// SAFETY of every block: a value of this type exists only on a processor with the processor
// features named above, and the caller of an unsafe function guarantees them; see `Lanes`.
impl Lanes for Sixteen {
    const COUNT: u32 = 16;

    #[inline(always)]
    unsafe fn splat(word: u32) -> Self {
        // SAFETY: see above.
        unsafe { Self(_mm512_set1_epi32(word.cast_signed())) }
    }

    #[inline(always)]
    unsafe fn nonces(start: u32) -> Self {
        // SAFETY: see above.
        unsafe {
            let steps = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
            let nonces = _mm512_add_epi32(_mm512_set1_epi32(start.cast_signed()), steps);
            Self(reversed(nonces))
        }
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { Self(_mm512_add_epi32(self.0, other.0)) }
    }

    #[inline(always)]
    fn xor3(self, b: Self, c: Self) -> Self {
        // SAFETY: see above.
        unsafe { Self(_mm512_ternarylogic_epi32::<0x96>(self.0, b.0, c.0)) }
    }

    #[inline(always)]
    fn ch(self, f: Self, g: Self) -> Self {
        // SAFETY: see above.
        unsafe { Self(_mm512_ternarylogic_epi32::<0xca>(self.0, f.0, g.0)) }
    }

    #[inline(always)]
    fn maj(self, b: Self, c: Self) -> Self {
        // SAFETY: see above.
        unsafe { Self(_mm512_ternarylogic_epi32::<0xe8>(self.0, b.0, c.0)) }
    }

    #[inline(always)]
    fn rotate_right<const BITS: i32, const REST: i32>(self) -> Self {
        // SAFETY: see above.
        unsafe { Self(_mm512_ror_epi32::<BITS>(self.0)) }
    }

    #[inline(always)]
    fn shift_right<const BITS: i32>(self) -> Self {
        // SAFETY: see above. The intrinsic takes an unsigned constant, which `BITS` is
        // not; SHA-256 shifts by 3 and by 10 only.
        unsafe {
            match BITS {
                3 => Self(_mm512_srli_epi32::<3>(self.0)),
                _ => Self(_mm512_srli_epi32::<10>(self.0)),
            }
        }
    }

    #[inline(always)]
    fn at_most_reversed(self, limit: Self) -> u32 {
        // SAFETY: see above.
        unsafe { _mm512_cmple_epu32_mask(reversed(self.0), limit.0).into() }
    }
}

/// Every word's bytes in reverse order.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn reversed(words: __m512i) -> __m512i {
    let order = _mm512_set4_epi32(0x0c0d_0e0f, 0x0809_0a0b, 0x0405_0607, 0x0001_0203);
    _mm512_shuffle_epi8(words, order)
}
