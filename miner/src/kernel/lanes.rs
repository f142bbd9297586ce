//! SHA-256d of headers in the lanes of vectors: every instruction works on as
//! many nonces as a vector has 32-bit lanes.
//!
//! Written once for all widths; [`Lanes`] is what a processor must offer. The
//! whole is one straight line of code without loops or branches over rounds,
//! because all that matters here is that every value stays in a register.

use super::Hit;
use super::job::{Job, Midstate, Schedule};
use super::sha256::{IV, K, big_sigma0, big_sigma1, ch, maj, sigma1};

/// A vector of 32-bit words.
///
/// *Invariant:* values exist only on processors that have the instructions
/// which work on them, since only the unsafe functions make one from nothing.
/// All functions must be inlined into one that is compiled for such a processor.
pub(super) trait Lanes: Copy {
    /// How many words.
    const COUNT: u32;

    /// The same word everywhere.
    ///
    /// # Safety
    /// The processor must have the instructions of this type.
    unsafe fn splat(word: u32) -> Self;

    /// Consecutive numbers from `start`, wrapping around, each with its bytes
    /// in reverse order: nonces as SHA-256 reads them.
    ///
    /// # Safety
    /// The processor must have the instructions of this type.
    unsafe fn nonces(start: u32) -> Self;

    fn add(self, other: Self) -> Self;
    fn xor3(self, b: Self, c: Self) -> Self;
    fn ch(self, f: Self, g: Self) -> Self;
    fn maj(self, b: Self, c: Self) -> Self;
    fn rotate_right<const BITS: i32, const REST: i32>(self) -> Self;
    fn shift_right<const BITS: i32>(self) -> Self;

    /// A bit for each lane whose word, its bytes in reverse order, is at most
    /// the limit's.
    fn at_most_reversed(self, limit: Self) -> u32;
}

#[inline(always)]
fn sum<V: Lanes>(a: V, b: V, c: V) -> V {
    a.add(b).add(c)
}

#[inline(always)]
fn big_sigma0_of<V: Lanes>(x: V) -> V {
    x.rotate_right::<2, 30>()
        .xor3(x.rotate_right::<13, 19>(), x.rotate_right::<22, 10>())
}

#[inline(always)]
fn big_sigma1_of<V: Lanes>(x: V) -> V {
    x.rotate_right::<6, 26>()
        .xor3(x.rotate_right::<11, 21>(), x.rotate_right::<25, 7>())
}

#[inline(always)]
fn sigma0_of<V: Lanes>(x: V) -> V {
    x.rotate_right::<7, 25>()
        .xor3(x.rotate_right::<18, 14>(), x.shift_right::<3>())
}

#[inline(always)]
fn sigma1_of<V: Lanes>(x: V) -> V {
    x.rotate_right::<17, 15>()
        .xor3(x.rotate_right::<19, 13>(), x.shift_right::<10>())
}

/// One round; `h` takes the place of `a` for the next, and so on around.
macro_rules! round {
    ($a:ident $b:ident $c:ident $d:ident $e:ident $f:ident $g:ident $h:ident, $kw:expr) => {
        let t1 = $h.add($kw).add($e.ch($f, $g)).add(big_sigma1_of($e));
        $d = $d.add(t1);
        $h = t1.add($a.maj($b, $c)).add(big_sigma0_of($a));
    };
}

/// Eight rounds from the first of the given indices; `$kw` maps a round to its
/// constant plus word.
macro_rules! eight_rounds {
    ($a:ident $b:ident $c:ident $d:ident $e:ident $f:ident $g:ident $h:ident, $kw:ident, $i:expr) => {
        round!($a $b $c $d $e $f $g $h, $kw!($i));
        round!($h $a $b $c $d $e $f $g, $kw!($i + 1));
        round!($g $h $a $b $c $d $e $f, $kw!($i + 2));
        round!($f $g $h $a $b $c $d $e, $kw!($i + 3));
        round!($e $f $g $h $a $b $c $d, $kw!($i + 4));
        round!($d $e $f $g $h $a $b $c, $kw!($i + 5));
        round!($c $d $e $f $g $h $a $b, $kw!($i + 6));
        round!($b $c $d $e $f $g $h $a, $kw!($i + 7));
    };
}

