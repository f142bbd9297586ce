//! The proof that a transaction's signature was checked. Knows no mempool. Start reading at
//! [`VerifiedTransaction::check`].

use pithead_consensus::check::{CheckedTransaction, TransactionError};
use pithead_consensus::connect::check_signature;
use pithead_consensus::{Address, ConsensusParams, PublicKey};

/// A transaction whose signature this process has checked on these very bytes.
///
/// The fact depends on three things, and each is in the value itself or fixed for the process:
/// 1. the genesis hash, which the signed message holds; a process runs one network,
/// 2. the bytes of body, key and signature, all of which the leaf hash covers,
/// 3. the key: the sender's address is its hash, and the check compares the two.
///
/// It depends on no block and on no account. A reorganisation may take an account's key off the
/// record and bring it back, but never another key for the same address. What was verified once
/// stays verified, so nothing has to be forgotten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedTransaction(CheckedTransaction);

impl VerifiedTransaction {
    /// Checks the signature under the key that the transaction carries or, without one, under the
    /// key on record. There is no other way to such a value.
    ///
    /// # Errors
    /// [`TransactionError::BadSignature`] if the signature does not verify, if there is no key, or
    /// if the key is not the sender's.
    pub fn check(
        params: &ConsensusParams,
        checked: CheckedTransaction,
        key_on_record: Option<&PublicKey>,
    ) -> Result<Self, TransactionError> {
        let transaction = checked.transaction();
        let key = transaction.key.as_ref().or(key_on_record);
        if key.map(Address::of_key) != Some(transaction.body.sender) {
            return Err(TransactionError::BadSignature);
        }
        check_signature(params, transaction, key_on_record)?;
        Ok(Self(checked))
    }

    /// The transaction with its txid, leaf and encoding.
    #[must_use]
    pub fn checked(&self) -> &CheckedTransaction {
        &self.0
    }

    /// Takes a transaction for verified, for tests of what does not depend on signatures.
    #[cfg(test)]
    pub(super) fn assumed(checked: CheckedTransaction) -> Self {
        Self(checked)
    }
}
