//! Transactions that break a rule.

use std::collections::{BTreeMap, HashSet};

use pithead_consensus::check::{
    BlockError, CheckedTransaction, FailedTransaction, TransactionError, check_assembled,
    check_transaction,
};
use pithead_consensus::connect::{ConnectContext, check_signature, connect_block};
use pithead_consensus::genesis::Network;
use pithead_consensus::state_tree::EMPTY_ROOT;
use pithead_consensus::{
    Account, Accounts, Amount, ConsensusParams, Encode as _, SignedTransaction,
};

use pithead_testkit::{grains, key};

fn params() -> ConsensusParams {
    Network::Dev.genesis().unwrap().params
}

/// Key 0 pays key 1.
fn payment(sequence: u64, fee: u64, amount: u64) -> SignedTransaction {
    let outputs = [(key(1).address, amount)];
    key(0).pay(&params().genesis_hash, sequence, fee, &outputs)
}

fn account(balance: u64, sequence: u64) -> Account {
    Account {
        balance: grains(balance),
        sequence,
        key: (sequence > 0).then(|| key(0).public.clone()),
    }
}

fn account_of(balance: u64) -> Account {
    Account {
        balance: grains(balance),
        ..Account::default()
    }
}

/// Connects a block that holds this transaction alone. Key 1's account is open, too.
fn in_context(transaction: &SignedTransaction, account: &Account) -> Result<(), TransactionError> {
    let genesis = Network::Dev.genesis().unwrap();
    let mut block = genesis.block;
    block.transactions = vec![transaction.clone()];
    block.commitment.transactions_root = block.transactions_root();
    block.header.merkle_root = block.commitment.merkle_root();
    let context = ConnectContext {
        params: &genesis.params,
        parent_time: block.header.time,
        state_root: EMPTY_ROOT,
        matured_reward: None,
    };
    let accounts = Accounts(BTreeMap::from([
        (key(0).address, account.clone()),
        (key(1).address, account_of(1)),
    ]));
    let checked = CheckedTransaction::new(&genesis.params, transaction.clone());
    let checked = checked.map_err(|failed| failed.error)?;
    let connected = check_assembled(&genesis.params, block.header, block.commitment, &[&checked])
        .and_then(|checked| connect_block(&context, &checked, &accounts, &HashSet::new()));
    match connected {
        Ok(_) => Ok(()),
        Err(BlockError::Transaction { index: 0, error }) => Err(error),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn rejects_no_outputs() {
    let transaction = key(0).pay(&params().genesis_hash, 0, 1, &[]);
    assert_eq!(
        check_transaction(&transaction),
        Err(TransactionError::NoOutputs)
    );
}

#[test]
fn rejects_zero_output() {
    let outputs = [(key(1).address, 5), (key(2).address, 0)];
    let transaction = key(0).pay(&params().genesis_hash, 0, 1, &outputs);
    let error = TransactionError::ZeroOutput { index: 1 };
    assert_eq!(check_transaction(&transaction), Err(error));
}

#[test]
fn rejects_total_out_of_range() {
    let max = Amount::MAX_MONEY.grains();
    let error = Err(TransactionError::TotalOutOfRange);
    assert_eq!(check_transaction(&payment(0, 1, max)), error);
    assert_eq!(check_transaction(&payment(0, 0, max)), Ok(()));
    // A 64-bit sum of so many outputs would wrap round.
    let outputs = [(key(1).address, max); 100];
    let transaction = key(0).pay(&params().genesis_hash, 0, 1, &outputs);
    assert_eq!(check_transaction(&transaction), error);
}

#[test]
fn rejects_key_missing() {
    let mut transaction = payment(0, 1, 1);
    transaction.key = None;
    assert_eq!(
        check_transaction(&transaction),
        Err(TransactionError::KeyMissing)
    );
}

#[test]
fn rejects_key_superfluous() {
    let mut transaction = payment(7, 1, 1);
    transaction.key = Some(key(0).public.clone());
    let error = TransactionError::KeySuperfluous { sequence: 7 };
    assert_eq!(check_transaction(&transaction), Err(error));
}

#[test]
fn rejects_key_not_senders() {
    let mut transaction = payment(0, 1, 1);
    transaction.key = Some(key(2).public.clone());
    let error = TransactionError::KeyNotSenders {
        sender: key(0).address,
        key_address: key(2).address,
    };
    assert_eq!(check_transaction(&transaction), Err(error));
}

#[test]
fn rejects_wrong_sequence() {
    for (found, expected) in [(0, 1), (1, 0), (5, 4), (4, u64::MAX)] {
        let error = TransactionError::WrongSequence { found, expected };
        let transaction = payment(found, 1, 1);
        assert_eq!(
            in_context(&transaction, &account(100, expected)),
            Err(error)
        );
    }
}

#[test]
fn rejects_insufficient_balance() {
    let transaction = payment(0, 10, 90);
    assert_eq!(in_context(&transaction, &account(100, 0)), Ok(()));
    let error = TransactionError::InsufficientBalance {
        needed: grains(100),
        balance: grains(99),
    };
    assert_eq!(in_context(&transaction, &account(99, 0)), Err(error));
}

#[test]
fn rejects_opening_too_small() {
    let min = params().min_opening_amount;
    let pay = |outputs: &[_]| key(0).pay(&params().genesis_hash, 0, 1, outputs);
    let (open, new) = (key(1).address, key(2).address);
    let account = account(100_000, 0);
    let least = min.grains();
    let allowed: [&[_]; 4] = [
        &[(new, least)],
        &[(open, 1)],
        &[(new, least), (new, 1)],
        &[(key(0).address, 1)],
    ];
    for outputs in allowed {
        assert_eq!(in_context(&pay(outputs), &account), Ok(()), "{outputs:?}");
    }
    let too_small: [(&[_], usize, u64); 3] = [
        (&[(new, least - 1)], 0, least - 1),
        (&[(open, 1), (new, 1)], 1, 1),
        (&[(new, 1), (new, least)], 0, 1),
    ];
    for (outputs, index, found) in too_small {
        let error = TransactionError::OpeningTooSmall {
            index,
            found: grains(found),
            min,
        };
        assert_eq!(in_context(&pay(outputs), &account), Err(error));
    }
}

#[test]
fn rejects_bad_signature() {
    let bad = Err(TransactionError::BadSignature);
    let good = payment(3, 1, 1);
    let account = account(100, 3);
    assert_eq!(in_context(&good, &account), Ok(()));

    let mut altered = good.clone();
    altered.body.outputs[0].amount = grains(2);
    assert_eq!(in_context(&altered, &account), bad);

    let mut damaged = good.clone();
    damaged.signature.0[0] ^= 1;
    assert_eq!(in_context(&damaged, &account), bad);

    let other_key = Account {
        key: Some(key(1).public.clone()),
        ..account.clone()
    };
    assert_eq!(in_context(&good, &other_key), bad);
    assert_eq!(
        check_signature(&params(), &good, None),
        bad,
        "no key on record"
    );

    // The same payment, signed for another chain.
    let elsewhere = Network::Main.genesis().unwrap().params.genesis_hash;
    let replayed = key(0).pay(&elsewhere, 3, 1, &[(key(1).address, 1)]);
    assert_eq!(in_context(&replayed, &account), bad);
}

#[test]
fn a_checked_transaction_carries_what_its_check_computed() {
    let transaction = payment(0, 1, 5);
    let checked = CheckedTransaction::new(&params(), transaction.clone()).unwrap();
    assert_eq!(checked.transaction(), &transaction);
    assert_eq!(checked.encoded(), transaction.encode());
    assert_eq!(checked.size(), transaction.size());
    assert_eq!(checked.txid(), transaction.txid(&params().genesis_hash));
    assert_eq!(checked.leaf_hash(), transaction.leaf_hash());
    assert_eq!(Some(checked.total()), transaction.body.total());

    // A forged copy has the same txid. It is checked all the same, and has another leaf.
    let mut forged = transaction.clone();
    *forged.signature.0 = [7; 256];
    let forged = CheckedTransaction::new(&params(), forged).unwrap();
    assert_eq!(forged.txid(), checked.txid());
    assert_ne!(forged.leaf_hash(), checked.leaf_hash());

    // One that lacks the key does not pass, and still has that txid.
    let mut keyless = transaction;
    keyless.key = None;
    let failed = FailedTransaction {
        txid: checked.txid(),
        error: TransactionError::KeyMissing,
    };
    assert_eq!(CheckedTransaction::new(&params(), keyless), Err(failed));
}
