//! The rounds of a step of the kernel in `src/kernel/sha_avx512.rs`: the first hash of
//! sixteen nonces and the second hash of sixteen others, by the SHA instructions.

use crate::sha256::{IV, K, abef_cdgh, digest_padding};

/// Offset of the nonces themselves in `Nonces`, in bytes. The sums come before them.
/// `src/kernel/sha_avx512.rs` asserts this offset and those below.
pub(crate) const WORDS: usize = 4_096;
/// Offsets in `ShaLanes`: the sums come first, then the two halves of the state after the
/// first hash, then the last words.
pub(crate) const ABEF: usize = 4_096;
pub(crate) const CDGH: usize = 4_352;
const LAST: usize = 4_608;
/// Offsets in `JobWords`: the sums of rounds 0 to 17, then the parts of words 18 to 33
/// that do not depend on the nonce.
const JOB_SUMS: usize = 0;
pub(crate) const JOB_REST: usize = 72;

/// How many hashes go through the SHA instructions together; 32 in all.
///
/// On Zen 4 a pair of rounds takes four cycles, and one may begin in every cycle. More
/// than four hashes together hide the other delays of the unit. There are registers for
/// seven.
const TOGETHER: [usize; 5] = [7, 6, 6, 7, 6];

/// The operand with a nonce's sums of two rounds. One vector holds those of lanes 0 and 1
/// of every four, the next vector those of lanes 2 and 3: the unpack instructions leave
/// them in this order.
fn sums(base: &str, round: usize, lane: usize) -> String {
    let (group, place) = (lane / 4, lane % 4);
    let offset = 64 * round + 64 * (place / 2) + 16 * group + 8 * (place % 2);
    format!("qword ptr [{{{base}}} + {offset}]")
}

/// One hash of one nonce by the SHA instructions.
enum NonceHash {
    /// The hash of the header, from round 4 on.
    First { lane: usize },
    /// The hash of the digest, up to round 61.
    Second { lane: usize },
}

impl NonceHash {
    /// Loads the state before the first round.
    fn begin(&self, lines: &mut Vec<String>, [abef, cdgh]: [usize; 2]) {
        match self {
            Self::First { lane } => {
                let nonce = WORDS + 4 * lane;
                lines.push(format!("movd xmm{abef}, dword ptr [{{now}} + {nonce}]"));
                // The nonce goes to the places of E and A, zero to the other two.
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

    /// The first round of each pair.
    fn rounds(&self) -> std::iter::StepBy<std::ops::Range<usize>> {
        match self {
            Self::First { .. } => (4..64).step_by(2),
            Self::Second { .. } => (0..62).step_by(2),
        }
    }

    /// The operand with the sums of a round and the next one.
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

    /// Stores the state after the last round.
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
            // After an odd number of steps, ABEF is in the register that CDGH was in. F is
            // the value that E had a round before.
            Self::Second { lane } => lines.push(format!(
                "movd dword ptr [{{third}} + {}], xmm{cdgh}",
                LAST + 4 * lane
            )),
        }
    }
}

/// The first hash of sixteen nonces and the second hash of sixteen others.
pub(crate) fn sha_stream() -> Vec<String> {
    let mut lines = Vec::new();
    // The first hashes come first. The next step reads their results, which have reached
    // the cache by then.
    let first = (0..16).map(|lane| NonceHash::First { lane });
    let mut hashes = first.chain((0..16).map(|lane| NonceHash::Second { lane }));
    for together in TOGETHER {
        let hashes: Vec<NonceHash> = hashes.by_ref().take(together).collect();
        let registers = |at: usize| [1 + 2 * at, 2 + 2 * at];
        for (at, hash) in hashes.iter().enumerate() {
            hash.begin(&mut lines, registers(at));
        }
        for step in 0..31 {
            for (at, hash) in hashes.iter().enumerate() {
                let Some(round) = hash.rounds().nth(step) else {
                    continue;
                };
                let [one, other] = registers(at);
                let (to, by) = if step % 2 == 0 {
                    (other, one)
                } else {
                    (one, other)
                };
                lines.push(format!("movq xmm0, {}", hash.sums(round)));
                lines.push(format!("sha256rnds2 xmm{to}, xmm{by}, xmm0"));
            }
        }
        for (at, hash) in hashes.iter().enumerate() {
            hash.end(&mut lines, registers(at));
        }
    }
    lines
}

/// The sums of rounds 8 to 15 of every second hash, whose words are padding.
pub(crate) fn padding_sums() -> [u32; 8] {
    std::array::from_fn(|at| K[8 + at].wrapping_add(digest_padding(8 + at)))
}

/// The initial value in the order of the SHA instructions.
pub(crate) fn initial() -> [u32; 8] {
    abef_cdgh(IV)
}
