//! Handing in solutions: the calls under way, and how each is made.

use std::sync::Arc;
use std::time::Duration;

use pithead_api::v1::mining_service_client::MiningServiceClient;
use pithead_api::v1::{SubmitBlockRequest, SubmitSolutionRequest, SubmitSolutionResponse};
use pithead_consensus::Encode as _;
use tokio::task::JoinSet;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::connect::{Connection, Token, authorized};
use crate::solution::Solution;

/// How long a node may take to judge a solution: a full block is connected in
/// far less.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a node that is too busy is asked again.
const BUSY_RETRIES: u32 = 3;
/// Pause before, if the node names none; and the longest that is obeyed.
const BUSY_PAUSE: Duration = Duration::from_millis(500);
const BUSY_PAUSE_MAX: Duration = Duration::from_secs(5);

/// How a solution is handed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// As a nonce for work that the node knows.
    Nonce,
    /// As a whole block, to any node.
    Block,
}

/// What came of a call.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) solution: Arc<Solution>,
    pub(super) form: Form,
    pub(super) result: Result<SubmitSolutionResponse, Status>,
}

/// The calls under way over one connection.
#[derive(Debug, Default)]
pub(super) struct Calls {
    tasks: JoinSet<Answer>,
    in_flight: Vec<Arc<Solution>>,
}

impl Calls {
    pub(super) fn len(&self) -> usize {
        self.in_flight.len()
    }

    /// How many of them are about blocks.
    pub(super) fn blocks(&self) -> usize {
        let all = self.in_flight.iter();
        all.filter(|solution| solution.is_block()).count()
    }

    pub(super) fn start(&mut self, solution: Arc<Solution>, form: Form, connection: &Connection) {
        let whole_block = solution.whole_block().filter(|_| form == Form::Block);
        let message = match whole_block {
            Some(block) => Message::Block(SubmitBlockRequest {
                raw: block.encode().into(),
            }),
            None => Message::Nonce(nonce_request(&solution)),
        };
        self.in_flight.push(Arc::clone(&solution));
        let client = connection.client.clone();
        let token = connection.token.clone();
        self.tasks.spawn(async move {
            let result = call(client, token, message).await;
            Answer {
                solution,
                form,
                result,
            }
        });
    }

    /// The next answer; `None` if none is due. Safe to abandon.
    pub(super) async fn next(&mut self) -> Option<Answer> {
        loop {
            match self.tasks.join_next().await? {
                Ok(answer) => {
                    let other = |one: &Arc<Solution>| !Arc::ptr_eq(one, &answer.solution);
                    self.in_flight.retain(other);
                    return Some(answer);
                }
                // A fault of this program; whatever it was about is gone.
                Err(error) => {
                    tracing::error!("handing in has failed: {error}");
                    if self.tasks.is_empty() {
                        self.in_flight.clear();
                    }
                }
            }
        }
    }

    /// Gives the calls up; what they were about.
    pub(super) fn abandon(self) -> Vec<Arc<Solution>> {
        self.in_flight
    }
}

#[derive(Debug, Clone)]
enum Message {
    Nonce(SubmitSolutionRequest),
    Block(SubmitBlockRequest),
}

fn nonce_request(solution: &Solution) -> SubmitSolutionRequest {
    let first_hash_ms = solution.work.first_hash_us().map(|us| us / 1_000);
    SubmitSolutionRequest {
        work_id: solution.work.id.clone(),
        extra_nonce: solution.extra_nonce.to_vec().into(),
        time: solution.time,
        nonce: solution.nonce,
        version: solution.version,
        first_hash_ms: first_hash_ms.map(|ms| u32::try_from(ms).unwrap_or(u32::MAX)),
    }
}

/// Calls the node; asks again if it is too busy.
///
/// # Errors
/// The status of the last attempt.
async fn call(
    mut client: MiningServiceClient<Channel>,
    token: Option<Token>,
    message: Message,
) -> Result<SubmitSolutionResponse, Status> {
    let mut retries = 0;
    loop {
        match call_once(&mut client, token.as_ref(), message.clone()).await {
            Err(status) if status.code() == Code::ResourceExhausted && retries < BUSY_RETRIES => {
                retries += 1;
                let pause = status
                    .get_details_retry_info()
                    .and_then(|details| details.retry_delay)
                    .unwrap_or(BUSY_PAUSE)
                    .min(BUSY_PAUSE_MAX);
                tracing::debug!("the node is too busy: asking again in {pause:?}");
                tokio::time::sleep(pause).await;
            }
            result => return result,
        }
    }
}

async fn call_once(
    client: &mut MiningServiceClient<Channel>,
    token: Option<&Token>,
    message: Message,
) -> Result<SubmitSolutionResponse, Status> {
    match message {
        Message::Nonce(message) => {
            let mut request = authorized(message, token);
            request.set_timeout(CALL_TIMEOUT);
            client
                .submit_solution(request)
                .await
                .map(tonic::Response::into_inner)
        }
        Message::Block(message) => {
            let mut request = authorized(message, token);
            request.set_timeout(CALL_TIMEOUT);
            let response = client.submit_block(request).await?.into_inner();
            Ok(SubmitSolutionResponse {
                outcome: response.outcome,
                block_hash: response.block_hash,
                detail: response.detail,
            })
        }
    }
}
