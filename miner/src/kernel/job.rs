//! A job: one header, with everything precomputed that does not depend on the nonce.
//!
//! SHA-256 of an 80-byte header takes two compressions. The nonce is in the last 16
//! bytes, so the state after the first 64 bytes, the *midstate*, is the same for all
//! nonces. The version is in the first 64 bytes only. Headers that differ only in their
//! versions therefore differ only in their midstates, and share the whole message
//! schedule of the second compression.

use pithead_consensus::block::HEADER_BYTES;
use pithead_consensus::{BlockHash, BlockHeader, Target};
use sha2::compress256;

use super::Hit;
use super::sha256::{HEADER_BITS, IV, K, PADDING, big_sigma0, big_sigma1, ch, maj, sigma0, sigma1};

/// A header to be solved, in one or more versions. Its own nonce is ignored.
#[derive(Debug, Clone)]
pub struct Job {
    header: BlockHeader,
    target: Target,
    midstates: Vec<Midstate>,
    schedule: MessageSchedule,
    /// The most significant 32 bits of the target. Kernels compare these bits first: a
    /// hash with a higher value can't meet the target.
    target_top: u32,
}

/// The part of a job that depends on the version.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Midstate {
    /// The header's version.
    pub(crate) version: u32,
    /// The state of SHA-256 after the first 64 bytes.
    pub(crate) state: [u32; 8],
    /// The state (a … h) after rounds 0 to 3 of the second block, without the nonce. The
    /// kernel adds the nonce's word to `a` and to `e`.
    pub(crate) after_four: [u32; 8],
}

/// The part of the second block's message schedule that does not depend on the nonce.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MessageSchedule {
    /// Words 0 to 2: the end of the Merkle root, the time, the bits.
    pub(crate) tail: [u32; 3],
    /// Round constant plus word for rounds 0 to 17. For round 3 it is the constant alone,
    /// because word 3 is the nonce.
    pub(crate) kw: [u32; 18],
    /// Word 16.
    pub(crate) w16: u32,
    /// Word 17.
    pub(crate) w17: u32,
    /// Word 18 is this plus σ0 of the nonce.
    pub(crate) w18: u32,
    /// Word 19 is this plus the nonce.
    pub(crate) w19: u32,
    /// The part of words 20 to 33 that does not depend on the nonce.
    pub(crate) rest: [u32; 14],
}

impl Job {
    /// Prepares a header for a search against `target`. For shares, this is an easier
    /// target than the header's own.
    #[must_use]
    pub fn new(header: BlockHeader, target: Target) -> Self {
        Self::with_versions(header, target, &[header.version])
    }

    /// The same for several versions: each nonce is tried with each version. An empty
    /// list makes a job without hashes.
    #[must_use]
    pub fn with_versions(header: BlockHeader, target: Target, versions: &[u32]) -> Self {
        let number = target.to_le_bytes();
        let tail = tail(&header.to_bytes());
        let mut job = Self {
            header,
            target,
            midstates: Vec::with_capacity(versions.len()),
            schedule: MessageSchedule::new(tail),
            target_top: u32::from_le_bytes([number[28], number[29], number[30], number[31]]),
        };
        job.set_versions(versions);
        job
    }

    /// Replaces the versions.
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

    /// Replaces the header's time. This costs little, because the time is not in the
    /// first 64 bytes.
    pub fn set_time(&mut self, time: u32) {
        self.header.time = time;
        let tail = tail(&self.header.to_bytes());
        self.schedule = MessageSchedule::new(tail);
        for midstate in &mut self.midstates {
            *midstate = Midstate::new(midstate.version, midstate.state, tail);
        }
    }

    /// The header's time, Unix seconds.
    #[must_use]
    pub fn time(&self) -> u32 {
        self.header.time
    }

    /// The header with the version and the nonce of a hit.
    #[must_use]
    pub fn header(&self, hit: Hit) -> BlockHeader {
        BlockHeader {
            version: hit.version,
            nonce: hit.nonce,
            ..self.header
        }
    }

