//! The content of the tables: typed keys and values over any [`Snapshot`]. Knows no rules. A
//! change of any layout here raises [`SCHEMA_VERSION`]. Start reading at [`ChainEntry`].

use pithead_consensus::connect::Reward;
use pithead_consensus::encoding::Reader;
use pithead_consensus::state::UndoRecord;
use pithead_consensus::state_tree::TreeVersion;
use pithead_consensus::{
    Account, Address, Amount, Block, BlockCommitment, BlockHash, BlockHeader, Decode, DecodeError,
    Encode, Hash256, Height, Txid, Work,
};

use super::{Batch, Overlay, Snapshot, StoreError, Table};

/// Version of this layout. A store with another version is refused at the start.
pub const SCHEMA_VERSION: u32 = 2;

/// Key in [`Table::Meta`] of the schema version.
pub const META_SCHEMA: &[u8] = b"schema";
/// Key in [`Table::Meta`] of the genesis hash.
pub const META_GENESIS: &[u8] = b"genesis";
/// Key in [`Table::Meta`] of the tip's hash.
pub const META_TIP: &[u8] = b"tip";
/// Key in [`Table::Meta`] of the last rank of arrival.
pub const META_ARRIVAL: &[u8] = b"arrival";
/// Key in [`Table::Meta`] of the state of [`Table::Staged`]; without it, that table is empty.
pub const META_STAGED: &[u8] = b"staged";
/// Key in [`Table::Meta`] of the height up to which undo records were dropped. It never goes down.
pub const META_PRUNED: &[u8] = b"pruned";
/// Key in [`Table::Meta`] of the ends of side branches, oldest first.
pub const META_LEAVES: &[u8] = b"leaves";

/// What the rows of [`Table::Staged`] are ([`super::staged`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Staging {
    /// Changes of a reorganisation from the tip to `target` that is being worked out.
    Building {
        /// The tip to be.
        target: BlockHash,
        /// How many blocks the rows disconnect and connect so far.
        done: u64,
    },
    /// Changes that are in force.
    Live,
    /// Changes of a reorganisation that was given up.
    Clearing,
}

/// How far the node has checked a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockStatus {
    /// Header and body pass every rule that needs no state; the block was never connected.
    Stored,
    /// The block was connected at least once, so every rule holds.
    Connected,
    /// The block or one of its ancestors breaks a rule.
    Invalid,
}

/// Everything that the store knows about a block besides its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainEntry {
    pub header: BlockHeader,
    pub commitment: BlockCommitment,
    pub height: Height,
    /// Work of the chain up to this block.
    pub chain_work: Work,
    /// Rank of arrival at this node: the first block stored after the genesis has 1.
    pub arrival: u64,
    pub status: BlockStatus,
    pub transaction_count: u32,
    /// Encoded size, bytes.
    pub size: u32,
    /// Zero until the block is connected.
    pub outcome: BlockOutcome,
}

/// The results of connecting a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BlockOutcome {
    /// Amount that the block newly issued.
    pub subsidy: Amount,
    pub fees: Amount,
    /// Sum of all balances after the block, grains. It may exceed [`Amount::MAX_MONEY`], which
    /// limits each balance only.
    pub supply: u128,
    /// Number of transactions on the chain up to this block.
    pub transactions_total: u64,
    /// Root of the state after the block.
    pub state_root: Hash256,
    /// Version of the state tree after the block.
    pub tree_version: TreeVersion,
}

impl ChainEntry {
    /// The block's hash, computed from its header.
    #[must_use]
    pub fn hash(&self) -> BlockHash {
        self.header.hash()
    }

    /// The miner's earnings from the block: subsidy and fees.
    #[must_use]
    pub fn reward(&self) -> Reward {
        Reward {
            address: self.commitment.reward_address,
            amount: self
                .outcome
                .subsidy
                .checked_add(self.outcome.fees)
                .unwrap_or(Amount::MAX_MONEY),
        }
    }
}

