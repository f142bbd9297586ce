//! What fees are paid for: the weight of a transaction (docs/node-policy.md).

use pithead_consensus::check::CheckedTransaction;

/// The weight of a transaction, in bytes: its size, or its share of the accounts that a block may
/// change, whichever is more. A minimum fee, a fee rate and the order of fee rates count by it.
#[must_use]
pub fn weight_of(checked: &CheckedTransaction) -> usize {
    checked.transaction().body.weight()
}