    /// The highest hash that is a hit.
    #[must_use]
    pub fn target(&self) -> Target {
        self.target
    }

    /// The versions that each nonce is tried with.
    pub fn versions(&self) -> impl ExactSizeIterator<Item = u32> + '_ {
        self.midstates.iter().map(|midstate| midstate.version)
    }

    /// The midstate of each version.
    pub(crate) fn midstates(&self) -> &[Midstate] {
        &self.midstates
    }

    /// The message schedule, which all versions share.
    pub(crate) fn schedule(&self) -> &MessageSchedule {
        &self.schedule
    }

    /// The most significant 32 bits of the target.
    pub(crate) fn target_top(&self) -> u32 {
        self.target_top
    }

    /// Hashes a nonce again, with consensus, and appends it to `hits` if it meets the
    /// target. Kernels that compute only the last word of a hash call this for every
    /// nonce that passes their test.
    #[cold]
    #[inline(never)]
    pub(crate) fn confirm(&self, version: u32, nonce: u32, hits: &mut Vec<Hit>) {
        let hit = Hit { version, nonce };
        if self.target.is_met_by(&self.header(hit).hash()) {
            hits.push(hit);
        }
    }

    /// Confirms those of consecutive nonces, hashed together, whose last word passes the
    /// test against the target.
    #[inline(always)]
    pub(crate) fn confirm_last_words(
        &self,
        group: NonceGroup,
        last_words: impl IntoIterator<Item = u32>,
        hits: &mut Vec<Hit>,
    ) {
        let nonces = (0..group.count).map(|lane| group.first.wrapping_add(lane));
        for (nonce, last) in nonces.zip(last_words) {
            if last.swap_bytes() <= self.target_top {
                self.confirm(group.version, nonce, hits);
            }
        }
    }

    /// Whether a digest, given as the eight words of the state, meets the target. Only
    /// the few digests whose last word passes the test get here.
    pub(crate) fn is_met_by(&self, state: &[u32; 8]) -> bool {
        let mut hash = [0u8; 32];
        for (bytes, word) in hash.chunks_exact_mut(4).zip(state) {
            bytes.copy_from_slice(&word.to_be_bytes());
        }
        self.target.is_met_by(&BlockHash(hash))
    }
}

/// Consecutive nonces in one version, hashed together in the lanes of vectors.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NonceGroup {
    pub(crate) version: u32,
    pub(crate) first: u32,
    /// How many of the lanes count. Hits in the lanes after these are ignored. There may
    /// be fewer lanes than this.
    pub(crate) count: u32,
}

impl NonceGroup {
    /// Confirms the nonces whose lanes have a bit in `found`.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub(crate) fn confirm_lanes(self, job: &Job, mut found: u32, hits: &mut Vec<Hit>) {
        while found != 0 {
            let lane = found.trailing_zeros();
            found &= found - 1;
            if lane < self.count {
                job.confirm(self.version, self.first.wrapping_add(lane), hits);
            }
        }
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

impl MessageSchedule {
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
        // Word i is σ1(i − 2) + word(i − 7) + σ0(i − 15) + word(i − 16). Words from 18
        // on depend on the nonce. Most words of the padding are zero and add nothing.
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

/// One round of SHA-256; `kw` is the round's constant plus its word.
fn round([a, b, c, d, e, f, g, h]: [u32; 8], kw: u32) -> [u32; 8] {
    let t1 = h
        .wrapping_add(big_sigma1(e))
        .wrapping_add(ch(e, f, g))
        .wrapping_add(kw);
    let t2 = big_sigma0(a).wrapping_add(maj(a, b, c));
    [t1.wrapping_add(t2), a, b, c, d.wrapping_add(t1), e, f, g]
}

/// The words of the header's last 16 bytes, without the nonce.
fn tail(header: &[u8; HEADER_BYTES]) -> [u32; 3] {
    let word = |at: usize| {
        u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    [word(64), word(68), word(72)]
}
