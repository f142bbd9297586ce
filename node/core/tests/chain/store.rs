//! Stores keep what was committed and nothing else. One suite runs on both stores; the store on disk
//! also has a lock, backups, and a start after a crash.

use std::io::Write as _;
use std::path::Path;

use pithead_consensus::BlockHash;
use pithead_core::store::{
    Batch, KeyValue, Overlay, PendingRecord, RedbStore, ScratchStore, Snapshot, Store, StoreError,
    StoreReader, Table,
};
use pithead_testkit::nodes::stores;

const CACHE: usize = 4 << 20;

fn pairs(items: &[(&str, &str)]) -> Vec<KeyValue> {
    items
        .iter()
        .map(|(key, value)| (key.as_bytes().to_vec(), value.as_bytes().to_vec()))
        .collect()
}

fn put(store: &dyn Store, items: &[(&str, &str)]) {
    let mut batch = Batch::default();
    for (key, value) in items {
        batch.put(Table::Accounts, *key, *value);
    }
    store.commit(&batch).unwrap();
}

fn get(from: &dyn Snapshot, key: &str) -> Option<Vec<u8>> {
    from.get(Table::Accounts, key.as_bytes()).unwrap()
}

fn range(from: &dyn Snapshot, low: &str, high: &str, limit: usize, down: bool) -> Vec<KeyValue> {
    from.range(
        Table::Accounts,
        low.as_bytes(),
        high.as_bytes(),
        limit,
        down,
    )
    .unwrap()
}

fn record(number: u64) -> PendingRecord {
    PendingRecord {
        received: number,
        raw: vec![number as u8; 100],
    }
}

#[test]
fn values_are_put_read_and_deleted() {
    for (store, _dir) in stores() {
        put(store.as_ref(), &[("a", "1"), ("b", "2")]);
        let before = store.snapshot().unwrap();
        let mut batch = Batch::default();
        batch.put(Table::Accounts, "a", "3");
        batch.delete(Table::Accounts, "b");
        batch.delete(Table::Accounts, "never there");
        batch.put(Table::Meta, "a", "elsewhere");
        store.commit(&batch).unwrap();
        let after = store.snapshot().unwrap();
        assert_eq!(get(after.as_ref(), "a").unwrap(), b"3");
        assert_eq!(get(after.as_ref(), "b"), None);
        assert_eq!(after.get(Table::Meta, b"a").unwrap().unwrap(), b"elsewhere");
        // A snapshot stays as it was.
        assert_eq!(get(before.as_ref(), "a").unwrap(), b"1");
        assert_eq!(get(before.as_ref(), "b").unwrap(), b"2");
        assert_eq!(before.get(Table::Meta, b"a").unwrap(), None);
        assert!(store.size_bytes() > 0);
    }
}

#[test]
fn ranges_are_ordered_bounded_and_limited() {
    for (store, _dir) in stores() {
        put(
            store.as_ref(),
            &[("b", "2"), ("a", "1"), ("c", "3"), ("ab", "4")],
        );
        let mut other = Batch::default();
        other.put(Table::Undo, "bb", "not this table");
        store.commit(&other).unwrap();
        let snapshot = store.snapshot().unwrap();
        let from = snapshot.as_ref();
        let up = pairs(&[("a", "1"), ("ab", "4"), ("b", "2")]);
        assert_eq!(range(from, "a", "c", 9, false), up);
        let down: Vec<_> = up.iter().rev().cloned().collect();
        assert_eq!(range(from, "a", "c", 9, true), down);
        assert_eq!(range(from, "a", "c", 2, false), up[..2]);
        assert_eq!(range(from, "a", "c", 2, true), down[..2]);
        assert_eq!(range(from, "a", "z", 0, false), []);
        assert_eq!(range(from, "b", "b", 9, false), []);
        assert_eq!(range(from, "c", "a", 9, true), []);
    }
}

