//! The schedules of a step of `src/kernel/sha_avx512.rs`, in vectors of sixteen
//! nonces: those of the second hash, made from the first one's result, and, where
//! new nonces come next, those of their first hash.

use crate::rounds::{ABEF, CDGH, JOB_REST, WORDS};
use crate::sha256::{K, sigma0, sigma1};
use crate::{Constants, DIGEST_BITS, PADDING, everywhere};

/// Which message is expanded.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Message {
    /// The second block of a header.
    Header,
    /// A digest.
    Digest,
}

/// What a word of the message is.
enum Word {
    /// The same whatever the header.
    Known(u32),
    /// The same for all nonces of a job; it is in the job's sums already.
    OfJob,
    /// In its register of the eight.
    Register,
    /// In memory.
    Memory(String),
}

/// Code on vectors. Registers 16 to 23 hold the last eight words of the
/// schedule, word i in 16 + i mod 8; 24 and 25 those that were read from memory;
/// 26 to 31 are free.
pub(crate) struct Schedules<'a> {
    lines: Vec<String>,
    constants: &'a mut Constants,
}

impl<'a> Schedules<'a> {
    pub(crate) fn new(constants: &'a mut Constants) -> Self {
        Self {
            lines: Vec::new(),
            constants,
        }
    }

    pub(crate) fn finish(self) -> Vec<String> {
        self.lines
    }

    fn line(&mut self, line: String) {
        self.lines.push(line);
    }

    fn add(&mut self, register: usize, operand: &str) {
        self.line(format!("vpaddd zmm{register}, zmm{register}, {operand}"));
    }

    /// Sums of the digests that `second` holds.
    pub(crate) fn of_digests(&mut self) {
        for (offset, words) in [(ABEF, [5, 4, 1, 0]), (CDGH, [7, 6, 3, 2])] {
            self.transpose(offset, words);
        }
        for word in 0..8 {
            let place = ring(word);
            self.add(place, &everywhere("midstate", 4 * word));
            if word % 2 == 1 {
                self.hand_over("second", word);
            }
        }
        for word in 16..=60 {
            self.expand(Message::Digest, word);
            if word % 2 == 1 || word == 60 {
                self.hand_over("second", word);
            }
        }
    }

    /// Sums of the headers of the nonces in `next`.
    pub(crate) fn of_headers(&mut self) {
        for word in 18..64 {
            self.expand(Message::Header, word);
            if word % 2 == 1 {
                self.hand_over("next", word);
            }
        }
    }

    /// Four words of sixteen nonces, which lie nonce by nonce, as four vectors.
    fn transpose(&mut self, offset: usize, words: [usize; 4]) {
        for lane in 0..4 {
            let from = offset + 64 * lane;
            let to = 24 + lane;
            self.line(format!(
                "vmovdqa64 zmm{to}, zmmword ptr [{{second}} + {from}]"
            ));
        }
        for (to, half, from) in [(28, 'l', 24), (29, 'h', 24), (30, 'l', 26), (31, 'h', 26)] {
            let next = from + 1;
            self.line(format!("vpunpck{half}dq zmm{to}, zmm{from}, zmm{next}"));
        }
        for (at, word) in words.into_iter().enumerate() {
            let half = if at % 2 == 0 { 'l' } else { 'h' };
            let (to, from) = (ring(word), 28 + at / 2);
            let other = from + 2;
            self.line(format!("vpunpck{half}qdq zmm{to}, zmm{from}, zmm{other}"));
        }
    }

    /// A word and the one before, plus their constants, to where the SHA
    /// instructions read them. After word 60 nothing is of use.
    fn hand_over(&mut self, to: &str, word: usize) {
        let even = word & !1;
        for (sum, word) in [(26, even), (27, word)] {
            let constant = self.constants.everywhere(K[word]);
            let from = ring(word);
            self.line(format!("vpaddd zmm{sum}, zmm{from}, {constant}"));
        }
        for (at, half) in ['l', 'h'].into_iter().enumerate() {
            let result = 28 + at;
            let offset = 64 * (even + at);
            self.line(format!("vpunpck{half}dq zmm{result}, zmm26, zmm27"));
            self.line(format!(
                "vmovdqa64 zmmword ptr [{{{to}}} + {offset}], zmm{result}"
            ));
        }
    }

