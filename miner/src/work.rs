//! One piece of work, checked as it arrives from the node.
//!
//! Work that contradicts itself, or pays somebody else, is refused here: every
//! hash on it would be lost.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use pithead_api::v1::SubscribeWorkResponse;
use pithead_consensus::block::VERSION_ROLL_MASK;
use pithead_consensus::{
    Address, BlockCommitment, BlockHeader, Decode as _, DecodeError, Hash256, Target,
    target::CompactTargetError,
};
use thiserror::Error;

/// Work that can't be mined on.
#[derive(Debug, Error)]
pub enum WorkError {
    /// The header or the commitment can't be decoded.
    #[error("its {part} can't be decoded: {error}")]
    Malformed {
        /// Which of them.
        part: &'static str,
        /// Why.
        error: DecodeError,
    },
    /// A target is not 32 bytes, or zero.
    #[error("its {field} is no target: {bytes} bytes, or zero")]
    BadTarget {
        /// Which target.
        field: &'static str,
        /// Length found.
        bytes: usize,
    },
    /// The header's compact target is not one.
    #[error("its header's bits are wrong: {0}")]
    BadBits(#[from] CompactTargetError),
    /// The target differs from the one in the header.
    #[error("its target {target} is not that of its header, {expected}")]
    TargetMismatch {
        /// The target in the message.
        target: Target,
        /// The target in the header.
        expected: Target,
    },
    /// The header does not commit to the commitment.
    #[error("its header does not commit to its commitment")]
    RootMismatch,
    /// It pays somebody else.
    #[error("it pays another address: {found:?} instead of {expected:?}")]
    WrongAddress {
        /// Who would be paid.
        found: Address,
        /// Who should be.
        expected: Address,
    },
    /// No time is allowed.
    #[error("no time is allowed for its header: from {min} to {max}")]
    NoTime {
        /// Earliest time.
        min: u32,
        /// Latest time.
        max: u32,
    },
}

/// Work to be mined on.
#[derive(Debug)]
pub struct Work {
    /// The node's name for it.
    pub id: String,
    /// Height of the block to be found.
    pub height: u64,
    /// The header, with nonce 0 and extra nonce 0.
    pub header: BlockHeader,
    /// The commitment, with extra nonce 0.
    pub commitment: BlockCommitment,
    /// What a block's hash must not exceed.
    pub block_target: Target,
    /// What a share's hash must not exceed.
    pub share_target: Target,
    /// What the block pays, grains.
    pub reward: u64,
    /// Transactions in the block.
    pub transaction_count: u32,
    /// Earliest and latest time of the header, Unix seconds.
    pub times: (u32, u32),
    /// Bits of the version that may be rolled.
    pub version_mask: u32,
    /// Whether work before it is stale.
    pub clean: bool,
    /// Counts the connections of this run: tells which one it came over.
    pub connection: u64,
    /// When it arrived.
    pub arrived: Instant,
    /// Microseconds from its arrival to the first hash on it, plus one; 0 before.
    first_hash_us: AtomicU64,
    /// The same for the worker that took it up last.
    last_worker_us: AtomicU64,
    /// Workers that have taken it up.
    workers: AtomicUsize,
}

impl Work {
    /// Checks what the node sent.
    ///
    /// # Errors
    /// [`WorkError`] says why mining on it would be in vain.
    pub fn from_message(
        message: SubscribeWorkResponse,
        reward_address: &Address,
        connection: u64,
        arrived: Instant,
    ) -> Result<Self, WorkError> {
        let header =
            BlockHeader::decode(&message.header).map_err(|error| WorkError::Malformed {
                part: "header",
                error,
            })?;
        let commitment =
            BlockCommitment::decode(&message.commitment).map_err(|error| WorkError::Malformed {
                part: "commitment",
                error,
            })?;
        let block_target = target(&message.target, "target")?;
        let share_target = target(&message.share_target, "share target")?;
        let expected = header.bits.to_target()?;
        if block_target != expected {
            return Err(WorkError::TargetMismatch {
                target: block_target,
                expected,
            });
        }
        if header.merkle_root != commitment.merkle_root() {
            return Err(WorkError::RootMismatch);
        }
        if commitment.reward_address != *reward_address {
            return Err(WorkError::WrongAddress {
                found: commitment.reward_address,
                expected: *reward_address,
            });
        }
        let seconds =
            |seconds: i64| u32::try_from(seconds.clamp(0, i64::from(u32::MAX))).unwrap_or(u32::MAX);
        // Unset bounds leave the header's time as it is.
        let min = message.min_time.map_or(header.time, |t| seconds(t.seconds));
        let max = message.max_time.map_or(header.time, |t| seconds(t.seconds));
        if min > max {
            return Err(WorkError::NoTime { min, max });
        }
        Ok(Self {
            id: message.work_id,
            height: message.height,
            header,
            commitment,
            block_target,
            // A block is always worth handing in.
            share_target: share_target.max(block_target),
            reward: message.reward,
            transaction_count: message.transaction_count,
            times: (min, max),
            version_mask: message.version_mask,
            clean: message.clean,
            connection,
            arrived,
            first_hash_us: AtomicU64::new(0),
            last_worker_us: AtomicU64::new(0),
            workers: AtomicUsize::new(0),
        })
    }

