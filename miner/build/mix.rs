//! Half a step of `src/kernel/mix.rs`: vectors of whole hashes, and beside them
//! rounds by the SHA instructions.

use crate::sha256::{IV, K, big_sigma0, big_sigma1, ch, maj, sigma0, sigma1};
use crate::{Constants, DIGEST_BITS, PADDING, everywhere};

/// Offsets in what `{sha}` points to, bytes; the same as of `Lanes` there.
const KW1: usize = 0;
const KW2: usize = 4_096;
const NONCES: usize = 8_192;
const ABEF: usize = 8_448;
const CDGH: usize = 8_704;
const LAST: usize = 8_960;

/// Offsets in what `{version}` points to; the same as of `Version` there.
const AFTER_FOUR: usize = 0;
const MIDSTATE: usize = 32;
const PACKED_AFTER_FOUR: usize = 64;

/// Sixteen words in memory.
fn sixteen(base: &str, index: usize) -> String {
    format!("zmmword ptr [{{{base}}} + {}]", 64 * index)
}

/// Both hashes of sixteen nonces. Registers 16 to 31 only: on Intel's
/// processors, code that writes the upper parts of the lower ones makes every
/// SHA instruction, which knows nothing of them, wait for their contents.
pub(crate) fn vector_stream(constants: &mut Constants) -> Vec<String> {
    let mut code = Vector::default();
    for (index, register) in code.state.into_iter().enumerate() {
        let from = AFTER_FOUR + 4 * index;
        code.line(format!(
            "vpbroadcastd zmm{register}, dword ptr [{{version}} + {from}]"
        ));
    }
    let [a, _, _, _, e, ..] = code.state;
    // Place 0 of the sums holds the nonces: rounds 0 to 3 are done.
    code.add(a, &sixteen("kw", 0));
    code.add(e, &sixteen("kw", 0));
    for round in 4..64 {
        code.add(code.state[7], &sixteen("kw", round));
        code.round();
    }
    for (index, register) in code.state.into_iter().enumerate() {
        code.add(register, &everywhere("version", MIDSTATE + 4 * index));
        code.line(format!("vmovdqa64 {}, zmm{register}", sixteen("w", index)));
    }

    // The second hash, up to `e` after round 60.
    let t1 = IV[7]
        .wrapping_add(big_sigma1(IV[4]))
        .wrapping_add(ch(IV[4], IV[5], IV[6]))
        .wrapping_add(K[0]);
    let t2 = big_sigma0(IV[0]).wrapping_add(maj(IV[0], IV[1], IV[2]));
    let [a, b, c, d, e, f, _, h] = code.state;
    for (register, value) in [(a, IV[0]), (b, IV[1]), (c, IV[2]), (e, IV[4]), (f, IV[5])] {
        code.load_everywhere(register, constants.offset(value));
    }
    for (register, known) in [(d, IV[3].wrapping_add(t1)), (h, t1.wrapping_add(t2))] {
        code.line(format!("vmovdqa64 zmm{register}, {}", sixteen("w", 0)));
        code.add(register, &constants.everywhere(known));
    }
    code.state.rotate_right(1);
    for round in 1..=60 {
        let h = code.state[7];
        match round {
            1..4 => {
                let known = IV[7 - round].wrapping_add(K[round]);
                code.load_everywhere(h, constants.offset(known));
                code.add(h, &sixteen("w", round));
            }
            4..8 => {
                code.add(h, &sixteen("w", round));
                code.add(h, &constants.everywhere(K[round]));
            }
            8..16 => {
                let word = match round {
                    8 => PADDING,
                    15 => DIGEST_BITS,
                    _ => 0,
                };
                code.add(h, &constants.everywhere(K[round].wrapping_add(word)));
            }
            _ => {
                let word = code.expand(round, constants);
                code.add(h, &constants.everywhere(K[round]));
                code.add(h, &format!("zmm{word}"));
            }
        }
        if round <= 56 {
            code.round();
        } else {
            code.round_of_e();
        }
    }
    // What was e came to be f, g, … with the rounds: now it is a's neighbour.
    let e = code.state[4];
    code.add(e, &constants.everywhere(IV[7]));
    code.line(format!("vmovdqa64 {}, zmm{e}", sixteen("w", 0)));
    code.lines
}

/// Code on vectors: the state is in registers 16 to 23, 24 to 31 are free.
struct Vector {
    lines: Vec<String>,
    /// The registers of a to h.
    state: [usize; 8],
}

impl Default for Vector {
    fn default() -> Self {
        Self {
            lines: Vec::new(),
            state: [16, 17, 18, 19, 20, 21, 22, 23],
        }
    }
}

impl Vector {
    fn line(&mut self, line: String) {
        self.lines.push(line);
    }

