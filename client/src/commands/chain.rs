//! `pithead chain`: the network and its last blocks.

use std::collections::BTreeMap;

use clap::Args;
use pithead_api::v1;
use pithead_client::Client;
use serde::Serialize;

use super::context::{Context, short_named};
use crate::finality::{self, Progress, height_and_lag};
use crate::output::{Column, table};
use crate::show::{BlockJson, HeaderJson, Money, hash_rate, iso, pit, pit_unit, short_hash, si};

/// Largest page of blocks that nodes give.
const PAGE_MAX: usize = 500;

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
    approved_height: u64,
    approved_hash: String,
    approved_lag: u64,
    final_height: u64,
    final_hash: String,
    final_lag: u64,
    finality_conflict: bool,
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
            reward_maturity: parameters.reward_maturity,
            checkpoint_interval: parameters.checkpoint_interval,
            approval_quorum: parameters.approval_quorum,
            validator_count: parameters.validator_count,
        }
    }
}

pub(crate) async fn run(context: &Context, args: ChainArgs) -> anyhow::Result<()> {
    let (client, chain, info) = context.connect_to_chain().await?;
    let blocks = last_blocks(&client, args.count, args.from).await?;
    if context.json() {
        return context.out.json(&ChainJson {
            finality_progress: Progress::of(&info).name(),
            network: info.network,
            address_prefix: info.address_prefix,
            genesis_hash: info.genesis_hash,
            tip: info.tip.as_ref().map(Into::into),
            next_difficulty: info.next_difficulty,
            next_subsidy: info.next_subsidy.into(),
            supply: info.supply.into(),
            network_hash_rate: info.network_hash_rate,
            mean_block_interval_secs: info.mean_block_interval_secs,
            approved_height: info.approved_height,
            approved_hash: info.approved_hash,
            approved_lag: info.approved_lag,
            final_height: info.final_height,
            final_hash: info.final_hash,
            final_lag: info.final_lag,
            finality_conflict: info.finality_conflict,
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

/// Blocks of the best chain, newest first.
pub(crate) async fn last_blocks(
    client: &Client,
    count: usize,
    start_height: Option<u64>,
) -> anyhow::Result<Vec<v1::Block>> {
    let mut blocks: Vec<v1::Block> = Vec::new();
    let mut page_token = String::new();
    while blocks.len() < count {
        let left = (count - blocks.len()).min(PAGE_MAX);
        let request = v1::ListBlocksRequest {
            page_size: u32::try_from(left).unwrap_or(1),
            page_token,
            start_height,
        };
        let page = client
            .read(|| {
                let (mut chain, request) = (client.chain(), request.clone());
                async move { chain.list_blocks(request).await }
            })
            .await?;
        blocks.extend(page.blocks);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    blocks.truncate(count);
    Ok(blocks)
}

/// Blocks as a table, one a row.
pub(crate) fn block_table(
    blocks: &[v1::Block],
    names: &BTreeMap<String, String>,
    full: bool,
) -> String {
    // Without validators there is nothing to say in this column.
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
                // The genesis block pays nobody.
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
    let progress = Progress::of(info);
    if progress != Progress::NoValidators {
        let approved = height_and_lag(info.approved_height, info.approved_lag);
        let last_final = height_and_lag(info.final_height, info.final_lag);
        fields.push(("approved", approved));
        fields.push(("final", last_final));
    }
    let mut sentence = progress.sentence(info);
    if progress == Progress::Waiting {
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
