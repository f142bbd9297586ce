//! Wallets: a folder with one file per named key.
//!
//! A file is `NAME.pem`, mode 0600: the private key as PKCS#8, encrypted unless
//! the owner insisted otherwise, then the public key: so the address can be had
//! without the passphrase. To hand a key to another program, export it: what is
//! kept here takes more memory to open than OpenSSL allows.

use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use pithead_consensus::{Address, PublicKey};
use thiserror::Error;

use crate::key::{KeyError, Passphrase, SigningKey, public_key_from_pem};

/// Longest name. Addresses are longer, so no wallet can pass for one.
const NAME_BYTES_MAX: usize = 32;
/// Largest file that is read as a key.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// What can go wrong with wallets.
#[derive(Debug, Error)]
pub enum WalletError {
    /// A name that can't be used.
    #[error(
        "{found:?} can't be a wallet's name: 1 to 32 of a-z A-Z 0-9 . _ -, starting with a letter or a digit"
    )]
    BadName {
        /// The name found.
        found: String,
    },
    /// No wallet has that name.
    #[error("there is no wallet {name:?} in {}", folder.display())]
    Unknown {
        /// The name asked for.
        name: String,
        /// The folder.
        folder: PathBuf,
        /// The wallets that there are.
        known: Vec<String>,
    },
    /// A wallet has that name already.
    #[error("there is a wallet {name:?} already ({}); wallets are never overwritten", path.display())]
    Exists {
        /// The name.
        name: String,
        /// Its file.
        path: PathBuf,
    },
    /// A wallet's key, or its file, is wrong.
    #[error("{}: {source}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: KeyError,
    },
    /// The public and the private part do not belong together.
    #[error("{}: the public key in it is not that of the private key: the file was altered", path.display())]
    Mismatch {
        /// The file.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file or folder.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// There is no home folder to keep wallets in.
    #[error(
        "there is no home folder to keep wallets in: name a folder with --wallet-dir or PITHEAD_WALLET_DIR"
    )]
    NoFolder,
}

impl WalletError {
    /// What to do about it, if there is something to say.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unknown { known, .. } if known.is_empty() => {
                Some("there are no wallets yet: make one with `pithead wallet new NAME`".to_owned())
            }
            Self::Unknown { known, .. } => Some(format!("known wallets: {}", known.join(", "))),
            Self::Exists { .. } => Some("choose another name".to_owned()),
            Self::Key {
                source: KeyError::PassphraseNeeded,
                ..
            } => Some("give it with --passphrase-file FILE or PITHEAD_PASSPHRASE".to_owned()),
            _ => None,
        }
    }

    /// Whether the passphrase was wrong.
    #[must_use]
    pub fn is_wrong_passphrase(&self) -> bool {
        matches!(
            self,
            Self::Key {
                source: KeyError::WrongPassphrase,
                ..
            }
        )
    }
}

/// A wallet's name: also its file's, without `.pem`.
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

/// A folder of wallets.
#[derive(Debug, Clone)]
pub struct Wallets {
    folder: PathBuf,
}

/// A wallet as it lies on disk: its private key still locked.
#[derive(Debug, Clone)]
pub struct Wallet {
    /// Its name.
    pub name: WalletName,
    /// Its file.
    pub path: PathBuf,
    /// Its public key.
    pub public_key: PublicKey,
    /// Whether a passphrase protects it.
    pub encrypted: bool,
    text: zeroize::Zeroizing<String>,
}

impl Wallet {
    /// Its address, the same on every network but for the prefix.
    #[must_use]
    pub fn address(&self) -> Address {
        Address::of_key(&self.public_key)
    }

    /// Opens the private key. Takes a noticeable moment if it is encrypted:
    /// that is what slows down guessing.
    ///
    /// # Errors
    /// [`WalletError::Key`] with a wrong or missing passphrase,
    /// [`WalletError::Mismatch`] if the file was altered.
    pub fn unlock(&self, passphrase: Option<&Passphrase>) -> Result<SigningKey, WalletError> {
        let key =
            SigningKey::from_pem(&self.text, passphrase).map_err(|source| WalletError::Key {
                path: self.path.clone(),
                source,
            })?;
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

    /// The folder.
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
    /// [`WalletError::Io`] if the folder can't be read.
    pub fn names(&self) -> Result<Vec<WalletName>, WalletError> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(io_error(&self.folder, error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| io_error(&self.folder, error))?;
            let file = entry.file_name();
            let stem = file.to_str().and_then(|file| file.strip_suffix(".pem"));
            names.extend(stem.and_then(|stem| stem.parse::<WalletName>().ok()));
        }
        names.sort();
        Ok(names)
    }

