//! The first hash: SHA-256 of the header, in two steps. [`expand`] is the part that all
//! versions share, [`first_hash`] is the rest for one version.

use super::vector::{
    Lanes, big_sigma0_of, big_sigma1_of, eight_rounds, round, sigma0_of, sigma1_of, sum,
};
use crate::kernel::job::{MessageSchedule, Midstate};
use crate::kernel::sha256::K;

/// Writes the constant plus word of rounds 18 to 63 of the header's second block. They
/// do not depend on the version.
///
/// # Safety
/// The processor must have the instructions of `V`.
#[inline(always)]
pub(in crate::kernel) unsafe fn expand<V: Lanes>(
    schedule: &MessageSchedule,
    nonce: V,
    kw: &mut [V; 64],
) {
    // SAFETY: as required of the caller.
    let splat = |word: u32| unsafe { V::splat(word) };
    let rest = |index: usize| splat(schedule.rest[index - 20]);
    // The newest 16 words; word i is in place i mod 16.
    let mut w = [nonce; 16];
    macro_rules! put {
        ($i:expr, $word:expr) => {
            w[$i % 16] = $word;
            kw[$i] = w[$i % 16].add(splat(K[$i]));
        };
    }
    macro_rules! s1 {
        ($i:expr) => {
            sigma1_of(w[($i - 2) % 16])
        };
    }
    put!(18, sigma0_of(nonce).add(splat(schedule.w18)));
    put!(19, nonce.add(splat(schedule.w19)));
    put!(20, s1!(20).add(rest(20)));
    put!(21, s1!(21));
    put!(22, s1!(22).add(rest(22)));
    put!(23, s1!(23).add(rest(23)));
    put!(24, s1!(24).add(rest(24)));
    macro_rules! add_seven_before {
        ($($i:literal)*) => {$( put!($i, s1!($i).add(w[($i - 7) % 16])); )*};
    }
    add_seven_before!(25 26 27 28 29);
    macro_rules! add_rest {
        ($($i:literal)*) => {$( put!($i, sum(s1!($i), w[($i - 7) % 16], rest($i))); )*};
    }
    add_rest!(30 31 32);
    let of_18 = sigma0_of(w[18 % 16]).add(rest(33));
    put!(33, sum(s1!(33), w[(33 - 7) % 16], of_18));
    macro_rules! expand {
        ($($i:literal)*) => {$(
            put!($i, sum(s1!($i), w[($i - 7) % 16], sigma0_of(w[($i - 15) % 16])).add(w[$i % 16]));
        )*};
    }
    expand!(34 35 36 37 38 39 40 41 42 43 44 45 46 47 48);
    expand!(49 50 51 52 53 54 55 56 57 58 59 60 61 62 63);
}

/// The digest of the header in one version, as eight words.
///
/// # Safety
/// The processor must have the instructions of `V`.
#[inline(always)]
pub(super) unsafe fn first_hash<V: Lanes>(
    schedule: &MessageSchedule,
    midstate: &Midstate,
    nonce: V,
    kw: &[V; 64],
) -> [V; 8] {
    // SAFETY: as required of the caller.
    let splat = |word: u32| unsafe { V::splat(word) };
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = midstate.after_four.map(splat);
    a = a.add(nonce);
    e = e.add(nonce);
    macro_rules! constant {
        ($i:expr) => {
            splat(schedule.kw[$i])
        };
    }
    macro_rules! expanded {
        ($i:expr) => {
            kw[$i]
        };
    }
    eight_rounds!(a b c d e f g h, constant, 4);
    round!(a b c d e f g h, constant!(12));
    round!(h a b c d e f g, constant!(13));
    round!(g h a b c d e f, constant!(14));
    round!(f g h a b c d e, constant!(15));
    round!(e f g h a b c d, constant!(16));
    round!(d e f g h a b c, constant!(17));
    round!(c d e f g h a b, expanded!(18));
    round!(b c d e f g h a, expanded!(19));
    eight_rounds!(a b c d e f g h, expanded, 20);
    eight_rounds!(a b c d e f g h, expanded, 28);
    eight_rounds!(a b c d e f g h, expanded, 36);
    eight_rounds!(a b c d e f g h, expanded, 44);
    eight_rounds!(a b c d e f g h, expanded, 52);
    round!(a b c d e f g h, expanded!(60));
    round!(h a b c d e f g, expanded!(61));
    round!(g h a b c d e f, expanded!(62));
    round!(f g h a b c d e, expanded!(63));
    // 60 is four more than a multiple of eight, so word `a` has the name `e` now, and so
    // on.
    let [s0, s1, s2, s3, s4, s5, s6, s7] = midstate.state.map(splat);
    [
        s0.add(e),
        s1.add(f),
        s2.add(g),
        s3.add(h),
        s4.add(a),
        s5.add(b),
        s6.add(c),
        s7.add(d),
    ]
}
