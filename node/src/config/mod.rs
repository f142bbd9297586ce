//! The configuration: flags over environment over file over defaults.
//!
//! All three sources fill the same [`Settings`]; each key's value comes from
//! the first source that has it. `pithead-node config` prints the result with
//! the source of every value. Start reading at [`Config::load`].

pub mod default;

mod chain_work;
mod settings;
mod sources;

use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use libp2p::Multiaddr;
use pithead_consensus::Genesis;
use pithead_consensus::genesis::{GenesisError, GenesisFile};
use thiserror::Error;
use toml::Table;

pub use self::chain_work::{ChainWork, ChainWorkError};
pub use self::settings::{Cli, Command, NetworkName, Settings, Votes};
pub use self::sources::{Origin, Place};

use self::settings::KEYS;
use crate::logging::{self, LogFormat};
use pithead_p2p::PeerAddress;
use pithead_p2p::policy::address::is_loopback;

/// The effective configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "each field is the setting of its name")]
pub struct Config {
    pub network: NetworkName,
    pub genesis: Option<PathBuf>,
    pub data_dir: PathBuf,
    pub rpc_listen: SocketAddr,
    pub rpc_allow_insecure: bool,
    pub rpc_requests_per_minute: u32,
    pub rpc_burst: u32,
    pub rpc_max_connections: usize,
    pub rpc_max_connections_per_ip: usize,
    pub rpc_max_streams: u32,
    pub rpc_drain_secs: u64,
    pub mine_token_file: PathBuf,
    pub admin_token_file: PathBuf,
    pub mine_without_token: bool,
    pub listen: Vec<Multiaddr>,
    pub bootnode: Vec<PeerAddress>,
    pub external_address: Vec<Multiaddr>,
    pub max_peers: usize,
    pub offline: bool,
    pub mdns: bool,
    pub upnp: bool,
    pub relay: bool,
    pub validator_key: Option<PathBuf>,
    pub validator_passphrase_file: Option<PathBuf>,
    pub minimum_chain_work: ChainWork,
    pub min_relay_fee_rate: u64,
    pub mempool_bytes_max: usize,
    pub mempool_expiry_secs: u64,
    pub store_cache_bytes: usize,
    pub template_refresh_secs: u64,
    pub share_interval_ms: u64,
    pub log_format: LogFormat,
    pub log_filter: String,
    pub ready_file: Option<PathBuf>,
}

/// Why a configuration is refused.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("configuration file {path}: {reason}")]
    BadFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A key that does not exist.
    #[error(
        "{place}: there is no setting {key:?}{suggestion}; `pithead-node --help` lists them all"
    )]
    UnknownKey {
        /// Where it was given.
        place: Place,
        /// The key.
        key: String,
        /// The nearest ones that exist.
        suggestion: String,
    },
    /// A value of the wrong kind.
    #[error("{place}: {reason}")]
    BadValue {
        /// Where it was given.
        place: Place,
        /// The key, what was found and what is expected.
        reason: String,
    },
    /// A value that is too small, too large or malformed.
    #[error("{key} is {found}, {expected} expected ({place})")]
    OutOfRange {
        /// The setting.
        key: &'static str,
        /// Its value.
        found: String,
        /// What it should be.
        expected: String,
        /// Where it was given.
        place: Place,
    },
    /// Settings that exclude each other, or lack one another.
    #[error("{0}")]
    Conflict(String),
    /// The genesis is refused.
    #[error("genesis {path}: {error}")]
    BadGenesis {
        /// The file, or the network.
        path: String,
        /// What is wrong.
        error: GenesisError,
    },
}

/// Which source gave each key.
type Origins = HashMap<String, Origin>;

impl Config {
    /// Puts the sources together. Also returns the effective configuration as
    /// TOML, with the source of each value as a comment.
    ///
    /// # Errors
    /// [`ConfigError`] names the source, the key and what is expected.
    pub fn load(cli: &Cli) -> Result<(Self, String), ConfigError> {
        // Not `vars`: that panics at any variable that is not text.
        Self::load_from(cli, std::env::vars_os())
    }

