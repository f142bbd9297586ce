//! The trait that a vector type implements, and one round of SHA-256 on it.

/// A vector of 32-bit words, one in each lane.
///
/// *Invariant:* values exist only on processors that have the instructions for them,
/// because only the unsafe functions make a value from nothing. All functions must be
/// inlined into a function that is compiled for such a processor.
pub(in crate::kernel) trait Lanes: Copy {
    /// The number of lanes.
    const COUNT: u32;

    /// The same word in every lane.
    ///
    /// # Safety
    /// The processor must have the instructions of this type.
    unsafe fn splat(word: u32) -> Self;

    /// Consecutive nonces from `start`, wrapping around, each with its bytes reversed:
    /// SHA-256 reads the header's little-endian nonce as a big-endian word.
    ///
    /// # Safety
    /// The processor must have the instructions of this type.
    unsafe fn nonces(start: u32) -> Self;

    /// The sum of each lane, wrapping around.
    fn add(self, other: Self) -> Self;
    /// The exclusive or of three words.
    fn xor3(self, b: Self, c: Self) -> Self;
    /// Ch of a round, with `self` as its first word.
    fn ch(self, f: Self, g: Self) -> Self;
    /// Maj of a round, with `self` as its first word.
    fn maj(self, b: Self, c: Self) -> Self;
    /// Rotates each lane right. `REST` is 32 − `BITS`.
    fn rotate_right<const BITS: i32, const REST: i32>(self) -> Self;
    /// Shifts each lane right by 3 or by 10.
    fn shift_right<const BITS: i32>(self) -> Self;

    /// A bit for each lane whose word, with its bytes reversed, is at most the limit's.
    fn at_most_reversed(self, limit: Self) -> u32;
}

/// The sum of three words.
#[inline(always)]
pub(super) fn sum<V: Lanes>(a: V, b: V, c: V) -> V {
    a.add(b).add(c)
}

/// Σ0 of a round.
#[inline(always)]
pub(super) fn big_sigma0_of<V: Lanes>(x: V) -> V {
    x.rotate_right::<2, 30>()
        .xor3(x.rotate_right::<13, 19>(), x.rotate_right::<22, 10>())
}

/// Σ1 of a round.
#[inline(always)]
pub(super) fn big_sigma1_of<V: Lanes>(x: V) -> V {
    x.rotate_right::<6, 26>()
        .xor3(x.rotate_right::<11, 21>(), x.rotate_right::<25, 7>())
}

/// σ0 of the message schedule.
#[inline(always)]
pub(super) fn sigma0_of<V: Lanes>(x: V) -> V {
    x.rotate_right::<7, 25>()
        .xor3(x.rotate_right::<18, 14>(), x.shift_right::<3>())
}

/// σ1 of the message schedule.
#[inline(always)]
pub(super) fn sigma1_of<V: Lanes>(x: V) -> V {
    x.rotate_right::<17, 15>()
        .xor3(x.rotate_right::<19, 13>(), x.shift_right::<10>())
}

/// One round; `$kw` is its constant plus its word. Instead of moving the eight words on
/// by one, the caller names them one further for the next round: `h` takes the place of
/// `a`, `a` that of `b`, and so on.
macro_rules! round {
    ($a:ident $b:ident $c:ident $d:ident $e:ident $f:ident $g:ident $h:ident, $kw:expr) => {
        let t1 = $h.add($kw).add($e.ch($f, $g)).add(big_sigma1_of($e));
        $d = $d.add(t1);
        $h = t1.add($a.maj($b, $c)).add(big_sigma0_of($a));
    };
}

/// Eight rounds from round `$i` on, after which the words have their names again. The
/// macro `$kw` maps a round to its constant plus its word.
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
pub(super) use {eight_rounds, round};
