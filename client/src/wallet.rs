//! Wallets: a folder with one file for each named key. Start with [`Wallets`].
//!
//! A file is `NAME.pem`, mode 0600: the private key as PKCS#8, encrypted unless
//! the owner insisted otherwise, then the public key, so that the address can be
//! read without the passphrase. To hand a key to another program, export it: a
//! file of this folder takes more memory to open than OpenSSL allows.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use pithead_consensus::{Address, PublicKey};
use thiserror::Error;

use crate::key_file::{KeyFileError, read_key_file, write_key_file};
use pithead_keys::{Passphrase, SigningKey, public_key_from_pem};

/// Longest name. Addresses are longer, so no wallet's name can be taken for one.
const NAME_BYTES_MAX: usize = 32;

/// Why a wallet can't be made, found or opened.
#[derive(Debug, Error)]
pub enum WalletError {
    /// The text can't be a wallet's name.
    #[error(
        "{found:?} can't be a wallet's name: 1 to 32 of a-z A-Z 0-9 . _ -, starting with a letter or a digit"
    )]
    BadName {
        /// The text, cut to 80 characters.
        found: String,
    },
    /// No wallet in the folder has this name.
    #[error("there is no wallet {name:?} in {}", folder.display())]
    Unknown {
        /// The name that the user gave.
        name: String,
        /// The folder of the wallets.
        folder: PathBuf,
        /// Names of the wallets in the folder.
        known: Vec<String>,
    },
    /// A wallet has that name already.
    #[error("there is a wallet {name:?} already ({}); wallets are never overwritten", path.display())]
    Exists {
        /// The name that is taken.
        name: String,
        /// The file of the wallet with this name.
        path: PathBuf,
    },
    /// A wallet's file can't be read or written, or its key is wrong.
    #[error(transparent)]
    File(#[from] KeyFileError),
    /// The public and the private key in a file do not belong together.
    #[error("{}: the public key in it is not that of the private key: the file was altered", path.display())]
    Mismatch {
        /// The wallet's file.
        path: PathBuf,
    },
    /// There is no home folder to keep wallets in.
    #[error(
        "there is no home folder to keep wallets in: name a folder with --wallet-dir or PITHEAD_WALLET_DIR"
    )]
    NoFolder,
}

impl WalletError {
    /// What the user can do about it, if anything.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unknown { known, .. } if known.is_empty() => {
                Some("there are no wallets yet: make one with `pithead wallet new NAME`".to_owned())
            }
            Self::Unknown { known, .. } => Some(format!("known wallets: {}", known.join(", "))),
            Self::Exists { .. } => Some("choose another name".to_owned()),
            Self::File(error) => error.hint(),
            _ => None,
        }
    }

    /// Whether the passphrase was wrong.
    #[must_use]
    pub fn is_wrong_passphrase(&self) -> bool {
        matches!(self, Self::File(error) if error.is_wrong_passphrase())
    }
}

/// A wallet's name, which is also its file's name without `.pem`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WalletName(String);

impl WalletName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for WalletName {
    type Err = WalletError;

