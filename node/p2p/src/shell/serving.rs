//! Answers to peers' requests: taken within limits, answered from a snapshot on
//! the blocking pool, sent when ready. The core takes no part. `budget` says whose
//! turn it is.

use std::collections::HashMap;
use std::io;
use std::num::NonZeroUsize;
use std::sync::{Arc, PoisonError};

use libp2p::PeerId;
use libp2p::request_response::{InboundFailure, InboundRequestId, ResponseChannel};
use lru::LruCache;
use pithead_consensus::Encode as _;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tracing::{debug, error, info};

use crate::policy::answer_budget::{Budget, Class, Ended};
use crate::policy::limiter::{RateLimiter, Source};
use crate::shell::Shell;
use crate::wire::codec::{WireRequest, WireResponse};
use pithead_core::store::StoreError;
use pithead_core::sync::{Offence, PeerEvent, RecentBlocks, Request, serve};
use pithead_engine::Engine;

/// Requests a minute of one source.
const REQUESTS_PER_MINUTE: u32 = 1_000;
/// Requests of one source at once.
const REQUESTS_BURST: u32 = 200;
/// Large answers a minute to one source, KiB: 10 MiB a second.
const ANSWERS_KIB_PER_MINUTE: u32 = 600 << 10;
/// The same at once.
const ANSWERS_KIB_BURST: u32 = 256 << 10;
/// Answers that are being made at the same time; the same again of small ones.
const WORKERS_MAX: usize = 2;
/// A source that does not take a large answer in time gets no other for so long;
/// twice as long each further time.
const PAUSE_MS: u64 = 15_000;
/// The longest pause is this many times doubled: 16 minutes.
const PAUSE_DOUBLINGS_MAX: u32 = 6;
/// An answer has at least so long to be taken before that counts.
const TAKING_MS_MIN: u64 = 4_000;
/// Answers in a row that a peer does not take before it is let go.
const UNTAKEN_MAX: u32 = 3;
/// Sources remembered for it.
const SLOW_MAX: NonZeroUsize = NonZeroUsize::new(4_096).expect("it is not zero");

/// An answer that is ready to be sent.
pub(super) struct Answer {
    id: InboundRequestId,
    raw: Option<Arc<[u8]>>,
}

/// A request that waits to be answered.
struct Asked {
    peer: PeerId,
    source: Source,
    class: Class,
    request: Request,
    channel: ResponseChannel<WireResponse>,
}

/// How slowly a source reads.
#[derive(Debug, Clone, Copy, Default)]
struct Slow {
    untaken: u32,
    paused_until_ms: u64,
}

/// Requests that are being answered.
pub(crate) struct Serving {
    requests: RateLimiter,
    kib: RateLimiter,
    budget: Budget<InboundRequestId>,
    slow: LruCache<Source, Slow>,
    waiting: HashMap<InboundRequestId, Asked>,
    /// Answers that are being made, and where each goes.
    channels: HashMap<InboundRequestId, (PeerId, Source, ResponseChannel<WireResponse>)>,
    /// Answers that are being sent, and since when.
    sent: HashMap<InboundRequestId, u64>,
    workers: Arc<Semaphore>,
    light_workers: Arc<Semaphore>,
    pub(super) answers: JoinSet<Answer>,
}

impl Serving {
    /// For answers of at most so many bytes.
    pub(super) fn new(answer_bytes_max: usize) -> Self {
        Self {
            requests: RateLimiter::new(REQUESTS_PER_MINUTE, REQUESTS_BURST),
            kib: RateLimiter::new(ANSWERS_KIB_PER_MINUTE, ANSWERS_KIB_BURST),
            budget: Budget::new(answer_bytes_max),
            slow: LruCache::new(SLOW_MAX),
            waiting: HashMap::new(),
            channels: HashMap::new(),
            sent: HashMap::new(),
            workers: Arc::new(Semaphore::new(WORKERS_MAX)),
            light_workers: Arc::new(Semaphore::new(WORKERS_MAX)),
            answers: JoinSet::new(),
        }
    }

    fn start_next(&mut self, now_ms: u64) -> Option<InboundRequestId> {
        let kib = &mut self.kib;
        self.budget.start_next(|source| {
            // This machine shares no line with anyone.
            matches!(source, Source::Peer(_)) || kib.is_open(source, now_ms)
        })
    }

    /// Whether a source has to do without large answers for now.
    fn is_paused(&self, source: &Source, now_ms: u64) -> bool {
        let slow = self.slow.peek(source);
        slow.is_some_and(|slow| slow.paused_until_ms > now_ms)
    }

    /// Declines what a source waits for that is large: waiting in vain it would take
    /// for silence.
    fn decline_large(&mut self, source: &Source) {
        let large = |(id, asked): (&InboundRequestId, &Asked)| {
            (asked.class == Class::Large && asked.source == *source).then_some(*id)
        };
        let ids: Vec<InboundRequestId> = self.waiting.iter().filter_map(large).collect();
        for id in ids {
            self.forget(&id);
        }
    }

    fn forget(&mut self, id: &InboundRequestId) -> Option<Ended> {
        self.waiting.remove(id);
        self.channels.remove(id);
        self.sent.remove(id);
        self.budget.ended(id)
    }

    /// An answer was sent whole. Small ones fit into buffers, whoever reads them.
    fn taken(&mut self, id: &InboundRequestId) {
        if let Some(ended) = self.forget(id)
            && ended.class == Class::Large
        {
            self.slow.pop(&ended.source);
        }
    }

