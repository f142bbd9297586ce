//! `pithead block`: one block, with its transactions if asked for.

use std::str::FromStr;

use clap::Args;
use pithead_api::v1;
use pithead_api::v1::get_block_request::Block as Selector;
use pithead_client::Client;
use pithead_consensus::BlockHash;

use super::context::Context;
use super::names::{WalletNames, named, short_named};
use crate::terminal::finality;
use crate::terminal::output::{Column, table};
use crate::terminal::show::{BlockJson, paid};
use crate::terminal::words::{counted, iso, pit, pit_unit, short_hash, si};

/// Arguments of `block`.
#[derive(Debug, Args)]
pub(crate) struct BlockArgs {
    /// A hash, a height, or: head, approved, final.
    #[arg(value_name = "HASH|HEIGHT|TAG", default_value = "head")]
    block: BlockName,
    /// List its transactions as well.
    #[arg(long, short)]
    transactions: bool,
    /// List the validators' approvals of it as well.
    #[arg(long, short)]
    approvals: bool,
    /// Print the block in its consensus encoding, in hex, and nothing else.
    #[arg(long, conflicts_with_all = ["transactions", "approvals"])]
    raw: bool,
}

/// The ways to name a block on the command line.
#[derive(Debug, Clone)]
enum BlockName {
    Hash(BlockHash),
    Height(u64),
    Tag(v1::BlockTag),
}

impl FromStr for BlockName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "head" | "tip" => Ok(Self::Tag(v1::BlockTag::Head)),
            "approved" => Ok(Self::Tag(v1::BlockTag::Approved)),
            "final" => Ok(Self::Tag(v1::BlockTag::Final)),
            _ if text.len() == 64 => text
                .parse()
                .map(Self::Hash)
                .map_err(|error: pithead_consensus::hash::ParseHashError| error.to_string()),
            _ => text.parse().map(Self::Height).map_err(|_| {
                "expected a hash (64 hexadecimal digits), a height, or head, approved, final"
                    .to_owned()
            }),
        }
    }
}

impl From<&BlockName> for Selector {
    fn from(name: &BlockName) -> Self {
        match name {
            BlockName::Hash(hash) => Self::Hash(hash.to_string()),
            BlockName::Height(height) => Self::Height(*height),
            BlockName::Tag(tag) => Self::Tag((*tag).into()),
        }
    }
}

pub(crate) async fn run(context: &Context, args: BlockArgs) -> anyhow::Result<()> {
    let (client, chain, info) = context.connect_to_chain().await?;
    let view = match (args.raw, args.transactions) {
        (true, _) => v1::BlockView::Raw,
        (false, true) => v1::BlockView::Full,
        (false, false) => v1::BlockView::Header,
    };
    let block = whole_block(&client, Selector::from(&args.block), view).await?;
    if args.raw {
        return Ok(context.out.line(hex::encode(&block.raw))?);
    }
    if context.json() {
        return context.out.json(&BlockJson::from(&block));
    }
    let names = context.names(&chain);
    let parameters = info.parameters.unwrap_or_default();
    context.out.fields(&fields(&block, &parameters, &names))?;
    if args.approvals && !block.approvals.is_empty() {
        let table = approval_table(&block.approvals, &names);
        context.out.line(table)?;
    }
    if !args.transactions || block.transactions.is_empty() {
        return Ok(());
    }
    Ok(context.out.line(transaction_table(&block, &names))?)
}

/// The transactions of a block, one a row.
fn transaction_table(block: &v1::Block, names: &WalletNames) -> String {
    let columns = [
        Column::Right("#"),
        Column::Left("txid"),
        Column::Left("sender"),
        Column::Right("outputs"),
        Column::Right("amount (PIT)"),
        Column::Right("fee (PIT)"),
    ];
    let transactions = block.transactions.iter().enumerate();
    let rows = transactions.map(|(index, transaction)| {
        vec![
            index.to_string(),
            transaction.txid.clone(),
            short_named(names, &transaction.sender),
            transaction.outputs.len().to_string(),
            pit(paid(transaction)),
            pit(transaction.fee),
        ]
    });
    table(&columns, rows)
}

