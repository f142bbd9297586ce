//! Which chain a node follows, and whether that is the one that is meant.
//!
//! A signature counts on one chain only, named by its genesis hash (protocol
//! §2). A node that lied about that hash could have a payment of play money
//! signed for a chain where it is real: so prefixes and hashes of the built-in
//! networks must belong together, whatever the node says.

use std::str::FromStr;

use pithead_api::v1;
use pithead_consensus::address::ParseAddressError;
use pithead_consensus::genesis::Network;
use pithead_consensus::{Address, AddressPrefix, BlockHash};
use thiserror::Error;

/// The built-in networks.
pub const NETWORKS: [Network; 3] = [Network::Main, Network::Test, Network::Dev];

/// The chain that a node follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Name of the network.
    pub network: String,
    /// Prefix of its addresses.
    pub prefix: AddressPrefix,
    /// Hash of its genesis block.
    pub genesis_hash: BlockHash,
}

/// The chain that the caller means, by name or by genesis hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExpectedNetwork {
    /// A network's name.
    Name(String),
    /// The hash of its genesis block.
    Genesis(BlockHash),
}

/// The node's chain is not the one that is meant, or an address is another's.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ChainError {
    /// The node's description of its network can't be read.
    #[error("the node describes its network badly: {what}")]
    BadDescription {
        /// What is wrong with it.
        what: String,
    },
    /// The genesis hash is not the one of the network with that prefix.
    #[error(
        "the node's addresses start with {prefix}1 as on the network {network}, but its genesis block is {found}, not {expected}: it follows another chain"
    )]
    GenesisMismatch {
        /// The built-in network with that prefix.
        network: String,
        /// The prefix.
        prefix: String,
        /// The node's genesis hash.
        found: BlockHash,
        /// The network's.
        expected: BlockHash,
    },
    /// The genesis hash of a built-in network with another's prefix.
    #[error(
        "the node's genesis block is that of the network {network}, whose addresses start with {expected}1, but it says they start with {found}1: don't trust it"
    )]
    PrefixMismatch {
        /// The built-in network with that genesis.
        network: String,
        /// The prefix that the node tells.
        found: String,
        /// The network's prefix.
        expected: String,
    },
    /// Not the network that the caller asked for.
    #[error("the node follows the network {found}, not {expected}")]
    NotExpected {
        /// The node's network.
        found: String,
        /// The one asked for.
        expected: String,
    },
    /// An address of another network.
    #[error(
        "{address} is an address of {found}, but the node follows the network {network}, whose addresses start with {prefix}1"
    )]
    WrongNetworkAddress {
        /// The address.
        address: String,
        /// Its network, as far as it is known.
        found: String,
        /// The node's network.
        network: String,
        /// Its prefix.
        prefix: String,
    },
    /// Not an address at all.
    #[error(transparent)]
    BadAddress(ParseAddressError),
}

impl ChainError {
    /// What to do about it, if there is something to say.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::GenesisMismatch { found, .. } => Some(format!(
                "if that is the chain you mean, say so: --network {found}"
            )),
            Self::NotExpected { .. } => {
                Some("choose another node with --node, or another --network".to_owned())
            }
            Self::WrongNetworkAddress { .. } => Some(
                "ask the recipient for an address of this network; the same wallet has one on each"
                    .to_owned(),
            ),
            Self::BadAddress(ParseAddressError::Malformed { .. }) => {
                Some("an address has a checksum: copy it again, in full".to_owned())
            }
            _ => None,
        }
    }
}

impl FromStr for ExpectedNetwork {
    type Err = String;

    /// A name, or 64 hexadecimal digits of a genesis hash.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.len() == 64 {
            return text
                .parse()
                .map(Self::Genesis)
                .map_err(|error: pithead_consensus::hash::ParseHashError| error.to_string());
        }
        if text.is_empty() || text.len() > 32 {
            return Err("expected main, test, dev, another network's name, or the 64 digits of a genesis hash".to_owned());
        }
        Ok(Self::Name(text.to_owned()))
    }
}

impl Chain {
    /// Reads what a node says about its chain and holds it against what is
    /// known of the built-in networks, and against `expected`.
    ///
    /// # Errors
    /// [`ChainError`] if they contradict each other.
    pub fn of(
        info: &v1::GetChainInfoResponse,
        expected: Option<&ExpectedNetwork>,
    ) -> Result<Self, ChainError> {
        let bad = |what: String| ChainError::BadDescription { what };
        let prefix =
            AddressPrefix::new(&info.address_prefix).map_err(|error| bad(error.to_string()))?;
        let genesis_hash: BlockHash = info
            .genesis_hash
            .parse()
            .map_err(|error: pithead_consensus::hash::ParseHashError| bad(error.to_string()))?;
        let chain = Self {
            network: info.network.clone(),
            prefix,
            genesis_hash,
        };
        let pinned = expected == Some(&ExpectedNetwork::Genesis(genesis_hash));
        for network in NETWORKS {
            chain.check_against(network, pinned)?;
        }
        match expected {
            Some(ExpectedNetwork::Name(name)) if *name != chain.network => {
                Err(ChainError::NotExpected {
                    found: chain.network,
                    expected: name.clone(),
                })
            }
            Some(ExpectedNetwork::Genesis(hash)) if *hash != genesis_hash => {
                Err(ChainError::NotExpected {
                    found: format!("{} (genesis {genesis_hash})", chain.network),
                    expected: format!("the one with genesis {hash}"),
                })
            }
            _ => Ok(chain),
        }
    }

    fn check_against(&self, network: Network, pinned: bool) -> Result<(), ChainError> {
        let Ok(known) = network.genesis() else {
            return Ok(());
        };
        let same_genesis = known.params.genesis_hash == self.genesis_hash;
        let same_prefix = known.prefix == self.prefix;
        if same_genesis && !same_prefix {
            return Err(ChainError::PrefixMismatch {
                network: network.name().to_owned(),
                found: self.prefix.to_string(),
                expected: known.prefix.to_string(),
            });
        }
        // Dev networks are made afresh with a genesis of their own each time.
        let must_match = same_prefix && network != Network::Dev && !pinned;
        if must_match && !same_genesis {
            return Err(ChainError::GenesisMismatch {
                network: network.name().to_owned(),
                prefix: self.prefix.to_string(),
                found: self.genesis_hash,
                expected: known.params.genesis_hash,
            });
        }
        Ok(())
    }

    /// Reads an address of this chain.
    ///
    /// # Errors
    /// [`ChainError::WrongNetworkAddress`] says whose address it is instead.
    pub fn parse_address(&self, text: &str) -> Result<Address, ChainError> {
        Address::from_text(text, &self.prefix).map_err(|error| match error {
            ParseAddressError::WrongNetwork { found, .. } => ChainError::WrongNetworkAddress {
                address: text.to_owned(),
                found: network_of_prefix(&found),
                network: self.network.clone(),
                prefix: self.prefix.to_string(),
            },
            error => ChainError::BadAddress(error),
        })
    }

    /// The text form of an address of this chain.
    #[must_use]
    pub fn address_text(&self, address: &Address) -> String {
        address.to_text(&self.prefix)
    }
}

/// Names the network whose addresses have this prefix.
fn network_of_prefix(prefix: &str) -> String {
    NETWORKS
        .iter()
        .find(|network| network.genesis_file().address_prefix == prefix)
        .map_or_else(
            || format!("another network ({prefix}1…)"),
            |network| format!("the network {}", network.name()),
        )
}
