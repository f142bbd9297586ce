//! The `pithead` command: wallets, payments, queries and a network for one
//! machine. Each subcommand is one file of `commands/`, a thin layer over the
//! library `pithead-client`; `devnet/` runs the network, `terminal/` writes what
//! the user reads. This file turns results into exit statuses: 0 done, 1 failed,
//! 2 called wrongly.

#![forbid(unsafe_code)]

mod commands;
mod devnet;
mod terminal;

use std::process::ExitCode;

use crate::commands::Cli;
use crate::terminal::{output, report};

fn main() -> ExitCode {
    let cli = Cli::from_command_line();
    let color = output::use_color(cli.global.color, &std::io::stderr());
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return report::failed(&error.into(), color),
    };
    let code = match runtime.block_on(commands::run(cli)) {
        Ok(code) => code,
        Err(error) => report::failed(&error, color),
    };
    // Ends at once, even if a prompt or a stream is still open.
    runtime.shutdown_background();
    code
}
