//! Validators' keys as files (protocol §9).
//!
//! A key file holds the private key that a node votes with, as a wallet's file
//! does: PKCS#8 PEM, encrypted or not, then the public key, mode 0600. Beside it
//! lies a public file, in TOML: the lines that a genesis file needs. Only that
//! one goes to whoever makes the genesis.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use pithead_consensus::genesis::ValidatorEntry;
use pithead_consensus::{Address, AddressPrefix, PublicKey};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::key::{KeyError, Passphrase, SigningKey, public_key_from_pem};
use crate::wallet::{WalletError, read_key_file, write_private_file, write_public_file};

/// How the name of a public file ends.
pub const PUBLIC_SUFFIX: &str = ".public.toml";
/// Most files that a folder of validators may hold: twice as many as a genesis
/// may list, for a private and a public file of each.
const FILES_MAX: usize = 2_000;

/// What can go wrong with validators' files.
#[derive(Debug, Error)]
pub enum ValidatorError {
    /// A file is there already.
    #[error("{} is there already; keys are never overwritten", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A file can't be read or written, or its key is wrong.
    #[error(transparent)]
    File(#[from] WalletError),
    /// A public file says something else than it should.
    #[error("{}: {reason}", path.display())]
    BadPublicFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A folder holds no validator.
    #[error("there is no validator in {}: neither *{PUBLIC_SUFFIX} nor *.pem", path.display())]
    NoneInFolder {
        /// The folder.
        path: PathBuf,
    },
    /// A folder holds far too many files.
    #[error("{} holds more than {FILES_MAX} files of validators", path.display())]
    TooManyInFolder {
        /// The folder.
        path: PathBuf,
    },
}

impl ValidatorError {
    /// What to do about it, if there is something to say.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Exists { .. } => Some("choose another file with --out".to_owned()),
            Self::File(WalletError::Key {
                source: KeyError::PassphraseNeeded,
                ..
            }) => Some(format!(
                "name its public file instead: the one that ends in {PUBLIC_SUFFIX}"
            )),
            Self::NoneInFolder { .. } => {
                Some("make one with `pithead validator new --out FILE`".to_owned())
            }
            _ => None,
        }
    }
}

/// A validator as one of its files shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidatorFile {
    /// The file.
    pub path: PathBuf,
    /// The key that its votes are checked with.
    pub public_key: PublicKey,
    /// How its private key is kept; `None` if this is a public file.
    pub encrypted: Option<bool>,
}

/// A public file; a genesis file has the same lines.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PublicFile {
    validators: Vec<ValidatorEntry>,
}

impl ValidatorFile {
    /// Its address, the same on every network but for the prefix.
    #[must_use]
    pub fn address(&self) -> Address {
        Address::of_key(&self.public_key)
    }

    /// What a genesis file says of it.
    #[must_use]
    pub fn entry(&self, prefix: &AddressPrefix) -> ValidatorEntry {
        ValidatorEntry {
            address: self.address().to_text(prefix),
            public_key: hex::encode(self.public_key.modulus()),
        }
    }

    /// The lines for a genesis file.
    #[must_use]
    pub fn genesis_lines(&self, prefix: &AddressPrefix) -> String {
        let entry = self.entry(prefix);
        format!(
            "[[validators]]\naddress = \"{}\"\npublic_key = \"{}\"\n",
            entry.address, entry.public_key
        )
    }

    /// Refuses names that are taken: worth asking before a key is made.
    ///
    /// # Errors
    /// [`ValidatorError::Exists`].
    pub fn check_free(path: &Path) -> Result<(), ValidatorError> {
        for path in [path.to_owned(), public_path(path)] {
            // A dangling link is taken too.
            if path.symlink_metadata().is_ok() {
                return Err(ValidatorError::Exists { path });
            }
        }
        Ok(())
    }

    /// Writes a key file, encrypted if there is a passphrase, and its public
    /// file beside it, with the address of the network that `prefix` names.
    ///
    /// # Errors
    /// [`ValidatorError::Exists`] if either is there.
    pub fn create(
        path: &Path,
        key: &SigningKey,
        passphrase: Option<&Passphrase>,
        prefix: &AddressPrefix,
    ) -> Result<Self, ValidatorError> {
        Self::check_free(path)?;
        let wrap = |source| WalletError::Key {
            path: path.to_owned(),
            source,
        };
        let mut text = key.to_pem(passphrase).map_err(wrap)?;
        text.push_str(&key.public_pem().map_err(wrap)?);
        write_private_file(path, text.as_bytes()).map_err(taken)?;
        let made = Self {
            path: path.to_owned(),
            public_key: key.public_key().clone(),
            encrypted: Some(passphrase.is_some()),
        };
        let lines = made.genesis_lines(prefix);
        write_public_file(&public_path(path), lines.as_bytes()).map_err(taken)?;
        Ok(made)
    }