    fn add(&mut self, register: usize, operand: &str) {
        self.line(format!("vpaddd zmm{register}, zmm{register}, {operand}"));
    }

    fn load_everywhere(&mut self, register: usize, offset: usize) {
        self.line(format!(
            "vpbroadcastd zmm{register}, dword ptr [{{k}} + {offset}]"
        ));
    }

    /// The exclusive or of three shifted words, in the register `to` and with
    /// the next two at hand.
    fn three(&mut self, to: usize, operand: &str, shifts: [(&str, u32); 3]) {
        for (register, (shift, bits)) in (to..).zip(shifts) {
            self.line(format!("{shift} zmm{register}, {operand}, {bits}"));
        }
        self.line(format!(
            "vpternlogd zmm{to}, zmm{}, zmm{}, 0x96",
            to + 1,
            to + 2
        ));
    }

    /// A function of three words that keeps all of them.
    fn choose(&mut self, to: usize, [x, y, z]: [usize; 3], table: u32) {
        self.line(format!("vmovdqa64 zmm{to}, zmm{x}"));
        self.line(format!("vpternlogd zmm{to}, zmm{y}, zmm{z}, {table}"));
    }

    /// What a round does to `d`; `h` has the constant and the word in it.
    fn first_half(&mut self) {
        let [_, _, _, d, e, f, g, h] = self.state;
        self.three(
            24,
            &format!("zmm{e}"),
            [("vprord", 6), ("vprord", 11), ("vprord", 25)],
        );
        self.choose(27, [e, f, g], 0xca);
        self.add(h, "zmm27");
        self.add(h, "zmm24");
        self.add(d, &format!("zmm{h}"));
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
        self.add(h, "zmm27");
        self.add(h, "zmm24");
        self.state.rotate_right(1);
    }

    /// One round of which only `e` is of use later.
    fn round_of_e(&mut self) {
        self.first_half();
        self.state.rotate_right(1);
    }

    /// Word `i` of the second hash's schedule: to memory, and into the register
    /// of its turn, where word `i - 2` was.
    fn expand(&mut self, i: usize, constants: &mut Constants) -> usize {
        let mut known = 0u32;
        let mut operands = Vec::new();
        // What a word before adds: it is one of the padding's if it is 8 to 15.
        let padding = |word: usize| match word {
            8 => PADDING,
            15 => DIGEST_BITS,
            _ => 0,
        };
        let is_padding = |word: usize| (8..16).contains(&word);
        let turn = 30 + i % 2;
        // The word that comes last to be ready is added last.
        if is_padding(i - 15) {
            known = known.wrapping_add(sigma0(padding(i - 15)));
        } else {
            self.line(format!("vmovdqa64 zmm24, {}", sixteen("w", (i - 15) % 16)));
            self.three(25, "zmm24", [("vprord", 7), ("vprord", 18), ("vpsrld", 3)]);
            operands.push("zmm25".to_owned());
        }
        for word in [i - 16, i - 7] {
            if is_padding(word) {
                known = known.wrapping_add(padding(word));
            } else {
                operands.push(sixteen("w", word % 16));
            }
        }
        if is_padding(i - 2) {
            known = known.wrapping_add(sigma1(padding(i - 2)));
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
        // The first is in a register, if there are two.
        let at = operands
            .iter()
            .position(|one| !one.contains("ptr"))
            .unwrap_or(0);
        let first = operands.remove(at);
        match operands.split_first() {
            Some((second, rest)) => {
                self.line(format!("vpaddd zmm{turn}, {first}, {second}"));
                for operand in rest {
                    self.add(turn, operand);
                }
            }
            None => self.line(format!("vmovdqa64 zmm{turn}, {first}")),
        }
        self.line(format!("vmovdqa64 {}, zmm{turn}", sixteen("w", i % 16)));
        turn
    }
}

/// The first hash of eight nonces, and the second hash of eight others, four at
/// a time: one after the other would wait for its own results.
pub(crate) fn sha_stream(constants: &mut Constants) -> Vec<String> {
    let mut lines = Vec::new();
    let initial = constants.offset(IV[5]);
    assert_eq!(initial, 0, "the initial value comes first");
    for four in 0..2 {
        let place = |offset: usize, lane: usize| {
            format!("xmmword ptr [{{sha}} + {}]", offset + 64 * lane + 16 * four)
        };
        // After an even number of steps ABEF is in the first register.
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
            // An odd number of steps.
            let (_, abef) = registers(lane);
            lines.push(format!("movdqa {}, xmm{abef}", place(LAST, lane)));
        }
    }
    lines
}

/// Two rounds of four nonces. The sums of four rounds of a nonce are side by
/// side, those of the next four 256 bytes on.
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
