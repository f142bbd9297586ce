//! The vote record on disk: what a validator must not lose. Every vote is
//! appended and brought to disk before its signature leaves (protocol §9, rule 4).
//!
//! What can be read is not yet durable: after a kill or a failed sync a vote may
//! stand in the system's memory only, and a second sync may report success without
//! writing it. So whoever opens a record writes it anew under another name, syncs
//! that and renames it, and only then believes it. Every other change is made the
//! same way, so that a crash leaves the old record or the new one.
//!
//! Start at [`RecordFiles::open`] and [`FileJournal`]. `layout` is the bytes,
//! `transfer` moves a record between machines and mends one, `text` is what
//! travels, `folder` what is asked of the file system.

mod folder;
mod layout;
#[cfg(test)]
mod tests;
mod text;
mod transfer;

use std::io;
use std::path::{Path, PathBuf};

use pithead_consensus::{Address, AddressPrefix, BlockHash, Height, Link, VoteRecord};
use thiserror::Error;

pub use text::{export, read_export};
pub use transfer::Imported;

use folder::{DiskFolder, Folder, Lock, RecordFile};
use layout::{Found, Unsound};
use pithead_core::finality::{JournalError, VoteJournal};

/// The record.
const LOG: &str = "votes.log";
/// The record as it is being written anew.
const NEW: &str = "votes.log.new";
/// A record that was moved away: the validator must not vote on it.
const MOVED: &str = "votes.log.moved";
/// A record that was replaced because it could not be read.
const DAMAGED: &str = "votes.log.damaged";
/// Locked by whoever is at the record; the others are replaced, so a lock on
/// them would soon be one on a file that is gone.
const LOCK: &str = "votes.lock";
/// Votes that are kept one by one when a record is opened: a day of the main
/// network. Of those below, the floor is left, which forbids more, never less.
const VOTES_KEPT: usize = 1_024;

/// Why there is no vote record to vote with.
#[derive(Debug, Error)]
pub enum VoteRecordError {
    /// A key without a record.
    #[error(
        "there is no vote record at {path}. Without it this validator could vote against its own earlier votes, which is proof of misbehaviour for everyone. If it voted elsewhere before, stop it there, export its record with `pithead-node votes export` and import it here with `pithead-node votes import`. Only if this key never voted, start once with --init-vote-record. If its record is lost, `pithead-node votes repair` says when it may vote again"
    )]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// One is there already.
    #[error(
        "there is a vote record at {path} already: start without --init-vote-record, which is for a key that never voted"
    )]
    Exists {
        /// Where it is.
        path: PathBuf,
    },
    /// It was exported, or another copy of the key was seen at work.
    #[error(
        "the vote record of this data directory was moved away: {path} is what is left of it, and a validator that votes in two places is found guilty for ever. To vote here again, stop the other copy, export its record there with `pithead-node votes export` and import it here with `pithead-node votes import`"
    )]
    Moved {
        /// What is left.
        path: PathBuf,
    },
    /// An import would bring back what is older than what was moved away.
    #[error(
        "{path} was moved away with votes up to height {expected}, and the import ends at {found}: it may lack votes that were cast since. Import a record that is at least as new"
    )]
    TooOld {
        /// What was moved away.
        path: PathBuf,
        /// The highest target of the import.
        found: Height,
        /// That of the record.
        expected: Height,
    },
    /// A record can't begin below what is known to be voted for.
    #[error(
        "this validator has voted for height {voted} (as {path} says), so its record can't begin anew above {above}: give a height that the network has certainly not reached before now, such as that of its present tip"
    )]
    BeginsTooLow {
        /// The record.
        path: PathBuf,
        /// The highest vote that is known.
        voted: Height,
        /// What was asked for.
        above: Height,
    },
    /// It is that of another validator or another chain.
    #[error(
        "the vote record at {path} is of {what}: use the one that belongs to this key and network"
    )]
    NotOurs {
        /// Where it is.
        path: PathBuf,
        /// Of what it is.
        what: String,
    },
    /// It is not what this program wrote.
    #[error(
        "the vote record at {path} is damaged at vote {vote}: import an export that is as new with `pithead-node votes import`, unless that is vote 0, its head; or begin it anew above every vote that may have left: `pithead-node votes repair --above HEIGHT`, with a height that the network has not reached before now. Never use --init-vote-record here"
    )]
    Damaged {
        /// Where it is.
        path: PathBuf,
        /// The number of the first unreadable vote, from 1; 0: the head.
        vote: usize,
    },
    /// A damaged record holds a vote that the import lacks.
    #[error(
        "the damaged vote record at {path} holds a vote for height {height} that is not in the import, which is older or of another copy: import one that is as new, or begin anew with `pithead-node votes repair --above HEIGHT`"
    )]
    ImportLacks {
        /// The damaged record.
        path: PathBuf,
        /// The target of the vote.
        height: Height,
    },
    /// A damaged record may hold votes that the import lacks.
    #[error(
        "{unread} votes of the damaged vote record at {path} can't be read, and the import holds {found} besides those that can: it may lack votes that were cast. Import one that is as new, or begin anew with `pithead-node votes repair --above HEIGHT`"
    )]
    ImportMayLack {
        /// The damaged record.
        path: PathBuf,
        /// Its votes that can't be read.
        unread: usize,
        /// Votes of the import that are not among those that can be read.
        found: usize,
    },
    /// Another process has it.
    #[error("the vote record at {path} is in use by another process: stop that one first")]
    Locked {
        /// Where it is.
        path: PathBuf,
    },
    /// A vote on record contradicts another.
    #[error("{path}: {reason}")]
    Contradiction {
        /// Where it is.
        path: PathBuf,
        /// Which rule two votes break.
        reason: String,
    },
    /// The text is no exported record.
    #[error("{path} is no exported vote record: {reason}")]
    BadExport {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        reason: String,
    },
    /// Reading or writing failed.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// Whose votes a record holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordOwner {
    /// The chain.
    pub genesis: BlockHash,
    /// The validator.
    pub validator: Address,
}

