//! The configuration: flags over environment over file over defaults.
//!
//! All three sources fill the same [`Settings`]; each key's value comes from
//! the first source that has it. `pithead-node config` prints the result with
//! the source of every value.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};
use pithead_consensus::genesis::{GenesisError, GenesisFile};
use pithead_consensus::{Genesis, genesis};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use toml::{Table, Value};

use crate::logging::LogFormat;

/// What the names of environment variables start with.
const ENV_PREFIX: &str = "PITHEAD_NODE_";

/// How alike an unknown key must be to a known one to suggest that, 0 to 1.
const LIKENESS_MIN: f64 = 0.8;

/// Runs a Pithead node: validates, stores and serves the chain over gRPC.
#[derive(Debug, Parser)]
#[command(name = "pithead-node", version, about)]
pub struct Cli {
    /// What to do instead of running the node.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// TOML file with settings; keys are the long flags with _ for -.
    #[arg(long, global = true, value_name = "FILE", env = "PITHEAD_NODE_CONFIG")]
    pub config: Option<PathBuf>,
    /// Replay the whole chain, compare it with what is stored, and exit.
    #[arg(long)]
    pub verify: bool,
    /// Stop when standard input closes: for a parent process that must not
    /// leave the node behind, however it ends itself.
    #[arg(long)]
    pub stop_on_stdin_close: bool,
    /// The settings given as flags.
    #[command(flatten)]
    pub settings: Settings,
}

/// What to do instead of running the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Print the effective configuration as TOML and exit.
    Config,
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
    fn network(self) -> genesis::Network {
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

/// The names of the settings, for messages.
const KEYS: [&str; 22] = [
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
    "min_relay_fee_rate",
    "mempool_bytes_max",
    "mempool_expiry_secs",
    "store_cache_bytes",
    "template_refresh_secs",
    "log_format",
    "log_filter",
    "ready_file",
];

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
    pub min_relay_fee_rate: u64,
    pub mempool_bytes_max: usize,
    pub mempool_expiry_secs: u64,
    pub store_cache_bytes: usize,
    pub template_refresh_secs: u64,
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
        "{origin}: there is no setting {key:?}{suggestion}; `pithead-node --help` lists them all"
    )]
    UnknownKey {
        /// The file or the environment.
        origin: String,
        /// The key.
        key: String,
        /// The nearest one that exists.
        suggestion: String,
    },
    /// A value of the wrong kind.
    #[error("{origin}: {reason}")]
    BadValue {
        /// The file, the variable or the flags.
        origin: String,
        /// What was found and what is expected.
        reason: String,
    },
    /// Two settings exclude each other, or one is out of range.
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

impl Config {
    /// Puts the sources together. Also returns the effective configuration as
    /// TOML, with the source of each value as a comment.
    ///
    /// # Errors
    /// [`ConfigError`] names the source, the key and what is expected.
    pub fn load(cli: &Cli) -> Result<(Self, String), ConfigError> {
        // Not `vars`: that panics on any variable that is not UTF-8.
        let env = std::env::vars_os()
            .filter_map(|(name, value)| {
                Some((
                    name.into_string().ok()?,
                    value.to_string_lossy().into_owned(),
                ))
            })
            .filter(|(name, _)| name.starts_with(ENV_PREFIX));
        Self::load_from(cli, env)
    }

    /// [`Config::load`] with the environment passed in.
    ///
    /// # Errors
    /// As there.
    pub fn load_from(
        cli: &Cli,
        env: impl IntoIterator<Item = (String, String)>,
    ) -> Result<(Self, String), ConfigError> {
        let flags = Table::try_from(&cli.settings).map_err(|error| ConfigError::BadValue {
            origin: "flags".to_owned(),
            reason: error.to_string(),
        })?;
        let mut sources = vec![("flag", flags), ("environment", env_table(env)?)];
        if let Some(path) = &cli.config {
            sources.push(("file", file_table(path)?));
        }
        let mut merged = Table::new();
        let mut origins = Table::new();
        for (origin, table) in sources {
            for (key, value) in table {
                if !merged.contains_key(&key) {
                    origins.insert(key.clone(), Value::String(origin.to_owned()));
                    merged.insert(key, value);
                }
            }
        }
        if merged.contains_key("genesis") && merged.contains_key("network") {
            return Err(ConfigError::Conflict(
                "network and genesis exclude each other: give only one of them".to_owned(),
            ));
        }
        let settings: Settings = settings_from(merged, "settings")?;
        let config = Self::with_defaults(settings)?;
        config.check()?;
        let printed = config.printed(&origins);
        Ok((config, printed))
    }

