//! Writes the assembly of the kernels that use AVX-512 and the SHA instructions at the
//! same time: `src/kernel/mix.rs` and `src/kernel/sha_avx512.rs`.
//!
//! The code of such a kernel is two streams of instructions that share no register and no
//! result. It is only fast if the two are finely interleaved, and compilers keep them
//! apart. This program writes each stream by itself and then shuffles the two together.
//!
//! Start reading at `main`; each kernel has its own files.

use std::path::Path;

#[path = "../src/kernel/sha256.rs"]
#[allow(dead_code)]
mod sha256;

mod code;
mod mix;
mod rounds;
mod schedules;

use code::Constants;
use schedules::Schedules;

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
        // The vector instructions come in bursts. Between two bursts, the SHA unit has
        // its pipe to itself.
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

/// Makes one stream of two: after every `burst` instructions of `one` comes the
/// proportional part of `other`.
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
