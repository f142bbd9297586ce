//! The settings: the one list of them, from which everything that names settings is made.
//!
//! A setting in the table below becomes a flag, an environment variable and a key of the file (a
//! field of [`GivenSettings`]), a field of [`Config`], a line of `pithead-node config`, and a name
//! that misspelt keys are compared with. To add a setting, add it there.
//!
//! This file does not know the sources, nor which of them wins.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::Args;
use libp2p::Multiaddr;
use pithead_consensus::Work;
use pithead_p2p::PeerAddress;
use pithead_p2p::policy::address::is_loopback;
use serde::{Deserialize, Serialize};

use super::chain_work::ChainWork;
use super::defaults::{NetworkName, default_data_dir, default_listen};
use super::error::ConfigError;
use crate::logging::LogFormat;

/// A number among the settings that has bounds.
#[derive(Debug, Clone, Copy)]
pub(super) struct BoundedSetting {
    pub(super) key: &'static str,
    pub(super) value: u64,
    pub(super) min: u64,
    pub(super) max: u64,
}

/// Makes types and functions of a table of settings. A row is
///
/// ```text
/// /// Help text of the flag [default: ...]
/// #[arg(value_name = "WHAT")]
/// name: Type = default, min..=max;
/// ```
///
/// where `default` may use the settings above it and `?`. A row without a default is optional:
/// its field of [`Config`] is an `Option`. Bounds are for numbers only.
macro_rules! settings {
    ($(
        $(#[$attribute:meta])*
        $name:ident: $type:ty $(= $default:expr $(, $min:literal..=$max:expr)?)?;
    )*) => {
        /// The settings that one source gives, or all sources together. Every flag is also an
        /// environment variable, PITHEAD_NODE_ and its name in capitals, and a key of the file.
        #[derive(Debug, Clone, Default, Args, Serialize, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct GivenSettings {
            $(
                $(#[$attribute])*
                #[arg(long, global = true)]
                #[serde(skip_serializing_if = "Option::is_none")]
                pub $name: Option<$type>,
            )*
        }

        /// The effective configuration. Each field is the setting of its name.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct Config {
            $(pub $name: settings!(@effective $type $(, $default)?),)*
        }

        /// The names of the settings, in the order of the flags.
        pub(super) const SETTING_NAMES: &[&str] = &[$(stringify!($name)),*];

        impl GivenSettings {
            /// Fills in the default of every setting that is not given.
            pub(super) fn with_defaults(self) -> Result<Config, ConfigError> {
                $(let $name = settings!(@or_default self.$name $(, $default)?);)*
                Ok(Config { $($name),* })
            }
        }

        impl Config {
            /// All settings, as a source would give them.
            pub(super) fn to_given(&self) -> GivenSettings {
                GivenSettings {
                    $($name: settings!(@given self.$name.clone() $(, $default)?),)*
                }
            }

            /// The numbers that have bounds, in the order of the flags.
            pub(super) fn bounded(&self) -> Vec<BoundedSetting> {
                vec![$($($(
                    BoundedSetting {
                        key: stringify!($name),
                        value: self.$name as u64,
                        min: $min,
                        max: $max,
                    },
                )?)?)*]
            }
        }
    };

    (@effective $type:ty) => { Option<$type> };
    (@effective $type:ty, $default:expr) => { $type };

    (@or_default $given:expr) => { $given };
    (@or_default $given:expr, $default:expr) => {
        match $given {
            Some(value) => value,
            None => $default,
        }
    };

    (@given $value:expr) => { $value };
    (@given $value:expr, $default:expr) => { Some($value) };
}

