//! Asks a node for its difficulty. This file measures nothing.

use std::time::Duration;

use pithead_api::v1::GetChainInfoRequest;
use pithead_api::v1::chain_service_client::ChainServiceClient;

use super::report::BlockEstimate;
use crate::endpoint::NodeAddress;

/// How long a node may take to answer.
const NODE_TIMEOUT: Duration = Duration::from_secs(10);

/// The node did not answer with its difficulty.
#[derive(Debug, thiserror::Error)]
#[error("{node} does not tell its difficulty: {reason}")]
pub struct DifficultyError {
    /// The node that was asked.
    pub node: NodeAddress,
    /// The node's message, or what failed.
    pub reason: String,
}

/// The difficulty of the next block of a node's chain.
#[derive(Debug, Clone)]
pub struct NetworkDifficulty {
    network: String,
    height: u64,
    difficulty: f64,
}

impl NetworkDifficulty {
    /// How long a block takes at this hash rate, in hashes a second.
    #[must_use]
    pub fn estimate(self, hash_rate: f64) -> BlockEstimate {
        BlockEstimate {
            network: self.network,
            height: self.height,
            difficulty: self.difficulty,
            seconds_per_block: self.difficulty / hash_rate.max(1e-9),
        }
    }
}

/// Asks a node for the difficulty of its next block.
///
/// # Errors
/// [`DifficultyError`] if the node can't be reached or does not answer.
pub async fn ask(node: &NodeAddress) -> Result<NetworkDifficulty, DifficultyError> {
    let failed = |reason: String| DifficultyError {
        node: node.clone(),
        reason,
    };
    let channel = node
        .endpoint()
        .map_err(|error| failed(error.to_string()))?
        .connect()
        .await
        .map_err(|_| failed("nothing answers there; is the node running?".to_owned()))?;
    let mut request = tonic::Request::new(GetChainInfoRequest {});
    request.set_timeout(NODE_TIMEOUT);
    let info = ChainServiceClient::new(channel)
        .get_chain_info(request)
        .await
        .map_err(|status| failed(status.message().to_owned()))?
        .into_inner();
    Ok(NetworkDifficulty {
        network: info.network,
        height: info.tip.map_or(0, |tip| tip.height),
        difficulty: info.next_difficulty,
    })
}
