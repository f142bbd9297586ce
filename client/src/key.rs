//! Private keys: generation, PKCS#8 text and signatures (protocol §2). Start with
//! [`SigningKey`]. Files are the concern of `key_file`.
//!
//! The crate `rsa` generates keys, and reads and writes PKCS#8. It never signs: its
//! private-key operations leak timing (RUSTSEC-2023-0071). aws-lc-rs signs.

use std::fmt;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PSS_SHA256, RsaKeyPair};
use pithead_consensus::key::{MODULUS_LEN, SIGNATURE_LEN};
use pithead_consensus::{
    Address, BlockHash, PublicKey, Signature, SignedTransaction, TransactionBody,
};
use rsa::pkcs1::DecodeRsaPrivateKey as _;
use rsa::pkcs8::pkcs5::pbes2;
use rsa::pkcs8::{
    DecodePrivateKey as _, DecodePublicKey as _, EncodePrivateKey as _, EncodePublicKey as _,
    LineEnding,
};
use rsa::rand_core::{OsRng, RngCore as _};
use rsa::traits::PublicKeyParts as _;
use rsa::{BigUint, RsaPrivateKey, RsaPublicKey};
use thiserror::Error;
use zeroize::Zeroizing;

/// Bits of every key (protocol §2).
const KEY_BITS: usize = 2048;
/// The public exponent of every key (protocol §2).
const EXPONENT: u32 = 65_537;

/// Scrypt's cost parameters N and p; r is 8. They set the cost of each guess at a
/// passphrase.
#[derive(Debug, Clone, Copy)]
struct ScryptCost {
    n: u64,
    p: u16,
}

/// The cost for keys that are kept here: 128 MiB for each guess.
const SCRYPT_KEPT: ScryptCost = ScryptCost { n: 1 << 17, p: 1 };
/// The cost for keys that other programs read: OpenSSL gives scrypt no more than
/// 32 MiB. OWASP's password storage recommendations rate both costs as equal.
const SCRYPT_PORTABLE: ScryptCost = ScryptCost { n: 1 << 14, p: 5 };

/// PEM label of an encrypted key.
const LABEL_ENCRYPTED: &str = "ENCRYPTED PRIVATE KEY";
/// PEM label of an unencrypted PKCS#8 key.
const LABEL_PLAIN: &str = "PRIVATE KEY";
/// PEM label of an unencrypted PKCS#1 key, as `openssl genrsa -traditional` writes.
const LABEL_PKCS1: &str = "RSA PRIVATE KEY";
/// PEM label of a public key.
const LABEL_PUBLIC: &str = "PUBLIC KEY";

/// Why a key can't be read, written or used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum KeyError {
    /// The text holds no private key.
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
    /// The bytes are no key.
    #[error("the key can't be read: {0}")]
    Malformed(String),
    /// The key has not 2048 bits.
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

/// A passphrase; its memory is wiped when it is dropped.
#[derive(Clone)]
pub struct Passphrase(Zeroizing<String>);

impl Passphrase {
    /// Takes a passphrase, which must not be empty.
    ///
    /// # Errors
    /// [`KeyError::EmptyPassphrase`].
    pub fn new(text: String) -> Result<Self, KeyError> {
        let text = Zeroizing::new(text);
        if text.is_empty() {
            return Err(KeyError::EmptyPassphrase);
        }
        Ok(Self(text))
    }

    fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(…)")
    }
}

impl PartialEq for Passphrase {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

/// An RSA-2048 private key that signs transactions.
pub struct SigningKey {
    pair: RsaKeyPair,
    private: RsaPrivateKey,
    public: PublicKey,
}

impl SigningKey {
    /// Generates a key. Takes a few tenths of a second.
    ///
    /// # Errors
    /// [`KeyError::Failed`] if the system gives no randomness.
    pub fn generate() -> Result<Self, KeyError> {
        let private = RsaPrivateKey::new(&mut OsRng, KEY_BITS)
            .map_err(|error| KeyError::Failed(error.to_string()))?;
        Self::of(private)
    }

