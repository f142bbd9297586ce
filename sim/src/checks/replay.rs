//! Checks of what nodes have stored: replays of whole chains, and at the end of a run a
//! comparison of all nodes' tables.
//!
//! Start reading at [`Simulation::check_end`].

use std::collections::BTreeMap;

use pithead_consensus::BlockHash;
use pithead_core::chain::verify;
use pithead_core::store::{Store, StoreError, Table};
use sha2::{Digest as _, Sha256};

use crate::violation::Violation;
use crate::world::Simulation;

/// How many nodes' chains are replayed at the end. The tables of all other nodes are
/// compared with theirs.
const REPLAYS_AT_END: usize = 3;

impl Simulation {
    /// Replays a node's whole chain from the genesis.
    pub(crate) fn replay(&mut self, index: usize) -> Result<(), Violation> {
        self.progress.replays += 1;
        let store = &self.nodes[index].store;
        match verify(store.as_ref(), &self.genesis, |_, _| {}) {
            Ok(_) => Ok(()),
            Err(error) => {
                let what = format!("its chain differs from its replay: {error}");
                Err(self.violation(Some(index), what))
            }
        }
    }

    /// The checks at the end of a run. All honest nodes with the same tip must hold the
    /// same state, byte by byte, and some of them must have it by a replay.
    pub(crate) fn check_end(&mut self) -> Result<(), Violation> {
        self.check_memory()?;
        self.check_finality_at_end()?;
        self.check_condemned()?;
        let honest: Vec<usize> = (0..self.nodes.len())
            .filter(|index| self.nodes[*index].is_honest())
            .collect();
        for index in honest.iter().take(REPLAYS_AT_END) {
            self.replay(*index)?;
        }
        let mut first: BTreeMap<Option<BlockHash>, [u8; 32]> = BTreeMap::new();
        for index in honest {
            let node = &self.nodes[index];
            let tip = node.tip().map(|(hash, _)| hash);
            let state = best_chain_state(node.store.as_ref());
            let state = state.map_err(|error| self.storage_failed(index, &error))?;
            if *first.entry(tip).or_insert(state) != state {
                let what = "its tables differ from those of the other nodes";
                return Err(self.violation(Some(index), what));
            }
            let usage = node.core.as_ref().map(|core| core.sync_usage());
            if usage.is_some_and(|usage| usage.bodies > 0 || usage.body_bytes > 0) {
                let what = "it still holds block bodies that it will never connect";
                return Err(self.violation(Some(index), what));
            }
        }
        Ok(())
    }
}

/// A hash of all tables that follow from the best chain alone.
fn best_chain_state(store: &dyn Store) -> Result<[u8; 32], StoreError> {
    let snapshot = store.snapshot()?;
    let mut hasher = Sha256::new();
    for table in [
        Table::BestChain,
        Table::Undo,
        Table::Accounts,
        Table::StateNodes,
        Table::StaleNodes,
        Table::Transactions,
        Table::AccountTransactions,
    ] {
        let all = snapshot.range(table, &[], &[0xff; 128], usize::MAX, false)?;
        hasher.update((all.len() as u64).to_le_bytes());
        for (key, value) in all {
            hasher.update((key.len() as u64).to_le_bytes());
            hasher.update(&key);
            hasher.update((value.len() as u64).to_le_bytes());
            hasher.update(&value);
        }
    }
    Ok(hasher.finalize().into())
}
