//! Hash functions and hash types (protocol §1).

use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};
use thiserror::Error;

/// SHA-256 of some bytes.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// SHA-256 applied twice: the proof-of-work hash (protocol §1).
#[must_use]
pub fn sha256d(bytes: &[u8]) -> [u8; 32] {
    sha256(&sha256(bytes))
}

/// Tagged hash: `SHA-256(SHA-256(tag) ‖ SHA-256(tag) ‖ bytes)`, the BIP 340
/// construction (protocol §1).
#[must_use]
pub fn tagged(tag: &str, bytes: &[u8]) -> [u8; 32] {
    let tag_hash = sha256(tag.as_bytes());
    let mut hasher = Sha256::new();
    hasher.update(tag_hash);
    hasher.update(tag_hash);
    hasher.update(bytes);
    hasher.finalize().into()
}

/// A text is not a hash.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("a hash is 64 hexadecimal digits, found {found:?}")]
pub struct ParseHashError {
    /// The text, cut to 80 characters.
    pub found: String,
}

fn parse(text: &str) -> Result<[u8; 32], ParseHashError> {
    let mut bytes = [0u8; 32];
    hex::decode_to_slice(text, &mut bytes).map_err(|_| ParseHashError {
        found: text.chars().take(80).collect(),
    })?;
    Ok(bytes)
}

/// A hash that is shown as plain lower-case hex, such as a root.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Hash256(pub [u8; 32]);

impl fmt::Display for Hash256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Hash256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Hash256 {
    type Err = ParseHashError;

    fn from_str(text: &str) -> Result<Self, ParseHashError> {
        parse(text).map(Self)
    }
}

/// Identifies a transaction: SHA-256 of the message that its sender signs
/// (protocol §3). Shown as plain hex.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Txid(pub [u8; 32]);

impl fmt::Display for Txid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Txid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Txid {
    type Err = ParseHashError;

    fn from_str(text: &str) -> Result<Self, ParseHashError> {
        parse(text).map(Self)
    }
}

/// Identifies a block: SHA-256d of its header, in header byte order. It is shown as
/// byte-reversed hex, so that work appears as leading zeros (protocol §1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct BlockHash(pub [u8; 32]);

impl BlockHash {
    /// All zeros: the parent of every genesis block.
    pub const ZERO: Self = Self([0; 32]);
}

impl fmt::Display for BlockHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = self.0;
        bytes.reverse();
        f.write_str(&hex::encode(bytes))
    }
}

impl fmt::Debug for BlockHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for BlockHash {
    type Err = ParseHashError;

    fn from_str(text: &str) -> Result<Self, ParseHashError> {
        let mut bytes = parse(text)?;
        bytes.reverse();
        Ok(Self(bytes))
    }
}
