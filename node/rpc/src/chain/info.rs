//! GetChainInfo: the network, its parameters, and where the chain stands.

use pithead_api::convert;
use pithead_api::v1;
use pithead_consensus::subsidy::subsidy;
use pithead_consensus::{Genesis, Height, Work, transaction};
use pithead_core::chain::next_bits;
use pithead_core::finality::FinalityStatus;
use tonic::Status;

use crate::api::internal;
use crate::reader::ChainReader;

/// Blocks over which rates are estimated.
const RATE_WINDOW_BLOCKS: u64 = 120;

/// Limits of protocol §3, in the type that the API shows them in.
const MAX_TRANSACTION_BYTES: u32 = transaction::MAX_TRANSACTION_BYTES as u32;
const MAX_DATA_BYTES: u32 = transaction::MAX_DATA_BYTES as u32;
const MAX_OUTPUTS: u32 = transaction::MAX_OUTPUTS as u32;

pub(super) fn chain_info(reader: &ChainReader<'_>) -> Result<v1::GetChainInfoResponse, Status> {
    let genesis = reader.api().engine.genesis();
    let params = &genesis.params;
    let tip = reader.tip();
    let bits = next_bits(params, reader.snapshot(), tip).map_err(internal)?;
    let next_target = bits.to_target().unwrap_or(params.pow_limit);
    let (hash_rate, interval) = rates(reader)?;
    let pending = reader.api().mempool().len();
    let FinalityStatus {
        approved,
        last_final,
        conflict,
    } = reader.finality().status;
    Ok(v1::GetChainInfoResponse {
        network: genesis.name.clone(),
        address_prefix: genesis.prefix.to_string(),
        genesis_hash: params.genesis_hash.to_string(),
        tip: Some(reader.header(tip)),
        next_bits: bits.0,
        next_difficulty: convert::work_f64(next_target),
        next_subsidy: subsidy(tip.header.time).grains(),
        supply: u64::try_from(tip.outcome.supply).unwrap_or(u64::MAX),
        network_hash_rate: hash_rate,
        mean_block_interval_secs: interval,
        parameters: Some(parameters(genesis)),
        approved_height: approved.height.0,
        final_height: last_final.height.0,
        pending_transaction_count: pending as u64,
        state_root: tip.outcome.state_root.to_string(),
        transaction_count: tip.outcome.transactions_total,
        approved_hash: approved.hash.to_string(),
        final_hash: last_final.hash.to_string(),
        approved_lag: tip.height.0.saturating_sub(approved.height.0),
        final_lag: tip.height.0.saturating_sub(last_final.height.0),
        finality_conflict: conflict,
    })
}

fn parameters(genesis: &Genesis) -> v1::ConsensusParameters {
    let params = &genesis.params;
    v1::ConsensusParameters {
        block_interval_secs: params.block_interval_secs,
        half_life_secs: params.half_life_secs,
        max_future_secs: params.max_future_secs,
        max_block_bytes: params.max_block_bytes,
        max_account_changes: params.max_account_changes,
        min_opening_amount: params.min_opening_amount.grains(),
        reward_maturity: params.reward_maturity,
        checkpoint_interval: params.checkpoint_interval,
        approval_quorum: params.approval_quorum,
        validator_count: u32::try_from(genesis.validators.len()).unwrap_or(u32::MAX),
        pow_limit_bits: params.pow_limit.to_compact().0,
        max_transaction_bytes: MAX_TRANSACTION_BYTES,
        max_data_bytes: MAX_DATA_BYTES,
        max_outputs: MAX_OUTPUTS,
    }
}

/// Hashes a second and mean seconds a block, over the last blocks.
fn rates(reader: &ChainReader<'_>) -> Result<(f64, f64), Status> {
    let tip = reader.tip();
    let top = tip.height.0;
    // Not from the genesis block: its time says nothing about when mining began.
    let blocks = RATE_WINDOW_BLOCKS.min(top.saturating_sub(1));
    if blocks == 0 {
        return Ok((0.0, 0.0));
    }
    let first = reader.entry_at(Height(top - blocks))?;
    let seconds = f64::from(tip.header.time.saturating_sub(first.header.time));
    let work: Work = tip.chain_work.saturating_sub(first.chain_work);
    // Times are whole seconds: blocks found within one second count as one second.
    Ok((work.to_f64() / seconds.max(1.0), seconds / blocks as f64))
}
