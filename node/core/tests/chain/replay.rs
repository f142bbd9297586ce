//! `--verify` finds what was altered in a store: it replays every block from the genesis and
//! compares what it gets with what is stored, so an operator can trust a store that passes.

use pithead_consensus::{Amount, Block, BlockHash, Encode as _, Genesis, Hash256, Work};
use pithead_core::chain::{VerifyError, verify};
use pithead_core::store::schema::{self, ChainEntry};
use pithead_core::store::{Batch, Snapshot, StoreError, Table};
use pithead_testkit::key;
use pithead_testkit::nodes::{NOW, file, give_all, memory, open};

use super::reorganisation::two_branches;

/// A store with three blocks, and what a replay makes of it once it is altered.
struct Altered {
    genesis: Genesis,
    blocks: Vec<Block>,
}

impl Altered {
    fn new() -> Self {
        Self {
            genesis: file().check().unwrap(),
            blocks: two_branches().0,
        }
    }

    /// The hash of the second block.
    fn second(&self) -> BlockHash {
        self.blocks[1].header.hash()
    }

    /// What a replay says of a store that was sound until this alteration.
    fn error(&self, alter: impl Fn(&dyn Snapshot, &mut Batch)) -> VerifyError {
        let store = memory();
        give_all(&mut open(&store, &self.genesis, NOW), &self.blocks, NOW);
        verify(store.as_ref(), &self.genesis, |_, _| {}).unwrap();
        let mut batch = Batch::default();
        alter(store.snapshot().unwrap().as_ref(), &mut batch);
        store.commit(&batch).unwrap();
        verify(store.as_ref(), &self.genesis, |_, _| {}).unwrap_err()
    }

    /// The same for a change to the second block's entry.
    fn entry_error(&self, change: impl Fn(&mut ChainEntry)) -> VerifyError {
        let hash = self.second();
        self.error(|from, batch| {
            let mut entry = schema::expect_entry(from, &hash).unwrap();
            change(&mut entry);
            batch.put(Table::Entries, hash.0, entry.encode());
        })
    }
}

#[test]
fn a_replay_finds_altered_accounts() {
    let altered = Altered::new();
    let error = altered.error(|from, batch| {
        let address = key(4).address;
        let mut account = schema::account(from, &address).unwrap();
        account.balance = account
            .balance
            .checked_add(Amount::from_grains(1).unwrap())
            .unwrap();
        batch.put(Table::Accounts, address.0, account.encode());
    });
    assert!(
        matches!(error, VerifyError::AccountsDiffer { .. }),
        "{error}"
    );
    let error = altered.error(|_, batch| batch.delete(Table::Accounts, key(4).address.0));
    assert!(
        matches!(error, VerifyError::AccountsDiffer { .. }),
        "{error}"
    );
}

#[test]
fn a_replay_finds_altered_entries() {
    let altered = Altered::new();
    let error = altered.entry_error(|entry| entry.outcome.state_root = Hash256([9; 32]));
    assert!(
        matches!(
            error,
            VerifyError::Differs {
                what: "state root",
                ..
            }
        ),
        "{error}"
    );
    let error = altered.entry_error(|entry| entry.outcome.supply = 0);
    assert!(matches!(error, VerifyError::Differs { .. }), "{error}");
    let error = altered.entry_error(|entry| entry.chain_work = Work::ZERO);
    assert!(
        matches!(
            error,
            VerifyError::Differs {
                what: "chain work",
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn a_replay_finds_altered_and_missing_blocks() {
    let altered = Altered::new();
    let error = altered.error(|_, batch| {
        let mut block = altered.blocks[1].clone();
        block.transactions.clear();
        batch.bodies.push((altered.second(), block.encode()));
    });
    assert!(matches!(error, VerifyError::BadBlock { .. }), "{error}");
    let error = altered.error(|_, batch| batch.delete(Table::BestChain, 2u64.to_be_bytes()));
    assert!(
        matches!(error, VerifyError::Store(StoreError::Damaged(_))),
        "{error}"
    );
}
