//! The driver of the network: one task that owns the swarm and all knowledge of peers, and passes
//! events between the swarm, the core and the operator. It asks `policy` for decisions.
//!
//! The loop never waits for the core. Events for which the core has no room yet stay in a queue;
//! while that is full, the swarm is not polled, so that peers wait.
//!
//! Start reading at [`Shell::run`]. The other files hold `impl Shell` for the events of one kind
//! each; nothing but the methods of `Shell` connects them.

mod answer_workers;
mod commands;
mod connections;
mod discovery;
mod effects;
mod gossip;
mod serving;
mod tick;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use libp2p::futures::StreamExt as _;
use libp2p::request_response::{
    self, Message, OutboundFailure, OutboundRequestId, ResponseChannel,
};
use libp2p::swarm::SwarmEvent;
use libp2p::{PeerId, Swarm};
use pithead_consensus::{BlockHash, Height};
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;
use tracing::{debug, info};

use crate::handle::{AddPeerError, LocalNode, NetworkCommand, Reply};
use crate::policy::adding::PendingAdditions;
use crate::policy::answers::ServingState;
use crate::policy::core_outbox::CoreOutbox;
use crate::policy::dial_scope::DialScope;
use crate::policy::dialer::Dialer;
use crate::policy::gossip_queue::IncomingGossip;
use crate::policy::limiter::RateLimiter;
use crate::policy::offenders::Offenders;
use crate::policy::peers::Peers;
use crate::policy::relays::RelayReservations;
use crate::shell::answer_workers::AnswerWorkers;
use crate::wire::behaviour::{Behaviour, BehaviourEvent};
use crate::wire::codec::{WireRequest, WireResponse, is_cut_off, is_violation};
use crate::wire::protocol_names::ProtocolNames;
use pithead_core::store::schema;
use pithead_core::sync::{
    PeerEvent, PeerKey, RecentBlocks, RequestFailure, RequestId, Response, Status,
};
use pithead_engine::{Clock, Engine, NetworkSide, PeerEvents};

/// How often the shell ticks.
const TICK: Duration = Duration::from_millis(500);
/// How often a peer may identify itself, a minute. It does so when its addresses change.
const IDENTIFICATIONS_PER_MINUTE: u32 = 12;
/// How often a peer may identify itself at once. It does so on each connection, and for each
/// address that it learns of itself.
const IDENTIFICATIONS_BURST: u32 = 40;

type SyncEvent = request_response::Event<WireRequest, WireResponse>;

/// The parts that a shell is built from.
pub(super) struct ShellParts {
    pub(super) swarm: Swarm<Behaviour>,
    /// Events of the swarm from before the loop began.
    pub(super) early: Vec<SwarmEvent<BehaviourEvent>>,
    pub(super) dial_scope: DialScope,
    pub(super) names: ProtocolNames,
    pub(super) dialer: Dialer,
    pub(super) engine: Engine,
    pub(super) core: NetworkSide,
    pub(super) clock: Clock,
    pub(super) commands: mpsc::Receiver<NetworkCommand>,
    pub(super) local: watch::Sender<LocalNode>,
    /// The most bytes of an answer.
    pub(super) answer_bytes_max: usize,
}

/// The driver. Its fields are for the files of this folder only.
pub(super) struct Shell {
    // The swarm and what is known of peers.
    swarm: Swarm<Behaviour>,
    dial_scope: DialScope,
    names: ProtocolNames,
    peers: Peers,
    dialer: Dialer,
    offenders: Offenders,
    relays: RelayReservations,
    /// How often each peer may identify itself.
    identifications: RateLimiter,
    /// When to look up more peers, monotonic milliseconds.
    next_lookup_ms: u64,
    /// When the files were last written, monotonic milliseconds.
    saved_ms: u64,
    early: Vec<SwarmEvent<BehaviourEvent>>,

    // Messages under way.
    incoming: IncomingGossip,
    serving: ServingState<ResponseChannel<WireResponse>>,
    workers: AnswerWorkers,
    /// Requests to peers that have not been answered yet.
    requests: HashMap<OutboundRequestId, (PeerKey, RequestId)>,

    // The core and the operator.
    engine: Engine,
    core: NetworkSide,
    recent: RecentBlocks,
    outbox: CoreOutbox,
    commands: mpsc::Receiver<NetworkCommand>,
    additions: PendingAdditions<Reply<Result<PeerId, AddPeerError>>>,
    local: watch::Sender<LocalNode>,
    clock: Clock,
    started: Instant,
}

