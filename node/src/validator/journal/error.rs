//! Why a vote record can't be used. Every message says what to do, because a validator's operator
//! meets it under pressure.

use std::io;
use std::path::{Path, PathBuf};

use pithead_consensus::Height;
use thiserror::Error;

/// Why a vote record can't be used.
#[derive(Debug, Error)]
pub enum VoteRecordError {
    /// There is no record for the key.
    #[error(
        "there is no vote record at {path}. Without it this validator could vote against its own earlier votes, which is proof of misbehaviour for everyone. If it voted elsewhere before, stop it there, export its record with `pithead-node votes export` and import it here with `pithead-node votes import`. Only if this key never voted, start once with --init-vote-record. If its record is lost, `pithead-node votes repair` says when it may vote again"
    )]
    Missing { path: PathBuf },
    /// A new record is asked for, but there is one.
    #[error(
        "there is a vote record at {path} already: start without --init-vote-record, which is for a key that never voted"
    )]
    Exists { path: PathBuf },
    /// The record was exported, or another node was seen voting with the same key.
    #[error(
        "the vote record of this data directory was moved away: {path} is what is left of it, and a validator that votes in two places is found guilty for ever. To vote here again, stop the other copy, export its record there with `pithead-node votes export` and import it here with `pithead-node votes import`"
    )]
    Moved { path: PathBuf },
    /// The import ends below the record that was moved away.
    #[error(
        "{path} was moved away with votes up to height {expected}, and the import ends at {found}: it may lack votes that were cast since. Import a record that is at least as new"
    )]
    TooOld {
        /// The record that was moved away.
        path: PathBuf,
        /// The highest target of the import.
        found: Height,
        /// The highest target of the record that was moved away.
        expected: Height,
    },
    /// A new record would begin below a height that the validator is known to have voted for.
    #[error(
        "this validator has voted for height {voted} (as {path} says), so a new record can't begin above {above}: give a height that the network has certainly not reached before now, such as that of its present tip"
    )]
    BeginsTooLow {
        path: PathBuf,
        /// The target of the highest vote that can be read.
        voted: Height,
        /// The height that was asked for.
        above: Height,
    },
    /// The record is of another validator or another chain.
    #[error(
        "the vote record at {path} is of {what}: use the one that belongs to this key and network"
    )]
    NotOurs {
        path: PathBuf,
        /// The chain or the validator that it is of.
        what: String,
    },
    /// The record does not hold what this program wrote.
    #[error(
        "the vote record at {path} is damaged at vote {vote}: import an export that is as new with `pithead-node votes import`, unless that is vote 0, its head; or begin a new record above every vote that may have left: `pithead-node votes repair --above HEIGHT`, with a height that the network has not reached before now. Never use --init-vote-record here"
    )]
    Damaged {
        path: PathBuf,
        /// The number of the first unreadable vote, from 1; 0 stands for the head.
        vote: usize,
    },
    /// A damaged record holds a vote that the import lacks.
    #[error(
        "the damaged vote record at {path} holds a vote for height {height} that is not in the import, which is older or of another copy: import one that is as new, or begin a new record with `pithead-node votes repair --above HEIGHT`"
    )]
    ImportLacks {
        path: PathBuf,
        /// The target of the vote.
        height: Height,
    },
    /// A damaged record may hold votes that the import lacks.
    #[error(
        "{unread} votes of the damaged vote record at {path} can't be read, and the import holds {found} besides those that can: it may lack votes that were cast. Import one that is as new, or begin a new record with `pithead-node votes repair --above HEIGHT`"
    )]
    ImportMayLack {
        path: PathBuf,
        /// Votes of the record that can't be read.
        unread: usize,
        /// Votes of the import that are not among those that can be read.
        found: usize,
    },
    /// Another process uses the record.
    #[error("the vote record at {path} is in use by another process: stop that one first")]
    Locked { path: PathBuf },
    /// Two votes contradict each other.
    #[error("{path}: {reason}")]
    Contradiction {
        path: PathBuf,
        /// Which rule the two votes break.
        reason: String,
    },
    /// The file is no exported record.
    #[error("{path} is no exported vote record: {reason}")]
    BadExport {
        path: PathBuf,
        /// What is wrong with it, and in which line.
        reason: String,
    },
    /// Reading or writing failed.
    #[error("{path}: {source}")]
    Io {
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

pub(super) fn io_error(path: &Path, source: io::Error) -> VoteRecordError {
    VoteRecordError::Io {
        path: path.to_owned(),
        source,
    }
}
