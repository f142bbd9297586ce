//! Addresses: a hash of the public key, shown in bech32m (protocol §2).

use std::fmt;

use bech32::primitives::decode::{CharError, CheckedHrpstring, CheckedHrpstringError};
use bech32::{Bech32m, Hrp};
use thiserror::Error;

use crate::hash::tagged;
use crate::key::PublicKey;

/// The payload of an address: `tagged("pithead/address", modulus)`.
///
/// An address does not hold its network. [`Address::to_text`] takes the prefix.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(pub [u8; 32]);

/// Human-readable part of a network's addresses: `pit`, `tpit`, `dpit`, or
/// another of 1 to 16 lower-case letters and digits that a genesis file names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AddressPrefix(String);

/// A text is not an address of the expected network.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ParseAddressError {
    /// The prefix is not one that bech32 allows.
    #[error("{found:?} is no address prefix: 1 to 16 lower-case letters or digits")]
    BadPrefix { found: String },
    /// The text is not bech32m, or its checksum shows a typing error.
    #[error("{found:?} is not an address: {reason}")]
    Malformed {
        /// The text, cut to 100 characters.
        found: String,
        /// The decoder's own words.
        reason: String,
    },
    /// The address belongs to another network.
    #[error(
        "the address belongs to another network: it starts with {found:?}, this network's start with {expected:?}"
    )]
    WrongNetwork { found: String, expected: String },
    /// The payload is not 32 bytes.
    #[error("an address holds 32 bytes, this one {found}")]
    BadLength {
        /// The number of bytes found.
        found: usize,
    },
}

impl AddressPrefix {
    /// Checks a prefix.
    ///
    /// # Errors
    /// [`ParseAddressError::BadPrefix`] unless it is 1 to 16 lower-case letters
    /// or digits.
    pub fn new(prefix: &str) -> Result<Self, ParseAddressError> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        if prefix.is_empty() || prefix.len() > 16 || !prefix.bytes().all(allowed) {
            return Err(ParseAddressError::BadPrefix {
                found: prefix.chars().take(40).collect(),
            });
        }
        Ok(Self(prefix.to_owned()))
    }

    /// The prefix as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AddressPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Address {
    /// The address of a public key (protocol §2).
    #[must_use]
    pub fn of_key(key: &PublicKey) -> Self {
        Self(tagged("pithead/address", key.modulus()))
    }

    /// The address as bech32m text.
    #[must_use]
    pub fn to_text(&self, prefix: &AddressPrefix) -> String {
        // A checked prefix and 32 bytes always fit: 16 + 1 + 52 + 6 characters.
        Hrp::parse(&prefix.0)
            .ok()
            .and_then(|hrp| bech32::encode::<Bech32m>(hrp, &self.0).ok())
            .unwrap_or_default()
    }

    /// Reads bech32m text of the network with this prefix.
    ///
    /// # Errors
    /// [`ParseAddressError`] says what is wrong with it.
    pub fn from_text(text: &str, prefix: &AddressPrefix) -> Result<Self, ParseAddressError> {
        let checked = CheckedHrpstring::new::<Bech32m>(text).map_err(|error| {
            ParseAddressError::Malformed {
                found: text.chars().take(100).collect(),
                reason: innermost(&error),
            }
        })?;
        let found = checked.hrp().to_lowercase();
        if found != prefix.0 {
            return Err(ParseAddressError::WrongNetwork {
                found,
                expected: prefix.0.clone(),
            });
        }
        let payload: Vec<u8> = checked.byte_iter().collect();
        let address =
            payload
                .as_slice()
                .try_into()
                .map(Self)
                .map_err(|_| ParseAddressError::BadLength {
                    found: payload.len(),
                })?;
        // The last character has spare bits. If they could be set, one address would
        // have several texts.
        if address.to_text(prefix) != text.to_ascii_lowercase() {
            return Err(ParseAddressError::Malformed {
                found: text.chars().take(100).collect(),
                reason: "its padding bits are not zero".to_owned(),
            });
        }
        Ok(address)
    }
}

/// The message of the innermost error, which names the cause. The errors around it
/// only say that decoding failed.
fn innermost(error: &CheckedHrpstringError) -> String {
    if let CheckedHrpstringError::Checksum(_) = error {
        return error.to_string();
    }
    let mut reason: &dyn std::error::Error = error;
    while let Some(source) = reason.source() {
        reason = source;
    }
    match reason.downcast_ref() {
        Some(CharError::InvalidChar(found)) => format!("{found:?} does not occur in addresses"),
        _ => reason.to_string(),
    }
}

impl fmt::Debug for Address {
    /// Plain hex, since the payload does not know its network.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({})", hex::encode(self.0))
    }
}
