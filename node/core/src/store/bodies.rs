//! Block bodies in append-only files beside the database. Knows neither the database nor what a
//! body contains. Start reading at [`BodyFiles::append`].
//!
//! A body is appended and synced before the database commit that names its place. A crash in
//! between leaves bytes after the recorded end; the next start cuts them off.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::StoreError;

/// A file that has reached this size is followed by a new one.
const FILE_BYTES_MAX: u64 = 128 * 1024 * 1024;

/// Where a body is: in which file, at which byte, and how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Location {
    pub(super) file: u32,
    pub(super) offset: u64,
    pub(super) len: u32,
}

/// Where the next body is appended: the end of the last file that a commit knows of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct End {
    pub(super) file: u32,
    pub(super) offset: u64,
}

impl Location {
    pub(super) fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&self.file.to_be_bytes());
        bytes[4..12].copy_from_slice(&self.offset.to_be_bytes());
        bytes[12..].copy_from_slice(&self.len.to_be_bytes());
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (file, rest) = bytes.split_first_chunk::<4>()?;
        let (offset, rest) = rest.split_first_chunk::<8>()?;
        Some(Self {
            file: u32::from_be_bytes(*file),
            offset: u64::from_be_bytes(*offset),
            len: u32::from_be_bytes(rest.try_into().ok()?),
        })
    }
}

impl End {
    pub(super) fn to_bytes(self) -> [u8; 12] {
        let mut bytes = [0; 12];
        bytes[..4].copy_from_slice(&self.file.to_be_bytes());
        bytes[4..].copy_from_slice(&self.offset.to_be_bytes());
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (file, rest) = bytes.split_first_chunk::<4>()?;
        Some(Self {
            file: u32::from_be_bytes(*file),
            offset: u64::from_be_bytes(rest.try_into().ok()?),
        })
    }
}

/// The files of one store; the last one is open for appending.
pub(super) struct BodyFiles {
    dir: PathBuf,
    writer: Mutex<Writer>,
}

struct Writer {
    file: File,
    end: End,
    /// Whether something was appended that may not be on disk yet.
    unsynced: bool,
}

impl BodyFiles {
    /// Opens the files and removes everything after `end`: no commit knows of it.
    pub(super) fn open(dir: PathBuf, end: End) -> Result<Self, StoreError> {
        fs::create_dir_all(&dir).map_err(|error| StoreError::io(&dir, error))?;
        let path = file_path(&dir, end.file);
        let file = open_for_append(&path)?;
        let found = file
            .metadata()
            .map_err(|error| StoreError::io(&path, error))?
            .len();
        if found < end.offset {
            return Err(StoreError::Damaged(format!(
                "{} has {found} bytes, {} expected",
                path.display(),
                end.offset
            )));
        }
        file.set_len(end.offset)
            .map_err(|error| StoreError::io(&path, error))?;
        sync_dir(&dir)?;
        let mut later = end.file + 1;
        while file_path(&dir, later).exists() {
            let path = file_path(&dir, later);
            fs::remove_file(&path).map_err(|error| StoreError::io(&path, error))?;
            later += 1;
        }
        Ok(Self {
            dir,
            writer: Mutex::new(Writer {
                file,
                end,
                unsynced: false,
            }),
        })
    }

    /// Appends bodies; returns their places and the new end. The next call overwrites them unless
    /// [`BodyFiles::advance`] has confirmed that end.
    pub(super) fn append(&self, bodies: &[&[u8]]) -> Result<(Vec<Location>, End), StoreError> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        // A failed commit may have left bodies after the end.
        let path = file_path(&self.dir, writer.end.file);
        writer
            .file
            .set_len(writer.end.offset)
            .map_err(|error| StoreError::io(&path, error))?;
        let mut end = writer.end;
        let mut places = Vec::with_capacity(bodies.len());
        for body in bodies {
            if end.offset >= FILE_BYTES_MAX {
                self.sync_file(&writer.file, end.file)?;
                end = End {
                    file: end.file + 1,
                    offset: 0,
                };
                let path = file_path(&self.dir, end.file);
                writer.file = open_for_append(&path)?;
                writer
                    .file
                    .set_len(0)
                    .map_err(|error| StoreError::io(&path, error))?;
                // The file's name must be durable before a commit refers to the file.
                sync_dir(&self.dir)?;
                // The old end is in a file that is closed now.
                writer.end = end;
            }
            let path = file_path(&self.dir, end.file);
            writer
                .file
                .write_all(body)
                .map_err(|error| StoreError::io(&path, error))?;
            places.push(Location {
                file: end.file,
                offset: end.offset,
                len: u32::try_from(body.len())
                    .map_err(|_| StoreError::Damaged("a body over 4 GiB".to_owned()))?,
            });
            end.offset += body.len() as u64;
        }
        writer.unsynced = true;
        Ok((places, end))
    }

    /// Brings everything that was appended to disk.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if writer.unsynced {
            self.sync_file(&writer.file, writer.end.file)?;
            writer.unsynced = false;
        }
        Ok(())
    }

    /// Confirms an end that [`BodyFiles::append`] returned: the commit that names its bodies was
    /// made.
    pub(super) fn advance(&self, end: End) {
        self.writer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .end = end;
    }

    pub(super) fn read(&self, place: Location) -> Result<Vec<u8>, StoreError> {
        let path = file_path(&self.dir, place.file);
        let file = File::open(&path).map_err(|error| StoreError::io(&path, error))?;
        let mut body = vec![0; place.len as usize];
        file.read_exact_at(&mut body, place.offset)
            .map_err(|error| StoreError::io(&path, error))?;
        Ok(body)
    }

    /// Copies the files up to that of `end` to another folder; returns the bytes copied.
    pub(super) fn copy_to(&self, dir: &Path, end: End) -> Result<u64, StoreError> {
        fs::create_dir_all(dir).map_err(|error| StoreError::io(dir, error))?;
        let mut total = 0;
        for number in 0..=end.file {
            let from = file_path(&self.dir, number);
            let to = file_path(dir, number);
            total += fs::copy(&from, &to).map_err(|error| StoreError::io(&from, error))?;
        }
        Ok(total)
    }

    pub(super) fn size_bytes(&self) -> u64 {
        let end = self
            .writer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .end;
        u64::from(end.file) * FILE_BYTES_MAX + end.offset
    }

    fn sync_file(&self, file: &File, number: u32) -> Result<(), StoreError> {
        file.sync_data()
            .map_err(|error| StoreError::io(&file_path(&self.dir, number), error))
    }
}

/// Makes the names in a folder durable. Syncing a file does not do that for its name.
pub(super) fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(|error| StoreError::io(dir, error))
}

fn file_path(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("bodies-{number:05}.dat"))
}

pub(super) fn open_for_append(path: &Path) -> Result<File, StoreError> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .map_err(|error| StoreError::io(path, error))
}