#[test]
fn an_overlay_shows_its_changes_over_what_is_stored() {
    for (store, _dir) in stores() {
        put(store.as_ref(), &[("a", "1"), ("b", "2"), ("c", "3")]);
        let snapshot = store.snapshot().unwrap();
        let mut overlay = Overlay::new(snapshot.as_ref());
        overlay.put(Table::Accounts, "aa", "new");
        overlay.put(Table::Accounts, "c", "changed");
        overlay.delete(Table::Accounts, "b");
        overlay.put_body(BlockHash([1; 32]), b"body".to_vec());
        assert_eq!(get(&overlay, "b"), None);
        assert_eq!(get(&overlay, "c").unwrap(), b"changed");
        assert_eq!(overlay.body(&BlockHash([1; 32])).unwrap().unwrap(), b"body");
        let expected = pairs(&[("a", "1"), ("aa", "new"), ("c", "changed")]);
        assert_eq!(range(&overlay, "a", "z", 9, false), expected);
        assert_eq!(range(&overlay, "a", "z", 1, true), expected[2..]);
        // Nothing is stored until it is committed, then all of it is.
        assert_eq!(get(store.snapshot().unwrap().as_ref(), "aa"), None);
        store.commit(&overlay.into_batch()).unwrap();
        let snapshot = store.snapshot().unwrap();
        assert_eq!(range(snapshot.as_ref(), "a", "z", 9, false), expected);
        assert_eq!(
            snapshot.body(&BlockHash([1; 32])).unwrap().unwrap(),
            b"body"
        );
        assert_eq!(snapshot.body(&BlockHash([2; 32])).unwrap(), None);
    }
}

#[test]
fn the_pending_log_is_appended_read_and_rewritten() {
    for (store, _dir) in stores() {
        assert_eq!(store.pending().unwrap(), []);
        for number in 1..=3 {
            store.append_pending(&record(number)).unwrap();
        }
        assert_eq!(store.pending().unwrap(), [record(1), record(2), record(3)]);
        store.rewrite_pending(&[record(2)]).unwrap();
        store.append_pending(&record(4)).unwrap();
        assert_eq!(store.pending().unwrap(), [record(2), record(4)]);
        store.rewrite_pending(&[]).unwrap();
        assert_eq!(store.pending().unwrap(), []);
    }
}

fn put_body(store: &dyn Store, number: u8) {
    let mut batch = Batch::default();
    let body = vec![number; 1_000 + usize::from(number)];
    batch.bodies.push((BlockHash([number; 32]), body));
    store.commit(&batch).unwrap();
}

fn assert_bodies(store: &dyn Store, numbers: std::ops::RangeInclusive<u8>) {
    let snapshot = store.snapshot().unwrap();
    for number in numbers {
        let body = snapshot.body(&BlockHash([number; 32])).unwrap().unwrap();
        assert_eq!(body, vec![number; 1_000 + usize::from(number)]);
    }
}

fn reopen(dir: &Path) -> Result<RedbStore, StoreError> {
    RedbStore::open(dir, CACHE)
}

#[test]
fn bytes_after_the_last_body_are_cut_off_after_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let store = reopen(dir.path()).unwrap();
    put_body(&store, 1);
    put_body(&store, 2);
    drop(store);
    let path = dir.path().join("blocks/bodies-00000.dat");
    let whole = std::fs::metadata(&path).unwrap().len();
    assert_eq!(whole, 1_001 + 1_002);
    // A crash left half a body and another file. No commit refers to either.
    let mut file = std::fs::OpenOptions::new()
        .append(true)
        .open(&path)
        .unwrap();
    file.write_all(&[7; 500]).unwrap();
    drop(file);
    let later = dir.path().join("blocks/bodies-00001.dat");
    std::fs::write(&later, [7; 10]).unwrap();
    // Opening changes nothing; the next body takes their place.
    let store = reopen(dir.path()).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().len(), whole + 500);
    assert!(later.exists());
    put_body(&store, 3);
    assert_eq!(std::fs::metadata(&path).unwrap().len(), whole + 1_003);
    assert!(!later.exists());
    assert_bodies(&store, 1..=3);
}

