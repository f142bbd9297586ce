//! Half a step of the kernel in `src/kernel/mix.rs`: whole hashes in vectors, and rounds
//! by the SHA instructions.

use crate::code::{Constants, VectorCode, everywhere};
use crate::sha256::{IV, K, big_sigma0, big_sigma1, ch, digest_padding, maj, sigma0, sigma1};

/// Offsets of the fields of `ShaLanes`, in bytes. The operand `{sha}` points to it.
const KW1: usize = 0;
const KW2: usize = 4_096;
const NONCES: usize = 8_192;
const ABEF: usize = 8_448;
const CDGH: usize = 8_704;
const LAST: usize = 8_960;

/// Offsets of the fields of `VersionState`, in bytes. The operand `{version}` points to
/// it.
const AFTER_FOUR: usize = 0;
const MIDSTATE: usize = 32;
const PACKED_AFTER_FOUR: usize = 64;

/// An operand of sixteen words in memory.
fn sixteen(base: &str, index: usize) -> String {
    format!("zmmword ptr [{{{base}}} + {}]", 64 * index)
}

/// Both hashes of sixteen nonces.
///
/// The code uses registers 16 to 31 only. On Intel's processors, code that writes the
/// upper parts of registers 0 to 15 slows every SHA instruction down: the instruction
/// knows nothing of those parts and waits for their contents.
pub(crate) fn vector_stream(constants: &mut Constants) -> Vec<String> {
    let mut hash = VectorHash::default();
    hash.first();
    hash.second(constants);
    hash.code.into_lines()
}

/// Hashes in vectors. Registers 16 to 23 hold the state, and 24 to 31 are free.
struct VectorHash {
    code: VectorCode,
    /// The registers of the words a to h. They change roles with every round.
    state: [usize; 8],
}

impl Default for VectorHash {
    fn default() -> Self {
        Self {
            code: VectorCode::default(),
            state: [16, 17, 18, 19, 20, 21, 22, 23],
        }
    }
}

impl VectorHash {
    /// The first hash. Its digest goes to the first eight places of `{w}`.
    fn first(&mut self) {
        for (index, register) in self.state.into_iter().enumerate() {
            let from = AFTER_FOUR + 4 * index;
            self.code.line(format!(
                "vpbroadcastd zmm{register}, dword ptr [{{version}} + {from}]"
            ));
        }
        let [a, _, _, _, e, ..] = self.state;
        // Place 0 of the sums holds the nonces, because rounds 0 to 3 are done already.
        self.code.add(a, &sixteen("kw", 0));
        self.code.add(e, &sixteen("kw", 0));
        for round in 4..64 {
            self.code.add(self.state[7], &sixteen("kw", round));
            self.round();
        }
        for (index, register) in self.state.into_iter().enumerate() {
            self.code
                .add(register, &everywhere("version", MIDSTATE + 4 * index));
            self.code
                .line(format!("vmovdqa64 {}, zmm{register}", sixteen("w", index)));
        }
    }

    /// The second hash, up to `e` after round 60. The digest's last word goes to place 0
    /// of `{w}`.
    fn second(&mut self, constants: &mut Constants) {
        self.second_round_0(constants);
        for round in 1..=60 {
            let h = self.state[7];
            match round {
                1..4 => {
                    let known = IV[7 - round].wrapping_add(K[round]);
                    self.load_everywhere(h, constants.offset(known));
                    self.code.add(h, &sixteen("w", round));
                }
                4..8 => {
                    self.code.add(h, &sixteen("w", round));
                    self.code.add(h, &constants.everywhere(K[round]));
                }
                8..16 => {
                    let known = K[round].wrapping_add(digest_padding(round));
                    self.code.add(h, &constants.everywhere(known));
                }
                _ => {
                    let word = self.expand(round, constants);
                    self.code.add(h, &constants.everywhere(K[round]));
                    self.code.add(h, &format!("zmm{word}"));
                }
            }
            if round <= 56 {
                self.round();
            } else {
                self.round_of_e();
            }
        }
        let e = self.state[4];
        self.code.add(e, &constants.everywhere(IV[7]));
        self.code
            .line(format!("vmovdqa64 {}, zmm{e}", sixteen("w", 0)));
    }

