//! Making one connection: the role token, the channel, the subscription and
//! its first piece of work. Only then does a node count as found.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pithead_api::v1::mining_service_client::MiningServiceClient;
use pithead_api::v1::{SubscribeWorkRequest, SubscribeWorkResponse};
use thiserror::Error;
use tonic::codec::CompressionEncoding;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};

use super::{LinkConfig, status};
use crate::endpoint::NodeAddress;
use crate::work::{Work, WorkError};

/// How long a node may take from the subscription to its first work.
const FIRST_WORK_TIMEOUT: Duration = Duration::from_secs(10);
/// A piece of work takes well under a kilobyte; nothing larger is read.
const MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// Why a node gives no work.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// Nothing answers there.
    #[error("can't reach {node}: {reason}; is the node running?")]
    Unreachable {
        /// The node.
        node: NodeAddress,
        /// Why.
        reason: String,
    },
    /// The token file can't be read. The node may not have written it yet.
    #[error("can't read the token in {}: {reason}; the node writes this file when it starts", path.display())]
    Token {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The node does not let this miner mine.
    #[error("{node} refuses: {reason}; {hint}")]
    NotAllowed {
        /// The node.
        node: NodeAddress,
        /// What it said.
        reason: String,
        /// What to do.
        hint: String,
    },
    /// What was asked for is wrong, as this node sees it.
    #[error("{node} does not accept what this miner asks for: {reason}")]
    InvalidArgument {
        /// The node.
        node: NodeAddress,
        /// What it said.
        reason: String,
    },
    /// Any other answer than work.
    #[error("{node} gives no work: {reason}")]
    NoWork {
        /// The node.
        node: NodeAddress,
        /// What it said, or what is missing.
        reason: String,
    },
    /// Work that can't be mined on.
    #[error("{node} gives work that can't be mined on: {error}")]
    BadWork {
        /// The node.
        node: NodeAddress,
        /// What is wrong with it.
        error: WorkError,
    },
}

/// The role token as it goes into a call's metadata.
pub(super) type Token = MetadataValue<Ascii>;

/// A node that gives work.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) node: NodeAddress,
    pub(super) number: u64,
    pub(super) client: MiningServiceClient<Channel>,
    pub(super) token: Option<Token>,
    pub(super) first_work: Option<Work>,
    stream: Streaming<SubscribeWorkResponse>,
}

impl Connection {
    /// Connects to one node.
    pub(super) async fn open(
        node: &NodeAddress,
        config: &LinkConfig,
        number: u64,
    ) -> Result<Self, ConnectError> {
        let unreachable = |error: tonic::transport::Error| ConnectError::Unreachable {
            node: node.clone(),
            reason: causes(&error),
        };
        let channel = node
            .endpoint()
            .map_err(unreachable)?
            .connect()
            .await
            .map_err(unreachable)?;
        // Read at every connection: a node that restarts writes a new one.
        let token = match &config.token_file {
            Some(path) => Some(read_token(path).await?),
            None => None,
        };
        let mut client = MiningServiceClient::new(channel)
            .accept_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Zstd)
            .max_decoding_message_size(MESSAGE_BYTES_MAX);
        let request = authorized(
            SubscribeWorkRequest {
                reward_address: config.reward_address.clone(),
                worker: config.worker.clone(),
                agent: crate::AGENT.to_owned(),
            },
            token.as_ref(),
        );
        let subscribe = async {
            let mut stream = client.subscribe_work(request).await?.into_inner();
            let first = stream.message().await?;
            Ok((stream, first))
        };
        let (stream, first) = match tokio::time::timeout(FIRST_WORK_TIMEOUT, subscribe).await {
            Ok(Ok(subscribed)) => subscribed,
            Ok(Err(status)) => return Err(refusal(node, config, &status)),
            Err(_) => return Err(no_work(node, "no work came within 10 seconds")),
        };
        let first = first.ok_or_else(|| no_work(node, "it ended the subscription at once"))?;
        let work = Work::from_message(first, &config.reward_payload, number, Instant::now())
            .map_err(|error| ConnectError::BadWork {
                node: node.clone(),
                error,
            })?;
        Ok(Self {
            node: node.clone(),
            number,
            client,
            token,
            first_work: Some(work),
            stream,
        })
    }

    /// The next piece of work. Safe to abandon: nothing is lost.
    ///
    /// # Errors
    /// A text if none will come.
    pub(super) async fn next_work(&mut self, config: &LinkConfig) -> Result<Work, String> {
        let message = match self.stream.message().await {
            Ok(Some(message)) => message,
            Ok(None) => return Err("the node ended the subscription".to_owned()),
            Err(error) => return Err(status::describe(&error)),
        };
        Work::from_message(message, &config.reward_payload, self.number, Instant::now())
            .map_err(|error| format!("work that can't be mined on: {error}"))
    }
}

/// A call with the role token.
pub(super) fn authorized<T>(message: T, token: Option<&Token>) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(token) = token {
        request
            .metadata_mut()
            .insert("authorization", token.clone());
    }
    request
}

async fn read_token(path: &Path) -> Result<Token, ConnectError> {
    let failed = |reason: String| ConnectError::Token {
        path: path.to_owned(),
        reason,
    };
    let text = tokio::fs::read_to_string(path)
        .await
        .map_err(|error| failed(error.to_string()))?;
    let token = text.trim();
    if token.is_empty() {
        return Err(failed("it is empty".to_owned()));
    }
    format!("Bearer {token}")
        .parse()
        .map_err(|_| failed("it does not hold a token".to_owned()))
}

fn no_work(node: &NodeAddress, reason: &str) -> ConnectError {
    ConnectError::NoWork {
        node: node.clone(),
        reason: reason.to_owned(),
    }
}

fn refusal(node: &NodeAddress, config: &LinkConfig, answer: &Status) -> ConnectError {
    let node = node.clone();
    let reason = status::describe(answer);
    match answer.code() {
        Code::InvalidArgument => ConnectError::InvalidArgument {
            node,
            reason: status::with_violations(answer),
        },
        Code::Unauthenticated | Code::PermissionDenied => {
            let hint = match &config.token_file {
                None => "mining needs a token: pass --token-file with the file that the node \
                         writes for miners in its data directory"
                    .to_owned(),
                Some(path) => format!(
                    "the token in {} is not one that this node takes for mining; is it the file \
                     of this node?",
                    path.display()
                ),
            };
            ConnectError::NotAllowed { node, reason, hint }
        }
        Code::Unimplemented => ConnectError::NoWork {
            node,
            reason: format!("{reason}; is it a Pithead node?"),
        },
        _ => ConnectError::NoWork { node, reason },
    }
}

/// What caused a transport error: it says nothing itself.
fn causes(error: &dyn std::error::Error) -> String {
    let first = error.source().unwrap_or(error);
    let mut text = first.to_string();
    let mut source = first.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
