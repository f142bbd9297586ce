//! Lines of assembly on vectors of sixteen words, and the constants that they read. This
//! file knows nothing of SHA-256.

use crate::rounds;

/// The constants that the code reads. The operand `{k}` points to them.
pub(crate) struct Constants(pub(crate) Vec<u32>);

impl Default for Constants {
    /// The initial value comes first, in the order of the SHA instructions, because they
    /// need it aligned. The constants of rounds 8 to 15 of every second hash come next.
    fn default() -> Self {
        Self([rounds::initial(), rounds::padding_sums()].concat())
    }
}

impl Constants {
    /// The offset of a constant in bytes. A new constant is added at the end.
    pub(crate) fn offset(&mut self, value: u32) -> usize {
        let known = self.0.iter().position(|one| *one == value);
        let index = known.unwrap_or_else(|| {
            self.0.push(value);
            self.0.len() - 1
        });
        4 * index
    }

    /// A constant as an operand with the same word in every lane.
    pub(crate) fn everywhere(&mut self, value: u32) -> String {
        everywhere("k", self.offset(value))
    }
}

/// A word in memory as an operand with the same word in every lane.
pub(crate) fn everywhere(base: &str, offset: usize) -> String {
    format!("dword ptr [{{{base}}} + {offset}]{{{{1to16}}}}")
}

/// Lines of assembly on vectors.
#[derive(Default)]
pub(crate) struct VectorCode(Vec<String>);

impl VectorCode {
    /// Appends a line.
    pub(crate) fn line(&mut self, line: String) {
        self.0.push(line);
    }

    /// Adds an operand to a register.
    pub(crate) fn add(&mut self, register: usize, operand: &str) {
        self.line(format!("vpaddd zmm{register}, zmm{register}, {operand}"));
    }

    /// Puts the sum of the operands into a register.
    pub(crate) fn sum(&mut self, to: usize, mut operands: Vec<String>) {
        // An addition takes one operand from memory at most, so it starts with one that
        // is in a register.
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

    /// The lines so far.
    pub(crate) fn into_lines(self) -> Vec<String> {
        self.0
    }
}
