//! The vote record as a file: what a validator must not lose. One record a vote,
//! each with a checksum, appended and brought to disk before the signature
//! leaves (protocol §9, rule 4).
//!
//! Layout: 8 bytes `PITVOTES`, version 1, genesis hash 32, validator 32, checksum 8;
//! then records of link 80 and checksum 8. A checksum is the first 8 bytes of
//! SHA-256 over the genesis hash, the validator, the record's number (u64 LE)
//! and its link.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use pithead_consensus::hash::sha256;
use pithead_consensus::{Address, BlockHash, Decode as _, Encode as _, Link, VoteRecord};
use thiserror::Error;

use super::voter::{JournalError, VoteJournal};

/// The first bytes of a vote record.
const MAGIC: &[u8; 8] = b"PITVOTES";
const VERSION: u8 = 1;
const CHECKSUM_BYTES: usize = 8;
const HEADER_BYTES: usize = MAGIC.len() + 1 + 32 + 32 + CHECKSUM_BYTES;
const LINK_BYTES: usize = 80;
const RECORD_BYTES: usize = LINK_BYTES + CHECKSUM_BYTES;
/// The first line of an exported record.
const EXPORT_TITLE: &str = "pithead vote record 1";
/// Bytes of an exported record at most: votes of some thirty years.
const EXPORT_BYTES_MAX: u64 = 2 << 30;

/// Why there is no vote record to vote with.
#[derive(Debug, Error)]
pub enum VoteRecordError {
    /// A key without a record.
    #[error(
        "there is no vote record at {path}. Without it this validator could vote against its own earlier votes, which is proof of misbehaviour for everyone. If it voted elsewhere before, stop it there, export its record with `pithead-node votes export` and import it here with `pithead-node votes import`. Only if this key never voted, start once with --init-vote-record"
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
        "the vote record at {path} is damaged at vote {vote}: restore it from a copy or from an export that is not older; do not start afresh, since votes may have left"
    )]
    Damaged {
        /// Where it is.
        path: PathBuf,
        /// The number of the first unreadable vote, from 1; 0: the head.
        vote: usize,
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

/// An open vote record, locked against other processes.
#[derive(Debug)]
pub struct FileJournal {
    file: File,
    path: PathBuf,
    owner: RecordOwner,
    votes: u64,
    /// A write failed: what is in the file is not known.
    failed: bool,
}

impl FileJournal {
    /// Makes a new record without votes.
    ///
    /// # Errors
    /// [`VoteRecordError::Exists`] if there is one, or the system's reason.
    pub fn create(path: &Path, owner: RecordOwner) -> Result<Self, VoteRecordError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        let mut file = match options.open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(VoteRecordError::Exists {
                    path: path.to_owned(),
                });
            }
            Err(error) => return Err(io_error(path, error)),
        };
        lock(&file, path)?;
        file.write_all(&header(&owner))
            .and_then(|()| file.sync_all())
            .and_then(|()| sync_folder(path))
            .map_err(|error| io_error(path, error))?;
        Ok(Self {
            file,
            path: path.to_owned(),
            owner,
            votes: 0,
            failed: false,
        })
    }

    /// Opens a record and reads its votes. A torn last vote is cut off: its
    /// signature can't have left.
    ///
    /// # Errors
    /// [`VoteRecordError`] says what is wrong and what to do.
    pub fn open(path: &Path, owner: RecordOwner) -> Result<(Self, VoteRecord), VoteRecordError> {
        let mut options = OpenOptions::new();
        let mut file = match options.read(true).write(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(VoteRecordError::Missing {
                    path: path.to_owned(),
                });
            }
            Err(error) => return Err(io_error(path, error)),
        };
        lock(&file, path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)
            .map_err(|error| io_error(path, error))?;
        let found = read_header(path, &bytes)?;
        check_owner(path, &found, &owner)?;
        let (record, sound) = read_votes(path, &owner, &bytes)?;
        if sound < bytes.len() {
            tracing::warn!(
                path = %path.display(),
                "the vote record ends in a torn vote, which never left: it is cut off"
            );
            file.set_len(sound as u64)
                .and_then(|()| file.sync_all())
                .map_err(|error| io_error(path, error))?;
        }
        file.seek(SeekFrom::End(0))
            .map_err(|error| io_error(path, error))?;
        let journal = Self {
            file,
            path: path.to_owned(),
            owner,
            votes: record.votes().count() as u64,
            failed: false,
        };
        Ok((journal, record))
    }

    /// Reads a record whoever it belongs to, unless a validator is at it.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_any(path: &Path) -> Result<(RecordOwner, VoteRecord), VoteRecordError> {
        let mut file = File::open(path).map_err(|error| {
            if error.kind() == io::ErrorKind::NotFound {
                VoteRecordError::Missing {
                    path: path.to_owned(),
                }
            } else {
                io_error(path, error)
            }
        })?;
        lock(&file, path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)
            .map_err(|error| io_error(path, error))?;
        let owner = read_header(path, &bytes)?;
        let (record, _) = read_votes(path, &owner, &bytes)?;
        Ok((owner, record))
    }
}