/// Where a validator keeps its votes: a folder, usually the data directory.
#[derive(Debug)]
pub struct RecordFiles {
    folder: Box<dyn Folder>,
    path: PathBuf,
    /// For naming validators in messages.
    prefix: AddressPrefix,
}

/// An open vote record, locked against other processes.
#[derive(Debug)]
pub struct FileJournal {
    files: RecordFiles,
    _lock: Lock,
    file: Box<dyn RecordFile>,
    owner: RecordOwner,
    /// Votes in the file.
    votes: u64,
    /// A write failed: what is in the file is not known.
    failed: bool,
}

impl RecordFiles {
    /// Those of a data directory.
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

    /// Whether a record may be made: there is none, and none was moved away.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub fn check_new(&self) -> Result<(), VoteRecordError> {
        if self.read(LOG)?.is_some() {
            return Err(VoteRecordError::Exists { path: self.path() });
        }
        self.check_not_moved()
    }

    /// Opens a record and reads its votes. A torn last vote is cut off: its
    /// signature can't have left.
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
        lock: Lock,
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

    /// Puts a record in place of what is there, durably and all at once.
    fn replace(
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

    fn lock(&self) -> Result<Lock, VoteRecordError> {
        let path = self.path();
        let lock = self.folder.lock(LOCK);
        lock.map_err(|error| io_error(&path, error))?
            .ok_or(VoteRecordError::Locked { path })
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, VoteRecordError> {
        let bytes = self.folder.read(name);
        bytes.map_err(|error| io_error(&self.path.join(name), error))
    }

    fn parse(&self, name: &str, bytes: &[u8]) -> Result<Found, VoteRecordError> {
        layout::read(bytes, &mut VoteRecord::default())
            .map_err(|unsound| self.unsound(name, &unsound))
    }

    fn unsound(&self, name: &str, unsound: &Unsound) -> VoteRecordError {
        let path = self.path.join(name);
        match unsound {
            Unsound::Damaged(vote) => VoteRecordError::Damaged { path, vote: *vote },
            Unsound::Contradiction(error) => VoteRecordError::Contradiction {
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

    fn check_owner(
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

    /// Leaves the record where no start takes it up.
    fn move_away(&self) -> io::Result<()> {
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

fn io_error(path: &Path, source: io::Error) -> VoteRecordError {
    VoteRecordError::Io {
        path: path.to_owned(),
        source,
    }
}
