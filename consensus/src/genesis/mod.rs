//! The genesis: a network's parameters, first accounts and validators
//! (protocol §10). Two networks that differ in any of them differ in the hash
//! of their genesis block.

mod error;
mod file;
mod network;

use std::collections::BTreeMap;

use crate::address::{Address, AddressPrefix};
use crate::amount::Amount;
use crate::block::Block;
use crate::hash::BlockHash;
use crate::key::PublicKey;
use crate::target::Target;

pub use error::GenesisError;
pub use file::{AllocationEntry, GenesisFile, ValidatorEntry};
pub use network::Network;

/// The parameters of a network, which the rules refer to (protocol §10).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsensusParams {
    /// Hash of the genesis block. It names the chain in every signed message.
    pub genesis_hash: BlockHash,
    /// The easiest target that a header may carry.
    pub pow_limit: Target,
    /// Intended mean time between blocks, seconds.
    pub block_interval_secs: u32,
    /// Half-life of the difficulty rule, seconds.
    pub half_life_secs: u32,
    /// How far a block's time may lie ahead of the clock, seconds.
    pub max_future_secs: u32,
    /// Largest encoded block, bytes.
    pub max_block_bytes: u32,
    /// Most accounts that a block's transactions may change: one for each sender and one for
    /// each output.
    pub max_account_changes: u32,
    /// Least amount of an output that opens an account.
    pub min_opening_amount: Amount,
    /// Blocks until a reward is paid out. With 0 a block pays out its own reward.
    pub reward_maturity: u32,
    /// A checkpoint is a block whose height is a multiple of this.
    pub checkpoint_interval: u32,
    /// How many approvals make a certificate.
    pub approval_quorum: u32,
}

/// A checked genesis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Genesis {
    /// Name of the network.
    pub name: String,
    /// Prefix of its addresses.
    pub prefix: AddressPrefix,
    /// The genesis block, which has no transactions.
    pub block: Block,
    pub params: ConsensusParams,
    pub allocations: BTreeMap<Address, Amount>,
    /// The validators' keys, in the file's order.
    pub validators: Vec<PublicKey>,
}
