//! Accounts, what a block changes in them, and how to undo it (protocol §5).

use std::collections::BTreeMap;

use crate::address::Address;
use crate::amount::Amount;
use crate::encoding::{Decode, DecodeError, Encode, Reader, concat};
use crate::key::{MODULUS_LEN, PublicKey};

/// Bytes of an account's value in the state tree: `balance ‖ sequence`.
pub const ACCOUNT_VALUE_BYTES: usize = 16;

/// An account. An address that never appeared has the default account.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Account {
    /// The money that it can spend.
    pub balance: Amount,
    /// How many transactions it has sent.
    pub sequence: u64,
    /// The key, on record since the account's first transaction. It is not part of
    /// the state root, because the address commits to it.
    pub key: Option<PublicKey>,
}

impl Account {
    /// Whether it equals the account of an address that never appeared.
    #[must_use]
    pub fn is_unused(&self) -> bool {
        self.balance == Amount::ZERO && self.sequence == 0
    }

    /// The account's value in the state tree: `balance ‖ sequence` (protocol §5).
    #[must_use]
    pub fn tree_value(&self) -> [u8; ACCOUNT_VALUE_BYTES] {
        concat(&[
            &self.balance.grains().to_le_bytes(),
            &self.sequence.to_le_bytes(),
        ])
    }
}

impl Encode for Account {
    fn encode_to(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.tree_value());
        if let Some(key) = &self.key {
            out.extend_from_slice(key.modulus());
        }
    }
}

impl Decode for Account {
    fn decode_from(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let balance = reader.amount("balance")?;
        let sequence = reader.u64("sequence")?;
        // # Consensus: §5 "An account's key is on record if and only if its
        // sequence is above 0".
        let key = if sequence > 0 {
            Some(PublicKey::from_modulus(
                &reader.array::<MODULUS_LEN>("public key")?,
            )?)
        } else {
            None
        };
        Ok(Self {
            balance,
            sequence,
            key,
        })
    }
}

/// The accounts that a block touches, loaded beforehand. Any other account counts as
/// unused.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Accounts(pub BTreeMap<Address, Account>);

impl Accounts {
    /// The account at an address.
    #[must_use]
    pub fn get(&self, address: &Address) -> Account {
        self.0.get(address).cloned().unwrap_or_default()
    }
}

/// An account before and after a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountChange {
    pub before: Account,
    pub after: Account,
}

/// Everything that a block changes in the accounts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StateChange(pub BTreeMap<Address, AccountChange>);

impl StateChange {
    /// The record that undoes it.
    #[must_use]
    pub fn undo_record(&self) -> UndoRecord {
        UndoRecord {
            entries: self
                .0
                .iter()
                .map(|(address, change)| UndoEntry {
                    address: *address,
                    balance: change.before.balance,
                    sequence: change.before.sequence,
                })
                .collect(),
        }
    }

    /// The sum of all balances after the block, from that before it; grains. `None` if the
    /// accounts that it changes held more than there was, which only damaged storage can say.
    #[must_use]
    pub fn supply_after(&self, before: u128) -> Option<u128> {
        let sum = |balance: fn(&AccountChange) -> Amount| {
            self.0.values().fold(0_u128, |sum, change| {
                sum.saturating_add(u128::from(balance(change).grains()))
            })
        };
        before
            .checked_sub(sum(|change| change.before.balance))?
            .checked_add(sum(|change| change.after.balance))
    }

    /// Applies the change to the accounts as they were before the block.
    pub fn apply(&self, accounts: &mut Accounts) {
        for (address, change) in &self.0 {
            put(accounts, *address, change.after.clone());
        }
    }
}

/// An account as it was before a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UndoEntry {
    pub address: Address,
    pub balance: Amount,
    /// The sequence. At 0 no key is on record.
    pub sequence: u64,
}

/// Undoes a block exactly (protocol §5).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UndoRecord {
    /// The accounts that the block changed, as they were before it.
    pub entries: Vec<UndoEntry>,
}

/// Bytes of an encoded undo entry.
const UNDO_ENTRY_BYTES: usize = 32 + ACCOUNT_VALUE_BYTES;

impl UndoRecord {
    /// The account as it was, made from the account as it is now. The key stays on
    /// record only if the account had sent a transaction before the block.
    #[must_use]
    pub fn restored(entry: &UndoEntry, now: Account) -> Account {
        Account {
            balance: entry.balance,
            sequence: entry.sequence,
            key: now.key.filter(|_| entry.sequence > 0),
        }
    }

    /// Disconnects the block from the accounts as they are right after it.
    pub fn disconnect(&self, accounts: &mut Accounts) {
        for entry in &self.entries {
            let now = accounts.get(&entry.address);
            put(accounts, entry.address, Self::restored(entry, now));
        }
    }
}

fn put(accounts: &mut Accounts, address: Address, account: Account) {
    if account.is_unused() {
        accounts.0.remove(&address);
    } else {
        accounts.0.insert(address, account);
    }
}

impl Encode for UndoRecord {
    fn encode_to(&self, out: &mut Vec<u8>) {
        let count = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&count.to_le_bytes());
        for entry in &self.entries {
            out.extend_from_slice(&entry.address.0);
            out.extend_from_slice(&entry.balance.grains().to_le_bytes());
            out.extend_from_slice(&entry.sequence.to_le_bytes());
        }
    }
}

impl Decode for UndoRecord {
    fn decode_from(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let count = reader.count("undo entry count", UNDO_ENTRY_BYTES)?;
        let mut entries = Vec::with_capacity(count);
        for _ in 0..count {
            entries.push(UndoEntry {
                address: Address(reader.array("address")?),
                balance: reader.amount("balance")?,
                sequence: reader.u64("sequence")?,
            });
        }
        Ok(Self { entries })
    }
}
