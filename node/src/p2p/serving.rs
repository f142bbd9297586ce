//! Answers to peers' requests: taken within limits, answered from a snapshot on
//! the blocking pool, sent when ready. The core takes no part.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

use libp2p::PeerId;
use libp2p::request_response::{InboundRequestId, ResponseChannel};
use pithead_consensus::Encode as _;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tracing::{debug, error};

use super::codec::{WireRequest, WireResponse};
use super::limiter::RateLimiter;
use super::swarm::Shell;
use crate::engine::Engine;
use crate::store::StoreError;
use crate::sync::{Offence, RecentBlocks, Request, serve};

/// Requests a minute of one peer.
const REQUESTS_PER_MINUTE: u32 = 1_000;
/// Requests of one peer at once.
const REQUESTS_BURST: u32 = 200;
/// Answers that are being made or sent, in all; each takes up to 4 MiB.
const ANSWERS_MAX: usize = 32;
/// The same of one peer.
const ANSWERS_PER_PEER_MAX: usize = 8;
/// Answers that are being made at the same time.
const WORKERS_MAX: usize = 2;

/// An answer that is ready to be sent.
pub(super) struct Answer {
    id: InboundRequestId,
    peer: PeerId,
    channel: ResponseChannel<WireResponse>,
    raw: Option<Vec<u8>>,
}

/// Requests that are being answered.
pub(super) struct Serving {
    limiter: RateLimiter,
    workers: Arc<Semaphore>,
    pub(super) answers: JoinSet<Answer>,
    under_way: HashMap<InboundRequestId, PeerId>,
}

impl Serving {
    pub(super) fn new() -> Self {
        Self {
            limiter: RateLimiter::new(REQUESTS_PER_MINUTE, REQUESTS_BURST),
            workers: Arc::new(Semaphore::new(WORKERS_MAX)),
            answers: JoinSet::new(),
            under_way: HashMap::new(),
        }
    }

    /// A request has ended, one way or another.
    pub(super) fn ended(&mut self, id: &InboundRequestId) {
        self.under_way.remove(id);
    }

    /// Whether a request may be answered; a dropped channel declines it.
    fn admit(&mut self, id: InboundRequestId, peer: PeerId, now_ms: u64) -> bool {
        let of_peer = self.under_way.values().filter(|other| **other == peer);
        if of_peer.count() >= ANSWERS_PER_PEER_MAX
            || self.under_way.len() >= ANSWERS_MAX
            || !self.limiter.take(&peer, now_ms)
        {
            return false;
        }
        self.under_way.insert(id, peer);
        true
    }
}

impl Shell {
    /// A peer asks.
    pub(super) fn on_request(
        &mut self,
        peer: PeerId,
        id: InboundRequestId,
        wire: WireRequest,
        channel: ResponseChannel<WireResponse>,
    ) {
        self.admit(peer);
        let (request, bytes) = match wire {
            WireRequest::Sound { request, bytes } => (request, bytes),
            WireRequest::Malformed(reason) => {
                debug!(%peer, %reason, "a malformed request");
                return self.punish(&peer, Offence::Malformed, true);
            }
        };
        self.peers.count_bytes(&peer, 0, bytes);
        if let Request::Status(status) = &request {
            self.note_height(&peer, status.height.0);
        }
        if !self.serving.admit(id, peer, self.now_ms()) {
            debug!(%peer, "request declined: the peer asks too much");
            return;
        }
        let workers = Arc::clone(&self.serving.workers);
        let (engine, recent) = (self.engine.clone(), self.recent.clone());
        self.serving.answers.spawn(async move {
            // Never closed, so this only waits.
            let place = workers.acquire_owned().await;
            let made = tokio::task::spawn_blocking(move || {
                let _place = place;
                answer(&engine, &recent, &request)
            });
            let raw = match made.await {
                Ok(Ok(raw)) => Some(raw),
                Ok(Err(error)) => {
                    error!(%error, "a peer's request can't be answered");
                    None
                }
                Err(_) => None,
            };
            Answer {
                id,
                peer,
                channel,
                raw,
            }
        });
    }

    /// Sends an answer that is ready.
    pub(super) fn send_answer(&mut self, answer: Answer) {
        let Some(raw) = answer.raw else {
            self.serving.ended(&answer.id);
            return;
        };
        self.peers.count_bytes(&answer.peer, raw.len(), 0);
        let sync = &mut self.swarm.behaviour_mut().sync;
        let sent = sync.send_response(answer.channel, WireResponse::Encoded(raw));
        if sent.is_err() {
            // The peer is gone, or its patience is.
            self.serving.ended(&answer.id);
        }
    }
}

fn answer(
    engine: &Engine,
    recent: &RecentBlocks,
    request: &Request,
) -> Result<Vec<u8>, StoreError> {
    let snapshot = engine.store().snapshot()?;
    let response = {
        let mempool = engine.mempool().read();
        // A reader can't leave it half changed.
        let mempool = mempool.unwrap_or_else(PoisonError::into_inner);
        let finality = engine.finality_state().read();
        let finality = finality.unwrap_or_else(PoisonError::into_inner);
        serve(snapshot.as_ref(), &mempool, &finality, recent, request)?
    };
    Ok(response.encode())
}
