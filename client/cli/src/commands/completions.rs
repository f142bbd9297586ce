//! `pithead completions`: completion scripts for shells.

use clap::Args;
use clap_complete::Shell;

use super::context::Context;

/// Arguments of `completions`.
#[derive(Debug, Args)]
#[command(after_help = "For bash:
  pithead completions bash > ~/.local/share/bash-completion/completions/pithead")]
pub(crate) struct CompletionsArgs {
    /// Which shell.
    shell: Shell,
}

/// Prints the script for `command`, which is all of `pithead`.
pub(crate) fn run(
    context: &Context,
    args: &CompletionsArgs,
    mut command: clap::Command,
) -> anyhow::Result<()> {
    // Written to memory first: the generator panics if a write fails.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "pithead", &mut script);
    Ok(context
        .out
        .line(String::from_utf8_lossy(&script).trim_end())?)
}
