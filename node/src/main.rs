//! `pithead-node`: reads the command line and the configuration, and does what they ask for.
//!
//! To run the node is `commands/start.rs`; settings, log and validator are in the library.

mod commands;

use std::process::ExitCode;

use anyhow::Result;
use pithead_node::config::{Config, NodeCli, NodeCommand};
use pithead_node::logging;

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {}", with_causes(&error));
            ExitCode::FAILURE
        }
    }
}

/// The error and what caused it. A cause that the error names itself is not repeated.
fn with_causes(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

fn run() -> Result<ExitCode> {
    let cli = NodeCli::from_command_line();
    let (config, printed) = Config::load(&cli)?;
    match &cli.command {
        Some(NodeCommand::Config) => {
            print!("{printed}");
            return Ok(ExitCode::SUCCESS);
        }
        Some(NodeCommand::Votes(command)) => return commands::votes::votes(command, &config),
        None => {}
    }
    let log = logging::init(config.log_format, &config.log_filter)?;
    if cli.verify {
        commands::verify::verify(&config, cli.scratch.as_deref())
    } else {
        commands::start::start(&config, &cli, log)
    }
}
