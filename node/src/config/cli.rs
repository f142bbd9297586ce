//! The command line of the program.

use std::path::PathBuf;

use clap::builder::Resettable;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use super::settings::GivenSettings;

/// The environment variable that names the file with settings.
const CONFIG_VARIABLE: &str = "PITHEAD_NODE_CONFIG";

/// Runs a Pithead node: validates, stores and serves the chain over gRPC.
#[derive(Debug, Parser)]
#[command(name = "pithead-node", version, about)]
pub struct NodeCli {
    /// A command to carry out instead of running the node.
    #[command(subcommand)]
    pub command: Option<NodeCommand>,
    /// TOML file with settings; keys are the long flags with _ for -.
    #[arg(long, global = true, value_name = "FILE", env = CONFIG_VARIABLE)]
    pub config: Option<PathBuf>,
    /// Replay the whole chain, compare it with what is stored, and exit. The stored data is only
    /// read.
    #[arg(long)]
    pub verify: bool,
    /// Folder in which --verify keeps the accounts of its replay until it ends. Without it, that is
    /// the data directory.
    #[arg(long, value_name = "DIR", requires = "verify")]
    pub scratch: Option<PathBuf>,
    /// Make an empty vote record, for a validator's key that never voted
    /// anywhere. A key that has voted must not start without its record: it could
    /// vote against itself, which everyone can prove.
    #[arg(long)]
    pub init_vote_record: bool,
    /// Stop when standard input closes, for a parent process that must not leave
    /// the node behind, however the parent ends.
    #[arg(long)]
    pub stop_on_stdin_close: bool,
    /// The settings given as flags.
    #[command(flatten)]
    pub settings: GivenSettings,
}

impl NodeCli {
    /// Reads this process's command line; ends the process if it is wrong. An
    /// empty environment variable counts as not set, as it does for settings.
    #[must_use]
    pub fn from_command_line() -> Self {
        let mut command = Self::command();
        if std::env::var_os(CONFIG_VARIABLE).is_some_and(|value| value.is_empty()) {
            command = command.mut_arg("config", |arg| arg.env(Resettable::Reset));
        }
        let matches = command.get_matches();
        Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }
}

/// A command to carry out instead of running the node.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum NodeCommand {
    /// Print the effective configuration as TOML and exit.
    Config,
    /// Move a validator's vote record to another machine, or begin a new one, while no node uses it.
    #[command(subcommand)]
    Votes(VotesCommand),
}

/// A command on a vote record.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum VotesCommand {
    /// Write the record of this data directory to a new file. The validator can no
    /// longer vote here, until a record that is as new is imported.
    Export {
        /// File to make; it must not exist yet.
        file: PathBuf,
    },
    /// Add the votes of an exported record to the record of this data directory,
    /// which keeps all of its own. A damaged record is replaced and kept aside, if
    /// the exported record has all of its votes.
    Import {
        /// The exported record.
        file: PathBuf,
    },
    /// Begin a new record in place of one that is damaged or lost. The validator
    /// then votes only above a height that its votes can't have reached, once the
    /// others have approved a checkpoint there. Needs the node's settings,
    /// --validator-key among them.
    Repair {
        /// A height that the network has certainly not reached before now: the height
        /// of its present tip, as `pithead chain` shows it, or a higher one.
        #[arg(long)]
        above: u64,
    },
}
