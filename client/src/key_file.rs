//! Files that hold keys: how wallets and validators read and write them. A file
//! appears whole or not at all, an existing file is never overwritten, and a
//! private file is readable by its owner alone from its first byte on.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use thiserror::Error;
use zeroize::Zeroizing;

use pithead_keys::{KeyError, Passphrase, SigningKey};

/// Largest file that is read as a key.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Why a key file can't be read or written.
#[derive(Debug, Error)]
pub enum KeyFileError {
    /// The file holds no usable key, or the passphrase does not open it.
    #[error("{}: {source}", path.display())]
    Key {
        /// Path of the file.
        path: PathBuf,
        /// What is wrong with the key.
        source: KeyError,
    },
    /// The operating system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// Path of the file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

impl KeyFileError {
    /// Ties what is wrong with a key to the file that holds it.
    pub(crate) fn key(path: &Path, source: KeyError) -> Self {
        Self::Key {
            path: path.to_owned(),
            source,
        }
    }

    /// Ties what the operating system said to the file that it is about.
    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            source,
        }
    }

    /// Whether a file of this name is there already.
    #[must_use]
    pub fn is_already_there(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::AlreadyExists)
    }

    /// Whether there is no file of this name.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// Whether the passphrase does not open the key.
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

    /// Whether the key is encrypted and no passphrase was given.
    #[must_use]
    pub fn needs_passphrase(&self) -> bool {
        matches!(
            self,
            Self::Key {
                source: KeyError::PassphraseNeeded,
                ..
            }
        )
    }

    /// What the user can do about it, if anything.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        self.needs_passphrase()
            .then(|| "give it with --passphrase-file FILE or PITHEAD_PASSPHRASE".to_owned())
    }
}

/// Reads a file that should hold a key.
///
/// # Errors
/// [`KeyFileError::Io`] if it can't be read, [`KeyFileError::Key`] if it is far
/// too large or not text.
pub fn read_key_file(path: &Path) -> Result<Zeroizing<String>, KeyFileError> {
    let io = |error| KeyFileError::io(path, error);
    let malformed = |what: &str| KeyFileError::key(path, KeyError::Malformed(what.to_owned()));
    let size = fs::metadata(path).map_err(io)?.len();
    if size > FILE_BYTES_MAX {
        return Err(malformed("it is far too large for a key file"));
    }
    let bytes = Zeroizing::new(fs::read(path).map_err(io)?);
    let text = std::str::from_utf8(&bytes)
        .map_err(|_| malformed("it is not text: convert DER to PEM first"))?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// Writes a key file: the private key, encrypted if there is a passphrase, then
/// the public key, so that the address can be read without the passphrase.
///
/// # Errors
/// [`KeyFileError`]; see [`KeyFileError::is_already_there`].
pub(crate) fn write_key_file(
    path: &Path,
    key: &SigningKey,
    passphrase: Option<&Passphrase>,
) -> Result<(), KeyFileError> {
    let wrap = |source| KeyFileError::key(path, source);
    let mut text = key.to_pem(passphrase).map_err(wrap)?;
    text.push_str(&key.public_pem().map_err(wrap)?);
    write_private_file(path, text.as_bytes())
}

/// Writes a file that only its owner may read: first whole under another name,
/// then moved into place. Never overwrites.
///
/// # Errors
/// [`KeyFileError::Io`]; see [`KeyFileError::is_already_there`].
pub fn write_private_file(path: &Path, bytes: &[u8]) -> Result<(), KeyFileError> {
    write_new_file(path, bytes, 0o600)
}

/// Writes a file that every user may read, whole or not at all. Never overwrites.
///
/// # Errors
/// [`KeyFileError::Io`]; see [`KeyFileError::is_already_there`].
pub fn write_public_file(path: &Path, bytes: &[u8]) -> Result<(), KeyFileError> {
    write_new_file(path, bytes, 0o644)
}

fn write_new_file(path: &Path, bytes: &[u8], mode: u32) -> Result<(), KeyFileError> {
    let fail = |error| KeyFileError::io(path, error);
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    builder.prefix(".pithead-");
    // Set when the file is made, so that a secret is never open to others for a moment.
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
    // The name is durable only once its folder is synced.
    #[cfg(unix)]
    fs::File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(fail)?;
    Ok(())
}