    fn of(private: RsaPrivateKey) -> Result<Self, KeyError> {
        let public = consensus_key(&private.to_public_key())?;
        let der = private
            .to_pkcs8_der()
            .map_err(|error| KeyError::Malformed(error.to_string()))?;
        let pair = RsaKeyPair::from_pkcs8(der.as_bytes())
            .map_err(|error| KeyError::Malformed(error.to_string()))?;
        Ok(Self {
            pair,
            private,
            public,
        })
    }

    /// Reads the first private key of a PEM file: PKCS#8, encrypted with a
    /// passphrase or not, or unencrypted PKCS#1.
    ///
    /// # Errors
    /// [`KeyError`] says what is wrong with the key or with the passphrase.
    pub fn from_pem(text: &str, passphrase: Option<&Passphrase>) -> Result<Self, KeyError> {
        let malformed = |error: &dyn fmt::Display| KeyError::Malformed(error.to_string());
        let private = if let Some(block) = pem_block(text, LABEL_ENCRYPTED) {
            let passphrase = passphrase.ok_or(KeyError::PassphraseNeeded)?;
            let document = rsa::pkcs8::SecretDocument::from_pem(block)
                .map_err(|error| malformed(&error))?
                .1;
            let encrypted = rsa::pkcs8::EncryptedPrivateKeyInfo::try_from(document.as_bytes())
                .map_err(|error| malformed(&error))?;
            // The file is sound, so if decryption fails, the passphrase is wrong.
            let plain = encrypted
                .decrypt(passphrase.bytes())
                .map_err(|_| KeyError::WrongPassphrase)?;
            RsaPrivateKey::from_pkcs8_der(plain.as_bytes()).map_err(|error| malformed(&error))?
        } else if let Some(block) = pem_block(text, LABEL_PLAIN) {
            RsaPrivateKey::from_pkcs8_pem(block).map_err(|error| malformed(&error))?
        } else if let Some(block) = pem_block(text, LABEL_PKCS1) {
            RsaPrivateKey::from_pkcs1_pem(block).map_err(|error| malformed(&error))?
        } else {
            return Err(KeyError::NoPrivateKey);
        };
        Self::of(private)
    }

    /// Whether a PEM file's private key is encrypted.
    #[must_use]
    pub fn is_encrypted_pem(text: &str) -> bool {
        pem_block(text, LABEL_ENCRYPTED).is_some()
    }

    /// Writes the key as PKCS#8 PEM for keeping: encrypted (PBES2 with scrypt at
    /// its strongest and AES-256-CBC) if there is a passphrase.
    ///
    /// # Errors
    /// [`KeyError::Failed`] if the system gives no randomness.
    pub fn to_pem(&self, passphrase: Option<&Passphrase>) -> Result<Zeroizing<String>, KeyError> {
        self.write_pem(passphrase, SCRYPT_KEPT)
    }

    /// Writes the key as PKCS#8 PEM for other programs: as [`Self::to_pem`], but
    /// within the 32 MiB that OpenSSL allows scrypt.
    ///
    /// # Errors
    /// [`KeyError::Failed`] if the system gives no randomness.
    pub fn to_portable_pem(
        &self,
        passphrase: Option<&Passphrase>,
    ) -> Result<Zeroizing<String>, KeyError> {
        self.write_pem(passphrase, SCRYPT_PORTABLE)
    }

