//! `pithead completions`: completion scripts for shells.

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::Cli;
use super::context::Context;

/// Arguments of `completions`.
#[derive(Debug, Args)]
#[command(after_help = "For bash:
  pithead completions bash > ~/.local/share/bash-completion/completions/pithead")]
pub(crate) struct CompletionsArgs {
    /// Which shell.
    shell: Shell,
}

pub(crate) fn run(context: &Context, args: &CompletionsArgs) -> anyhow::Result<()> {
    // Through memory: the generator panics where a write fails.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "pithead", &mut script);
    Ok(context
        .out
        .line(String::from_utf8_lossy(&script).trim_end())?)
}