    fn with_defaults(settings: Settings) -> Result<Self, ConfigError> {
        let network = settings.network.unwrap_or(NetworkName::Main);
        let data_dir = match settings.data_dir {
            Some(dir) => dir,
            None => default_data_dir(network, settings.genesis.as_deref())?,
        };
        Ok(Self {
            network,
            genesis: settings.genesis,
            rpc_listen: settings
                .rpc_listen
                .unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 7310))),
            rpc_allow_insecure: settings.rpc_allow_insecure.unwrap_or(false),
            rpc_requests_per_minute: settings.rpc_requests_per_minute.unwrap_or(1_000),
            rpc_burst: settings.rpc_burst.unwrap_or(100),
            rpc_max_connections: settings.rpc_max_connections.unwrap_or(1_024),
            rpc_max_connections_per_ip: settings.rpc_max_connections_per_ip.unwrap_or(32),
            rpc_max_streams: settings.rpc_max_streams.unwrap_or(32),
            rpc_drain_secs: settings.rpc_drain_secs.unwrap_or(5),
            mine_token_file: settings
                .mine_token_file
                .unwrap_or_else(|| data_dir.join("mine.token")),
            admin_token_file: settings
                .admin_token_file
                .unwrap_or_else(|| data_dir.join("admin.token")),
            mine_without_token: settings.mine_without_token.unwrap_or(false),
            min_relay_fee_rate: settings.min_relay_fee_rate.unwrap_or(1),
            mempool_bytes_max: settings.mempool_bytes_max.unwrap_or(64 * 1024 * 1024),
            mempool_expiry_secs: settings.mempool_expiry_secs.unwrap_or(72 * 3_600),
            store_cache_bytes: settings.store_cache_bytes.unwrap_or(64 * 1024 * 1024),
            template_refresh_secs: settings.template_refresh_secs.unwrap_or(30),
            log_format: settings.log_format.unwrap_or_default(),
            log_filter: settings.log_filter.unwrap_or_else(|| "info".to_owned()),
            ready_file: settings.ready_file,
            data_dir,
        })
    }

    fn check(&self) -> Result<(), ConfigError> {
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
        for (key, value, min) in [
            ("rpc_burst", u64::from(self.rpc_burst), 1),
            ("rpc_max_connections", self.rpc_max_connections as u64, 1),
            (
                "rpc_max_connections_per_ip",
                self.rpc_max_connections_per_ip as u64,
                1,
            ),
            ("rpc_max_streams", u64::from(self.rpc_max_streams), 1),
            ("mempool_bytes_max", self.mempool_bytes_max as u64, 100_000),
            ("mempool_expiry_secs", self.mempool_expiry_secs, 1),
            ("store_cache_bytes", self.store_cache_bytes as u64, 1 << 20),
            ("template_refresh_secs", self.template_refresh_secs, 1),
        ] {
            if value < min {
                return Err(ConfigError::Conflict(format!(
                    "{key} is {value}, at least {min} expected"
                )));
            }
        }
        Ok(())
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
        let text = read(path)?;
        GenesisFile::from_toml(&text)
            .and_then(|file| file.check())
            .map_err(bad(shown))
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
            min_relay_fee_rate: Some(self.min_relay_fee_rate),
            mempool_bytes_max: Some(self.mempool_bytes_max),
            mempool_expiry_secs: Some(self.mempool_expiry_secs),
            store_cache_bytes: Some(self.store_cache_bytes),
            template_refresh_secs: Some(self.template_refresh_secs),
            log_format: Some(self.log_format),
            log_filter: Some(self.log_filter.clone()),
            ready_file: self.ready_file.clone(),
        }
    }

    /// The effective configuration as TOML, in the order of the flags.
    fn printed(&self, origins: &Table) -> String {
        let table = Table::try_from(self.settings()).unwrap_or_default();
        let mut out = String::new();
        for key in KEYS {
            if let Some(value) = table.get(key) {
                let origin = origins
                    .get(key)
                    .and_then(Value::as_str)
                    .unwrap_or("default");
                // Writing to a string does not fail.
                let _ = writeln!(out, "{key} = {value} # {origin}");
            }
        }
        out
    }
}

fn env_table(env: impl IntoIterator<Item = (String, String)>) -> Result<Table, ConfigError> {
    let mut table = Table::new();
    for (name, text) in env {
        let Some(key) = name.strip_prefix(ENV_PREFIX).map(str::to_lowercase) else {
            continue;
        };
        if key == "config" {
            continue;
        }
        check_key(&key, &format!("environment variable {name}"))?;
        let value = env_value(&key, &name, text)?;
        table.insert(key, value);
    }
    Ok(table)
}

/// A variable's value: a number or a boolean as in TOML where the setting
/// takes one, else text.
fn env_value(key: &str, name: &str, text: String) -> Result<Value, ConfigError> {
    let number = text.parse().ok().map(Value::Integer);
    let flag = text.parse().ok().map(Value::Boolean);
    let typed = number.or(flag);
    let check = |value: &Value| {
        let single = Table::from_iter([(key.to_owned(), value.clone())]);
        settings_from(single, &format!("environment variable {name}"))
    };
    match typed {
        Some(value) if check(&value).is_ok() => Ok(value),
        _ => {
            let value = Value::String(text);
            check(&value)?;
            Ok(value)
        }
    }
}

fn file_table(path: &Path) -> Result<Table, ConfigError> {
    let text = read(path)?;
    let origin = format!("configuration file {}", path.display());
    let table: Table = text
        .parse()
        .map_err(|error: toml::de::Error| ConfigError::BadFile {
            path: path.to_owned(),
            reason: error.to_string(),
        })?;
    for key in table.keys() {
        check_key(key, &origin)?;
    }
    for (key, value) in &table {
        let single = Table::from_iter([(key.clone(), value.clone())]);
        settings_from(single, &format!("{origin}: {key}"))?;
    }
    Ok(table)
}

fn settings_from(table: Table, origin: &str) -> Result<Settings, ConfigError> {
    table
        .try_into()
        .map_err(|error: toml::de::Error| ConfigError::BadValue {
            origin: origin.to_owned(),
            reason: error.message().to_owned(),
        })
}

fn check_key(key: &str, origin: &str) -> Result<(), ConfigError> {
    if KEYS.contains(&key) {
        return Ok(());
    }
    let nearest = KEYS
        .iter()
        .map(|known| (strsim::jaro_winkler(known, key), known))
        .filter(|(likeness, _)| *likeness > LIKENESS_MIN)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, known)| format!(", did you mean {known:?}?"));
    Err(ConfigError::UnknownKey {
        origin: origin.to_owned(),
        key: key.chars().take(80).collect(),
        suggestion: nearest.unwrap_or_default(),
    })
}

fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|error| ConfigError::BadFile {
        path: path.to_owned(),
        reason: error.to_string(),
    })
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
