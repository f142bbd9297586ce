//! An exported vote record: lines of text, with a checksum at the end, that can be carried to
//! another machine.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use pithead_consensus::hash::sha256;
use pithead_consensus::{
    Address, BlockHash, Decode as _, Encode as _, Height, Link, VoteFloor, VoteRecord,
};

use super::error::{VoteRecordError, io_error};
use super::layout::RecordOwner;

/// The first line, with the version of the text.
const TITLE: &str = "pithead vote record 3";
/// The first line of a text that has the genesis hash in the order of its bytes, not in the order
/// in which hashes are shown.
const TITLE_V2: &str = "pithead vote record 2";
/// The first line of a text like that, which never had a floor.
const TITLE_V1: &str = "pithead vote record 1";
/// Most bytes of an exported record: the votes of some thirty years.
const BYTES_MAX: u64 = 2 << 30;

/// A record as text.
#[must_use]
pub fn export(owner: &RecordOwner, record: &VoteRecord) -> String {
    let mut text = format!(
        "{TITLE}\ngenesis {}\nvalidator {}\n",
        owner.genesis,
        hex::encode(owner.validator.0)
    );
    if let Some(floor) = record.floor() {
        text.push_str(&format!("floor {} {}\n", floor.source, floor.target));
    }
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
        .and_then(|file| file.take(BYTES_MAX).read_to_string(&mut text))
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
    let mut lines = (1..).zip(body.lines());
    let title = lines.next().map(|(_, line)| line);
    if ![Some(TITLE), Some(TITLE_V2), Some(TITLE_V1)].contains(&title) {
        return Err(bad(format!("its first line is not {TITLE:?}")));
    }
    let mut named = |name: &str| -> Result<[u8; 32], VoteRecordError> {
        let line = lines.next().and_then(|(_, line)| line.strip_prefix(name));
        let mut bytes = [0; 32];
        line.and_then(|digits| hex::decode_to_slice(digits.trim(), &mut bytes).ok())
            .ok_or_else(|| bad(format!("a line with {name}and 64 hex digits is missing")))?;
        Ok(bytes)
    };
    let mut genesis = named("genesis ")?;
    if title == Some(TITLE) {
        genesis.reverse();
    }
    let owner = RecordOwner {
        genesis: BlockHash(genesis),
        validator: Address(named("validator ")?),
    };
    let mut record = VoteRecord::default();
    for (number, line) in lines {
        if let Some(heights) = line.strip_prefix("floor ") {
            let floor = read_floor(heights);
            record.raise_floor(floor.ok_or_else(|| bad(format!("line {number} is no floor")))?);
            continue;
        }
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

fn read_floor(heights: &str) -> Option<VoteFloor> {
    let (source, target) = heights.split_once(' ')?;
    Some(VoteFloor {
        source: Height(source.parse().ok()?),
        target: Height(target.parse().ok()?),
    })
}
