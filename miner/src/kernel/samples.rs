//! A header and a target for checks and measurements.

use pithead_consensus::hash::Hash256;
use pithead_consensus::{BlockHash, BlockHeader, CompactTarget, Target};

/// A target that no hash will meet in the lifetime of a machine: the number 1.
#[must_use]
pub fn unreachable_target() -> Target {
    let mut one = [0; 32];
    one[0] = 1;
    // The fallback is never used: only zero is refused.
    Target::from_le_bytes(one).unwrap_or(Target::MAX)
}

/// The header of Bitcoin's first block, a real header with a well-known solution.
#[must_use]
pub fn bitcoin_genesis() -> BlockHeader {
    // Bitcoin shows hashes byte-reversed, so this root is shown there as 4a5e1e4b….
    const MERKLE_ROOT: [u8; 32] = [
        0x3b, 0xa3, 0xed, 0xfd, 0x7a, 0x7b, 0x12, 0xb2, 0x7a, 0xc7, 0x2c, 0x3e, 0x67, 0x76, 0x8f,
        0x61, 0x7f, 0xc8, 0x1b, 0xc3, 0x88, 0x8a, 0x51, 0x32, 0x3a, 0x9f, 0xb8, 0xaa, 0x4b, 0x1e,
        0x5e, 0x4a,
    ];
    BlockHeader {
        version: 1,
        prev: BlockHash::ZERO,
        merkle_root: Hash256(MERKLE_ROOT),
        time: 1_231_006_505,
        bits: CompactTarget(0x1d00_ffff),
        nonce: 2_083_236_893,
    }
}