    fn from_str(text: &str) -> Result<Self, WalletError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let starts_well = text
            .bytes()
            .next()
            .is_some_and(|byte| byte.is_ascii_alphanumeric());
        if !starts_well || text.len() > NAME_BYTES_MAX || !text.bytes().all(allowed) {
            return Err(WalletError::BadName {
                found: text.chars().take(80).collect(),
            });
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for WalletName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A folder of wallets, which need not exist yet.
#[derive(Debug, Clone)]
pub struct Wallets {
    folder: PathBuf,
}

/// A wallet as its file shows it, with the private key still locked.
#[derive(Debug, Clone)]
pub struct Wallet {
    /// The name, unique in its folder.
    pub name: WalletName,
    /// The file that holds the key.
    pub path: PathBuf,
    /// The public key, which needs no passphrase.
    pub public_key: PublicKey,
    /// Whether a passphrase protects the private key.
    pub encrypted: bool,
    text: zeroize::Zeroizing<String>,
}

impl Wallet {
    /// The wallet's address, the same on every network but for the prefix.
    #[must_use]
    pub fn address(&self) -> Address {
        Address::of_key(&self.public_key)
    }

    /// Opens the private key. If the key is encrypted, this takes a noticeable
    /// moment, which slows down guessing.
    ///
    /// # Errors
    /// [`WalletError::File`] with a wrong or missing passphrase,
    /// [`WalletError::Mismatch`] if the file was altered.
    pub fn unlock(&self, passphrase: Option<&Passphrase>) -> Result<SigningKey, WalletError> {
        let key = SigningKey::from_pem(&self.text, passphrase)
            .map_err(|source| KeyFileError::key(&self.path, source))?;
        if *key.public_key() != self.public_key {
            return Err(WalletError::Mismatch {
                path: self.path.clone(),
            });
        }
        Ok(key)
    }
}

impl Wallets {
    /// The wallets in `folder`, which need not exist yet.
    #[must_use]
    pub fn in_folder(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
        }
    }

    /// The wallets of this user: in the platform's folder for application data,
    /// `~/.local/share/pithead/wallets` on Linux.
    ///
    /// # Errors
    /// [`WalletError::NoFolder`] if the environment names no home.
    pub fn of_user() -> Result<Self, WalletError> {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let home = || variable("HOME").map(PathBuf::from);
        let base = if cfg!(windows) {
            variable("APPDATA").map(PathBuf::from)
        } else if cfg!(target_os = "macos") {
            home().map(|home| home.join("Library/Application Support"))
        } else {
            variable("XDG_DATA_HOME")
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
                .or_else(|| home().map(|home| home.join(".local/share")))
        };
        let base = base.ok_or(WalletError::NoFolder)?;
        Ok(Self::in_folder(base.join("pithead").join("wallets")))
    }

    /// The folder of the wallets.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where the wallet with this name is kept.
    #[must_use]
    pub fn path_of(&self, name: &WalletName) -> PathBuf {
        self.folder.join(format!("{name}.pem"))
    }

    /// Names of all wallets, sorted.
    ///
    /// # Errors
    /// [`WalletError::File`] if the folder can't be read.
    pub fn names(&self) -> Result<Vec<WalletName>, WalletError> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(KeyFileError::io(&self.folder, error).into()),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| KeyFileError::io(&self.folder, error))?;
            let file = entry.file_name();
            let stem = file.to_str().and_then(|file| file.strip_suffix(".pem"));
            names.extend(stem.and_then(|stem| stem.parse::<WalletName>().ok()));
        }
        names.sort();
        Ok(names)
    }

    /// Reads a wallet. No passphrase is needed.
    ///
    /// # Errors
    /// [`WalletError::Unknown`] names the wallets of the folder.
    pub fn open(&self, name: &WalletName) -> Result<Wallet, WalletError> {
        let path = self.path_of(name);
        let text = match read_key_file(&path) {
            Ok(text) => text,
            Err(error) if error.is_not_found() => return Err(self.unknown(name.as_str())),
            Err(error) => return Err(error.into()),
        };
        let public_key =
            public_key_from_pem(&text).map_err(|source| KeyFileError::key(&path, source))?;
        Ok(Wallet {
            name: name.clone(),
            path,
            public_key,
            encrypted: SigningKey::is_encrypted_pem(&text),
            text,
        })
    }

    /// The error for a name that no wallet has.
    #[must_use]
    pub fn unknown(&self, name: &str) -> WalletError {
        let known = self.names().unwrap_or_default();
        WalletError::Unknown {
            name: name.to_owned(),
            folder: self.folder.clone(),
            known: known.iter().map(ToString::to_string).collect(),
        }
    }

    /// Refuses a name that is taken. Ask this before you ask the user for a
    /// passphrase.
    ///
    /// # Errors
    /// [`WalletError::Exists`].
    pub fn check_free(&self, name: &WalletName) -> Result<(), WalletError> {
        let path = self.path_of(name);
        // A dangling link is taken too.
        if path.symlink_metadata().is_ok() {
            return Err(WalletError::Exists {
                name: name.to_string(),
                path,
            });
        }
        Ok(())
    }

    /// Keeps a key under a name that is still free, encrypted if there is a
    /// passphrase. The file appears whole or not at all.
    ///
    /// # Errors
    /// [`WalletError::Exists`] if the name is taken.
    pub fn add(
        &self,
        name: &WalletName,
        key: &SigningKey,
        passphrase: Option<&Passphrase>,
    ) -> Result<Wallet, WalletError> {
        self.check_free(name)?;
        let path = self.path_of(name);
        self.create_folder()?;
        write_key_file(&path, key, passphrase).map_err(|error| {
            if error.is_already_there() {
                let name = name.to_string();
                WalletError::Exists { name, path }
            } else {
                error.into()
            }
        })?;
        self.open(name)
    }

    fn create_folder(&self) -> Result<(), WalletError> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder
            .create(&self.folder)
            .map_err(|error| KeyFileError::io(&self.folder, error).into())
    }
}
