//! Which chain a node follows, and whether it is the chain that the user means.
//! Start with [`ChainIdentity::of`].
//!
//! A signature counts on one chain only, which its genesis hash names (protocol
//! §2). A node that lies about this hash could make a user sign a payment of play
//! money that is valid on a chain where the money is real. Prefix and genesis hash
//! of a built-in network must therefore belong together, whatever the node says.

use std::str::FromStr;

use pithead_api::v1;
use pithead_consensus::address::ParseAddressError;
use pithead_consensus::genesis::Network;
use pithead_consensus::{Address, AddressPrefix, BlockHash};
use thiserror::Error;

/// The built-in networks, whose genesis this program knows.
pub const NETWORKS: [Network; 3] = [Network::Main, Network::Test, Network::Dev];

/// The chain that a node follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainIdentity {
    /// Name of the network, as the node tells it.
    pub network: String,
    /// Prefix of the network's addresses, such as `pit`.
    pub prefix: AddressPrefix,
    /// Hash of the genesis block, which every signature covers.
    pub genesis_hash: BlockHash,
}

/// The chain that the user means, by name or by genesis hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExpectedNetwork {
    /// Any chain whose network has this name.
    Name(String),
    /// The one chain with this genesis block.
    Genesis(BlockHash),
}

/// Why a node's chain, or an address, is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ChainError {
    /// The node's description of its network can't be read.
    #[error("the node describes its network badly: {what}")]
    BadDescription {
        /// Which part of the description can't be read, and why.
        what: String,
    },
    /// The prefix is a built-in network's, but the genesis hash is not.
    #[error(
        "the node's addresses start with {prefix}1 as on the network {network}, but its genesis block is {found}, not {expected}: it follows another chain"
    )]
    GenesisMismatch {
        /// Name of the built-in network with this prefix.
        network: String,
        /// The prefix that the node tells.
        prefix: String,
        /// The genesis hash that the node tells.
        found: BlockHash,
        /// The genesis hash of the built-in network.
        expected: BlockHash,
    },
    /// The genesis hash is a built-in network's, but the prefix is not.
    #[error(
        "the node's genesis block is that of the network {network}, whose addresses start with {expected}1, but it says they start with {found}1: don't trust it"
    )]
    PrefixMismatch {
        /// Name of the built-in network with this genesis.
        network: String,
        /// The prefix that the node tells.
        found: String,
        /// The prefix of the built-in network.
        expected: String,
    },
    /// The node follows another network than the user asked for.
    #[error("the node follows the network {found}, not {expected}")]
    NotExpected {
        /// The network that the node follows.
        found: String,
        /// The network that the user asked for.
        expected: String,
    },
    /// The address belongs to another network.
    #[error(
        "{address} is an address of {found}, but the node follows the network {network}, whose addresses start with {prefix}1"
    )]
    WrongNetworkAddress {
        /// The address as it was written.
        address: String,
        /// The network of the address, as far as its prefix is known.
        found: String,
        /// Name of the network that the node follows.
        network: String,
        /// Prefix of the addresses of that network.
        prefix: String,
    },
    /// The text is no address.
    #[error(transparent)]
    BadAddress(ParseAddressError),
}

impl ChainError {
    /// What the user can do about it, if anything.
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

impl ChainIdentity {
    /// Reads what a node says about its chain and compares it with the built-in
    /// networks and with `expected`.
    ///
    /// # Errors
    /// [`ChainError`] if the node contradicts either.
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
        // Every dev network has a genesis of its own.
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
    /// [`ChainError::WrongNetworkAddress`] names the network of the address.
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

/// The name of the network whose addresses have this prefix.
fn network_of_prefix(prefix: &str) -> String {
    NETWORKS
        .iter()
        .find(|network| network.genesis_file().address_prefix == prefix)
        .map_or_else(
            || format!("another network ({prefix}1…)"),
            |network| format!("the network {}", network.name()),
        )
}
