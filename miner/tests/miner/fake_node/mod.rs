//! A node as a miner sees it. It gives work, judges solutions, and can be stopped and
//! started again at the same address.
//!
//! `work_spec` is the work that it gives, `service` answers the calls.

mod service;
mod work_spec;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use pithead_api::v1::mining_service_server::MiningServiceServer;
use pithead_api::v1::{SubmitOutcome, SubmitSolutionRequest, SubscribeWorkRequest};
use pithead_consensus::Block;
use tokio::net::TcpSocket;
use tokio::sync::mpsc;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::Status;

use service::{FakeService, FakeState};
pub(crate) use service::{MinerCall, NonceSubmission, ScriptedAnswer};
pub(crate) use work_spec::{WorkSpec, reward_address, reward_text, target_of};

use crate::PATIENCE;

/// A reserved port on loopback. Nothing listens there, and no other program can take it.
pub(crate) struct ReservedPort {
    _socket: TcpSocket,
    address: SocketAddr,
}

impl ReservedPort {
    pub(crate) fn take() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        // Only sockets with the same option can listen at this port.
        socket.set_reuseport(true).unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = socket.local_addr().unwrap();
        Self {
            _socket: socket,
            address,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// A fake node. It has its own runtime, so stopping it breaks every connection, as the
/// death of a process does.
pub(crate) struct FakeMiningNode {
    runtime: Option<tokio::runtime::Runtime>,
    port: Arc<ReservedPort>,
    state: Arc<Mutex<FakeState>>,
    calls: mpsc::UnboundedReceiver<MinerCall>,
}

impl FakeMiningNode {
    pub(crate) fn start(work: WorkSpec) -> Self {
        Self::start_at(Arc::new(ReservedPort::take()), work)
    }

    fn start_at(port: Arc<ReservedPort>, work: WorkSpec) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let state = Arc::new(Mutex::new(FakeState {
            work,
            ..FakeState::default()
        }));
        let (sender, calls) = mpsc::unbounded_channel();
        let service = FakeService {
            state: Arc::clone(&state),
            calls: sender,
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
            calls,
        }
    }

    fn state(&self) -> MutexGuard<'_, FakeState> {
        self.state.lock().unwrap()
    }

    pub(crate) fn url(&self) -> String {
        self.port.url()
    }

    /// Dies and starts again at the same address. With `remembers`, it still knows the
    /// work that it gave before, as if only the network had failed.
    pub(crate) fn restart(&mut self, remembers: bool) {
        let old = std::mem::take(&mut *self.state());
        self.stop();
        *self = Self::start_at(Arc::clone(&self.port), old.work.clone());
        if remembers {
            let mut state = self.state();
            state.handed_out = old.handed_out;
            state.next_id = old.next_id;
            state.script = old.script;
        }
    }

    pub(crate) fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(10));
        }
    }

    /// Changes the work and gives it to all subscribers.
    pub(crate) fn push_work(&self, change: impl FnOnce(&mut WorkSpec)) {
        let mut state = self.state();
        change(&mut state.work);
        state.push();
    }

    /// Sets the answers to the next solutions.
    pub(crate) fn script(&self, script: impl IntoIterator<Item = ScriptedAnswer>) {
        self.state().script.extend(script);
    }

    /// Answers the next solution with UNAVAILABLE, as a node that shuts down does.
    pub(crate) fn script_going_away(&self) {
        self.script([ScriptedAnswer::Status(Status::unavailable("going away"))]);
    }

    /// Refuses subscriptions from now on, or takes them again.
    pub(crate) fn refuse(&self, status: Option<Status>) {
        self.state().refuse = status;
    }

    /// Ends the subscriptions that there are.
    pub(crate) fn end_subscriptions(&self) {
        self.state().subscribers.clear();
    }

    pub(crate) fn end_subscriptions_at_once(&self) {
        self.state().end_at_once = true;
    }

    pub(crate) fn require_token(&self, token: &str) {
        self.state().token = Some(token.to_owned());
    }

    pub(crate) fn advance_after_blocks(&self) {
        self.state().advance = true;
    }

    /// Waits for the next call that `wanted` maps to something.
    pub(crate) fn wait<T>(
        &mut self,
        what: &str,
        mut wanted: impl FnMut(MinerCall) -> Option<T>,
    ) -> T {
        let calls = &mut self.calls;
        let found = async {
            loop {
                let call = calls.recv().await?;
                if let Some(found) = wanted(call) {
                    return Some(found);
                }
            }
        };
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap()
            .block_on(async { tokio::time::timeout(PATIENCE, found).await })
            .unwrap_or_else(|_| panic!("the miner never did this: {what}"))
            .expect("the fake node is running")
    }

    pub(crate) fn wait_subscribed(&mut self) -> SubscribeWorkRequest {
        self.wait("subscribe", |call| match call {
            MinerCall::Subscribed(request) => Some(request),
            _ => None,
        })
    }

    /// Waits for the next whole block.
    pub(crate) fn wait_block(&mut self) -> Block {
        self.wait("hand in a whole block", |call| match call {
            MinerCall::SubmittedBlock(block) => Some(block),
            _ => None,
        })
    }

    /// Waits for the next solution that `wanted` maps to something.
    pub(crate) fn wait_submitted<T>(
        &mut self,
        what: &str,
        mut wanted: impl FnMut(NonceSubmission) -> Option<T>,
    ) -> T {
        self.wait(what, |call| match call {
            MinerCall::Submitted(solution) => wanted(solution),
            _ => None,
        })
    }

    /// Waits for the next solution with this answer.
    pub(crate) fn wait_answer(
        &mut self,
        what: &str,
        answer: SubmitOutcome,
    ) -> SubmitSolutionRequest {
        self.wait_submitted(what, |solution| {
            (solution.answer == Some(answer)).then_some(solution.request)
        })
    }

    pub(crate) fn wait_accepted_share(&mut self) -> SubmitSolutionRequest {
        self.wait_answer("a share", SubmitOutcome::AcceptedShare)
    }
}

impl Drop for FakeMiningNode {
    fn drop(&mut self) {
        self.stop();
    }
}
