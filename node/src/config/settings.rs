//! The command line, and the settings that every source may give: what exists
//! and what it is called. What the values mean is in [`super::Config`].

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::Resettable;
use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};
use libp2p::Multiaddr;
use pithead_consensus::genesis;
use serde::{Deserialize, Serialize};

use super::ChainWork;
use crate::logging::LogFormat;
use pithead_p2p::PeerAddress;

/// The variable that names the file with settings.
const CONFIG_VARIABLE: &str = "PITHEAD_NODE_CONFIG";

/// Runs a Pithead node: validates, stores and serves the chain over gRPC.
#[derive(Debug, Parser)]
#[command(name = "pithead-node", version, about)]
pub struct Cli {
    /// What to do instead of running the node.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// TOML file with settings; keys are the long flags with _ for -.
    #[arg(long, global = true, value_name = "FILE", env = CONFIG_VARIABLE)]
    pub config: Option<PathBuf>,
    /// Replay the whole chain, compare it with what is stored, and exit.
    #[arg(long)]
    pub verify: bool,
    /// Make an empty vote record, for a validator's key that never voted
    /// anywhere. A key that did must not start without its record: it could vote
    /// against itself, which everyone can prove.
    #[arg(long)]
    pub init_vote_record: bool,
    /// Stop when standard input closes: for a parent process that must not
    /// leave the node behind, however it ends itself.
    #[arg(long)]
    pub stop_on_stdin_close: bool,
    /// The settings given as flags.
    #[command(flatten)]
    pub settings: Settings,
}

impl Cli {
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

/// What to do instead of running the node.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Print the effective configuration as TOML and exit.
    Config,
    /// Move a validator's vote record to another machine, or begin one anew, while no node is at it.
    #[command(subcommand)]
    Votes(Votes),
}

/// What to do with a vote record.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Votes {
    /// Write the record of this data directory to a new file. The validator votes
    /// here no more, until a record that is as new is imported.
    Export {
        /// The file to make.
        file: PathBuf,
    },
    /// Add the votes of an exported record to that of this data directory, which
    /// never loses any. One that is damaged is kept aside and gives way, if the
    /// exported record lacks none of its votes.
    Import {
        /// The exported record.
        file: PathBuf,
    },
    /// Begin a record anew that is damaged or lost: the validator then votes only
    /// above a height that its votes can't have reached, once the others have
    /// approved a checkpoint there. Needs the node's settings, --validator-key among them.
    Repair {
        /// A height that the network has certainly not reached before now: that of
        /// its present tip, as `pithead chain` shows it, or a higher one.
        #[arg(long)]
        above: u64,
    },
}

/// A built-in network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum NetworkName {
    /// The network whose money is meant to be worth something.
    Main,
    /// For trying things out with others.
    Test,
    /// For a developer's own machine.
    Dev,
}

impl NetworkName {
    /// The network of this name.
    pub(super) fn network(self) -> genesis::Network {
        match self {
            Self::Main => genesis::Network::Main,
            Self::Test => genesis::Network::Test,
            Self::Dev => genesis::Network::Dev,
        }
    }
}

