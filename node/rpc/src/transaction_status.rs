//! Where a transaction stands, mined or pending, as the API shows it.

use pithead_api::convert;
use pithead_api::v1;
use pithead_consensus::Txid;
use pithead_core::mempool::{Fate, Pending};
use tonic::Status;

use crate::api::Api;
use crate::reader::ChainReader;

/// The status of a transaction; `None` if the node does not know the transaction.
///
/// The mempool is asked before the snapshot is taken. A transaction leaves the mempool only after
/// its block is committed, so a transaction that is mined in between is found in the snapshot.
pub(crate) fn transaction_status(
    api: &Api,
    txid: &Txid,
) -> Result<Option<v1::TransactionStatus>, Status> {
    let unmined = {
        let mempool = api.mempool();
        match (mempool.get(txid), mempool.fate(txid)) {
            (Some(pending), _) => Some(pending_status(pending)),
            (None, Some(fate)) => {
                let (state, detail) = fate_parts(fate);
                Some(v1::TransactionStatus {
                    state: state.into(),
                    detail,
                    ..v1::TransactionStatus::default()
                })
            }
            (None, None) => None,
        }
    };
    let reader = ChainReader::new(api)?;
    match reader.place(txid)? {
        Some(place) => {
            let entry = reader.entry_at(place.height)?;
            Ok(Some(reader.mined_status(place, &entry)))
        }
        None => Ok(unmined),
    }
}

/// The status of a transaction in the mempool.
pub(crate) fn pending_status(pending: &Pending) -> v1::TransactionStatus {
    v1::TransactionStatus {
        state: v1::TransactionState::Pending.into(),
        received_time: Some(convert::timestamp(pending.received)),
        ..v1::TransactionStatus::default()
    }
}

/// The state of a transaction that left the mempool without being mined, and the detail to it:
/// the txid of its replacement, or why it was dropped.
pub(crate) fn fate_parts(fate: &Fate) -> (v1::TransactionState, String) {
    match fate {
        Fate::Replaced { by } => (v1::TransactionState::Replaced, by.to_string()),
        Fate::Dropped { reason } => (v1::TransactionState::Dropped, (*reason).to_owned()),
    }
}
