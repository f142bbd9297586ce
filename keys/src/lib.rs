//! Private keys of Pithead (protocol §2): RSA-2048, as PEM text, and what they sign. Wallets and
//! validators use them alike.
//!
//! Start with [`SigningKey`]. [`PrivateKeyPem`] is for callers that treat the forms of a PEM file
//! differently. The crate knows no files, no network and no prompts: it takes and gives text.
//!
//! The crate `rsa` generates keys, and reads and writes PKCS#8. It never signs: its private-key
//! operations leak timing (RUSTSEC-2023-0071). aws-lc-rs signs.

#![forbid(unsafe_code)]

mod error;
mod passphrase;
mod pem;
mod public;
mod signing_key;

pub use error::KeyError;
pub use passphrase::Passphrase;
pub use pem::{DecodedKey, PrivateKeyPem};
pub use public::public_key_from_pem;
pub use signing_key::SigningKey;
