//! The vote record through torn writes and damage (`damage`), moves and repairs (`transfers`), and
//! power cuts at every moment (`crashes`).

#![allow(clippy::unwrap_used)]

mod crashes;
mod damage;
mod transfers;

use std::path::PathBuf;

use pithead_consensus::{Address, AddressPrefix, BlockHash, Checkpoint, Height, Link, VoteRecord};
use pithead_core::finality::VoteJournal as _;

use super::files::LOG;
use super::{RecordFiles, RecordOwner};

pub(super) const OWNER: RecordOwner = RecordOwner {
    genesis: BlockHash([7; 32]),
    validator: Address([9; 32]),
};

pub(super) fn prefix() -> AddressPrefix {
    AddressPrefix::new("dpit").unwrap()
}

pub(super) fn link(target: u64) -> Link {
    let checkpoint = |height: u64| Checkpoint {
        height: Height(height),
        hash: BlockHash([height as u8; 32]),
    };
    Link {
        source: checkpoint(target - 1),
        target: checkpoint(target),
    }
}

pub(super) fn files(dir: &tempfile::TempDir) -> RecordFiles {
    RecordFiles::new(dir.path(), prefix())
}

pub(super) fn targets(record: &VoteRecord) -> Vec<u64> {
    record.votes().map(|link| link.target.height.0).collect()
}

/// A record of votes with these targets.
pub(super) fn record_of(targets: std::ops::RangeInclusive<u64>) -> VoteRecord {
    let mut record = VoteRecord::default();
    for target in targets {
        record.record(link(target)).unwrap();
    }
    record
}

/// A record of three votes, in a folder that lives as long as the test.
pub(super) fn three_votes() -> (tempfile::TempDir, PathBuf, Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = files(&dir).create(OWNER).unwrap();
    for target in 1..=3 {
        journal.append(&link(target)).unwrap();
    }
    drop(journal);
    let path = dir.path().join(LOG);
    let bytes = std::fs::read(&path).unwrap();
    (dir, path, bytes)
}
