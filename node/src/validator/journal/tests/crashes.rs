//! A disk that crashes at every moment, and what the record is afterwards.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use pithead_consensus::{Link, VoteRecord};
use pithead_core::finality::VoteJournal as _;

use super::super::files::{DAMAGED, LOG};
use super::super::folder::{FolderLock, RecordFile, RecordFolder, no_lock};
use super::super::layout::SLOT_BYTES;
use super::super::{RecordFiles, VoteRecordError};
use super::{OWNER, link, prefix, record_of, targets};

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

impl RecordFolder for Disk {
    fn lock(&self, _: &str) -> io::Result<Option<FolderLock>> {
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
