//! The one error of this crate. A caller may show it as it is, or turn its variants into texts of
//! its own.

use thiserror::Error;

/// Why a key can't be read, written or used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum KeyError {
    /// The text has no PEM block with a private key.
    #[error("there is no PEM private key in it (PKCS#8, encrypted or not, or PKCS#1)")]
    NoPrivateKey,
    /// The passphrase does not open the key.
    #[error("wrong passphrase")]
    WrongPassphrase,
    /// The key is encrypted and no passphrase was given.
    #[error("the key is encrypted and needs its passphrase")]
    PassphraseNeeded,
    /// The passphrase has no characters, so it protects nothing.
    #[error("the passphrase is empty")]
    EmptyPassphrase,
    /// The bytes do not decode as a private key.
    #[error("the key can't be read: {0}")]
    Malformed(String),
    /// The key's size is not 2048 bits.
    #[error("the key has {found} bits, Pithead's keys have exactly 2048")]
    WrongSize {
        /// How many bits the key has.
        found: usize,
    },
    /// The key's public exponent is not 65537.
    #[error("the key's public exponent is {found}, Pithead's keys have 65537")]
    WrongExponent {
        /// The exponent of the key, in decimal.
        found: String,
    },
    /// The random number generator or the signing failed.
    #[error("the cryptographic library failed: {0}")]
    Failed(String),
}