impl VoteJournal for FileJournal {
    fn append(&mut self, link: &Link) -> Result<(), JournalError> {
        if self.failed {
            return Err(JournalError(format!(
                "{}: an earlier write failed",
                self.path.display()
            )));
        }
        let record = record_bytes(&self.owner, self.votes, link);
        let written = self
            .file
            .write_all(&record)
            .and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            self.failed = true;
            return Err(JournalError(format!("{}: {error}", self.path.display())));
        }
        self.votes += 1;
        Ok(())
    }
}

/// A record as text, to be moved to another machine.
#[must_use]
pub fn export(owner: &RecordOwner, record: &VoteRecord) -> String {
    let mut text = format!(
        "{EXPORT_TITLE}\ngenesis {}\nvalidator {}\n",
        hex::encode(owner.genesis.0),
        hex::encode(owner.validator.0)
    );
    for link in record.votes() {
        text.push_str(&hex::encode(link.encode()));
        text.push('\n');
    }
    let sum = hex::encode(sha256(text.as_bytes()));
    text.push_str(&format!("checksum {sum}\n"));
    text
}

/// Reads what [`export`] wrote.
///
/// # Errors
/// [`VoteRecordError::BadExport`] names the line, or the system's reason.
pub fn read_export(path: &Path) -> Result<(RecordOwner, VoteRecord), VoteRecordError> {
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(EXPORT_BYTES_MAX).read_to_string(&mut text))
        .map_err(|error| io_error(path, error))?;
    let bad = |reason: String| VoteRecordError::BadExport {
        path: path.to_owned(),
        reason,
    };
    let (body, sum) = text
        .trim_end()
        .rsplit_once("checksum ")
        .ok_or_else(|| bad("the checksum at its end is missing".to_owned()))?;
    if hex::encode(sha256(body.as_bytes())) != sum {
        return Err(bad("its checksum does not match: copy it again".to_owned()));
    }
    let mut lines = body.lines();
    if lines.next() != Some(EXPORT_TITLE) {
        return Err(bad(format!("its first line is not {EXPORT_TITLE:?}")));
    }
    let mut named = |name: &str| -> Result<[u8; 32], VoteRecordError> {
        let line = lines.next().and_then(|line| line.strip_prefix(name));
        let mut bytes = [0; 32];
        line.and_then(|digits| hex::decode_to_slice(digits.trim(), &mut bytes).ok())
            .ok_or_else(|| bad(format!("a line with {name}and 64 hex digits is missing")))?;
        Ok(bytes)
    };
    let owner = RecordOwner {
        genesis: BlockHash(named("genesis ")?),
        validator: Address(named("validator ")?),
    };
    let mut record = VoteRecord::default();
    for (number, line) in (4..).zip(lines) {
        let link = hex::decode(line)
            .ok()
            .and_then(|bytes| Link::decode(&bytes).ok())
            .ok_or_else(|| bad(format!("line {number} is no vote")))?;
        record
            .record(link)
            .map_err(|error| bad(format!("line {number}: {error}")))?;
    }
    Ok((owner, record))
}

/// Adds votes to the record at a path, which is made if there is none. Votes
/// that are there stay: a record never goes back.
///
/// # Errors
/// [`VoteRecordError`]; nothing is added then.
pub fn import(
    path: &Path,
    owner: RecordOwner,
    votes: &VoteRecord,
) -> Result<usize, VoteRecordError> {
    let (mut journal, record) = if path.exists() {
        FileJournal::open(path, owner)?
    } else {
        (FileJournal::create(path, owner)?, VoteRecord::default())
    };
    let mut merged = record.clone();
    let mut new = Vec::new();
    for link in votes.votes() {
        if record.vote_at(link.target.height) == Some(link) {
            continue;
        }
        merged
            .record(*link)
            .map_err(|error| VoteRecordError::Contradiction {
                path: path.to_owned(),
                reason: format!(
                    "a vote of the import contradicts the record that is there: {error}"
                ),
            })?;
        new.push(*link);
    }
    for link in &new {
        journal
            .append(link)
            .map_err(|error| io_error(path, io::Error::other(error.to_string())))?;
    }
    Ok(new.len())
}

