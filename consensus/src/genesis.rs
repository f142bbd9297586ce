//! The genesis: a network's parameters, first accounts and validators
//! (protocol §10). Two networks that differ in any of them differ in the hash
//! of their genesis block.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::address::{Address, AddressPrefix, ParseAddressError};
use crate::amount::Amount;
use crate::block::{BASE_VERSION, Block, BlockCommitment, BlockHeader};
use crate::hash::{BlockHash, Hash256, tagged};
use crate::key::{PublicKey, PublicKeyError};
use crate::state_tree;
use crate::target::{CompactTarget, CompactTargetError, Target};

/// Longest name of a network, bytes.
const NAME_BYTES_MAX: usize = 32;
/// Smallest block limit that a genesis may set: holds one largest transaction.
const BLOCK_BYTES_MIN: u32 = 32_768;
/// Largest block limit that a genesis may set: a block must fit one message.
const BLOCK_BYTES_MAX: u32 = 3_500_000;
/// Longest wait for a reward that a genesis may set, blocks.
const REWARD_MATURITY_MAX: u32 = 1_000;
/// Most validators.
const VALIDATORS_MAX: usize = 1_000;
/// Most allocations.
const ALLOCATIONS_MAX: usize = 1_000_000;

/// The parameters that every rule refers to (protocol §10).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsensusParams {
    /// Hash of the genesis block: names the chain in every signed message.
    pub genesis_hash: BlockHash,
    /// Easiest target that a header may carry.
    pub pow_limit: Target,
    /// Intended mean time between blocks, seconds.
    pub block_interval_secs: u32,
    /// Half-life of the difficulty rule, seconds.
    pub half_life_secs: u32,
    /// How far a block's time may lie ahead of the clock, seconds.
    pub max_future_secs: u32,
    /// Largest encoded block, bytes.
    pub max_block_bytes: u32,
    /// Blocks until a reward is paid out; 0: with its own block.
    pub reward_maturity: u32,
    /// Every how many blocks there is a checkpoint.
    pub checkpoint_interval: u32,
    /// Approvals that make a certificate.
    pub approval_quorum: u32,
}

/// A checked genesis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Genesis {
    /// Name of the network.
    pub name: String,
    /// Prefix of its addresses.
    pub prefix: AddressPrefix,
    /// The genesis block: header and commitment, no transactions.
    pub block: Block,
    /// Its parameters.
    pub params: ConsensusParams,
    /// The first accounts.
    pub allocations: BTreeMap<Address, Amount>,
    /// The validators' keys, in the file's order; their addresses follow.
    pub validators: Vec<PublicKey>,
}

/// A genesis file, as written in TOML.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenesisFile {
    /// Name of the network, 1 to 32 printable ASCII characters.
    pub name: String,
    /// Prefix of its addresses.
    pub address_prefix: String,
    /// Time of the genesis block, Unix seconds.
    pub time: u32,
    /// Compact target of the first block.
    pub bits: u32,
    /// Easiest compact target.
    pub pow_limit_bits: u32,
    /// See [`ConsensusParams::block_interval_secs`].
    pub block_interval_secs: u32,
    /// See [`ConsensusParams::half_life_secs`].
    pub half_life_secs: u32,
    /// See [`ConsensusParams::max_future_secs`].
    pub max_future_secs: u32,
    /// See [`ConsensusParams::max_block_bytes`].
    pub max_block_bytes: u32,
    /// See [`ConsensusParams::reward_maturity`].
    pub reward_maturity: u32,
    /// See [`ConsensusParams::checkpoint_interval`].
    pub checkpoint_interval: u32,
    /// See [`ConsensusParams::approval_quorum`]; 0 without validators.
    #[serde(default)]
    pub approval_quorum: u32,
    /// First accounts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allocations: Vec<AllocationEntry>,
    /// Validators.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub validators: Vec<ValidatorEntry>,
}

/// A first account in a genesis file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AllocationEntry {
    /// Address in text form.
    pub address: String,
    /// Balance in PIT, such as "100" or "0.5".
    pub amount: String,
}

/// A validator in a genesis file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValidatorEntry {
    /// Its address in text form: must be that of the key.
    pub address: String,
    /// Its modulus, 512 hexadecimal digits.
    pub public_key: String,
}

