//! One piece of work from a node, checked as it arrives.
//!
//! Work that contradicts itself, or that pays another address, is refused here:
//! every hash on it would be lost. This file knows neither threads nor connections.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use pithead_api::v1::SubscribeWorkResponse;
use pithead_consensus::block::VERSION_ROLL_MASK;
use pithead_consensus::{
    Address, BlockCommitment, BlockHeader, Decode as _, DecodeError, Hash256, Target,
    target::CompactTargetError,
};
use thiserror::Error;

/// A piece of work that can't be mined on.
#[derive(Debug, Error)]
pub enum WorkError {
    /// The header or the commitment can't be decoded.
    #[error("its {part} can't be decoded: {error}")]
    Malformed {
        /// `"header"` or `"commitment"`.
        part: &'static str,
        /// The decoder's reason.
        error: DecodeError,
    },
    /// A target is zero, or not 32 bytes long.
    #[error("its {field} is no target: {bytes} bytes, or zero")]
    BadTarget {
        /// `"target"` or `"share target"`.
        field: &'static str,
        /// The length that was found.
        bytes: usize,
    },
    /// The header's compact target (`bits`) encodes no target.
    #[error("its header's bits are wrong: {0}")]
    BadBits(#[from] CompactTargetError),
    /// The message's target differs from the header's.
    #[error("its target {target} is not that of its header, {expected}")]
    TargetMismatch {
        /// The target in the message.
        target: Target,
        /// The target in the header.
        expected: Target,
    },
    /// The header's Merkle root is not the root of the commitment.
    #[error("its header does not commit to its commitment")]
    RootMismatch,
    /// The commitment pays an address other than the miner's.
    #[error("it pays another address: {found:?} instead of {expected:?}")]
    WrongAddress {
        /// The address that the work pays.
        found: Address,
        /// The address that this miner was given.
        expected: Address,
    },
    /// The earliest allowed time is after the latest.
    #[error("no time is allowed for its header: from {min} to {max}")]
    NoTime {
        /// Earliest time, Unix seconds.
        min: u32,
        /// Latest time, Unix seconds.
        max: u32,
    },
}

/// A piece of work to be mined on.
#[derive(Debug)]
pub struct MiningWork {
    /// The node's name for this work.
    pub id: String,
    /// The height of the block that the miner searches for.
    pub height: u64,
    /// The header, with nonce 0 and the miner's half of the extra nonce 0.
    pub header: BlockHeader,
    /// The commitment, with the miner's half of the extra nonce 0.
    pub commitment: BlockCommitment,
    /// The highest hash that makes a block.
    pub block_target: Target,
    /// The highest hash that makes a share; at least the block target.
    pub share_target: Target,
    /// Subsidy and fees that the block pays, in grains.
    pub reward: u64,
    /// How many transactions the block has.
    pub transaction_count: u32,
    /// Earliest and latest time of the header, Unix seconds.
    pub times: (u32, u32),
    /// The bits of the version that the miner may roll.
    pub version_mask: u32,
    /// Whether solutions of earlier work are stale from now on.
    pub clean: bool,
    /// The number of the connection, within this run, that the work came over.
    pub connection: u64,
    /// When it arrived, by this machine's monotonic clock.
    pub arrived: Instant,
    /// Microseconds from arrival to the first hash, plus one; 0 before the first hash.
    first_hash_us: AtomicU64,
    /// The same for the worker that took the work up last.
    last_worker_us: AtomicU64,
    /// How many workers have taken the work up.
    workers: AtomicUsize,
}

impl MiningWork {
    /// Checks the message of a node.
    ///
    /// # Errors
    /// [`WorkError`] says why mining on this work would be in vain.
    pub fn from_message(
        message: SubscribeWorkResponse,
        reward_address: &Address,
        connection: u64,
        arrived: Instant,
    ) -> Result<Self, WorkError> {
        let malformed = |part| move |error| WorkError::Malformed { part, error };
        let header = BlockHeader::decode(&message.header).map_err(malformed("header"))?;
        let commitment =
            BlockCommitment::decode(&message.commitment).map_err(malformed("commitment"))?;
        let block_target = target(&message.target, "target")?;
        let share_target = target(&message.share_target, "share target")?;
        check_header(&header, &commitment, block_target)?;
        if commitment.reward_address != *reward_address {
            return Err(WorkError::WrongAddress {
                found: commitment.reward_address,
                expected: *reward_address,
            });
        }
        let seconds =
            |seconds: i64| u32::try_from(seconds.clamp(0, i64::from(u32::MAX))).unwrap_or(u32::MAX);
        // A bound that the node left out is the header's own time.
        let min = message.min_time.map_or(header.time, |t| seconds(t.seconds));
        let max = message.max_time.map_or(header.time, |t| seconds(t.seconds));
        if min > max {
            return Err(WorkError::NoTime { min, max });
        }
        Ok(Self {
            id: message.work_id,
            height: message.height,
            // A block is always worth handing in, whatever the share target.
            share_target: share_target.max(block_target),
            reward: message.reward,
            transaction_count: message.transaction_count,
            times: (min, max),
            version_mask: message.version_mask,
            clean: message.clean,
            connection,
            ..Self::unsolved(header, commitment, block_target, arrived)
        })
    }

