//! The loop: one task that owns the swarm and everything known of peers, and
//! passes events between the swarm, the core and those who ask.
//!
//! Nothing in it waits for the core: what the core has no room for yet stays in a
//! queue, and while that is long, the swarm is not polled, so that peers wait.

mod commands;
mod connections;
mod discovery;
mod effects;
mod gossip;
mod serving;
mod tick;

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use libp2p::futures::StreamExt as _;
use libp2p::request_response::{self, Message, OutboundFailure, OutboundRequestId};
use libp2p::swarm::SwarmEvent;
use libp2p::{PeerId, Swarm};
use pithead_consensus::{BlockHash, Height};
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;
use tracing::{debug, info};

use crate::handle::{Command, LocalNode};
use crate::policy::dial_scope::Reach;
use crate::policy::dialer::Dialer;
use crate::policy::limiter::RateLimiter;
use crate::policy::peers::Peers;
use crate::shell::commands::Adding;
use crate::shell::discovery::Relaying;
use crate::shell::effects::Offenders;
use crate::shell::gossip::Incoming;
use crate::shell::serving::Serving;
use crate::wire::behaviour::{Behaviour, BehaviourEvent};
use crate::wire::codec::{WireRequest, WireResponse, is_breach, is_cut_off};
use crate::wire::protocol_names::Names;
use pithead_core::store::schema;
use pithead_core::sync::{
    PeerEvent, PeerKey, RecentBlocks, RequestFailure, RequestId, Response, Status,
};
use pithead_engine::{Clock, Engine};

/// How often to look whom to dial and whom to let go.
const TICK: Duration = Duration::from_millis(500);
/// Events for the core beyond which peers have to wait.
const OUTBOX_MAX: usize = 1_024;
/// Events for the core beyond which transactions are let go by.
const OUTBOX_TRANSACTIONS_MAX: usize = 256;
/// The same for approvals, which nobody can make up at will: only validators sign.
const OUTBOX_APPROVALS_MAX: usize = 768;
/// How often a minute a peer may say who it is and where; it has reason to when its
/// addresses change.
const IDENTIFICATIONS_PER_MINUTE: u32 = 12;
/// The same at once: on each connection, and for each address that it finds out.
const IDENTIFICATIONS_BURST: u32 = 40;

type SyncEvent = request_response::Event<WireRequest, WireResponse>;

/// What the loop works with.
pub(super) struct Parts {
    pub(super) swarm: Swarm<Behaviour>,
    /// What happened before the loop began.
    pub(super) early: Vec<SwarmEvent<BehaviourEvent>>,
    pub(super) reach: Reach,
    pub(super) names: Names,
    pub(super) dialer: Dialer,
    pub(super) engine: Engine,
    pub(super) clock: Clock,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) effects: mpsc::Receiver<pithead_core::sync::PeerEffect>,
    pub(super) local: watch::Sender<LocalNode>,
    /// Most bytes of an answer.
    pub(super) answer_bytes_max: usize,
}

/// The network shell.
pub(super) struct Shell {
    pub(super) swarm: Swarm<Behaviour>,
    pub(super) reach: Reach,
    pub(super) names: Names,
    pub(super) peers: Peers,
    pub(super) dialer: Dialer,
    pub(super) incoming: Incoming,
    pub(super) serving: Serving,
    pub(super) offenders: Offenders,
    pub(super) recent: RecentBlocks,
    pub(super) engine: Engine,
    pub(super) adding: Vec<Adding>,
    pub(super) local: watch::Sender<LocalNode>,
    /// Requests to peers, until answered.
    pub(super) requests: HashMap<OutboundRequestId, (PeerKey, RequestId)>,
    pub(super) next_lookup_ms: u64,
    /// How often each peer may say who it is.
    pub(super) identifications: RateLimiter,
    pub(super) relaying: Relaying,
    early: Vec<SwarmEvent<BehaviourEvent>>,
    outbox: VecDeque<PeerEvent>,
    clock: Clock,
    started: Instant,
    pub(super) saved_ms: u64,
    commands: mpsc::Receiver<Command>,
    effects: mpsc::Receiver<pithead_core::sync::PeerEffect>,
}

impl Shell {
    pub(super) fn new(parts: Parts) -> Self {
        Self {
            swarm: parts.swarm,
            relaying: Relaying::default(),
            early: parts.early,
            reach: parts.reach,
            names: parts.names,
            peers: Peers::default(),
            dialer: parts.dialer,
            incoming: Incoming::new(),
            serving: Serving::new(parts.answer_bytes_max),
            offenders: Offenders::new(),
            recent: RecentBlocks::default(),
            engine: parts.engine,
            adding: Vec::new(),
            local: parts.local,
            requests: HashMap::new(),
            next_lookup_ms: 0,
            identifications: RateLimiter::new(IDENTIFICATIONS_PER_MINUTE, IDENTIFICATIONS_BURST),
            outbox: VecDeque::new(),
            clock: parts.clock,
            started: Instant::now(),
            saved_ms: 0,
            commands: parts.commands,
            effects: parts.effects,
        }
    }

