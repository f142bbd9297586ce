//! What a vote record asks of a file system. [`DiskFolder`] is the real one; tests have one that
//! loses power at any moment.

use std::fmt::Debug;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// Keeps other processes out until it is dropped.
#[derive(Debug)]
pub(super) struct FolderLock {
    _held: Option<File>,
}

/// The folder that holds a record.
pub(super) trait RecordFolder: Debug + Send {
    /// Locks a file that is made for the purpose and never replaced; `None` if another process
    /// holds the lock.
    fn lock(&self, name: &str) -> io::Result<Option<FolderLock>>;

    /// The content of a file as it reads now, durable or not.
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>>;

    /// Makes a file, or empties the one that is there.
    fn create(&self, name: &str) -> io::Result<Box<dyn RecordFile>>;

    /// Gives a file another name. A file that had that name is gone.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file, if there is one.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes durable which names there are: what was created, renamed and removed.
    fn sync(&self) -> io::Result<()>;
}

/// A file that is being written.
pub(super) trait RecordFile: Debug + Send {
    /// Adds bytes at its end.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Makes its content durable.
    fn sync(&mut self) -> io::Result<()>;
}

/// A folder on disk.
#[derive(Debug)]
pub(super) struct DiskFolder(pub(super) PathBuf);

impl RecordFolder for DiskFolder {
    fn lock(&self, name: &str) -> io::Result<Option<FolderLock>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.open(self.0.join(name))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(FolderLock { _held: Some(file) })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        match std::fs::read(self.0.join(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn RecordFile>> {
        Ok(Box::new(DiskFile(File::create(self.0.join(name))?)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.0.join(from), self.0.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match std::fs::remove_file(self.0.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn sync(&self) -> io::Result<()> {
        sync_folder(&self.0)
    }
}

#[derive(Debug)]
struct DiskFile(File);

impl RecordFile for DiskFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_all()
    }
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    let here = folder.as_os_str().is_empty();
    File::open(if here { Path::new(".") } else { folder })?.sync_all()
}

/// A lock without a file.
#[cfg(test)]
pub(super) fn no_lock() -> FolderLock {
    FolderLock { _held: None }
}