/// Why a genesis file is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum GenesisError {
    /// Not TOML, or unknown or missing keys.
    #[error("the genesis file can't be read: {0}")]
    BadToml(String),
    /// The name is empty, too long or not printable ASCII.
    #[error("name {found:?} is not 1 to 32 printable ASCII characters")]
    BadName {
        /// The name found.
        found: String,
    },
    /// The address prefix or an address is malformed.
    #[error("{field}: {error}")]
    BadAddress {
        /// Which field.
        field: String,
        /// What is wrong with it.
        error: ParseAddressError,
    },
    /// A compact target is malformed.
    #[error("{field}: {error}")]
    BadTarget {
        /// Which field.
        field: &'static str,
        /// What is wrong with it.
        error: CompactTargetError,
    },
    /// The first target is easier than the limit.
    #[error("bits {bits} is an easier target than pow_limit_bits {limit}")]
    TargetAboveLimit {
        /// The first compact target.
        bits: CompactTarget,
        /// The limit.
        limit: CompactTarget,
    },
    /// A number is out of its range.
    #[error("{field} is {found}, expected {min} to {max}")]
    OutOfRange {
        /// Which field.
        field: &'static str,
        /// The number found.
        found: u64,
        /// Least allowed.
        min: u64,
        /// Most allowed.
        max: u64,
    },
    /// An allocated amount is malformed or zero.
    #[error("allocation of {address}: {reason}")]
    BadAllocation {
        /// Whose.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An address is allocated to twice.
    #[error("{address} has two allocations; add them up")]
    DuplicateAllocation {
        /// Whose.
        address: String,
    },
    /// The allocations exceed all money there can be.
    #[error("the allocations add up to {found} grains, more than there can ever be")]
    TooMuchAllocated {
        /// Their sum in grains.
        found: u128,
    },
    /// A validator's key is malformed.
    #[error("public key of validator {address}: {reason}")]
    BadValidatorKey {
        /// Whose.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
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
    DuplicateValidator {
        /// Whose.
        address: String,
    },
    /// Two conflicting certificates could exist without enough provable faults.
    #[error(
        "approval_quorum {quorum} of {validators} validators is unsafe: 3 × {quorum} must exceed 2 × {validators}, and {quorum} must not exceed {validators}; the least safe quorum is {least}"
    )]
    UnsafeQuorum {
        /// The quorum found.
        quorum: u32,
        /// The number of validators.
        validators: usize,
        /// The least quorum that is safe.
        least: usize,
    },
    /// A quorum without validators.
    #[error("approval_quorum is {quorum}, but there are no validators: set it to 0")]
    QuorumWithoutValidators {
        /// The quorum found.
        quorum: u32,
    },
}

/// The built-in networks (protocol §10).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Network {
    /// The network whose money is meant to be worth something.
    Main,
    /// For trying things out with others.
    Test,
    /// For a developer's own machine.
    Dev,
}

impl Network {
    /// The name of the network.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Main => "main",
            Self::Test => "test",
            Self::Dev => "dev",
        }
    }

    /// The network's genesis file (protocol §10, the table of presets).
    #[must_use]
    pub fn genesis_file(self) -> GenesisFile {
        // 2026-11-01 00:00:00 UTC.
        let time = 1_793_491_200;
        let base = GenesisFile {
            name: self.name().to_owned(),
            address_prefix: "pit".to_owned(),
            time,
            // 2^32 hashes; the limit is 2^24.
            bits: 0x1d00_ffff,
            pow_limit_bits: 0x1e00_ffff,
            block_interval_secs: 10,
            half_life_secs: 3_600,
            max_future_secs: 120,
            max_block_bytes: 2_000_000,
            reward_maturity: 100,
            checkpoint_interval: 10,
            approval_quorum: 0,
            allocations: Vec::new(),
            validators: Vec::new(),
        };
        match self {
            Self::Main => base,
            Self::Test => GenesisFile {
                address_prefix: "tpit".to_owned(),
                // 2^28 hashes; the limit is 2^20.
                bits: 0x1d0f_ffff,
                pow_limit_bits: 0x1e0f_ffff,
                half_life_secs: 1_800,
                reward_maturity: 10,
                ..base
            },
            Self::Dev => GenesisFile {
                address_prefix: "dpit".to_owned(),
                // 2^20 hashes; the limit is 2.
                bits: 0x1e0f_ffff,
                pow_limit_bits: 0x207f_ffff,
                block_interval_secs: 2,
                half_life_secs: 60,
                max_future_secs: 10,
                reward_maturity: 0,
                checkpoint_interval: 1,
                ..base
            },
        }
    }

    /// The network's genesis.
    ///
    /// # Errors
    /// None for the built-in networks; a test holds them to it.
    pub fn genesis(self) -> Result<Genesis, GenesisError> {
        self.genesis_file().check()
    }
}

