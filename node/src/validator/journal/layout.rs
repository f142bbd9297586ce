//! The bytes of a vote record.
//!
//! Version 2: a head and then votes, 128 bytes each, so that every one lies within
//! one sector of the disk and is written whole or not at all. The head is
//! `PITVOTES`, version 2, genesis hash 32, validator 32, whether there is a floor
//! 1, its source height 8 and target height 8, zeros, and in its last 8 bytes the
//! first 8 of SHA-256 over all before. A vote is a link 80, zeros, and in its last
//! 8 bytes the first 8 of SHA-256 over genesis hash, validator, the vote's number
//! in the file (u64, from 0) and the link. Integers are little-endian.
//!
//! Version 1, which is read but no longer written, has no floor and no zeros.

use pithead_consensus::approval::vote::VoteError;
use pithead_consensus::hash::sha256;
use pithead_consensus::{
    Address, BlockHash, Decode as _, Encode as _, Height, Link, VoteFloor, VoteRecord,
};

use super::RecordOwner;

/// The first bytes of a vote record.
const MAGIC: &[u8; 8] = b"PITVOTES";
const CHECKSUM_BYTES: usize = 8;
const LINK_BYTES: usize = 80;
/// Where the version stands.
const VERSION_AT: usize = MAGIC.len();
const OWNER_AT: usize = VERSION_AT + 1;
const FLOOR_AT: usize = OWNER_AT + 64;
/// Head and votes of version 2.
pub(super) const SLOT_BYTES: usize = 128;
/// Head of version 1.
const HEAD_BYTES_V1: usize = FLOOR_AT + CHECKSUM_BYTES;
/// Votes of version 1.
const VOTE_BYTES_V1: usize = LINK_BYTES + CHECKSUM_BYTES;

/// Why bytes are no record.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unsound {
    /// A vote is not what was written: its number from 1, or 0 for the head.
    Damaged(usize),
    /// A vote contradicts another.
    Contradiction(VoteError),
}

/// What bytes say.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) owner: RecordOwner,
    pub(super) record: VoteRecord,
    /// It ends in half a vote, whose signature can't have left.
    pub(super) torn: bool,
}

/// What can be read of a damaged record.
#[derive(Debug)]
pub(super) struct Salvage {
    pub(super) owner: RecordOwner,
    /// The floor, and every vote whose checksum holds, wherever it stands.
    pub(super) record: VoteRecord,
    /// Votes that can't be read. A torn end is one: beside damage, nothing shows
    /// that it was merely torn.
    pub(super) unread: usize,
}

/// A whole record.
pub(super) fn write(owner: &RecordOwner, record: &VoteRecord) -> Vec<u8> {
    let mut bytes = head(owner, record.floor());
    for (number, link) in (0..).zip(record.votes()) {
        bytes.extend(vote(owner, number, link));
    }
    bytes
}

fn head(owner: &RecordOwner, floor: Option<VoteFloor>) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.push(2);
    bytes.extend_from_slice(&owner.genesis.0);
    bytes.extend_from_slice(&owner.validator.0);
    if let Some(floor) = floor {
        bytes.push(1);
        bytes.extend_from_slice(&floor.source.0.to_le_bytes());
        bytes.extend_from_slice(&floor.target.0.to_le_bytes());
    }
    bytes.resize(SLOT_BYTES - CHECKSUM_BYTES, 0);
    let sum = sha256(&bytes);
    bytes.extend(sum.iter().take(CHECKSUM_BYTES));
    bytes
}

/// A vote, the `number`th of its file.
pub(super) fn vote(owner: &RecordOwner, number: u64, link: &Link) -> Vec<u8> {
    let mut bytes = link.encode();
    let sum = vote_sum(owner, number, &bytes);
    bytes.resize(SLOT_BYTES - CHECKSUM_BYTES, 0);
    bytes.extend(sum);
    bytes
}

fn vote_sum(owner: &RecordOwner, number: u64, link: &[u8]) -> Vec<u8> {
    let summed = [
        owner.genesis.0.as_slice(),
        &owner.validator.0,
        &number.to_le_bytes(),
        link,
    ]
    .concat();
    sha256(&summed)
        .iter()
        .copied()
        .take(CHECKSUM_BYTES)
        .collect()
}

/// Whose record this is, as far as its head can be read.
pub(super) fn read_owner(bytes: &[u8]) -> Result<RecordOwner, Unsound> {
    read_head(bytes).map(|(owner, _, _)| owner)
}

