//! Errors that are structs, with one failure each.

use pithead_consensus::amount::AmountOutOfRangeError;
use pithead_consensus::hash::ParseHashError;
use pithead_consensus::state_tree;
use pithead_consensus::{Account, Amount, BlockHash, Hash256, Txid};

use pithead_testkit::chain::MemoryTree;
use pithead_testkit::{grains, key};

#[test]
fn rejects_amount_out_of_range() {
    let max = Amount::MAX_MONEY;
    let found = u128::from(max.grains()) + 1;
    let error = AmountOutOfRangeError { found };
    assert_eq!(Amount::from_grains(max.grains() + 1), Err(error.clone()));
    assert_eq!(Amount::from_grains(max.grains()), Ok(max));
    assert_eq!(Amount::sum([max, grains(1)]), Err(error));
    assert_eq!(max.checked_add(grains(1)), None);
    let many = AmountOutOfRangeError {
        found: u128::from(max.grains()) * 1_000,
    };
    assert_eq!(Amount::sum([max; 1_000]), Err(many));
}

#[test]
fn rejects_parse_hash() {
    let long = "ab".repeat(33);
    let words = "g".repeat(64);
    for found in ["", "ab", &long[..63], &long, &words] {
        let error = ParseHashError {
            found: found.to_owned(),
        };
        assert_eq!(found.parse::<Hash256>(), Err(error.clone()));
        assert_eq!(found.parse::<Txid>(), Err(error.clone()));
        assert_eq!(found.parse::<BlockHash>(), Err(error));
    }
}

#[test]
fn rejects_state_tree() {
    let account = Account {
        balance: grains(5),
        ..Account::default()
    };
    let changes = [(key(0).address, account)];
    let entries = || changes.iter().map(|(address, account)| (address, account));
    // If the version below is lost, that is a storage failure and not a verdict.
    let mut tree = MemoryTree::default();
    assert!(state_tree::update(&tree, 1, entries()).is_err());
    tree.update(0, &changes);
    assert!(state_tree::update(&tree, 1, entries()).is_ok());
    assert!(state_tree::update(&tree, 2, entries()).is_err());
    // A damaged node is a storage failure, too.
    for node in tree.nodes.values_mut() {
        node.clear();
    }
    assert!(state_tree::update(&tree, 1, entries()).is_err());
}
