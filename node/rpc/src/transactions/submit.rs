//! SubmitTransaction: the core's verdict on a transaction, in the API's words.

use pithead_api::v1;
use pithead_api::v1::{SubmitTransactionOutcome as Outcome, TransactionRule as Rule};
use pithead_consensus::check::TransactionError;
use pithead_consensus::transaction::MAX_OUTPUTS;
use pithead_consensus::{Amount, Decode as _, DecodeError, SignedTransaction, Txid};
use pithead_core::mempool::{RejectReason, SENDER_TRANSACTIONS_MAX};
use pithead_core::node::{RejectedTransaction, TransactionVerdict};
use tonic::Status;

use crate::api::{Api, internal, stopped};
use crate::status;

pub(super) async fn submit(
    api: &Api,
    request: v1::SubmitTransactionRequest,
) -> Result<v1::SubmitTransactionResponse, Status> {
    use v1::submit_transaction_request::Transaction;
    let raw = match request.transaction {
        Some(Transaction::Raw(raw)) => raw.to_vec(),
        Some(Transaction::Parts(parts)) => joined(&parts),
        None => {
            return Err(status::invalid(
                "transaction",
                "send the signed transaction as raw bytes or in parts",
            ));
        }
    };
    let transaction = match SignedTransaction::decode(&raw) {
        Ok(transaction) => transaction,
        Err(error) => return Ok(rejected("", undecodable(&error))),
    };
    let txid = transaction.txid(&api.chain.genesis_hash);
    let verdict = api.engine.submit_transaction(transaction).await;
    match verdict.map_err(stopped)? {
        Ok(verdict) => Ok(accepted(&txid, &verdict)),
        Err(RejectedTransaction::Internal(error)) => Err(internal(error)),
        Err(RejectedTransaction::Rule(reason)) => {
            Ok(rejected(&txid.to_string(), rejection(api, &reason)))
        }
    }
}

/// The encoding of a signed transaction that came in parts (protocol §3).
fn joined(parts: &v1::SignedParts) -> Vec<u8> {
    let mut raw = parts.body.to_vec();
    if parts.public_key.is_empty() {
        raw.push(0);
    } else {
        raw.push(1);
        raw.extend_from_slice(&parts.public_key);
    }
    raw.extend_from_slice(&parts.signature);
    raw
}

fn accepted(txid: &Txid, verdict: &TransactionVerdict) -> v1::SubmitTransactionResponse {
    let (outcome, replaced) = match verdict {
        TransactionVerdict::Accepted => (Outcome::Accepted, String::new()),
        TransactionVerdict::Replaced { txid } => (Outcome::Replaced, txid.to_string()),
        TransactionVerdict::Duplicate => (Outcome::Duplicate, String::new()),
    };
    v1::SubmitTransactionResponse {
        outcome: outcome.into(),
        txid: txid.to_string(),
        rejection: None,
        replaced_txid: replaced,
    }
}

/// `txid` is empty for bytes that are no transaction.
fn rejected(txid: &str, rejection: v1::TransactionRejection) -> v1::SubmitTransactionResponse {
    v1::SubmitTransactionResponse {
        outcome: Outcome::Rejected.into(),
        txid: txid.to_owned(),
        rejection: Some(rejection),
        replaced_txid: String::new(),
    }
}

fn undecodable(error: &DecodeError) -> v1::TransactionRejection {
    let (rule, expected) = match error {
        DecodeError::OverLimit { field, .. } if *field == "output count" => {
            (Rule::BadOutputs, format!("1 to {MAX_OUTPUTS} outputs"))
        }
        DecodeError::OverLimit { max, .. } => (Rule::TooLarge, format!("at most {max}")),
        DecodeError::AmountOutOfRange { .. } => (
            Rule::BadAmount,
            format!("at most {} grains", Amount::MAX_MONEY.grains()),
        ),
        DecodeError::BadPublicKey(_) => (
            Rule::BadPublicKey,
            "an RSA-2048 modulus, 256 bytes big-endian".to_owned(),
        ),
        _ => (
            Rule::BadEncoding,
            "a signed transaction as protocol §3 lays it out".to_owned(),
        ),
    };
    v1::TransactionRejection {
        rule: rule.into(),
        found: error.to_string(),
        expected,
        message: format!("the bytes are not a transaction: {error}"),
    }
}

