//! The key of a validator: a PEM file, PKCS#8, encrypted or not, that only its owner may read.

use std::fs;
use std::path::{Path, PathBuf};

use pithead_consensus::key::{MODULUS_LEN, PublicKeyError};
use pithead_consensus::{Address, Signature};
use pithead_core::finality::Signer;
use pithead_keys::{DecodedKey, KeyError, PrivateKeyPem, SigningKey};
use thiserror::Error;

/// Most bytes that are read of a key file, which has a few kilobytes.
const FILE_BYTES_MAX: u64 = 64 * 1024;
/// What is wrong with a key of another exponent.
const WRONG_EXPONENT: &str = "its public exponent is not 65537";

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
    key: SigningKey,
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
        let decoded = match PrivateKeyPem::find(&text) {
            Some(pem @ PrivateKeyPem::Encrypted(_)) => {
                let Some(file) = passphrase else {
                    return Err(ValidatorKeyError::PassphraseNeeded {
                        path: path.to_owned(),
                    });
                };
                let (passphrase, _) = read_secret(file)?;
                let passphrase = passphrase.lines().next().unwrap_or_default();
                pem.decode(Some(passphrase.as_bytes())).map_err(|_| {
                    ValidatorKeyError::WrongPassphrase {
                        path: path.to_owned(),
                    }
                })?
            }
            Some(pem @ PrivateKeyPem::Plain(_)) => decode_plain(pem).map_err(malformed)?,
            // A validator's key is PKCS#8: the parser says what is wrong with the file.
            Some(PrivateKeyPem::Pkcs1(_)) | None => {
                decode_plain(PrivateKeyPem::Plain(&text)).map_err(malformed)?
            }
        };
        if !decoded.has_valid_exponent() {
            return Err(malformed(WRONG_EXPONENT.to_owned()));
        }
        let key = SigningKey::new(decoded).map_err(|error| malformed(unsuitable(error)))?;
        Ok(Self {
            address: key.address(),
            key,
            _locked: file,
        })
    }
}

impl Signer for ValidatorKey {
    fn address(&self) -> Address {
        self.address
    }

    fn sign(&self, message: &[u8]) -> Result<Signature, String> {
        self.key
            .sign(message)
            .map_err(|_| "the system gave no randomness to sign with".to_owned())
    }
}

fn decode_plain(pem: PrivateKeyPem<'_>) -> Result<DecodedKey, String> {
    pem.decode(None).map_err(|error| {
        let reason = match error {
            KeyError::Malformed(reason) => reason,
            other => other.to_string(),
        };
        format!("{reason}; make one with `pithead validator new`")
    })
}

/// Why a decoded key is not as protocol §2 demands.
fn unsuitable(error: KeyError) -> String {
    match error {
        KeyError::WrongExponent { .. } => WRONG_EXPONENT.to_owned(),
        KeyError::WrongSize { found } => match found.div_ceil(8) {
            MODULUS_LEN => PublicKeyError::TopBitClear.to_string(),
            found => PublicKeyError::BadLength { found }.to_string(),
        },
        KeyError::Malformed(reason) => reason,
        other => other.to_string(),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_another_size_is_worded_as_consensus_words_it() {
        let said = |found| unsuitable(KeyError::WrongSize { found });
        for (bits, bytes) in [(1024, 128), (2050, 257), (4096, 512)] {
            let modulus = vec![0xff; bytes];
            let error = pithead_consensus::PublicKey::from_modulus(&modulus).unwrap_err();
            assert_eq!(said(bits), error.to_string());
        }
        let mut modulus = vec![0xff; MODULUS_LEN];
        modulus[0] = 0x7f;
        let error = pithead_consensus::PublicKey::from_modulus(&modulus).unwrap_err();
        assert_eq!(said(2047), error.to_string());
    }

    #[test]
    fn what_is_no_pem_is_answered_with_what_to_do() {
        let reason = decode_plain(PrivateKeyPem::Plain("nonsense"))
            .err()
            .unwrap();
        assert!(reason.ends_with("; make one with `pithead validator new`"));
    }
}
