//! Random chains of blocks: disconnecting is exact, and money is neither made nor
//! lost.

use std::collections::{BTreeMap, HashSet};

use pithead_consensus::check::{BlockError, TransactionError};
use pithead_consensus::connect::touched_addresses;
use pithead_consensus::state::UndoRecord;
use pithead_consensus::{Account, Address, Block, Decode as _, Encode as _, Hash256};
use proptest::collection::vec;
use proptest::prelude::*;

use pithead_testkit::chain::{MemoryTree, SmallChain, easy_network};
use pithead_testkit::{KEYS, grains, key};

const PIT: u64 = 100_000_000;
/// Keys that spend; the others only receive.
const SPENDERS: usize = 4;

/// A random payment: the sender's key number, the fee, and each recipient's key number
/// with an amount.
type Draw = (usize, u64, Vec<(usize, u64)>);

fn payments() -> impl Strategy<Value = Vec<Draw>> {
    // Amounts on both sides of what opens an account.
    let amount = prop_oneof![1..20_000u64, 10_000..3 * PIT];
    let outputs = vec((0..KEYS, amount), 1..4);
    vec((0..SPENDERS, 0..PIT, outputs), 0..5)
}

/// The next block with these payments. A payment may exceed the sender's balance; the
/// whole block is then refused.
fn next_block(chain: &SmallChain, payments: &[Draw], reward: usize, elapsed: u32) -> Block {
    let genesis = chain.genesis.params.genesis_hash;
    let mut sequences: BTreeMap<Address, u64> = BTreeMap::new();
    let transactions = payments
        .iter()
        .map(|(from, fee, outputs)| {
            let from = key(*from);
            let on_record = chain.accounts.get(&from.address).sequence;
            let sequence = sequences.entry(from.address).or_insert(on_record);
            let outputs: Vec<_> = outputs
                .iter()
                .map(|(to, amount)| (key(*to).address, *amount))
                .collect();
            let transaction = from.pay(&genesis, *sequence, *fee, &outputs);
            *sequence += 1;
            transaction
        })
        .collect();
    chain.assemble(transactions, key(reward).address, elapsed)
}

fn allocations() -> Vec<(Address, u64)> {
    (0..SPENDERS)
        .map(|index| (key(index).address, 20 * PIT))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn disconnecting_is_exact_and_money_is_conserved(
        blocks in vec((payments(), 0..KEYS, 0..5u32), 1..6),
        maturity in prop::sample::select(vec![0u32, 1, 2, 4]),
    ) {
        let mut chain = SmallChain::new(&easy_network(&allocations(), maturity));
        let mut before = Vec::new();
        for (payments, reward, elapsed) in &blocks {
            let state = (chain.accounts.clone(), chain.roots.clone());
            let block = next_block(&chain, payments, *reward, *elapsed);
            let touched = touched_addresses(&block, chain.matured_reward().as_ref());
            match chain.connect(block) {
                Ok(connected) => {
                    let changed: HashSet<_> = connected.change.0.keys().collect();
                    prop_assert!(changed.iter().all(|address| touched.contains(address)));
                    before.push(state);
                }
                // Only a low balance or a small opening can be the reason, and then nothing
                // has changed.
                Err(error) => {
                    let poor = matches!(
                        error,
                        BlockError::Transaction {
                            error: TransactionError::InsufficientBalance { .. }
                                | TransactionError::OpeningTooSmall { .. },
                            ..
                        }
                    );
                    prop_assert!(poor, "{}", error);
                    prop_assert_eq!(&(chain.accounts.clone(), chain.roots.clone()), &state);
                }
            }
            // §5: the difference is exactly the rewards that have not matured yet.
            prop_assert_eq!(
                chain.balances() + chain.unmatured() + chain.burnt(),
                chain.issued()
            );
            if maturity == 0 {
                prop_assert_eq!(chain.unmatured(), 0);
            }
        }
        while let Some(state) = before.pop() {
            chain.disconnect();
            prop_assert_eq!((chain.accounts.clone(), chain.roots.clone()), state);
        }
        prop_assert_eq!(chain.balances(), u128::from(20 * PIT) * SPENDERS as u128);
    }

    /// A block that was disconnected connects again with the same result, and
    /// so does another in its place.
    #[test]
    fn two_branches_do_not_mix(
        first in payments(),
        left in payments(),
        right in payments(),
    ) {
        let mut chain = SmallChain::new(&easy_network(&allocations(), 1));
        let first = next_block(&chain, &first, 5, 2);
        prop_assume!(chain.connect(first).is_ok());
        let left = next_block(&chain, &left, 6, 2);
        let right = next_block(&chain, &right, 7, 3);
        let apply = |chain: &mut SmallChain, block: &Block| {
            chain.connect(block.clone()).is_ok().then(|| {
                let state = (chain.accounts.clone(), chain.roots.clone());
                chain.disconnect();
                state
            })
        };
        let once = apply(&mut chain, &left);
        apply(&mut chain, &right);
        prop_assert_eq!(apply(&mut chain, &left), once);
    }
}

