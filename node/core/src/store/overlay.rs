//! Changes on top of a snapshot, readable before they are committed: a block, or a piece of a
//! reorganisation, is worked out on an overlay and then committed in one batch. Knows no rules.

use std::ops::Bound;

use pithead_consensus::BlockHash;
use pithead_consensus::state_tree::NodeSource;

use super::{Batch, KeyValue, Snapshot, StoreError, Table};

/// A snapshot with a batch on top: reads see the changes of the batch first.
pub struct Overlay<'a> {
    base: &'a dyn Snapshot,
    batch: Batch,
    bytes: usize,
}

impl<'a> Overlay<'a> {
    /// An overlay without changes on `base`.
    #[must_use]
    pub fn new(base: &'a dyn Snapshot) -> Self {
        Self {
            base,
            batch: Batch::default(),
            bytes: 0,
        }
    }

    /// Sets a value.
    pub fn put(&mut self, table: Table, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        let (key, value) = (key.into(), value.into());
        self.bytes += key.len() + value.len();
        self.batch.put(table, key, value);
    }

    /// Deletes a key.
    pub fn delete(&mut self, table: Table, key: impl Into<Vec<u8>>) {
        let key = key.into();
        self.bytes += key.len();
        self.batch.delete(table, key);
    }

    /// Bytes of the keys and values that were changed. A key that was changed twice counts twice.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds all changes of a batch.
    pub fn absorb(&mut self, batch: Batch) {
        self.batch.changes.extend(batch.changes);
        self.batch.bodies.extend(batch.bodies);
    }

    /// Adds a block body.
    pub fn put_body(&mut self, hash: BlockHash, body: Vec<u8>) {
        self.batch.bodies.push((hash, body));
    }

    /// The changes, ready to be committed.
    #[must_use]
    pub fn into_batch(self) -> Batch {
        self.batch
    }
}

impl Snapshot for Overlay<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        match self.batch.changes.get(&(table, key.to_vec())) {
            Some(change) => Ok(change.clone()),
            None => self.base.get(table, key),
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
        // The changes may hide entries of the base, so the limit can't apply to the base. Overlays
        // are only asked for ranges that one block wrote, which bounds the read.
        let mut merged: std::collections::BTreeMap<Vec<u8>, Vec<u8>> = self
            .base
            .range(table, from, to, usize::MAX, false)?
            .into_iter()
            .collect();
        let bounds = (
            Bound::Included((table, from.to_vec())),
            Bound::Excluded((table, to.to_vec())),
        );
        for ((_, key), change) in self.batch.changes.range(bounds) {
            match change {
                Some(value) => merged.insert(key.clone(), value.clone()),
                None => merged.remove(key),
            };
        }
        Ok(if descending {
            merged.into_iter().rev().take(limit).collect()
        } else {
            merged.into_iter().take(limit).collect()
        })
    }

    fn body(&self, hash: &BlockHash) -> Result<Option<Vec<u8>>, StoreError> {
        match self.batch.bodies.iter().find(|(found, _)| found == hash) {
            Some((_, body)) => Ok(Some(body.clone())),
            None => self.base.body(hash),
        }
    }
}

impl NodeSource for Overlay<'_> {
    fn node(&self, key: &[u8]) -> Result<Option<Vec<u8>>, String> {
        self.get(Table::StateNodes, key)
            .map_err(|error| error.to_string())
    }
}
