//! Validators' keys as files (protocol §9). Start with [`ValidatorFile`].
//!
//! A key file holds the private key that a node votes with, in the form of a
//! wallet's file: PKCS#8 PEM, encrypted or not, then the public key, mode 0600.
//! Beside it lies a public file in TOML with the lines that a genesis file needs.
//! Only the public file is passed on to the maker of the genesis.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use pithead_consensus::genesis::ValidatorEntry;
use pithead_consensus::{Address, AddressPrefix, PublicKey};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::key_file::{KeyFileError, read_key_file, write_key_file, write_public_file};
use pithead_keys::{Passphrase, SigningKey, public_key_from_pem};

/// The end of every public file's name.
pub const PUBLIC_SUFFIX: &str = ".public.toml";
/// Most files that a folder of validators may hold. A genesis lists at most 1,000
/// validators, and each has a private and a public file.
const FILES_MAX: usize = 2_000;

/// Why a validator's file can't be made or read.
#[derive(Debug, Error)]
pub enum ValidatorError {
    /// A file of this name is there already.
    #[error("{} is there already; keys are never overwritten", path.display())]
    Exists {
        /// Path of the file.
        path: PathBuf,
    },
    /// A file can't be read or written, or its key is wrong.
    #[error(transparent)]
    File(#[from] KeyFileError),
    /// A file is no public file, or its address does not belong to its key.
    #[error("{}: {reason}", path.display())]
    BadPublicFile {
        /// Path of the file.
        path: PathBuf,
        /// What is wrong with the file.
        reason: String,
    },
    /// A folder holds no file of a validator.
    #[error("there is no validator in {}: neither *{PUBLIC_SUFFIX} nor *.pem", path.display())]
    NoneInFolder {
        /// Path of the folder.
        path: PathBuf,
    },
    /// A folder holds more files than a genesis could list.
    #[error("{} holds more than {FILES_MAX} files of validators", path.display())]
    TooManyInFolder {
        /// Path of the folder.
        path: PathBuf,
    },
}

impl ValidatorError {
    /// What the user can do about it, if anything.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Exists { .. } => Some("choose another file with --out".to_owned()),
            Self::File(error) if error.needs_passphrase() => Some(format!(
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
    /// The file that was read or made.
    pub path: PathBuf,
    /// The key with which the validator's votes are checked.
    pub public_key: PublicKey,
    /// Whether a passphrase protects the private key; `None` for a public file.
    pub encrypted: Option<bool>,
}

/// The content of a public file. A genesis file has the same lines.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PublicFile {
    validators: Vec<ValidatorEntry>,
}

impl ValidatorFile {
    /// The validator's address, the same on every network but for the prefix.
    #[must_use]
    pub fn address(&self) -> Address {
        Address::of_key(&self.public_key)
    }

    /// The validator's entry in a genesis file.
    #[must_use]
    pub fn entry(&self, prefix: &AddressPrefix) -> ValidatorEntry {
        ValidatorEntry {
            address: self.address().to_text(prefix),
            public_key: hex::encode(self.public_key.modulus()),
        }
    }

    /// The validator's lines in a genesis file.
    #[must_use]
    pub fn genesis_lines(&self, prefix: &AddressPrefix) -> String {
        let entry = self.entry(prefix);
        format!(
            "[[validators]]\naddress = \"{}\"\npublic_key = \"{}\"\n",
            entry.address, entry.public_key
        )
    }

    /// Refuses a path if the key file or its public file is there already. Ask this
    /// before you make a key, which takes a moment.
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
        write_key_file(path, key, passphrase).map_err(taken)?;
        let made = Self {
            path: path.to_owned(),
            public_key: key.public_key().clone(),
            encrypted: Some(passphrase.is_some()),
        };
        let lines = made.genesis_lines(prefix);
        write_public_file(&public_path(path), lines.as_bytes()).map_err(taken)?;
        Ok(made)
    }

    /// Reads the validators of a file, private or public. No passphrase is needed.
    /// A public file may hold several validators.
    ///
    /// # Errors
    /// [`ValidatorError`] says what is wrong with the file.
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

    /// Reads a file, or a folder: every `*.public.toml` and `*.pem` in the order of
    /// their names. A key that is in both a private and a public file counts once.
    ///
    /// # Errors
    /// [`ValidatorError`] names the file.
    pub fn read_all(path: &Path) -> Result<Vec<Self>, ValidatorError> {
        if !path.is_dir() {
            return Self::read(path);
        }
        let mut files = Vec::new();
        let fail = |source| KeyFileError::io(path, source);
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
        let public_key = match public_key_from_pem(text) {
            Ok(key) => key,
            // Other programs write key files without the public part.
            Err(_) => SigningKey::from_pem(text, None)
                .map_err(|source| KeyFileError::key(path, source))?
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

/// The path of a key file's public file: `name.public.toml` beside `name.pem`.
#[must_use]
pub fn public_path(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let stem = name.strip_suffix(".pem").unwrap_or(&name);
    path.with_file_name(format!("{stem}{PUBLIC_SUFFIX}"))
}

/// Reads the key of an entry and checks that the address belongs to it. The
/// address may be of any network.
fn key_of_entry(entry: &ValidatorEntry) -> Result<PublicKey, String> {
    let modulus = hex::decode(&entry.public_key)
        .map_err(|error| format!("public_key of {}: {error}", entry.address))?;
    let key = PublicKey::from_modulus(&modulus)
        .map_err(|error| format!("public_key of {}: {error}", entry.address))?;
    // The last 1 separates the prefix from the rest, whose characters exclude 1.
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

/// Tells a file that another program made in the meantime from other failures.
fn taken(error: KeyFileError) -> ValidatorError {
    match error {
        KeyFileError::Io { path, source } if source.kind() == io::ErrorKind::AlreadyExists => {
            ValidatorError::Exists { path }
        }
        error => error.into(),
    }
}
