//! Connects a block to the state of its parent (protocol §5).
//!
//! The caller loads the accounts that the block touches ([`touched_addresses`]).
//! [`connect_block`] decides, and returns either the change or the rule that the block
//! breaks. It writes nothing.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use rayon::prelude::*;

use crate::address::Address;
use crate::amount::Amount;
use crate::block::Block;
use crate::check::{BlockError, CheckedBlock, TransactionError};
use crate::genesis::ConsensusParams;
use crate::hash::Hash256;
use crate::key::PublicKey;
use crate::state::{Account, AccountChange, Accounts, StateChange};
use crate::subsidy::subsidy;
use crate::transaction::{Output, SignedTransaction};

/// The subsidy and the fees of a block, which its miner earns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reward {
    pub address: Address,
    pub amount: Amount,
}

/// The chain below a block, as far as connecting the block depends on it.
#[derive(Debug, Clone, Copy)]
pub struct ConnectContext<'a> {
    pub params: &'a ConsensusParams,
    /// The parent's time, Unix seconds. It fixes the subsidy.
    pub parent_time: u32,
    /// Root of the state after the parent.
    pub state_root: Hash256,
    /// The reward of the block `reward_maturity` blocks back; `None` if that is the
    /// genesis or below. With maturity 0 it is ignored: the block pays out its own.
    pub matured_reward: Option<Reward>,
}

/// The effect of a block that connects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectedBlock {
    /// The accounts that the block changes.
    pub change: StateChange,
    /// Money that the block issues.
    pub subsidy: Amount,
    /// Sum of the transactions' fees, at most [`Amount::MAX_MONEY`].
    pub fees: Amount,
    /// The miner's reward, which a block `reward_maturity` blocks later pays out.
    pub reward: Reward,
    /// The reward that this block pays out: an earlier block's, or its own.
    pub paid: Option<Reward>,
    /// The part of that reward that its account has no room for (protocol §5).
    pub burnt: Amount,
}

/// The addresses whose accounts a caller must load before connecting.
#[must_use]
pub fn touched_addresses(block: &Block, matured_reward: Option<&Reward>) -> BTreeSet<Address> {
    let mut addresses = BTreeSet::from([block.commitment.reward_address]);
    addresses.extend(matured_reward.map(|reward| reward.address));
    for transaction in &block.transactions {
        addresses.insert(transaction.body.sender);
        addresses.extend(transaction.body.outputs.iter().map(|out| out.recipient));
    }
    addresses
}

/// Checks every rule that needs the accounts, and computes what the block changes.
///
/// `verified` holds leaf hashes of transactions whose signatures this process has
/// checked before on this chain. Those signatures are not checked again. That is sound
/// because a leaf covers the signature, and an address commits to its key.
///
/// # Errors
/// [`BlockError`], one variant a rule.
pub fn connect_block(
    context: &ConnectContext<'_>,
    block: &CheckedBlock,
    accounts: &Accounts,
    verified: &HashSet<Hash256>,
) -> Result<ConnectedBlock, BlockError> {
    let commitment = &block.block().commitment;
    // # Consensus: §4 "root of the state before this block".
    if commitment.state_root != context.state_root {
        return Err(BlockError::StateRootMismatch {
            found: commitment.state_root,
            expected: context.state_root,
        });
    }

    let mut ledger = Ledger {
        accounts,
        min_opening_amount: context.params.min_opening_amount,
        changed: BTreeMap::new(),
    };
    let mut signers = Vec::with_capacity(block.block().transactions.len());
    for (index, transaction) in block.block().transactions.iter().enumerate() {
        let in_transaction = |error| BlockError::Transaction { index, error };
        let key = ledger
            .apply(transaction)
            .map_err(|error| error.at(index))?
            .ok_or_else(|| in_transaction(TransactionError::BadSignature))?;
        signers.push(key);
    }
    check_signatures(context.params, block, &signers, verified)?;

    let transactions = block.block().transactions.iter();
    let fees = transactions.fold(Amount::ZERO, |sum, transaction| {
        sum.saturating_add(transaction.body.fee)
    });
    let subsidy = subsidy(context.parent_time);
    // # Consensus: §5 "A reward is at most MAX_MONEY".
    let reward = Reward {
        address: commitment.reward_address,
        amount: subsidy.saturating_add(fees),
    };
    // # Consensus: §5 "Pay out the reward (subsidy + fees) of the block
    // reward_maturity blocks back to that block's reward address".
    let paid = if context.params.reward_maturity == 0 {
        Some(reward)
    } else {
        context.matured_reward
    };
    let burnt = paid.map_or(Amount::ZERO, |paid| ledger.pay_out(paid));
    Ok(ConnectedBlock {
        change: ledger.into_change(),
        subsidy,
        fees,
        reward,
        paid,
        burnt,
    })
}