    /// [`Config::load`] with the environment passed in.
    ///
    /// # Errors
    /// As there.
    pub fn load_from(
        cli: &Cli,
        env: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<(Self, String), ConfigError> {
        let mut sources = vec![
            (Origin::Flag, sources::flag_table(&cli.settings)?),
            (Origin::Environment, sources::env_table(env)?),
        ];
        if let Some(path) = &cli.config {
            sources.push((Origin::File(path.clone()), sources::file_table(path)?));
        }
        let mut merged = Table::new();
        let mut origins = Origins::new();
        for (origin, table) in sources {
            for (key, value) in table {
                if !merged.contains_key(&key) {
                    origins.insert(key.clone(), origin.clone());
                    merged.insert(key, value);
                }
            }
        }
        // Whichever is nearer: a network and a genesis that differ are two
        // chains, and the one that was not meant must not be followed.
        if let (Some(network), Some(genesis)) = (origins.get("network"), origins.get("genesis")) {
            return Err(ConfigError::Conflict(format!(
                "network ({}) and genesis ({}) exclude each other: give only one of them",
                network.place("network"),
                genesis.place("genesis")
            )));
        }
        let config = Self::with_defaults(sources::settings_from(merged)?)?;
        config.check(&origins)?;
        let printed = config.printed(&origins)?;
        Ok((config, printed))
    }

    fn with_defaults(settings: Settings) -> Result<Self, ConfigError> {
        let network = settings.network.unwrap_or(NetworkName::Main);
        let data_dir = match settings.data_dir {
            Some(dir) => dir,
            None => default_data_dir(network, settings.genesis.as_deref())?,
        };
        let listen = match settings.listen {
            Some(listen) => listen,
            None => default_listen(),
        };
        let beyond = !listen.iter().all(is_loopback);
        Ok(Self {
            network,
            genesis: settings.genesis,
            bootnode: settings.bootnode.unwrap_or_default(),
            external_address: settings.external_address.unwrap_or_default(),
            max_peers: settings.max_peers.unwrap_or(default::MAX_PEERS),
            offline: settings.offline.unwrap_or(false),
            mdns: settings.mdns.unwrap_or(beyond),
            upnp: settings.upnp.unwrap_or(beyond),
            relay: settings.relay.unwrap_or(true),
            validator_key: settings.validator_key,
            validator_passphrase_file: settings.validator_passphrase_file,
            minimum_chain_work: settings
                .minimum_chain_work
                .unwrap_or(default::MINIMUM_CHAIN_WORK),
            listen,
            rpc_listen: settings.rpc_listen.unwrap_or(default::RPC_LISTEN),
            rpc_allow_insecure: settings.rpc_allow_insecure.unwrap_or(false),
            rpc_requests_per_minute: settings
                .rpc_requests_per_minute
                .unwrap_or(default::RPC_REQUESTS_PER_MINUTE),
            rpc_burst: settings.rpc_burst.unwrap_or(default::RPC_BURST),
            rpc_max_connections: settings
                .rpc_max_connections
                .unwrap_or(default::RPC_MAX_CONNECTIONS),
            rpc_max_connections_per_ip: settings
                .rpc_max_connections_per_ip
                .unwrap_or(default::RPC_MAX_CONNECTIONS_PER_IP),
            rpc_max_streams: settings.rpc_max_streams.unwrap_or(default::RPC_MAX_STREAMS),
            rpc_drain_secs: settings.rpc_drain_secs.unwrap_or(default::RPC_DRAIN_SECS),
            mine_token_file: settings
                .mine_token_file
                .unwrap_or_else(|| data_dir.join("mine.token")),
            admin_token_file: settings
                .admin_token_file
                .unwrap_or_else(|| data_dir.join("admin.token")),
            mine_without_token: settings.mine_without_token.unwrap_or(false),
            min_relay_fee_rate: settings
                .min_relay_fee_rate
                .unwrap_or(default::MIN_RELAY_FEE_RATE),
            mempool_bytes_max: settings
                .mempool_bytes_max
                .unwrap_or(default::MEMPOOL_BYTES_MAX),
            mempool_expiry_secs: settings
                .mempool_expiry_secs
                .unwrap_or(default::MEMPOOL_EXPIRY_SECS),
            store_cache_bytes: settings
                .store_cache_bytes
                .unwrap_or(default::STORE_CACHE_BYTES),
            template_refresh_secs: settings
                .template_refresh_secs
                .unwrap_or(default::TEMPLATE_REFRESH_SECS),
            share_interval_ms: settings
                .share_interval_ms
                .unwrap_or(default::SHARE_INTERVAL_MS),
            log_format: settings.log_format.unwrap_or_default(),
            log_filter: settings
                .log_filter
                .unwrap_or_else(|| default::LOG_FILTER.to_owned()),
            ready_file: settings.ready_file,
            data_dir,
        })
    }

    /// Reads and checks the genesis.
    ///
    /// # Errors
    /// [`ConfigError`] if the file can't be read or is refused.
    pub fn load_genesis(&self) -> Result<Genesis, ConfigError> {
        let bad = |path: String| move |error| ConfigError::BadGenesis { path, error };
        let Some(path) = &self.genesis else {
            let network = self.network.network();
            return network.genesis().map_err(bad(network.name().to_owned()));
        };
        let shown = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|error| bad(shown.clone())(GenesisError::BadToml(error.to_string())))?;
        GenesisFile::from_toml(&text)
            .and_then(|file| file.check())
            .map_err(bad(shown))
    }