impl GenesisFile {
    /// Reads TOML.
    ///
    /// # Errors
    /// [`GenesisError::BadToml`] names the line.
    pub fn from_toml(text: &str) -> Result<Self, GenesisError> {
        toml::from_str(text).map_err(|error| GenesisError::BadToml(error.to_string()))
    }

    /// Writes TOML.
    ///
    /// # Errors
    /// [`GenesisError::BadToml`] if the values can't be written.
    pub fn to_toml(&self) -> Result<String, GenesisError> {
        toml::to_string_pretty(self).map_err(|error| GenesisError::BadToml(error.to_string()))
    }

    /// Checks every value and computes the genesis block.
    ///
    /// # Errors
    /// [`GenesisError`] names the field, what was found and what is expected.
    pub fn check(&self) -> Result<Genesis, GenesisError> {
        let printable = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
        if self.name.is_empty()
            || self.name.len() > NAME_BYTES_MAX
            || !self.name.bytes().all(printable)
        {
            return Err(GenesisError::BadName {
                found: self.name.chars().take(80).collect(),
            });
        }
        let prefix =
            AddressPrefix::new(&self.address_prefix).map_err(|error| GenesisError::BadAddress {
                field: "address_prefix".to_owned(),
                error,
            })?;
        self.check_targets()?;
        self.check_ranges()?;
        let allocations = self.checked_allocations(&prefix)?;
        let validators = self.checked_validators(&prefix)?;
        self.check_quorum(validators.len())?;

        let encoding = self.canonical_encoding(&allocations, &validators);
        let block = self.genesis_block(&encoding);
        let params = ConsensusParams {
            genesis_hash: block.header.hash(),
            pow_limit: target_of("pow_limit_bits", self.pow_limit_bits)?,
            block_interval_secs: self.block_interval_secs,
            half_life_secs: self.half_life_secs,
            max_future_secs: self.max_future_secs,
            max_block_bytes: self.max_block_bytes,
            reward_maturity: self.reward_maturity,
            checkpoint_interval: self.checkpoint_interval,
            approval_quorum: self.approval_quorum,
        };
        Ok(Genesis {
            name: self.name.clone(),
            prefix,
            block,
            params,
            allocations,
            validators,
        })
    }

    fn check_targets(&self) -> Result<(), GenesisError> {
        let target = target_of("bits", self.bits)?;
        let limit = target_of("pow_limit_bits", self.pow_limit_bits)?;
        if target > limit {
            return Err(GenesisError::TargetAboveLimit {
                bits: CompactTarget(self.bits),
                limit: CompactTarget(self.pow_limit_bits),
            });
        }
        Ok(())
    }

    fn check_ranges(&self) -> Result<(), GenesisError> {
        let day = 86_400;
        let ranges = [
            ("block_interval_secs", self.block_interval_secs, 1, day),
            ("half_life_secs", self.half_life_secs, 1, 365 * day),
            ("max_future_secs", self.max_future_secs, 1, day),
            (
                "max_block_bytes",
                self.max_block_bytes,
                BLOCK_BYTES_MIN,
                BLOCK_BYTES_MAX,
            ),
            (
                "reward_maturity",
                self.reward_maturity,
                0,
                REWARD_MATURITY_MAX,
            ),
            ("checkpoint_interval", self.checkpoint_interval, 1, 100_000),
        ];
        for (field, found, min, max) in ranges {
            if found < min || found > max {
                return Err(GenesisError::OutOfRange {
                    field,
                    found: u64::from(found),
                    min: u64::from(min),
                    max: u64::from(max),
                });
            }
        }
        for (field, found, max) in [
            (
                "number of allocations",
                self.allocations.len(),
                ALLOCATIONS_MAX,
            ),
            (
                "number of validators",
                self.validators.len(),
                VALIDATORS_MAX,
            ),
        ] {
            if found > max {
                return Err(GenesisError::OutOfRange {
                    field,
                    found: u64::try_from(found).unwrap_or(u64::MAX),
                    min: 0,
                    max: u64::try_from(max).unwrap_or(u64::MAX),
                });
            }
        }
        Ok(())
    }

