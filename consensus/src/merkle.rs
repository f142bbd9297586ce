//! Merkle trees over SHA-256 as RFC 6962 §2.1 defines them: leaves and nodes
//! have different prefixes and no leaf is ever duplicated (protocol §1).

use sha2::{Digest as _, Sha256};

use crate::hash::{Hash256, sha256};

/// Hash of a leaf: `SHA-256(0x00 ‖ bytes)`.
#[must_use]
pub fn leaf_hash(bytes: &[u8]) -> Hash256 {
    let mut hasher = Sha256::new();
    hasher.update([0x00]);
    hasher.update(bytes);
    Hash256(hasher.finalize().into())
}

/// Hash of an inner node: `SHA-256(0x01 ‖ left ‖ right)`.
#[must_use]
pub fn node_hash(left: &Hash256, right: &Hash256) -> Hash256 {
    let mut hasher = Sha256::new();
    hasher.update([0x01]);
    hasher.update(left.0);
    hasher.update(right.0);
    Hash256(hasher.finalize().into())
}

/// Root of the tree over leaf hashes; the empty tree's is SHA-256 of nothing.
///
/// RFC 6962 splits at the largest power of two below the size. This function pairs
/// neighbours level by level and carries an odd last node up unchanged. Both ways
/// build the same tree.
#[must_use]
pub fn root(leaves: &[Hash256]) -> Hash256 {
    let mut level = leaves.to_vec();
    while level.len() > 1 {
        level = next_level(&level);
    }
    level.first().copied().unwrap_or(Hash256(sha256(&[])))
}

/// Audit path of the leaf at `position` (RFC 6962 §2.1.1): the siblings from
/// the leaf up to the root. `None` if there is no such leaf.
#[must_use]
pub fn audit_path(leaves: &[Hash256], position: usize) -> Option<Vec<Hash256>> {
    if position >= leaves.len() {
        return None;
    }
    let mut path = Vec::new();
    let mut level = leaves.to_vec();
    let mut index = position;
    while level.len() > 1 {
        if let Some(sibling) = level.get(index ^ 1) {
            path.push(*sibling);
        }
        level = next_level(&level);
        index >>= 1;
    }
    Some(path)
}

/// The root that a leaf and its audit path lead to, in a tree of `size` leaves. It is
/// `None` if the path has the wrong length for that position.
#[must_use]
pub fn root_of_path(
    leaf: Hash256,
    position: usize,
    size: usize,
    path: &[Hash256],
) -> Option<Hash256> {
    if position >= size {
        return None;
    }
    let mut siblings = path.iter();
    let mut hash = leaf;
    let mut index = position;
    let mut last = size.checked_sub(1)?;
    while last > 0 {
        if index & 1 == 1 {
            hash = node_hash(siblings.next()?, &hash);
        } else if index < last {
            hash = node_hash(&hash, siblings.next()?);
        }
        index >>= 1;
        last >>= 1;
    }
    match siblings.next() {
        None => Some(hash),
        Some(_) => None,
    }
}

fn next_level(level: &[Hash256]) -> Vec<Hash256> {
    level
        .chunks(2)
        .filter_map(|pair| match pair {
            [left, right] => Some(node_hash(left, right)),
            [odd] => Some(*odd),
            _ => None,
        })
        .collect()
}
