//! The arguments of `pithead devnet`.

use std::path::PathBuf;

/// Arguments of `devnet`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct DevnetArgs {
    /// Number of node processes [default: 1, or as many as there are validators]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) nodes: Option<u32>,
    /// Number of validators: so many of the nodes vote, and blocks become final [default: 0]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=64))]
    pub(crate) validators: Option<u32>,
    /// How many of them must approve a block [default: four fifths, as 20 of 25]
    #[arg(long, value_name = "N")]
    pub(crate) quorum: Option<u32>,
    /// Number of miner processes, spread over the nodes.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) miners: u32,
    /// Blocks to mine after the payments; more make the times of finality mean more.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub(crate) blocks: u64,
    /// End when the demonstration is over, with status 0 only if every step held.
    #[arg(long)]
    pub(crate) exit: bool,
    /// Keep the network's data in this folder; a network that is there goes on.
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Port of the first node's API; 0 takes a free one [default: 7310 if it is free]
    #[arg(long, value_name = "PORT")]
    pub(crate) port: Option<u16>,
}
