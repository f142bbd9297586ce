//! The key of a validator: a PEM file, PKCS#8, encrypted or not, that only its owner may read.

use std::fs;
use std::path::{Path, PathBuf};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PSS_SHA256, RsaKeyPair};
use pithead_consensus::key::SIGNATURE_LEN;
use pithead_consensus::{Address, PublicKey, Signature};
use pithead_core::finality::Signer;
use rsa::RsaPrivateKey;
use rsa::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _};
use rsa::traits::PublicKeyParts as _;
use thiserror::Error;

/// Most bytes that are read of a key file, which has a few kilobytes.
const FILE_BYTES_MAX: u64 = 64 * 1024;
/// The public exponent of every key (protocol §2).
const EXPONENT: u32 = 65_537;

/// Why a validator's key can't be used.
#[derive(Debug, Error)]
pub enum ValidatorKeyError {
    /// A file can't be read.
    #[error("{path}: {source}")]
    Io {
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Another process votes with the key.
    #[error(
        "{path} is in use by another process: a key votes in one place only, or its two votes for one height prove it guilty. Stop the other node first"
    )]
    InUse { path: PathBuf },
    /// Others than its owner may read the file.
    #[error(
        "{path} can be read by others than its owner (mode {mode:o}): whoever has the key can vote with it; run chmod 600 on it"
    )]
    TooOpen {
        path: PathBuf,
        /// The permissions of the file.
        mode: u32,
    },
    /// The key is encrypted, and no passphrase is given.
    #[error("{path} is encrypted: name the file with its passphrase, --validator-passphrase-file")]
    PassphraseNeeded { path: PathBuf },
    /// The passphrase does not open the key.
    #[error("{path}: the passphrase does not open it")]
    WrongPassphrase { path: PathBuf },
    /// The file holds no RSA-2048 key of protocol §2.
    #[error("{path} holds no validator's key: {reason}")]
    Malformed { path: PathBuf, reason: String },
}

/// A validator's key in memory. Its file is locked as long as this value lives, so that no second
/// node on this machine votes with the key.
pub struct ValidatorKey {
    pair: RsaKeyPair,
    address: Address,
    _locked: fs::File,
}

impl ValidatorKey {
    /// Reads a key file; `passphrase` is the path of a file whose first line opens the key.
    ///
    /// # Errors
    /// [`ValidatorKeyError`] says what is wrong and what to do.
    pub fn read(path: &Path, passphrase: Option<&Path>) -> Result<Self, ValidatorKeyError> {
        let (text, file) = read_secret(path)?;
        lock(&file, path)?;
        let malformed = |reason: String| ValidatorKeyError::Malformed {
            path: path.to_owned(),
            reason,
        };
        let private = if let Some(block) = pem_block(&text, "ENCRYPTED PRIVATE KEY") {
            let Some(file) = passphrase else {
                return Err(ValidatorKeyError::PassphraseNeeded {
                    path: path.to_owned(),
                });
            };
            let (passphrase, _) = read_secret(file)?;
            let passphrase = passphrase.lines().next().unwrap_or_default();
            RsaPrivateKey::from_pkcs8_encrypted_pem(block, passphrase).map_err(|_| {
                ValidatorKeyError::WrongPassphrase {
                    path: path.to_owned(),
                }
            })?
        } else {
            // Without such a block, the parser says what is wrong with the file.
            let block = pem_block(&text, "PRIVATE KEY").unwrap_or(&text);
            RsaPrivateKey::from_pkcs8_pem(block).map_err(|error| {
                malformed(format!("{error}; make one with `pithead validator new`"))
            })?
        };
        if *private.e() != rsa::BigUint::from(EXPONENT) {
            return Err(malformed(format!("its public exponent is not {EXPONENT}")));
        }
        let modulus = private.n().to_bytes_be();
        let public =
            PublicKey::from_modulus(&modulus).map_err(|error| malformed(error.to_string()))?;
        let der = private
            .to_pkcs8_der()
            .map_err(|error| malformed(error.to_string()))?;
        let pair =
            RsaKeyPair::from_pkcs8(der.as_bytes()).map_err(|error| malformed(error.to_string()))?;
        Ok(Self {
            pair,
            address: Address::of_key(&public),
            _locked: file,
        })
    }
}

impl Signer for ValidatorKey {
    fn address(&self) -> Address {
        self.address
    }

    fn sign(&self, message: &[u8]) -> Result<Signature, String> {
        let mut signature = Box::new([0; SIGNATURE_LEN]);
        self.pair
            .sign(
                &RSA_PSS_SHA256,
                &SystemRandom::new(),
                message,
                signature.as_mut_slice(),
            )
            .map_err(|_| "the system gave no randomness to sign with".to_owned())?;
        Ok(Signature(signature))
    }
}

/// The first block of a PEM file with this label. `pithead validator new` puts the public key
/// after the private one, and the parser takes only one block.
fn pem_block<'a>(text: &'a str, label: &str) -> Option<&'a str> {
    let begin = text.find(&format!("-----BEGIN {label}-----"))?;
    let rest = text.get(begin..)?;
    let end_line = format!("-----END {label}-----");
    let end = rest.find(&end_line)?;
    rest.get(..end.checked_add(end_line.len())?)
}

fn lock(file: &fs::File, path: &Path) -> Result<(), ValidatorKeyError> {
    let path = path.to_owned();
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(fs::TryLockError::WouldBlock) => Err(ValidatorKeyError::InUse { path }),
        Err(fs::TryLockError::Error(source)) => Err(ValidatorKeyError::Io { path, source }),
    }
}

fn read_secret(path: &Path) -> Result<(String, fs::File), ValidatorKeyError> {
    use std::io::Read as _;
    let io = |source| ValidatorKeyError::Io {
        path: path.to_owned(),
        source,
    };
    let file = fs::File::open(path).map_err(io)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = file.metadata().map_err(io)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(ValidatorKeyError::TooOpen {
                path: path.to_owned(),
                mode,
            });
        }
    }
    let mut text = String::new();
    (&file)
        .take(FILE_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(io)?;
    Ok((text, file))
}