#[test]
fn lazy_commits_are_seen_at_once_and_kept_by_the_next_commit() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    let store = RedbStore::open(&dir, CACHE).unwrap();
    put(&store, &[("a", "1")]);
    put_body(&store, 1);
    let lazily = |number: u8| {
        let mut batch = Batch::default();
        batch.put(Table::Accounts, vec![number], vec![number]);
        batch
            .bodies
            .push((BlockHash([number; 32]), vec![number; 1_000]));
        store.commit_lazily(&batch).unwrap();
    };
    let has = |store: &dyn Store, number: u8| {
        let snapshot = store.snapshot().unwrap();
        let value = snapshot.get(Table::Accounts, &[number]).unwrap();
        let body = snapshot.body(&BlockHash([number; 32])).unwrap();
        assert_eq!(value.is_some(), body.is_some(), "all of it or none");
        body.is_some()
    };
    // A copy of the files at some moment is what a crash at that moment would leave.
    let crash = |name: &str| {
        let left = home.path().join(name);
        std::fs::create_dir_all(left.join("blocks")).unwrap();
        for file in ["chain.redb", "blocks/bodies-00000.dat"] {
            std::fs::copy(dir.join(file), left.join(file)).unwrap();
        }
        RedbStore::open(&left, CACHE).unwrap()
    };
    lazily(2);
    lazily(3);
    assert!(has(&store, 2) && has(&store, 3));
    let left = crash("before");
    assert!(!has(&left, 2) && !has(&left, 3));
    assert_eq!(
        get(left.snapshot().unwrap().as_ref(), "a"),
        Some(b"1".to_vec())
    );
    store.commit(&Batch::default()).unwrap();
    let left = crash("after");
    assert!(has(&left, 2) && has(&left, 3));
    lazily(4);
    put_body(&store, 5);
    let left = crash("later");
    assert!(has(&left, 4));
}

#[test]
fn missing_body_bytes_are_damage() {
    let dir = tempfile::tempdir().unwrap();
    let store = reopen(dir.path()).unwrap();
    put_body(&store, 1);
    drop(store);
    let path = dir.path().join("blocks/bodies-00000.dat");
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(1_000).unwrap();
    match reopen(dir.path()).map(drop) {
        Err(StoreError::Damaged(what)) => assert!(what.contains("1001 expected"), "{what}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_torn_pending_record_is_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let store = reopen(dir.path()).unwrap();
    store.append_pending(&record(1)).unwrap();
    store.append_pending(&record(2)).unwrap();
    drop(store);
    let path = dir.path().join("pending.log");
    let bytes = std::fs::read(&path).unwrap();
    // Torn anywhere within the second record, its length included.
    for end in [bytes.len() - 1, bytes.len() / 2 + 12, bytes.len() / 2 + 2] {
        std::fs::write(&path, &bytes[..end]).unwrap();
        assert_eq!(reopen(dir.path()).unwrap().pending().unwrap(), [record(1)]);
    }
    // A length that can't be one.
    std::fs::write(&path, [0xff; 64]).unwrap();
    assert_eq!(reopen(dir.path()).unwrap().pending().unwrap(), []);
}

#[test]
fn a_directory_has_one_store_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let store = reopen(dir.path()).unwrap();
    match reopen(dir.path()).map(drop) {
        Err(StoreError::Locked { path }) => assert_eq!(path, dir.path()),
        other => panic!("{other:?}"),
    }
    drop(store);
    reopen(dir.path()).unwrap();
}

#[test]
fn a_backup_holds_what_was_there_and_never_overwrites() {
    let dir = tempfile::tempdir().unwrap();
    let store = reopen(dir.path()).unwrap();
    put(&store, &[("a", "1")]);
    put_body(&store, 1);
    let copy = dir.path().join("copies/one");
    let (bytes, snapshot) = store.backup(&copy).unwrap();
    assert!(bytes > 1_001);
    assert_eq!(get(snapshot.as_ref(), "a").unwrap(), b"1");
    put(&store, &[("a", "2")]);
    put_body(&store, 2);
    let again = store.backup(&copy).map(drop);
    assert!(matches!(again, Err(StoreError::Io { .. })), "{again:?}");
    let copied = reopen(&copy).unwrap();
    assert_eq!(get(copied.snapshot().unwrap().as_ref(), "a").unwrap(), b"1");
    assert_bodies(&copied, 1..=1);
    let missing = copied
        .snapshot()
        .unwrap()
        .body(&BlockHash([2; 32]))
        .unwrap();
    assert_eq!(missing, None);
    put_body(&copied, 3);
    assert_bodies(&copied, 3..=3);
    assert_bodies(&store, 1..=2);
}

/// The names in a folder, sorted.
fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_backup_that_fails_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = reopen(dir.path()).unwrap();
    put_body(&store, 1);
    // The copy of the bodies fails half-way: the file has become unreadable.
    let bodies = dir.path().join("blocks/bodies-00000.dat");
    std::fs::rename(&bodies, dir.path().join("aside")).unwrap();
    let copies = tempfile::tempdir().unwrap();
    let result = store.backup(&copies.path().join("one")).map(drop);
    assert!(matches!(result, Err(StoreError::Io { .. })), "{result:?}");
    assert!(
        names(copies.path()).is_empty(),
        "{:?}",
        names(copies.path())
    );
    std::fs::rename(dir.path().join("aside"), &bodies).unwrap();
    store.backup(&copies.path().join("one")).unwrap();
    assert_eq!(names(copies.path()), ["one"]);
}

