//! WatchTransaction: a stream of one transaction's status.

use pithead_api::v1;
use pithead_consensus::Txid;
use tokio::sync::broadcast::error::RecvError;
use tonic::Status;

use super::pending::changed_txid;
use crate::api::Api;
use crate::outlet::{Outlet, StreamEnd};
use crate::status;
use crate::transaction_status::transaction_status;

/// Sends the transaction's status at once and then after every change, until the status is
/// settled.
pub(super) async fn watch(
    api: Api,
    txid: Txid,
    confirmations: u64,
    outlet: Outlet<v1::WatchTransactionResponse>,
) -> Result<(), StreamEnd> {
    let mut tip = api.engine.tip();
    let mut finality = api.engine.finality();
    let mut changes = api.engine.pending_changes();
    let mut last: Option<v1::TransactionStatus> = None;
    loop {
        tip.borrow_and_update();
        finality.borrow_and_update();
        let status = match (transaction_status(&api, &txid)?, &last) {
            (Some(status), _) => status,
            // It was known: a reorganisation has undone its block, and it is about to return to the
            // mempool.
            (None, Some(last)) => last.clone(),
            (None, None) => return Err(not_found(&txid).into()),
        };
        if last.as_ref() != Some(&status) {
            let response = v1::WatchTransactionResponse {
                status: Some(status.clone()),
            };
            outlet.send(response).await?;
        }
        if is_settled(&status, confirmations) {
            return Ok(());
        }
        last = Some(status);
        // Wait for a new tip, for finality, or for a change of this very transaction.
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
                    Ok(change) if changed_txid(&change) != txid => {}
                    Ok(_) | Err(RecvError::Lagged(_)) => break,
                    Err(RecvError::Closed) => return Ok(()),
                },
                end = outlet.until_over(&api) => return Err(end),
            }
        }
    }
}

fn not_found(txid: &Txid) -> Status {
    let message = format!("no transaction {txid}, neither mined nor pending");
    status::not_found("TRANSACTION_NOT_FOUND", message)
}

/// Whether the stream ends with this status: nothing can change it, or the transaction has the
/// `confirmations` that the caller waits for; 0 waits for finality.
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