    /// Reads a wallet; no passphrase is needed for that.
    ///
    /// # Errors
    /// [`WalletError::Unknown`] names the wallets that there are.
    pub fn open(&self, name: &WalletName) -> Result<Wallet, WalletError> {
        let path = self.path_of(name);
        let text = match read_key_file(&path) {
            Ok(text) => text,
            Err(WalletError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Err(self.unknown(name.as_str()));
            }
            Err(error) => return Err(error),
        };
        let public_key = public_key_from_pem(&text).map_err(|source| WalletError::Key {
            path: path.clone(),
            source,
        })?;
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

    /// Refuses a name that is taken: worth asking before a passphrase is.
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

    /// Keeps a key under a name that is still free; encrypted if there is a
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
        let wrap = |source| WalletError::Key {
            path: path.clone(),
            source,
        };
        let mut text = key.to_pem(passphrase).map_err(wrap)?;
        text.push_str(&key.public_pem().map_err(wrap)?);
        self.create_folder()?;
        write_private_file(&path, text.as_bytes()).map_err(|error| match error {
            WalletError::Io { source, .. } if source.kind() == io::ErrorKind::AlreadyExists => {
                WalletError::Exists {
                    name: name.to_string(),
                    path: path.clone(),
                }
            }
            error => error,
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
            .map_err(|error| io_error(&self.folder, error))
    }
}

/// Reads a file that should hold a key.
///
/// # Errors
/// [`WalletError::Io`] if it can't be read, [`WalletError::Key`] if it is far
/// too large or not text.
pub fn read_key_file(path: &Path) -> Result<zeroize::Zeroizing<String>, WalletError> {
    let malformed = |what: &str| WalletError::Key {
        path: path.to_owned(),
        source: KeyError::Malformed(what.to_owned()),
    };
    let size = fs::metadata(path)
        .map_err(|error| io_error(path, error))?
        .len();
    if size > FILE_BYTES_MAX {
        return Err(malformed("it is far too large for a key file"));
    }
    let bytes = zeroize::Zeroizing::new(fs::read(path).map_err(|error| io_error(path, error))?);
    let text = std::str::from_utf8(&bytes)
        .map_err(|_| malformed("it is not text: convert DER to PEM first"))?;
    Ok(zeroize::Zeroizing::new(text.to_owned()))
}

/// Writes a file that only its owner may read: first whole under another name,
/// then moved into place. Never overwrites.
///
/// # Errors
/// [`WalletError::Io`]; its kind is `AlreadyExists` if the file is there.
pub fn write_private_file(path: &Path, bytes: &[u8]) -> Result<(), WalletError> {
    write_new_file(path, bytes, 0o600)
}

/// Writes a file that everyone may read, whole or not at all. Never overwrites.
///
/// # Errors
/// [`WalletError::Io`]; its kind is `AlreadyExists` if the file is there.
pub fn write_public_file(path: &Path, bytes: &[u8]) -> Result<(), WalletError> {
    write_new_file(path, bytes, 0o644)
}

fn write_new_file(path: &Path, bytes: &[u8], mode: u32) -> Result<(), WalletError> {
    let fail = |error| io_error(path, error);
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    builder.prefix(".pithead-");
    // From the start, so that a secret is never open to others for a moment.
    #[cfg(unix)]
    let permissions = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(mode);
    #[cfg(unix)]
    builder.permissions(permissions);
    #[cfg(not(unix))]
    let _ = mode;
    let mut file = builder.tempfile_in(folder).map_err(fail)?;
    file.write_all(bytes).map_err(fail)?;
    file.as_file().sync_all().map_err(fail)?;
    file.persist_noclobber(path)
        .map_err(|error| fail(error.error))?;
    // The name itself is durable only once its folder is.
    #[cfg(unix)]
    fs::File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(fail)?;
    Ok(())
}

fn io_error(path: &Path, source: io::Error) -> WalletError {
    WalletError::Io {
        path: path.to_owned(),
        source,
    }
}
