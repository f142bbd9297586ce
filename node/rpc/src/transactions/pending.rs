//! The mempool's transactions: a list of them, and a stream of the changes.

use std::sync::Arc;

use pithead_api::convert;
use pithead_api::v1;
use pithead_consensus::{Address, Txid};
use pithead_core::mempool::{Pending, PendingChange};
use pithead_core::store::schema;
use tokio::sync::broadcast::{self, error::RecvError};
use tonic::Status;

use crate::api::{Api, bad_field, internal};
use crate::outlet::{Outlet, StreamEnd, too_slow};
use crate::page::{PAGE_BYTES_MAX, page_size, read_token, shown_size, token};
use crate::reader::ChainReader;
use crate::transaction_status::fate_parts;

/// Transactions of a page, unless the caller says otherwise, and at most.
const PENDING_PAGE: usize = 100;
const PENDING_PAGE_MAX: usize = 1_000;
/// Advice to a subscriber that missed changes.
pub(super) const RESUME: &str = "subscribe again and compare with ListPendingTransactions";

/// A page of the pending transactions: those of a sender in the order of their sequences, or all
/// of them in the order of their fee rates.
pub(super) fn list_pending(
    reader: &ChainReader<'_>,
    request: &v1::ListPendingTransactionsRequest,
) -> Result<v1::ListPendingTransactionsResponse, Status> {
    let api = reader.api();
    let size = page_size(request.page_size, PENDING_PAGE, PENDING_PAGE_MAX);
    let first = read_token::<8>(&request.page_token)?.map_or(0, u64::from_be_bytes);
    let first = usize::try_from(first).unwrap_or(usize::MAX);
    let sender = if request.sender.is_empty() {
        None
    } else {
        let sender = api.chain.address("sender", &request.sender);
        Some(sender.map_err(bad_field)?)
    };
    let (page, total) = pending_page(api, sender.as_ref(), first, size);
    let next = first.saturating_add(page.len());
    let transactions = page
        .iter()
        .map(|pending| pending_message(reader, pending))
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

/// The pending transactions from the `first` on, and how many there are in all.
fn pending_page(
    api: &Api,
    sender: Option<&Address>,
    first: usize,
    size: usize,
) -> (Vec<Arc<Pending>>, usize) {
    let mempool = api.mempool();
    let all: Box<dyn Iterator<Item = &Arc<Pending>>> = match sender {
        Some(sender) => Box::new(mempool.of_sender(sender)),
        None => Box::new(mempool.iter_by_rate()),
    };
    let mut bytes = 0;
    let page = all
        .skip(first)
        .take(size)
        .take_while(|pending| {
            let fits = bytes <= PAGE_BYTES_MAX;
            bytes += shown_size(pending.size());
            fits
        })
        .cloned()
        .collect();
    let total = match sender {
        Some(sender) => mempool.of_sender(sender).count(),
        None => mempool.len(),
    };
    (page, total)
}

fn pending_message(
    reader: &ChainReader<'_>,
    pending: &Pending,
) -> Result<v1::PendingTransaction, Status> {
    let api = reader.api();
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
}

/// Sends every change of the mempool; with an address, only changes of transactions that the
/// address sends or receives.
pub(super) async fn send_changes(
    api: Api,
    mut changes: broadcast::Receiver<PendingChange>,
    address: Option<Address>,
    outlet: Outlet<v1::SubscribePendingTransactionsResponse>,
) -> Result<(), StreamEnd> {
    loop {
        let change = tokio::select! {
            change = changes.recv() => change,
            end = outlet.until_over(&api) => return Err(end),
        };
        match change {
            Ok(change) => {
                if address.is_none_or(|address| concerns(&change, &address)) {
                    outlet.send(pending_event(&api, &change)).await?;
                }
            }
            Err(RecvError::Closed) => return Ok(()),
            Err(RecvError::Lagged(_)) => return Err(too_slow(RESUME).into()),
        }
    }
}

/// The transaction that changed.
pub(super) fn changed_txid(change: &PendingChange) -> Txid {
    changed(change).txid()
}

fn changed(change: &PendingChange) -> &Pending {
    match change {
        PendingChange::Added(pending)
        | PendingChange::Mined(pending)
        | PendingChange::Left(pending, _) => pending,
    }
}

fn concerns(change: &PendingChange, address: &Address) -> bool {
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
