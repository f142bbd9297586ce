//! TransactionService: building, submitting and following transactions.

use pithead_api::convert;
use pithead_api::v1;
use pithead_api::v1::transaction_service_server::TransactionService;
use pithead_api::v1::{SubmitTransactionOutcome as Outcome, TransactionRule as Rule};
use pithead_consensus::check::TransactionError;
use pithead_consensus::transaction::{MAX_DATA_BYTES, MAX_OUTPUTS};
use pithead_consensus::{
    Amount, Decode as _, DecodeError, Encode as _, SignedTransaction, TransactionBody, Txid,
};
use tokio::sync::broadcast::error::RecvError;
use tonic::{Request, Response, Status};

use super::chain::{Answers, PAGE_BYTES_MAX, bad_field, shown_size};
use super::follow::{Closed, Outlet, too_slow, with_ending};
use super::page::{page_size, read_token, token};
use super::reader::{Reader, fate_parts, internal, transaction_status};
use super::{Api, status, stopped};
use pithead_core::mempool::{FeeRate, Mempool, Pending, PendingChange, RejectReason};
use pithead_core::node::{RejectedTransaction, TransactionVerdict};
use pithead_core::store::schema;
use pithead_engine::Stopped;

/// Bytes of a payment with one output whose key is on record.
const PAYMENT_BYTES: u32 = 351;

/// The service.
#[derive(Clone)]
pub(super) struct Transactions(pub(super) Api);

#[tonic::async_trait]
impl TransactionService for Transactions {
    async fn submit_transaction(
        &self,
        request: Request<v1::SubmitTransactionRequest>,
    ) -> Result<Response<v1::SubmitTransactionResponse>, Status> {
        use v1::submit_transaction_request::Transaction;
        let raw = match request.into_inner().transaction {
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
            Err(error) => return Ok(Response::new(rejected_encoding(&error))),
        };
        let txid = transaction.txid(&self.0.chain.genesis_hash);
        let verdict = self
            .0
            .engine
            .submit_transaction(transaction)
            .await
            .map_err(stopped)?;
        let response = match verdict {
            Ok(verdict) => accepted(&txid, &verdict),
            Err(RejectedTransaction::Internal(error)) => return Err(internal(error)),
            Err(RejectedTransaction::Rule(reason)) => v1::SubmitTransactionResponse {
                outcome: Outcome::Rejected.into(),
                txid: txid.to_string(),
                rejection: Some(rejection(&self.0, &reason)),
                replaced_txid: String::new(),
            },
        };
        Ok(Response::new(response))
    }

    async fn build_transaction(
        &self,
        request: Request<v1::BuildTransactionRequest>,
    ) -> Result<Response<v1::BuildTransactionResponse>, Status> {
        let request = request.into_inner();
        build(&self.0, &request).map(Response::new)
    }

    async fn get_mempool_info(
        &self,
        _request: Request<v1::GetMempoolInfoRequest>,
    ) -> Result<Response<v1::GetMempoolInfoResponse>, Status> {
        let mempool = self.0.mempool();
        let limits = mempool.limits();
        Ok(Response::new(v1::GetMempoolInfoResponse {
            transaction_count: mempool.len() as u64,
            size_bytes: mempool.bytes() as u64,
            max_size_bytes: limits.bytes_max as u64,
            total_fees: mempool.fees(),
            min_fee_rate: limits.min_fee_rate,
            entry_fee_rate: mempool.entry_rate(),
            expiry_secs: limits.expiry_secs,
        }))
    }

    async fn list_pending_transactions(
        &self,
        request: Request<v1::ListPendingTransactionsRequest>,
    ) -> Result<Response<v1::ListPendingTransactionsResponse>, Status> {
        let request = request.into_inner();
        let api = self.0.clone();
        self.0
            .query(move |reader| list_pending(&api, reader, &request))
            .await
    }

    async fn estimate_fee(
        &self,
        request: Request<v1::EstimateFeeRequest>,
    ) -> Result<Response<v1::EstimateFeeResponse>, Status> {
        let request = request.into_inner();
        let size = match request.size_bytes {
            0 => PAYMENT_BYTES,
            size => size,
        };
        let rate = estimate_rate(&self.0, request.target_blocks.max(1));
        Ok(Response::new(v1::EstimateFeeResponse {
            fee_rate: rate,
            fee: rate.saturating_mul(u64::from(size)),
        }))
    }

