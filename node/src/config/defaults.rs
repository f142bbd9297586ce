//! Defaults that are more than a value: the built-in networks, where data is kept, and where to
//! listen for peers.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use libp2p::Multiaddr;
use pithead_consensus::genesis;
use serde::{Deserialize, Serialize};

use super::error::ConfigError;

/// Where to listen for peers: everywhere, over TCP and QUIC, on the port after the API's.
const LISTEN: [&str; 4] = [
    "/ip4/0.0.0.0/tcp/7311",
    "/ip4/0.0.0.0/udp/7311/quic-v1",
    "/ip6/::/tcp/7311",
    "/ip6/::/udp/7311/quic-v1",
];

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
    /// The network of this name, with its genesis.
    pub(super) fn network(self) -> genesis::Network {
        match self {
            Self::Main => genesis::Network::Main,
            Self::Test => genesis::Network::Test,
            Self::Dev => genesis::Network::Dev,
        }
    }
}

pub(super) fn default_listen() -> Vec<Multiaddr> {
    // A test holds that none of them is malformed.
    LISTEN.iter().filter_map(|text| text.parse().ok()).collect()
}

/// `$XDG_DATA_HOME/pithead/NETWORK`, or the same under `~/.local/share`.
pub(super) fn default_data_dir(
    network: NetworkName,
    genesis: Option<&Path>,
) -> Result<PathBuf, ConfigError> {
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
        assert_eq!(default_listen().len(), LISTEN.len());
    }
}
