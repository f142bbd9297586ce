//! A store that is thrown away after use, in a folder of its own. Start reading at
//! [`ScratchStore::make`].

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::folder::take_lock;
use super::{RedbStore, Store, StoreError};

/// The folders of scratch stores begin with this, and a number follows.
const NAME: &str = "pithead-scratch-";

/// A store on disk that does not survive its process: nothing is synced, and its folder is removed
/// when it is dropped.
pub struct ScratchStore {
    store: Arc<RedbStore>,
    dir: PathBuf,
}

impl ScratchStore {
    /// Makes an empty store in a new folder within `parent`, and removes the folders that scratch
    /// stores left there when their process was killed. `cache_bytes` bounds redb's page cache.
    ///
    /// # Errors
    /// [`StoreError`] if storage fails.
    pub fn make(parent: &Path, cache_bytes: usize) -> Result<Self, StoreError> {
        fs::create_dir_all(parent).map_err(|error| StoreError::io(parent, error))?;
        remove_leftovers(parent)?;
        let mut number = 0u64;
        loop {
            let dir = parent.join(format!("{NAME}{number}"));
            match fs::create_dir(&dir) {
                Ok(()) => {
                    let store = RedbStore::scratch(&dir, cache_bytes).inspect_err(|_| {
                        let _ = fs::remove_dir_all(&dir);
                    })?;
                    return Ok(Self {
                        store: Arc::new(store),
                        dir,
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
                Err(error) => return Err(StoreError::io(&dir, error)),
            }
        }
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store) as Arc<dyn Store>
    }
}

impl Drop for ScratchStore {
    fn drop(&mut self) {
        // Whatever stays is removed by the next scratch store beside it.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// A folder in use is locked, and stays.
fn remove_leftovers(parent: &Path) -> Result<(), StoreError> {
    let fail = |error| StoreError::io(parent, error);
    for entry in fs::read_dir(parent).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_dir = path.symlink_metadata().is_ok_and(|found| found.is_dir());
        if is_dir && name.starts_with(NAME) && take_lock(&path).is_ok() {
            fs::remove_dir_all(&path).map_err(|error| StoreError::io(&path, error))?;
        }
    }
    Ok(())
}
