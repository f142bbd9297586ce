//! Writes the assembly of the kernels that hash with AVX-512 and the SHA
//! instructions at once (see `src/kernel/mix.rs` and `src/kernel/sha_avx512.rs`).
//!
//! Their two streams of instructions have no register and no result in common, and
//! are only fast when they are interleaved finely; compilers keep them apart.
//! Here each is written down by itself, and then the two are shuffled together.

use std::path::Path;

#[path = "../src/kernel/sha256.rs"]
#[allow(dead_code)]
mod sha256;

mod mix;
mod rounds;
mod schedules;

use schedules::Schedules;

const PADDING: u32 = 0x8000_0000;
const DIGEST_BITS: u32 = 256;

fn main() {
    println!("cargo::rerun-if-changed=build");
    println!("cargo::rerun-if-changed=src/kernel/sha256.rs");
    let Some(out) = std::env::var_os("OUT_DIR") else {
        return;
    };
    let mut constants = Constants::default();
    let vectors = mix::vector_stream(&mut constants);
    let mix = shuffle(&vectors, &mix::sha_stream(&mut constants), 1);
    let step = |constants: &mut Constants, fresh: bool| {
        let mut schedules = Schedules::new(constants);
        schedules.of_digests();
        if fresh {
            schedules.of_headers();
        }
        // Bursts leave the SHA unit to its own instructions in between.
        shuffle(&rounds::sha_stream(), &schedules.finish(), 6)
    };
    let same = step(&mut constants, false);
    let fresh = step(&mut constants, true);
    let table = format!(
        "#[repr(C, align(64))]\npub(super) struct Constants([u32; {}]);\npub(super) static CONSTANTS: Constants = Constants({:?});\n",
        constants.0.len(),
        constants.0
    );
    let out = Path::new(&out);
    for (name, content) in [
        ("mix.s", mix),
        ("sha_avx512.s", same),
        ("sha_avx512_fresh.s", fresh),
        ("constants.rs", table),
    ] {
        if let Err(error) = std::fs::write(out.join(name), content) {
            panic!("can't write {name}: {error}");
        }
    }
}

/// The constants that the code reads, which `{k}` points to.
struct Constants(Vec<u32>);

impl Default for Constants {
    /// The initial value as the SHA instructions want it comes first, since they
    /// need it aligned, then what rounds 8 to 15 of every second hash add.
    fn default() -> Self {
        Self([rounds::initial(), rounds::padding_sums()].concat())
    }
}

impl Constants {
    /// Where a constant is.
    fn offset(&mut self, value: u32) -> usize {
        let known = self.0.iter().position(|one| *one == value);
        let index = known.unwrap_or_else(|| {
            self.0.push(value);
            self.0.len() - 1
        });
        4 * index
    }

    /// A constant as an operand in every lane.
    fn everywhere(&mut self, value: u32) -> String {
        everywhere("k", self.offset(value))
    }
}

/// A word in memory as an operand in every lane.
fn everywhere(base: &str, offset: usize) -> String {
    format!("dword ptr [{{{base}}} + {offset}]{{{{1to16}}}}")
}

/// Two streams in one: what is due of the other comes after every `burst`
/// instructions of the one.
fn shuffle(one: &[String], other: &[String], burst: usize) -> String {
    let header = format!("// {} and {} instructions", one.len(), other.len());
    let mut lines = vec![header, "vzeroupper".to_owned()];
    let mut done = 0;
    for (index, instructions) in one.chunks(burst).enumerate() {
        lines.extend_from_slice(instructions);
        let due = (index * burst + instructions.len()) * other.len() / one.len();
        lines.extend_from_slice(&other[done..due]);
        done = due;
    }
    lines.join("\n")
}
