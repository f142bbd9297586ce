//! Blocks that break a rule, and which of them condemn their header.

use std::collections::HashSet;

use pithead_consensus::check::{BlockError, HeaderError, TransactionError, check_block};
use pithead_consensus::connect::connect_block;
use pithead_consensus::{Address, Amount, Block, Hash256, SignedTransaction};

use pithead_testkit::chain::{SmallChain, easy_network, mine};
use pithead_testkit::{grains, key};

const PIT: u64 = 100_000_000;

fn chain() -> SmallChain {
    SmallChain::new(&easy_network(&[(key(0).address, 100 * PIT)], 0))
}

fn payment(chain: &SmallChain, sequence: u64) -> SignedTransaction {
    let genesis = chain.genesis.params.genesis_hash;
    key(0).pay(&genesis, sequence, 1_000, &[(key(1).address, PIT)])
}

fn block(chain: &SmallChain) -> Block {
    chain.assemble(vec![payment(chain, 0)], key(2).address, 2)
}

/// Makes header and commitment fit again after a change of the commitment.
fn seal(block: &mut Block) {
    block.header.merkle_root = block.commitment.merkle_root();
    mine(&mut block.header);
}

#[test]
fn rejects_header() {
    let mut chain = chain();
    let mut block = block(&chain);
    block.header.version = 1;
    let error = BlockError::Header(HeaderError::BadVersion { found: 1 });
    assert!(error.condemns_header());
    assert_eq!(chain.connect(block), Err(error));
}

#[test]
fn rejects_commitment_mismatch() {
    let mut chain = chain();
    let mut block = block(&chain);
    block.commitment.extra_nonce[0] ^= 1;
    let error = BlockError::CommitmentMismatch {
        found: block.commitment.merkle_root(),
        expected: block.header.merkle_root,
    };
    assert!(
        !error.condemns_header(),
        "the header may be another block's"
    );
    assert_eq!(chain.connect(block), Err(error));
}

#[test]
fn rejects_transactions_root_mismatch() {
    let mut chain = chain();
    let good = block(&chain);
    let mut mutated = good.clone();
    mutated.transactions.push(payment(&chain, 1));
    let error = BlockError::TransactionsRootMismatch {
        found: mutated.transactions_root(),
        expected: good.commitment.transactions_root,
    };
    assert!(
        !error.condemns_header(),
        "the header may be another block's"
    );
    assert_eq!(chain.connect(mutated), Err(error));

    // Signatures are randomised, so another good signature makes another body.
    let mut resigned = good.clone();
    resigned.transactions[0] = payment(&chain, 0);
    assert!(matches!(
        chain.connect(resigned),
        Err(BlockError::TransactionsRootMismatch { .. })
    ));
    assert!(chain.connect(good).is_ok());
}

#[test]
fn rejects_too_large() {
    let chain = chain();
    let mut params = chain.genesis.params.clone();
    let block = block(&chain);
    let size = block.size();
    params.max_block_bytes = u32::try_from(size).unwrap();
    assert!(check_block(&params, block.clone()).is_ok());
    params.max_block_bytes -= 1;
    let error = BlockError::TooLarge {
        found: size,
        max: params.max_block_bytes,
    };
    assert!(error.condemns_header());
    assert_eq!(check_block(&params, block), Err(error));
}

#[test]
fn rejects_transaction() {
    let mut chain = chain();
    // A fault by itself, in context, and of the signature: each names its position.
    let genesis = chain.genesis.params.genesis_hash;
    let mut forged = payment(&chain, 1);
    forged.signature.0[9] ^= 1;
    let cases = [
        (key(0).pay(&genesis, 1, 1, &[]), TransactionError::NoOutputs),
        (
            payment(&chain, 0),
            TransactionError::WrongSequence {
                found: 0,
                expected: 1,
            },
        ),
        (forged, TransactionError::BadSignature),
    ];
    for (second, error) in cases {
        let block = chain.assemble(vec![payment(&chain, 0), second], key(2).address, 2);
        let error = BlockError::Transaction { index: 1, error };
        assert!(error.condemns_header());
        assert_eq!(chain.connect(block), Err(error));
    }
}

#[test]
fn rejects_state_root_mismatch() {
    let mut chain = chain();
    let mut block = block(&chain);
    let expected = block.commitment.state_root;
    let found = Hash256([7; 32]);
    block.commitment.state_root = found;
    seal(&mut block);
    let error = BlockError::StateRootMismatch { found, expected };
    assert!(error.condemns_header());
    assert_eq!(chain.connect(block), Err(error));
}

