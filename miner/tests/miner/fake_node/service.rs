//! The service of a fake node: gives work, judges solutions with consensus or by a
//! script, and reports every call as an event.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use pithead_api::v1::mining_service_server::MiningService;
use pithead_api::v1::*;
use pithead_consensus::{Block, BlockHash, BlockHeader, Decode as _, Target};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::work_spec::WorkSpec;

/// The node's answer to the next solution.
#[derive(Debug, Clone)]
pub(crate) enum ScriptedAnswer {
    Outcome(i32),
    Status(Status),
}

/// A call that the miner made.
#[derive(Debug, Clone)]
pub(crate) enum MinerCall {
    Subscribed(SubscribeWorkRequest),
    Telemetry(ReportTelemetryRequest),
    SubmittedBlock(Block),
    Submitted(NonceSubmission),
}

/// A solution that the miner handed in as a nonce.
#[derive(Debug, Clone)]
pub(crate) struct NonceSubmission {
    pub(crate) request: SubmitSolutionRequest,
    pub(crate) authorization: Option<String>,
    /// Whether its header meets the share target.
    pub(crate) is_share: bool,
    /// Whether its header meets the block target.
    pub(crate) is_block: bool,
    /// `None` if the call ended in an error.
    pub(crate) answer: Option<SubmitOutcome>,
}

#[derive(Debug, Default)]
pub(super) struct FakeState {
    pub(super) work: WorkSpec,
    pub(super) next_id: u64,
    pub(super) handed_out: HashMap<String, WorkSpec>,
    pub(super) subscribers: Vec<mpsc::Sender<Result<SubscribeWorkResponse, Status>>>,
    /// The error that subscriptions get instead of work.
    pub(super) refuse: Option<Status>,
    /// The answers to the next solutions. After the last one, consensus decides.
    pub(super) script: VecDeque<ScriptedAnswer>,
    /// The token that every call needs.
    pub(super) token: Option<String>,
    /// Whether each block brings work at the next height.
    pub(super) advance: bool,
    /// Whether every subscription ends after its first work.
    pub(super) end_at_once: bool,
}

/// What consensus says about a solution.
struct Judgement {
    /// `None` if the node does not know the work.
    hash: Option<BlockHash>,
    is_share: bool,
    is_block: bool,
    outcome: SubmitOutcome,
}

impl FakeState {
    fn issue(&mut self) -> SubscribeWorkResponse {
        self.next_id += 1;
        let id = format!("work-{}", self.next_id);
        self.handed_out.insert(id.clone(), self.work.clone());
        SubscribeWorkResponse {
            work_id: id,
            ..self.work.message()
        }
    }