#[test]
fn a_sender_may_pay_itself() {
    let mut chain = SmallChain::new(&easy_network(&allocations(), 0));
    let genesis = chain.genesis.params.genesis_hash;
    let me = key(0);
    // It spends all that it has: to itself, and as a fee to the miner, which it is.
    let payment = me.pay(&genesis, 0, PIT, &[(me.address, 19 * PIT)]);
    let again = me.pay(&genesis, 1, 0, &[(me.address, 19 * PIT)]);
    let block = chain.assemble(vec![payment, again], me.address, 2);
    let connected = chain.connect(block).unwrap();
    assert_eq!(connected.fees, grains(PIT));
    let account = chain.accounts.get(&me.address);
    assert_eq!(account.sequence, 2);
    assert_eq!(account.balance, grains(20 * PIT + 50 * PIT));
    assert_eq!(account.key.as_ref(), Some(&me.public));
}

#[test]
fn an_emptied_account_keeps_its_sequence() {
    let mut chain = SmallChain::new(&easy_network(&allocations(), 0));
    let genesis = chain.genesis.params.genesis_hash;
    let all = key(0).pay(&genesis, 0, 0, &[(key(1).address, 20 * PIT)]);
    let block = chain.assemble(vec![all.clone()], key(2).address, 2);
    chain.connect(block).unwrap();
    let account = chain.accounts.get(&key(0).address);
    assert_eq!((account.balance, account.sequence), (grains(0), 1));
    // After it is paid again, its first payment can't be repeated.
    let refill = key(1).pay(&genesis, 0, 0, &[(key(0).address, 20 * PIT)]);
    let block = chain.assemble(vec![refill, all], key(2).address, 2);
    let error = BlockError::Transaction {
        index: 1,
        error: TransactionError::WrongSequence {
            found: 0,
            expected: 1,
        },
    };
    assert_eq!(chain.connect(block), Err(error));
}

#[test]
fn rewards_mature_on_time() {
    for maturity in [0, 1, 3] {
        let mut chain = SmallChain::new(&easy_network(&[], maturity));
        for height in 1..=6u64 {
            let block = chain.assemble(Vec::new(), key(0).address, 2);
            chain.connect(block).unwrap();
            let matured = height.saturating_sub(u64::from(maturity));
            let balance = chain.accounts.get(&key(0).address).balance;
            assert_eq!(balance, grains(matured * 50 * PIT), "height {height}");
        }
    }
}

#[test]
fn the_undo_record_survives_its_encoding() {
    let mut chain = SmallChain::new(&easy_network(&allocations(), 0));
    let genesis = chain.genesis.params.genesis_hash;
    let before = chain.accounts.clone();
    let payment = key(0).pay(&genesis, 0, 5, &[(key(6).address, PIT)]);
    let block = chain.assemble(vec![payment], key(7).address, 2);
    let undo = chain.connect(block).unwrap().change.undo_record();
    let stored = UndoRecord::decode(&undo.encode()).unwrap();
    let mut accounts = chain.accounts.clone();
    stored.disconnect(&mut accounts);
    assert_eq!(accounts, before, "the key is off the record again");
    assert_eq!(chain.roots[0], tree_root(&before.0));
}

fn tree_root(accounts: &BTreeMap<Address, Account>) -> Hash256 {
    let accounts: Vec<_> = accounts.clone().into_iter().collect();
    MemoryTree::default().update(0, &accounts)
}
