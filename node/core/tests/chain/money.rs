//! What a node makes of the limits on money and accounts (protocol §4, §5): more money than one
//! account can hold stops no node, and no template breaks a limit.

use std::sync::Arc;

use pithead_consensus::check::TransactionError;
use pithead_consensus::genesis::GenesisFile;
use pithead_consensus::{Address, Amount, SignedTransaction};
use pithead_core::mempool::RejectReason;
use pithead_core::node::{
    Answer, BlockVerdict, Event, Node, RejectedTransaction, TransactionVerdict,
};
use pithead_core::template::BlockTemplate;
use pithead_testkit::chain::{easy_network, mine};
use pithead_testkit::nodes::{
    GENESIS_TIME, NOW, branch, empty, file, give, give_all, memory, open,
};
use pithead_testkit::{FEE, PIT, grains, key};

const MOST: u64 = Amount::MAX_MONEY.grains();

fn submit(
    node: &mut Node,
    transaction: &SignedTransaction,
) -> Result<TransactionVerdict, RejectReason> {
    let event = Event::Transaction(Box::new(transaction.clone()));
    match node.handle(event, NOW).0 {
        Answer::Transaction(Ok(verdict)) => Ok(verdict),
        Answer::Transaction(Err(RejectedTransaction::Rule(reason))) => Err(reason),
        other => panic!("{other:?}"),
    }
}

/// A template with everything that is pending.
fn fresh(node: &mut Node) -> Arc<BlockTemplate> {
    match node.handle(Event::FreshTemplate, NOW).0 {
        Answer::Template(Ok(template)) => template,
        other => panic!("{other:?}"),
    }
}

/// Mines a block of the node's own template, which the node must accept.
fn mine_next(node: &mut Node, reward: Address) -> Arc<BlockTemplate> {
    let template = fresh(node);
    let commitment = template.commitment(reward, [0; 8]);
    let mut header = template.header(&commitment);
    mine(&mut header);
    let block = template.block(header, commitment);
    assert_eq!(give(node, &block, NOW).unwrap(), BlockVerdict::NewTip);
    template
}

fn balance(node: &Node, index: usize) -> Amount {
    let snapshot = node.chain().store().snapshot().unwrap();
    let account =
        pithead_core::store::schema::account(snapshot.as_ref(), &key(index).address).unwrap();
    account.balance
}

/// All the money that allocations may give out: key 3 has all but the 100 PIT of key 0.
fn all_the_money(maturity: u32) -> GenesisFile {
    let allocations = [
        (key(0).address, 100 * PIT),
        (key(3).address, MOST - 100 * PIT),
    ];
    GenesisFile {
        time: GENESIS_TIME,
        half_life_secs: 86_400,
        ..easy_network(&allocations, maturity)
    }
}

#[test]
fn a_node_mines_on_when_the_supply_exceeds_what_an_account_can_hold() {
    for maturity in [0, 2] {
        let genesis = all_the_money(maturity).check().unwrap();
        let mut node = open(&memory(), &genesis, NOW);
        for _ in 0..6 {
            mine_next(&mut node, key(3).address);
        }
        assert_eq!(balance(&node, 3), Amount::MAX_MONEY);
        let supply = node.chain().tip().outcome.supply;
        assert_eq!(supply, u128::from(MOST + 100 * PIT), "the rest is burnt");
        // The others go on earning.
        for _ in 0..4 {
            mine_next(&mut node, key(1).address);
        }
        let earned = u64::from(4 - maturity) * 50 * PIT;
        assert_eq!(balance(&node, 1), grains(earned));
        let expected = u128::from(MOST + 100 * PIT + earned);
        assert_eq!(node.chain().tip().outcome.supply, expected);
    }
}

#[test]
fn a_payment_without_room_waits_until_its_account_has_room() {
    let genesis = all_the_money(0).check().unwrap();
    let hash = genesis.params.genesis_hash;
    let mut node = open(&memory(), &genesis, NOW);
    for _ in 0..2 {
        mine_next(&mut node, key(3).address);
    }
    assert_eq!(balance(&node, 3), Amount::MAX_MONEY);
    let pay = |from: usize, sequence, to: usize, amount| {
        key(from).pay(&hash, sequence, FEE, &[(key(to).address, amount)])
    };
    submit(&mut node, &pay(0, 0, 3, PIT)).unwrap();
    submit(&mut node, &pay(0, 1, 1, PIT)).unwrap();
    let template = mine_next(&mut node, key(2).address);
    assert!(template.transactions.is_empty(), "it and the one after it");
    assert_eq!(node.mempool().read().unwrap().len(), 2);
    // The account spends.
    submit(&mut node, &pay(3, 0, 1, 10 * PIT)).unwrap();
    let template = mine_next(&mut node, key(2).address);
    assert_eq!(template.transactions.len(), 1);
    let template = mine_next(&mut node, key(2).address);
    assert_eq!(template.transactions.len(), 2);
}

