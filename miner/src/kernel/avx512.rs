//! Sixteen nonces in each vector, on processors with AVX-512: rotations and
//! functions of three words are single instructions there, and 32 registers
//! hold a whole compression.

use std::arch::x86_64::{
    __m512i, _mm512_add_epi32, _mm512_cmple_epu32_mask, _mm512_ror_epi32, _mm512_set1_epi32,
    _mm512_set4_epi32, _mm512_setr_epi32, _mm512_shuffle_epi8, _mm512_srli_epi32,
    _mm512_ternarylogic_epi32,
};

use super::lanes::{self, Lanes};
use super::{Hit, Job, Kernel};

/// Sixteen lanes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Avx512(());

impl Avx512 {
    /// The kernel, if the processor can run it.
    pub(super) fn detect() -> Option<Self> {
        let runs = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw");
        runs.then_some(Self(()))
    }
}

impl Kernel for Avx512 {
    fn name(&self) -> &'static str {
        "avx512"
    }

    fn versions(&self) -> usize {
        16
    }

    fn scan(&self, job: &Job, start: u32, count: u32, hits: &mut Vec<Hit>) {
        // SAFETY: only `detect` makes a value of this type.
        unsafe { scan(job, start, count, hits) }
    }
}

#[target_feature(enable = "avx512f,avx512bw")]
fn scan(job: &Job, start: u32, count: u32, hits: &mut Vec<Hit>) {
    // SAFETY: this function is compiled for, and only called on, a processor
    // with these features.
    unsafe { lanes::scan::<Sixteen>(job, start, count, hits) }
}

#[derive(Clone, Copy)]
pub(super) struct Sixteen(pub(super) __m512i);

// SAFETY of every block: a value of this type, or the caller of an unsafe
// function, vouches for the processor's features; see `Lanes`.
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
        // SAFETY: see above. Shifts are by 3 and 10: the number has no sign.
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
