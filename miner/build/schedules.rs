//! The message schedules of a step of the kernel in `src/kernel/sha_avx512.rs`, in vectors
//! of sixteen nonces: those of the second hash, from the digests of the first; and, if new
//! nonces come next, those of their first hash.

use crate::code::{Constants, VectorCode, everywhere};
use crate::rounds::{ABEF, CDGH, JOB_REST, WORDS};
use crate::sha256::{K, digest_padding, sigma0, sigma1};

/// The message that a schedule is made of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum MessageKind {
    /// The second block of a header.
    Header,
    /// A digest, with its padding.
    Digest,
}

/// Where the value of a word comes from.
enum Word {
    /// The word is a constant.
    Known(u32),
    /// The word is the same for all nonces of a job. The job's sums contain it already.
    OfJob,
    /// The word is in its register.
    Register,
    /// The word is in memory, at this operand.
    Memory(String),
}

/// Code that makes schedules. Registers 16 to 23 hold the newest eight words, word i in
/// 16 + i mod 8. Registers 24 and 25 hold words that were read from memory, and 26 to 31
/// are free.
pub(crate) struct Schedules<'a> {
    code: VectorCode,
    constants: &'a mut Constants,
}

impl<'a> Schedules<'a> {
    pub(crate) fn new(constants: &'a mut Constants) -> Self {
        Self {
            code: VectorCode::default(),
            constants,
        }
    }

    pub(crate) fn finish(self) -> Vec<String> {
        self.code.into_lines()
    }

    /// Makes the sums of the digests that `{second}` holds.
    pub(crate) fn of_digests(&mut self) {
        for (offset, words) in [(ABEF, [5, 4, 1, 0]), (CDGH, [7, 6, 3, 2])] {
            self.transpose(offset, words);
        }
        for word in 0..8 {
            let place = ring(word);
            self.code.add(place, &everywhere("midstate", 4 * word));
            if word % 2 == 1 {
                self.hand_over("second", word);
            }
        }
        for word in 16..=60 {
            self.expand(MessageKind::Digest, word);
            if word % 2 == 1 || word == 60 {
                self.hand_over("second", word);
            }
        }
    }

    /// Makes the sums of the headers with the nonces in `{next}`.
    pub(crate) fn of_headers(&mut self) {
        for word in 18..64 {
            self.expand(MessageKind::Header, word);
            if word % 2 == 1 {
                self.hand_over("next", word);
            }
        }
    }

    /// Reads four words of sixteen nonces, which lie nonce by nonce, into four vectors.
    fn transpose(&mut self, offset: usize, words: [usize; 4]) {
        for lane in 0..4 {
            let from = offset + 64 * lane;
            let to = 24 + lane;
            self.code.line(format!(
                "vmovdqa64 zmm{to}, zmmword ptr [{{second}} + {from}]"
            ));
        }
        for (to, half, from) in [(28, 'l', 24), (29, 'h', 24), (30, 'l', 26), (31, 'h', 26)] {
            let next = from + 1;
            self.code
                .line(format!("vpunpck{half}dq zmm{to}, zmm{from}, zmm{next}"));
        }
        for (at, word) in words.into_iter().enumerate() {
            let half = if at % 2 == 0 { 'l' } else { 'h' };
            let (to, from) = (ring(word), 28 + at / 2);
            let other = from + 2;
            self.code
                .line(format!("vpunpck{half}qdq zmm{to}, zmm{from}, zmm{other}"));
        }
    }

    /// Writes the sums of two rounds, `word` and the other one of its pair, to where the
    /// SHA instructions read them. The sum of round 61 is not needed.
    fn hand_over(&mut self, to: &str, word: usize) {
        let even = word & !1;
        for (sum, word) in [(26, even), (27, word)] {
            let constant = self.constants.everywhere(K[word]);
            let from = ring(word);
            self.code
                .line(format!("vpaddd zmm{sum}, zmm{from}, {constant}"));
        }
        for (at, half) in ['l', 'h'].into_iter().enumerate() {
            let result = 28 + at;
            let offset = 64 * (even + at);
            self.code
                .line(format!("vpunpck{half}dq zmm{result}, zmm26, zmm27"));
            self.code.line(format!(
                "vmovdqa64 zmmword ptr [{{{to}}} + {offset}], zmm{result}"
            ));
        }
    }

    /// Computes word `i`: σ1(i − 2) + word(i − 7) + σ0(i − 15) + word(i − 16).
    fn expand(&mut self, message: MessageKind, i: usize) {
        let mut known = 0u32;
        let mut operands = Vec::new();
        // Word i − 15 stays in its register, because the next word needs it as i − 16.
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
                self.code.line(format!("vmovdqa64 zmm{at}, {place}"));
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
        if message == MessageKind::Header && i < 34 && !matches!(i, 21 | 25..=29) {
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
        self.code.sum(ring(i), operands);
        // Word 48 is the last that a later word, 63, needs as i − 15.
        if i <= 48 {
            self.code
                .line(format!("vmovdqa64 {}, zmm{}", memory(i), ring(i)));
        }
    }

    /// Puts the exclusive or of three shifted words into the register `to`. The next two
    /// registers are overwritten.
    fn three(&mut self, to: usize, from: usize, shifts: [(&str, u32); 3]) {
        for (register, (shift, bits)) in (to..).zip(shifts) {
            self.code
                .line(format!("{shift} zmm{register}, zmm{from}, {bits}"));
        }
        // One vpternlogd would do the same. On Zen 4 it takes half a cycle of the SHA
        // unit's pipe, and two vpxord take none.
        for other in [to + 1, to + 2] {
            self.code
                .line(format!("vpxord zmm{to}, zmm{to}, zmm{other}"));
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

/// Where the value of word `j` comes from while word `i` is computed.
fn word(message: MessageKind, i: usize, j: usize) -> Word {
    match (message, j) {
        (MessageKind::Header, 3) => Word::Memory(format!("zmmword ptr [{{next}} + {WORDS}]")),
        (MessageKind::Header, ..18) => Word::OfJob,
        // The digest's words are still in their registers.
        (MessageKind::Digest, ..8) => Word::Register,
        (MessageKind::Digest, ..16) => Word::Known(digest_padding(j)),
        _ if i - j < 8 => Word::Register,
        _ => Word::Memory(memory(j)),
    }
}
