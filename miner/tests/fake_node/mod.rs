//! A node as a miner sees it: serves work, judges solutions with consensus or
//! as told, and can be stopped and started again at the same address.

// Each test file uses a part of it.
#![allow(dead_code, unreachable_pub)]

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pithead_api::v1::mining_service_server::{MiningService, MiningServiceServer};
use pithead_api::v1::*;
use pithead_consensus::block::VERSION_ROLL_MASK;
use pithead_consensus::hash::Hash256;
use pithead_consensus::{
    Address, AddressPrefix, Block, BlockCommitment, BlockHash, BlockHeader, CompactTarget,
    Decode as _, Encode as _, Target,
};
use tokio::net::TcpSocket;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status};

/// Who is paid in all tests.
pub fn reward_address() -> Address {
    Address([7; 32])
}

/// The same as text.
pub fn reward_text() -> String {
    reward_address().to_text(&AddressPrefix::new("dpit").unwrap())
}

/// Work to be handed out.
#[derive(Debug, Clone)]
pub struct WorkSpec {
    pub height: u64,
    pub prev: u8,
    pub bits: u32,
    /// About so many hashes for a share.
    pub share_hashes: u32,
    pub clean: bool,
    pub time: u32,
    pub times: (u32, u32),
    pub version: u32,
    pub version_mask: u32,
    pub prefix: [u8; 4],
    pub reward_address: Address,
    pub transaction_count: u32,
}

impl Default for WorkSpec {
    fn default() -> Self {
        Self {
            height: 1,
            prev: 1,
            // 2^32 hashes a block: none is found by accident.
            bits: 0x1d00_ffff,
            share_hashes: 1 << 14,
            clean: true,
            time: 1_700_000_000,
            times: (1_600_000_000, 1_800_000_000),
            version: 0x2000_0000,
            version_mask: VERSION_ROLL_MASK,
            prefix: [0xaa; 4],
            reward_address: reward_address(),
            transaction_count: 0,
        }
    }
}

/// Bits at which a block takes about 2^14 hashes.
pub const EASY_BITS: u32 = 0x1f03_ffff;

impl WorkSpec {
    fn commitment(&self) -> BlockCommitment {
        let mut extra_nonce = [0; 8];
        extra_nonce[..4].copy_from_slice(&self.prefix);
        BlockCommitment {
            transactions_root: Hash256([1; 32]),
            state_root: Hash256([2; 32]),
            reward_address: self.reward_address,
            extra_nonce,
        }
    }

    fn header(&self) -> BlockHeader {
        BlockHeader {
            version: self.version,
            prev: BlockHash([self.prev; 32]),
            merkle_root: self.commitment().merkle_root(),
            time: self.time,
            bits: CompactTarget(self.bits),
            nonce: 0,
        }
    }

    fn share_target(&self) -> Target {
        let mut bytes = [0xff; 32];
        bytes[28..].copy_from_slice(&(u32::MAX / self.share_hashes).to_le_bytes());
        Target::from_le_bytes(bytes).unwrap()
    }

    fn block_target(&self) -> Target {
        CompactTarget(self.bits).to_target().unwrap()
    }

    /// As a node sends it, under the name `work`.
    pub fn message(&self) -> SubscribeWorkResponse {
        let timestamp = |seconds: u32| prost_types::Timestamp {
            seconds: i64::from(seconds),
            nanos: 0,
        };
        SubscribeWorkResponse {
            work_id: "work".to_owned(),
            height: self.height,
            header: self.header().encode().into(),
            commitment: self.commitment().encode().into(),
            target: self.block_target().to_le_bytes().to_vec().into(),
            share_target: self.share_target().to_le_bytes().to_vec().into(),
            reward: 5_000_000_000,
            min_time: Some(timestamp(self.times.0)),
            max_time: Some(timestamp(self.times.1)),
            clean: self.clean,
            transaction_count: self.transaction_count,
            version_mask: self.version_mask,
            ..SubscribeWorkResponse::default()
        }
    }
}

/// What the node is to say to the next solution.
#[derive(Debug, Clone)]
pub enum Say {
    Outcome(i32),
    Status(Status),
}

/// What happened at the node.
#[derive(Debug, Clone)]
pub enum Event {
    Subscribed {
        request: SubscribeWorkRequest,
        authorization: Option<String>,
    },
    Telemetry(ReportTelemetryRequest),
    SubmittedBlock(Block),
    Submitted {
        request: SubmitSolutionRequest,
        authorization: Option<String>,
        /// Whether the solution makes a header that meets the share target.
        is_share: bool,
        is_block: bool,
        answer: Option<SubmitOutcome>,
    },
}