/// A block with all its pages. After the first page the block is asked for by its
/// hash, so that all pages are of one block even if the tip moves on.
async fn whole_block(
    client: &Client,
    selector: Selector,
    view: v1::BlockView,
) -> anyhow::Result<v1::Block> {
    let mut request = v1::GetBlockRequest {
        block: Some(selector),
        view: view.into(),
        page_size: 0,
        page_token: String::new(),
    };
    let answer = client.block(request.clone()).await?;
    let mut block = answer.block.unwrap_or_default();
    let hash = block.header.as_ref().map(|header| header.hash.clone());
    request.block = Some(Selector::Hash(hash.unwrap_or_default()));
    request.page_token = answer.next_page_token;
    while !request.page_token.is_empty() {
        let answer = client.block(request.clone()).await?;
        let page = answer.block.unwrap_or_default();
        block.transactions.extend(page.transactions);
        block.txids.extend(page.txids);
        request.page_token = answer.next_page_token;
    }
    Ok(block)
}

/// The approvals of a checkpoint, one a row.
fn approval_table(approvals: &[v1::Approval], names: &WalletNames) -> String {
    let columns = [
        Column::Right("#"),
        Column::Left("validator"),
        Column::Right("builds on"),
        Column::Left("hash"),
    ];
    let rows = approvals.iter().enumerate().map(|(index, approval)| {
        vec![
            (index + 1).to_string(),
            named(names, &approval.validator),
            approval.source_height.to_string(),
            short_hash(&approval.source_hash),
        ]
    });
    table(&columns, rows)
}

/// How far a block is secured, and how many validators approved it.
fn finality_sentence(block: &v1::Block, parameters: &v1::ConsensusParameters) -> String {
    if parameters.validator_count == 0 {
        return "none: this network has no validators".to_owned();
    }
    let Some(word) = finality::word(block.finality()) else {
        return "none: it is off the best chain".to_owned();
    };
    let height = block.header.as_ref().map_or(0, |header| header.height);
    let interval = u64::from(parameters.checkpoint_interval.max(1));
    match (height, height % interval) {
        // The genesis is final from the start: no validator votes for it.
        (0, _) => word.to_owned(),
        (_, 0)
            if block.finality() != v1::Finality::Pending
                && (block.approvals.len() as u64) < u64::from(parameters.approval_quorum) =>
        {
            format!(
                "{word} with a later checkpoint, which {} approved; {} of {} approved this one",
                parameters.approval_quorum,
                block.approvals.len(),
                parameters.validator_count
            )
        }
        (_, 0) => format!(
            "{word}, {} of {} validators approved it, {} needed",
            block.approvals.len(),
            parameters.validator_count,
            parameters.approval_quorum
        ),
        (_, past) => format!(
            "{word}; the next checkpoint is {}",
            height.saturating_add(interval - past)
        ),
    }
}

fn fields(
    block: &v1::Block,
    parameters: &v1::ConsensusParameters,
    names: &WalletNames,
) -> Vec<(&'static str, String)> {
    let header = block.header.clone().unwrap_or_default();
    let commitment = block.commitment.clone().unwrap_or_default();
    let standing = if block.best_chain {
        counted(block.confirmations, "confirmation")
    } else {
        "stale: not on the best chain".to_owned()
    };
    vec![
        ("block", header.hash),
        ("height", header.height.to_string()),
        ("standing", standing),
        ("finality", finality_sentence(block, parameters)),
        ("time", iso(header.time.as_ref())),
        ("previous", header.previous_hash),
        ("transactions", block.transaction_count.to_string()),
        ("size", format!("{} bytes", block.size_bytes)),
        ("subsidy", pit_unit(block.subsidy)),
        ("fees", pit_unit(block.fees)),
        ("reward to", named(names, &commitment.reward_address)),
        ("difficulty", format!("{} hashes", si(header.difficulty))),
        ("bits", format!("{:#010x}", header.bits)),
        ("nonce", header.nonce.to_string()),
        ("version", format!("{:#010x}", header.version)),
        ("merkle root", header.merkle_root),
        ("state root", commitment.state_root),
        ("chain work", header.chain_work),
    ]
}
