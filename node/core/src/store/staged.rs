//! Changes that wait beside the tables: a long reorganisation is worked out there piece by piece,
//! and takes effect for every reader in one commit. Knows no rules. Start reading at
//! [`StagedView`].
//!
//! Each change is a row of [`Table::Staged`]. The rows go through these states, of which
//! [`schema::Staging`] keeps the record:
//!
//! 1. *Building:* rows are added with each piece. Only a [`StagedView`] shows them.
//! 2. *Live:* every snapshot shows the rows over the tables. The rows move into their tables, some
//!    with each commit. A commit that changes a key drops the row of that key.
//! 3. *Clearing:* the rows of a reorganisation that was given up are deleted, some with each commit.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::VecDeque;
use std::ops::Deref;

use pithead_consensus::BlockHash;

use super::schema::{self, Staging};
use super::{Batch, Changes, KeyValue, Snapshot, StoreError, Table};

/// Rows that are read at a time to be moved or deleted. A row is at most an undo record, which is below 1 MB.
const MOVED_PER_READ: usize = 16;
/// Entries that a range over rows and table reads at a time.
const MERGED_PER_READ: usize = 256;

/// First byte of a row's value if the row deletes its key.
const DELETED: u8 = 0;
/// First byte of a row's value if the row sets its key to the rest of the value.
const SET: u8 = 1;

/// The tables that a reorganisation changes, by the first byte of a row's key.
const TAGS: [(u8, Table); 9] = [
    (1, Table::Entries),
    (2, Table::BestChain),
    (3, Table::Undo),
    (4, Table::Accounts),
    (5, Table::StateNodes),
    (6, Table::StaleNodes),
    (7, Table::Transactions),
    (8, Table::AccountTransactions),
    (9, Table::Meta),
];

/// A snapshot with the staged rows over its tables.
pub struct StagedView<S>(pub S);

impl<S> Snapshot for StagedView<S>
where
    S: Deref + Send + Sync,
    S::Target: Snapshot,
{
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let row = match row_key(table, key) {
            Some(row) => self.0.get(Table::Staged, &row)?,
            None => None,
        };
        match row {
            Some(row) => change_of(&row),
            None => self.0.get(table, key),
        }
    }

    fn range(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        limit: usize,
        descending: bool,
    ) -> Result<Vec<KeyValue>, StoreError> {
        let (Some(low), Some(high)) = (row_key(table, from), row_key(table, to)) else {
            return self.0.range(table, from, to, limit, descending);
        };
        if from >= to {
            return Ok(Vec::new());
        }
        let chunk = limit.clamp(1, MERGED_PER_READ);
        let mut rows = Walk::new(Table::Staged, (low, high), descending, chunk);
        let mut entries = Walk::new(table, (from.to_vec(), to.to_vec()), descending, chunk);
        let mut found = Vec::new();
        while found.len() < limit {
            let row = rows.peek(&*self.0)?.and_then(|key| key.split_first());
            let row = row.map(|(_, key)| key);
            let order = match (row, entries.peek(&*self.0)?) {
                (None, None) => break,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(row), Some(entry)) if descending => entry.cmp(row),
                (Some(row), Some(entry)) => row.cmp(entry),
            };
            let entry = if order == Ordering::Less {
                None
            } else {
                entries.next()
            };
            if order == Ordering::Greater {
                found.extend(entry);
            } else if let Some((mut key, row)) = rows.next()
                && let Some(value) = change_of(&row)?
            {
                key.remove(0);
                found.push((key, value));
            }
        }
        Ok(found)
    }

    fn body(&self, hash: &BlockHash) -> Result<Option<Vec<u8>>, StoreError> {
        self.0.body(hash)
    }
}

/// Goes through a range, some entries at a time.
struct Walk {
    table: Table,
    low: Vec<u8>,
    high: Vec<u8>,
    descending: bool,
    chunk: usize,
    read: VecDeque<KeyValue>,
    has_ended: bool,
}

impl Walk {
    fn new(table: Table, (low, high): (Vec<u8>, Vec<u8>), descending: bool, chunk: usize) -> Self {
        Self {
            table,
            low,
            high,
            descending,
            chunk,
            read: VecDeque::new(),
            has_ended: false,
        }
    }

    /// The key of the next entry.
    fn peek(&mut self, from: &(impl Snapshot + ?Sized)) -> Result<Option<&[u8]>, StoreError> {
        if self.read.is_empty() && !self.has_ended {
            let (low, high) = (&self.low, &self.high);
            let read = from.range(self.table, low, high, self.chunk, self.descending)?;
            self.has_ended = read.len() < self.chunk;
            if let Some((last, _)) = read.last() {
                if self.descending {
                    self.high.clone_from(last);
                } else {
                    self.low = [last.as_slice(), &[0]].concat();
                }
            }
            self.read = read.into();
        }
        Ok(self.read.front().map(|(key, _)| key.as_slice()))
    }