impl Encode for ChainEntry {
    fn encode_to(&self, out: &mut Vec<u8>) {
        self.header.encode_to(out);
        self.commitment.encode_to(out);
        out.extend_from_slice(&self.height.0.to_le_bytes());
        out.extend_from_slice(&self.chain_work.to_be_bytes());
        out.extend_from_slice(&self.arrival.to_le_bytes());
        out.push(match self.status {
            BlockStatus::Stored => 0,
            BlockStatus::Connected => 1,
            BlockStatus::Invalid => 2,
        });
        out.extend_from_slice(&self.transaction_count.to_le_bytes());
        out.extend_from_slice(&self.size.to_le_bytes());
        let outcome = &self.outcome;
        for amount in [outcome.subsidy, outcome.fees] {
            out.extend_from_slice(&amount.grains().to_le_bytes());
        }
        out.extend_from_slice(&outcome.supply.to_le_bytes());
        out.extend_from_slice(&outcome.transactions_total.to_le_bytes());
        out.extend_from_slice(&outcome.state_root.0);
        out.extend_from_slice(&outcome.tree_version.to_le_bytes());
    }
}

impl Decode for ChainEntry {
    fn decode_from(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            header: BlockHeader::decode_from(reader)?,
            commitment: BlockCommitment::decode_from(reader)?,
            height: Height(reader.u64("height")?),
            chain_work: Work::from_be_bytes(reader.array("chain work")?),
            arrival: reader.u64("arrival")?,
            status: match reader.u8("status")? {
                0 => BlockStatus::Stored,
                1 => BlockStatus::Connected,
                2 => BlockStatus::Invalid,
                other => {
                    return Err(DecodeError::BadValue {
                        field: "status",
                        found: u64::from(other),
                        expected: "0 to 2",
                    });
                }
            },
            transaction_count: reader.u32("transaction count")?,
            size: reader.u32("size")?,
            outcome: BlockOutcome {
                subsidy: reader.amount("subsidy")?,
                fees: reader.amount("fees")?,
                supply: u128::from_le_bytes(reader.array("supply")?),
                transactions_total: reader.u64("transactions total")?,
                state_root: Hash256(reader.array("state root")?),
                tree_version: reader.u64("tree version")?,
            },
        })
    }
}

/// Where a mined transaction is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Height of its block on the best chain.
    pub height: Height,
    /// Index in that block, from 0.
    pub position: u32,
}

impl Place {
    /// Height and position, big-endian, so that places sort.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 12] {
        let mut bytes = [0; 12];
        bytes[..8].copy_from_slice(&self.height.0.to_be_bytes());
        bytes[8..].copy_from_slice(&self.position.to_be_bytes());
        bytes
    }

    /// Reads [`Place::to_bytes`].
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (height, position) = bytes.split_first_chunk::<8>()?;
        Some(Self {
            height: Height(u64::from_be_bytes(*height)),
            position: u32::from_be_bytes(position.try_into().ok()?),
        })
    }
}

/// The key in [`Table::AccountTransactions`] of a transaction that an address is part of.
#[must_use]
pub fn account_transaction_key(address: &Address, place: Place) -> Vec<u8> {
    [address.0.as_slice(), &place.to_bytes()].concat()
}

fn decoded<T: Decode>(bytes: &[u8], what: impl std::fmt::Display) -> Result<T, StoreError> {
    T::decode(bytes).map_err(|error| StoreError::Damaged(format!("{what}: {error}")))
}

/// The entry of a block.
///
/// # Errors
/// [`StoreError`] if storage fails or is damaged.
pub fn entry(from: &dyn Snapshot, hash: &BlockHash) -> Result<Option<ChainEntry>, StoreError> {
    match from.get(Table::Entries, &hash.0)? {
        None => Ok(None),
        Some(bytes) => decoded(&bytes, format_args!("entry of block {hash}")).map(Some),
    }
}

