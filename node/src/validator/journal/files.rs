//! The vote record as files: making one, opening it, and appending votes.
//!
//! Every change but an append writes a new file beside the record and renames it, so that a crash
//! leaves the old record or the new one.

use std::io;
use std::path::{Path, PathBuf};

use pithead_consensus::{AddressPrefix, Link, VoteRecord};
use pithead_core::finality::{JournalError, VoteJournal};

use super::error::{VoteRecordError, io_error};
use super::folder::{DiskFolder, FolderLock, RecordFile, RecordFolder};
use super::layout::{self, ReadRecord, RecordFlaw, RecordOwner};

/// The name of the record.
pub(super) const LOG: &str = "votes.log";
/// A new record that is being written, before it takes the place of the old one.
const NEW: &str = "votes.log.new";
/// A record that was moved away: the validator must not vote on it.
pub(super) const MOVED: &str = "votes.log.moved";
/// A record that was replaced because it could not be read.
pub(super) const DAMAGED: &str = "votes.log.damaged";
/// Locked by the process that uses the record. The record itself can't be locked: it is replaced,
/// and the lock would be on a file that is gone.
const LOCK: &str = "votes.lock";
/// Votes that are kept one by one when a record is opened: a day of the main network. A floor
/// stands for the votes below them; it forbids more than they do, never less.
pub(super) const VOTES_KEPT: usize = 1_024;

/// The folder in which a validator keeps its votes, usually the data directory.
#[derive(Debug)]
pub struct RecordFiles {
    pub(super) folder: Box<dyn RecordFolder>,
    pub(super) path: PathBuf,
    /// Names validators in messages.
    pub(super) prefix: AddressPrefix,
}

/// An open vote record, to which votes are appended. Other processes are locked out.
#[derive(Debug)]
pub struct FileJournal {
    files: RecordFiles,
    _lock: FolderLock,
    file: Box<dyn RecordFile>,
    owner: RecordOwner,
    /// How many votes the file holds.
    votes: u64,
    /// A write failed, so it is not known what is in the file.
    failed: bool,
}

impl RecordFiles {
    /// The record of a data directory.
    #[must_use]
    pub fn new(data_dir: &Path, prefix: AddressPrefix) -> Self {
        Self {
            folder: Box::new(DiskFolder(data_dir.to_owned())),
            path: data_dir.to_owned(),
            prefix,
        }
    }