#[test]
fn rejects_too_many_account_changes() {
    // A largest transaction changes as many accounts as the least limit: its sender's and 255.
    let mut file = easy_network(&[(key(0).address, 100 * PIT), (key(1).address, PIT)], 0);
    file.max_account_changes = 256;
    let mut chain = SmallChain::new(&file);
    let genesis = chain.genesis.params.genesis_hash;
    // Outputs to one account count one by one.
    let largest = key(0).pay(&genesis, 0, 1_000, &[(key(1).address, 1); 255]);
    let more = key(1).pay(&genesis, 0, 0, &[(key(1).address, 1)]);
    let block = chain.assemble(vec![largest.clone(), more], key(2).address, 2);
    let error = BlockError::TooManyAccountChanges {
        found: 258,
        max: 256,
    };
    assert!(error.condemns_header());
    assert_eq!(chain.connect(block), Err(error));
    // The reward's account counts nothing.
    let block = chain.assemble(vec![largest], key(2).address, 2);
    assert!(chain.connect(block).is_ok());
}

/// An account, and another that has all the money there can be but 10 PIT.
fn nearly_all() -> [(Address, u64); 2] {
    let most = Amount::MAX_MONEY.grains();
    [(key(0).address, PIT), (key(3).address, most - 10 * PIT)]
}

#[test]
fn rejects_balance_out_of_range() {
    let address = key(3).address;
    let mut chain = SmallChain::new(&easy_network(&nearly_all(), 0));
    let genesis = chain.genesis.params.genesis_hash;
    // This reward makes more money than one account can hold.
    let block = chain.assemble(Vec::new(), key(0).address, 2);
    chain.connect(block).unwrap();
    let pay = |amount| key(0).pay(&genesis, 0, 0, &[(address, amount)]);
    let block = chain.assemble(vec![pay(10 * PIT + 1)], key(2).address, 2);
    let error = BlockError::BalanceOutOfRange { address };
    assert!(error.condemns_header());
    assert_eq!(chain.connect(block), Err(error));
    let block = chain.assemble(vec![pay(10 * PIT)], key(2).address, 2);
    assert!(chain.connect(block).is_ok());
}

#[test]
fn a_reward_is_never_out_of_range() {
    let address = key(3).address;
    for maturity in [0, 1, 3] {
        let mut chain = SmallChain::new(&easy_network(&nearly_all(), maturity));
        for _ in 0..6 {
            let block = chain.assemble(Vec::new(), address, 2);
            chain.connect(block).unwrap();
        }
        assert_eq!(chain.accounts.get(&address).balance, Amount::MAX_MONEY);
        let paid = 6 - u128::from(maturity);
        let pit = u128::from(PIT);
        assert_eq!(chain.burnt(), paid * 50 * pit - 10 * pit);
        // An account that has given money away has room again.
        let genesis = chain.genesis.params.genesis_hash;
        let gift = key(3).pay(&genesis, 0, 0, &[(key(0).address, 60 * PIT)]);
        let block = chain.assemble(vec![gift], key(2).address, 2);
        let burnt = chain.connect(block).unwrap().burnt;
        assert_eq!(burnt, grains(0), "with a maturity of {maturity}");
    }
}

#[test]
fn a_reward_is_at_most_all_the_money_there_can_be() {
    let most = Amount::MAX_MONEY.grains();
    let allocations = [(key(0).address, most)];
    for maturity in [0, 1] {
        let mut chain = SmallChain::new(&easy_network(&allocations, maturity));
        let genesis = chain.genesis.params.genesis_hash;
        // The fee is all but a grain; subsidy and fee together exceed the limit.
        let all = key(0).pay(&genesis, 0, most - 10_000, &[(key(1).address, 10_000)]);
        let block = chain.assemble(vec![all], key(2).address, 2);
        assert_eq!(
            chain.connect(block).unwrap().reward.amount,
            Amount::MAX_MONEY
        );
    }
}

#[test]
fn verified_signatures_are_not_checked_again() {
    let chain = chain();
    let mut forged = payment(&chain, 0);
    forged.signature.0[9] ^= 1;
    let leaf = forged.leaf_hash();
    let block = chain.assemble(vec![forged], key(2).address, 2);
    let checked = chain.check(block).unwrap();
    let connect = |verified: &HashSet<Hash256>| {
        connect_block(&chain.context(), &checked, &chain.accounts, verified)
    };
    assert!(connect(&HashSet::new()).is_err());
    let connected = connect(&HashSet::from([leaf])).unwrap();
    assert_eq!(connected.fees, grains(1_000));
}