fn header(owner: &RecordOwner) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.push(VERSION);
    bytes.extend_from_slice(&owner.genesis.0);
    bytes.extend_from_slice(&owner.validator.0);
    let sum = sha256(&bytes);
    bytes.extend(sum.iter().take(CHECKSUM_BYTES));
    bytes
}

fn record_bytes(owner: &RecordOwner, number: u64, link: &Link) -> Vec<u8> {
    let mut bytes = link.encode();
    let summed = [
        owner.genesis.0.as_slice(),
        &owner.validator.0,
        &number.to_le_bytes(),
        &bytes,
    ]
    .concat();
    let sum = sha256(&summed);
    bytes.extend(sum.iter().take(CHECKSUM_BYTES));
    bytes
}

fn read_header(path: &Path, bytes: &[u8]) -> Result<RecordOwner, VoteRecordError> {
    let damaged = || VoteRecordError::Damaged {
        path: path.to_owned(),
        vote: 0,
    };
    let head = bytes.get(..HEADER_BYTES).ok_or_else(damaged)?;
    let at = MAGIC.len() + 1;
    let field = |from: usize| -> Option<[u8; 32]> { head.get(from..from + 32)?.try_into().ok() };
    let owner = RecordOwner {
        genesis: BlockHash(field(at).ok_or_else(damaged)?),
        validator: Address(field(at + 32).ok_or_else(damaged)?),
    };
    if head == header(&owner) {
        Ok(owner)
    } else {
        Err(damaged())
    }
}

fn check_owner(
    path: &Path,
    found: &RecordOwner,
    expected: &RecordOwner,
) -> Result<(), VoteRecordError> {
    let not_ours = |what: String| VoteRecordError::NotOurs {
        path: path.to_owned(),
        what,
    };
    if found.genesis != expected.genesis {
        return Err(not_ours(format!(
            "the chain with genesis {}",
            found.genesis
        )));
    }
    if found.validator != expected.validator {
        let validator = hex::encode(found.validator.0);
        return Err(not_ours(format!("the validator with payload {validator}")));
    }
    Ok(())
}

/// The votes, and how many bytes are sound.
fn read_votes(
    path: &Path,
    owner: &RecordOwner,
    bytes: &[u8],
) -> Result<(VoteRecord, usize), VoteRecordError> {
    let mut record = VoteRecord::default();
    let mut sound = HEADER_BYTES;
    let body = bytes.get(HEADER_BYTES..).unwrap_or_default();
    let count = body.len().div_ceil(RECORD_BYTES);
    for (index, found) in body.chunks(RECORD_BYTES).enumerate() {
        let link = found
            .get(..LINK_BYTES)
            .and_then(|raw| Link::decode(raw).ok());
        let link = link.filter(|link| record_bytes(owner, index as u64, link) == found);
        let Some(link) = link else {
            // Only the last one can be torn: every other was followed by a write
            // that came after its own had reached the disk. Torn means that its
            // end is not there; anything else may have left.
            if index + 1 == count && is_torn(found) {
                break;
            }
            return Err(VoteRecordError::Damaged {
                path: path.to_owned(),
                vote: index + 1,
            });
        };
        record
            .record(link)
            .map_err(|error| VoteRecordError::Contradiction {
                path: path.to_owned(),
                reason: error.to_string(),
            })?;
        sound += RECORD_BYTES;
    }
    Ok((record, sound))
}

/// Whether a record lacks its end: cut short, or never written although the
/// file had grown.
fn is_torn(found: &[u8]) -> bool {
    found
        .get(LINK_BYTES..RECORD_BYTES)
        .is_none_or(|sum| sum.iter().all(|byte| *byte == 0))
}

fn lock(file: &File, path: &Path) -> Result<(), VoteRecordError> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(VoteRecordError::Locked {
            path: path.to_owned(),
        }),
        Err(TryLockError::Error(error)) => Err(io_error(path, error)),
    }
}

/// Makes the name of a new file durable.
fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

