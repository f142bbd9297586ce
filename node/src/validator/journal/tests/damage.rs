//! What is read of a record that is torn, damaged, long, or another's.

use pithead_consensus::{Address, BlockHash, Height, VoteRecord};
use pithead_core::finality::VoteJournal as _;

use super::super::VoteRecordError;
use super::super::files::VOTES_KEPT;
use super::super::layout::{self, RecordOwner, SLOT_BYTES};
use super::{OWNER, files, link, prefix, targets, three_votes};

#[test]
fn a_torn_last_vote_is_cut_off_wherever_it_is_torn() {
    let (dir, path, bytes) = three_votes();
    let two = 3 * SLOT_BYTES;
    for length in two..bytes.len() {
        // Cut short, or grown by a system that had not written it all yet.
        let mut grown = bytes[..length].to_vec();
        grown.resize(bytes.len(), 0);
        let unwritten = length <= two + SLOT_BYTES - 8;
        for torn in [bytes[..length].to_vec(), grown] {
            if torn.len() == bytes.len() && !unwritten {
                continue;
            }
            std::fs::write(&path, &torn).unwrap();
            let (mut journal, record) = files(&dir).open(OWNER).unwrap();
            assert_eq!(targets(&record), [1, 2], "torn at {length}");
            // It goes on from there.
            journal.append(&link(3)).unwrap();
            drop(journal);
            assert_eq!(std::fs::read(&path).unwrap(), bytes);
        }
    }
}

#[test]
fn damage_is_never_taken_for_a_torn_end() {
    let (dir, path, bytes) = three_votes();
    for place in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[place] ^= 0x10;
        std::fs::write(&path, &damaged).unwrap();
        let error = files(&dir).open(OWNER).unwrap_err();
        let expected = place / SLOT_BYTES;
        assert!(
            matches!(error, VoteRecordError::Damaged { vote, .. } if vote == expected),
            "byte {place}: {error}"
        );
        assert_eq!(std::fs::read(&path).unwrap(), damaged, "it is left alone");
    }
}

#[test]
fn records_are_exclusive_and_of_one_owner() {
    let (dir, _, _) = three_votes();
    let (held, _) = files(&dir).open(OWNER).unwrap();
    let second = files(&dir).open(OWNER).unwrap_err();
    assert!(matches!(second, VoteRecordError::Locked { .. }), "{second}");
    let second = files(&dir).move_out(OWNER.genesis).unwrap_err();
    assert!(matches!(second, VoteRecordError::Locked { .. }), "{second}");
    drop(held);
    let genesis = BlockHash([8; 32]);
    let validator = Address([8; 32]);
    for other in [
        RecordOwner { genesis, ..OWNER },
        RecordOwner { validator, ..OWNER },
    ] {
        let error = files(&dir).open(other).unwrap_err();
        assert!(matches!(error, VoteRecordError::NotOurs { .. }), "{error}");
    }
    // Validators are named as everywhere else.
    let error = files(&dir).open(RecordOwner { validator, ..OWNER });
    let text = OWNER.validator.to_text(&prefix());
    assert!(error.unwrap_err().to_string().contains(&text));
    let error = files(&dir).create(OWNER).unwrap_err();
    assert!(matches!(error, VoteRecordError::Exists { .. }), "{error}");
}

#[test]
fn a_long_record_becomes_short_when_it_is_opened() {
    let (dir, path, _) = three_votes();
    let votes = VOTES_KEPT as u64 + 100;
    let mut long = VoteRecord::default();
    for target in 1..=votes {
        long.record(link(target)).unwrap();
    }
    std::fs::write(&path, layout::write(&OWNER, &long)).unwrap();
    for _ in 0..2 {
        let (_, record) = files(&dir).open(OWNER).unwrap();
        assert_eq!(record.len(), VOTES_KEPT);
        assert_eq!(record.floor().unwrap().target, Height(100));
        assert!(record.check(&link(100)).is_err());
        assert!(record.check(&link(votes + 1)).is_ok());
        let length = std::fs::metadata(&path).unwrap().len();
        assert_eq!(length, ((VOTES_KEPT + 1) * SLOT_BYTES) as u64);
    }
}
