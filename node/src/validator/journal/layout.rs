//! The bytes of a vote record.
//!
//! A record is a head and then votes, 128 bytes each. So each of them lies within one sector of the
//! disk, and is written whole or not at all. Integers are little-endian.
//!
//! | Bytes | Head |
//! |---|---|
//! | 8 | `PITVOTES` |
//! | 1 | version, 2 |
//! | 32 | genesis hash |
//! | 32 | address of the validator |
//! | 1 | whether there is a floor |
//! | 8 | source height of the floor |
//! | 8 | target height of the floor |
//! | 30 | zeros |
//! | 8 | the first bytes of SHA-256 over everything before |
//!
//! | Bytes | Vote |
//! |---|---|
//! | 80 | link |
//! | 40 | zeros |
//! | 8 | the first bytes of SHA-256 over genesis hash, address, the number of the vote in the file (u64, from 0) and the link |

use pithead_consensus::approval::vote::VoteError;
use pithead_consensus::hash::sha256;
use pithead_consensus::{
    Address, BlockHash, Decode as _, Encode as _, Height, Link, VoteFloor, VoteRecord,
};

/// The first bytes of a vote record.
const MAGIC: &[u8; 8] = b"PITVOTES";
/// The version of the layout.
const VERSION: u8 = 2;
const CHECKSUM_BYTES: usize = 8;
const LINK_BYTES: usize = 80;
/// Where the genesis hash stands, with the address behind it.
const OWNER_AT: usize = MAGIC.len() + 1;
/// Where the floor stands.
const FLOOR_AT: usize = OWNER_AT + 64;
/// Bytes of the head, and of each vote.
pub(super) const SLOT_BYTES: usize = 128;

/// The validator and the chain whose votes a record holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordOwner {
    /// The hash of the genesis block, which names the chain.
    pub genesis: BlockHash,
    pub validator: Address,
}

/// Why bytes are no sound record.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RecordFlaw {
    /// A vote is not what was written: its number from 1; 0 stands for the head.
    Damaged(usize),
    /// A vote contradicts another.
    Contradiction(VoteError),
}

/// A record that was read.
#[derive(Debug)]
pub(super) struct ReadRecord {
    pub(super) owner: RecordOwner,
    pub(super) record: VoteRecord,
    /// The bytes end in half a vote, whose signature can't have left.
    pub(super) torn: bool,
}

/// The readable part of a damaged record.
#[derive(Debug)]
pub(super) struct SalvagedRecord {
    pub(super) owner: RecordOwner,
    /// The floor, and every vote whose checksum holds, wherever it stands.
    pub(super) record: VoteRecord,
    /// Votes that can't be read. A torn end counts as one of them: beside damage, nothing shows
    /// that it is merely torn.
    pub(super) unread: usize,
}

/// The bytes of a whole record.
pub(super) fn write(owner: &RecordOwner, record: &VoteRecord) -> Vec<u8> {
    let mut bytes = head(owner, record.floor());
    for (number, link) in (0..).zip(record.votes()) {
        bytes.extend(vote(owner, number, link));
    }
    bytes
}

fn head(owner: &RecordOwner, floor: Option<VoteFloor>) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.push(VERSION);
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

/// The bytes of a vote; `number` votes are before it in the file.
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

/// The owner of a record, if its head is sound.
pub(super) fn read_owner(bytes: &[u8]) -> Result<RecordOwner, RecordFlaw> {
    read_head(bytes).map(|(owner, _)| owner)
}

fn read_head(bytes: &[u8]) -> Result<(RecordOwner, Option<VoteFloor>), RecordFlaw> {
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
        let floor = match bytes.get(FLOOR_AT)? {
            0 => None,
            _ => Some(VoteFloor {
                source: number(FLOOR_AT + 1)?,
                target: number(FLOOR_AT + 9)?,
            }),
        };
        // Written again, what was read gives the same bytes, checksum included.
        (bytes.get(..SLOT_BYTES)? == head(&owner, floor)).then_some((owner, floor))
    };
    read().ok_or(RecordFlaw::Damaged(0))
}

/// Reads a record. Even if it has a flaw, the votes before the flaw are then in `sound`.
pub(super) fn read(bytes: &[u8], sound: &mut VoteRecord) -> Result<ReadRecord, RecordFlaw> {
    let (owner, floor) = read_head(bytes)?;
    let slots = slots(bytes);
    *sound = floor.map_or_else(VoteRecord::default, VoteRecord::above);
    let count = slots.len().div_ceil(SLOT_BYTES);
    let mut torn = false;
    for (index, raw) in slots.chunks(SLOT_BYTES).enumerate() {
        let Some(link) = read_vote(raw, &owner, index as u64) else {
            // Only the last vote can be torn: a vote is on disk before the next one is written. A
            // torn vote lacks its end. Any other vote may have left, so its loss is damage.
            if index + 1 == count && lacks_end(raw) {
                torn = true;
                break;
            }
            return Err(RecordFlaw::Damaged(index + 1));
        };
        sound.record(link).map_err(RecordFlaw::Contradiction)?;
    }
    Ok(ReadRecord {
        owner,
        record: sound.clone(),
        torn,
    })
}

/// Reads what can be read of a record, damaged or not, if its head is sound.
pub(super) fn salvage(bytes: &[u8]) -> Result<SalvagedRecord, RecordFlaw> {
    let (owner, floor) = read_head(bytes)?;
    let slots = slots(bytes);
    let mut record = floor.map_or_else(VoteRecord::default, VoteRecord::above);
    let mut unread = 0;
    for (index, raw) in slots.chunks(SLOT_BYTES).enumerate() {
        match read_vote(raw, &owner, index as u64) {
            Some(link) => record.record(link).map_err(RecordFlaw::Contradiction)?,
            None => unread += 1,
        }
    }
    Ok(SalvagedRecord {
        owner,
        record,
        unread,
    })
}

/// The bytes behind the head: slots of [`SLOT_BYTES`], the last one perhaps torn.
fn slots(bytes: &[u8]) -> &[u8] {
    bytes.get(SLOT_BYTES..).unwrap_or_default()
}

fn read_vote(raw: &[u8], owner: &RecordOwner, number: u64) -> Option<Link> {
    let link = Link::decode(raw.get(..LINK_BYTES)?).ok()?;
    let mut expected = link.encode();
    let sum = vote_sum(owner, number, &expected);
    expected.resize(SLOT_BYTES - CHECKSUM_BYTES, 0);
    expected.extend(sum);
    (raw == expected).then_some(link)
}

/// Whether the end of a slot is missing: the file ends before it, or the file had grown but the
/// bytes were never written.
fn lacks_end(raw: &[u8]) -> bool {
    raw.get(SLOT_BYTES - CHECKSUM_BYTES..SLOT_BYTES)
        .is_none_or(|sum| sum.iter().all(|byte| *byte == 0))
}
