//! Converts between wire messages and consensus types.
//!
//! The wire shows hashes, addresses and times as people read them. An address can be
//! read only with the network's prefix, and a txid depends on the genesis hash. A
//! conversion that needs either is a method of [`ChainContext`].

mod block;
mod transaction;

use pithead_consensus::{Address, AddressPrefix, BlockHash, Txid};
use thiserror::Error;

pub use block::{BlockSummary, header, work_f64};
pub use transaction::amount;

/// A field of a message can't be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{field}: {reason}")]
pub struct ConversionError {
    /// Path of the field, such as `outputs[2].recipient`.
    pub field: String,
    /// The fault, and what is expected instead.
    pub reason: String,
}

impl ConversionError {
    /// An error for the field with this path.
    pub fn new(field: impl Into<String>, reason: impl ToString) -> Self {
        Self {
            field: field.into(),
            reason: reason.to_string(),
        }
    }
}

/// The network that messages are about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainContext {
    /// Prefix of the network's addresses.
    pub prefix: AddressPrefix,
    /// Hash of the genesis block, which is part of every signed message.
    pub genesis_hash: BlockHash,
}

impl ChainContext {
    /// An address as text.
    #[must_use]
    pub fn address_text(&self, address: &Address) -> String {
        address.to_text(&self.prefix)
    }

    /// Reads an address.
    ///
    /// # Errors
    /// [`ConversionError`] if it is malformed or another network's.
    pub fn address(&self, field: &str, text: &str) -> Result<Address, ConversionError> {
        Address::from_text(text, &self.prefix).map_err(|error| ConversionError::new(field, error))
    }
}

/// Reads a block hash.
///
/// # Errors
/// [`ConversionError`] if it is not 64 hexadecimal digits.
pub fn block_hash(field: &str, text: &str) -> Result<BlockHash, ConversionError> {
    text.parse()
        .map_err(|error| ConversionError::new(field, error))
}

/// Reads a txid.
///
/// # Errors
/// [`ConversionError`] if it is not 64 hexadecimal digits.
pub fn txid(field: &str, text: &str) -> Result<Txid, ConversionError> {
    text.parse()
        .map_err(|error| ConversionError::new(field, error))
}

/// A time of whole Unix seconds.
#[must_use]
pub fn timestamp(unix_secs: u64) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: i64::try_from(unix_secs).unwrap_or(i64::MAX),
        nanos: 0,
    }
}