impl Shell {
    pub(super) fn new(parts: ShellParts) -> Self {
        Self {
            swarm: parts.swarm,
            dial_scope: parts.dial_scope,
            names: parts.names,
            peers: Peers::default(),
            dialer: parts.dialer,
            offenders: Offenders::new(),
            relays: RelayReservations::default(),
            identifications: RateLimiter::new(IDENTIFICATIONS_PER_MINUTE, IDENTIFICATIONS_BURST),
            next_lookup_ms: 0,
            saved_ms: 0,
            early: parts.early,
            incoming: IncomingGossip::new(),
            serving: ServingState::new(parts.answer_bytes_max),
            workers: AnswerWorkers::new(parts.engine.clone()),
            requests: HashMap::new(),
            engine: parts.engine,
            core: parts.core,
            recent: RecentBlocks::default(),
            outbox: CoreOutbox::default(),
            commands: parts.commands,
            additions: PendingAdditions::new(),
            local: parts.local,
            clock: parts.clock,
            started: Instant::now(),
        }
    }

    /// Runs until the operator stops it, or until the core or all handles are gone.
    pub(super) async fn run(mut self) {
        let (to_core, forwarding) = forward_to_core(self.core.events.clone());
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for event in std::mem::take(&mut self.early) {
            self.on_event(event);
        }
        loop {
            tokio::select! {
                command = self.commands.recv() => match command {
                    None | Some(NetworkCommand::Stop) => break,
                    Some(command) => self.on_command(command),
                },
                effect = self.core.effects.recv() => match effect {
                    None => break,
                    Some(effect) => self.carry_out(effect),
                },
                place = to_core.reserve(), if !self.outbox.is_empty() => {
                    let Ok(place) = place else { break };
                    if let Some(event) = self.outbox.pop() {
                        place.send(event);
                    }
                }
                answer = self.workers.next(), if !self.workers.is_empty() => {
                    if let Some(answer) = answer {
                        self.send_answer(answer);
                    }
                }
                event = self.swarm.select_next_some(), if !self.outbox.is_full() => {
                    self.on_event(event);
                }
                _ = ticks.tick() => {
                    self.tick();
                    self.serve_waiting();
                }
            }
        }
        forwarding.abort();
        self.save().await;
        info!("the network has stopped");
    }