    type WatchTransactionStream = Answers<v1::WatchTransactionResponse>;

    async fn watch_transaction(
        &self,
        request: Request<v1::WatchTransactionRequest>,
    ) -> Result<Response<Self::WatchTransactionStream>, Status> {
        let request = request.into_inner();
        let txid = convert::txid("txid", &request.txid).map_err(bad_field)?;
        let api = self.0.clone();
        let (outlet, answers) = Outlet::new();
        let (ending_sender, ending) = tokio::sync::oneshot::channel();
        tokio::spawn(async move {
            if watch(&api, &txid, request.confirmations, &outlet)
                .await
                .is_err()
            {
                let _ = ending_sender.send(too_slow("call again"));
            }
        });
        Ok(Response::new(with_ending(answers, ending)))
    }

    type SubscribePendingTransactionsStream = Answers<v1::SubscribePendingTransactionsResponse>;

    async fn subscribe_pending_transactions(
        &self,
        request: Request<v1::SubscribePendingTransactionsRequest>,
    ) -> Result<Response<Self::SubscribePendingTransactionsStream>, Status> {
        let text = request.into_inner().address;
        let address = if text.is_empty() {
            None
        } else {
            Some(self.0.chain.address("address", &text).map_err(bad_field)?)
        };
        let api = self.0.clone();
        let (outlet, answers) = Outlet::new();
        let (ending_sender, ending) = tokio::sync::oneshot::channel();
        let mut changes = api.engine.pending_changes();
        tokio::spawn(async move {
            let slow = || too_slow("subscribe again and compare with ListPendingTransactions");
            loop {
                let change = tokio::select! {
                    change = changes.recv() => change,
                    () = outlet.closed() => return,
                    () = api.until_stopping() => {
                        outlet.fail(stopped(Stopped)).await;
                        return;
                    }
                };
                match change {
                    Ok(change) => {
                        let concerns = address.is_none_or(|address| concerns(&change, &address));
                        if concerns && outlet.send(pending_event(&api, &change)).await.is_err() {
                            let _ = ending_sender.send(slow());
                            return;
                        }
                    }
                    Err(RecvError::Closed) => return,
                    Err(RecvError::Lagged(_)) => {
                        outlet.fail(slow()).await;
                        return;
                    }
                }
            }
        });
        Ok(Response::new(with_ending(answers, ending)))
    }
}

/// Puts the parts of a signed transaction together (protocol §3).
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

fn rejected_encoding(error: &DecodeError) -> v1::SubmitTransactionResponse {
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
    v1::SubmitTransactionResponse {
        outcome: Outcome::Rejected.into(),
        txid: String::new(),
        rejection: Some(v1::TransactionRejection {
            rule: rule.into(),
            found: error.to_string(),
            expected,
            message: format!("the bytes are not a transaction: {error}"),
        }),
        replaced_txid: String::new(),
    }
}