    /// Work on which no hash in the lifetime of the machine will be a solution:
    /// for measuring.
    #[must_use]
    pub fn without_solution() -> Self {
        let header = crate::kernel::bitcoin_genesis();
        let mut one = [0; 32];
        one[0] = 1;
        // One is no zero; the fallback is never taken.
        let target = Target::from_le_bytes(one).unwrap_or(Target::MAX);
        Self {
            id: String::new(),
            height: 0,
            header,
            commitment: BlockCommitment {
                transactions_root: Hash256::default(),
                state_root: Hash256::default(),
                reward_address: Address([0; 32]),
                extra_nonce: [0; 8],
            },
            block_target: target,
            share_target: target,
            reward: 0,
            transaction_count: 0,
            times: (0, u32::MAX),
            version_mask: VERSION_ROLL_MASK,
            clean: true,
            connection: 0,
            arrived: Instant::now(),
            first_hash_us: AtomicU64::new(0),
            last_worker_us: AtomicU64::new(0),
            workers: AtomicUsize::new(0),
        }
    }

    /// The header's time now: as it came, plus the seconds since, within what
    /// the node allows. The miner's own calendar is never asked, so a wrong one
    /// does no harm.
    #[must_use]
    pub fn time_at(&self, now: Instant) -> u32 {
        let elapsed = now.saturating_duration_since(self.arrived).as_secs();
        let elapsed = u32::try_from(elapsed).unwrap_or(u32::MAX);
        let (min, max) = self.times;
        self.header.time.saturating_add(elapsed).clamp(min, max)
    }

    /// The commitment with the miner's part of the extra nonce.
    #[must_use]
    pub fn commitment_with(&self, extra_nonce: [u8; 4]) -> BlockCommitment {
        let mut commitment = self.commitment;
        commitment.extra_nonce[4..].copy_from_slice(&extra_nonce);
        commitment
    }

    /// The header that commits to the miner's part of the extra nonce.
    #[must_use]
    pub fn header_with(&self, extra_nonce: [u8; 4], time: u32) -> BlockHeader {
        BlockHeader {
            merkle_root: self.commitment_with(extra_nonce).merkle_root(),
            time,
            ..self.header
        }
    }

    /// Notes that a worker begins to hash on it; each does so once.
    pub fn note_taken_up(&self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.arrived).as_micros();
        let elapsed = u64::try_from(elapsed).unwrap_or(u64::MAX).saturating_add(1);
        // Losing the race means that another worker was first.
        let _ =
            self.first_hash_us
                .compare_exchange(0, elapsed, Ordering::Relaxed, Ordering::Relaxed);
        self.last_worker_us.fetch_max(elapsed, Ordering::Relaxed);
        // After the time, for those who look at the count first.
        self.workers.fetch_add(1, Ordering::Release);
    }

    /// Microseconds from its arrival until every one of so many workers was on it.
    #[must_use]
    pub fn last_worker_us(&self, workers: usize) -> Option<u64> {
        if self.workers.load(Ordering::Acquire) < workers {
            return None;
        }
        self.last_worker_us.load(Ordering::Relaxed).checked_sub(1)
    }

    /// Microseconds from its arrival to the first hash on it.
    #[must_use]
    pub fn first_hash_us(&self) -> Option<u64> {
        self.first_hash_us.load(Ordering::Relaxed).checked_sub(1)
    }

    /// Expected hashes for a block.
    #[must_use]
    pub fn difficulty(&self) -> f64 {
        self.block_target.work().to_f64()
    }
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
