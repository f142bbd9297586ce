//! RFC 6962 trees: the values published with certificate transparency, and roots and
//! audit paths against the RFC's recursive definition.

use pithead_consensus::Hash256;
use pithead_consensus::hash::sha256;
use pithead_consensus::merkle::{audit_path, leaf_hash, node_hash, root, root_of_path};

/// The inputs of the certificate-transparency reference tests.
const LEAVES: [&str; 8] = [
    "",
    "00",
    "10",
    "2021",
    "3031",
    "40414243",
    "5051525354555657",
    "606162636465666768696a6b6c6d6e6f",
];

/// The published roots over the first 0, 1, 2 … of them.
const ROOTS: [&str; 9] = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
];

/// MTH of RFC 6962 §2.1, word for word.
fn mth(leaves: &[Hash256]) -> Hash256 {
    match leaves {
        [] => Hash256(sha256(b"")),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(split(leaves.len()));
            node_hash(&mth(left), &mth(right))
        }
    }
}

/// PATH of RFC 6962 §2.1.1, word for word.
fn path(position: usize, leaves: &[Hash256]) -> Vec<Hash256> {
    if leaves.len() <= 1 {
        return Vec::new();
    }
    let k = split(leaves.len());
    let (left, right) = leaves.split_at(k);
    let (mut below, sibling) = if position < k {
        (path(position, left), mth(right))
    } else {
        (path(position - k, right), mth(left))
    };
    below.push(sibling);
    below
}

/// The largest power of two below `size`.
fn split(size: usize) -> usize {
    size.next_power_of_two() / 2
}

fn leaves(count: usize) -> Vec<Hash256> {
    (0..count).map(|i| leaf_hash(&i.to_le_bytes())).collect()
}

#[test]
fn gives_the_published_roots() {
    let leaves: Vec<Hash256> = LEAVES
        .iter()
        .map(|leaf| leaf_hash(&hex::decode(leaf).unwrap()))
        .collect();
    for (count, expected) in ROOTS.iter().enumerate() {
        assert_eq!(root(&leaves[..count]).to_string(), *expected);
    }
}

#[test]
fn agrees_with_the_recursive_definition() {
    for size in 0..=70 {
        let leaves = leaves(size);
        assert_eq!(root(&leaves), mth(&leaves), "size {size}");
        for (position, leaf) in leaves.iter().enumerate() {
            let audit = audit_path(&leaves, position).unwrap();
            assert_eq!(audit, path(position, &leaves), "{position} of {size}");
            let reached = root_of_path(*leaf, position, size, &audit);
            assert_eq!(reached, Some(root(&leaves)), "{position} of {size}");
        }
        assert_eq!(audit_path(&leaves, size), None);
    }
}

#[test]
fn a_wrong_path_does_not_reach_the_root() {
    for size in 2..=17 {
        let leaves = leaves(size);
        let root = root(&leaves);
        for (position, leaf) in leaves.iter().enumerate() {
            let audit = audit_path(&leaves, position).unwrap();
            let reaches = |leaf: Hash256, position: usize, path: &[Hash256]| {
                root_of_path(leaf, position, size, path) == Some(root)
            };
            assert!(!reaches(leaf_hash(b"another"), position, &audit));
            assert!(!reaches(*leaf, (position + 1) % size, &audit));
            assert!(!reaches(*leaf, size, &audit));
            assert!(!reaches(*leaf, position, &audit[1..]));
            let mut longer = audit.clone();
            longer.push(root);
            assert!(!reaches(*leaf, position, &longer));
            let mut altered = audit;
            altered[0].0[0] ^= 1;
            assert!(!reaches(*leaf, position, &altered));
        }
    }
}

#[test]
fn no_leaf_counts_twice() {
    // The flaw of Bitcoin's trees: [a, b, c] and [a, b, c, c] share a root.
    let three = leaves(3);
    let mut four = three.clone();
    four.push(three[2]);
    assert_ne!(root(&three), root(&four));
}