    /// Work for measuring: no hash will solve it in the lifetime of the machine.
    #[must_use]
    pub fn without_solution() -> Self {
        let commitment = BlockCommitment {
            transactions_root: Hash256::default(),
            state_root: Hash256::default(),
            reward_address: Address([0; 32]),
            extra_nonce: [0; 8],
        };
        Self {
            times: (0, u32::MAX),
            version_mask: VERSION_ROLL_MASK,
            ..Self::unsolved(
                crate::kernel::bitcoin_genesis(),
                commitment,
                crate::kernel::unreachable_target(),
                Instant::now(),
            )
        }
    }

    /// Work of one target that no worker has taken up, with a fixed time and version.
    fn unsolved(
        header: BlockHeader,
        commitment: BlockCommitment,
        target: Target,
        arrived: Instant,
    ) -> Self {
        Self {
            id: String::new(),
            height: 0,
            header,
            commitment,
            block_target: target,
            share_target: target,
            reward: 0,
            transaction_count: 0,
            times: (header.time, header.time),
            version_mask: 0,
            clean: true,
            connection: 0,
            arrived,
            first_hash_us: AtomicU64::new(0),
            last_worker_us: AtomicU64::new(0),
            workers: AtomicUsize::new(0),
        }
    }

    /// The header's time at the instant `now`: the time that it came with, plus the
    /// seconds since its arrival, within the node's bounds.
    ///
    /// The miner never reads its own calendar, so a wrong one does no harm.
    #[must_use]
    pub fn time_at(&self, now: Instant) -> u32 {
        let elapsed = now.saturating_duration_since(self.arrived).as_secs();
        let elapsed = u32::try_from(elapsed).unwrap_or(u32::MAX);
        let (min, max) = self.times;
        self.header.time.saturating_add(elapsed).clamp(min, max)
    }

    /// The commitment with the miner's half of the extra nonce filled in.
    #[must_use]
    pub fn commitment_with(&self, extra_nonce: [u8; 4]) -> BlockCommitment {
        let mut commitment = self.commitment;
        commitment.extra_nonce[4..].copy_from_slice(&extra_nonce);
        commitment
    }

    /// The header at this time, with the Merkle root for the miner's half of the
    /// extra nonce.
    #[must_use]
    pub fn header_with(&self, extra_nonce: [u8; 4], time: u32) -> BlockHeader {
        BlockHeader {
            merkle_root: self.commitment_with(extra_nonce).merkle_root(),
            time,
            ..self.header
        }
    }

    /// Records that a worker begins to hash. Each worker calls it once.
    pub fn note_taken_up(&self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.arrived).as_micros();
        let elapsed = u64::try_from(elapsed).unwrap_or(u64::MAX).saturating_add(1);
        // The exchange fails if another worker was first.
        let _ =
            self.first_hash_us
                .compare_exchange(0, elapsed, Ordering::Relaxed, Ordering::Relaxed);
        self.last_worker_us.fetch_max(elapsed, Ordering::Relaxed);
        // The count comes after the time, because `last_worker_us` reads it first.
        self.workers.fetch_add(1, Ordering::Release);
    }

    /// Microseconds from arrival until the last of `workers` workers began to hash;
    /// `None` before that.
    #[must_use]
    pub fn last_worker_us(&self, workers: usize) -> Option<u64> {
        if self.workers.load(Ordering::Acquire) < workers {
            return None;
        }
        self.last_worker_us.load(Ordering::Relaxed).checked_sub(1)
    }

    /// Microseconds from arrival to the first hash; `None` before that.
    #[must_use]
    pub fn first_hash_us(&self) -> Option<u64> {
        self.first_hash_us.load(Ordering::Relaxed).checked_sub(1)
    }

    /// How many hashes a block takes on average.
    #[must_use]
    pub fn difficulty(&self) -> f64 {
        self.block_target.work().to_f64()
    }
}

/// Checks that the header has the message's target and commits to the commitment.
fn check_header(
    header: &BlockHeader,
    commitment: &BlockCommitment,
    target: Target,
) -> Result<(), WorkError> {
    let expected = header.bits.to_target()?;
    if target != expected {
        return Err(WorkError::TargetMismatch { target, expected });
    }
    if header.merkle_root != commitment.merkle_root() {
        return Err(WorkError::RootMismatch);
    }
    Ok(())
}

fn target(bytes: &[u8], field: &'static str) -> Result<Target, WorkError> {
    <[u8; 32]>::try_from(bytes)
        .ok()
        .and_then(Target::from_le_bytes)
        .ok_or(WorkError::BadTarget {
            field,
            bytes: bytes.len(),
        })
}
