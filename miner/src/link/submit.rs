//! Makes the calls that hand solutions in, and tracks those under way.
//!
//! `submissions` decides the form of a solution and handles the answer.

use std::sync::Arc;
use std::time::Duration;

use pithead_api::bearer::BearerToken;
use pithead_api::v1::mining_service_client::MiningServiceClient;
use pithead_api::v1::{SubmitBlockRequest, SubmitSolutionRequest, SubmitSolutionResponse};
use pithead_consensus::Encode as _;
use tokio::task::JoinSet;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::connect::{WorkConnection, authorized};
use crate::solution::Solution;

/// How long a node may take to judge a solution. A node connects a full block in far
/// less time.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// How many times a node that is too busy is asked again.
const BUSY_RETRIES: u32 = 3;
/// The pause before asking a busy node again, if the node names no pause itself.
const BUSY_PAUSE: Duration = Duration::from_millis(500);
/// The longest pause that a node may ask for.
const BUSY_PAUSE_MAX: Duration = Duration::from_secs(5);

/// The form in which a solution is handed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SubmissionForm {
    /// A nonce for work that the node knows.
    Nonce,
    /// A whole block, which any node can judge.
    Block,
}

/// The result of a call.
#[derive(Debug)]
pub(super) struct SubmissionAnswer {
    pub(super) solution: Arc<Solution>,
    pub(super) form: SubmissionForm,
    pub(super) result: Result<SubmitSolutionResponse, Status>,
}

/// The calls that are under way over one connection.
#[derive(Debug, Default)]
pub(super) struct Calls {
    tasks: JoinSet<SubmissionAnswer>,
    in_flight: Vec<Arc<Solution>>,
}

impl Calls {
    /// How many calls are under way.
    pub(super) fn len(&self) -> usize {
        self.in_flight.len()
    }

    /// How many calls under way hand in a block.
    pub(super) fn blocks(&self) -> usize {
        let all = self.in_flight.iter();
        all.filter(|solution| solution.is_block()).count()
    }

    /// Starts the call for a solution.
    pub(super) fn start(
        &mut self,
        solution: Arc<Solution>,
        form: SubmissionForm,
        connection: &WorkConnection,
    ) {
        let whole_block = solution
            .whole_block()
            .filter(|_| form == SubmissionForm::Block);
        let message = match whole_block {
            Some(block) => SubmissionRequest::Block(SubmitBlockRequest {
                raw: block.encode().into(),
            }),
            None => SubmissionRequest::Nonce(nonce_request(&solution)),
        };
        self.in_flight.push(Arc::clone(&solution));
        let client = connection.client.clone();
        let token = connection.token.clone();
        self.tasks.spawn(async move {
            let result = call(client, token, message).await;
            SubmissionAnswer {
                solution,
                form,
                result,
            }
        });
    }

    /// The next answer; `None` if no call is under way. Dropping the future loses no
    /// answer.
    pub(super) async fn next(&mut self) -> Option<SubmissionAnswer> {
        loop {
            match self.tasks.join_next().await? {
                Ok(answer) => {
                    let other = |one: &Arc<Solution>| !Arc::ptr_eq(one, &answer.solution);
                    self.in_flight.retain(other);
                    return Some(answer);
                }
                // The call's task has panicked, and its solution is gone with it.
                Err(error) => {
                    tracing::error!("a solution was lost: the call's task failed: {error}");
                    if self.tasks.is_empty() {
                        self.in_flight.clear();
                    }
                }
            }
        }
    }

    /// Cancels all calls and returns their solutions.
    pub(super) fn cancel(self) -> Vec<Arc<Solution>> {
        self.in_flight
    }
}

/// The message of a call.
#[derive(Debug, Clone)]
enum SubmissionRequest {
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

/// Calls the node, and calls again if the node is too busy.
///
/// # Errors
/// The status of the last call.
async fn call(
    mut client: MiningServiceClient<Channel>,
    token: Option<BearerToken>,
    message: SubmissionRequest,
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
    token: Option<&BearerToken>,
    message: SubmissionRequest,
) -> Result<SubmitSolutionResponse, Status> {
    match message {
        SubmissionRequest::Nonce(message) => {
            let mut request = authorized(message, token);
            request.set_timeout(CALL_TIMEOUT);
            client
                .submit_solution(request)
                .await
                .map(tonic::Response::into_inner)
        }
        SubmissionRequest::Block(message) => {
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
