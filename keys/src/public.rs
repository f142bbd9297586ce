//! Public keys: from PEM, and from the crate `rsa` to their consensus form. Private keys are in
//! `signing_key`.

use pithead_consensus::PublicKey;
use pithead_consensus::key::MODULUS_LEN;
use rsa::pkcs8::DecodePublicKey as _;
use rsa::traits::PublicKeyParts as _;
use rsa::{BigUint, RsaPublicKey};

use crate::error::KeyError;
use crate::pem::{EXPONENT, LABEL_PUBLIC, block};

/// Bits of every key (protocol §2).
pub(crate) const KEY_BITS: usize = 2048;

/// Reads the public key of a PEM file.
///
/// # Errors
/// [`KeyError`] if the text holds no public key, or none of protocol §2.
pub fn public_key_from_pem(text: &str) -> Result<PublicKey, KeyError> {
    let found = block(text, LABEL_PUBLIC)
        .ok_or_else(|| KeyError::Malformed("there is no public key in it".to_owned()))?;
    let public = RsaPublicKey::from_public_key_pem(found)
        .map_err(|error| KeyError::Malformed(error.to_string()))?;
    consensus_key(&public)
}

/// The consensus form of an RSA key, if it has one (protocol §2).
pub(crate) fn consensus_key(key: &RsaPublicKey) -> Result<PublicKey, KeyError> {
    if key.n().bits() != KEY_BITS {
        return Err(KeyError::WrongSize {
            found: key.n().bits(),
        });
    }
    if *key.e() != BigUint::from(EXPONENT) {
        return Err(KeyError::WrongExponent {
            found: key.e().to_string(),
        });
    }
    let modulus = key.n().to_bytes_be();
    debug_assert_eq!(modulus.len(), MODULUS_LEN);
    PublicKey::from_modulus(&modulus).map_err(|error| KeyError::Malformed(error.to_string()))
}
