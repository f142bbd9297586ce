//! The links of all certificates and the final checkpoints, looked up in the store one by one.
//! Memory holds only the last ones, so it does not grow with the chain. Start reading at
//! [`Archive`].

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use pithead_consensus::approval::finality::Links;
use pithead_consensus::{BlockHash, Checkpoint, Decode as _, Height, Link};

use crate::store::{Batch, KeyValue, Snapshot, Store, StoreError, Table};

/// Key in [`Table::Meta`] of the height up to which [`Table::FinalPath`] takes the links into
/// account.
const META_FINAL_PATH: &[u8] = b"final_path";
/// Above every key that is a height.
const END: [u8; 9] = [0xff; 9];

/// The links and the final checkpoints of a store.
///
/// A question has no way to fail. If the store fails, the answer is that there is nothing, and
/// [`Self::sound`] fails from then on. A caller asks that before it acts on an answer.
pub(super) struct Archive {
    store: Arc<dyn Store>,
    failure: OnceLock<String>,
}

impl Archive {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self {
            store,
            failure: OnceLock::new(),
        }
    }

    /// Whether every answer so far is true.
    ///
    /// # Errors
    /// [`StoreError`] if storage failed or is damaged.
    pub(super) fn sound(&self) -> Result<(), StoreError> {
        match self.failure.get() {
            None => Ok(()),
            Some(reason) => Err(StoreError::Database(reason.clone())),
        }
    }

    fn look_up<T>(
        &self,
        question: impl FnOnce(&dyn Snapshot) -> Result<Option<T>, StoreError>,
    ) -> Option<T> {
        let found = self.store.snapshot();
        let found = found.and_then(|snapshot| question(snapshot.as_ref()));
        found.unwrap_or_else(|error| {
            // The first reason tells most; a later one changes nothing.
            let _ = self.failure.set(error.to_string());
            None
        })
    }
}

impl Links for Archive {
    fn at_or_below(&self, height: Height) -> Option<Link> {
        self.look_up(|from| last_to(from, Table::Links, height)?.map(link).transpose())
    }

    fn at_or_above(&self, height: Height) -> Option<Link> {
        self.look_up(|from| {
            let start = height.0.to_be_bytes();
            let rows = from.range(Table::Links, &start, &END, 1, false)?;
            rows.into_iter().next().map(link).transpose()
        })
    }

    fn final_at(&self, height: Height) -> Option<Checkpoint> {
        self.look_up(|from| final_at(from, height))
    }
}

impl fmt::Debug for Archive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Archive")
    }
}

impl PartialEq for Archive {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for Archive {}

/// Links that are about to be committed, before those of an archive.
pub(super) struct Staged<'a> {
    pub(super) older: &'a dyn Links,
    pub(super) staged: BTreeMap<Height, Link>,
}

impl Links for Staged<'_> {
    fn at_or_below(&self, height: Height) -> Option<Link> {
        let staged = self.staged.range(..=height).next_back();
        let staged = staged.map(|(_, link)| *link);
        let found = staged.into_iter().chain(self.older.at_or_below(height));
        found.max_by_key(|link| link.target.height)
    }

    fn at_or_above(&self, height: Height) -> Option<Link> {
        let staged = self.staged.range(height..).next();
        let staged = staged.map(|(_, link)| *link);
        let found = staged.into_iter().chain(self.older.at_or_above(height));
        found.min_by_key(|link| link.target.height)
    }

    fn final_at(&self, height: Height) -> Option<Checkpoint> {
        self.older.final_at(height)
    }
}

/// The links with the highest targets, at most `max`, by descending target.
pub(super) fn last_links(from: &dyn Snapshot, max: usize) -> Result<Vec<Link>, StoreError> {
    let rows = from.range(Table::Links, &[], &END, max, true)?;
    rows.into_iter().map(link).collect()
}

/// The highest final checkpoint on record up to a height.
pub(super) fn final_at(
    from: &dyn Snapshot,
    height: Height,
) -> Result<Option<Checkpoint>, StoreError> {
    let found = last_to(from, Table::FinalPath, height)?;
    found.map(checkpoint).transpose()
}

/// Whether the final checkpoints on record take all links into account, up to the highest one.
pub(super) fn is_complete(from: &dyn Snapshot) -> Result<bool, StoreError> {
    let highest = last_links(from, 1)?;
    let Some(highest) = highest.first() else {
        return Ok(true);
    };
    let covered = from.get(Table::Meta, META_FINAL_PATH)?;
    Ok(covered.as_deref() == Some(&highest.target.height.0.to_be_bytes()))
}

/// Adds the changes to a batch that put final checkpoints on record. `highest` is the height of
/// the highest approved checkpoint.
pub(super) fn put_final_path(
    batch: &mut Batch,
    path: impl Iterator<Item = Checkpoint>,
    highest: Height,
) {
    for checkpoint in path {
        let key = checkpoint.height.0.to_be_bytes();
        batch.put(Table::FinalPath, key, checkpoint.hash.0);
    }
    batch.put(Table::Meta, META_FINAL_PATH, highest.0.to_be_bytes());
}

/// The row with the highest key up to a height.
fn last_to(
    from: &dyn Snapshot,
    table: Table,
    height: Height,
) -> Result<Option<KeyValue>, StoreError> {
    // One more byte makes the bound include the height itself.
    let end = [height.0.to_be_bytes().as_slice(), &[0]].concat();
    Ok(from.range(table, &[], &end, 1, true)?.into_iter().next())
}

fn link((_, bytes): KeyValue) -> Result<Link, StoreError> {
    Link::decode(&bytes).map_err(|error| StoreError::Damaged(format!("link: {error}")))
}

fn checkpoint((key, value): KeyValue) -> Result<Checkpoint, StoreError> {
    let damaged = |_| StoreError::Damaged("a final checkpoint".to_owned());
    Ok(Checkpoint {
        height: Height(u64::from_be_bytes(
            key.as_slice().try_into().map_err(damaged)?,
        )),
        hash: BlockHash(value.as_slice().try_into().map_err(damaged)?),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::store::MemoryStore;

    #[test]
    fn an_archive_that_could_not_read_says_so_from_then_on() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let mut batch = Batch::default();
        batch.put(Table::Links, 20_u64.to_be_bytes(), [7; 3]);
        store.commit(&batch).unwrap();
        let archive = Archive::new(store);
        assert_eq!(archive.at_or_below(Height(19)), None);
        assert!(archive.sound().is_ok(), "there is nothing below");
        assert_eq!(archive.at_or_below(Height(20)), None);
        assert!(archive.sound().is_err());
        assert_eq!(archive.at_or_below(Height(19)), None);
        assert!(archive.sound().is_err());
    }
}