    /// Runs until told to stop, or until the core or all handles are gone.
    pub(super) async fn run(mut self) {
        let (to_core, forwarding) = forward_to_core(&self.engine);
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for event in std::mem::take(&mut self.early) {
            self.on_event(event);
        }
        loop {
            tokio::select! {
                command = self.commands.recv() => match command {
                    None | Some(Command::Stop) => break,
                    Some(command) => self.on_command(command),
                },
                effect = self.effects.recv() => match effect {
                    None => break,
                    Some(effect) => self.carry_out(effect),
                },
                place = to_core.reserve(), if !self.outbox.is_empty() => {
                    let Ok(place) = place else { break };
                    if let Some(event) = self.outbox.pop_front() {
                        place.send(event);
                    }
                }
                Some(answer) = self.serving.answers.join_next(), if !self.serving.answers.is_empty() => {
                    if let Ok(answer) = answer {
                        self.send_answer(answer);
                    }
                }
                event = self.swarm.select_next_some(), if self.outbox.len() < OUTBOX_MAX => {
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
                    self.on_gone(peer_id, &peer);
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
                // Only ever sent.
                Message::Response { .. } => {}
            },
            SyncEvent::OutboundFailure {
                request_id, error, ..
            } => self.on_response(request_id, Err(failure(&error))),
            SyncEvent::InboundFailure {
                request_id, error, ..
            } => self.answer_failed(&request_id, &error),
            SyncEvent::ResponseSent { request_id, .. } => self.answer_sent(&request_id),
        }
    }

    fn on_response(&mut self, id: OutboundRequestId, response: Result<Response, RequestFailure>) {
        if let Some((peer, id)) = self.requests.remove(&id) {
            self.tell_core(PeerEvent::Response { peer, id, response });
        }
    }

    /// Dials; a dial that can't even begin has failed.
    pub(super) fn dial(&mut self, dial: libp2p::swarm::dial_opts::DialOpts) {
        let connection = dial.connection_id();
        self.swarm.behaviour_mut().gate.announce(connection);
        if let Err(error) = self.swarm.dial(dial) {
            self.on_dial_failure(connection, &error);
        }
    }

    /// Closes all connections to a peer.
    pub(super) fn disconnect(&mut self, id: &PeerId) {
        // One that is gone already needs no closing.
        let _ = self.swarm.disconnect_peer_id(*id);
    }

    pub(super) fn tell_core(&mut self, event: PeerEvent) {
        self.outbox.push_back(event);
    }

    /// Whether the core is so far behind that what can wait should not be put
    /// before it.
    pub(super) fn is_behind(&self) -> bool {
        self.outbox.len() >= OUTBOX_TRANSACTIONS_MAX
    }

    /// The same of what should wait only in an emergency.
    pub(super) fn is_far_behind(&self) -> bool {
        self.outbox.len() >= OUTBOX_APPROVALS_MAX
    }

    /// A peer has told its status unasked: the core hears of it if it is news.
    pub(super) fn note_status(&mut self, id: &PeerId, status: Status) {
        self.note_height(id, status.height.0);
        let Some(peer) = self.peers.get_mut(id) else {
            return;
        };
        let news = peer.told.replace(status) != Some(status);
        if let (true, Some(peer)) = (news, peer.key) {
            self.tell_core(PeerEvent::Status { peer, status });
        }
    }

    pub(super) fn note_height(&mut self, id: &PeerId, height: u64) {
        if let Some(peer) = self.peers.get_mut(id) {
            peer.height = height;
        }
    }

    /// A peer has announced a block that is stored, or about to be.
    pub(super) fn note_block(&mut self, id: &PeerId, block: &BlockHash, parent: &BlockHash) {
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

    pub(super) fn refresh_local(&mut self) {
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
    pub(super) fn now(&self) -> u64 {
        (self.clock)()
    }

    /// Milliseconds since the network started.
    pub(super) fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Passes events on to the core, which may take its time.
fn forward_to_core(engine: &Engine) -> (mpsc::Sender<PeerEvent>, tokio::task::JoinHandle<()>) {
    let (sender, mut receiver) = mpsc::channel(1);
    let core = engine.peer_events();
    let task = tokio::spawn(async move {
        while let Some(event) = receiver.recv().await {
            if core.send(event).await.is_err() {
                return;
            }
        }
    });
    (sender, task)
}

/// What a failed request means to the core.
fn failure(error: &OutboundFailure) -> RequestFailure {
    match error {
        OutboundFailure::Timeout => RequestFailure::Timeout,
        OutboundFailure::Io(error) if is_breach(error) => RequestFailure::Undecodable,
        OutboundFailure::Io(error) if is_cut_off(error) => RequestFailure::Disconnected,
        OutboundFailure::DialFailure | OutboundFailure::ConnectionClosed => {
            RequestFailure::Disconnected
        }
        OutboundFailure::UnsupportedProtocols | OutboundFailure::Io(_) => RequestFailure::Refused,
    }
}