/// Writes the constant plus word of rounds 18 to 63 of a header's second block.
/// They have no version in them.
///
/// # Safety
/// The processor must have the instructions of `V`.
#[inline(always)]
pub(super) unsafe fn expand<V: Lanes>(schedule: &Schedule, nonce: V, kw: &mut [V; 64]) {
    // SAFETY: as required of the caller.
    let splat = |word: u32| unsafe { V::splat(word) };
    let rest = |index: usize| splat(schedule.rest[index - 20]);
    // The window: word i is in place i mod 16.
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

/// The digest of a header of one version, as eight words.
///
/// # Safety
/// The processor must have the instructions of `V`.
#[inline(always)]
unsafe fn first_hash<V: Lanes>(
    schedule: &Schedule,
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
    // 60 rounds are four more than a multiple of eight: the names are half a
    // turn on.
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

/// The last word of the digest of a digest: all that is needed to tell that a
/// hash does not meet a target. It is what `e` is after round 60, three rounds
/// before the end, and the last `a` that goes into that is the one after round
/// 56; what the other words would need is never computed.
///
/// # Safety
/// The processor must have the instructions of `V`.
#[inline(always)]
pub(super) unsafe fn last_word_of_second_hash<V: Lanes>(digest: [V; 8]) -> V {
    // SAFETY: as required of the caller.
    let splat = |word: u32| unsafe { V::splat(word) };
    const PADDING: u32 = 0x8000_0000;
    const DIGEST_BITS: u32 = 256;
    let [w0, w1, w2, w3, w4, w5, w6, w7] = digest;
    let mut w = [
        w0, w1, w2, w3, w4, w5, w6, w7, w0, w0, w0, w0, w0, w0, w0, w0,
    ];

    // Round 0 from the initial value, the word apart.
    const T1: u32 = IV[7]
        .wrapping_add(big_sigma1(IV[4]))
        .wrapping_add(ch(IV[4], IV[5], IV[6]))
        .wrapping_add(K[0]);
    const T2: u32 = big_sigma0(IV[0]).wrapping_add(maj(IV[0], IV[1], IV[2]));
    // The next round takes the names one further: its a is h, its e is d.
    let [mut a, mut b, mut c, _, mut e, mut f, ..] = IV.map(splat);
    let mut g;
    let mut d = w0.add(splat(IV[3].wrapping_add(T1)));
    let mut h = w0.add(splat(T1.wrapping_add(T2)));
    macro_rules! digest_word {
        ($i:expr) => {
            w[$i].add(splat(K[$i]))
        };
    }
    // The initial value's words come to be h one after the other: their sums
    // with the constants are constants too.
    macro_rules! first {
        ($a:ident $b:ident $c:ident $d:ident $e:ident $f:ident $g:ident $h:ident, $i:literal) => {
            $h = splat(IV[7 - $i].wrapping_add(K[$i]));
            round!($a $b $c $d $e $f $g $h, w[$i]);
        };
    }
    first!(h a b c d e f g, 1);
    first!(g h a b c d e f, 2);
    first!(f g h a b c d e, 3);
    round!(e f g h a b c d, digest_word!(4));
    round!(d e f g h a b c, digest_word!(5));
    round!(c d e f g h a b, digest_word!(6));
    round!(b c d e f g h a, digest_word!(7));
    macro_rules! padding {
        ($i:expr) => {
            splat(match $i {
                8 => K[8].wrapping_add(PADDING),
                15 => K[15].wrapping_add(DIGEST_BITS),
                _ => K[$i],
            })
        };
    }
    eight_rounds!(a b c d e f g h, padding, 8);

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
    // Words 8 to 15 are the padding: a one, zeros, the length.
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
    const OF_PADDING: u32 = super::sha256::sigma0(PADDING);
    round!(b c d e f g h a, put!(23, sum(w[7], s1!(23), w[0]).add(splat(OF_PADDING))));
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
    const OF_LENGTH: u32 = super::sha256::sigma0(DIGEST_BITS);
    round!(c d e f g h a b, put!(30, sum(s1!(30), w[23 % 16], splat(OF_LENGTH))));
    round!(b c d e f g h a, put!(31, sum(s1!(31), w[24 % 16], s0!(31)).add(splat(DIGEST_BITS))));
    macro_rules! expanded {
        ($i:expr) => {
            put!($i, sum(w[$i % 16], w[($i - 7) % 16], s0!($i)).add(s1!($i)))
        };
    }
    eight_rounds!(a b c d e f g h, expanded, 32);
    eight_rounds!(a b c d e f g h, expanded, 40);
    eight_rounds!(a b c d e f g h, expanded, 48);
    round!(a b c d e f g h, expanded!(56));
    // From here on only the way to `e` is of use.
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

/// Hands over the constants plus words of rounds 0 to 60 of the hash of a
/// digest, four by four; the last three are of no use.
///
/// # Safety
/// The processor must have the instructions of `V`.
#[inline(always)]
pub(super) unsafe fn expand_digest<V: Lanes>(digest: [V; 8], mut sums: impl FnMut(usize, [V; 4])) {
    // SAFETY: as required of the caller.
    let splat = |word: u32| unsafe { V::splat(word) };
    let (one, zero, length) = (splat(0x8000_0000), splat(0), splat(256));
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

/// Scans as [`super::Kernel::scan`] does.
///
/// # Safety
/// The processor must have the instructions of `V`.
#[inline(always)]
pub(super) unsafe fn scan<V: Lanes>(job: &Job, start: u32, count: u32, hits: &mut Vec<Hit>) {
    let schedule = job.schedule();
    // SAFETY: here and below, as required of the caller.
    let limit = unsafe { V::splat(job.target_top()) };
    let mut kw = [limit; 64];
    let mut done = 0;
    while done < count {
        let first = start.wrapping_add(done);
        // SAFETY: as required of the caller.
        let nonce = unsafe { V::nonces(first) };
        // SAFETY: as required of the caller.
        unsafe { expand(schedule, nonce, &mut kw) };
        let lanes = (count - done).min(V::COUNT);
        for midstate in job.midstates() {
            // SAFETY: as required of the caller.
            let digest = unsafe { first_hash(schedule, midstate, nonce, &kw) };
            // SAFETY: as required of the caller.
            let last = unsafe { last_word_of_second_hash(digest) };
            let mut found = last.at_most_reversed(limit);
            while found != 0 {
                let lane = found.trailing_zeros();
                found &= found - 1;
                if lane < lanes {
                    job.confirm(midstate.version, first.wrapping_add(lane), hits);
                }
            }
        }
        // The last step may be beyond u32::MAX only if count is near it.
        done = done.saturating_add(V::COUNT);
    }
}