/// The settings that a source may give. Every flag is also an environment
/// variable, PITHEAD_NODE_ and its name in capitals, and a key of the file.
#[derive(Debug, Clone, Default, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Built-in network to follow [default: main]
    #[arg(long, global = true, value_enum)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkName>,
    /// Genesis file of a network of your own, instead of --network
    #[arg(long, global = true, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub genesis: Option<PathBuf>,
    /// Where chain, state and tokens are kept [default: ~/.local/share/pithead/NETWORK]
    #[arg(long, global = true, value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_dir: Option<PathBuf>,
    /// Address of the gRPC API; port 0 takes a free one [default: 127.0.0.1:7310]
    #[arg(long, global = true, value_name = "IP:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rpc_listen: Option<SocketAddr>,
    /// Allow --rpc-listen beyond loopback, in plaintext: anyone on the way can
    /// read and alter what is sent, tokens included
    #[arg(long, global = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rpc_allow_insecure: Option<bool>,
    /// Requests a minute from one IP address; 0: no limit [default: 1000]
    #[arg(long, global = true, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rpc_requests_per_minute: Option<u32>,
    /// Requests at once from one IP address [default: 100]
    #[arg(long, global = true, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rpc_burst: Option<u32>,
    /// Connections in all [default: 1024]
    #[arg(long, global = true, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rpc_max_connections: Option<usize>,
    /// Connections from one IP address [default: 32]
    #[arg(long, global = true, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rpc_max_connections_per_ip: Option<usize>,
    /// Concurrent requests and streams of one connection [default: 32]
    #[arg(long, global = true, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rpc_max_streams: Option<u32>,
    /// Seconds that open requests may take once the node stops [default: 5]
    #[arg(long, global = true, value_name = "SECS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rpc_drain_secs: Option<u64>,
    /// File with the token for mining [default: DATA_DIR/mine.token]
    #[arg(long, global = true, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mine_token_file: Option<PathBuf>,
    /// File with the token for administration [default: DATA_DIR/admin.token]
    #[arg(long, global = true, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admin_token_file: Option<PathBuf>,
    /// Let anyone on this machine mine without a token
    #[arg(long, global = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mine_without_token: Option<bool>,
    /// Where to listen for peers, a multiaddress; may be given several times;
    /// port 0 takes a free one [default: TCP and QUIC port 7311 everywhere]
    #[arg(long, global = true, value_name = "ADDRESS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<Vec<Multiaddr>>,
    /// Peer to ask for others while none is known, a multiaddress or HOST:PORT;
    /// may be given several times
    #[arg(long, global = true, value_name = "ADDRESS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bootnode: Option<Vec<PeerAddress>>,
    /// Where peers can reach this node, if it can't find out by itself; may be
    /// given several times
    #[arg(long, global = true, value_name = "ADDRESS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_address: Option<Vec<Multiaddr>>,
    /// Peers in all [default: 74]
    #[arg(long, global = true, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_peers: Option<usize>,
    /// Have nothing to do with other nodes
    #[arg(long, global = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offline: Option<bool>,
    /// Look for nodes on the local network [default: unless --listen names this
    /// machine only]
    #[arg(long, global = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mdns: Option<bool>,
    /// Ask the router to open a port [default: unless --listen names this machine
    /// only]
    #[arg(long, global = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upnp: Option<bool>,
    /// Pass on connections for nodes that can't be reached, within narrow limits
    /// [default: true]
    #[arg(long, global = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relay: Option<bool>,
    /// Vote with this validator's key: a PKCS#8 PEM file that only its owner may
    /// read, as `pithead validator new` makes it
    #[arg(long, global = true, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validator_key: Option<PathBuf>,
    /// File whose first line opens an encrypted --validator-key
    #[arg(long, global = true, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validator_passphrase_file: Option<PathBuf>,
    /// Work in hex that a chain must have before it is downloaded, and before
    /// this node counts as caught up; take it from chain_work of a block that
    /// you trust [default: 0]
    #[arg(long, global = true, value_name = "HEX")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minimum_chain_work: Option<ChainWork>,
    /// Least fee rate that is accepted, grains a byte [default: 1]
    #[arg(long, global = true, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_relay_fee_rate: Option<u64>,
    /// Bytes that the mempool may hold [default: 67108864]
    #[arg(long, global = true, value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mempool_bytes_max: Option<usize>,
    /// Seconds until a pending transaction expires [default: 259200]
    #[arg(long, global = true, value_name = "SECS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mempool_expiry_secs: Option<u64>,
    /// Bytes of the database's cache [default: 67108864]
    #[arg(long, global = true, value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store_cache_bytes: Option<usize>,
    /// Seconds after which miners get a new template in any case [default: 30]
    #[arg(long, global = true, value_name = "SECS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template_refresh_secs: Option<u64>,
    /// Milliseconds between the shares of one miner that its share target aims
    /// at [default: 5000]
    #[arg(long, global = true, value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share_interval_ms: Option<u64>,
    /// How log lines look [default: human]
    #[arg(long, global = true, value_enum)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_format: Option<LogFormat>,
    /// What is logged, such as info,pithead_node=debug [default: info]
    #[arg(long, global = true, value_name = "FILTER")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_filter: Option<String>,
    /// File to write the API's address to once it is served
    #[arg(long, global = true, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_file: Option<PathBuf>,
}

/// The names of the settings, in the order of the flags.
pub(super) const KEYS: [&str; 34] = [
    "network",
    "genesis",
    "data_dir",
    "rpc_listen",
    "rpc_allow_insecure",
    "rpc_requests_per_minute",
    "rpc_burst",
    "rpc_max_connections",
    "rpc_max_connections_per_ip",
    "rpc_max_streams",
    "rpc_drain_secs",
    "mine_token_file",
    "admin_token_file",
    "mine_without_token",
    "listen",
    "bootnode",
    "external_address",
    "max_peers",
    "offline",
    "mdns",
    "upnp",
    "relay",
    "validator_key",
    "validator_passphrase_file",
    "minimum_chain_work",
    "min_relay_fee_rate",
    "mempool_bytes_max",
    "mempool_expiry_secs",
    "store_cache_bytes",
    "template_refresh_secs",
    "share_interval_ms",
    "log_format",
    "log_filter",
    "ready_file",
];

/// Those that take several values.
pub(super) const LIST_KEYS: [&str; 3] = ["listen", "bootnode", "external_address"];
