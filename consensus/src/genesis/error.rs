//! The faults that a genesis file can have.

use thiserror::Error;

use crate::address::ParseAddressError;
use crate::target::{CompactTarget, CompactTargetError};

/// A genesis file is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum GenesisError {
    /// The file is not TOML, or a key is unknown or missing.
    #[error("the genesis file can't be read: {0}")]
    BadToml(String),
    /// The name is empty, too long or not printable ASCII.
    #[error("name {found:?} is not 1 to 32 printable ASCII characters")]
    BadName { found: String },
    /// The address prefix or an address is malformed.
    #[error("{field}: {error}")]
    BadAddress {
        field: String,
        error: ParseAddressError,
    },
    /// A compact target is malformed.
    #[error("{field}: {error}")]
    BadTarget {
        field: &'static str,
        error: CompactTargetError,
    },
    /// The first target is easier than the limit.
    #[error("bits {bits} is an easier target than pow_limit_bits {limit}")]
    TargetAboveLimit {
        /// The first compact target.
        bits: CompactTarget,
        limit: CompactTarget,
    },
    /// A number is out of its range.
    #[error("{field} is {found}, expected {min} to {max}")]
    OutOfRange {
        field: &'static str,
        found: u64,
        min: u64,
        max: u64,
    },
    /// An allocated amount is malformed or zero.
    #[error("allocation of {address}: {reason}")]
    BadAllocation { address: String, reason: String },
    /// An address is allocated to twice.
    #[error("{address} has two allocations; add them up")]
    DuplicateAllocation { address: String },
    /// The allocations exceed all money there can be.
    #[error("the allocations add up to {found} grains, more than there can ever be")]
    TooMuchAllocated {
        /// Their sum in grains.
        found: u128,
    },
    /// A validator's key is malformed.
    #[error("public key of validator {address}: {reason}")]
    BadValidatorKey { address: String, reason: String },
    /// A validator's address is not that of its key.
    #[error("validator {found} has the key of {expected}")]
    ValidatorAddressMismatch {
        /// The address in the file.
        found: String,
        /// The address of the key in the file.
        expected: String,
    },
    /// A validator is listed twice.
    #[error("validator {address} is listed twice")]
    DuplicateValidator { address: String },
    /// Two conflicting certificates could exist without enough provable faults.
    #[error(
        "approval_quorum {quorum} of {validators} validators is unsafe: 3 × {quorum} must exceed 2 × {validators}, and {quorum} must not exceed {validators}; the least safe quorum is {least}"
    )]
    UnsafeQuorum {
        quorum: u32,
        /// The number of validators.
        validators: usize,
        /// The least quorum that is safe.
        least: usize,
    },
    /// A quorum without validators.
    #[error("approval_quorum is {quorum}, but there are no validators: set it to 0")]
    QuorumWithoutValidators { quorum: u32 },
}