/// Names the rule that a transaction breaks, with what was found and what was expected.
fn rejection(api: &Api, reason: &RejectReason) -> v1::TransactionRejection {
    let (rule, found, expected) = match reason {
        RejectReason::Rule(error) => consensus_rejection(api, error),
        RejectReason::SequenceUsed { found, expected } => {
            (Rule::BadSequence, found.to_string(), expected.to_string())
        }
        RejectReason::SequenceGap { found, expected } => {
            (Rule::BadSequence, found.to_string(), expected.to_string())
        }
        RejectReason::KeyUnknown { found } => {
            (Rule::BadSequence, found.to_string(), "0".to_owned())
        }
        RejectReason::InsufficientBalance {
            needed,
            balance,
            reserved,
        } => (
            Rule::InsufficientBalance,
            format!("{balance} PIT, of which {reserved} PIT are pending already"),
            format!("{needed} PIT"),
        ),
        RejectReason::FeeTooLow {
            found, required, ..
        } => (
            Rule::FeeTooLow,
            format!("{found} PIT"),
            format!("{required} PIT"),
        ),
        RejectReason::ReplacementFeeTooLow {
            found, required, ..
        } => (
            Rule::ReplacementFeeTooLow,
            format!("{found} PIT"),
            format!("{required} PIT"),
        ),
        RejectReason::TooManyPending => (
            Rule::TooManyPending,
            SENDER_TRANSACTIONS_MAX.to_string(),
            "fewer".to_owned(),
        ),
        RejectReason::Full { required } => (
            Rule::MempoolFull,
            "a full mempool".to_owned(),
            format!("{required} grains a byte"),
        ),
        RejectReason::FullAtAnyFee(obstacle) => (
            Rule::MempoolFull,
            "a full mempool, whatever the fee".to_owned(),
            obstacle.to_string(),
        ),
    };
    v1::TransactionRejection {
        rule: rule.into(),
        found,
        expected,
        message: reason.to_string(),
    }
}

fn consensus_rejection(api: &Api, error: &TransactionError) -> (Rule, String, String) {
    match error {
        TransactionError::NoOutputs => (
            Rule::BadOutputs,
            "0 outputs".to_owned(),
            format!("1 to {MAX_OUTPUTS} outputs"),
        ),
        TransactionError::ZeroOutput { index } => (
            Rule::BadOutputs,
            format!("0 grains in outputs[{index}]"),
            "at least 1 grain".to_owned(),
        ),
        TransactionError::TotalOutOfRange => (
            Rule::BadAmount,
            "more than all money".to_owned(),
            format!("at most {} PIT", Amount::MAX_MONEY),
        ),
        TransactionError::KeyMissing => (
            Rule::BadPublicKey,
            "no public key".to_owned(),
            "the public key, since the sequence is 0".to_owned(),
        ),
        TransactionError::KeySuperfluous { sequence } => (
            Rule::BadPublicKey,
            format!("a public key at sequence {sequence}"),
            "none, since it is on record".to_owned(),
        ),
        TransactionError::KeyNotSenders {
            sender,
            key_address,
        } => (
            Rule::BadPublicKey,
            format!("the key of {}", api.chain.address_text(key_address)),
            format!("the key of {}", api.chain.address_text(sender)),
        ),
        TransactionError::OpeningTooSmall { index, found, min } => (
            Rule::OpeningTooSmall,
            format!("{found} PIT to a new account in outputs[{index}]"),
            format!("at least {min} PIT"),
        ),
        TransactionError::WrongSequence { found, expected } => {
            (Rule::BadSequence, found.to_string(), expected.to_string())
        }
        TransactionError::InsufficientBalance { needed, balance } => (
            Rule::InsufficientBalance,
            format!("{balance} PIT"),
            format!("{needed} PIT"),
        ),
        TransactionError::BadSignature => (
            Rule::BadSignature,
            "a signature that does not verify".to_owned(),
            "RSASSA-PSS, SHA-256, MGF1-SHA-256, salt of 32 bytes, over the signing message"
                .to_owned(),
        ),
    }
}
