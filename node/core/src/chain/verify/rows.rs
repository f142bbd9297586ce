//! Going through tables, a bounded number of rows at a time. Knows no types of the rows. Start
//! reading at [`for_each_row`].

use super::VerifyError;
use crate::store::{KeyValue, Snapshot, StoreError, Table};

/// Rows that are read at a time: at most 2 MiB, as no row of these tables is longer than 2 kB.
const ROWS_PER_READ: usize = 1_000;
/// Rows with certificates that are read at a time, each up to 300 kB.
const LONG_ROWS_PER_READ: usize = 16;
/// Above every key of every table.
const END: [u8; 128] = [0xff; 128];

/// A table's rows, some at a time.
pub(super) struct Rows<'a> {
    from: &'a dyn Snapshot,
    table: Table,
    next: Vec<u8>,
}

impl<'a> Rows<'a> {
    pub(super) fn of(from: &'a dyn Snapshot, table: Table) -> Self {
        Self {
            from,
            table,
            next: Vec::new(),
        }
    }

    /// The next rows; none at the table's end.
    pub(super) fn some(&mut self) -> Result<Vec<KeyValue>, StoreError> {
        let count = match self.table {
            Table::Certificates | Table::Evidence | Table::Undo => LONG_ROWS_PER_READ,
            _ => ROWS_PER_READ,
        };
        let rows = self
            .from
            .range(self.table, &self.next, &END, count, false)?;
        if let Some((last, _)) = rows.last() {
            self.next = [last.as_slice(), &[0]].concat();
        }
        Ok(rows)
    }
}

/// Calls `check` with each row of a table, in order; returns their number.
pub(super) fn for_each_row(
    from: &dyn Snapshot,
    table: Table,
    mut check: impl FnMut(&[u8], &[u8]) -> Result<(), VerifyError>,
) -> Result<u64, VerifyError> {
    let mut rows = Rows::of(from, table);
    let mut count = 0;
    loop {
        let some = rows.some()?;
        if some.is_empty() {
            return Ok(count);
        }
        for (key, value) in &some {
            check(key, value)?;
        }
        count += some.len() as u64;
    }
}

/// Checks that a table has so many rows.
pub(super) fn check_count(
    from: &dyn Snapshot,
    table: Table,
    expected: u64,
) -> Result<(), VerifyError> {
    let found = for_each_row(from, table, |_, _| Ok(()))?;
    if found != expected {
        return Err(VerifyError::table(table, &[]));
    }
    Ok(())
}

/// Checks that a table is the same in both; returns the number of its rows.
pub(super) fn check_same(
    table: Table,
    stored: &dyn Snapshot,
    replayed: &dyn Snapshot,
) -> Result<u64, VerifyError> {
    let (mut of_stored, mut of_replayed) = (Rows::of(stored, table), Rows::of(replayed, table));
    let mut count = 0;
    loop {
        let (a, b) = (of_stored.some()?, of_replayed.some()?);
        if a != b {
            let different = a
                .iter()
                .zip(&b)
                .find(|(a, b)| a != b)
                .map(|(a, b)| a.min(b));
            let longer = a.get(b.len()).or_else(|| b.get(a.len()));
            let key = different.or(longer).map(|(key, _)| key.as_slice());
            return Err(VerifyError::table(table, key.unwrap_or_default()));
        }
        if a.is_empty() {
            return Ok(count);
        }
        count += a.len() as u64;
    }
}