#[test]
fn a_template_changes_as_many_accounts_as_a_block_may() {
    let file = GenesisFile {
        max_account_changes: 258,
        ..file()
    };
    let genesis = file.check().unwrap();
    let hash = genesis.params.genesis_hash;
    let mut node = open(&memory(), &genesis, NOW);
    let pay = |from: usize, sequence, fee, outputs| {
        key(from).pay(&hash, sequence, fee, &vec![(key(3).address, 1); outputs])
    };
    // By fee rate: 256 accounts, 3 that have no room, 2 that fill the block.
    let largest = pay(0, 0, 200_000, 255);
    let middle = pay(1, 0, 2_000, 2);
    let ordinary = pay(2, 0, 1_000, 1);
    for transaction in [&ordinary, &middle, &largest] {
        submit(&mut node, transaction).unwrap();
    }
    let template = mine_next(&mut node, key(3).address);
    let fees = |template: &BlockTemplate| -> Vec<u64> {
        let all = template.transactions.iter();
        all.map(|each| each.body.fee.grains()).collect()
    };
    assert_eq!(fees(&template), [200_000, 1_000]);
    let template = mine_next(&mut node, key(3).address);
    assert_eq!(fees(&template), [2_000]);
}

#[test]
fn a_payment_that_is_too_small_to_open_an_account_is_refused() {
    let genesis = file().check().unwrap();
    let hash = genesis.params.genesis_hash;
    let mut node = open(&memory(), &genesis, NOW);
    let min = genesis.params.min_opening_amount;
    let pay = |outputs: &[_]| key(0).pay(&hash, 0, FEE, outputs);
    let (open, new) = ((key(1).address, 1), key(5).address);
    let refused = submit(&mut node, &pay(&[open, (new, min.grains() - 1)]));
    let error = TransactionError::OpeningTooSmall {
        index: 1,
        found: grains(min.grains() - 1),
        min,
    };
    assert_eq!(refused, Err(RejectReason::Rule(error)));
    let accepted = submit(&mut node, &pay(&[open, (new, min.grains())]));
    assert_eq!(accepted, Ok(TransactionVerdict::Accepted));
}

#[test]
fn a_small_payment_waits_when_a_reorganisation_closes_its_account() {
    let file = file();
    let genesis = file.check().unwrap();
    let hash = genesis.params.genesis_hash;
    let opening = key(0).pay(&hash, 0, FEE, &[(key(5).address, PIT)]);
    let small = key(1).pay(&hash, 0, 2 * FEE, &[(key(5).address, 1)]);
    let old = branch(&file, &[], &key(6).address, &[(vec![opening.clone()], 2)]);
    let new = branch(&file, &[], &key(7).address, &empty(2));
    let mut node = open(&memory(), &genesis, NOW);
    give_all(&mut node, &old, NOW);
    submit(&mut node, &small).unwrap();
    give_all(&mut node, &new, NOW);
    assert_eq!(node.chain().tip().height.0, 2);
    let template = mine_next(&mut node, key(6).address);
    assert_eq!(*template.transactions, [opening]);
    let template = mine_next(&mut node, key(6).address);
    assert_eq!(*template.transactions, [small]);
}

#[test]
fn a_fee_is_paid_for_every_account_that_a_transaction_changes() {
    let genesis = file().check().unwrap();
    let hash = genesis.params.genesis_hash;
    let mut node = open(&memory(), &genesis, NOW);
    let pay = |fee, outputs| key(0).pay(&hash, 0, fee, &vec![(key(1).address, 1); outputs]);
    // An ordinary payment pays for its bytes.
    let ordinary = pay(0, 1);
    assert_eq!(ordinary.body.weight(), ordinary.size());
    // A largest one pays for 256 accounts, which weigh more than its bytes.
    let weight = 256 * (2_000_000 / 12_000);
    assert!(weight > 3 * pay(0, 255).size() as u64);
    let refused = submit(&mut node, &pay(weight - 1, 255));
    let error = RejectReason::FeeTooLow {
        found: grains(weight - 1),
        weight: weight as usize,
        required: grains(weight),
    };
    assert_eq!(refused, Err(error));
    let accepted = submit(&mut node, &pay(weight, 255));
    assert_eq!(accepted, Ok(TransactionVerdict::Accepted));
}