    /// Round 0 of the second hash starts from the initial value, so only its word is not
    /// known in advance.
    fn second_round_0(&mut self, constants: &mut Constants) {
        let t1 = IV[7]
            .wrapping_add(big_sigma1(IV[4]))
            .wrapping_add(ch(IV[4], IV[5], IV[6]))
            .wrapping_add(K[0]);
        let t2 = big_sigma0(IV[0]).wrapping_add(maj(IV[0], IV[1], IV[2]));
        let [a, b, c, d, e, f, _, h] = self.state;
        for (register, value) in [(a, IV[0]), (b, IV[1]), (c, IV[2]), (e, IV[4]), (f, IV[5])] {
            self.load_everywhere(register, constants.offset(value));
        }
        for (register, known) in [(d, IV[3].wrapping_add(t1)), (h, t1.wrapping_add(t2))] {
            self.code
                .line(format!("vmovdqa64 zmm{register}, {}", sixteen("w", 0)));
            self.code.add(register, &constants.everywhere(known));
        }
        self.state.rotate_right(1);
    }

    fn load_everywhere(&mut self, register: usize, offset: usize) {
        self.code.line(format!(
            "vpbroadcastd zmm{register}, dword ptr [{{k}} + {offset}]"
        ));
    }

    /// Puts the exclusive or of three shifted words into the register `to`. The next two
    /// registers are overwritten.
    fn three(&mut self, to: usize, operand: &str, shifts: [(&str, u32); 3]) {
        for (register, (shift, bits)) in (to..).zip(shifts) {
            self.code
                .line(format!("{shift} zmm{register}, {operand}, {bits}"));
        }
        self.code.line(format!(
            "vpternlogd zmm{to}, zmm{}, zmm{}, 0x96",
            to + 1,
            to + 2
        ));
    }

    /// Puts a function of three words into the register `to` and keeps the three words.
    fn choose(&mut self, to: usize, [x, y, z]: [usize; 3], table: u32) {
        self.code.line(format!("vmovdqa64 zmm{to}, zmm{x}"));
        self.code
            .line(format!("vpternlogd zmm{to}, zmm{y}, zmm{z}, {table}"));
    }

    /// The part of a round that changes `d`. The constant and the word are in `h` already.
    fn first_half(&mut self) {
        let [_, _, _, d, e, f, g, h] = self.state;
        self.three(
            24,
            &format!("zmm{e}"),
            [("vprord", 6), ("vprord", 11), ("vprord", 25)],
        );
        self.choose(27, [e, f, g], 0xca);
        self.code.add(h, "zmm27");
        self.code.add(h, "zmm24");
        self.code.add(d, &format!("zmm{h}"));
    }

    /// One round.
    fn round(&mut self) {
        self.first_half();
        let [a, b, c, _, _, _, _, h] = self.state;
        self.three(
            24,
            &format!("zmm{a}"),
            [("vprord", 2), ("vprord", 13), ("vprord", 22)],
        );
        self.choose(27, [a, b, c], 0xe8);
        self.code.add(h, "zmm27");
        self.code.add(h, "zmm24");
        self.state.rotate_right(1);
    }

    /// One round of which later rounds need only `e`.
    fn round_of_e(&mut self) {
        self.first_half();
        self.state.rotate_right(1);
    }

