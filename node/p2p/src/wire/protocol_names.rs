//! The names of protocols and topics on the wire. Each holds the genesis hash, so that nodes of
//! different networks don't mix.

use libp2p::StreamProtocol;
use libp2p::gossipsub::IdentTopic;
use pithead_consensus::BlockHash;

/// The protocol and topic names of one network, such as `/pithead/<genesis hash>/sync/1`.
#[derive(Debug, Clone)]
pub(crate) struct ProtocolNames {
    /// The protocol family in identify.
    pub(crate) family: String,
    /// The protocol of requests and responses.
    pub(crate) sync: StreamProtocol,
    /// The Kademlia protocol.
    pub(crate) kad: StreamProtocol,
    /// The prefix of gossipsub's protocol names.
    pub(crate) gossip_prefix: String,
    /// The topic of block headers.
    pub(crate) blocks: IdentTopic,
    /// The topic of transactions.
    pub(crate) transactions: IdentTopic,
    /// The topic of validators' approvals.
    pub(crate) approvals: IdentTopic,
}

impl ProtocolNames {
    /// The names of the network with this genesis.
    #[must_use]
    pub(crate) fn of(genesis: &BlockHash) -> Self {
        let name = |rest: &str| format!("/pithead/{genesis}/{rest}");
        // A name has to start with a slash, and these do: the fallback is never used.
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