    fn on_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.on_behaviour(event),
            SwarmEvent::ConnectionEstablished {
                peer_id,
                connection_id,
                endpoint,
                ..
            } => self.on_connected(peer_id, connection_id, &endpoint),
            SwarmEvent::ConnectionClosed {
                peer_id,
                connection_id,
                cause,
                ..
            } => {
                if let Some(peer) = self.peers.disconnected(&peer_id, connection_id) {
                    debug!(peer = %peer_id, ?cause, "disconnected");
                    self.on_peer_left(peer_id, &peer);
                }
            }
            SwarmEvent::OutgoingConnectionError {
                connection_id,
                error,
                ..
            } => self.on_dial_failure(connection_id, &error),
            SwarmEvent::ListenerClosed { listener_id, .. } => {
                self.on_listener_closed(listener_id);
                self.refresh_local();
            }
            SwarmEvent::NewListenAddr { .. }
            | SwarmEvent::ExpiredListenAddr { .. }
            | SwarmEvent::ExternalAddrConfirmed { .. }
            | SwarmEvent::ExternalAddrExpired { .. } => self.refresh_local(),
            SwarmEvent::IncomingConnectionError { error, .. } => {
                debug!(%error, "an incoming connection failed");
            }
            _ => {}
        }
    }

    fn on_behaviour(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Gossip(libp2p::gossipsub::Event::Message {
                propagation_source,
                message_id,
                message,
            }) => self.on_gossip(propagation_source, message_id, &message),
            BehaviourEvent::Sync(event) => self.on_sync(event),
            BehaviourEvent::Ping(event) => self.on_ping(event),
            other => self.on_discovery(other),
        }
    }

    fn on_sync(&mut self, event: SyncEvent) {
        match event {
            SyncEvent::Message { peer, message, .. } => match message {
                Message::Request {
                    request_id,
                    request,
                    channel,
                } => self.on_request(peer, request_id, request, channel),
                Message::Response {
                    request_id,
                    response: WireResponse::Decoded { response, bytes },
                } => {
                    self.peers.count_bytes(&peer, 0, bytes);
                    if let Response::Status(status) = &response {
                        self.note_height(&peer, status.height.0);
                    }
                    self.on_response(request_id, Ok(response));
                }
                // This form is only sent.
                Message::Response { .. } => {}
            },
            SyncEvent::OutboundFailure {
                request_id, error, ..
            } => self.on_response(request_id, Err(failure(&error))),
            SyncEvent::InboundFailure {
                request_id, error, ..
            } => self.on_answer_failed(&request_id, &error),
            SyncEvent::ResponseSent { request_id, .. } => self.on_answer_sent(&request_id),
        }
    }

    fn on_response(&mut self, id: OutboundRequestId, response: Result<Response, RequestFailure>) {
        if let Some((peer, id)) = self.requests.remove(&id) {
            self.outbox.push(PeerEvent::Response { peer, id, response });
        }
    }

    /// Begins a dial.
    fn dial(&mut self, dial: libp2p::swarm::dial_opts::DialOpts) {
        let connection = dial.connection_id();
        self.swarm.behaviour_mut().gate.expect_dial(connection);
        if let Err(error) = self.swarm.dial(dial) {
            self.on_dial_failure(connection, &error);
        }
    }

    /// Closes all connections to a peer.
    fn disconnect(&mut self, id: &PeerId) {
        // It fails only if the peer is gone already.
        let _ = self.swarm.disconnect_peer_id(*id);
    }

    /// A peer has sent its status without being asked. The core is told if it has changed.
    fn note_status(&mut self, id: &PeerId, status: Status) {
        self.note_height(id, status.height.0);
        let Some(peer) = self.peers.get_mut(id) else {
            return;
        };
        let changed = peer.last_status.replace(status) != Some(status);
        if let (true, Some(peer)) = (changed, peer.key) {
            self.outbox.push(PeerEvent::Status { peer, status });
        }
    }

    fn note_height(&mut self, id: &PeerId, height: u64) {
        if let Some(peer) = self.peers.get_mut(id) {
            peer.height = height;
        }
    }

    /// A peer has announced a valid block. The block may still be about to be stored.
    fn note_block(&mut self, id: &PeerId, block: &BlockHash, parent: &BlockHash) {
        let Ok(snapshot) = self.engine.store().snapshot() else {
            return;
        };
        let height = |hash| match schema::entry(snapshot.as_ref(), hash) {
            Ok(Some(entry)) => Some(entry.height),
            _ => None,
        };
        let height = height(block).or_else(|| height(parent).map(Height::next));
        let now_ms = self.now_ms();
        if let (Some(height), Some(peer)) = (height, self.peers.get_mut(id)) {
            peer.height = peer.height.max(height.0);
            peer.block_at_ms = Some(now_ms);
        }
        self.swarm.behaviour_mut().gate.note_block(id);
    }

    /// Updates what the handle shows of this node.
    fn refresh_local(&mut self) {
        let present = LocalNode {
            listen_addresses: self.swarm.listeners().cloned().collect(),
            external_addresses: self.swarm.external_addresses().cloned().collect(),
            peer_count: self.peers.admitted(),
        };
        self.local.send_if_modified(|local| {
            let changed = *local != present;
            *local = present;
            changed
        });
    }

    /// Unix seconds.
    fn now(&self) -> u64 {
        (self.clock)()
    }

    /// Milliseconds since the network started.
    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Starts a task that hands events to the core, and waits while the core is busy.
fn forward_to_core(core: PeerEvents) -> (mpsc::Sender<PeerEvent>, tokio::task::JoinHandle<()>) {
    let (sender, mut receiver) = mpsc::channel(1);
    let task = tokio::spawn(async move {
        while let Some(event) = receiver.recv().await {
            if core.send(event).await.is_err() {
                return;
            }
        }
    });
    (sender, task)
}

/// The core's name for the failure of a request.
fn failure(error: &OutboundFailure) -> RequestFailure {
    match error {
        OutboundFailure::Timeout => RequestFailure::Timeout,
        OutboundFailure::Io(error) if is_violation(error) => RequestFailure::Undecodable,
        OutboundFailure::Io(error) if is_cut_off(error) => RequestFailure::Disconnected,
        OutboundFailure::DialFailure | OutboundFailure::ConnectionClosed => {
            RequestFailure::Disconnected
        }
        OutboundFailure::UnsupportedProtocols | OutboundFailure::Io(_) => RequestFailure::Refused,
    }
}