    /// Computes word `i` of the second hash's schedule, in memory and in the register that
    /// held word `i - 2`. Returns that register.
    fn expand(&mut self, i: usize, constants: &mut Constants) -> usize {
        let mut known = 0u32;
        let mut operands = Vec::new();
        let is_padding = |word: usize| (8..16).contains(&word);
        let turn = 30 + i % 2;
        if is_padding(i - 15) {
            known = known.wrapping_add(sigma0(digest_padding(i - 15)));
        } else {
            let from = sixteen("w", (i - 15) % 16);
            self.code.line(format!("vmovdqa64 zmm24, {from}"));
            self.three(25, "zmm24", [("vprord", 7), ("vprord", 18), ("vpsrld", 3)]);
            operands.push("zmm25".to_owned());
        }
        for word in [i - 16, i - 7] {
            if is_padding(word) {
                known = known.wrapping_add(digest_padding(word));
            } else {
                operands.push(sixteen("w", word % 16));
            }
        }
        // Word i - 2 is ready last, so its part is added last.
        if is_padding(i - 2) {
            known = known.wrapping_add(sigma1(digest_padding(i - 2)));
        } else {
            self.three(
                27,
                &format!("zmm{turn}"),
                [("vprord", 17), ("vprord", 19), ("vpsrld", 10)],
            );
            operands.push("zmm27".to_owned());
        }
        if known != 0 {
            operands.push(constants.everywhere(known));
        }
        self.code.sum(turn, operands);
        self.code
            .line(format!("vmovdqa64 {}, zmm{turn}", sixteen("w", i % 16)));
        turn
    }
}

/// The first hash of eight nonces and the second hash of eight others. Four nonces go
/// through together, because a single one would wait for its own results.
pub(crate) fn sha_stream(constants: &mut Constants) -> Vec<String> {
    let mut lines = Vec::new();
    let initial = constants.offset(IV[5]);
    assert_eq!(initial, 0, "the initial value comes first");
    for four in 0..2 {
        let place = |offset: usize, lane: usize| {
            format!("xmmword ptr [{{sha}} + {}]", offset + 64 * lane + 16 * four)
        };
        // ABEF is in the first register after an even number of steps, and in the second
        // after an odd number.
        let registers = |lane: usize| (1 + 2 * lane, 2 + 2 * lane);
        for lane in 0..4 {
            let (abef, cdgh) = registers(lane);
            let from = PACKED_AFTER_FOUR;
            lines.push(format!(
                "movdqa xmm{abef}, xmmword ptr [{{version}} + {from}]"
            ));
            lines.push(format!("paddd xmm{abef}, {}", place(NONCES, lane)));
            lines.push(format!(
                "movdqa xmm{cdgh}, xmmword ptr [{{version}} + {}]",
                from + 16
            ));
        }
        for pair in (4..64).step_by(2) {
            two_rounds(&mut lines, KW1 + 16 * four, pair);
        }
        for lane in 0..4 {
            let (abef, cdgh) = registers(lane);
            lines.push(format!("movdqa {}, xmm{abef}", place(ABEF, lane)));
            lines.push(format!("movdqa {}, xmm{cdgh}", place(CDGH, lane)));
        }

        for lane in 0..4 {
            let (abef, cdgh) = registers(lane);
            lines.push(format!("movdqa xmm{abef}, xmmword ptr [{{k}}]"));
            lines.push(format!("movdqa xmm{cdgh}, xmmword ptr [{{k}} + 16]"));
        }
        for pair in (0..62).step_by(2) {
            two_rounds(&mut lines, KW2 + 16 * four, pair);
        }
        for lane in 0..4 {
            // 31 steps are an odd number.
            let (_, abef) = registers(lane);
            lines.push(format!("movdqa {}, xmm{abef}", place(LAST, lane)));
        }
    }
    lines
}

/// Two rounds of four nonces. A nonce's sums of four rounds lie side by side; those of
/// the next four rounds are 256 bytes further.
fn two_rounds(lines: &mut Vec<String>, sums: usize, pair: usize) {
    for lane in 0..4 {
        let from = sums + 256 * (pair / 4) + 64 * lane + 4 * (pair % 4);
        lines.push(format!("movq xmm0, qword ptr [{{sha}} + {from}]"));
        let (one, other) = (1 + 2 * lane, 2 + 2 * lane);
        let (to, by) = if pair.is_multiple_of(4) {
            (other, one)
        } else {
            (one, other)
        };
        lines.push(format!("sha256rnds2 xmm{to}, xmm{by}, xmm0"));
    }
}
