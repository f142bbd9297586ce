//! One header, with what all its nonces have in common computed once.
//!
//! SHA-256 of an 80-byte header takes two compressions. The first 64 bytes hold
//! no nonce: their state, the *midstate*, is computed here. The version is in
//! them and nowhere else, so versions that differ in the bits that miners may
//! roll differ in their midstates only: the rest of the header, and with it the
//! whole message schedule of the second compression, is theirs in common.

use pithead_consensus::block::HEADER_BYTES;
use pithead_consensus::{BlockHash, BlockHeader, Target};
use sha2::compress256;

use super::Hit;
use super::sha256::{IV, K, big_sigma0, big_sigma1, ch, maj, sigma0, sigma1};

/// Fills what a 12-byte tail and a nonce leave of the second block: a one, zeros
/// and the length of 640 bits (FIPS 180-4 §5.1.1).
const PADDING: u32 = 0x8000_0000;
/// Bits of a header.
const HEADER_BITS: u32 = 640;

/// A header to be solved, in one or more versions. The nonce in it is ignored.
#[derive(Debug, Clone)]
pub struct Job {
    header: BlockHeader,
    target: Target,
    midstates: Vec<Midstate>,
    schedule: Schedule,
    /// The most significant 32 bits of the target. A hash whose own are higher
    /// can't meet it, so kernels ask this first.
    target_top: u32,
}

/// What the versions of a job don't have in common.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Midstate {
    /// The version.
    pub(crate) version: u32,
    /// State of SHA-256 after the first 64 bytes.
    pub(crate) state: [u32; 8],
    /// State after rounds 0 to 3 of the second block, as (a … h), but for the
    /// nonce: the word that stands for it is to be added to `a` and to `e`.
    pub(crate) after_four: [u32; 8],
}

/// The message schedule of the second block, as far as no nonce is in it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Schedule {
    /// Words 0 to 2: the rest of the Merkle root, the time, the bits.
    pub(crate) tail: [u32; 3],
    /// Round constant plus word for rounds 0 to 17; of round 3 the constant
    /// alone, since its word is the nonce.
    pub(crate) kw: [u32; 18],
    /// Words 16 and 17.
    pub(crate) w16: u32,
    /// See `w16`.
    pub(crate) w17: u32,
    /// Word 18 is this plus σ0 of the nonce.
    pub(crate) w18: u32,
    /// Word 19 is this plus the nonce.
    pub(crate) w19: u32,
    /// What words 20 to 33 have besides those that depend on the nonce.
    pub(crate) rest: [u32; 14],
}

impl Job {
    /// Prepares a header for a search against `target`, which is often easier
    /// than the one in the header's `bits`.
    #[must_use]
    pub fn new(header: BlockHeader, target: Target) -> Self {
        Self::with_versions(header, target, &[header.version])
    }

    /// The same for a header that may carry any of several versions: each nonce
    /// is tried with each of them. Without any, nothing is tried.
    #[must_use]
    pub fn with_versions(header: BlockHeader, target: Target, versions: &[u32]) -> Self {
        let number = target.to_le_bytes();
        let tail = tail(&header.to_bytes());
        let mut job = Self {
            header,
            target,
            midstates: Vec::with_capacity(versions.len()),
            schedule: Schedule::new(tail),
            target_top: u32::from_le_bytes([number[28], number[29], number[30], number[31]]),
        };
        job.set_versions(versions);
        job
    }

    /// Changes the versions.
    pub fn set_versions(&mut self, versions: &[u32]) {
        let tail = self.schedule.tail;
        self.midstates.clear();
        self.midstates.extend(versions.iter().map(|version| {
            let header = BlockHeader {
                version: *version,
                ..self.header
            };
            let mut block = [0u8; 64];
            block.copy_from_slice(&header.to_bytes()[..64]);
            let mut state = IV;
            compress256(&mut state, &[block.into()]);
            Midstate::new(*version, state, tail)
        }));
    }

    /// Changes the header's time. The first 64 bytes don't hold it, so this
    /// costs next to nothing.
    pub fn set_time(&mut self, time: u32) {
        self.header.time = time;
        let tail = tail(&self.header.to_bytes());
        self.schedule = Schedule::new(tail);
        for midstate in &mut self.midstates {
            *midstate = Midstate::new(midstate.version, midstate.state, tail);
        }
    }

