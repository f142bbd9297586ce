//! Proofs that a transaction is in a block.

use pithead_api::v1;
use pithead_consensus::{Encode as _, Hash256, SignedTransaction, merkle};
use pithead_core::store::schema::{self, Place};
use tonic::Status;

use crate::api::internal;
use crate::reader::ChainReader;
use crate::status;

/// The header, the commitment and the Merkle path that prove the transaction at a place.
pub(super) fn transaction_proof(
    reader: &ChainReader<'_>,
    place: Place,
) -> Result<v1::GetTransactionProofResponse, Status> {
    let entry = reader.entry_at(place.height)?;
    let block = schema::expect_block(reader.snapshot(), &entry.hash()).map_err(internal)?;
    let leaves: Vec<Hash256> = block
        .transactions
        .iter()
        .map(SignedTransaction::leaf_hash)
        .collect();
    let position = place.position as usize;
    let damaged = || status::internal("the place of the transaction is damaged");
    let path = merkle::audit_path(&leaves, position).ok_or_else(damaged)?;
    let transaction = block.transactions.get(position).ok_or_else(damaged)?;
    Ok(v1::GetTransactionProofResponse {
        header: Some(reader.header(&entry)),
        commitment: Some(reader.api().chain.commitment(&entry.commitment)),
        position: place.position,
        transaction_count: entry.transaction_count,
        path: path.iter().map(|hash| hash.0.to_vec().into()).collect(),
        raw_transaction: transaction.encode().into(),
    })
}
