//! Moving a vote record to another machine, and beginning a new one.
//!
//! Two copies of one record are two voters. So a record that was exported can't be voted with where
//! it was, and an import that brings it back must be at least as new.

use std::io;
use std::path::PathBuf;

use pithead_consensus::{BlockHash, Height, Link, VoteFloor, VoteRecord};

use super::error::{VoteRecordError, io_error};
use super::files::{DAMAGED, LOG, MOVED, RecordFiles};
use super::layout::{self, RecordOwner, SalvagedRecord};

/// The changes that an import made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportOutcome {
    /// Votes that were new to the record.
    pub new: usize,
    /// Where the previous record is kept, if it was damaged.
    pub kept_aside: Option<PathBuf>,
}

impl RecordFiles {
    /// Takes the record out of use here and returns it, to be written to a file. A second call
    /// returns the same record.
    ///
    /// # Errors
    /// [`VoteRecordError`]. The record is then as it was.
    pub fn move_out(
        &self,
        genesis: BlockHash,
    ) -> Result<(RecordOwner, VoteRecord), VoteRecordError> {
        let _lock = self.lock()?;
        let (name, bytes) = match self.read(LOG)? {
            Some(bytes) => (LOG, bytes),
            None => match self.read(MOVED)? {
                Some(bytes) => (MOVED, bytes),
                None => return Err(VoteRecordError::Missing { path: self.path() }),
            },
        };
        let found = self.parse(name, &bytes)?;
        let validator = found.owner.validator;
        self.check_owner(&found.owner, &RecordOwner { genesis, validator })?;
        if name == LOG {
            // The votes that were read may not be durable yet, and a later import is compared with
            // them.
            self.replace(&found.owner, &found.record)?;
            self.move_away()
                .map_err(|error| io_error(&self.path(), error))?;
        }
        Ok((found.owner, found.record))
    }

    /// Adds votes to the record, which is made if there is none. The votes in the record stay. A
    /// damaged record is kept aside, and replaced by an import that has all of its votes.
    ///
    /// # Errors
    /// [`VoteRecordError::ImportLacks`] or [`VoteRecordError::ImportMayLack`] if the record is
    /// damaged and the import may be older, or another error. The record is then as it was.
    pub fn import(
        &self,
        owner: RecordOwner,
        votes: &VoteRecord,
    ) -> Result<ImportOutcome, VoteRecordError> {
        let _lock = self.lock()?;
        let (name, bytes) = match self.read(LOG)? {
            Some(bytes) => (LOG, Some(bytes)),
            None => (MOVED, self.read(MOVED)?),
        };
        let found = match &bytes {
            Some(bytes) => self.salvage(name, bytes)?,
            None => SalvagedRecord {
                owner,
                record: VoteRecord::default(),
                unread: 0,
            },
        };
        self.check_owner(&found.owner, &owner)?;
        let ends = |record: &VoteRecord| record.highest_target().unwrap_or(Height(0));
        if name == MOVED && ends(votes) < ends(&found.record) {
            return Err(VoteRecordError::TooOld {
                path: self.path.join(MOVED),
                found: ends(votes),
                expected: ends(&found.record),
            });
        }
        let is_new = |link: &&Link| !found.record.accounts_for(link);
        let new = votes.votes().filter(is_new).count();
        if found.unread > 0 {
            self.check_lacks_none(name, &found, votes, new)?;
        }
        let mut record = found.record;
        record
            .merge(votes)
            .map_err(|error| VoteRecordError::Contradiction {
                path: self.path(),
                reason: format!(
                    "a vote of the import contradicts the record that is there: {error}"
                ),
            })?;
        let mut kept_aside = None;
        if let Some(bytes) = bytes.filter(|_| found.unread > 0) {
            // The import may be of another copy after all. A floor at the end of both covers every
            // vote below it that could not be read.
            record.keep_highest(0);
            kept_aside = Some(self.keep_aside(&bytes)?);
        }
        self.replace(&owner, &record)?;
        self.forget_moved()?;
        Ok(ImportOutcome { new, kept_aside })
    }

