//! Handing in one solution.

use std::time::Duration;

use pithead_api::v1::mining_service_client::MiningServiceClient;
use pithead_api::v1::{SubmitSolutionRequest, SubmitSolutionResponse};
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::connect::{Token, authorized};
use crate::workers::Solution;

/// How long a node may take to judge a solution: a full block is connected in
/// far less.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a node that is too busy is asked again.
const BUSY_RETRIES: u32 = 3;
/// Pause before, if the node names none; and the longest that is obeyed.
const BUSY_PAUSE: Duration = Duration::from_millis(500);
const BUSY_PAUSE_MAX: Duration = Duration::from_secs(5);

/// What is sent for a solution.
pub(super) fn request(solution: &Solution) -> SubmitSolutionRequest {
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
pub(super) async fn call(
    mut client: MiningServiceClient<Channel>,
    token: Option<Token>,
    message: SubmitSolutionRequest,
) -> Result<SubmitSolutionResponse, Status> {
    let mut retries = 0;
    loop {
        let mut request = authorized(message.clone(), token.as_ref());
        request.set_timeout(CALL_TIMEOUT);
        match client.submit_solution(request).await {
            Ok(response) => return Ok(response.into_inner()),
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
            Err(status) => return Err(status),
        }
    }
}

/// Whether the failure says nothing about the solution: it is worth handing in
/// again over a new connection, with a token read anew.
pub(super) fn is_about_the_connection(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable
            | Code::Cancelled
            | Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unauthenticated
            | Code::PermissionDenied
    )
}

/// A status in words.
pub(super) fn describe(status: &Status) -> String {
    match status.message() {
        "" => status.code().description().to_owned(),
        message => message.to_owned(),
    }
}