/// The entry of a block that is known to be stored.
///
/// # Errors
/// [`StoreError::Damaged`] if it is missing.
pub fn expect_entry(from: &dyn Snapshot, hash: &BlockHash) -> Result<ChainEntry, StoreError> {
    entry(from, hash)?.ok_or_else(|| StoreError::Damaged(format!("entry of block {hash}: missing")))
}

/// The body of a block that is known to be stored.
///
/// # Errors
/// [`StoreError::Damaged`] if it is missing.
pub fn expect_block(from: &dyn Snapshot, hash: &BlockHash) -> Result<Block, StoreError> {
    let bytes = from
        .body(hash)?
        .ok_or_else(|| StoreError::Damaged(format!("body of block {hash}: missing")))?;
    decoded(&bytes, format_args!("body of block {hash}"))
}

/// The block at a height of the best chain.
///
/// # Errors
/// [`StoreError`] if storage fails or is damaged.
pub fn best_hash(from: &dyn Snapshot, height: Height) -> Result<Option<BlockHash>, StoreError> {
    match from.get(Table::BestChain, &height.0.to_be_bytes())? {
        None => Ok(None),
        Some(bytes) => hash_of(&bytes).map(Some),
    }
}

/// The hash of the tip; `None` in a new store.
///
/// # Errors
/// [`StoreError`] if storage fails or is damaged.
pub fn tip_hash(from: &dyn Snapshot) -> Result<Option<BlockHash>, StoreError> {
    match from.get(Table::Meta, META_TIP)? {
        None => Ok(None),
        Some(bytes) => hash_of(&bytes).map(Some),
    }
}

/// The entry of the tip.
///
/// # Errors
/// [`StoreError`] if storage fails or is damaged, or the store is new.
pub fn tip_entry(from: &dyn Snapshot) -> Result<ChainEntry, StoreError> {
    let hash = tip_hash(from)?.ok_or_else(|| StoreError::Damaged("no tip".to_owned()))?;
    expect_entry(from, &hash)
}

/// Whether a block is on the best chain.
///
/// # Errors
/// [`StoreError`] if storage fails or is damaged.
pub fn is_best(from: &dyn Snapshot, hash: &BlockHash, height: Height) -> Result<bool, StoreError> {
    Ok(best_hash(from, height)?.as_ref() == Some(hash))
}

/// The account at an address.
///
/// # Errors
/// [`StoreError`] if storage fails or is damaged.
pub fn account(from: &dyn Snapshot, address: &Address) -> Result<Account, StoreError> {
    match from.get(Table::Accounts, &address.0)? {
        None => Ok(Account::default()),
        Some(bytes) => decoded(&bytes, format_args!("account {}", hex::encode(address.0))),
    }
}

/// Sets an account. One with neither balance nor sequence is deleted instead.
pub fn put_account(into: &mut Overlay<'_>, address: &Address, account: &Account) {
    if account.is_unused() {
        into.delete(Table::Accounts, address.0);
    } else {
        into.put(Table::Accounts, address.0, account.encode());
    }
}

/// The undo record of a block; `None` if it was dropped.
///
/// # Errors
/// [`StoreError`] if storage fails or is damaged.
pub fn undo(from: &dyn Snapshot, hash: &BlockHash) -> Result<Option<UndoRecord>, StoreError> {
    match from.get(Table::Undo, &hash.0)? {
        None => Ok(None),
        Some(bytes) => decoded(&bytes, format_args!("undo record of block {hash}")).map(Some),
    }
}

/// Where a transaction was mined on the best chain.
///
/// # Errors
/// [`StoreError`] if storage fails or is damaged.
pub fn place(from: &dyn Snapshot, txid: &Txid) -> Result<Option<Place>, StoreError> {
    match from.get(Table::Transactions, &txid.0)? {
        None => Ok(None),
        Some(bytes) => Place::from_bytes(&bytes)
            .map(Some)
            .ok_or_else(|| StoreError::Damaged(format!("place of transaction {txid}"))),
    }
}

