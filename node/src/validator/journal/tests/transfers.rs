//! Exports, imports and repairs.

use pithead_consensus::{Address, BlockHash, Height, VoteRecord};
use pithead_core::finality::VoteJournal as _;

use super::super::files::{DAMAGED, MOVED};
use super::super::layout::{self, RecordOwner, SLOT_BYTES};
use super::super::{ImportOutcome, VoteRecordError, export, read_export};
use super::{OWNER, files, link, record_of, targets, three_votes};

#[test]
fn a_record_that_moved_is_no_longer_one_to_vote_with() {
    let (dir, _, _) = three_votes();
    let (owner, record) = files(&dir).move_out(OWNER.genesis).unwrap();
    let again = files(&dir).move_out(OWNER.genesis).unwrap();
    assert_eq!(again, (owner, record.clone()), "the export may get lost");
    for error in [
        files(&dir).open(OWNER).unwrap_err(),
        files(&dir).create(OWNER).unwrap_err(),
    ] {
        assert!(matches!(error, VoteRecordError::Moved { .. }), "{error}");
    }
    // It comes back with all its votes, or not at all.
    let mut older = VoteRecord::default();
    older.record(link(2)).unwrap();
    let error = files(&dir).import(owner, &older).unwrap_err();
    assert!(matches!(error, VoteRecordError::TooOld { .. }), "{error}");
    assert!(files(&dir).open(OWNER).is_err());
    let mut newer = record.clone();
    newer.record(link(4)).unwrap();
    assert_eq!(files(&dir).import(owner, &newer).unwrap().new, 1);
    let (mut journal, record) = files(&dir).open(OWNER).unwrap();
    assert_eq!(targets(&record), [1, 2, 3, 4]);
    // One that finds another copy at work gives its own up.
    journal.append(&link(5)).unwrap();
    journal.close().unwrap();
    assert!(journal.append(&link(6)).is_err());
    drop(journal);
    let error = files(&dir).open(OWNER).unwrap_err();
    assert!(matches!(error, VoteRecordError::Moved { .. }), "{error}");
}

#[test]
fn exports_are_read_back_and_imports_never_contradict() {
    let (dir, _, _) = three_votes();
    let (owner, mut record) = files(&dir).move_out(OWNER.genesis).unwrap();
    let file = dir.path().join("export.txt");
    for _ in 0..2 {
        let text = export(&owner, &record);
        std::fs::write(&file, &text).unwrap();
        assert_eq!(read_export(&file).unwrap(), (owner, record.clone()));
        record.keep_highest(1);
    }
    // The genesis is written as hashes are shown everywhere.
    let varied = RecordOwner {
        genesis: BlockHash(std::array::from_fn(|index| index as u8)),
        ..OWNER
    };
    let text = export(&varied, &record);
    assert!(
        text.contains(&format!("genesis {}\n", varied.genesis)),
        "{text}"
    );
    std::fs::write(&file, &text).unwrap();
    assert_eq!(read_export(&file).unwrap(), (varied, record));
    let first = "pithead vote record 1\ngenesis 07";
    let text = export(&owner, &VoteRecord::default());
    let body = text.replacen("pithead vote record 3\ngenesis 07", first, 1);
    let (body, _) = body.rsplit_once("checksum ").unwrap();
    let sum = hex::encode(pithead_consensus::hash::sha256(body.as_bytes()));
    std::fs::write(&file, format!("{body}checksum {sum}\n")).unwrap();
    assert!(read_export(&file).unwrap().1.is_empty());

    let new = tempfile::tempdir().unwrap();
    let (_, record) = files(&dir).move_out(OWNER.genesis).unwrap();
    assert_eq!(files(&new).import(owner, &record).unwrap().new, 3);
    let again = files(&new).import(owner, &record).unwrap();
    assert_eq!((again.new, again.kept_aside), (0, None));
    // A vote for the same height, another block.
    let mut other = VoteRecord::default();
    let mut vote = link(3);
    vote.target.hash = BlockHash([0xee; 32]);
    other.record(vote).unwrap();
    let error = files(&new).import(owner, &other).unwrap_err();
    assert!(matches!(error, VoteRecordError::Contradiction { .. }));
    // Any letter changed is noticed.
    let text = export(&owner, &record);
    let changed = text.replacen("validator 09", "validator 08", 1);
    std::fs::write(&file, changed).unwrap();
    let error = read_export(&file).unwrap_err().to_string();
    assert!(error.contains("checksum"), "{error}");
}