    fn next(&mut self) -> Option<KeyValue> {
        self.read.pop_front()
    }
}

/// Adds a row for each of these changes to a batch.
///
/// # Errors
/// [`StoreError::Database`] if a change is in a table that no reorganisation changes.
pub fn stage(changes: &Changes, into: &mut Batch) -> Result<(), StoreError> {
    for ((table, key), change) in changes {
        let row = row_key(*table, key).ok_or_else(|| {
            StoreError::Database(format!("changes of {table:?} can't be put aside"))
        })?;
        let value = match change {
            Some(value) => [&[SET], value.as_slice()].concat(),
            None => vec![DELETED],
        };
        into.put(Table::Staged, row, value);
    }
    Ok(())
}

/// Checks that a row can be read.
///
/// # Errors
/// [`StoreError::Damaged`] if not.
pub fn check_row(row: &[u8], value: &[u8]) -> Result<(), StoreError> {
    place_of(row)?;
    change_of(value)?;
    Ok(())
}

/// The commit that moves the next live rows into their tables, some `bytes` of them; `None` once no
/// row is left.
///
/// # Errors
/// [`StoreError`] if storage fails or is damaged.
pub fn move_rows(from: &dyn Snapshot, bytes: usize) -> Result<Option<Batch>, StoreError> {
    let mut batch = Batch::default();
    for (row, value) in next_rows(from, bytes)? {
        let (table, key) = place_of(&row)?;
        batch.changes.insert((table, key), change_of(&value)?);
        batch.delete(Table::Staged, row);
    }
    Ok((!batch.changes.is_empty()).then_some(batch))
}

/// The commit that deletes the next rows, some `bytes` of them; `None` once no row is left.
///
/// # Errors
/// [`StoreError`] if storage fails.
pub fn clear_rows(from: &dyn Snapshot, bytes: usize) -> Result<Option<Batch>, StoreError> {
    let mut batch = Batch::default();
    for (row, _) in next_rows(from, bytes)? {
        batch.delete(Table::Staged, row);
    }
    Ok((!batch.changes.is_empty()).then_some(batch))
}

fn next_rows(from: &dyn Snapshot, bytes_max: usize) -> Result<Vec<KeyValue>, StoreError> {
    // The tags end far below 255.
    let mut walk = Walk::new(Table::Staged, (vec![], vec![0xff]), false, MOVED_PER_READ);
    let (mut rows, mut bytes) = (Vec::new(), 0);
    while bytes < bytes_max && walk.peek(from)?.is_some() {
        let row = walk.next();
        bytes += row
            .as_ref()
            .map_or(0, |(key, value)| key.len() + value.len());
        rows.extend(row);
    }
    Ok(rows)
}

/// What readers see: the rows over the tables while they are live, or else the tables alone.
pub(super) fn as_readers_see(snapshot: Box<dyn Snapshot>) -> Result<Box<dyn Snapshot>, StoreError> {
    Ok(if is_live(snapshot.as_ref())? {
        Box::new(StagedView(snapshot))
    } else {
        snapshot
    })
}

pub(super) fn is_live(from: &dyn Snapshot) -> Result<bool, StoreError> {
    Ok(matches!(schema::staging(from)?, Some(Staging::Live)))
}

/// A batch that also drops the live rows of the keys that it changes. If it names a row itself,
/// that stands.
pub(super) fn superseding(batch: &Batch, is_live: bool) -> Cow<'_, Batch> {
    if !is_live {
        return Cow::Borrowed(batch);
    }
    let mut whole = batch.clone();
    for (table, key) in batch.changes.keys() {
        if let Some(row) = row_key(*table, key) {
            whole.changes.entry((Table::Staged, row)).or_insert(None);
        }
    }
    Cow::Owned(whole)
}

/// The key of the row that stands for a key of a table; `None` for a table without rows.
fn row_key(table: Table, key: &[u8]) -> Option<Vec<u8>> {
    let tag = TAGS.iter().find(|(_, tagged)| *tagged == table)?.0;
    Some([&[tag], key].concat())
}

fn place_of(row: &[u8]) -> Result<(Table, Vec<u8>), StoreError> {
    row.split_first()
        .and_then(|(tag, key)| {
            let (_, table) = TAGS.iter().find(|(found, _)| found == tag)?;
            Some((*table, key.to_vec()))
        })
        .ok_or_else(|| StoreError::Damaged("key of a staged row".to_owned()))
}

/// The value that a row gives its key; `None` if the row deletes it.
fn change_of(row: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
    match row.split_first() {
        Some((&SET, value)) => Ok(Some(value.to_vec())),
        Some((&DELETED, [])) => Ok(None),
        _ => Err(StoreError::Damaged("value of a staged row".to_owned())),
    }
}