    fn check(&self, origins: &Origins) -> Result<(), ConfigError> {
        self.check_listening()?;
        self.check_ranges(origins)?;
        self.check_paths(origins)?;
        logging::check_filter(&self.log_filter).map_err(|error| ConfigError::OutOfRange {
            key: "log_filter",
            found: format!("{:?}", self.log_filter),
            expected: format!("a filter such as info,pithead_node=debug ({error})"),
            place: place_of("log_filter", origins),
        })
    }

    fn check_listening(&self) -> Result<(), ConfigError> {
        let loopback = self.rpc_listen.ip().is_loopback();
        if !loopback && !self.rpc_allow_insecure {
            return Err(ConfigError::Conflict(format!(
                "rpc_listen {} is not a loopback address, and the API is plaintext: anyone on the way could read and alter it, tokens included. Use an SSH or VPN tunnel, or accept the risk with --rpc-allow-insecure",
                self.rpc_listen
            )));
        }
        if !loopback && self.mine_without_token {
            return Err(ConfigError::Conflict(format!(
                "mine_without_token would open mining to everyone who reaches {}: it needs a loopback rpc_listen",
                self.rpc_listen
            )));
        }
        Ok(())
    }

    /// The upper bounds are far beyond use; they keep a slip of the finger from
    /// turning a limit off or overflowing what is computed from it.
    fn check_ranges(&self, origins: &Origins) -> Result<(), ConfigError> {
        let connections = self.rpc_max_connections as u64;
        let per_ip = self.rpc_max_connections_per_ip as u64;
        let mempool_bytes = self.mempool_bytes_max as u64;
        let cache_bytes = self.store_cache_bytes as u64;
        for (key, value, min, max) in [
            ("rpc_burst", u64::from(self.rpc_burst), 1, 1_000_000),
            ("rpc_max_connections", connections, 1, 1_000_000),
            ("rpc_max_connections_per_ip", per_ip, 1, 1_000_000),
            (
                "rpc_max_streams",
                u64::from(self.rpc_max_streams),
                1,
                10_000,
            ),
            ("rpc_drain_secs", self.rpc_drain_secs, 0, 3_600),
            ("max_peers", self.max_peers as u64, 1, 10_000),
            // A thousand PIT for the smallest transaction.
            (
                "min_relay_fee_rate",
                self.min_relay_fee_rate,
                0,
                1_000_000_000,
            ),
            // At least a few of the largest transactions.
            ("mempool_bytes_max", mempool_bytes, 100_000, 1 << 40),
            (
                "mempool_expiry_secs",
                self.mempool_expiry_secs,
                1,
                10 * 366 * 86_400,
            ),
            ("store_cache_bytes", cache_bytes, 1 << 20, 1 << 40),
            (
                "template_refresh_secs",
                self.template_refresh_secs,
                1,
                86_400,
            ),
            ("share_interval_ms", self.share_interval_ms, 10, 3_600_000),
        ] {
            let expected = if value < min {
                format!("at least {min}")
            } else if value > max {
                format!("at most {max}")
            } else {
                continue;
            };
            return Err(ConfigError::OutOfRange {
                key,
                found: value.to_string(),
                expected,
                place: place_of(key, origins),
            });
        }
        Ok(())
    }