#[test]
fn what_a_killed_backup_left_is_refused_and_removed_by_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let store = reopen(dir.path()).unwrap();
    put_body(&store, 1);
    let copies = tempfile::tempdir().unwrap();
    store.backup(&copies.path().join("one")).unwrap();
    // Even a copy that is whole: its files may not be on disk.
    let left = copies.path().join("two.unfinished-backup");
    std::fs::rename(copies.path().join("one"), &left).unwrap();
    let before = names(&left);
    let refused = |result| match result {
        Err(StoreError::UnfinishedBackup { path }) => assert_eq!(path, left),
        other => panic!("{other:?}"),
    };
    refused(reopen(&left).map(drop));
    refused(StoreReader::open(&left, CACHE).map(drop));
    assert_eq!(names(&left), before);
    // A folder of this kind that is locked belongs to a backup under way.
    let busy = copies.path().join("three.unfinished-backup");
    std::fs::create_dir(&busy).unwrap();
    let lock = std::fs::File::create(busy.join("LOCK")).unwrap();
    lock.lock().unwrap();
    store.backup(&copies.path().join("four")).unwrap();
    assert_eq!(names(copies.path()), ["four", "three.unfinished-backup"]);
    drop(lock);
    store.backup(&copies.path().join("five")).unwrap();
    assert_eq!(names(copies.path()), ["five", "four"]);
    let named = store.backup(&copies.path().join("six.unfinished-backup"));
    assert!(matches!(named.map(drop), Err(StoreError::Io { .. })));
    assert_eq!(names(copies.path()), ["five", "four"]);
}

#[test]
fn a_missing_half_is_refused_and_nothing_changes() {
    let dir = tempfile::tempdir().unwrap();
    let store = reopen(dir.path()).unwrap();
    put_body(&store, 1);
    drop(store);
    let missing = |name: &str| {
        let path = dir.path().join(name);
        std::fs::rename(&path, dir.path().join("aside")).unwrap();
        let before = (names(dir.path()), names(&dir.path().join("blocks")));
        for result in [
            reopen(dir.path()).map(drop),
            StoreReader::open(dir.path(), CACHE).map(drop),
        ] {
            match result {
                Err(StoreError::MissingHalf { missing }) => assert_eq!(missing, path),
                other => panic!("{other:?}"),
            }
        }
        let after = (names(dir.path()), names(&dir.path().join("blocks")));
        assert_eq!(before, after);
        std::fs::rename(dir.path().join("aside"), &path).unwrap();
    };
    missing("chain.redb");
    missing("blocks/bodies-00000.dat");
    assert_bodies(&reopen(dir.path()).unwrap(), 1..=1);
}

