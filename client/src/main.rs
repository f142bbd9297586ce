//! The `pithead` command: wallets, payments, queries and the demonstration
//! network. Each subcommand is one file in `commands/`, a thin layer over the
//! library; this file turns their results into exit statuses: 0 done, 1 failed,
//! 2 called wrongly.

#![forbid(unsafe_code)]

mod commands;
mod devnet;
mod finality;
mod output;
mod report;
mod show;

use std::process::ExitCode;

use crate::commands::Cli;

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
    // A prompt or a stream left behind must not hold up the end.
    runtime.shutdown_background();
    code
}