    /// Reads what there is in a file, private or public; no passphrase is
    /// needed for that. A public file may hold several.
    ///
    /// # Errors
    /// [`ValidatorError`] says what is wrong with it.
    pub fn read(path: &Path) -> Result<Vec<Self>, ValidatorError> {
        let text = read_key_file(path)?;
        if text.contains("-----BEGIN ") {
            return Ok(vec![Self::of_pem(path, &text)?]);
        }
        let bad = |reason: String| ValidatorError::BadPublicFile {
            path: path.to_owned(),
            reason,
        };
        let file: PublicFile = toml::from_str(&text).map_err(|error| {
            bad(format!(
                "it is neither a key in PEM nor the public file of a validator: {error}"
            ))
        })?;
        let keys = file.validators.iter().map(|entry| {
            let public_key = key_of_entry(entry).map_err(&bad)?;
            Ok(Self {
                path: path.to_owned(),
                public_key,
                encrypted: None,
            })
        });
        keys.collect()
    }

    /// Reads a file, or all of a folder: every `*.public.toml` and `*.pem`, by
    /// name; a key that is there twice, in both forms, counts once.
    ///
    /// # Errors
    /// [`ValidatorError`] names the file.
    pub fn read_all(path: &Path) -> Result<Vec<Self>, ValidatorError> {
        if !path.is_dir() {
            return Self::read(path);
        }
        let mut files = Vec::new();
        let fail = |source| WalletError::Io {
            path: path.to_owned(),
            source,
        };
        for entry in fs::read_dir(path).map_err(fail)? {
            let file = entry.map_err(fail)?.path();
            let name = file.file_name().and_then(OsStr::to_str).unwrap_or_default();
            if name.ends_with(PUBLIC_SUFFIX) || name.ends_with(".pem") {
                if files.len() == FILES_MAX {
                    return Err(ValidatorError::TooManyInFolder {
                        path: path.to_owned(),
                    });
                }
                files.push(file);
            }
        }
        files.sort();
        let mut found = Vec::new();
        let mut seen = BTreeSet::new();
        for file in files {
            let read = Self::read(&file)?;
            found.extend(read.into_iter().filter(|one| seen.insert(one.address())));
        }
        if found.is_empty() {
            return Err(ValidatorError::NoneInFolder {
                path: path.to_owned(),
            });
        }
        Ok(found)
    }

    fn of_pem(path: &Path, text: &str) -> Result<Self, ValidatorError> {
        let encrypted = SigningKey::is_encrypted_pem(text);
        let wrap = |source| WalletError::Key {
            path: path.to_owned(),
            source,
        };
        let public_key = match public_key_from_pem(text) {
            Ok(key) => key,
            // A key from elsewhere: it may lack the public part.
            Err(_) => SigningKey::from_pem(text, None)
                .map_err(wrap)?
                .public_key()
                .clone(),
        };
        Ok(Self {
            path: path.to_owned(),
            public_key,
            encrypted: Some(encrypted),
        })
    }
}

/// Where the public file of a key file is: `name.public.toml` beside `name.pem`.
#[must_use]
pub fn public_path(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let stem = name.strip_suffix(".pem").unwrap_or(&name);
    path.with_file_name(format!("{stem}{PUBLIC_SUFFIX}"))
}

/// The key of an entry whose address is that of the key, on whichever network.
fn key_of_entry(entry: &ValidatorEntry) -> Result<PublicKey, String> {
    let modulus = hex::decode(&entry.public_key)
        .map_err(|error| format!("public_key of {}: {error}", entry.address))?;
    let key = PublicKey::from_modulus(&modulus)
        .map_err(|error| format!("public_key of {}: {error}", entry.address))?;
    // The last 1 ends the prefix: none of the characters after it is one.
    let prefix = entry
        .address
        .rsplit_once('1')
        .map_or("", |(prefix, _)| prefix);
    let address = AddressPrefix::new(prefix)
        .and_then(|prefix| Address::from_text(&entry.address, &prefix))
        .map_err(|error| error.to_string())?;
    if address != Address::of_key(&key) {
        return Err(format!(
            "the address {} is not that of the key below it: the file was altered",
            entry.address
        ));
    }
    Ok(key)
}

/// A file that came to be there meanwhile is taken, too.
fn taken(error: WalletError) -> ValidatorError {
    match error {
        WalletError::Io { path, source } if source.kind() == std::io::ErrorKind::AlreadyExists => {
            ValidatorError::Exists { path }
        }
        error => error.into(),
    }
}
