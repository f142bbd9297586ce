//! `pithead devnet`: a whole network on this machine, in one command.

use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `pithead devnet`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct DevnetArgs {
    /// Number of miner processes.
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub(crate) miners: u32,
    /// End when the demonstration is over, with status 0 only if every step held.
    #[arg(long)]
    pub(crate) exit: bool,
    /// Keep the network's data in this folder.
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
}

/// Runs the network and its demonstration.
pub(crate) async fn run(args: DevnetArgs) -> anyhow::Result<ExitCode> {
    let DevnetArgs {
        miners,
        exit: _,
        data_dir: _,
    } = args;
    anyhow::bail!("this build has no demonstration network ({miners} miners asked for)")
}
