//! `pithead chain`: the network and its last blocks.

use clap::Args;
use pithead_api::v1;
use pithead_client::FinalityProgress;
use serde::Serialize;

use super::context::Context;
use super::names::{WalletNames, short_named};
use crate::terminal::finality::{self, FinalityJson, height_and_lag, progress_sentence};
use crate::terminal::output::{Column, table};
use crate::terminal::show::{BlockJson, HeaderJson};
use crate::terminal::words::{Money, hash_rate, iso, pit, pit_unit, short_hash, si};

/// Arguments of `chain`.
#[derive(Debug, Args)]
pub(crate) struct ChainArgs {
    /// How many blocks to list.
    #[arg(long, short = 'n', value_name = "N", default_value_t = 10)]
    count: usize,
    /// Start the list at this height instead of the tip, downwards.
    #[arg(long, value_name = "HEIGHT")]
    from: Option<u64>,
    /// Show hashes and addresses in full.
    #[arg(long)]
    full: bool,
}

#[derive(Debug, Serialize)]
struct ChainJson {
    network: String,
    address_prefix: String,
    genesis_hash: String,
    tip: Option<HeaderJson>,
    next_difficulty: f64,
    next_subsidy: Money,
    supply: Money,
    network_hash_rate: f64,
    mean_block_interval_secs: f64,
    #[serde(flatten)]
    finality: FinalityJson,
    finality_progress: &'static str,
    pending_transaction_count: u64,
    transaction_count: u64,
    state_root: String,
    parameters: Option<ParametersJson>,
    blocks: Vec<BlockJson>,
}

#[derive(Debug, Serialize)]
struct ParametersJson {
    block_interval_secs: u32,
    half_life_secs: u32,
    max_future_secs: u32,
    max_block_bytes: u32,
    max_account_changes: u32,
    min_opening_amount: Money,
    reward_maturity: u32,
    checkpoint_interval: u32,
    approval_quorum: u32,
    validator_count: u32,
}

impl From<&v1::ConsensusParameters> for ParametersJson {
    fn from(parameters: &v1::ConsensusParameters) -> Self {
        Self {
            block_interval_secs: parameters.block_interval_secs,
            half_life_secs: parameters.half_life_secs,
            max_future_secs: parameters.max_future_secs,
            max_block_bytes: parameters.max_block_bytes,
            max_account_changes: parameters.max_account_changes,
            min_opening_amount: parameters.min_opening_amount.into(),
            reward_maturity: parameters.reward_maturity,
            checkpoint_interval: parameters.checkpoint_interval,
            approval_quorum: parameters.approval_quorum,
            validator_count: parameters.validator_count,
        }
    }
}

pub(crate) async fn run(context: &Context, args: ChainArgs) -> anyhow::Result<()> {
    let (client, chain, info) = context.connect_to_chain().await?;
    let blocks = client.blocks(args.from, args.count).await?;
    if context.json() {
        return context.out.json(&ChainJson {
            finality_progress: FinalityProgress::of(&info).name(),
            finality: (&info).into(),
            network: info.network,
            address_prefix: info.address_prefix,
            genesis_hash: info.genesis_hash,
            tip: info.tip.as_ref().map(Into::into),
            next_difficulty: info.next_difficulty,
            next_subsidy: info.next_subsidy.into(),
            supply: info.supply.into(),
            network_hash_rate: info.network_hash_rate,
            mean_block_interval_secs: info.mean_block_interval_secs,
            pending_transaction_count: info.pending_transaction_count,
            transaction_count: info.transaction_count,
            state_root: info.state_root,
            parameters: info.parameters.as_ref().map(Into::into),
            blocks: blocks.iter().map(Into::into).collect(),
        });
    }
    context.out.fields(&fields(&info))?;
    if blocks.is_empty() {
        return Ok(());
    }
    let names = context.names(&chain);
    Ok(context.out.line(block_table(&blocks, &names, args.full))?)
}

/// Blocks as a table, one a row.
fn block_table(blocks: &[v1::Block], names: &WalletNames, full: bool) -> String {
    // On a network without validators the column would be empty.
    let secured = blocks
        .iter()
        .any(|block| finality::word(block.finality()).is_some());
    let mut columns = vec![
        Column::Right("height"),
        Column::Left("time"),
        Column::Left("hash"),
        Column::Right("txs"),
        Column::Right("fees (PIT)"),
        Column::Right("subsidy (PIT)"),
        Column::Left("reward to"),
        Column::Right("bytes"),
    ];
    columns.extend(secured.then_some(Column::Left("finality")));
    let rows = blocks.iter().map(|block| {
        let header = block.header.clone().unwrap_or_default();
        let commitment = block.commitment.clone().unwrap_or_default();
        let reward_address = commitment.reward_address;
        vec![
            header.height.to_string(),
            iso(header.time.as_ref()),
            if full {
                header.hash
            } else {
                short_hash(&header.hash)
            },
            block.transaction_count.to_string(),
            pit(block.fees),
            pit(block.subsidy),
            match (header.height, full) {
                // The genesis block pays no reward.
                (0, _) => String::new(),
                (_, true) => reward_address,
                (_, false) => short_named(names, &reward_address),
            },
            block.size_bytes.to_string(),
            finality::word(block.finality())
                .unwrap_or_default()
                .to_owned(),
        ]
    });
    table(&columns, rows)
}

fn fields(info: &v1::GetChainInfoResponse) -> Vec<(&'static str, String)> {
    let tip = info.tip.clone().unwrap_or_default();
    let parameters = info.parameters.unwrap_or_default();
    let mut fields = vec![
        ("network", info.network.clone()),
        ("genesis", info.genesis_hash.clone()),
        ("tip", tip.hash),
        (
            "height",
            format!("{} ({})", tip.height, iso(tip.time.as_ref())),
        ),
    ];
    let progress = FinalityProgress::of(info);
    if progress != FinalityProgress::NoValidators {
        let approved = height_and_lag(info.approved_height, info.approved_lag);
        let last_final = height_and_lag(info.final_height, info.final_lag);
        fields.push(("approved", approved));
        fields.push(("final", last_final));
    }
    let mut sentence = progress_sentence(progress, info);
    if progress == FinalityProgress::Waiting {
        sentence.push_str(" (see `pithead validators`)");
    }
    fields.push(("finality", sentence));
    fields.extend([
        (
            "block time",
            format!(
                "{:.2} s on average, {} s intended",
                info.mean_block_interval_secs, parameters.block_interval_secs
            ),
        ),
        ("hash rate", hash_rate(info.network_hash_rate)),
        (
            "difficulty",
            format!("{} hashes for the next block", si(info.next_difficulty)),
        ),
        ("subsidy", pit_unit(info.next_subsidy)),
        ("supply", pit_unit(info.supply)),
        (
            "transactions",
            format!(
                "{} mined, {} pending",
                info.transaction_count, info.pending_transaction_count
            ),
        ),
    ]);
    fields
}
