//! This node's identity among peers: an Ed25519 key in the data directory, made on the first start
//! and kept for good.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use libp2p::identity::Keypair;
use thiserror::Error;

/// The file within the data directory.
pub(crate) const FILE_NAME: &str = "peer.key";
/// No encoded Ed25519 key is longer.
const FILE_BYTES_MAX: u64 = 1_024;

/// Why the identity can't be had.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// The file can't be read or written.
    #[error("peer identity {path}: {error}")]
    Io { path: PathBuf, error: io::Error },
    /// The file holds no Ed25519 key.
    #[error(
        "peer identity {path} is damaged: restore it from a backup; or delete it, and this node becomes a stranger to its peers under a new identity"
    )]
    Damaged { path: PathBuf },
}

/// Reads the identity, or makes one if there is none. A damaged file is never
/// overwritten.
///
/// # Errors
/// [`IdentityError`] if the file can't be read, is damaged or can't be made.
pub(crate) fn load_or_create(data_dir: &Path) -> Result<Keypair, IdentityError> {
    let path = data_dir.join(FILE_NAME);
    let failed = |error| IdentityError::Io {
        path: path.clone(),
        error,
    };
    match File::open(&path) {
        Ok(file) => {
            let mut bytes = Vec::new();
            file.take(FILE_BYTES_MAX)
                .read_to_end(&mut bytes)
                .map_err(failed)?;
            Keypair::from_protobuf_encoding(&bytes)
                .ok()
                .filter(|key| key.clone().try_into_ed25519().is_ok())
                .ok_or(IdentityError::Damaged { path })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key = Keypair::generate_ed25519();
            let bytes = key
                .to_protobuf_encoding()
                .map_err(|error| failed(io::Error::other(error)))?;
            write_private(&path, &bytes).map_err(failed)?;
            Ok(key)
        }
        Err(error) => Err(failed(error)),
    }
}

/// Writes a file that only its owner can read. The file is written whole or not at all, and never
/// replaces another.
fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("new");
    // An interrupted start may have left this file.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::hard_link(&temporary, path)?;
    fs::remove_file(&temporary)?;
    match path.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn it_is_made_once_and_kept_private() {
        let dir = tempfile::tempdir().unwrap();
        let made = load_or_create(dir.path()).unwrap();
        let read = load_or_create(dir.path()).unwrap();
        assert_eq!(made.public(), read.public());
        let mode = fs::metadata(dir.path().join(FILE_NAME))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_damaged_one_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE_NAME);
        let whole = load_or_create(dir.path())
            .unwrap()
            .to_protobuf_encoding()
            .unwrap();
        for damaged in [&[] as &[u8], b"nonsense", &whole[..40], &[7; 5_000]] {
            fs::write(&path, damaged).unwrap();
            let error = load_or_create(dir.path()).unwrap_err();
            assert!(matches!(error, IdentityError::Damaged { .. }), "{error}");
            assert!(error.to_string().contains(FILE_NAME));
            assert_eq!(fs::read(&path).unwrap(), damaged);
        }
    }
}
