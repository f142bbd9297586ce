//! The second hash: SHA-256 of the digest of the header.
//!
//! [`last_word_of_second_hash`] computes no more of it than its last word, which tells
//! almost every hash from a solution. [`expand_digest`] computes the message schedule
//! alone, for a kernel whose SHA unit does the rounds.

use super::vector::{
    Lanes, big_sigma0_of, big_sigma1_of, eight_rounds, round, sigma0_of, sigma1_of, sum,
};
use crate::kernel::sha256::{
    DIGEST_BITS, IV, K, PADDING, big_sigma0, big_sigma1, ch, digest_padding, maj, sigma0, sigma1,
};

/// The words of the message schedule that later words still need: word i is in place i
/// mod 16.
type Window<V> = [V; 16];

/// The last word of the digest of a digest.
///
/// It is the value of `e` after round 60, three rounds before the end. The last `a` that
/// this value depends on is that of round 56, so rounds 57 to 60 compute only `e`.
///
/// # Safety
/// The processor must have the instructions of `V`.
#[inline(always)]
pub(in crate::kernel) unsafe fn last_word_of_second_hash<V: Lanes>(digest: [V; 8]) -> V {
    let [w0, w1, w2, w3, w4, w5, w6, w7] = digest;
    // Places 8 to 15 are filled before they are read.
    let mut w = [
        w0, w1, w2, w3, w4, w5, w6, w7, w0, w0, w0, w0, w0, w0, w0, w0,
    ];
    // SAFETY: as required of the caller.
    unsafe {
        let state = rounds_0_to_15(&digest);
        let state = rounds_16_to_31(state, &mut w);
        rounds_32_to_60(state, &mut w)
    }
}

/// The state after the rounds whose words are the message itself: the digest, a one bit,
/// zeros, and the digest's length.
///
/// # Safety
/// The processor must have the instructions of `V`.
#[inline(always)]
unsafe fn rounds_0_to_15<V: Lanes>(w: &[V; 8]) -> [V; 8] {
    // SAFETY: as required of the caller.
    let splat = |word: u32| unsafe { V::splat(word) };
    // Round 0 starts from the initial value, so only its word is not known in advance.
    const T1: u32 = IV[7]
        .wrapping_add(big_sigma1(IV[4]))
        .wrapping_add(ch(IV[4], IV[5], IV[6]))
        .wrapping_add(K[0]);
    const T2: u32 = big_sigma0(IV[0]).wrapping_add(maj(IV[0], IV[1], IV[2]));
    // Round 1 takes the names one further: its `a` is `h`, its `e` is `d`.
    let [mut a, mut b, mut c, _, mut e, mut f, ..] = IV.map(splat);
    let mut g;
    let mut d = w[0].add(splat(IV[3].wrapping_add(T1)));
    let mut h = w[0].add(splat(T1.wrapping_add(T2)));
    // Words of the initial value are `h` in rounds 1 to 3. Their sums with the constants
    // are constants, too.
    macro_rules! first {
        ($a:ident $b:ident $c:ident $d:ident $e:ident $f:ident $g:ident $h:ident, $i:literal) => {
            $h = splat(IV[7 - $i].wrapping_add(K[$i]));
            round!($a $b $c $d $e $f $g $h, w[$i]);
        };
    }
    first!(h a b c d e f g, 1);
    first!(g h a b c d e f, 2);
    first!(f g h a b c d e, 3);
    macro_rules! digest_word {
        ($i:expr) => {
            w[$i].add(splat(K[$i]))
        };
    }
    round!(e f g h a b c d, digest_word!(4));
    round!(d e f g h a b c, digest_word!(5));
    round!(c d e f g h a b, digest_word!(6));
    round!(b c d e f g h a, digest_word!(7));
    macro_rules! padding {
        ($i:expr) => {
            splat(K[$i].wrapping_add(digest_padding($i)))
        };
    }
    eight_rounds!(a b c d e f g h, padding, 8);
    [a, b, c, d, e, f, g, h]
}

