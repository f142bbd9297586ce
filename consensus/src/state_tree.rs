//! The state tree: a sparse Merkle tree keyed by SHA-256(address) with the
//! value `balance ‖ sequence` (protocol §5).
//!
//! The tree is versioned. Each update writes new nodes and names the nodes that they
//! supersede. An older version stays readable until its nodes are pruned, and a
//! reorganisation goes back by dropping the newer versions. The `jmt` crate defines
//! the hashing and the layout of nodes; storage sees opaque bytes.

use borsh::BorshDeserialize as _;
use jmt::storage::{LeafNode, Node, NodeKey, TreeReader};
use jmt::{KeyHash, OwnedValue, Sha256Jmt};
use thiserror::Error;

use crate::address::Address;
use crate::hash::{Hash256, sha256};
use crate::state::Account;

/// Root of the tree without accounts.
pub const EMPTY_ROOT: Hash256 = Hash256(*b"SPARSE_MERKLE_PLACEHOLDER_HASH__");

/// Number of an update: 0 holds the allocations, each later one is one higher.
pub type TreeVersion = u64;

/// The tree could not be read: storage failed, or nodes are damaged. This is never a
/// verdict about a block (protocol §11, internal).
#[derive(Debug, Error)]
#[error("the state tree can't be read: {0}")]
pub struct StateTreeError(String);

/// The place where nodes are kept.
pub trait NodeSource {
    /// The node stored under a key; `None` if there is none.
    ///
    /// # Errors
    /// Text saying why storage could not answer.
    fn node(&self, key: &[u8]) -> Result<Option<Vec<u8>>, String>;
}

/// A new version of the tree, to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeUpdate {
    /// The root of this version. The next block's commitment carries it.
    pub root: Hash256,
    /// New nodes by key. Keys start with the version, big-endian.
    pub nodes: Vec<(Vec<u8>, Vec<u8>)>,
    /// Keys of nodes that this version no longer refers to.
    pub stale: Vec<Vec<u8>>,
}

/// Computes version `version` of the tree from the one below it.
///
/// `changes` are the accounts that changed. No account is ever removed, because a
/// reorganisation drops whole versions instead.
///
/// Version 0 starts from nothing. Any other version needs the root of the one below.
/// Without changes the root is copied to the new version.
///
/// # Errors
/// [`StateTreeError`] if the nodes of the version below can't be read.
pub fn update<'a>(
    source: &impl NodeSource,
    version: TreeVersion,
    changes: impl IntoIterator<Item = (&'a Address, &'a Account)>,
) -> Result<TreeUpdate, StateTreeError> {
    let values = changes
        .into_iter()
        .map(|(address, account)| (key_hash(address), Some(account.tree_value().to_vec())));
    let reader = Nodes(source);
    let tree = Sha256Jmt::new(&reader);
    // The `jmt` crate takes a missing root for an empty tree. It would return a
    // wrong root instead of a storage error.
    if let Some(below) = version.checked_sub(1) {
        tree.get_root_hash(below)
            .map_err(|error| StateTreeError(format!("{error:#}")))?;
    }
    let (root, batch) = tree
        .put_value_set(values, version)
        .map_err(|error| StateTreeError(format!("{error:#}")))?;
    let mut nodes = Vec::new();
    for (key, node) in batch.node_batch.nodes() {
        let bytes = borsh::to_vec(node).map_err(|error| StateTreeError(error.to_string()))?;
        nodes.push((node_key(key)?, bytes));
    }
    let stale = batch
        .stale_node_index_batch
        .iter()
        .map(|index| node_key(&index.node_key))
        .collect::<Result<_, _>>()?;
    Ok(TreeUpdate {
        root: Hash256(root.0),
        nodes,
        stale,
    })
}

/// Place of an account in the tree: SHA-256(address).
fn key_hash(address: &Address) -> KeyHash {
    KeyHash(sha256(&address.0))
}

/// Storage key of a node: its version big-endian, so that versions sort, then
/// its path.
fn node_key(key: &NodeKey) -> Result<Vec<u8>, StateTreeError> {
    let path =
        borsh::to_vec(key.nibble_path()).map_err(|error| StateTreeError(error.to_string()))?;
    let mut bytes = key.version().to_be_bytes().to_vec();
    bytes.extend_from_slice(&path);
    Ok(bytes)
}

struct Nodes<'a, S>(&'a S);

impl<S: NodeSource> TreeReader for Nodes<'_, S> {
    fn get_node_option(&self, key: &NodeKey) -> Result<Option<Node>, anyhow::Error> {
        let key = node_key(key)?;
        let Some(bytes) = self.0.node(&key).map_err(anyhow::Error::msg)? else {
            return Ok(None);
        };
        Ok(Some(Node::try_from_slice(&bytes)?))
    }

    fn get_value_option(
        &self,
        _max_version: u64,
        _key_hash: KeyHash,
    ) -> Result<Option<OwnedValue>, anyhow::Error> {
        // Updates read nodes only. The values are in the account table.
        Err(anyhow::Error::msg("values are not kept in the tree"))
    }

    fn get_rightmost_leaf(&self) -> Result<Option<(NodeKey, LeafNode)>, anyhow::Error> {
        Err(anyhow::Error::msg("the tree is not being restored"))
    }
}
