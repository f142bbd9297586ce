//! The work that a fake node hands out.

use pithead_api::v1::SubscribeWorkResponse;
use pithead_consensus::block::VERSION_ROLL_MASK;
use pithead_consensus::hash::Hash256;
use pithead_consensus::{
    Address, AddressPrefix, BlockCommitment, BlockHash, BlockHeader, CompactTarget, Encode as _,
    Target,
};

/// The address that is paid in all tests.
pub(crate) fn reward_address() -> Address {
    Address([7; 32])
}

/// The same address as text.
pub(crate) fn reward_text() -> String {
    reward_address().to_text(&AddressPrefix::new("dpit").unwrap())
}

/// A piece of work.
#[derive(Debug, Clone)]
pub(crate) struct WorkSpec {
    pub(crate) height: u64,
    /// Each byte of the parent's hash.
    pub(crate) prev: u8,
    pub(crate) bits: u32,
    /// How many hashes a share takes on average.
    pub(crate) share_hashes: u32,
    pub(crate) clean: bool,
    pub(crate) time: u32,
    /// Earliest and latest time of the header.
    pub(crate) times: (u32, u32),
    pub(crate) version: u32,
    pub(crate) version_mask: u32,
    /// The node's half of the extra nonce.
    pub(crate) prefix: [u8; 4],
    pub(crate) reward_address: Address,
    pub(crate) transaction_count: u32,
}

impl Default for WorkSpec {
    fn default() -> Self {
        Self {
            height: 1,
            prev: 1,
            // A block takes 2^32 hashes, so no test finds one by accident.
            bits: 0x1d00_ffff,
            share_hashes: 1 << 14,
            clean: true,
            time: 1_700_000_000,
            times: (1_600_000_000, 1_800_000_000),
            version: 0x2000_0000,
            version_mask: VERSION_ROLL_MASK,
            prefix: [0xaa; 4],
            reward_address: reward_address(),
            transaction_count: 0,
        }
    }
}

impl WorkSpec {
    /// Work whose blocks take about 2^14 hashes.
    pub(crate) fn easy() -> Self {
        Self {
            bits: 0x1f03_ffff,
            ..Self::default()
        }
    }

    pub(crate) fn commitment(&self) -> BlockCommitment {
        let mut extra_nonce = [0; 8];
        extra_nonce[..4].copy_from_slice(&self.prefix);
        BlockCommitment {
            transactions_root: Hash256([1; 32]),
            state_root: Hash256([2; 32]),
            reward_address: self.reward_address,
            extra_nonce,
        }
    }

    pub(crate) fn header(&self) -> BlockHeader {
        BlockHeader {
            version: self.version,
            prev: BlockHash([self.prev; 32]),
            merkle_root: self.commitment().merkle_root(),
            time: self.time,
            bits: CompactTarget(self.bits),
            nonce: 0,
        }
    }

    pub(crate) fn share_target(&self) -> Target {
        target_of(self.share_hashes)
    }

    pub(crate) fn block_target(&self) -> Target {
        CompactTarget(self.bits).to_target().unwrap()
    }

    /// The message in which a node sends this work, under the name `work`.
    pub(crate) fn message(&self) -> SubscribeWorkResponse {
        let timestamp = |seconds: u32| prost_types::Timestamp {
            seconds: i64::from(seconds),
            nanos: 0,
        };
        SubscribeWorkResponse {
            work_id: "work".to_owned(),
            height: self.height,
            header: self.header().encode().into(),
            commitment: self.commitment().encode().into(),
            target: self.block_target().to_le_bytes().to_vec().into(),
            share_target: self.share_target().to_le_bytes().to_vec().into(),
            reward: 5_000_000_000,
            min_time: Some(timestamp(self.times.0)),
            max_time: Some(timestamp(self.times.1)),
            clean: self.clean,
            transaction_count: self.transaction_count,
            version_mask: self.version_mask,
            ..SubscribeWorkResponse::default()
        }
    }
}

/// A target that about one hash in `hashes` meets.
pub(crate) fn target_of(hashes: u32) -> Target {
    let mut bytes = [0xff; 32];
    bytes[28..].copy_from_slice(&(u32::MAX / hashes).to_le_bytes());
    Target::from_le_bytes(bytes).unwrap()
}
