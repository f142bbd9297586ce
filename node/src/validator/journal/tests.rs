//! The vote record through torn writes, damage, and power cuts at every moment.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use pithead_consensus::Checkpoint;

use super::folder::no_lock;
use super::layout::SLOT_BYTES;
use super::*;

const OWNER: RecordOwner = RecordOwner {
    genesis: BlockHash([7; 32]),
    validator: Address([9; 32]),
};

fn prefix() -> AddressPrefix {
    AddressPrefix::new("dpit").unwrap()
}

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

fn files(dir: &tempfile::TempDir) -> RecordFiles {
    RecordFiles::new(dir.path(), prefix())
}

fn targets(record: &VoteRecord) -> Vec<u64> {
    record.votes().map(|link| link.target.height.0).collect()
}

/// A record of votes with these targets.
fn record_of(targets: std::ops::RangeInclusive<u64>) -> VoteRecord {
    let mut record = VoteRecord::default();
    for target in targets {
        record.record(link(target)).unwrap();
    }
    record
}

/// A record of three votes, in a folder that lives as long as the test.
fn three_votes() -> (tempfile::TempDir, PathBuf, Vec<u8>) {
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
fn a_record_of_the_first_version_is_read() {
    let (dir, path, bytes) = three_votes();
    let links: Vec<Link> = (1..=3).map(link).collect();
    let old = layout::write_v1(&OWNER, &links);
    std::fs::write(&path, &old).unwrap();
    let (_, record) = files(&dir).open(OWNER).unwrap();
    assert_eq!(targets(&record), [1, 2, 3]);
    assert_eq!(std::fs::read(&path).unwrap(), bytes, "and written as today");
    std::fs::write(&path, &old[..old.len() - 1]).unwrap();
    let (_, record) = files(&dir).open(OWNER).unwrap();
    assert_eq!(targets(&record), [1, 2]);
    let mut damaged = old.clone();
    let end = damaged.len() - 1;
    damaged[end] ^= 1;
    std::fs::write(&path, damaged).unwrap();
    let error = files(&dir).open(OWNER).unwrap_err();
    assert!(
        matches!(error, VoteRecordError::Damaged { vote: 3, .. }),
        "{error}"
    );
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
        let expected = Imported {
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

/// A disk that tells what is durable from what is merely written.
#[derive(Debug, Default)]
struct Platter {
    /// File by name, as processes see it and as it is after a power cut.
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    files: Vec<Content>,
    /// Changes until the crash; none: no crash.
    left: Option<usize>,
    changes: usize,
}

#[derive(Debug, Default, Clone)]
struct Content {
    written: Vec<u8>,
    durable: Vec<u8>,
    /// A sync failed: the system takes what it did not write for written.
    sync_failed: bool,
}

/// What a crash leaves of what was not yet durable.
#[derive(Debug, Clone, Copy)]
struct Crash {
    keeps_names: bool,
    keeps_content: bool,
}

/// The process was killed; the system goes on.
const KILL: Crash = Crash {
    keeps_names: true,
    keeps_content: true,
};
/// The power was cut.
const CUT: Crash = Crash {
    keeps_names: false,
    keeps_content: false,
};
/// The power was cut after the system had written some of it by itself.
const CRASHES: [Crash; 4] = [
    KILL,
    CUT,
    Crash {
        keeps_names: true,
        ..CUT
    },
    Crash {
        keeps_content: true,
        ..CUT
    },
];

impl Platter {
    /// Counts a change; the one at which it crashes, and all after it, fail.
    fn change(&mut self) -> io::Result<()> {
        self.changes += 1;
        match &mut self.left {
            Some(0) => Err(io::Error::other("it crashes here")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn restart(&mut self, crash: Crash) {
        if !crash.keeps_names {
            self.names = self.durable_names.clone();
        }
        for file in &mut self.files {
            if !crash.keeps_content {
                file.written = file.durable.clone();
                file.sync_failed = false;
            }
        }
        self.left = None;
    }
}

#[derive(Debug, Clone, Default)]
struct Disk(Arc<Mutex<Platter>>);

impl Disk {
    fn files(&self) -> RecordFiles {
        RecordFiles {
            folder: Box::new(self.clone()),
            path: PathBuf::from("disk"),
            prefix: prefix(),
        }
    }

    fn crash_after(&self, changes: usize) {
        self.0.lock().unwrap().left = Some(changes);
    }

    fn restart(&self, crash: Crash) {
        self.0.lock().unwrap().restart(crash);
    }

    /// Flips a bit of a file, for good; returns its content.
    fn damage(&self, name: &str, place: usize) -> Vec<u8> {
        let mut disk = self.0.lock().unwrap();
        let file = disk.names[name];
        let content = &mut disk.files[file];
        content.written[place] ^= 1;
        content.durable = content.written.clone();
        content.written.clone()
    }
}

impl Folder for Disk {
    fn lock(&self, _: &str) -> io::Result<Option<Lock>> {
        Ok(Some(no_lock()))
    }

    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let disk = self.0.lock().unwrap();
        let file = disk.names.get(name);
        Ok(file.map(|file| disk.files[*file].written.clone()))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn RecordFile>> {
        let mut disk = self.0.lock().unwrap();
        disk.change()?;
        let file = disk.files.len();
        disk.files.push(Content::default());
        disk.names.insert(name.to_owned(), file);
        Ok(Box::new(OpenFile(Arc::clone(&self.0), file)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut disk = self.0.lock().unwrap();
        disk.change()?;
        let file = disk.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        disk.names.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut disk = self.0.lock().unwrap();
        disk.change()?;
        disk.names.remove(name);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut disk = self.0.lock().unwrap();
        disk.change()?;
        disk.durable_names = disk.names.clone();
        Ok(())
    }
}

#[derive(Debug)]
struct OpenFile(Arc<Mutex<Platter>>, usize);

impl RecordFile for OpenFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut disk = self.0.lock().unwrap();
        let crashes = disk.change();
        // A crash comes in the middle of it.
        let written = if crashes.is_ok() {
            bytes
        } else {
            &bytes[..bytes.len() / 2]
        };
        disk.files[self.1].written.extend_from_slice(written);
        crashes
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut disk = self.0.lock().unwrap();
        let crashes = disk.change();
        let file = &mut disk.files[self.1];
        if crashes.is_err() {
            file.sync_failed = true;
        } else if !file.sync_failed {
            file.durable = file.written.clone();
        }
        crashes
    }
}

/// A validator's process: it opens its record, or makes it, and votes until it
/// crashes. Whatever it may have signed is in `signed`.
fn vote(disk: &Disk, signed: &mut Vec<Link>) -> Result<(), String> {
    let opened = match disk.files().open(OWNER) {
        Err(VoteRecordError::Missing { .. }) if signed.is_empty() => disk
            .files()
            .create(OWNER)
            .map(|journal| (journal, VoteRecord::default())),
        opened => opened,
    };
    let (mut journal, record) = opened.map_err(|error| error.to_string())?;
    // Votes on record are signed again: their signatures may not have left.
    signed.extend(record.votes());
    let next = record.highest_target().map_or(1, |height| height.0 + 1);
    for target in next..next + 2 {
        let vote = link(target);
        journal.append(&vote).map_err(|error| error.to_string())?;
        signed.push(vote);
    }
    Ok(())
}

#[test]
fn whatever_was_signed_is_on_record_after_any_two_crashes() {
    // Whole runs, to know how many changes there are.
    let whole = Disk::default();
    vote(&whole, &mut Vec::new()).unwrap();
    let first_changes = whole.0.lock().unwrap().changes;
    vote(&whole, &mut Vec::new()).unwrap();
    let second_changes = whole.0.lock().unwrap().changes - first_changes;
    let mut runs = 0;
    for (first, second) in (0..=first_changes)
        .flat_map(|first| (0..=second_changes).map(move |second| (first, second)))
    {
        for (a, b) in CRASHES.iter().flat_map(|a| CRASHES.map(|b| (*a, b))) {
            let disk = Disk::default();
            let mut signed = Vec::new();
            for (changes, crash) in [(first, a), (second, b)] {
                disk.crash_after(changes);
                let _ = vote(&disk, &mut signed);
                disk.restart(crash);
            }
            let what = format!("{first} {a:?}, {second} {b:?}");
            match disk.files().open(OWNER) {
                Ok((_, record)) => {
                    for vote in &signed {
                        assert!(record.accounts_for(vote), "{what}: {vote:?}");
                    }
                }
                // A record that was never made, and never damage.
                Err(VoteRecordError::Missing { .. }) => assert!(signed.is_empty(), "{what}"),
                Err(error) => panic!("{what}: {error}"),
            }
            runs += 1;
        }
    }
    assert!(runs > 1_000);
}

#[test]
fn an_import_is_done_or_not_whenever_the_power_fails() {
    let more = record_of(1..=5);
    for moved in [false, true] {
        let begin = || {
            let disk = Disk::default();
            vote(&disk, &mut Vec::new()).unwrap();
            if moved {
                disk.files().move_out(OWNER.genesis).unwrap();
            }
            disk
        };
        let mut done = false;
        for changes in 0.. {
            for crash in CRASHES {
                let disk = begin();
                disk.crash_after(changes);
                done = disk.files().import(OWNER, &more).is_ok();
                disk.restart(crash);
                let what = format!("moved {moved}, {changes}, {crash:?}");
                match disk.files().open(OWNER) {
                    Ok((_, record)) if record == more => {}
                    Ok((_, record)) => {
                        assert_eq!(targets(&record), [1, 2], "{what}");
                        assert!(!done && !moved, "{what}");
                    }
                    Err(VoteRecordError::Moved { .. }) => assert!(!done && moved, "{what}"),
                    Err(error) => panic!("{what}: {error}"),
                }
            }
            if done {
                assert!(changes >= 5);
                break;
            }
        }
        assert!(done);
    }
}

#[test]
fn a_damaged_record_is_replaced_or_not_whenever_the_power_fails() {
    let more = record_of(1..=5);
    let mut replaced = more.clone();
    replaced.keep_highest(0);
    for changes in 0.. {
        let mut done = false;
        for crash in CRASHES {
            let disk = Disk::default();
            vote(&disk, &mut Vec::new()).unwrap();
            let damaged = disk.damage(LOG, 2 * SLOT_BYTES);
            disk.crash_after(changes);
            done = disk.files().import(OWNER, &more).is_ok();
            disk.restart(crash);
            let what = format!("{changes}, {crash:?}");
            match disk.files().open(OWNER) {
                Ok((_, record)) => {
                    assert_eq!(record, replaced, "{what}");
                    let kept = disk.read(DAMAGED).unwrap();
                    assert_eq!(kept, Some(damaged), "{what}");
                }
                Err(VoteRecordError::Damaged { vote: 2, .. }) => assert!(!done, "{what}"),
                Err(error) => panic!("{what}: {error}"),
            }
        }
        if done {
            assert!(changes >= 8);
            return;
        }
    }
}

#[test]
fn a_record_that_was_handed_out_never_comes_back() {
    let mut done = false;
    for changes in 0..20 {
        for crash in CRASHES {
            let disk = Disk::default();
            vote(&disk, &mut Vec::new()).unwrap();
            disk.crash_after(changes);
            done = disk.files().move_out(OWNER.genesis).is_ok();
            disk.restart(crash);
            match disk.files().open(OWNER) {
                Ok((_, record)) => {
                    assert!(!done, "{changes}, {crash:?}");
                    assert_eq!(targets(&record), [1, 2]);
                }
                Err(VoteRecordError::Moved { .. }) => {
                    let (_, record) = disk.files().move_out(OWNER.genesis).unwrap();
                    assert_eq!(targets(&record), [1, 2]);
                }
                Err(error) => panic!("{changes}, {crash:?}: {error}"),
            }
        }
    }
    assert!(done);
}