    fn check_token(&self, authorization: Option<&str>) -> Result<(), Status> {
        match &self.token {
            Some(token) if authorization != Some(&format!("Bearer {token}")) => {
                Err(Status::unauthenticated("a token is needed"))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn push(&mut self) {
        let message = self.issue();
        self.subscribers
            .retain(|subscriber| subscriber.try_send(Ok(message.clone())).is_ok());
    }

    fn judge(&self, request: &SubmitSolutionRequest) -> Judgement {
        let Some(spec) = self.handed_out.get(&request.work_id) else {
            return Judgement {
                hash: None,
                is_share: false,
                is_block: false,
                outcome: SubmitOutcome::UnknownWork,
            };
        };
        let mut commitment = spec.commitment();
        commitment.extra_nonce[4..].copy_from_slice(&request.extra_nonce);
        assert_eq!((request.version ^ spec.version) & !spec.version_mask, 0);
        let header = BlockHeader {
            version: request.version,
            merkle_root: commitment.merkle_root(),
            time: request.time,
            nonce: request.nonce,
            ..spec.header()
        };
        let hash = header.hash();
        let meets = |target: Target| target.is_met_by(&hash);
        let (is_share, is_block) = (meets(spec.share_target()), meets(spec.block_target()));
        let outcome = match (is_block, is_share, spec.height != self.work.height) {
            (true, _, false) => SubmitOutcome::AcceptedBlock,
            (true, _, true) => SubmitOutcome::AcceptedSide,
            (_, true, false) => SubmitOutcome::AcceptedShare,
            (_, true, true) => SubmitOutcome::StaleWork,
            (_, false, _) => SubmitOutcome::HighHash,
        };
        Judgement {
            hash: Some(hash),
            is_share,
            is_block,
            outcome,
        }
    }
}

pub(super) struct FakeService {
    pub(super) state: Arc<Mutex<FakeState>>,
    pub(super) calls: mpsc::UnboundedSender<MinerCall>,
}

const DETAIL: &str = "the fake node says so";

fn authorization<T>(request: &Request<T>) -> Option<String> {
    let value = request.metadata().get("authorization")?;
    Some(value.to_str().unwrap().to_owned())
}

#[tonic::async_trait]
impl MiningService for FakeService {
    type SubscribeWorkStream = ReceiverStream<Result<SubscribeWorkResponse, Status>>;

    async fn subscribe_work(
        &self,
        request: Request<SubscribeWorkRequest>,
    ) -> Result<Response<Self::SubscribeWorkStream>, Status> {
        let authorization = authorization(&request);
        let mut state = self.state.lock().unwrap();
        let _ = self.calls.send(MinerCall::Subscribed(request.into_inner()));
        state.check_token(authorization.as_deref())?;
        if let Some(status) = &state.refuse {
            return Err(status.clone());
        }
        let (sender, receiver) = mpsc::channel(64);
        sender.try_send(Ok(state.issue())).unwrap();
        if !state.end_at_once {
            state.subscribers.push(sender);
        }
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn submit_solution(
        &self,
        request: Request<SubmitSolutionRequest>,
    ) -> Result<Response<SubmitSolutionResponse>, Status> {
        let authorization = authorization(&request);
        let request = request.into_inner();
        let mut state = self.state.lock().unwrap();
        state.check_token(authorization.as_deref())?;
        let judgement = state.judge(&request);
        let answer = match state.script.pop_front() {
            Some(ScriptedAnswer::Status(status)) => Err(status),
            Some(ScriptedAnswer::Outcome(number)) => Ok(number),
            None => Ok(judgement.outcome as i32),
        };
        let outcome = answer
            .as_ref()
            .ok()
            .and_then(|number| SubmitOutcome::try_from(*number).ok());
        if outcome == Some(SubmitOutcome::AcceptedBlock) && state.advance {
            state.work.height += 1;
            state.work.prev = state.work.prev.wrapping_add(1);
            state.push();
        }
        let _ = self.calls.send(MinerCall::Submitted(NonceSubmission {
            request,
            authorization,
            is_share: judgement.is_share,
            is_block: judgement.is_block,
            answer: outcome,
        }));
        let block_hash = judgement.hash.map(|hash| hash.to_string());
        answer.map(|outcome| {
            Response::new(SubmitSolutionResponse {
                outcome,
                block_hash: block_hash.unwrap_or_default(),
                detail: DETAIL.to_owned(),
            })
        })
    }

    async fn get_block_template(
        &self,
        _: Request<GetBlockTemplateRequest>,
    ) -> Result<Response<GetBlockTemplateResponse>, Status> {
        Err(Status::unimplemented("not used by miners"))
    }

    async fn submit_block(
        &self,
        request: Request<SubmitBlockRequest>,
    ) -> Result<Response<SubmitBlockResponse>, Status> {
        let authorization = authorization(&request);
        let state = self.state.lock().unwrap();
        state.check_token(authorization.as_deref())?;
        let block = Block::decode(&request.into_inner().raw).unwrap();
        let hash = block.header.hash();
        let target = block.header.bits.to_target().unwrap();
        assert!(target.is_met_by(&hash));
        assert_eq!(block.header.merkle_root, block.commitment.merkle_root());
        let _ = self.calls.send(MinerCall::SubmittedBlock(block));
        Ok(Response::new(SubmitBlockResponse {
            outcome: SubmitOutcome::AcceptedBlock.into(),
            block_hash: hash.to_string(),
            detail: DETAIL.to_owned(),
        }))
    }

    async fn report_telemetry(
        &self,
        request: Request<ReportTelemetryRequest>,
    ) -> Result<Response<ReportTelemetryResponse>, Status> {
        let _ = self.calls.send(MinerCall::Telemetry(request.into_inner()));
        Ok(Response::new(ReportTelemetryResponse {}))
    }

    async fn list_workers(
        &self,
        _: Request<ListWorkersRequest>,
    ) -> Result<Response<ListWorkersResponse>, Status> {
        Err(Status::unimplemented("not used by miners"))
    }
}