    /// Word `i` of a schedule: σ1(i − 2) + word(i − 7) + σ0(i − 15) + word(i − 16).
    fn expand(&mut self, message: Message, i: usize) {
        let mut known = 0u32;
        let mut operands = Vec::new();
        // Word i − 15 is i − 16 the next time.
        match word(message, i, i - 15) {
            Word::Known(word) => known = known.wrapping_add(sigma0(word)),
            Word::OfJob => {}
            Word::Register => {
                self.three(
                    26,
                    ring(i - 15),
                    [("vprord", 7), ("vprord", 18), ("vpsrld", 3)],
                );
                operands.push("zmm26".to_owned());
            }
            Word::Memory(place) => {
                let at = 24 + i % 2;
                self.line(format!("vmovdqa64 zmm{at}, {place}"));
                self.three(26, at, [("vprord", 7), ("vprord", 18), ("vpsrld", 3)]);
                operands.push("zmm26".to_owned());
            }
        }
        match word(message, i, i - 16) {
            Word::Known(word) => known = known.wrapping_add(word),
            Word::OfJob => {}
            Word::Register => operands.push(format!("zmm{}", ring(i - 16))),
            Word::Memory(_) => operands.push(format!("zmm{}", 24 + (i - 1) % 2)),
        }
        match word(message, i, i - 7) {
            Word::Known(word) => known = known.wrapping_add(word),
            Word::OfJob => {}
            Word::Register | Word::Memory(_) => operands.push(format!("zmm{}", ring(i - 7))),
        }
        if message == Message::Header && i < 34 && !matches!(i, 21 | 25..=29) {
            operands.push(everywhere("job", JOB_REST + 4 * (i - 18)));
        }
        match word(message, i, i - 2) {
            Word::Known(word) => known = known.wrapping_add(sigma1(word)),
            Word::OfJob => {}
            Word::Register | Word::Memory(_) => {
                self.three(
                    29,
                    ring(i - 2),
                    [("vprord", 17), ("vprord", 19), ("vpsrld", 10)],
                );
                operands.push("zmm29".to_owned());
            }
        }
        if known != 0 {
            operands.push(self.constants.everywhere(known));
        }
        self.sum(ring(i), operands);
        // The last that is read again as i − 15.
        if i <= 48 {
            self.line(format!("vmovdqa64 {}, zmm{}", memory(i), ring(i)));
        }
    }

    fn sum(&mut self, to: usize, mut operands: Vec<String>) {
        let at = operands.iter().position(|one| !one.contains("ptr"));
        let first = operands.remove(at.unwrap_or(0));
        match operands.split_first() {
            Some((second, rest)) => {
                self.line(format!("vpaddd zmm{to}, {first}, {second}"));
                for operand in rest {
                    self.add(to, operand);
                }
            }
            None => self.line(format!("vmovdqa64 zmm{to}, {first}")),
        }
    }

    /// The exclusive or of three shifted words, in the register `to` and with
    /// the next two at hand.
    fn three(&mut self, to: usize, from: usize, shifts: [(&str, u32); 3]) {
        for (register, (shift, bits)) in (to..).zip(shifts) {
            self.line(format!("{shift} zmm{register}, zmm{from}, {bits}"));
        }
        // Not one vpternlogd: on Zen 4 it takes half a cycle of the SHA unit's
        // pipe, and these none.
        for other in [to + 1, to + 2] {
            self.line(format!("vpxord zmm{to}, zmm{to}, zmm{other}"));
        }
    }
}

/// The register of a word.
fn ring(word: usize) -> usize {
    16 + word % 8
}

/// The place of a word in memory.
fn memory(word: usize) -> String {
    format!("zmmword ptr [{{w}} + {}]", 64 * (word % 16))
}

/// What word `j` is while word `i` is computed.
fn word(message: Message, i: usize, j: usize) -> Word {
    match (message, j) {
        (Message::Header, 3) => Word::Memory(format!("zmmword ptr [{{next}} + {WORDS}]")),
        (Message::Header, ..18) => Word::OfJob,
        // Nothing has taken the registers of the digest's words yet.
        (Message::Digest, ..8) => Word::Register,
        (Message::Digest, 8) => Word::Known(PADDING),
        (Message::Digest, 15) => Word::Known(DIGEST_BITS),
        (Message::Digest, ..15) => Word::Known(0),
        _ if i - j < 8 => Word::Register,
        _ => Word::Memory(memory(j)),
    }
}