/// Names the rule with what was found and what was expected.
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
            pithead_core::mempool::SENDER_TRANSACTIONS_MAX.to_string(),
            "fewer".to_owned(),
        ),
        RejectReason::Full { required } => (
            Rule::MempoolFull,
            "a full mempool".to_owned(),
            format!("{required} grains a byte"),
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

fn build(
    api: &Api,
    request: &v1::BuildTransactionRequest,
) -> Result<v1::BuildTransactionResponse, Status> {
    let sender = api
        .chain
        .address("sender", &request.sender)
        .map_err(bad_field)?;
    let outputs = api.chain.outputs(&request.outputs).map_err(bad_field)?;
    if outputs.is_empty() || outputs.len() > MAX_OUTPUTS {
        let found = outputs.len();
        return Err(status::invalid(
            "outputs",
            format!("{found} outputs, 1 to {MAX_OUTPUTS} allowed"),
        ));
    }
    if let Some(index) = outputs.iter().position(|out| out.amount == Amount::ZERO) {
        return Err(status::invalid(
            &format!("outputs[{index}].amount"),
            "an output pays at least 1 grain",
        ));
    }
    if request.data.len() > MAX_DATA_BYTES {
        let found = request.data.len();
        return Err(status::invalid(
            "data",
            format!("{found} bytes, at most {MAX_DATA_BYTES} allowed"),
        ));
    }
    let sequence = match request.sequence {
        Some(sequence) => sequence,
        None => {
            let reader = Reader::new(api)?;
            let account = schema::account(reader.snapshot(), &sender).map_err(internal)?;
            api.mempool().next_sequence(&sender, account.sequence)
        }
    };
    let mut body = TransactionBody {
        sender,
        sequence,
        fee: Amount::ZERO,
        outputs,
        data: request.data.to_vec(),
    };
    let fee = match request.fee {
        Some(fee) => fee,
        None => estimate_rate(api, 1).saturating_mul(body.signed_size() as u64),
    };
    body.fee = convert::amount("fee", fee).map_err(bad_field)?;
    if body.total().is_none() {
        return Err(status::invalid(
            "outputs",
            "amounts and fee exceed all the money there can be",
        ));
    }
    Ok(v1::BuildTransactionResponse {
        body: body.encode().into(),
        signing_message: body.signing_message(&api.chain.genesis_hash).into(),
        txid: body.txid(&api.chain.genesis_hash).to_string(),
        fee,
        sequence,
        public_key_required: sequence == 0,
        size_bytes: u32::try_from(body.signed_size()).unwrap_or(u32::MAX),
    })
}

/// The fee rate that would be mined within so many blocks, were they mined now
/// from what is pending: just above what those blocks have no room for.
fn estimate_rate(api: &Api, target_blocks: u32) -> u64 {
    let mempool = api.mempool();
    let block_bytes = api.engine.genesis().params.max_block_bytes as usize;
    let room = block_bytes.saturating_mul(target_blocks as usize);
    let floor = mempool.entry_rate();
    if mempool.bytes() < room {
        return floor;
    }
    let mut bytes = 0;
    let first_left_out = mempool.iter_by_rate().find(|pending| {
        bytes += pending.size();
        bytes > room
    });
    let rate = first_left_out.map_or(FeeRate(0), |pending| pending.fee_rate());
    floor.max(rate.grains_per_byte() + 1)
}

fn list_pending(
    api: &Api,
    reader: &Reader<'_>,
    request: &v1::ListPendingTransactionsRequest,
) -> Result<v1::ListPendingTransactionsResponse, Status> {
    let size = page_size(request.page_size, 100, 1_000);
    let first = read_token::<8>(&request.page_token)?.map_or(0, u64::from_be_bytes);
    let first = usize::try_from(first).unwrap_or(usize::MAX);
    let sender = if request.sender.is_empty() {
        None
    } else {
        let sender = api.chain.address("sender", &request.sender);
        Some(sender.map_err(bad_field)?)
    };
    let (page, total) = {
        let mempool = api.mempool();
        let all: Box<dyn Iterator<Item = &std::sync::Arc<Pending>>> = match &sender {
            Some(sender) => Box::new(mempool.of_sender(sender)),
            None => Box::new(mempool.iter_by_rate()),
        };
        let mut bytes = 0;
        let page: Vec<_> = all
            .skip(first)
            .take(size)
            .take_while(|pending| {
                let fits = bytes <= PAGE_BYTES_MAX;
                bytes += shown_size(pending.size());
                fits
            })
            .cloned()
            .collect();
        let total = match &sender {
            Some(sender) => mempool.of_sender(sender).count(),
            None => mempool.len(),
        };
        (page, total)
    };
    let next = first.saturating_add(page.len());
    let transactions = page
        .iter()
        .map(|pending| {
            let sender = &pending.body().sender;
            let account = schema::account(reader.snapshot(), sender).map_err(internal)?;
            Ok(v1::PendingTransaction {
                transaction: Some(
                    api.chain
                        .transaction(pending.transaction(), &pending.txid()),
                ),
                received_time: Some(convert::timestamp(pending.received)),
                fee_rate: pending.fee_rate().grains_per_byte(),
                ready: api.mempool().is_ready(pending, account.sequence),
            })
        })
        .collect::<Result<_, Status>>()?;
    Ok(v1::ListPendingTransactionsResponse {
        transactions,
        next_page_token: if next < total {
            token(&(next as u64).to_be_bytes())
        } else {
            String::new()
        },
        total_count: total as u64,
    })
}

/// Follows one transaction: its state at once, then every change.
async fn watch(
    api: &Api,
    txid: &Txid,
    confirmations: u64,
    outlet: &Outlet<v1::WatchTransactionResponse>,
) -> Result<(), Closed> {
    let mut tip = api.engine.tip();
    let mut finality = api.engine.finality();
    let mut changes = api.engine.pending_changes();
    let mut last = None;
    loop {
        tip.borrow_and_update();
        finality.borrow_and_update();
        let status = match transaction_status(api, txid) {
            Ok(Some(status)) => status,
            // Seen before, so it is on its way from a left branch to the mempool.
            Ok(None) if last.is_some() => last.clone().unwrap_or_default(),
            Ok(None) => {
                let message = format!("no transaction {txid}, neither mined nor pending");
                outlet
                    .fail(status::not_found("TRANSACTION_NOT_FOUND", message))
                    .await;
                return Ok(());
            }
            Err(error) => {
                outlet.fail(error).await;
                return Ok(());
            }
        };
        let done = is_settled(&status, confirmations);
        if last.as_ref() != Some(&status) {
            outlet
                .send(v1::WatchTransactionResponse {
                    status: Some(status.clone()),
                })
                .await?;
            last = Some(status);
        }
        if done {
            return Ok(());
        }
        // Wait for a new tip or for a change of this very transaction.
        loop {
            tokio::select! {
                changed = tip.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return Ok(()),
                },
                changed = finality.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return Ok(()),
                },
                change = changes.recv() => match change {
                    Ok(change) if changed_txid(&change) != *txid => {}
                    Ok(_) | Err(RecvError::Lagged(_)) => break,
                    Err(RecvError::Closed) => return Ok(()),
                },
                () = outlet.closed() => return Ok(()),
                () = api.until_stopping() => {
                    outlet.fail(stopped(Stopped)).await;
                    return Ok(());
                }
            }
        }
    }
}

