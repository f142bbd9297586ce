//! Moving a vote record to another machine, and beginning one anew.
//!
//! Two copies of one record are two voters. So a record that is exported is no
//! longer one to vote with where it was, and an import that would bring it back
//! must be at least as new.

use std::io;

use pithead_consensus::{BlockHash, Height, Link, VoteFloor, VoteRecord};

use super::{DAMAGED, LOG, MOVED, RecordFiles, RecordOwner, VoteRecordError, io_error, layout};

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

    /// Adds votes to the record, which is made if there is none; returns how many
    /// were new. Votes that are there stay: a record never goes back.
    ///
    /// # Errors
    /// [`VoteRecordError`]; nothing is added then.
    pub fn import(&self, owner: RecordOwner, votes: &VoteRecord) -> Result<usize, VoteRecordError> {
        let _lock = self.lock()?;
        let (name, bytes) = match self.read(LOG)? {
            Some(bytes) => (LOG, Some(bytes)),
            None => (MOVED, self.read(MOVED)?),
        };
        let mut record = VoteRecord::default();
        if let Some(bytes) = &bytes {
            let found = self.parse(name, bytes)?;
            self.check_owner(&found.owner, &owner)?;
            record = found.record;
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
        record
            .merge(votes)
            .map_err(|error| VoteRecordError::Contradiction {
                path: self.path(),
                reason: format!(
                    "a vote of the import contradicts the record that is there: {error}"
                ),
            })?;
        self.replace(&owner, &record)?;
        self.forget_moved()?;
        Ok(new)
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
                self.keep_aside(&bytes)
                    .map_err(|error| io_error(&self.path.join(DAMAGED), error))?;
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

    fn keep_aside(&self, bytes: &[u8]) -> io::Result<()> {
        let mut copy = self.folder.create(DAMAGED)?;
        copy.append(bytes)?;
        copy.sync()
    }

    fn forget_moved(&self) -> Result<(), VoteRecordError> {
        let removed = self.folder.remove(MOVED);
        removed
            .and_then(|()| self.folder.sync())
            .map_err(|error| io_error(&self.path.join(MOVED), error))
    }
}