#[test]
fn a_damaged_record_begins_anew_above_all_that_was_voted_for() {
    let (dir, path, bytes) = three_votes();
    let mut damaged = bytes.clone();
    damaged[3 * SLOT_BYTES] ^= 1;
    std::fs::write(&path, &damaged).unwrap();
    let error = files(&dir).repair(OWNER, Height(1)).unwrap_err();
    assert!(
        matches!(
            error,
            VoteRecordError::BeginsTooLow {
                voted: Height(2),
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(std::fs::read(&path).unwrap(), damaged);
    files(&dir).repair(OWNER, Height(10)).unwrap();
    assert_eq!(std::fs::read(dir.path().join(DAMAGED)).unwrap(), damaged);
    let (_, record) = files(&dir).open(OWNER).unwrap();
    for target in 1..=10 {
        assert!(record.check(&link(target)).is_err(), "{target}");
    }
    assert!(record.check(&link(11)).is_ok());
    // Also one that moved away, or is gone.
    files(&dir).move_out(OWNER.genesis).unwrap();
    assert!(files(&dir).repair(OWNER, Height(9)).is_err());
    files(&dir).repair(OWNER, Height(20)).unwrap();
    std::fs::remove_file(&path).unwrap();
    files(&dir).repair(OWNER, Height(30)).unwrap();
    let (_, record) = files(&dir).open(OWNER).unwrap();
    assert_eq!(record.highest_target(), Some(Height(30)));
}

#[test]
fn a_damaged_record_gives_way_to_an_import_that_lacks_none_of_its_votes() {
    for vote in 1..=3 {
        let (dir, path, mut damaged) = three_votes();
        damaged[vote * SLOT_BYTES] ^= 1;
        std::fs::write(&path, &damaged).unwrap();
        // Of what can be read, vote 3 tells that this one is older; if it is vote 3
        // that can't be read, the number of votes does.
        let error = files(&dir).import(OWNER, &record_of(1..=2)).unwrap_err();
        let refused = match vote {
            3 => matches!(
                error,
                VoteRecordError::ImportMayLack {
                    unread: 1,
                    found: 0,
                    ..
                }
            ),
            _ => matches!(
                error,
                VoteRecordError::ImportLacks {
                    height: Height(3),
                    ..
                }
            ),
        };
        assert!(refused, "vote {vote}: {error}");
        assert_eq!(std::fs::read(&path).unwrap(), damaged, "it is left alone");
        assert!(!dir.path().join(DAMAGED).exists());

        let imported = files(&dir).import(OWNER, &record_of(1..=3)).unwrap();
        let kept = dir.path().join(DAMAGED);
        assert_eq!(std::fs::read(&kept).unwrap(), damaged);
        let expected = ImportOutcome {
            new: 1,
            kept_aside: Some(kept),
        };
        assert_eq!(imported, expected);
        let (_, record) = files(&dir).open(OWNER).unwrap();
        for target in 1..=3 {
            assert!(record.accounts_for(&link(target)), "{target}");
            let mut other = link(target);
            other.target.hash = BlockHash([0xee; 32]);
            assert!(record.check(&other).is_err(), "{target}");
        }
        assert!(record.check(&link(4)).is_ok());
    }
}

#[test]
fn an_import_needs_as_many_votes_as_a_damaged_record_has_lost() {
    let (dir, path, bytes) = three_votes();
    let mut damaged = bytes.clone();
    for vote in 2..=3 {
        damaged[vote * SLOT_BYTES] ^= 1;
    }
    std::fs::write(&path, &damaged).unwrap();
    let error = files(&dir).import(OWNER, &record_of(1..=2)).unwrap_err();
    assert!(
        matches!(
            error,
            VoteRecordError::ImportMayLack {
                unread: 2,
                found: 1,
                ..
            }
        ),
        "{error}"
    );
    assert!(error.to_string().contains("votes repair"), "{error}");
    // Votes below the floor don't make up for those above.
    let mut floored = record_of(1..=5);
    floored.keep_highest(2);
    let mut damaged = layout::write(&OWNER, &floored);
    damaged[2 * SLOT_BYTES] ^= 1;
    std::fs::write(&path, &damaged).unwrap();
    let error = files(&dir).import(OWNER, &record_of(1..=4)).unwrap_err();
    assert!(
        matches!(
            error,
            VoteRecordError::ImportMayLack {
                unread: 1,
                found: 0,
                ..
            }
        ),
        "{error}"
    );
    // Whose record it is, and above what, is in its head.
    let mut headless = bytes.clone();
    headless[0] ^= 1;
    std::fs::write(&path, &headless).unwrap();
    let error = files(&dir).import(OWNER, &record_of(1..=9)).unwrap_err();
    assert!(
        matches!(error, VoteRecordError::Damaged { vote: 0, .. }),
        "{error}"
    );
    std::fs::write(&path, &damaged).unwrap();
    let other = RecordOwner {
        validator: Address([8; 32]),
        ..OWNER
    };
    let error = files(&dir).import(other, &record_of(1..=9)).unwrap_err();
    assert!(matches!(error, VoteRecordError::NotOurs { .. }), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), damaged, "it is left alone");
    files(&dir).import(OWNER, &record_of(1..=5)).unwrap();
    let (_, record) = files(&dir).open(OWNER).unwrap();
    assert_eq!(record.highest_target(), Some(Height(5)));
}

#[test]
fn a_record_that_was_damaged_after_it_moved_comes_back_whole_or_not_at_all() {
    let (dir, path, mut damaged) = three_votes();
    files(&dir).move_out(OWNER.genesis).unwrap();
    damaged[3 * SLOT_BYTES] ^= 1;
    let moved = dir.path().join(MOVED);
    std::fs::write(&moved, &damaged).unwrap();
    let error = files(&dir).import(OWNER, &record_of(1..=2)).unwrap_err();
    assert!(
        matches!(error, VoteRecordError::ImportMayLack { .. }),
        "{error}"
    );
    assert!(moved.exists() && !path.exists());
    let imported = files(&dir).import(OWNER, &record_of(1..=4)).unwrap();
    assert_eq!(imported.new, 2);
    assert_eq!(std::fs::read(dir.path().join(DAMAGED)).unwrap(), damaged);
    assert!(!moved.exists());
    let (_, record) = files(&dir).open(OWNER).unwrap();
    assert_eq!(record.highest_target(), Some(Height(4)));
}