    /// Where the record is.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.path.join(LOG)
    }

    /// Makes a new record without votes.
    ///
    /// # Errors
    /// [`VoteRecordError::Exists`] if there is one, [`VoteRecordError::Moved`] if
    /// there was one, or the system's reason.
    pub fn create(self, owner: RecordOwner) -> Result<FileJournal, VoteRecordError> {
        let lock = self.lock()?;
        self.check_new()?;
        self.journal(lock, owner, &VoteRecord::default())
    }

    /// Checks that a record may be made: there is none, and none was moved away.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub fn check_new(&self) -> Result<(), VoteRecordError> {
        if self.read(LOG)?.is_some() {
            return Err(VoteRecordError::Exists { path: self.path() });
        }
        self.check_not_moved()
    }

    /// Opens a record and reads its votes. A torn last vote is cut off: it was never on disk, so
    /// its signature can't have left.
    ///
    /// # Errors
    /// [`VoteRecordError`] says what is wrong and what to do.
    pub fn open(self, owner: RecordOwner) -> Result<(FileJournal, VoteRecord), VoteRecordError> {
        let lock = self.lock()?;
        let Some(bytes) = self.read(LOG)? else {
            self.check_not_moved()?;
            return Err(VoteRecordError::Missing { path: self.path() });
        };
        let found = self.parse(LOG, &bytes)?;
        self.check_owner(&found.owner, &owner)?;
        if found.torn {
            tracing::warn!(
                path = %self.path().display(),
                "the vote record ends in a torn vote, as a crash leaves one that was not signed yet: it is cut off"
            );
        }
        let mut record = found.record;
        record.keep_highest(VOTES_KEPT);
        let journal = self.journal(lock, owner, &record)?;
        Ok((journal, record))
    }

    fn journal(
        self,
        lock: FolderLock,
        owner: RecordOwner,
        record: &VoteRecord,
    ) -> Result<FileJournal, VoteRecordError> {
        let file = self.replace(&owner, record)?;
        Ok(FileJournal {
            files: self,
            _lock: lock,
            file,
            owner,
            votes: record.len() as u64,
            failed: false,
        })
    }

    /// Replaces the record, durably and all at once.
    pub(super) fn replace(
        &self,
        owner: &RecordOwner,
        record: &VoteRecord,
    ) -> Result<Box<dyn RecordFile>, VoteRecordError> {
        let write = || {
            let mut file = self.folder.create(NEW)?;
            file.append(&layout::write(owner, record))?;
            file.sync()?;
            self.folder.rename(NEW, LOG)?;
            self.folder.sync()?;
            Ok(file)
        };
        write().map_err(|error| io_error(&self.path(), error))
    }

    pub(super) fn lock(&self) -> Result<FolderLock, VoteRecordError> {
        let path = self.path();
        let lock = self.folder.lock(LOCK);
        lock.map_err(|error| io_error(&path, error))?
            .ok_or(VoteRecordError::Locked { path })
    }

    pub(super) fn read(&self, name: &str) -> Result<Option<Vec<u8>>, VoteRecordError> {
        let bytes = self.folder.read(name);
        bytes.map_err(|error| io_error(&self.path.join(name), error))
    }

    pub(super) fn parse(&self, name: &str, bytes: &[u8]) -> Result<ReadRecord, VoteRecordError> {
        layout::read(bytes, &mut VoteRecord::default()).map_err(|flaw| self.flawed(name, &flaw))
    }

    pub(super) fn flawed(&self, name: &str, flaw: &RecordFlaw) -> VoteRecordError {
        let path = self.path.join(name);
        match flaw {
            RecordFlaw::Damaged(vote) => VoteRecordError::Damaged { path, vote: *vote },
            RecordFlaw::Contradiction(error) => VoteRecordError::Contradiction {
                path,
                reason: error.to_string(),
            },
        }
    }

    fn check_not_moved(&self) -> Result<(), VoteRecordError> {
        match self.read(MOVED)? {
            Some(_) => Err(VoteRecordError::Moved {
                path: self.path.join(MOVED),
            }),
            None => Ok(()),
        }
    }

    pub(super) fn check_owner(
        &self,
        found: &RecordOwner,
        expected: &RecordOwner,
    ) -> Result<(), VoteRecordError> {
        let what = if found.genesis != expected.genesis {
            format!("the chain with genesis {}", found.genesis)
        } else if found.validator != expected.validator {
            format!("the validator {}", found.validator.to_text(&self.prefix))
        } else {
            return Ok(());
        };
        let path = self.path();
        Err(VoteRecordError::NotOurs { path, what })
    }

    /// Renames the record, so that no node starts with it.
    pub(super) fn move_away(&self) -> io::Result<()> {
        self.folder.rename(LOG, MOVED)?;
        self.folder.sync()
    }
}

impl FileJournal {
    fn failed(&mut self, error: &io::Error) -> JournalError {
        self.failed = true;
        JournalError(format!("{}: {error}", self.files.path().display()))
    }
}

impl VoteJournal for FileJournal {
    fn append(&mut self, link: &Link) -> Result<(), JournalError> {
        if self.failed {
            let error = io::Error::other("an earlier write failed");
            return Err(self.failed(&error));
        }
        let vote = layout::vote(&self.owner, self.votes, link);
        let written = self.file.append(&vote).and_then(|()| self.file.sync());
        written.map_err(|error| self.failed(&error))?;
        self.votes += 1;
        Ok(())
    }

    fn close(&mut self) -> Result<(), JournalError> {
        let moved = self.files.move_away();
        moved.map_err(|error| self.failed(&error))?;
        self.failed = true;
        Ok(())
    }
}
