//! One header, with what all its nonces have in common computed once.

use pithead_consensus::block::HEADER_BYTES;
use pithead_consensus::{BlockHash, BlockHeader, Target};
use sha2::compress256;

/// The initial hash value of SHA-256 (FIPS 180-4 §5.3.3).
pub(crate) const SHA256_INIT: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

/// A header to be solved. The nonce in it is ignored.
#[derive(Debug, Clone)]
pub struct Job {
    header: BlockHeader,
    target: Target,
    /// State of SHA-256 after the first 64 bytes, which hold no nonce.
    midstate: [u32; 8],
    /// Bytes 64 to 75: the rest of the Merkle root, the time and the bits. The
    /// nonce follows.
    tail: [u8; 12],
    /// The most significant 32 bits of the target. A hash whose own are higher
    /// can't meet it, so kernels ask this first.
    target_top: u32,
}

impl Job {
    /// Prepares a header for a search against `target`, which is often easier
    /// than the one in the header's `bits`.
    #[must_use]
    pub fn new(header: BlockHeader, target: Target) -> Self {
        let bytes = header.to_bytes();
        let mut block = [0u8; 64];
        block.copy_from_slice(&bytes[..64]);
        let mut midstate = SHA256_INIT;
        compress256(&mut midstate, &[block.into()]);
        let number = target.to_le_bytes();
        Self {
            header,
            target,
            midstate,
            tail: tail(&bytes),
            target_top: u32::from_le_bytes([number[28], number[29], number[30], number[31]]),
        }
    }

    /// Changes the header's time. The first 64 bytes don't hold it, so this
    /// costs next to nothing.
    pub fn set_time(&mut self, time: u32) {
        self.header.time = time;
        self.tail = tail(&self.header.to_bytes());
    }

    /// The header with this nonce.
    #[must_use]
    pub fn header(&self, nonce: u32) -> BlockHeader {
        BlockHeader {
            nonce,
            ..self.header
        }
    }

    /// What hashes must not exceed.
    #[must_use]
    pub fn target(&self) -> Target {
        self.target
    }

    /// State of SHA-256 after the first 64 bytes of the header.
    #[must_use]
    pub fn midstate(&self) -> &[u32; 8] {
        &self.midstate
    }

    /// Bytes 64 to 75 of the header; the nonce follows.
    #[must_use]
    pub fn tail(&self) -> &[u8; 12] {
        &self.tail
    }

    /// The most significant 32 bits of the target.
    #[must_use]
    pub fn target_top(&self) -> u32 {
        self.target_top
    }

    /// Whether a digest, given as the eight words of SHA-256's state, meets the
    /// target. For the few that pass the test of their last word.
    #[must_use]
    pub fn is_met_by(&self, state: &[u32; 8]) -> bool {
        let mut hash = [0u8; 32];
        for (bytes, word) in hash.chunks_exact_mut(4).zip(state) {
            bytes.copy_from_slice(&word.to_be_bytes());
        }
        self.target.is_met_by(&BlockHash(hash))
    }
}

fn tail(header: &[u8; HEADER_BYTES]) -> [u8; 12] {
    let mut tail = [0u8; 12];
    tail.copy_from_slice(&header[64..76]);
    tail
}
