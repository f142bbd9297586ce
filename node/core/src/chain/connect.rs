//! One step of the best chain: connecting a block on top of its parent, or disconnecting the tip.
//! Every change is made on an overlay; nothing is committed here. Start reading at
//! [`Chain::connect`].

use std::collections::BTreeSet;

use pithead_consensus::check::CheckedBlock;
use pithead_consensus::connect::{
    ConnectContext, ConnectedBlock, Reward, connect_block, touched_addresses,
};
use pithead_consensus::state::UndoRecord;
use pithead_consensus::{Accounts, Address, Block, Encode, Hash256, Height, state_tree};

use super::{AcceptError, Chain};
use crate::store::schema::{self, BlockOutcome, BlockStatus, ChainEntry, Place};
use crate::store::{Overlay, Snapshot, StoreError, Table};

impl Chain {
    /// Connects `block` (whose entry is `entry`) on top of `parent`, the tip of
    /// the overlay. Returns its entry with the outcome filled in.
    pub(super) fn connect(
        &self,
        overlay: &mut Overlay<'_>,
        parent: &ChainEntry,
        entry: &ChainEntry,
        block: &CheckedBlock,
    ) -> Result<ChainEntry, AcceptError> {
        let matured = self.matured_reward(overlay, entry.height)?;
        let accounts = load_accounts(overlay, block.block(), matured.as_ref())?;
        let context = ConnectContext {
            params: self.params(),
            parent_time: parent.header.time,
            state_root: parent.outcome.state_root,
            matured_reward: matured,
        };
        #[cfg(feature = "fault-injection")]
        let context = crate::fault_injection::with_state_root_of(context, block);
        let verified = self.verified_of(block);
        #[cfg(feature = "fault-injection")]
        let verified = crate::fault_injection::with_copies(&verified).unwrap_or(verified);
        let verdict = connect_block(&context, block, &accounts, &verified);
        #[cfg(debug_assertions)]
        super::oracle::confirm_connection(self, overlay, parent, block, &verdict);
        let connected = verdict?;
        let (state_root, tree_version) = write_state(overlay, parent, &connected)?;
        overlay.put(
            Table::Undo,
            block.hash().0,
            connected.change.undo_record().encode(),
        );
        write_indexes(overlay, entry.height, block);
        let entry = ChainEntry {
            status: BlockStatus::Connected,
            outcome: BlockOutcome {
                subsidy: connected.subsidy,
                fees: connected.fees,
                supply: supply_after(parent, &connected)?,
                transactions_total: parent
                    .outcome
                    .transactions_total
                    .saturating_add(u64::from(entry.transaction_count)),
                state_root,
                tree_version,
            },
            ..entry.clone()
        };
        overlay.put(Table::Entries, block.hash().0, entry.encode());
        overlay.put(
            Table::BestChain,
            entry.height.0.to_be_bytes(),
            block.hash().0,
        );
        Ok(entry)
    }

    /// Disconnects `entry`, the tip of the overlay.
    pub(super) fn disconnect(
        &self,
        overlay: &mut Overlay<'_>,
        entry: &ChainEntry,
    ) -> Result<(), StoreError> {
        let hash = entry.hash();
        let undo = schema::undo(overlay, &hash)?
            .ok_or_else(|| StoreError::Damaged(format!("undo record of block {hash}: missing")))?;
        for item in &undo.entries {
            let now = schema::account(overlay, &item.address)?;
            let restored = UndoRecord::restored(item, now);
            schema::put_account(overlay, &item.address, &restored);
        }
        let parent = schema::expect_entry(overlay, &entry.header.prev)?;
        if entry.outcome.tree_version != parent.outcome.tree_version {
            drop_tree_version(overlay, entry.outcome.tree_version)?;
        }
        let block = schema::expect_block(overlay, &hash)?;
        for (position, transaction) in block.transactions.iter().enumerate() {
            let txid = transaction.txid(&self.params().genesis_hash);
            overlay.delete(Table::Transactions, txid.0);
            let place = place_at(entry.height, position);
            for address in parties(transaction) {
                overlay.delete(
                    Table::AccountTransactions,
                    schema::account_transaction_key(&address, place),
                );
            }
        }
        overlay.delete(Table::Undo, hash.0);
        overlay.delete(Table::BestChain, entry.height.0.to_be_bytes());
        Ok(())
    }

