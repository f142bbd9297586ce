//! The rounds of a step of `src/kernel/sha_avx512.rs`: the first hash of sixteen
//! nonces and the second of sixteen others by the SHA instructions.

use crate::sha256::{IV, K};
use crate::{DIGEST_BITS, PADDING};

/// Offsets in memory, bytes, which `src/kernel/sha_avx512.rs` asserts. In
/// `Nonces` the sums of rounds come first, then the nonces themselves.
pub(crate) const WORDS: usize = 4_096;
/// In `Lanes` the sums come first, then the state after the first hash, in two
/// halves, and the last words.
pub(crate) const ABEF: usize = 4_096;
pub(crate) const CDGH: usize = 4_352;
const LAST: usize = 4_608;
/// In `JobWords`: sums of rounds 0 to 17, what words 18 to 33 have besides those
/// with the nonce in them.
const JOB_SUMS: usize = 0;
pub(crate) const JOB_REST: usize = 72;

/// Hashes that go through the SHA instructions together, 32 in all. On Zen 4 a
/// pair of rounds takes four cycles and one may begin every cycle: more than four
/// together hide what else the unit waits for, and there are registers for seven.
const TOGETHER: [usize; 5] = [7, 6, 6, 7, 6];

/// Where the sums of two rounds of a nonce are: a vector holds those of lanes 0
/// and 1 of every four, the next those of lanes 2 and 3, just as unpacking
/// leaves them.
fn sums(base: &str, round: usize, lane: usize) -> String {
    let (group, place) = (lane / 4, lane % 4);
    let offset = 64 * round + 64 * (place / 2) + 16 * group + 8 * (place % 2);
    format!("qword ptr [{{{base}}} + {offset}]")
}

/// A hash of one nonce by the SHA instructions.
enum Chain {
    /// Of the header, from round 4 on.
    First { lane: usize },
    /// Of the digest, up to round 61.
    Second { lane: usize },
}

impl Chain {
    fn begin(&self, lines: &mut Vec<String>, [abef, cdgh]: [usize; 2]) {
        match self {
            Self::First { lane } => {
                let nonce = WORDS + 4 * lane;
                lines.push(format!("movd xmm{abef}, dword ptr [{{now}} + {nonce}]"));
                // The nonce at the places of E and A, zero at the others.
                lines.push(format!("pshufd xmm{abef}, xmm{abef}, 0x11"));
                lines.push(format!("paddd xmm{abef}, xmmword ptr [{{version}}]"));
                lines.push(format!("movdqa xmm{cdgh}, xmmword ptr [{{version}} + 16]"));
            }
            Self::Second { .. } => {
                lines.push(format!("movdqa xmm{abef}, xmmword ptr [{{k}}]"));
                lines.push(format!("movdqa xmm{cdgh}, xmmword ptr [{{k}} + 16]"));
            }
        }
    }

    fn rounds(&self) -> std::iter::StepBy<std::ops::Range<usize>> {
        match self {
            Self::First { .. } => (4..64).step_by(2),
            Self::Second { .. } => (0..62).step_by(2),
        }
    }

    /// The sums of a round and the next.
    fn sums(&self, round: usize) -> String {
        match (self, round) {
            (Self::First { .. }, ..18) => {
                format!("qword ptr [{{job}} + {}]", JOB_SUMS + 4 * round)
            }
            (Self::First { lane }, _) => sums("now", round, *lane),
            (Self::Second { .. }, 8..16) => {
                format!("qword ptr [{{k}} + {}]", 4 * round)
            }
            (Self::Second { lane }, _) => sums("third", round, *lane),
        }
    }

    fn end(&self, lines: &mut Vec<String>, [abef, cdgh]: [usize; 2]) {
        match self {
            Self::First { lane } => {
                let place = 64 * (lane % 4) + 16 * (lane / 4);
                for (offset, register) in [(ABEF, abef), (CDGH, cdgh)] {
                    let offset = offset + place;
                    lines.push(format!(
                        "movdqa xmmword ptr [{{first}} + {offset}], xmm{register}"
                    ));
                }
            }
            // An odd number of steps: ABEF is where CDGH was. F is what e was a
            // round before.
            Self::Second { lane } => lines.push(format!(
                "movd dword ptr [{{third}} + {}], xmm{cdgh}",
                LAST + 4 * lane
            )),
        }
    }
}

/// The first hash of sixteen nonces and the second of sixteen others.
pub(crate) fn sha_stream() -> Vec<String> {
    let mut lines = Vec::new();
    // First hashes first: the next step then finds them in the cache, not on
    // their way there.
    let first = (0..16).map(|lane| Chain::First { lane });
    let mut chains = first.chain((0..16).map(|lane| Chain::Second { lane }));
    for together in TOGETHER {
        let chains: Vec<Chain> = chains.by_ref().take(together).collect();
        let registers = |at: usize| [1 + 2 * at, 2 + 2 * at];
        for (at, chain) in chains.iter().enumerate() {
            chain.begin(&mut lines, registers(at));
        }
        for step in 0..31 {
            for (at, chain) in chains.iter().enumerate() {
                let Some(round) = chain.rounds().nth(step) else {
                    continue;
                };
                let [one, other] = registers(at);
                let (to, by) = if step % 2 == 0 {
                    (other, one)
                } else {
                    (one, other)
                };
                lines.push(format!("movq xmm0, {}", chain.sums(round)));
                lines.push(format!("sha256rnds2 xmm{to}, xmm{by}, xmm0"));
            }
        }
        for (at, chain) in chains.iter().enumerate() {
            chain.end(&mut lines, registers(at));
        }
    }
    lines
}

/// The constants that rounds 8 to 15 of the second hash add: the padding is the
/// same for all.
pub(crate) fn padding_sums() -> [u32; 8] {
    std::array::from_fn(|at| {
        K[8 + at].wrapping_add(match at {
            0 => PADDING,
            7 => DIGEST_BITS,
            _ => 0,
        })
    })
}

/// The initial value as the SHA instructions want it.
pub(crate) fn initial() -> [u32; 8] {
    let [a, b, c, d, e, f, g, h] = IV;
    [f, e, b, a, h, g, d, c]
}