#[test]
fn a_folder_without_a_chain_has_no_data_to_read() {
    let dir = tempfile::tempdir().unwrap();
    match StoreReader::open(dir.path(), CACHE).map(drop) {
        Err(StoreError::NoData { path }) => assert_eq!(path, dir.path()),
        other => panic!("{other:?}"),
    }
    assert!(names(dir.path()).is_empty());
}

#[test]
fn what_the_first_start_of_an_earlier_version_left_is_put_aside() {
    for left in [&b""[..], &[0; 100], &[0; 8_192]] {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("chain.redb"), left).unwrap();
        std::fs::write(dir.path().join("chain.redb.new"), left).unwrap();
        let store = reopen(dir.path()).unwrap();
        put_body(&store, 1);
        let kept = std::fs::read(dir.path().join("chain.redb.unfinished")).unwrap();
        assert_eq!(kept, left);
        assert!(!dir.path().join("chain.redb.new").exists());
    }
    // A whole database of an earlier version is refused and left alone.
    let dir = tempfile::tempdir().unwrap();
    let old = [&b"redb\x1a\n\xa9\r\n"[..], &[0; 8_192]].concat();
    std::fs::write(dir.path().join("chain.redb"), &old).unwrap();
    match reopen(dir.path()).map(drop) {
        Err(StoreError::WrongSchema { found: 1, .. }) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(std::fs::read(dir.path().join("chain.redb")).unwrap(), old);
}

#[test]
fn a_scratch_store_leaves_no_trace_and_removes_those_of_others() {
    let dir = tempfile::tempdir().unwrap();
    let killed = dir.path().join("pithead-scratch-7");
    std::fs::create_dir(&killed).unwrap();
    std::fs::write(killed.join("chain.redb"), "left").unwrap();
    let (first, second) = (
        ScratchStore::make(dir.path(), CACHE).unwrap(),
        ScratchStore::make(dir.path(), CACHE).unwrap(),
    );
    assert_eq!(
        names(dir.path()),
        ["pithead-scratch-0", "pithead-scratch-1"]
    );
    put(first.store().as_ref(), &[("a", "1")]);
    let snapshot = second.store().snapshot().unwrap();
    assert_eq!(get(snapshot.as_ref(), "a"), None);
    drop((first, second));
    assert!(names(dir.path()).is_empty());
}

#[test]
fn bodies_go_on_in_a_new_file_when_one_is_full() {
    let dir = tempfile::tempdir().unwrap();
    let store = reopen(dir.path()).unwrap();
    let size = |number: u8| (33 << 20) + usize::from(number);
    // The fourth ends beyond 128 MiB, so the fifth begins a file.
    for numbers in [vec![1], vec![2, 3, 4, 5], vec![6]] {
        let mut batch = Batch::default();
        for number in numbers {
            let body = vec![number; size(number)];
            batch.bodies.push((BlockHash([number; 32]), body));
        }
        store.commit(&batch).unwrap();
    }
    let assert_all = |store: &RedbStore| {
        let snapshot = store.snapshot().unwrap();
        for number in 1..=6 {
            let body = snapshot.body(&BlockHash([number; 32])).unwrap().unwrap();
            assert_eq!(body.len(), size(number));
            assert!(body.iter().all(|byte| *byte == number));
        }
    };
    assert_all(&store);
    let second = dir.path().join("blocks/bodies-00001.dat");
    let len = std::fs::metadata(&second).unwrap().len();
    assert_eq!(len, (size(5) + size(6)) as u64);
    drop(store);
    let store = reopen(dir.path()).unwrap();
    put_body(&store, 7);
    assert_all(&store);
    assert_bodies(&store, 7..=7);
}
