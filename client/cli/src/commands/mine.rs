//! `pithead mine-blocks`: has a node of a dev network mine blocks at once.

use std::time::Duration;

use clap::Args;
use pithead_api::v1;

use super::context::{Context, TokenRole};

/// How long the node may take: mining a thousand blocks is more work than any
/// other request.
const MINING_TIMEOUT: Duration = Duration::from_secs(600);

/// Arguments of `mine-blocks`.
#[derive(Debug, Args)]
pub(crate) struct MineArgs {
    /// How many blocks.
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000))]
    count: u32,
    /// The wallet or address that gets the rewards.
    #[arg(long, value_name = "WALLET|ADDRESS")]
    address: String,
}

pub(crate) async fn run(context: &Context, args: MineArgs) -> anyhow::Result<()> {
    let (client, chain) = context.connect_as(TokenRole::Admin).await?;
    let reward_address = chain.address_text(&context.resolve(&chain, &args.address)?);
    let request = v1::MineBlocksRequest {
        count: args.count,
        reward_address,
    };
    let mut admin = client.admin();
    let client = client.with_request_timeout(MINING_TIMEOUT);
    let answer = client.call(admin.mine_blocks(request)).await?;
    if context.json() {
        return context.out.json(&serde_json::json!({
            "height": answer.height,
            "block_hashes": answer.block_hashes,
        }));
    }
    for hash in &answer.block_hashes {
        context.out.line(hash)?;
    }
    Ok(context
        .out
        .line(format!("the tip is at height {}", answer.height))?)
}