/// Checks a transaction's signature under the key that it carries. A transaction
/// without a key is checked under the key on record.
///
/// # Errors
/// [`TransactionError::BadSignature`] if it does not verify, or if there is no key.
pub fn check_signature(
    params: &ConsensusParams,
    transaction: &SignedTransaction,
    key_on_record: Option<&PublicKey>,
) -> Result<(), TransactionError> {
    let key = transaction
        .key
        .as_ref()
        .or(key_on_record)
        .ok_or(TransactionError::BadSignature)?;
    let message = transaction.body.signing_message(&params.genesis_hash);
    // # Consensus: §3 "the signature verifies under the key given or on record".
    if key.verifies(&message, &transaction.signature) {
        Ok(())
    } else {
        Err(TransactionError::BadSignature)
    }
}

fn check_spendable(
    sequence: u64,
    total: Option<Amount>,
    account: &Account,
) -> Result<Amount, TransactionError> {
    // # Consensus: §3 "the sequence is the account's".
    if sequence != account.sequence {
        return Err(TransactionError::WrongSequence {
            found: sequence,
            expected: account.sequence,
        });
    }
    // # Consensus: §3 "the balance covers amounts + fee".
    let needed = total.ok_or(TransactionError::TotalOutOfRange)?;
    account
        .balance
        .checked_sub(needed)
        .ok_or(TransactionError::InsufficientBalance {
            needed,
            balance: account.balance,
        })
}

fn check_signatures(
    params: &ConsensusParams,
    block: &CheckedBlock,
    signers: &[PublicKey],
    verified: &HashSet<Hash256>,
) -> Result<(), BlockError> {
    let bad = block
        .block()
        .transactions
        .par_iter()
        .zip(block.leaf_hashes())
        .zip(signers)
        .enumerate()
        .find_first(|(_, ((transaction, leaf), key))| {
            !verified.contains(leaf) && check_signature(params, transaction, Some(key)).is_err()
        });
    match bad {
        None => Ok(()),
        Some((index, _)) => Err(BlockError::Transaction {
            index,
            error: TransactionError::BadSignature,
        }),
    }
}

/// The accounts while a block is being applied.
struct Ledger<'a> {
    accounts: &'a Accounts,
    min_opening_amount: Amount,
    changed: BTreeMap<Address, AccountChange>,
}

enum LedgerError {
    Transaction(TransactionError),
    BalanceOutOfRange(Address),
}

impl LedgerError {
    fn at(self, index: usize) -> BlockError {
        match self {
            Self::Transaction(error) => BlockError::Transaction { index, error },
            Self::BalanceOutOfRange(address) => BlockError::BalanceOutOfRange { address },
        }
    }
}

impl Ledger<'_> {
    fn account(&mut self, address: Address) -> &mut Account {
        let accounts = self.accounts;
        &mut self
            .changed
            .entry(address)
            .or_insert_with(|| {
                let before = accounts.get(&address);
                AccountChange {
                    after: before.clone(),
                    before,
                }
            })
            .after
    }

    /// Debits the sender, raises its sequence and credits the outputs. Returns the key
    /// that must have signed; `None` if no key is on record.
    fn apply(&mut self, transaction: &SignedTransaction) -> Result<Option<PublicKey>, LedgerError> {
        let body = &transaction.body;
        let sender = self.account(body.sender);
        let left = check_spendable(body.sequence, body.total(), sender)
            .map_err(LedgerError::Transaction)?;
        sender.balance = left;
        sender.sequence = sender.sequence.saturating_add(1);
        if let Some(key) = &transaction.key {
            sender.key = Some(key.clone());
        }
        let key = sender.key.clone();
        for (index, output) in body.outputs.iter().enumerate() {
            self.credit(index, output)?;
        }
        Ok(key)
    }

    fn credit(&mut self, index: usize, output: &Output) -> Result<(), LedgerError> {
        let min = self.min_opening_amount;
        let account = self.account(output.recipient);
        // # Consensus: §3 "an output to an unused account carries at least min_opening_amount".
        if account.is_unused() && output.amount < min {
            return Err(LedgerError::Transaction(
                TransactionError::OpeningTooSmall {
                    index,
                    found: output.amount,
                    min,
                },
            ));
        }
        // # Consensus: §5 "A block with an output that would raise a balance above MAX_MONEY is
        // invalid".
        account.balance = account
            .balance
            .checked_add(output.amount)
            .ok_or(LedgerError::BalanceOutOfRange(output.recipient))?;
        Ok(())
    }

    /// Pays out a reward, and returns the part of it that is burnt.
    fn pay_out(&mut self, reward: Reward) -> Amount {
        let account = self.account(reward.address);
        let room = Amount::MAX_MONEY
            .checked_sub(account.balance)
            .unwrap_or(Amount::ZERO);
        // # Consensus: §5 "The part of a reward that would raise a balance above MAX_MONEY is
        // burnt".
        account.balance = account.balance.saturating_add(reward.amount);
        reward.amount.checked_sub(room).unwrap_or(Amount::ZERO)
    }

    fn into_change(self) -> StateChange {
        StateChange(
            self.changed
                .into_iter()
                .filter(|(_, change)| change.before != change.after)
                .collect(),
        )
    }
}