/// The rounds whose words depend on the padding, words 8 to 15 of the message. Most of
/// those are zero, so each word has a formula of its own.
///
/// # Safety
/// The processor must have the instructions of `V`.
#[inline(always)]
unsafe fn rounds_16_to_31<V: Lanes>(state: [V; 8], w: &mut Window<V>) -> [V; 8] {
    // SAFETY: as required of the caller.
    let splat = |word: u32| unsafe { V::splat(word) };
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = state;
    macro_rules! s0 {
        ($i:expr) => {
            sigma0_of(w[($i - 15) % 16])
        };
    }
    macro_rules! s1 {
        ($i:expr) => {
            sigma1_of(w[($i - 2) % 16])
        };
    }
    macro_rules! put {
        ($i:expr, $word:expr) => {{
            w[$i % 16] = $word;
            w[$i % 16].add(splat(K[$i]))
        }};
    }
    round!(a b c d e f g h, put!(16, w[0].add(s0!(16))));
    round!(h a b c d e f g, put!(17, sum(w[1], s0!(17), splat(sigma1(DIGEST_BITS)))));
    macro_rules! without_seven_before {
        ($i:literal) => {
            put!($i, sum(w[$i % 16], s0!($i), s1!($i)))
        };
    }
    round!(g h a b c d e f, without_seven_before!(18));
    round!(f g h a b c d e, without_seven_before!(19));
    round!(e f g h a b c d, without_seven_before!(20));
    round!(d e f g h a b c, without_seven_before!(21));
    round!(c d e f g h a b, put!(22, sum(w[6], s0!(22), s1!(22)).add(splat(DIGEST_BITS))));
    round!(b c d e f g h a, put!(23, sum(w[7], s1!(23), w[0]).add(splat(sigma0(PADDING)))));
    round!(a b c d e f g h, put!(24, sum(s1!(24), w[1], splat(PADDING))));
    macro_rules! of_two {
        ($i:literal) => {
            put!($i, s1!($i).add(w[($i - 7) % 16]))
        };
    }
    round!(h a b c d e f g, of_two!(25));
    round!(g h a b c d e f, of_two!(26));
    round!(f g h a b c d e, of_two!(27));
    round!(e f g h a b c d, of_two!(28));
    round!(d e f g h a b c, of_two!(29));
    round!(c d e f g h a b, put!(30, sum(s1!(30), w[23 % 16], splat(sigma0(DIGEST_BITS)))));
    round!(b c d e f g h a, put!(31, sum(s1!(31), w[24 % 16], s0!(31)).add(splat(DIGEST_BITS))));
    [a, b, c, d, e, f, g, h]
}

/// The rounds whose words follow the general formula, and the sum with the initial value.
///
/// # Safety
/// The processor must have the instructions of `V`.
#[inline(always)]
unsafe fn rounds_32_to_60<V: Lanes>(state: [V; 8], w: &mut Window<V>) -> V {
    // SAFETY: as required of the caller.
    let splat = |word: u32| unsafe { V::splat(word) };
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = state;
    macro_rules! expanded {
        ($i:expr) => {{
            let before = sum(w[$i % 16], w[($i - 7) % 16], sigma0_of(w[($i - 15) % 16]));
            w[$i % 16] = before.add(sigma1_of(w[($i - 2) % 16]));
            w[$i % 16].add(splat(K[$i]))
        }};
    }
    eight_rounds!(a b c d e f g h, expanded, 32);
    eight_rounds!(a b c d e f g h, expanded, 40);
    eight_rounds!(a b c d e f g h, expanded, 48);
    round!(a b c d e f g h, expanded!(56));
    macro_rules! round_of_e {
        ($d:ident $e:ident $f:ident $g:ident $h:ident, $i:expr) => {
            $d = $d
                .add($h.add(expanded!($i)))
                .add($e.ch($f, $g))
                .add(big_sigma1_of($e));
        };
    }
    round_of_e!(c d e f g, 57);
    round_of_e!(b c d e f, 58);
    round_of_e!(a b c d e, 59);
    round_of_e!(h a b c d, 60);
    h.add(splat(IV[7]))
}

/// Calls `sums` with the constants plus words of rounds 0 to 63 of the hash of a digest,
/// for four rounds at a time. Rounds 61 to 63 are not needed; their values are wrong.
///
/// # Safety
/// The processor must have the instructions of `V`.
#[inline(always)]
pub(in crate::kernel) unsafe fn expand_digest<V: Lanes>(
    digest: [V; 8],
    mut sums: impl FnMut(usize, [V; 4]),
) {
    // SAFETY: as required of the caller.
    let splat = |word: u32| unsafe { V::splat(word) };
    let (one, zero, length) = (splat(PADDING), splat(0), splat(DIGEST_BITS));
    let [w0, w1, w2, w3, w4, w5, w6, w7] = digest;
    let mut w = [
        w0, w1, w2, w3, w4, w5, w6, w7, one, zero, zero, zero, zero, zero, zero, length,
    ];
    macro_rules! hand_over {
        ($group:literal) => {
            let word = |at: usize| w[(4 * $group + at) % 16].add(splat(K[4 * $group + at]));
            sums($group, [word(0), word(1), word(2), word(3)]);
        };
    }
    macro_rules! expand {
        ($i:expr) => {
            w[$i % 16] = sum(w[$i % 16], sigma0_of(w[($i - 15) % 16]), w[($i - 7) % 16])
                .add(sigma1_of(w[($i - 2) % 16]));
        };
    }
    hand_over!(0);
    hand_over!(1);
    hand_over!(2);
    hand_over!(3);
    macro_rules! groups {
        ($($group:literal)*) => {$(
            expand!(4 * $group);
            expand!(4 * $group + 1);
            expand!(4 * $group + 2);
            expand!(4 * $group + 3);
            hand_over!($group);
        )*};
    }
    groups!(4 5 6 7 8 9 10 11 12 13 14);
    expand!(60);
    hand_over!(15);
}
