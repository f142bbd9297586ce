//! BuildTransaction and EstimateFee: the bytes to sign, and the fee that gets them mined.

use pithead_api::convert;
use pithead_api::v1;
use pithead_consensus::transaction::{MAX_DATA_BYTES, MAX_OUTPUTS};
use pithead_consensus::{Address, Amount, Encode as _, Output, TransactionBody};
use pithead_core::mempool::FeeRate;
use pithead_core::store::schema;
use tonic::Status;

use crate::api::{Api, bad_field, internal};
use crate::reader::ChainReader;
use crate::status;

/// Bytes of a payment with one output by a sender whose key is on record.
pub(super) const PAYMENT_BYTES: u32 = 351;

pub(super) fn build(
    api: &Api,
    request: &v1::BuildTransactionRequest,
) -> Result<v1::BuildTransactionResponse, Status> {
    let sender = api
        .chain
        .address("sender", &request.sender)
        .map_err(bad_field)?;
    let outputs = outputs(api, request)?;
    if request.data.len() > MAX_DATA_BYTES {
        let found = request.data.len();
        return Err(status::invalid(
            "data",
            format!("{found} bytes, at most {MAX_DATA_BYTES} allowed"),
        ));
    }
    let sequence = match request.sequence {
        Some(sequence) => sequence,
        None => next_sequence(api, &sender)?,
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
        None => {
            let weight = body.weight();
            estimate_rate(api, weight, 1).saturating_mul(weight as u64)
        }
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

fn outputs(api: &Api, request: &v1::BuildTransactionRequest) -> Result<Vec<Output>, Status> {
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
    Ok(outputs)
}

/// The sequence that follows everything the sender has mined or pending.
fn next_sequence(api: &Api, sender: &Address) -> Result<u64, Status> {
    let reader = ChainReader::new(api)?;
    let account = schema::account(reader.snapshot(), sender).map_err(internal)?;
    Ok(api.mempool().next_sequence(sender, account.sequence))
}

pub(super) fn estimate_fee(api: &Api, request: &v1::EstimateFeeRequest) -> v1::EstimateFeeResponse {
    let size = match request.size_bytes {
        0 => PAYMENT_BYTES,
        size => size,
    };
    let rate = estimate_rate(api, size as usize, request.target_blocks.max(1));
    v1::EstimateFeeResponse {
        fee_rate: rate,
        fee: rate.saturating_mul(u64::from(size)),
    }
}

/// The fee rate at which a transaction would be mined within so many blocks, if these blocks were
/// mined now from what is pending, and at which the mempool takes it: just above the first transaction that they have no room for.
fn estimate_rate(api: &Api, size: usize, target_blocks: u32) -> u64 {
    let mempool = api.mempool();
    let block_bytes = api.engine.genesis().params.max_block_bytes as usize;
    let room = block_bytes.saturating_mul(target_blocks as usize);
    let floor = mempool.entry_rate(size);
    if mempool.bytes() < room {
        return floor;
    }
    let mut bytes = 0;
    let first_left_out = mempool.iter_by_rate().find(|pending| {
        bytes += pending.body().weight();
        bytes > room
    });
    let rate = first_left_out.map_or(FeeRate(0), |pending| pending.fee_rate());
    floor.max(rate.grains_per_byte() + 1)
}