// The upper bounds are far beyond use. They keep a slip of the finger from turning a limit off, or
// from overflowing what is computed from the setting.
settings! {
    /// Built-in network to follow [default: main]
    #[arg(value_enum)]
    network: NetworkName = NetworkName::Main;
    /// Genesis file of a network of your own, instead of --network
    #[arg(value_name = "FILE")]
    genesis: PathBuf;
    /// Folder of the chain, the state and the tokens [default: ~/.local/share/pithead/NETWORK]
    #[arg(value_name = "DIR")]
    data_dir: PathBuf = default_data_dir(network, genesis.as_deref())?;
    /// Address of the gRPC API; port 0 takes a free one [default: 127.0.0.1:7310]
    #[arg(value_name = "IP:PORT")]
    // This machine only, because the API is plaintext.
    rpc_listen: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7310);
    /// Allow --rpc-listen beyond loopback, in plaintext: anyone on the way can
    /// read and alter what is sent, tokens included
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    rpc_allow_insecure: bool = false;
    /// Most requests a minute from one IP address; 0 for no limit [default: 1000]
    #[arg(value_name = "N")]
    // Node policy.
    rpc_requests_per_minute: u32 = 1_000;
    /// Most requests at once from one IP address [default: 100]
    #[arg(value_name = "N")]
    // Node policy.
    rpc_burst: u32 = 100, 1..=1_000_000;
    /// Most connections to the API [default: 1024]
    #[arg(value_name = "N")]
    // Node policy.
    rpc_max_connections: usize = 1_024, 1..=1_000_000;
    /// Most connections to the API from one IP address [default: 32]
    #[arg(value_name = "N")]
    // Node policy.
    rpc_max_connections_per_ip: usize = 32, 1..=1_000_000;
    /// Most concurrent requests and streams of one connection [default: 32]
    #[arg(value_name = "N")]
    // Node policy.
    rpc_max_streams: u32 = 32, 1..=10_000;
    /// Most seconds that open requests may take once the node stops [default: 5]
    #[arg(value_name = "SECS")]
    // Well within the 10 s and more that service managers wait before they kill.
    rpc_drain_secs: u64 = 5, 0..=3_600;
    /// File with the token for mining [default: DATA_DIR/mine.token]
    #[arg(value_name = "FILE")]
    mine_token_file: PathBuf = data_dir.join("mine.token");
    /// File with the token for administration [default: DATA_DIR/admin.token]
    #[arg(value_name = "FILE")]
    admin_token_file: PathBuf = data_dir.join("admin.token");
    /// Let anyone on this machine mine without a token
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    mine_without_token: bool = false;
    /// Address on which to listen for peers, a multiaddress; may be given several
    /// times; port 0 takes a free one [default: TCP and QUIC port 7311 everywhere]
    #[arg(value_name = "ADDRESS")]
    listen: Vec<Multiaddr> = default_listen();
    /// Peer to ask for other peers while no known one can be dialled, a
    /// multiaddress or HOST:PORT; may be given several times
    #[arg(value_name = "ADDRESS")]
    bootnode: Vec<PeerAddress> = Vec::new();
    /// Address at which peers can reach this node, if the node can't find out by
    /// itself; may be given several times
    #[arg(value_name = "ADDRESS")]
    external_address: Vec<Multiaddr> = Vec::new();
    /// Most peers, inbound and outbound [default: 74]
    #[arg(value_name = "N")]
    // 10 outbound and 64 inbound (node policy).
    max_peers: usize = pithead_p2p::PEERS_MAX_DEFAULT, 1..=10_000;
    /// Run without peers
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    offline: bool = false;
    /// Look for nodes on the local network [default: true, unless --listen names
    /// this machine only]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    mdns: bool = !listen.iter().all(is_loopback);
    /// Ask the router to open a port [default: true, unless --listen names this
    /// machine only]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    upnp: bool = !listen.iter().all(is_loopback);
    /// Relay connections for nodes that can't be reached, within narrow limits
    /// [default: true]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    relay: bool = true;
    /// Vote with this validator's key: a PKCS#8 PEM file that only its owner may
    /// read, as `pithead validator new` makes it
    #[arg(value_name = "FILE")]
    validator_key: PathBuf;
    /// File whose first line opens an encrypted --validator-key
    #[arg(value_name = "FILE")]
    validator_passphrase_file: PathBuf;
    /// Work in hex that a chain must have before the node downloads it, and before
    /// the node counts as caught up; take it from chain_work of a block that you
    /// trust [default: 0]
    #[arg(value_name = "HEX")]
    // Any chain will do.
    minimum_chain_work: ChainWork = ChainWork(Work::ZERO);
    /// Lowest fee rate of a transaction that is accepted, grains a byte [default: 1]
    #[arg(value_name = "N")]
    // Node policy. At most a thousand PIT for the smallest transaction.
    min_relay_fee_rate: u64 = 1, 0..=1_000_000_000;
    /// Most bytes of pending transactions that the mempool holds [default: 67108864]
    #[arg(value_name = "BYTES")]
    // 64 MiB (node policy). At least a few of the largest transactions.
    mempool_bytes_max: usize = 64 * 1024 * 1024, 100_000..=1 << 40;
    /// Seconds until a pending transaction expires [default: 259200]
    #[arg(value_name = "SECS")]
    // 72 hours (node policy).
    mempool_expiry_secs: u64 = 72 * 3_600, 1..=10 * 366 * 86_400;
    /// Most bytes of the database's cache [default: 67108864]
    #[arg(value_name = "BYTES")]
    // 64 MiB; the database's own default is 1 GiB.
    store_cache_bytes: usize = 64 * 1024 * 1024, 1_048_576..=1 << 40;
    /// Seconds after which miners get a new template in any case [default: 30]
    #[arg(value_name = "SECS")]
    // A miner's block is never much older than this.
    template_refresh_secs: u64 = 30, 1..=86_400;
    /// Milliseconds between the shares of one miner that its share target aims
    /// at [default: 5000]
    #[arg(value_name = "MS")]
    // Often enough to prove a hash rate within minutes, and next to no work for the node.
    share_interval_ms: u64 = 5_000, 10..=3_600_000;
    /// Form of the log lines [default: human]
    #[arg(value_enum)]
    log_format: LogFormat = LogFormat::Human;
    /// Filter of the log, such as info,pithead_node=debug [default: info]
    #[arg(value_name = "FILTER")]
    log_filter: String = "info".to_owned();
    /// File to write the API's address to once it is served
    #[arg(value_name = "FILE")]
    ready_file: PathBuf;
}
