//! The names of everything on the wire. Each holds the genesis hash, so that
//! networks can't mix.

use libp2p::StreamProtocol;
use libp2p::gossipsub::IdentTopic;
use pithead_consensus::BlockHash;

/// The names of one network.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    /// What identify calls the protocol family.
    pub(crate) family: String,
    /// Request-response.
    pub(crate) sync: StreamProtocol,
    /// Kademlia.
    pub(crate) kad: StreamProtocol,
    /// Prefix of gossipsub's protocol names.
    pub(crate) gossip_prefix: String,
    /// Topic of block headers.
    pub(crate) blocks: IdentTopic,
    /// Topic of transactions.
    pub(crate) transactions: IdentTopic,
    /// Topic of validators' approvals.
    pub(crate) approvals: IdentTopic,
}

impl Names {
    /// Of the network with this genesis.
    #[must_use]
    pub(crate) fn of(genesis: &BlockHash) -> Self {
        let name = |rest: &str| format!("/pithead/{genesis}/{rest}");
        // Names made so start with a slash, which is all that is asked of them.
        let protocol = |rest: &str| {
            StreamProtocol::try_from_owned(name(rest))
                .unwrap_or(StreamProtocol::new("/pithead/unnamed"))
        };
        Self {
            family: name("1"),
            sync: protocol("sync/1"),
            kad: protocol("kad/1"),
            gossip_prefix: name("gossip"),
            blocks: IdentTopic::new(name("blocks/1")),
            transactions: IdentTopic::new(name("transactions/1")),
            approvals: IdentTopic::new(name("approvals/1")),
        }
    }
}