    /// An answer was not taken in time; returns whose it was and how many that
    /// makes in a row. What had been sent for less than a moment when patience ended
    /// is this node's own slowness.
    fn untaken(&mut self, id: &InboundRequestId, now_ms: u64) -> Option<(PeerId, u32)> {
        let sent_ms = self.sent.get(id).copied();
        let Ended { peer, source, .. } = self.forget(id)?;
        if now_ms.saturating_sub(sent_ms?) < TAKING_MS_MIN {
            return None;
        }
        let slow = self.slow.get_or_insert_mut(source, Slow::default);
        let doublings = slow.untaken.min(PAUSE_DOUBLINGS_MAX);
        slow.untaken += 1;
        slow.paused_until_ms = now_ms.saturating_add(PAUSE_MS << doublings);
        let untaken = slow.untaken;
        self.decline_large(&source);
        Some((peer, untaken))
    }
}

/// What answering costs.
fn class_of(request: &Request, recent: &RecentBlocks) -> Class {
    match request {
        Request::Status(_) | Request::Headers { .. } => Class::Light,
        Request::Blocks(hashes) if recent.holds(hashes) => Class::Fresh,
        _ => Class::Large,
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
                return self.blame(&peer, Offence::Malformed);
            }
        };
        self.peers.count_bytes(&peer, 0, bytes);
        let (source, now_ms) = (self.peers.source(&peer), self.now_ms());
        let class = class_of(&request, &self.recent);
        if !self.serving.requests.take(&source, now_ms)
            || (class == Class::Large && self.serving.is_paused(&source, now_ms))
            || !self.serving.budget.admit(id, peer, source, class)
        {
            // The dropped channel declines it.
            debug!(%peer, "request declined: the peer asks too much");
            return;
        }
        if let Request::Status(status) = &request {
            self.note_status(&peer, *status);
        }
        let asked = Asked {
            peer,
            source,
            class,
            request,
            channel,
        };
        self.serving.waiting.insert(id, asked);
        self.serve_waiting();
    }

    /// Begins all answers whose turn it is.
    pub(super) fn serve_waiting(&mut self) {
        let now_ms = self.now_ms();
        while let Some(id) = self.serving.start_next(now_ms) {
            match self.serving.waiting.remove(&id) {
                Some(asked) => self.make_answer(id, asked),
                None => {
                    self.serving.forget(&id);
                }
            }
        }
    }

    fn make_answer(&mut self, id: InboundRequestId, asked: Asked) {
        let Asked {
            peer,
            source,
            class,
            request,
            channel,
        } = asked;
        self.serving.channels.insert(id, (peer, source, channel));
        if let Some(raw) = self.recent.answer(&request) {
            let raw = Some(raw);
            return self.send_answer(Answer { id, raw });
        }
        let workers = match class {
            Class::Large => Arc::clone(&self.serving.workers),
            Class::Light | Class::Fresh => Arc::clone(&self.serving.light_workers),
        };
        let (engine, recent) = (self.engine.clone(), self.recent.clone());
        self.serving.answers.spawn(async move {
            // Never closed, so this only waits.
            let place = workers.acquire_owned().await;
            let made = tokio::task::spawn_blocking(move || {
                let _place = place;
                answer(&engine, &recent, &request)
            });
            let raw = match made.await {
                Ok(Ok(raw)) => Some(Arc::from(raw)),
                Ok(Err(error)) => {
                    error!(%error, "a peer's request can't be answered");
                    None
                }
                Err(_) => None,
            };
            Answer { id, raw }
        });
    }

    /// Sends an answer that is ready.
    pub(super) fn send_answer(&mut self, answer: Answer) {
        let Answer { id, raw } = answer;
        // Gone if the peer's patience ended first.
        let Some((peer, source, channel)) = self.serving.channels.remove(&id) else {
            return;
        };
        let Some(raw) = raw else {
            self.serving.forget(&id);
            return self.serve_waiting();
        };
        self.peers.count_bytes(&peer, raw.len(), 0);
        self.serving.budget.made(&id, raw.len());
        let kib = u32::try_from(raw.len() >> 10).unwrap_or(u32::MAX);
        let now_ms = self.now_ms();
        self.serving.kib.charge(&source, kib, now_ms);
        self.serving.sent.insert(id, now_ms);
        let sync = &mut self.swarm.behaviour_mut().sync;
        if sync
            .send_response(channel, WireResponse::Encoded(raw))
            .is_err()
        {
            // The peer is gone.
            self.serving.forget(&id);
        }
    }

    /// An answer was sent whole.
    pub(super) fn answer_sent(&mut self, id: &InboundRequestId) {
        self.serving.taken(id);
        self.serve_waiting();
    }

    /// A request of a peer has ended without an answer, or in the middle of it.
    pub(super) fn answer_failed(&mut self, id: &InboundRequestId, error: &InboundFailure) {
        let slow = match error {
            InboundFailure::Timeout => true,
            InboundFailure::Io(error) => error.kind() == io::ErrorKind::TimedOut,
            _ => false,
        };
        if slow {
            let now_ms = self.now_ms();
            if let Some((peer, untaken)) = self.serving.untaken(id, now_ms) {
                debug!(%peer, untaken, "an answer was not taken in time");
                if untaken >= UNTAKEN_MAX {
                    info!(%peer, "disconnecting a peer that does not read its answers");
                    self.disconnect(&peer);
                }
            }
        } else {
            self.serving.forget(id);
        }
        self.serve_waiting();
    }

    /// Tells the core of something that only the shell could see.
    pub(super) fn blame(&mut self, peer: &PeerId, offence: Offence) {
        if let Some(peer) = self.peers.key(peer) {
            self.tell_core(PeerEvent::Offended { peer, offence });
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
