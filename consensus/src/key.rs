//! RSA-2048 public keys and RSASSA-PSS signatures (protocol §2, RFC 8017).

use std::fmt;

use aws_lc_rs::signature::{RSA_PSS_2048_8192_SHA256, RsaPublicKeyComponents};
use thiserror::Error;

/// Bytes of a modulus.
pub const MODULUS_LEN: usize = 256;
/// Bytes of a signature.
pub const SIGNATURE_LEN: usize = 256;
/// The public exponent 65537, big-endian: the only one allowed (protocol §2).
const EXPONENT: [u8; 3] = [0x01, 0x00, 0x01];

/// Some bytes are not a public key of protocol §2.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PublicKeyError {
    /// The modulus does not have 256 bytes.
    #[error("a public key is a modulus of 256 bytes, found {found}")]
    BadLength {
        /// The number of bytes found.
        found: usize,
    },
    /// The modulus is shorter than 2048 bits.
    #[error("the modulus has fewer than 2048 bits: its top bit is clear")]
    TopBitClear,
    /// The modulus is even.
    #[error("the modulus is even")]
    Even,
}

/// An RSA-2048 public key in its consensus form: the modulus, 256 bytes
/// big-endian with the top bit set, odd (protocol §2). The exponent is 65537.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(Box<[u8; MODULUS_LEN]>);

impl PublicKey {
    /// Checks the form of a big-endian modulus.
    ///
    /// # Errors
    /// [`PublicKeyError`] if its form is not that of protocol §2.
    pub fn from_modulus(modulus: &[u8]) -> Result<Self, PublicKeyError> {
        let bytes: [u8; MODULUS_LEN] =
            modulus.try_into().map_err(|_| PublicKeyError::BadLength {
                found: modulus.len(),
            })?;
        // # Consensus: §2 "256 bytes big-endian, top bit set, odd".
        if bytes.first().is_none_or(|byte| byte & 0x80 == 0) {
            return Err(PublicKeyError::TopBitClear);
        }
        if bytes.last().is_none_or(|byte| byte & 1 == 0) {
            return Err(PublicKeyError::Even);
        }
        Ok(Self(Box::new(bytes)))
    }

    /// The big-endian modulus.
    #[must_use]
    pub fn modulus(&self) -> &[u8; MODULUS_LEN] {
        &self.0
    }

    /// Whether `signature` is a valid RSASSA-PSS signature of `message` under
    /// this key: SHA-256, MGF1 with SHA-256, salt of exactly 32 bytes.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &Signature) -> bool {
        #[cfg(feature = "signature-counter")]
        counter::CHECKS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        RsaPublicKeyComponents {
            n: self.0.as_slice(),
            e: EXPONENT.as_slice(),
        }
        .verify(&RSA_PSS_2048_8192_SHA256, message, signature.0.as_slice())
        .is_ok()
    }
}

/// How many signatures this process has checked, for tests alone. No rule depends on it.
#[cfg(feature = "signature-counter")]
pub mod counter {
    use std::sync::atomic::{AtomicU64, Ordering};

    pub(super) static CHECKS: AtomicU64 = AtomicU64::new(0);

    /// Signature checks since the process began, of all threads.
    #[must_use]
    pub fn signature_checks() -> u64 {
        CHECKS.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start: Vec<u8> = self.0.iter().copied().take(8).collect();
        write!(f, "PublicKey({}…)", hex::encode(start))
    }
}

/// An RSASSA-PSS signature: exactly 256 bytes (protocol §2).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signature(pub Box<[u8; SIGNATURE_LEN]>);

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start: Vec<u8> = self.0.iter().copied().take(8).collect();
        write!(f, "Signature({}…)", hex::encode(start))
    }
}

/// What a signature is for (protocol §2). The domain keeps an approval from passing
/// for a payment; the genesis hash keeps either from being replayed on another chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SigningDomain {
    /// The sender signs a transaction body.
    Transaction,
    /// A validator signs an approval of a checkpoint.
    Approval,
}

impl SigningDomain {
    /// The ASCII tag that opens the signed message.
    #[must_use]
    pub const fn tag(self) -> &'static str {
        match self {
            Self::Transaction => "pithead/transaction/v1",
            Self::Approval => "pithead/approval/v1",
        }
    }

    /// The message to sign: `tag ‖ 0x0A ‖ genesis hash ‖ payload` (protocol §2).
    #[must_use]
    pub fn message(self, genesis_hash: &crate::BlockHash, payload: &[u8]) -> Vec<u8> {
        let mut message = Vec::with_capacity(payload.len().saturating_add(64));
        message.extend_from_slice(self.tag().as_bytes());
        message.push(b'\n');
        message.extend_from_slice(&genesis_hash.0);
        message.extend_from_slice(payload);
        message
    }
}
