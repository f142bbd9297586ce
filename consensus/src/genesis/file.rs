//! Genesis files: read from TOML, checked, turned into a genesis block
//! (protocol §10). Start with [`GenesisFile::check`].

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{ConsensusParams, Genesis, GenesisError};
use crate::address::{Address, AddressPrefix};
use crate::amount::Amount;
use crate::block::{BASE_VERSION, Block, BlockCommitment, BlockHeader};
use crate::hash::{BlockHash, Hash256, tagged};
use crate::key::{PublicKey, PublicKeyError};
use crate::state_tree;
use crate::target::{CompactTarget, Target};

/// Longest name of a network, bytes.
const NAME_BYTES_MAX: usize = 32;
/// Smallest block limit that a genesis may set: a largest transaction fits.
const BLOCK_BYTES_MIN: u32 = 32_768;
/// Largest block limit that a genesis may set: a block fits one API message.
const BLOCK_BYTES_MAX: u32 = 3_500_000;
/// Least limit of account changes that a genesis may set: a largest transaction fits, with its
/// sender and 255 outputs.
const ACCOUNT_CHANGES_MIN: u32 = 256;
/// Largest limit of account changes that a genesis may set: more outputs than fit into the largest
/// block.
const ACCOUNT_CHANGES_MAX: u32 = 100_000;
/// Largest amount that a genesis may ask of an output that opens an account, grains: 1 PIT.
const OPENING_AMOUNT_MAX: u32 = 100_000_000;
/// Longest wait for a reward that a genesis may set, blocks.
const REWARD_MATURITY_MAX: u32 = 1_000;
/// Most validators.
const VALIDATORS_MAX: usize = 1_000;
/// Most allocations.
const ALLOCATIONS_MAX: usize = 1_000_000;

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
    /// See [`ConsensusParams::max_account_changes`].
    pub max_account_changes: u32,
    /// See [`ConsensusParams::min_opening_amount`]; grains.
    pub min_opening_amount: u32,
    /// See [`ConsensusParams::reward_maturity`].
    pub reward_maturity: u32,
    /// See [`ConsensusParams::checkpoint_interval`].
    pub checkpoint_interval: u32,
    /// See [`ConsensusParams::approval_quorum`]; 0 without validators.
    #[serde(default)]
    pub approval_quorum: u32,
    /// The accounts that have money from the start.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allocations: Vec<AllocationEntry>,
    /// Validators.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub validators: Vec<ValidatorEntry>,
}

/// An account that has money from the start.
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
    /// The address in text form. It must be that of the key.
    pub address: String,
    /// The modulus, 512 hexadecimal digits.
    pub public_key: String,
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
            max_account_changes: self.max_account_changes,
            min_opening_amount: self.opening_amount()?,
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

    fn opening_amount(&self) -> Result<Amount, GenesisError> {
        let grains = u64::from(self.min_opening_amount);
        Amount::from_grains(grains).map_err(|_| GenesisError::OutOfRange {
            field: "min_opening_amount",
            found: grains,
            min: 1,
            max: u64::from(OPENING_AMOUNT_MAX),
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
                "max_account_changes",
                self.max_account_changes,
                ACCOUNT_CHANGES_MIN,
                ACCOUNT_CHANGES_MAX,
            ),
            (
                "min_opening_amount",
                self.min_opening_amount,
                1,
                OPENING_AMOUNT_MAX,
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
        // # Consensus: §9 "A genesis with n validators is refused unless
        // 3 · quorum > 2 · n and quorum ≤ n".
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

    /// Every parameter, in a fixed order; allocations ascend by address.
    /// `docs/protocol.md` §10 lists the fields.
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
            self.max_account_changes,
            self.min_opening_amount,
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
