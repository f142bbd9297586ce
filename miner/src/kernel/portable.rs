//! The kernel for every machine. It uses the compression function of the `sha2` crate,
//! which uses the processor's SHA instructions if there are any.
//!
//! The hash of a header takes three compressions. The first one is in the job's
//! midstate; this kernel does the other two.

use sha2::compress256;
use sha2::digest::generic_array::GenericArray;

use super::sha256::IV;
use super::{Hit, Job, Kernel};

/// The kernel that runs on every machine.
#[derive(Debug, Clone, Copy)]
pub struct PortableKernel;

impl Kernel for PortableKernel {
    fn name(&self) -> &'static str {
        "portable"
    }

    fn scan(&self, job: &Job, start: u32, count: u32, hits: &mut Vec<Hit>) {
        let mut tail = [0; 12];
        for (bytes, word) in tail.chunks_exact_mut(4).zip(job.schedule().tail) {
            bytes.copy_from_slice(&word.to_be_bytes());
        }
        let mut header_block = padded(&tail, 80);
        let mut digest_block = padded(&[0; 32], 32);
        let target_top = job.target_top();
        for step in 0..count {
            let nonce = start.wrapping_add(step);
            header_block[12..16].copy_from_slice(&nonce.to_le_bytes());
            for midstate in job.midstates() {
                let mut inner = midstate.state;
                compress256(&mut inner, std::slice::from_ref(&header_block));

                for (bytes, word) in digest_block.chunks_exact_mut(4).zip(inner) {
                    bytes.copy_from_slice(&word.to_be_bytes());
                }
                let mut state = IV;
                compress256(&mut state, std::slice::from_ref(&digest_block));

                // A hash is a little-endian number. Its most significant bits are the
                // last word of the digest with its bytes reversed.
                if state[7].swap_bytes() <= target_top && job.is_met_by(&state) {
                    let version = midstate.version;
                    hits.push(Hit { version, nonce });
                }
            }
        }
    }
}

/// The 64 bytes that one compression reads.
type MessageBlock = GenericArray<u8, sha2::digest::consts::U64>;

/// The last block of a message of `message_bytes` bytes that ends with `end`, with the
/// padding of FIPS 180-4 §5.1.1. The caller writes a header's nonce over the four zeros
/// behind `end`.
fn padded(end: &[u8], message_bytes: u64) -> MessageBlock {
    let mut block = MessageBlock::default();
    block[..end.len()].copy_from_slice(end);
    block[usize::try_from(message_bytes % 64).unwrap_or(0)] = 0x80;
    block[56..].copy_from_slice(&(message_bytes * 8).to_be_bytes());
    block
}