    /// The reward of an earlier block that a block of this height pays out (protocol §5). `None` if
    /// the network's blocks pay their own reward, or if no reward has matured yet.
    pub(crate) fn matured_reward(
        &self,
        from: &dyn Snapshot,
        height: Height,
    ) -> Result<Option<Reward>, StoreError> {
        let maturity = u64::from(self.params().reward_maturity);
        let source = match height.checked_sub(maturity) {
            Some(source) if maturity > 0 && source > Height::GENESIS => source,
            _ => return Ok(None),
        };
        let hash = schema::best_hash(from, source)?
            .ok_or_else(|| StoreError::Damaged(format!("no block at height {source}")))?;
        Ok(Some(schema::expect_entry(from, &hash)?.reward()))
    }
}

/// Loads every account that a block touches.
pub(crate) fn load_accounts(
    from: &dyn Snapshot,
    block: &Block,
    matured: Option<&Reward>,
) -> Result<Accounts, StoreError> {
    let mut accounts = Accounts::default();
    for address in touched_addresses(block, matured) {
        let account = schema::account(from, &address)?;
        accounts.0.insert(address, account);
    }
    Ok(accounts)
}

/// Writes the changed accounts and the next version of the state tree. A block that changes no
/// account keeps the version of its parent.
fn write_state(
    overlay: &mut Overlay<'_>,
    parent: &ChainEntry,
    connected: &ConnectedBlock,
) -> Result<(Hash256, state_tree::TreeVersion), StoreError> {
    let changes = &connected.change.0;
    if changes.is_empty() {
        return Ok((parent.outcome.state_root, parent.outcome.tree_version));
    }
    for (address, change) in changes {
        schema::put_account(overlay, address, &change.after);
    }
    let version = parent.outcome.tree_version.saturating_add(1);
    let after = changes
        .iter()
        .map(|(address, change)| (address, &change.after));
    let root = write_tree(overlay, version, after)?;
    Ok((root, version))
}

/// Computes and writes one version of the state tree; returns its root.
pub(super) fn write_tree<'b>(
    overlay: &mut Overlay<'_>,
    version: state_tree::TreeVersion,
    accounts: impl IntoIterator<Item = (&'b Address, &'b pithead_consensus::Account)>,
) -> Result<Hash256, StoreError> {
    let update = state_tree::update(overlay, version, accounts)
        .map_err(|error| StoreError::Damaged(error.to_string()))?;
    for (key, node) in update.nodes {
        overlay.put(Table::StateNodes, key, node);
    }
    for key in update.stale {
        let index = [version.to_be_bytes().as_slice(), &key].concat();
        overlay.put(Table::StaleNodes, index, Vec::new());
    }
    Ok(update.root)
}

fn drop_tree_version(
    overlay: &mut Overlay<'_>,
    version: state_tree::TreeVersion,
) -> Result<(), StoreError> {
    let from = version.to_be_bytes();
    let to = version.saturating_add(1).to_be_bytes();
    for table in [Table::StateNodes, Table::StaleNodes] {
        for (key, _) in overlay.range(table, &from, &to, usize::MAX, false)? {
            overlay.delete(table, key);
        }
    }
    Ok(())
}

fn supply_after(parent: &ChainEntry, connected: &ConnectedBlock) -> Result<u128, StoreError> {
    let before = parent.outcome.supply;
    connected.change.supply_after(before).ok_or_else(|| {
        StoreError::Damaged(format!(
            "the changed accounts held more than the supply of {before} grains"
        ))
    })
}

fn write_indexes(overlay: &mut Overlay<'_>, height: Height, block: &CheckedBlock) {
    let transactions = block.block().transactions.iter();
    for (position, (transaction, txid)) in transactions.zip(block.txids()).enumerate() {
        let place = place_at(height, position);
        overlay.put(Table::Transactions, txid.0, place.to_bytes());
        for address in parties(transaction) {
            overlay.put(
                Table::AccountTransactions,
                schema::account_transaction_key(&address, place),
                Vec::new(),
            );
        }
    }
}

fn place_at(height: Height, position: usize) -> Place {
    Place {
        height,
        position: u32::try_from(position).unwrap_or(u32::MAX),
    }
}

/// The sender and the recipients of a transaction, each once.
fn parties(transaction: &pithead_consensus::SignedTransaction) -> BTreeSet<Address> {
    let outputs = transaction.body.outputs.iter();
    outputs
        .map(|output| output.recipient)
        .chain([transaction.body.sender])
        .collect()
}
