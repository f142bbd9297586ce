//! Opens one connection: channel, role token, subscription and the first piece of
//! work. The connection counts as open once that work has arrived and is sound.
//!
//! `attempts` decides which node is tried; `session` uses the open connection.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pithead_api::bearer::BearerToken;
use pithead_api::v1::mining_service_client::MiningServiceClient;
use pithead_api::v1::{SubscribeWorkRequest, SubscribeWorkResponse};
use thiserror::Error;
use tonic::codec::CompressionEncoding;
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};

use super::config::LinkConfig;
use super::status;
use crate::endpoint::NodeAddress;
use crate::work::{MiningWork, WorkError};

/// How long a node may take to send its first work after the subscription.
const FIRST_WORK_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest message that is read. A piece of work takes less than a kilobyte.
const MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// Why an attempt to connect to a node failed.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// No connection could be made to the address.
    #[error("can't reach {node}: {reason}; is the node running?")]
    Unreachable {
        /// The node's address.
        node: NodeAddress,
        /// The transport's error, with its causes.
        reason: String,
    },
    /// The token file can't be read. The node may not have written it yet.
    #[error("can't read the token in {}: {reason}; the node writes this file when it starts", path.display())]
    Token {
        /// The token file.
        path: PathBuf,
        /// The system's error, or what is wrong with the content.
        reason: String,
    },
    /// The node does not accept the token, or asks for one.
    #[error("{node} refuses: {reason}; {hint}")]
    NotAllowed {
        /// The node's address.
        node: NodeAddress,
        /// The node's message.
        reason: String,
        /// What the user can do about it.
        hint: String,
    },
    /// The node finds the subscription wrong; often the address is of another network.
    #[error("{node} does not accept what this miner asks for: {reason}")]
    InvalidArgument {
        /// The node's address.
        node: NodeAddress,
        /// The node's message, with the fields that it finds wrong.
        reason: String,
    },
    /// The node gave another answer than work, or none in time.
    #[error("{node} gives no work: {reason}")]
    NoWork {
        /// The node's address.
        node: NodeAddress,
        /// The node's message, or what is missing.
        reason: String,
    },
    /// The node's first work can't be mined on.
    #[error("{node} gives work that can't be mined on: {error}")]
    BadWork {
        /// The node's address.
        node: NodeAddress,
        /// What is wrong with the work.
        error: WorkError,
    },
}

/// An open connection to a node that gives work.
#[derive(Debug)]
pub(super) struct WorkConnection {
    pub(super) node: NodeAddress,
    /// The number of the connection within this run, from 1.
    pub(super) number: u64,
    pub(super) client: MiningServiceClient<Channel>,
    pub(super) token: Option<BearerToken>,
    /// The work that came with the subscription, until the session takes it.
    pub(super) first_work: Option<MiningWork>,
    stream: Streaming<SubscribeWorkResponse>,
}

impl WorkConnection {
    /// Connects to one node and waits for its first work.
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
        // The token is read for every connection, because a node writes a new token at
        // every start.
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
        let work = MiningWork::from_message(first, &config.reward_payload, number, Instant::now())
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

    /// The next piece of work. Dropping the future loses no work.
    ///
    /// # Errors
    /// The reason why the node sends no further work.
    pub(super) async fn next_work(&mut self, config: &LinkConfig) -> Result<MiningWork, String> {
        let message = match self.stream.message().await {
            Ok(Some(message)) => message,
            Ok(None) => return Err("the node ended the subscription".to_owned()),
            Err(error) => return Err(status::describe(&error)),
        };
        MiningWork::from_message(message, &config.reward_payload, self.number, Instant::now())
            .map_err(|error| format!("work that can't be mined on: {error}"))
    }
}

/// A request that carries the role token.
pub(super) fn authorized<T>(message: T, token: Option<&BearerToken>) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(token) = token {
        token.authorize(&mut request);
    }
    request
}

async fn read_token(path: &Path) -> Result<BearerToken, ConnectError> {
    let failed = |reason: String| ConnectError::Token {
        path: path.to_owned(),
        reason,
    };
    let text = tokio::fs::read_to_string(path)
        .await
        .map_err(|error| failed(error.to_string()))?;
    if text.trim().is_empty() {
        return Err(failed("it is empty".to_owned()));
    }
    BearerToken::new(&text).map_err(|_| failed("it does not hold a token".to_owned()))
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

/// The causes of a transport error. The error itself says only "transport error".
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