    /// Reads what can be read of a record, damaged or not.
    fn salvage(&self, name: &str, bytes: &[u8]) -> Result<SalvagedRecord, VoteRecordError> {
        match self.parse(name, bytes) {
            Ok(found) => Ok(SalvagedRecord {
                owner: found.owner,
                record: found.record,
                unread: 0,
            }),
            Err(VoteRecordError::Damaged { .. }) => {
                layout::salvage(bytes).map_err(|flaw| self.flawed(name, &flaw))
            }
            Err(error) => Err(error),
        }
    }

    /// Checks that an import has every vote of a damaged record, although some of these can't be
    /// read; `new` is how many votes of the import are not among those that can.
    ///
    /// A record only grows. So an import that lacks a vote of the damaged record is older, and each
    /// of its votes is in the damaged record, too. Its new votes are then among the unread ones,
    /// and fewer than these. For example, of votes 1 to 5 those for 2 and 4 can't be read:
    ///
    /// - An import of 1 to 3 lacks 5, which can be read: it is refused.
    /// - An import of 1 to 5 brings 2 and 4, as many votes as are unread: it lacks none.
    fn check_lacks_none(
        &self,
        name: &str,
        damaged: &SalvagedRecord,
        votes: &VoteRecord,
        new: usize,
    ) -> Result<(), VoteRecordError> {
        let path = self.path.join(name);
        let mut readable = damaged.record.votes();
        if let Some(lacking) = readable.find(|link| !votes.accounts_for(link)) {
            let height = lacking.target.height;
            return Err(VoteRecordError::ImportLacks { path, height });
        }
        if new < damaged.unread {
            return Err(VoteRecordError::ImportMayLack {
                path,
                unread: damaged.unread,
                found: new,
            });
        }
        Ok(())
    }

    /// Begins a new record that allows only votes above a height, in place of a record that can't
    /// be read or that is lost. The old record is kept aside.
    ///
    /// # Errors
    /// [`VoteRecordError::BeginsTooLow`] if a vote above the height can be read, or another error.
    /// The record is then as it was.
    pub fn repair(&self, owner: RecordOwner, above: Height) -> Result<(), VoteRecordError> {
        let _lock = self.lock()?;
        for name in [LOG, MOVED] {
            let Some(bytes) = self.read(name)? else {
                continue;
            };
            if let Ok(found) = layout::read_owner(&bytes) {
                self.check_owner(&found, &owner)?;
            }
            let mut sound = VoteRecord::default();
            // Whether the record has a flaw or not, the votes that can be read were cast.
            let _ = layout::read(&bytes, &mut sound);
            if let Some(voted) = sound.highest_target().filter(|voted| *voted > above) {
                let path = self.path.join(name);
                return Err(VoteRecordError::BeginsTooLow { path, voted, above });
            }
            if name == LOG {
                self.keep_aside(&bytes)?;
            }
        }
        // Every vote that was cast has its source and its target at or below that height. A vote
        // above it neither repeats nor surrounds any of them.
        let floor = VoteFloor {
            source: above,
            target: above,
        };
        self.replace(&owner, &VoteRecord::above(floor))?;
        self.forget_moved()
    }

    /// Keeps a copy of a record that is about to be replaced; returns its path.
    fn keep_aside(&self, bytes: &[u8]) -> Result<PathBuf, VoteRecordError> {
        let path = self.path.join(DAMAGED);
        let copy = || -> io::Result<()> {
            let mut copy = self.folder.create(DAMAGED)?;
            copy.append(bytes)?;
            copy.sync()
        };
        copy().map_err(|error| io_error(&path, error))?;
        Ok(path)
    }

    fn forget_moved(&self) -> Result<(), VoteRecordError> {
        let removed = self.folder.remove(MOVED);
        removed
            .and_then(|()| self.folder.sync())
            .map_err(|error| io_error(&self.path.join(MOVED), error))
    }
}
