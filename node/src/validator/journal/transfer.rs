//! Moving a vote record to another machine, and beginning one anew.
//!
//! Two copies of one record are two voters. So a record that is exported is no
//! longer one to vote with where it was, and an import that would bring it back
//! must be at least as new.

use std::io;
use std::path::PathBuf;

use pithead_consensus::{BlockHash, Height, Link, VoteFloor, VoteRecord};

use super::layout::{self, Salvage};
use super::{DAMAGED, LOG, MOVED, RecordFiles, RecordOwner, VoteRecordError, io_error};

/// What an import did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// Votes that were new to the record.
    pub new: usize,
    /// Where the record is kept that was there, if it was damaged.
    pub kept_aside: Option<PathBuf>,
}

impl RecordFiles {
    /// Takes the record out of use here and returns it, to be written to a file.
    /// Asked again it returns the same.
    ///
    /// # Errors
    /// [`VoteRecordError`]; the record is as it was then.
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
            // What was read may not be durable yet, and an import is held
            // against it.
            self.replace(&found.owner, &found.record)?;
            self.move_away()
                .map_err(|error| io_error(&self.path(), error))?;
        }
        Ok((found.owner, found.record))
    }

    /// Adds votes to the record, which is made if there is none. Votes that are
    /// there stay: a record never goes back. One that is damaged is kept aside, and
    /// replaced by an import that lacks none of its votes.
    ///
    /// # Errors
    /// [`VoteRecordError::ImportLacks`] or [`VoteRecordError::ImportMayLack`] if the
    /// record is damaged and the import may be older, or another; the record is as
    /// it was then.
    pub fn import(
        &self,
        owner: RecordOwner,
        votes: &VoteRecord,
    ) -> Result<Imported, VoteRecordError> {
        let _lock = self.lock()?;
        let (name, bytes) = match self.read(LOG)? {
            Some(bytes) => (LOG, Some(bytes)),
            None => (MOVED, self.read(MOVED)?),
        };
        let (mut record, mut unread) = (VoteRecord::default(), 0);
        if let Some(bytes) = &bytes {
            let found = self.salvage(name, bytes)?;
            self.check_owner(&found.owner, &owner)?;
            (record, unread) = (found.record, found.unread);
        }
        let ends = |record: &VoteRecord| record.highest_target().unwrap_or(Height(0));
        if name == MOVED && ends(votes) < ends(&record) {
            return Err(VoteRecordError::TooOld {
                path: self.path.join(MOVED),
                found: ends(votes),
                expected: ends(&record),
            });
        }
        let is_new = |link: &&Link| !record.accounts_for(link);
        let new = votes.votes().filter(is_new).count();
        if unread > 0 {
            self.check_lacks_none(name, &record, votes, unread, new)?;
        }
        record
            .merge(votes)
            .map_err(|error| VoteRecordError::Contradiction {
                path: self.path(),
                reason: format!(
                    "a vote of the import contradicts the record that is there: {error}"
                ),
            })?;
        let mut kept_aside = None;
        if let Some(bytes) = bytes.filter(|_| unread > 0) {
            // Should the import be of another copy after all, a floor at the end of
            // both covers what could not be read below it.
            record.keep_highest(0);
            kept_aside = Some(self.keep_aside(&bytes)?);
        }
        self.replace(&owner, &record)?;
        self.forget_moved()?;
        Ok(Imported { new, kept_aside })
    }

    /// What a record holds, and how many of its votes can't be read.
    fn salvage(&self, name: &str, bytes: &[u8]) -> Result<Salvage, VoteRecordError> {
        match self.parse(name, bytes) {
            Ok(found) => Ok(Salvage {
                owner: found.owner,
                record: found.record,
                unread: 0,
            }),
            Err(VoteRecordError::Damaged { .. }) => {
                layout::salvage(bytes).map_err(|unsound| self.unsound(name, &unsound))
            }
            Err(error) => Err(error),
        }
    }

    /// Whether an import holds every vote of a damaged record, of which some can
    /// be read.
    ///
    /// A record only grows, on whichever machine. So an import that lacks a vote of
    /// this one is older, and all its votes are here, below the floor or one by one.
    /// Those that are new to what can be read are then among the unread votes, and
    /// fewer than these.
    fn check_lacks_none(
        &self,
        name: &str,
        readable: &VoteRecord,
        votes: &VoteRecord,
        unread: usize,
        new: usize,
    ) -> Result<(), VoteRecordError> {
        let path = self.path.join(name);
        if let Some(lacking) = readable.votes().find(|link| !votes.accounts_for(link)) {
            let height = lacking.target.height;
            return Err(VoteRecordError::ImportLacks { path, height });
        }
        if new < unread {
            return Err(VoteRecordError::ImportMayLack {
                path,
                unread,
                found: new,
            });
        }
        Ok(())
    }

    /// Begins a record anew, with no votes but those that every vote above a
    /// height respects: for a record that can't be read, or that is lost. What is
    /// there is kept aside.
    ///
    /// # Errors
    /// [`VoteRecordError::BeginsTooLow`] if a vote above the height is known, or
    /// another; the record is as it was then.
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
            // Sound or not, what can be read was voted for.
            let _ = layout::read(&bytes, &mut sound);
            if let Some(voted) = sound.highest_target().filter(|voted| *voted > above) {
                let path = self.path.join(name);
                return Err(VoteRecordError::BeginsTooLow { path, voted, above });
            }
            if name == LOG {
                self.keep_aside(&bytes)?;
            }
        }
        // Whatever was voted for has its source and its target at or below that
        // height; a vote from there upwards neither repeats nor surrounds it.
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
