//! The reasons for which a payment can't be made, with the figures that the user
//! needs to change it.

use pithead_api::v1;
use pithead_consensus::Amount;
use pithead_consensus::transaction::{MAX_DATA_BYTES, MAX_OUTPUTS, MAX_TRANSACTION_BYTES};
use thiserror::Error;

use crate::error::ClientError;
use pithead_keys::KeyError;

/// Why a payment can't be made.
#[derive(Debug, Error)]
pub enum TransferError {
    /// The payment has no recipient.
    #[error("a payment needs at least one recipient")]
    NoOutputs,
    /// The payment has too many recipients.
    #[error("a transaction pays at most {MAX_OUTPUTS} recipients, not {found}: split it")]
    TooManyOutputs {
        /// Number of recipients.
        found: usize,
    },
    /// One of the amounts is zero.
    #[error("the amount for recipient {} is zero: pay at least 0.00000001 PIT", index + 1)]
    ZeroAmount {
        /// Position of the recipient, counted from 0.
        index: usize,
    },
    /// The attached data is too long.
    #[error("a transaction carries at most {MAX_DATA_BYTES} bytes of data, not {found}")]
    TooMuchData {
        /// Length of the data in bytes.
        found: usize,
    },
    /// The transaction is too long.
    #[error(
        "the transaction would take {found} bytes, more than {MAX_TRANSACTION_BYTES}: split it"
    )]
    TooLarge {
        /// Length of the transaction in bytes.
        found: usize,
    },
    /// The amounts and the fee are more than there can ever be.
    #[error(
        "amounts and fee add up to more than there can ever be ({} PIT)",
        Amount::MAX_MONEY
    )]
    TooMuchMoney,
    /// The node's estimate of the fee is out of proportion.
    #[error("the node asks for {found} grains a byte, a fee out of all proportion")]
    EstimateTooHigh {
        /// The estimated fee rate, in grains a byte.
        found: u64,
    },
    /// The account can't pay the amounts and the fee.
    #[error("{0}")]
    InsufficientBalance(Box<Shortfall>),
    /// The node refused the transaction.
    #[error("{}", rejection_text(.0))]
    Rejected(Box<v1::TransactionRejection>),
    /// The transaction could not be signed.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The key belongs to another account than the sender's.
    #[error("the key does not belong to the sender")]
    WrongKey,
    /// The node gave no useful answer.
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// The money that an account has and the money that a payment needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shortfall {
    /// Amount that the account can spend now.
    pub available: Amount,
    /// Part of its balance that its own pending transactions take.
    pub reserved: Amount,
    /// Mining rewards that are not paid out yet.
    pub immature: Amount,
    /// Amount that pending transactions bring to the account.
    pub incoming: Amount,
    /// Sum of the payments, without the fee.
    pub amounts: Amount,
    /// Fee of the payment.
    pub fee: Amount,
}

impl Shortfall {
    /// Amounts and fee of the payment together.
    #[must_use]
    pub fn needed(&self) -> Amount {
        self.amounts
            .checked_add(self.fee)
            .unwrap_or(Amount::MAX_MONEY)
    }

    /// The money that the account lacks; zero if it can pay.
    #[must_use]
    pub fn missing(&self) -> Amount {
        self.needed()
            .checked_sub(self.available)
            .unwrap_or(Amount::ZERO)
    }
}

impl std::fmt::Display for Shortfall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "insufficient balance: the account can spend {} PIT, the payment needs {} PIT ({} PIT + {} PIT fee): {} PIT missing",
            self.available,
            self.needed(),
            self.amounts,
            self.fee,
            self.missing()
        )
    }
}

impl TransferError {
    /// What the user can do about it, if anything.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::InsufficientBalance(short) => shortfall_hint(short),
            Self::EstimateTooHigh { .. } => {
                Some("if you mean to pay it, say so with --fee-rate or --fee".to_owned())
            }
            Self::Rejected(rejection) => rejection_hint(rejection.rule()),
            Self::Client(error) => error.hint(),
            _ => None,
        }
    }
}

fn shortfall_hint(short: &Shortfall) -> Option<String> {
    let mut parts = Vec::new();
    if short.reserved > Amount::ZERO {
        parts.push(format!(
            "{} PIT are in its own pending payments",
            short.reserved
        ));
    }
    if short.incoming > Amount::ZERO {
        parts.push(format!(
            "{} PIT are on their way to it: wait for the next block",
            short.incoming
        ));
    }
    if short.immature > Amount::ZERO {
        parts.push(format!(
            "{} PIT of mining rewards are not paid out yet",
            short.immature
        ));
    }
    (!parts.is_empty()).then(|| parts.join("; "))
}

fn rejection_text(rejection: &v1::TransactionRejection) -> String {
    let rule = rejection
        .rule()
        .as_str_name()
        .trim_start_matches("TRANSACTION_RULE_");
    let mut text = format!(
        "the node rejects the transaction ({rule}): {}",
        rejection.message
    );
    if !rejection.found.is_empty() || !rejection.expected.is_empty() {
        text.push_str(&format!(
            " [found {}, expected {}]",
            rejection.found, rejection.expected
        ));
    }
    text
}

fn rejection_hint(rule: v1::TransactionRule) -> Option<String> {
    use v1::TransactionRule as Rule;
    let hint = match rule {
        Rule::BadSequence => "leave out --sequence to use the account's next one",
        Rule::FeeTooLow => "leave out --fee to pay what the node estimates",
        Rule::ReplacementFeeTooLow => {
            "to replace a pending payment, pay a fee rate at least 10 % higher with --fee or --fee-rate"
        }
        Rule::TooManyPending => "wait for a block",
        Rule::MempoolFull => "pay a higher --fee-rate, or wait",
        _ => return None,
    };
    Some(hint.to_owned())
}