    fn write_pem(
        &self,
        passphrase: Option<&Passphrase>,
        cost: ScryptCost,
    ) -> Result<Zeroizing<String>, KeyError> {
        let failed = |error: &dyn fmt::Display| KeyError::Failed(error.to_string());
        let plain = self
            .private
            .to_pkcs8_der()
            .map_err(|error| failed(&error))?;
        let Some(passphrase) = passphrase else {
            return plain
                .to_pem(LABEL_PLAIN, LineEnding::LF)
                .map_err(|error| failed(&error));
        };
        let (mut salt, mut iv) = ([0u8; 16], [0u8; 16]);
        let fill = |bytes: &mut [u8]| OsRng.try_fill_bytes(bytes).map_err(|error| failed(&error));
        fill(&mut salt)?;
        fill(&mut iv)?;
        let parameters = pbes2::Parameters {
            kdf: pbes2::Kdf::Scrypt(pbes2::ScryptParams {
                salt: &salt,
                cost_parameter: cost.n,
                block_size: 8,
                parallelization: cost.p,
                key_length: None,
            }),
            encryption: pbes2::EncryptionScheme::Aes256Cbc { iv: &iv },
        };
        let encrypted = rsa::pkcs8::PrivateKeyInfo::try_from(plain.as_bytes())
            .and_then(|info| info.encrypt_with_params(parameters, passphrase.bytes()))
            .map_err(|error| failed(&error))?;
        encrypted
            .to_pem(LABEL_ENCRYPTED, LineEnding::LF)
            .map_err(|error| failed(&error))
    }

    /// The public key as PEM (SubjectPublicKeyInfo).
    ///
    /// # Errors
    /// [`KeyError::Failed`], which does not happen with a checked key.
    pub fn public_pem(&self) -> Result<String, KeyError> {
        self.private
            .to_public_key()
            .to_public_key_pem(LineEnding::LF)
            .map_err(|error| KeyError::Failed(error.to_string()))
    }

    /// The public key.
    #[must_use]
    pub fn public_key(&self) -> &PublicKey {
        &self.public
    }

    /// The address of the public key, the same on every network.
    #[must_use]
    pub fn address(&self) -> Address {
        Address::of_key(&self.public)
    }

    /// Signs a message: RSASSA-PSS, SHA-256, a salt of 32 bytes.
    ///
    /// # Errors
    /// [`KeyError::Failed`] if the system gives no randomness.
    pub fn sign(&self, message: &[u8]) -> Result<Signature, KeyError> {
        let mut signature = Box::new([0u8; SIGNATURE_LEN]);
        self.pair
            .sign(
                &RSA_PSS_SHA256,
                &SystemRandom::new(),
                message,
                signature.as_mut_slice(),
            )
            .map_err(|_| KeyError::Failed("signing".to_owned()))?;
        Ok(Signature(signature))
    }

    /// Signs a transaction for the chain with this genesis; the public key goes
    /// along if it is the account's first (protocol §3).
    ///
    /// # Errors
    /// [`KeyError::Failed`] if the system gives no randomness.
    pub fn sign_transaction(
        &self,
        body: TransactionBody,
        genesis_hash: &BlockHash,
    ) -> Result<SignedTransaction, KeyError> {
        let signature = self.sign(&body.signing_message(genesis_hash))?;
        let key = (body.sequence == 0).then(|| self.public.clone());
        Ok(SignedTransaction {
            body,
            key,
            signature,
        })
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({:?})", self.address())
    }
}

/// Reads the public key of a PEM file.
///
/// # Errors
/// [`KeyError`] if the text holds no public key, or none of protocol §2.
pub fn public_key_from_pem(text: &str) -> Result<PublicKey, KeyError> {
    let block = pem_block(text, LABEL_PUBLIC)
        .ok_or_else(|| KeyError::Malformed("there is no public key in it".to_owned()))?;
    let public = RsaPublicKey::from_public_key_pem(block)
        .map_err(|error| KeyError::Malformed(error.to_string()))?;
    consensus_key(&public)
}

/// The consensus form of an RSA key, if it has one (protocol §2).
fn consensus_key(key: &RsaPublicKey) -> Result<PublicKey, KeyError> {
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

/// The first block of a PEM file with this label, from BEGIN to END.
fn pem_block<'a>(text: &'a str, label: &str) -> Option<&'a str> {
    let begin = text.find(&format!("-----BEGIN {label}-----"))?;
    let rest = text.get(begin..)?;
    let end_line = format!("-----END {label}-----");
    let end = rest.find(&end_line)?;
    rest.get(..end + end_line.len())
}