fn io_error(path: &Path, source: io::Error) -> VoteRecordError {
    VoteRecordError::Io {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use pithead_consensus::{Checkpoint, Height};

    const OWNER: RecordOwner = RecordOwner {
        genesis: BlockHash([7; 32]),
        validator: Address([9; 32]),
    };

    fn link(target: u64) -> Link {
        let checkpoint = |height: u64| Checkpoint {
            height: Height(height),
            hash: BlockHash([height as u8; 32]),
        };
        Link {
            source: checkpoint(target - 1),
            target: checkpoint(target),
        }
    }

    /// A record of three votes, in a folder that lives as long as the test.
    fn three_votes() -> (tempfile::TempDir, PathBuf, Vec<u8>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("votes.log");
        let mut journal = FileJournal::create(&path, OWNER).unwrap();
        for target in 1..=3 {
            journal.append(&link(target)).unwrap();
        }
        drop(journal);
        let bytes = std::fs::read(&path).unwrap();
        (dir, path, bytes)
    }

    #[test]
    fn a_torn_last_vote_is_cut_off_wherever_it_is_torn() {
        let (_dir, path, bytes) = three_votes();
        let two = HEADER_BYTES + 2 * RECORD_BYTES;
        for length in two..bytes.len() {
            // Cut short, or grown by a system that had not written it all yet.
            let mut grown = bytes[..length].to_vec();
            grown.resize(bytes.len(), 0);
            let unwritten = length <= two + LINK_BYTES;
            for torn in [bytes[..length].to_vec(), grown] {
                if torn.len() == bytes.len() && !unwritten {
                    continue;
                }
                std::fs::write(&path, &torn).unwrap();
                let (mut journal, record) = FileJournal::open(&path, OWNER).unwrap();
                assert_eq!(record.votes().count(), 2, "torn at {length}");
                // It goes on from there.
                journal.append(&link(3)).unwrap();
                drop(journal);
                assert_eq!(std::fs::read(&path).unwrap(), bytes);
            }
        }
    }

    #[test]
    fn damage_is_never_taken_for_a_torn_end() {
        let (_dir, path, bytes) = three_votes();
        for place in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[place] ^= 0x10;
            std::fs::write(&path, &damaged).unwrap();
            let error = FileJournal::open(&path, OWNER).unwrap_err();
            let expected = place.checked_sub(HEADER_BYTES);
            let expected = expected.map_or(0, |place| place / RECORD_BYTES + 1);
            assert!(
                matches!(error, VoteRecordError::Damaged { vote, .. } if vote == expected),
                "byte {place}: {error}"
            );
        }
    }

    #[test]
    fn records_are_exclusive_and_of_one_owner() {
        let (_dir, path, _) = three_votes();
        let (held, _) = FileJournal::open(&path, OWNER).unwrap();
        let second = FileJournal::open(&path, OWNER).unwrap_err();
        assert!(matches!(second, VoteRecordError::Locked { .. }), "{second}");
        drop(held);
        let other = RecordOwner {
            genesis: BlockHash([8; 32]),
            ..OWNER
        };
        let error = FileJournal::open(&path, other).unwrap_err();
        assert!(matches!(error, VoteRecordError::NotOurs { .. }), "{error}");
        let error = FileJournal::create(&path, OWNER).unwrap_err();
        assert!(matches!(error, VoteRecordError::Exists { .. }), "{error}");
    }

    #[test]
    fn exports_are_read_back_and_imports_never_contradict() {
        let (dir, path, _) = three_votes();
        let (owner, record) = FileJournal::open_any(&path).unwrap();
        let file = dir.path().join("export.txt");
        let text = export(&owner, &record);
        std::fs::write(&file, &text).unwrap();
        assert_eq!(read_export(&file).unwrap(), (owner, record.clone()));
        let new = dir.path().join("new.log");
        assert_eq!(import(&new, owner, &record).unwrap(), 3);
        assert_eq!(import(&new, owner, &record).unwrap(), 0);
        // A vote for the same height, another block.
        let mut other = VoteRecord::default();
        let mut vote = link(3);
        vote.target.hash = BlockHash([0xee; 32]);
        other.record(vote).unwrap();
        let error = import(&new, owner, &other).unwrap_err();
        assert!(matches!(error, VoteRecordError::Contradiction { .. }));
        // Any letter changed is noticed.
        let changed = text.replacen("validator 09", "validator 08", 1);
        std::fs::write(&file, changed).unwrap();
        assert!(
            read_export(&file)
                .unwrap_err()
                .to_string()
                .contains("checksum")
        );
    }
}
