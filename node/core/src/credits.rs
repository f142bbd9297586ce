//! Whether accounts can take the payments of transactions that are not in a block yet: an output may
//! be too small to open an account (protocol §3), or its account may have no room for it (§5).
//! Consensus judges blocks; this keeps transactions that would break one out of the mempool and out
//! of templates. Knows no fees. Start reading at [`check_openings`] and [`drop_uncreditable`].

use std::collections::{BTreeMap, BTreeSet};

use pithead_consensus::check::{CheckedTransaction, TransactionError};
use pithead_consensus::{Account, Address, Amount, ConsensusParams, TransactionBody};

use crate::mempool::Selection;
use crate::store::schema;
use crate::store::{Snapshot, StoreError};

/// Checks that every small output goes to an account that is open after the tip. It reads the
/// account of each output below `min_opening_amount`, until one is not open. The outer error is
/// storage's, the inner one a verdict.
pub(crate) fn check_openings(
    from: &dyn Snapshot,
    params: &ConsensusParams,
    checked: &CheckedTransaction,
) -> Result<Result<(), TransactionError>, StoreError> {
    let body = &checked.transaction().body;
    let min = params.min_opening_amount;
    for (index, output) in body.outputs.iter().enumerate() {
        // The sender has a transaction, this one, when its outputs are credited.
        if output.amount >= min || output.recipient == body.sender {
            continue;
        }
        if schema::account(from, &output.recipient)?.is_unused() {
            return Ok(Err(TransactionError::OpeningTooSmall {
                index,
                found: output.amount,
                min,
            }));
        }
    }
    Ok(Ok(()))
}

/// Gives an account as it is after the tip.
pub(crate) type AccountAt<'a> = &'a mut dyn FnMut(&Address) -> Result<Account, StoreError>;

/// Drops from a selection every transaction with an output that its account may be unable to take
/// after the tip, and the later ones of its sender. They stay in the mempool: another tip may have
/// other accounts.
///
/// It asks for accounts only where that is in question: of outputs below `min_opening_amount`, and of
/// all outputs once `supply`, the sum of all balances, exceeds [`Amount::MAX_MONEY`]. Before that no
/// balance can.
pub(crate) fn drop_uncreditable(
    selection: &mut Selection,
    account: AccountAt<'_>,
    params: &ConsensusParams,
    supply: u128,
) -> Result<(), StoreError> {
    let mut ledger = Credits {
        account,
        min_opening_amount: params.min_opening_amount,
        checks_room: supply > u128::from(Amount::MAX_MONEY.grains()),
        balances: BTreeMap::new(),
    };
    let mut held_back: BTreeSet<Address> = BTreeSet::new();
    let mut kept = Selection::default();
    for pending in std::mem::take(&mut selection.transactions) {
        let body = pending.body();
        if held_back.contains(&body.sender) || !ledger.take(body)? {
            held_back.insert(body.sender);
            continue;
        }
        kept.bytes += pending.size();
        kept.account_changes += body.account_changes();
        kept.fees = kept.fees.saturating_add(body.fee);
        kept.transactions.push(pending);
    }
    *selection = kept;
    Ok(())
}

/// What the transactions of a template pay to accounts, on top of the balances after the tip. What
/// those accounts spend in the same block is not subtracted: a template does without a payment
/// rather than risk one that its account can't take.
struct Credits<'a> {
    account: AccountAt<'a>,
    min_opening_amount: Amount,
    checks_room: bool,
    balances: BTreeMap<Address, Amount>,
}

impl Credits<'_> {
    /// Credits a transaction's outputs, if every account can take them.
    fn take(&mut self, body: &TransactionBody) -> Result<bool, StoreError> {
        let mut credited: BTreeMap<Address, Amount> = BTreeMap::new();
        for output in &body.outputs {
            let is_small = output.amount < self.min_opening_amount;
            if output.recipient == body.sender || !(is_small || self.checks_room) {
                continue;
            }
            let account = (self.account)(&output.recipient)?;
            if is_small && account.is_unused() {
                return Ok(false);
            }
            let before = credited.get(&output.recipient).copied();
            let before = before.or_else(|| self.balances.get(&output.recipient).copied());
            match before.unwrap_or(account.balance).checked_add(output.amount) {
                Some(after) => credited.insert(output.recipient, after),
                None => return Ok(false),
            };
        }
        self.balances.extend(credited);
        Ok(true)
    }
}