/// The height up to which undo records were dropped.
///
/// # Errors
/// [`StoreError`] if storage fails or is damaged.
pub fn pruned(from: &dyn Snapshot) -> Result<Height, StoreError> {
    match from.get(Table::Meta, META_PRUNED)? {
        None => Ok(Height::GENESIS),
        Some(bytes) => bytes
            .as_slice()
            .try_into()
            .map(|bytes| Height(u64::from_le_bytes(bytes)))
            .map_err(|_| StoreError::Damaged("height of dropped undo records".to_owned())),
    }
}

/// The state of [`Table::Staged`]; `None` if it is empty.
///
/// # Errors
/// [`StoreError`] if storage fails or is damaged.
pub fn staging(from: &dyn Snapshot) -> Result<Option<Staging>, StoreError> {
    let Some(bytes) = from.get(Table::Meta, META_STAGED)? else {
        return Ok(None);
    };
    let found = match bytes.split_first() {
        Some((0, [])) => Some(Staging::Clearing),
        Some((1, [])) => Some(Staging::Live),
        Some((2, rest)) => rest.split_first_chunk().and_then(|(target, done)| {
            Some(Staging::Building {
                target: BlockHash(*target),
                done: u64::from_le_bytes(done.try_into().ok()?),
            })
        }),
        _ => None,
    };
    found
        .map(Some)
        .ok_or_else(|| StoreError::Damaged("state of a long reorganisation".to_owned()))
}

/// Records the state of [`Table::Staged`]; `None` once it is empty.
pub fn put_staging(into: &mut Batch, staging: Option<Staging>) {
    let bytes = match staging {
        None => {
            into.delete(Table::Meta, META_STAGED);
            return;
        }
        Some(Staging::Clearing) => vec![0],
        Some(Staging::Live) => vec![1],
        Some(Staging::Building { target, done }) => {
            [&[2], target.0.as_slice(), &done.to_le_bytes()].concat()
        }
    };
    into.put(Table::Meta, META_STAGED, bytes);
}

/// The last rank of arrival given out.
///
/// # Errors
/// [`StoreError`] if storage fails or is damaged.
pub fn last_arrival(from: &dyn Snapshot) -> Result<u64, StoreError> {
    match from.get(Table::Meta, META_ARRIVAL)? {
        None => Ok(0),
        Some(bytes) => bytes
            .as_slice()
            .try_into()
            .map(u64::from_le_bytes)
            .map_err(|_| StoreError::Damaged("last rank of arrival".to_owned())),
    }
}

/// The ends of side branches, oldest first.
///
/// # Errors
/// [`StoreError`] if storage fails or is damaged.
pub fn leaves(from: &dyn Snapshot) -> Result<Vec<BlockHash>, StoreError> {
    let bytes = from.get(Table::Meta, META_LEAVES)?.unwrap_or_default();
    bytes.chunks(32).map(hash_of).collect()
}

/// Records the ends of side branches.
pub fn put_leaves<'a>(into: &mut Overlay<'_>, leaves: impl Iterator<Item = &'a BlockHash>) {
    let bytes: Vec<u8> = leaves.flat_map(|hash| hash.0).collect();
    into.put(Table::Meta, META_LEAVES, bytes);
}

/// Records the schema version and the genesis of a new store.
pub fn put_identity(into: &mut Batch, genesis: &BlockHash) {
    into.put(Table::Meta, META_SCHEMA, SCHEMA_VERSION.to_le_bytes());
    into.put(Table::Meta, META_GENESIS, genesis.0);
}

fn hash_of(bytes: &[u8]) -> Result<BlockHash, StoreError> {
    bytes
        .try_into()
        .map(BlockHash)
        .map_err(|_| StoreError::Damaged("a block hash".to_owned()))
}
