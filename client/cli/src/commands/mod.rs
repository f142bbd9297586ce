//! The subcommands of `pithead`, one file each, and the options that all share.

mod arguments;
mod context;
mod files;
mod names;
mod passphrase;

mod wallet;

mod genesis;
mod validator;

mod account;
mod balance;
mod send;
mod wait;

mod block;
mod chain;
mod evidence;
mod mempool;
mod tx;
mod validators;
mod watch;

mod completions;
mod mine;
mod node;
mod peers;

use std::process::ExitCode;

use clap::builder::Resettable;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use self::context::{Context, GlobalArgs};
use crate::devnet;

/// Wallets, payments and queries on a Pithead chain.
///
/// Keys stay on this machine: transactions are built and signed here, and a node
/// only ever sees the signed bytes. New here? `pithead devnet` runs a whole chain
/// with miners and payments to look at.
#[derive(Debug, Parser)]
#[command(
    name = "pithead",
    version,
    propagate_version = true,
    max_term_width = 100
)]
#[command(after_help = "Examples:
  pithead wallet new alice              make a key and its address
  pithead balance                       what all wallets have
  pithead send alice bob 1.5 --wait     pay, and wait until it is mined
  pithead send alice bob=1 carol=0.25   pay several in one transaction
  pithead chain                         the network and its last blocks
  pithead watch                         every new block as it comes

Exit status: 0 done, 1 failed, 2 called wrongly.")]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    #[command(subcommand)]
    command: Command,
}

impl Cli {
    /// Reads this process's command line; ends the process if it is wrong. An
    /// empty environment variable counts as not set.
    pub(crate) fn from_command_line() -> Self {
        let command = Self::command().mut_args(|arg| {
            let value = arg.get_env().and_then(std::env::var_os);
            match value.is_some_and(|value| value.is_empty()) {
                true => arg.env(Resettable::Reset),
                false => arg,
            }
        });
        let matches = command.get_matches_from(wait::joined(std::env::args_os()));
        Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make, list, show, import and export wallets.
    #[command(subcommand)]
    Wallet(wallet::WalletCommand),
    /// Show the balances of wallets or addresses.
    Balance(balance::BalanceArgs),
    /// Pay one recipient or many.
    Send(send::SendArgs),
    /// Show a transaction and where it stands.
    Tx(tx::TxArgs),
    /// Show a block.
    Block(block::BlockArgs),
    /// Show the network and its last blocks.
    Chain(chain::ChainArgs),
    /// Show an account, and the transactions that it sent and received.
    Account(account::AccountArgs),
    /// Show the transactions that wait to be mined.
    Mempool(mempool::MempoolArgs),
    /// Show the validators, which of them voted lately, and whether finality advances.
    Validators(validators::ValidatorsArgs),
    /// Show proofs that validators broke the rules, check them, and save them.
    Evidence(evidence::EvidenceArgs),
    /// Follow the chain: a line for every block, until interrupted.
    Watch(watch::WatchArgs),
    /// Show the node: its version, network, addresses and state.
    Node,
    /// Show the nodes that this one is connected to; add, remove and ban them (needs its admin token).
    Peers(peers::PeersArgs),
    /// Show the miners that work for this node (needs its mine token).
    Workers,
    /// Have a node of a dev network mine blocks at once (needs its admin token).
    MineBlocks(mine::MineArgs),
    /// Make a validator's key, or show one.
    #[command(subcommand)]
    Validator(validator::ValidatorCommand),
    /// Make the genesis file of a network of your own, or show one.
    #[command(subcommand)]
    Genesis(genesis::GenesisCommand),
    /// Run a whole network on this machine, with a demonstration.
    Devnet(devnet::DevnetArgs),
    /// Print a completion script for a shell.
    Completions(completions::CompletionsArgs),
}

/// Runs the subcommand and returns the exit status.
pub(crate) async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let context = Context::new(cli.global);
    match cli.command {
        Command::Devnet(args) => return devnet::run(args).await,
        Command::Wallet(command) => wallet::run(&context, command).await,
        Command::Balance(args) => balance::run(&context, args).await,
        Command::Send(args) => send::run(&context, args).await,
        Command::Tx(args) => tx::run(&context, args).await,
        Command::Block(args) => block::run(&context, args).await,
        Command::Chain(args) => chain::run(&context, args).await,
        Command::Account(args) => account::run(&context, args).await,
        Command::Mempool(args) => mempool::run(&context, args).await,
        Command::Watch(args) => watch::run(&context, args).await,
        Command::Validators(args) => validators::run(&context, args).await,
        Command::Evidence(args) => evidence::run(&context, args).await,
        Command::Validator(command) => validator::run(&context, command).await,
        Command::Genesis(command) => genesis::run(&context, command).await,
        Command::Node => node::run(&context).await,
        Command::Peers(args) => peers::run(&context, args).await,
        Command::Workers => node::run_workers(&context).await,
        Command::MineBlocks(args) => mine::run(&context, args).await,
        Command::Completions(args) => completions::run(&context, &args, Cli::command()),
    }?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn arguments_are_consistent() {
        super::Cli::command().debug_assert();
    }
}