fn is_settled(status: &v1::TransactionStatus, confirmations: u64) -> bool {
    use v1::TransactionState as State;
    match status.state() {
        State::Final | State::Replaced | State::Dropped => true,
        State::Mined | State::Approved => {
            confirmations > 0 && status.confirmations >= confirmations
        }
        State::Pending | State::Unspecified => false,
    }
}

fn changed_txid(change: &PendingChange) -> Txid {
    changed(change).txid()
}

fn changed(change: &PendingChange) -> &Pending {
    match change {
        PendingChange::Added(pending)
        | PendingChange::Mined(pending)
        | PendingChange::Left(pending, _) => pending,
    }
}

fn concerns(change: &PendingChange, address: &pithead_consensus::Address) -> bool {
    let body = changed(change).body();
    let mut outputs = body.outputs.iter();
    body.sender == *address || outputs.any(|output| output.recipient == *address)
}

fn pending_event(api: &Api, change: &PendingChange) -> v1::SubscribePendingTransactionsResponse {
    use v1::subscribe_pending_transactions_response::Event;
    let removed = |pending: &Pending, state: v1::TransactionState, detail| {
        Event::Removed(v1::PendingTransactionRemoved {
            txid: pending.txid().to_string(),
            state: state.into(),
            detail,
        })
    };
    let event = match change {
        PendingChange::Added(pending) => Event::Added(
            api.chain
                .transaction(pending.transaction(), &pending.txid()),
        ),
        PendingChange::Mined(pending) => {
            removed(pending, v1::TransactionState::Mined, String::new())
        }
        PendingChange::Left(pending, fate) => {
            let (state, detail) = fate_parts(fate);
            removed(pending, state, detail)
        }
    };
    v1::SubscribePendingTransactionsResponse { event: Some(event) }
}

impl Api {
    /// The mempool, for reading.
    pub(super) fn mempool(&self) -> std::sync::RwLockReadGuard<'_, Mempool> {
        self.engine
            .mempool()
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
