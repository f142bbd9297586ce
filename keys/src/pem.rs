//! PEM text: finds the block that holds a key and decodes it. Whether the key is one of protocol §2
//! is checked in `signing_key`. Start with [`PrivateKeyPem`].

use std::fmt;

use rsa::pkcs1::DecodeRsaPrivateKey as _;
use rsa::pkcs8::{DecodePrivateKey as _, EncryptedPrivateKeyInfo, SecretDocument};
use rsa::traits::PublicKeyParts as _;
use rsa::{BigUint, RsaPrivateKey};

use crate::error::KeyError;

/// The public exponent of every key (protocol §2).
pub(crate) const EXPONENT: u32 = 65_537;

/// PEM label of an encrypted key.
pub(crate) const LABEL_ENCRYPTED: &str = "ENCRYPTED PRIVATE KEY";
/// PEM label of an unencrypted PKCS#8 key.
pub(crate) const LABEL_PLAIN: &str = "PRIVATE KEY";
/// PEM label of an unencrypted PKCS#1 key, as `openssl genrsa -traditional` writes.
const LABEL_PKCS1: &str = "RSA PRIVATE KEY";
/// PEM label of a public key.
pub(crate) const LABEL_PUBLIC: &str = "PUBLIC KEY";

/// The block of a PEM text that holds a private key, from BEGIN to END.
#[derive(Clone, Copy)]
pub enum PrivateKeyPem<'a> {
    /// PKCS#8, encrypted with a passphrase.
    Encrypted(&'a str),
    /// PKCS#8, not encrypted.
    Plain(&'a str),
    /// PKCS#1, not encrypted.
    Pkcs1(&'a str),
}

impl<'a> PrivateKeyPem<'a> {
    /// The private key of a PEM text. Of several forms, the encrypted one is taken first, then
    /// PKCS#8, then PKCS#1; of several keys of one form, the first.
    #[must_use]
    pub fn find(text: &'a str) -> Option<Self> {
        block(text, LABEL_ENCRYPTED)
            .map(Self::Encrypted)
            .or_else(|| block(text, LABEL_PLAIN).map(Self::Plain))
            .or_else(|| block(text, LABEL_PKCS1).map(Self::Pkcs1))
    }

    /// Decodes the block; the passphrase matters only for an encrypted one.
    ///
    /// # Errors
    /// [`KeyError::PassphraseNeeded`], [`KeyError::WrongPassphrase`] or [`KeyError::Malformed`].
    pub fn decode(self, passphrase: Option<&[u8]>) -> Result<DecodedKey, KeyError> {
        let malformed = |error: &dyn fmt::Display| KeyError::Malformed(error.to_string());
        let private = match self {
            Self::Encrypted(block) => {
                let passphrase = passphrase.ok_or(KeyError::PassphraseNeeded)?;
                let document = SecretDocument::from_pem(block)
                    .map_err(|error| malformed(&error))?
                    .1;
                let encrypted = EncryptedPrivateKeyInfo::try_from(document.as_bytes())
                    .map_err(|error| malformed(&error))?;
                // The file is sound, so if decryption fails, the passphrase is wrong.
                let plain = encrypted
                    .decrypt(passphrase)
                    .map_err(|_| KeyError::WrongPassphrase)?;
                RsaPrivateKey::from_pkcs8_der(plain.as_bytes())
                    .map_err(|error| malformed(&error))?
            }
            Self::Plain(block) => {
                RsaPrivateKey::from_pkcs8_pem(block).map_err(|error| malformed(&error))?
            }
            Self::Pkcs1(block) => {
                RsaPrivateKey::from_pkcs1_pem(block).map_err(|error| malformed(&error))?
            }
        };
        Ok(DecodedKey(private))
    }
}

/// A private RSA key of any size and exponent. [`SigningKey::new`](crate::SigningKey::new) checks
/// both.
pub struct DecodedKey(pub(crate) RsaPrivateKey);

impl DecodedKey {
    /// Whether the public exponent is 65537, as protocol §2 requires.
    #[must_use]
    pub fn has_valid_exponent(&self) -> bool {
        *self.0.e() == BigUint::from(EXPONENT)
    }
}

/// The first block of a PEM text with this label, from BEGIN to END.
pub(crate) fn block<'a>(text: &'a str, label: &str) -> Option<&'a str> {
    let begin = text.find(&format!("-----BEGIN {label}-----"))?;
    let rest = text.get(begin..)?;
    let end_line = format!("-----END {label}-----");
    let end = rest.find(&end_line)?;
    rest.get(..end + end_line.len())
}