    /// The header's time, Unix seconds.
    #[must_use]
    pub fn time(&self) -> u32 {
        self.header.time
    }

    /// The header that a hit stands for.
    #[must_use]
    pub fn header(&self, hit: Hit) -> BlockHeader {
        BlockHeader {
            version: hit.version,
            nonce: hit.nonce,
            ..self.header
        }
    }

    /// What hashes must not exceed.
    #[must_use]
    pub fn target(&self) -> Target {
        self.target
    }

    /// The versions that each nonce is tried with.
    pub fn versions(&self) -> impl ExactSizeIterator<Item = u32> + '_ {
        self.midstates.iter().map(|midstate| midstate.version)
    }

    /// The versions with what is computed for each.
    pub(crate) fn midstates(&self) -> &[Midstate] {
        &self.midstates
    }

    /// What all versions have in common.
    pub(crate) fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// The most significant 32 bits of the target.
    pub(crate) fn target_top(&self) -> u32 {
        self.target_top
    }

    /// Looks closely at a nonce whose hash may meet the target, for kernels
    /// that compute no more than the hash's last word; appends it if it does.
    #[cold]
    #[inline(never)]
    pub(crate) fn confirm(&self, version: u32, nonce: u32, hits: &mut Vec<Hit>) {
        let hit = Hit { version, nonce };
        if self.target.is_met_by(&self.header(hit).hash()) {
            hits.push(hit);
        }
    }

    /// Whether a digest, given as the eight words of SHA-256's state, meets the
    /// target. For the few that pass the test of their last word.
    pub(crate) fn is_met_by(&self, state: &[u32; 8]) -> bool {
        let mut hash = [0u8; 32];
        for (bytes, word) in hash.chunks_exact_mut(4).zip(state) {
            bytes.copy_from_slice(&word.to_be_bytes());
        }
        self.target.is_met_by(&BlockHash(hash))
    }
}

impl Midstate {
    fn new(version: u32, state: [u32; 8], tail: [u32; 3]) -> Self {
        let after_one = round(state, K[0].wrapping_add(tail[0]));
        let after_two = round(after_one, K[1].wrapping_add(tail[1]));
        let after_three = round(after_two, K[2].wrapping_add(tail[2]));
        Self {
            version,
            state,
            after_four: round(after_three, K[3]),
        }
    }
}

impl Schedule {
    fn new(tail: [u32; 3]) -> Self {
        let mut words = [0u32; 16];
        words[..3].copy_from_slice(&tail);
        words[4] = PADDING;
        words[15] = HEADER_BITS;
        let w16 = sigma0(tail[1]).wrapping_add(tail[0]);
        let w17 = sigma1(HEADER_BITS)
            .wrapping_add(sigma0(tail[2]))
            .wrapping_add(tail[1]);
        let mut kw = [0u32; 18];
        for (index, kw) in kw.iter_mut().enumerate() {
            let word = match index {
                16 => w16,
                17 => w17,
                _ => words[index],
            };
            *kw = K[index].wrapping_add(word);
        }
        // Word i is σ1(i − 2) + word(i − 7) + σ0(i − 15) + word(i − 16); those
        // from 18 on hold the nonce, and most of the padding is zero.
        let mut rest = [0u32; 14];
        rest[0] = PADDING;
        rest[2] = HEADER_BITS;
        rest[3] = w16;
        rest[4] = w17;
        rest[10] = sigma0(HEADER_BITS);
        rest[11] = sigma0(w16).wrapping_add(HEADER_BITS);
        rest[12] = sigma0(w17).wrapping_add(w16);
        rest[13] = w17;
        Self {
            tail,
            kw,
            w16,
            w17,
            w18: sigma1(w16).wrapping_add(tail[2]),
            w19: sigma1(w17).wrapping_add(sigma0(PADDING)),
            rest,
        }
    }
}

fn round([a, b, c, d, e, f, g, h]: [u32; 8], kw: u32) -> [u32; 8] {
    let t1 = h
        .wrapping_add(big_sigma1(e))
        .wrapping_add(ch(e, f, g))
        .wrapping_add(kw);
    let t2 = big_sigma0(a).wrapping_add(maj(a, b, c));
    [t1.wrapping_add(t2), a, b, c, d.wrapping_add(t1), e, f, g]
}

fn tail(header: &[u8; HEADER_BYTES]) -> [u32; 3] {
    let word = |at: usize| {
        u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    [word(64), word(68), word(72)]
}
