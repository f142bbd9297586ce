//! The state tree: its root depends on nothing but the state, and pruning leaves it
//! whole.

use std::collections::BTreeMap;

use pithead_consensus::hash::sha256;
use pithead_consensus::state_tree::{EMPTY_ROOT, update};
use pithead_consensus::{Account, Address};
use proptest::collection::vec;
use proptest::prelude::*;

use pithead_testkit::chain::MemoryTree;
use pithead_testkit::{grains, key};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The root depends on the state alone. Batches, order and earlier values do not
    /// change it.
    #[test]
    fn roots_do_not_depend_on_history(
        accounts in prop::collection::btree_map(
            any::<[u8; 32]>(), (0..1_000_000u64, any::<u64>()), 1..60),
        cuts in vec(any::<prop::sample::Index>(), 0..5),
        reverse: bool,
    ) {
        let mut accounts: Vec<(Address, Account)> = accounts
            .into_iter()
            .map(|(address, (balance, sequence))| {
                let balance = grains(balance);
                (Address(address), Account { balance, sequence, key: None })
            })
            .collect();
        let mut whole = MemoryTree::default();
        let expected = whole.update(0, &accounts);
        if reverse {
            accounts.reverse();
        }

        // Each account has another value first; then the batches follow.
        let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(accounts.len())).collect();
        places.extend([0, accounts.len()]);
        places.sort_unstable();
        let mut tree = MemoryTree::default();
        let older: Vec<_> = accounts
            .iter()
            .map(|(address, account)| {
                let sequence = account.sequence ^ 1;
                (*address, Account { sequence, ..account.clone() })
            })
            .collect();
        let older_root = tree.update(0, &older);
        let mut root = older_root;
        let mut version = 0;
        for pair in places.windows(2) {
            version += 1;
            root = tree.update(version, &accounts[pair[0]..pair[1]]);
        }
        prop_assert_eq!(root, expected);

        // Versions can be dropped and made again.
        let all = tree.clone();
        tree.drop_from(1);
        prop_assert_eq!(tree.update(1, &[]), older_root, "what is left is the first version");
        tree.drop_from(1);
        let mut version = 0;
        for pair in places.windows(2) {
            version += 1;
            root = tree.update(version, &accounts[pair[0]..pair[1]]);
        }
        prop_assert_eq!(root, expected);
        prop_assert_eq!(tree, all);
    }
}

#[test]
fn an_update_without_changes_copies_the_root() {
    let mut tree = MemoryTree::default();
    assert_eq!(tree.update(0, &[]), EMPTY_ROOT);
    assert_eq!(tree.update(1, &[]), EMPTY_ROOT);
    let account = Account {
        balance: grains(1),
        ..Account::default()
    };
    let root = tree.update(2, &[(key(0).address, account)]);
    assert_ne!(root, EMPTY_ROOT);
    let nothing: [(&Address, &Account); 0] = [];
    let empty = update(&tree, 3, nothing).unwrap();
    assert_eq!(empty.root, root);
    assert_eq!(empty.nodes.len(), 1, "the root of the new version");
    assert_eq!(empty.stale, Vec::<Vec<u8>>::new());
}

#[test]
fn pruning_stale_nodes_keeps_the_tree_whole() {
    let account = |balance| Account {
        balance: grains(balance),
        ..Account::default()
    };
    let address = |n: u64| Address(sha256(&n.to_le_bytes()));
    let mut kept = MemoryTree::default();
    let mut pruned = MemoryTree::default();
    for version in 0..20 {
        let changes: Vec<_> = (0..30)
            .map(|n| (address(n * 7 % (version + 3)), account(version * 100 + n)))
            .collect::<BTreeMap<_, _>>()
            .into_iter()
            .collect();
        let expected = kept.update(version, &changes);
        let step = update(&pruned, version, changes.iter().map(|(a, b)| (a, b))).unwrap();
        assert_eq!(step.root, expected);
        pruned.nodes.extend(step.nodes);
        for key in step.stale {
            assert!(pruned.nodes.remove(&key).is_some());
        }
    }
    assert!(pruned.nodes.len() < kept.nodes.len());
}