/// The owner, the floor, and whether it is of version 1.
fn read_head(bytes: &[u8]) -> Result<(RecordOwner, Option<VoteFloor>, bool), Unsound> {
    let field = |from: usize| -> Option<[u8; 32]> { bytes.get(from..from + 32)?.try_into().ok() };
    let number = |from: usize| -> Option<Height> {
        let raw = bytes.get(from..from + 8)?.try_into().ok()?;
        Some(Height(u64::from_le_bytes(raw)))
    };
    let read = || {
        let owner = RecordOwner {
            genesis: BlockHash(field(OWNER_AT)?),
            validator: Address(field(OWNER_AT + 32)?),
        };
        if bytes.get(VERSION_AT) == Some(&1) {
            return (bytes.get(..HEAD_BYTES_V1)? == head_v1(&owner)).then_some((owner, None, true));
        }
        let floor = match bytes.get(FLOOR_AT)? {
            0 => None,
            _ => Some(VoteFloor {
                source: number(FLOOR_AT + 1)?,
                target: number(FLOOR_AT + 9)?,
            }),
        };
        (bytes.get(..SLOT_BYTES)? == head(&owner, floor)).then_some((owner, floor, false))
    };
    read().ok_or(Unsound::Damaged(0))
}

fn head_v1(owner: &RecordOwner) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.push(1);
    bytes.extend_from_slice(&owner.genesis.0);
    bytes.extend_from_slice(&owner.validator.0);
    let sum = sha256(&bytes);
    bytes.extend(sum.iter().take(CHECKSUM_BYTES));
    bytes
}

/// Reads a record. Votes before the first unsound one are in `sound` even then.
pub(super) fn read(bytes: &[u8], sound: &mut VoteRecord) -> Result<Found, Unsound> {
    let (owner, floor, first_version) = read_head(bytes)?;
    let (body, vote_bytes) = votes_of(bytes, first_version);
    *sound = floor.map_or_else(VoteRecord::default, VoteRecord::above);
    let count = body.len().div_ceil(vote_bytes);
    let mut torn = false;
    for (index, raw) in body.chunks(vote_bytes).enumerate() {
        let Some(link) = read_vote(raw, &owner, index as u64, vote_bytes) else {
            // Only the last one can be torn: every other was followed by a write
            // that came after its own had reached the disk. Torn means that its
            // end is not there; anything else may have left.
            if index + 1 == count && lacks_end(raw, vote_bytes) {
                torn = true;
                break;
            }
            return Err(Unsound::Damaged(index + 1));
        };
        sound.record(link).map_err(Unsound::Contradiction)?;
    }
    Ok(Found {
        owner,
        record: sound.clone(),
        torn,
    })
}

/// Reads what can be read of a record, damaged or not, if its head is sound.
pub(super) fn salvage(bytes: &[u8]) -> Result<Salvage, Unsound> {
    let (owner, floor, first_version) = read_head(bytes)?;
    let (body, vote_bytes) = votes_of(bytes, first_version);
    let mut record = floor.map_or_else(VoteRecord::default, VoteRecord::above);
    let mut unread = 0;
    for (index, raw) in body.chunks(vote_bytes).enumerate() {
        match read_vote(raw, &owner, index as u64, vote_bytes) {
            Some(link) => record.record(link).map_err(Unsound::Contradiction)?,
            None => unread += 1,
        }
    }
    Ok(Salvage {
        owner,
        record,
        unread,
    })
}

/// What follows the head, and the bytes of a vote there.
fn votes_of(bytes: &[u8], first_version: bool) -> (&[u8], usize) {
    let (head_bytes, vote_bytes) = if first_version {
        (HEAD_BYTES_V1, VOTE_BYTES_V1)
    } else {
        (SLOT_BYTES, SLOT_BYTES)
    };
    (bytes.get(head_bytes..).unwrap_or_default(), vote_bytes)
}

fn read_vote(raw: &[u8], owner: &RecordOwner, number: u64, vote_bytes: usize) -> Option<Link> {
    let link = Link::decode(raw.get(..LINK_BYTES)?).ok()?;
    let mut expected = link.encode();
    let sum = vote_sum(owner, number, &expected);
    expected.resize(vote_bytes - CHECKSUM_BYTES, 0);
    expected.extend(sum);
    (raw == expected).then_some(link)
}

/// Cut short, or never written although the file had grown.
fn lacks_end(raw: &[u8], vote_bytes: usize) -> bool {
    raw.get(vote_bytes - CHECKSUM_BYTES..vote_bytes)
        .is_none_or(|sum| sum.iter().all(|byte| *byte == 0))
}

/// A record of version 1, as earlier programs wrote it.
#[cfg(test)]
pub(super) fn write_v1(owner: &RecordOwner, links: &[Link]) -> Vec<u8> {
    let mut bytes = head_v1(owner);
    for (number, link) in (0..).zip(links) {
        let raw = link.encode();
        bytes.extend_from_slice(&raw);
        bytes.extend(vote_sum(owner, number, &raw));
    }
    bytes
}
