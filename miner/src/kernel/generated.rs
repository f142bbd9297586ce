//! The assembly and the constants that `build/` writes, for the kernels `mix` and
//! `sha_avx512`.

include!(concat!(env!("OUT_DIR"), "/constants.rs"));

/// Runs a file of assembly that `build/` wrote. The operands follow, each with a comma.
///
/// The code may change every vector register. It uses no stack and no other register
/// than its operands.
macro_rules! generated_asm {
    ($file:literal, $($operands:tt)*) => {
        std::arch::asm!(
            include_str!(concat!(env!("OUT_DIR"), $file)),
            $($operands)*
            out("zmm0") _, out("zmm1") _, out("zmm2") _, out("zmm3") _,
            out("zmm4") _, out("zmm5") _, out("zmm6") _, out("zmm7") _,
            out("zmm8") _, out("zmm9") _, out("zmm10") _, out("zmm11") _,
            out("zmm12") _, out("zmm13") _, out("zmm14") _, out("zmm15") _,
            out("zmm16") _, out("zmm17") _, out("zmm18") _, out("zmm19") _,
            out("zmm20") _, out("zmm21") _, out("zmm22") _, out("zmm23") _,
            out("zmm24") _, out("zmm25") _, out("zmm26") _, out("zmm27") _,
            out("zmm28") _, out("zmm29") _, out("zmm30") _, out("zmm31") _,
            options(nostack, preserves_flags),
        )
    };
}
pub(super) use generated_asm;
