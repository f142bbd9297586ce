//! Block bodies in append-only files beside the database. Knows neither the database nor what a
//! body contains. Start reading at [`BodyFiles::append`].
//!
//! A body is appended and synced before the database commit that names its place. A crash in
//! between leaves bytes after the recorded end; the next append cuts them off. Opening changes
//! nothing.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::StoreError;
use super::checksum::checksum;

/// A file that has reached this size is followed by a new one.
const FILE_BYTES_MAX: u64 = 128 * 1024 * 1024;

/// Where a body is: in which file, at which byte, and how long; and its checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Location {
    pub(super) file: u32,
    pub(super) offset: u64,
    pub(super) len: u32,
    pub(super) sum: u64,
}

/// Where the next body is appended: the end of the last file that a commit knows of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct End {
    pub(super) file: u32,
    pub(super) offset: u64,
}

impl Location {
    pub(super) fn to_bytes(self) -> [u8; 24] {
        let mut bytes = [0; 24];
        bytes[..4].copy_from_slice(&self.file.to_be_bytes());
        bytes[4..12].copy_from_slice(&self.offset.to_be_bytes());
        bytes[12..16].copy_from_slice(&self.len.to_be_bytes());
        bytes[16..].copy_from_slice(&self.sum.to_be_bytes());
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (file, rest) = bytes.split_first_chunk::<4>()?;
        let (offset, rest) = rest.split_first_chunk::<8>()?;
        let (len, sum) = rest.split_first_chunk::<4>()?;
        Some(Self {
            file: u32::from_be_bytes(*file),
            offset: u64::from_be_bytes(*offset),
            len: u32::from_be_bytes(*len),
            sum: u64::from_be_bytes(sum.try_into().ok()?),
        })
    }

    /// Whether the body ends at `end` or before it.
    pub(super) fn is_within(&self, end: End) -> bool {
        let last = self.offset.saturating_add(u64::from(self.len));
        self.file < end.file || (self.file == end.file && last <= end.offset)
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

/// The files of one store; the last one is opened by the first append.
pub(super) struct BodyFiles {
    dir: PathBuf,
    writer: Mutex<Writer>,
}

struct Writer {
    file: Option<File>,
    end: End,
    /// Whether something was appended that may not be on disk yet.
    unsynced: bool,
}

impl BodyFiles {
    /// The files in `dir` up to `end`, once they are all there. Changes nothing.
    pub(super) fn open(dir: PathBuf, end: End) -> Result<Self, StoreError> {
        for number in 0..=end.file {
            let least = if number == end.file {
                end.offset
            } else {
                FILE_BYTES_MAX
            };
            let path = file_path(&dir, number);
            let found = match fs::metadata(&path) {
                Ok(file) => file.len(),
                // No body was stored yet.
                Err(error) if error.kind() == io::ErrorKind::NotFound && least == 0 => 0,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Err(StoreError::MissingHalf { missing: path });
                }
                Err(error) => return Err(StoreError::io(&path, error)),
            };
            if found < least {
                return Err(StoreError::Damaged(format!(
                    "{} has {found} bytes, {least} expected",
                    path.display()
                )));
            }
        }
        Ok(Self {
            dir,
            writer: Mutex::new(Writer {
                file: None,
                end,
                unsynced: false,
            }),
        })
    }

    /// Whether any body was ever written to `dir`.
    pub(super) fn are_in(dir: &Path) -> Result<bool, StoreError> {
        let entries = match fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(StoreError::io(dir, error)),
        };
        for entry in entries {
            let file = entry.and_then(|entry| entry.metadata());
            if file.map_err(|error| StoreError::io(dir, error))?.len() > 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Appends bodies; returns their places and the new end. The next call overwrites them unless
    /// [`BodyFiles::advance`] has confirmed that end.
    pub(super) fn append(&self, bodies: &[&[u8]]) -> Result<(Vec<Location>, End), StoreError> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut end = writer.end;
        let mut file = match writer.file.take() {
            Some(file) => file,
            None => self.open_last(end)?,
        };
        // A failed commit may have left bodies after the end.
        file.set_len(end.offset)
            .map_err(|error| StoreError::io(&file_path(&self.dir, end.file), error))?;
        let mut places = Vec::with_capacity(bodies.len());
        for body in bodies {
            if end.offset >= FILE_BYTES_MAX {
                self.sync_file(&file, end.file)?;
                end = End {
                    file: end.file + 1,
                    offset: 0,
                };
                // The old end is in a file that is closed now.
                writer.end = end;
                file = self.open_last(end)?;
            }
            let path = file_path(&self.dir, end.file);
            file.write_all(body)
                .map_err(|error| StoreError::io(&path, error))?;
            places.push(Location {
                file: end.file,
                offset: end.offset,
                len: u32::try_from(body.len())
                    .map_err(|_| StoreError::Damaged("a body over 4 GiB".to_owned()))?,
                sum: checksum(0, body),
            });
            end.offset += body.len() as u64;
        }
        writer.file = Some(file);
        writer.unsynced = true;
        Ok((places, end))
    }

    /// Opens the file of an end for appending, cuts off what follows the end, and removes later
    /// files: no commit knows of either. The file's name is on disk before a commit refers to it.
    fn open_last(&self, end: End) -> Result<File, StoreError> {
        fs::create_dir_all(&self.dir).map_err(|error| StoreError::io(&self.dir, error))?;
        let path = file_path(&self.dir, end.file);
        let file = open_for_append(&path)?;
        file.set_len(end.offset)
            .map_err(|error| StoreError::io(&path, error))?;
        let mut later = end.file.saturating_add(1);
        while file_path(&self.dir, later).exists() {
            let path = file_path(&self.dir, later);
            fs::remove_file(&path).map_err(|error| StoreError::io(&path, error))?;
            later += 1;
        }
        sync_dir(&self.dir)?;
        if let Some(parent) = self.dir.parent() {
            sync_dir(parent)?;
        }
        Ok(file)
    }

    /// Brings everything that was appended to disk.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(file), true) = (&writer.file, writer.unsynced) {
            self.sync_file(file, writer.end.file)?;
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
        let mut body = vec![0; place.len as usize];
        File::open(&path)
            .and_then(|file| file.read_exact_at(&mut body, place.offset))
            .map_err(|error| match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof => {
                    StoreError::Damaged(format!("{}: {error}", path.display()))
                }
                _ => StoreError::io(&path, error),
            })?;
        if checksum(0, &body) != place.sum {
            return Err(StoreError::Damaged(format!(
                "{}: the {} bytes at byte {} are not as they were written",
                path.display(),
                place.len,
                place.offset
            )));
        }
        Ok(body)
    }

    /// Copies the files up to `end` to another folder and syncs them; returns the bytes copied.
    pub(super) fn copy_to(&self, dir: &Path, end: End) -> Result<u64, StoreError> {
        fs::create_dir_all(dir).map_err(|error| StoreError::io(dir, error))?;
        let mut total = 0;
        for number in 0..=end.file {
            let from = file_path(&self.dir, number);
            let to = file_path(dir, number);
            let len = if number == end.file {
                end.offset
            } else {
                u64::MAX
            };
            if len == 0 {
                continue;
            }
            let source = File::open(&from).map_err(|error| StoreError::io(&from, error))?;
            let mut copy = File::create(&to).map_err(|error| StoreError::io(&to, error))?;
            total += io::copy(&mut source.take(len), &mut copy)
                .and_then(|copied| copy.sync_all().map(|()| copied))
                .map_err(|error| StoreError::io(&to, error))?;
        }
        sync_dir(dir)?;
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