    fn check_paths(&self, origins: &Origins) -> Result<(), ConfigError> {
        let paths = [
            ("genesis", self.genesis.as_ref()),
            ("data_dir", Some(&self.data_dir)),
            ("mine_token_file", Some(&self.mine_token_file)),
            ("admin_token_file", Some(&self.admin_token_file)),
            ("ready_file", self.ready_file.as_ref()),
        ];
        for (key, path) in paths {
            if path.is_some_and(|path| path.as_os_str().is_empty()) {
                return Err(ConfigError::OutOfRange {
                    key,
                    found: "empty".to_owned(),
                    expected: "a path".to_owned(),
                    place: place_of(key, origins),
                });
            }
        }
        if self.mine_token_file == self.admin_token_file {
            return Err(ConfigError::Conflict(format!(
                "mine_token_file and admin_token_file are both {}: every miner could administer the node",
                self.mine_token_file.display()
            )));
        }
        Ok(())
    }

    fn settings(&self) -> Settings {
        Settings {
            network: self.genesis.is_none().then_some(self.network),
            genesis: self.genesis.clone(),
            data_dir: Some(self.data_dir.clone()),
            rpc_listen: Some(self.rpc_listen),
            rpc_allow_insecure: Some(self.rpc_allow_insecure),
            rpc_requests_per_minute: Some(self.rpc_requests_per_minute),
            rpc_burst: Some(self.rpc_burst),
            rpc_max_connections: Some(self.rpc_max_connections),
            rpc_max_connections_per_ip: Some(self.rpc_max_connections_per_ip),
            rpc_max_streams: Some(self.rpc_max_streams),
            rpc_drain_secs: Some(self.rpc_drain_secs),
            mine_token_file: Some(self.mine_token_file.clone()),
            admin_token_file: Some(self.admin_token_file.clone()),
            mine_without_token: Some(self.mine_without_token),
            listen: Some(self.listen.clone()),
            bootnode: Some(self.bootnode.clone()),
            external_address: Some(self.external_address.clone()),
            max_peers: Some(self.max_peers),
            offline: Some(self.offline),
            mdns: Some(self.mdns),
            upnp: Some(self.upnp),
            relay: Some(self.relay),
            validator_key: self.validator_key.clone(),
            validator_passphrase_file: self.validator_passphrase_file.clone(),
            minimum_chain_work: Some(self.minimum_chain_work),
            min_relay_fee_rate: Some(self.min_relay_fee_rate),
            mempool_bytes_max: Some(self.mempool_bytes_max),
            mempool_expiry_secs: Some(self.mempool_expiry_secs),
            store_cache_bytes: Some(self.store_cache_bytes),
            template_refresh_secs: Some(self.template_refresh_secs),
            share_interval_ms: Some(self.share_interval_ms),
            log_format: Some(self.log_format),
            log_filter: Some(self.log_filter.clone()),
            ready_file: self.ready_file.clone(),
        }
    }

    /// The effective configuration as TOML, in the order of the flags.
    fn printed(&self, origins: &Origins) -> Result<String, ConfigError> {
        let table = sources::flag_table(&self.settings())?;
        let mut out = String::new();
        for key in KEYS {
            if let Some(value) = table.get(key) {
                let origin = origins.get(key).unwrap_or(&Origin::Default).name();
                // Writing to a string does not fail.
                let _ = writeln!(out, "{key} = {value} # {origin}");
            }
        }
        Ok(out)
    }
}

fn place_of(key: &str, origins: &Origins) -> Place {
    origins.get(key).unwrap_or(&Origin::Default).place(key)
}

fn default_listen() -> Vec<Multiaddr> {
    let addresses = default::LISTEN.iter();
    // All of them are well-formed: a test holds it.
    addresses.filter_map(|text| text.parse().ok()).collect()
}

/// `$XDG_DATA_HOME/pithead/NETWORK`, or the same under `~/.local/share`.
fn default_data_dir(network: NetworkName, genesis: Option<&Path>) -> Result<PathBuf, ConfigError> {
    if genesis.is_some() {
        return Err(ConfigError::Conflict(
            "a network of your own has no default data directory: give --data-dir".to_owned(),
        ));
    }
    let base = match std::env::var_os("XDG_DATA_HOME").filter(|dir| !dir.is_empty()) {
        Some(dir) => PathBuf::from(dir),
        None => match std::env::var_os("HOME").filter(|dir| !dir.is_empty()) {
            Some(home) => PathBuf::from(home).join(".local/share"),
            None => {
                return Err(ConfigError::Conflict(
                    "neither XDG_DATA_HOME nor HOME is set: give --data-dir".to_owned(),
                ));
            }
        },
    };
    Ok(base.join("pithead").join(network.network().name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_addresses_are_well_formed() {
        assert_eq!(default_listen().len(), default::LISTEN.len());
    }
}