#[derive(Debug, Default)]
struct State {
    work: WorkSpec,
    next_id: u64,
    handed_out: HashMap<String, WorkSpec>,
    subscribers: Vec<mpsc::Sender<Result<SubscribeWorkResponse, Status>>>,
    /// What to say to subscriptions instead of work.
    refuse: Option<Status>,
    /// What to say to solutions; when it is used up, consensus decides.
    script: VecDeque<Say>,
    /// Refuse everything without this token.
    token: Option<String>,
    /// Give work at a higher height after each block.
    advance: bool,
    /// End every subscription after its first work.
    end_at_once: bool,
}

impl State {
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

    fn push(&mut self) {
        let message = self.issue();
        self.subscribers
            .retain(|subscriber| subscriber.try_send(Ok(message.clone())).is_ok());
    }
}

struct Service {
    state: Arc<Mutex<State>>,
    events: mpsc::UnboundedSender<Event>,
}

fn authorization<T>(request: &Request<T>) -> Option<String> {
    let value = request.metadata().get("authorization")?;
    Some(value.to_str().unwrap().to_owned())
}

#[tonic::async_trait]
impl MiningService for Service {
    type SubscribeWorkStream = ReceiverStream<Result<SubscribeWorkResponse, Status>>;

    async fn subscribe_work(
        &self,
        request: Request<SubscribeWorkRequest>,
    ) -> Result<Response<Self::SubscribeWorkStream>, Status> {
        let authorization = authorization(&request);
        let mut state = self.state.lock().unwrap();
        let _ = self.events.send(Event::Subscribed {
            request: request.into_inner(),
            authorization: authorization.clone(),
        });
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
        let spec = state.handed_out.get(&request.work_id).cloned();
        let mut hash = None;
        if let Some(spec) = &spec {
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
            hash = Some(header.hash());
        }
        let meets = |target: fn(&WorkSpec) -> Target| match (&spec, &hash) {
            (Some(spec), Some(hash)) => target(spec).is_met_by(hash),
            _ => false,
        };
        let (is_share, is_block) = (meets(WorkSpec::share_target), meets(WorkSpec::block_target));
        let stale = spec
            .as_ref()
            .is_some_and(|spec| spec.height != state.work.height);
        let answer = match state.script.pop_front() {
            Some(Say::Status(status)) => Err(status),
            Some(Say::Outcome(number)) => Ok(number),
            None => Ok(match (spec.is_some(), is_block, is_share, stale) {
                (false, ..) => SubmitOutcome::UnknownWork,
                (_, true, _, false) => SubmitOutcome::AcceptedBlock,
                (_, true, _, true) => SubmitOutcome::AcceptedSide,
                (_, _, true, false) => SubmitOutcome::AcceptedShare,
                (_, _, true, true) => SubmitOutcome::StaleWork,
                (_, _, false, _) => SubmitOutcome::HighHash,
            } as i32),
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
        let _ = self.events.send(Event::Submitted {
            request,
            authorization,
            is_share,
            is_block,
            answer: outcome,
        });
        answer.map(|outcome| {
            Response::new(SubmitSolutionResponse {
                outcome,
                block_hash: hash.map(|hash| hash.to_string()).unwrap_or_default(),
                detail: "the fake node says so".to_owned(),
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
        let _ = self.events.send(Event::SubmittedBlock(block));
        Ok(Response::new(SubmitBlockResponse {
            outcome: SubmitOutcome::AcceptedBlock.into(),
            block_hash: hash.to_string(),
            detail: "the fake node says so".to_owned(),
        }))
    }

    async fn report_telemetry(
        &self,
        request: Request<ReportTelemetryRequest>,
    ) -> Result<Response<ReportTelemetryResponse>, Status> {
        let _ = self.events.send(Event::Telemetry(request.into_inner()));
        Ok(Response::new(ReportTelemetryResponse {}))
    }

    async fn list_workers(
        &self,
        _: Request<ListWorkersRequest>,
    ) -> Result<Response<ListWorkersResponse>, Status> {
        Err(Status::unimplemented("not used by miners"))
    }
}

/// A port that nobody listens at, and nobody else can take meanwhile.
pub struct Port {
    _socket: TcpSocket,
    pub address: SocketAddr,
}

impl Port {
    pub fn take() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        // Only sockets that share it in this way can listen there.
        socket.set_reuseport(true).unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = socket.local_addr().unwrap();
        Self {
            _socket: socket,
            address,
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// The node. It has a runtime of its own, so that stopping it breaks every
/// connection as a dying process does.
pub struct FakeNode {
    runtime: Option<tokio::runtime::Runtime>,
    port: Arc<Port>,
    state: Arc<Mutex<State>>,
    events: mpsc::UnboundedReceiver<Event>,
}

impl FakeNode {
    pub fn start(work: WorkSpec) -> Self {
        Self::start_at(Arc::new(Port::take()), work)
    }

    fn start_at(port: Arc<Port>, work: WorkSpec) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let state = Arc::new(Mutex::new(State {
            work,
            ..State::default()
        }));
        let (sender, events) = mpsc::unbounded_channel();
        let service = Service {
            state: Arc::clone(&state),
            events: sender,
        };
        let listener = runtime.block_on(async {
            let socket = TcpSocket::new_v4().unwrap();
            socket.set_reuseport(true).unwrap();
            socket.bind(port.address).unwrap();
            socket.listen(128).unwrap()
        });
        runtime.spawn(
            tonic::transport::Server::builder()
                .add_service(MiningServiceServer::new(service))
                .serve_with_incoming(TcpListenerStream::new(listener)),
        );
        Self {
            runtime: Some(runtime),
            port,
            state,
            events,
        }
    }

    pub fn url(&self) -> String {
        self.port.url()
    }

    /// Dies and comes back at the same address. `remembers`: with the work it
    /// had handed out, as if only the network had failed.
    pub fn restart(&mut self, remembers: bool) {
        let old = std::mem::take(&mut *self.state.lock().unwrap());
        self.stop();
        *self = Self::start_at(Arc::clone(&self.port), old.work.clone());
        if remembers {
            let mut state = self.state.lock().unwrap();
            state.handed_out = old.handed_out;
            state.next_id = old.next_id;
            state.script = old.script;
        }
    }

    pub fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(10));
        }
    }

    pub fn push_work(&self, change: impl FnOnce(&mut WorkSpec)) {
        let mut state = self.state.lock().unwrap();
        change(&mut state.work);
        state.push();
    }

    pub fn say(&self, script: impl IntoIterator<Item = Say>) {
        self.state.lock().unwrap().script.extend(script);
    }

    pub fn script_left(&self) -> usize {
        self.state.lock().unwrap().script.len()
    }

    pub fn refuse(&self, status: Option<Status>) {
        self.state.lock().unwrap().refuse = status;
    }

    /// Ends the subscriptions that there are.
    pub fn end_subscriptions(&self) {
        self.state.lock().unwrap().subscribers.clear();
    }

    pub fn end_subscriptions_at_once(&self) {
        self.state.lock().unwrap().end_at_once = true;
    }

    pub fn require_token(&self, token: &str) {
        self.state.lock().unwrap().token = Some(token.to_owned());
    }

    pub fn advance_after_blocks(&self) {
        self.state.lock().unwrap().advance = true;
    }

    /// The next event that `wanted` maps to something.
    pub fn wait<T>(&mut self, what: &str, mut wanted: impl FnMut(Event) -> Option<T>) -> T {
        let events = &mut self.events;
        let found = async {
            loop {
                let event = events.recv().await?;
                if let Some(found) = wanted(event) {
                    return Some(found);
                }
            }
        };
        // A guard against hanging only; generous, since test machines are busy.
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap()
            .block_on(async { tokio::time::timeout(Duration::from_secs(60), found).await })
            .unwrap_or_else(|_| panic!("the miner never did this: {what}"))
            .expect("the fake node is running")
    }

    pub fn wait_subscribed(&mut self) -> SubscribeWorkRequest {
        self.wait("subscribe", |event| match event {
            Event::Subscribed { request, .. } => Some(request),
            _ => None,
        })
    }

    /// The next whole block.
    pub fn wait_block(&mut self) -> Block {
        self.wait("hand in a whole block", |event| match event {
            Event::SubmittedBlock(block) => Some(block),
            _ => None,
        })
    }

    /// The work id and answer of the next solution.
    pub fn wait_answer(&mut self, what: &str, wanted: SubmitOutcome) -> SubmitSolutionRequest {
        self.wait(what, |event| match event {
            Event::Submitted {
                request,
                answer: Some(answer),
                ..
            } if answer == wanted => Some(request),
            _ => None,
        })
    }
}

impl Drop for FakeNode {
    fn drop(&mut self) {
        self.stop();
    }
}