    fn checked_allocations(
        &self,
        prefix: &AddressPrefix,
    ) -> Result<BTreeMap<Address, Amount>, GenesisError> {
        let mut allocations = BTreeMap::new();
        for entry in &self.allocations {
            let address = Address::from_text(&entry.address, prefix).map_err(|error| {
                GenesisError::BadAddress {
                    field: "allocations".to_owned(),
                    error,
                }
            })?;
            let bad = |reason: String| GenesisError::BadAllocation {
                address: entry.address.clone(),
                reason,
            };
            let amount: Amount = entry
                .amount
                .parse()
                .map_err(|error: crate::amount::ParseAmountError| bad(error.to_string()))?;
            if amount == Amount::ZERO {
                return Err(bad("an allocation is at least one grain".to_owned()));
            }
            if allocations.insert(address, amount).is_some() {
                return Err(GenesisError::DuplicateAllocation {
                    address: entry.address.clone(),
                });
            }
        }
        Amount::sum(allocations.values().copied())
            .map_err(|error| GenesisError::TooMuchAllocated { found: error.found })?;
        Ok(allocations)
    }

    fn checked_validators(&self, prefix: &AddressPrefix) -> Result<Vec<PublicKey>, GenesisError> {
        let mut keys = Vec::with_capacity(self.validators.len());
        let mut seen = BTreeSet::new();
        for entry in &self.validators {
            let bad_key = |reason: String| GenesisError::BadValidatorKey {
                address: entry.address.clone(),
                reason,
            };
            let modulus =
                hex::decode(&entry.public_key).map_err(|error| bad_key(error.to_string()))?;
            let key = PublicKey::from_modulus(&modulus)
                .map_err(|error: PublicKeyError| bad_key(error.to_string()))?;
            let address = Address::of_key(&key);
            let expected = address.to_text(prefix);
            if entry.address != expected {
                return Err(GenesisError::ValidatorAddressMismatch {
                    found: entry.address.clone(),
                    expected,
                });
            }
            if !seen.insert(address) {
                return Err(GenesisError::DuplicateValidator {
                    address: entry.address.clone(),
                });
            }
            keys.push(key);
        }
        Ok(keys)
    }

    fn check_quorum(&self, validators: usize) -> Result<(), GenesisError> {
        let quorum = u64::from(self.approval_quorum);
        let count = u64::try_from(validators).unwrap_or(u64::MAX);
        if count == 0 {
            return if quorum == 0 {
                Ok(())
            } else {
                Err(GenesisError::QuorumWithoutValidators {
                    quorum: self.approval_quorum,
                })
            };
        }
        // # Consensus: §9 "refused unless 3·quorum > 2·n".
        if quorum.saturating_mul(3) <= count.saturating_mul(2) || quorum > count {
            return Err(GenesisError::UnsafeQuorum {
                quorum: self.approval_quorum,
                validators,
                least: validators
                    .saturating_mul(2)
                    .checked_div(3)
                    .unwrap_or(0)
                    .saturating_add(1),
            });
        }
        Ok(())
    }

    /// Everything that the network agrees on, in a fixed order; allocations
    /// ascend by address. `docs/protocol.md` §10 lists the fields.
    fn canonical_encoding(
        &self,
        allocations: &BTreeMap<Address, Amount>,
        validators: &[PublicKey],
    ) -> Vec<u8> {
        let mut out = Vec::new();
        for text in [&self.name, &self.address_prefix] {
            // Both lengths were checked: they fit one byte.
            out.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
            out.extend_from_slice(text.as_bytes());
        }
        for number in [
            self.time,
            self.bits,
            self.pow_limit_bits,
            self.block_interval_secs,
            self.half_life_secs,
            self.max_future_secs,
            self.max_block_bytes,
            self.reward_maturity,
            self.checkpoint_interval,
            self.approval_quorum,
            u32::try_from(allocations.len()).unwrap_or(u32::MAX),
        ] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        for (address, amount) in allocations {
            out.extend_from_slice(&address.0);
            out.extend_from_slice(&amount.grains().to_le_bytes());
        }
        let count = u32::try_from(validators.len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&count.to_le_bytes());
        for key in validators {
            out.extend_from_slice(&Address::of_key(key).0);
            out.extend_from_slice(key.modulus());
        }
        out
    }

    fn genesis_block(&self, encoding: &[u8]) -> Block {
        let commitment = BlockCommitment {
            transactions_root: Hash256(tagged("pithead/genesis", encoding)),
            state_root: state_tree::EMPTY_ROOT,
            reward_address: Address([0; 32]),
            extra_nonce: [0; 8],
        };
        Block {
            header: BlockHeader {
                version: BASE_VERSION,
                prev: BlockHash::ZERO,
                merkle_root: commitment.merkle_root(),
                time: self.time,
                bits: CompactTarget(self.bits),
                nonce: 0,
            },
            commitment,
            transactions: Vec::new(),
        }
    }
}

fn target_of(field: &'static str, bits: u32) -> Result<Target, GenesisError> {
    CompactTarget(bits)
        .to_target()
        .map_err(|error| GenesisError::BadTarget { field, error })
}
