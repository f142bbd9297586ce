//! Requests of peers on their way to an answer: rate limits, the queue, the answers that are being
//! sent, and the sources that don't read them. Knows no sockets: `C` is whatever an answer is sent
//! through.

use std::collections::HashMap;
use std::num::NonZeroUsize;

use libp2p::PeerId;
use libp2p::request_response::InboundRequestId;
use lru::LruCache;
use pithead_core::sync::{RecentBlocks, Request};

use crate::policy::answer_budget::{AnswerBudget, AnswerClass, EndedAnswer};
use crate::policy::limiter::{RateLimiter, Source};

/// Requests of one source a minute.
const REQUESTS_PER_MINUTE: u32 = 1_000;
/// Requests of one source at once.
const REQUESTS_BURST: u32 = 200;
/// Large answers to one source, KiB a minute: 10 MiB a second.
const ANSWERS_KIB_PER_MINUTE: u32 = 600 << 10;
/// Large answers to one source at once, KiB.
const ANSWERS_KIB_BURST: u32 = 256 << 10;
/// A source that does not read a large answer in time gets no other one for so long. The pause
/// doubles each time: 15 s, 30 s, 60 s and so on.
const PAUSE_MS: u64 = 15_000;
/// The longest pause is this many times doubled: 16 minutes.
const PAUSE_DOUBLINGS_MAX: u32 = 6;
/// An answer that was being sent for less than this did not fail by the reader's fault.
const SENDING_MS_MIN: u64 = 4_000;
/// Slow sources that are remembered.
const SLOW_MAX: NonZeroUsize = NonZeroUsize::new(4_096).expect("it is not zero");

/// A request that waits for its turn, or that is being answered.
pub(crate) struct PendingRequest<C> {
    pub(crate) peer: PeerId,
    pub(crate) source: Source,
    pub(crate) class: AnswerClass,
    pub(crate) request: Request,
    /// Where the answer is sent. Dropping it declines the request.
    pub(crate) channel: C,
}

/// How slowly a source reads.
#[derive(Debug, Clone, Copy, Default)]
struct SlowReader {
    unread_in_a_row: u32,
    paused_until_ms: u64,
}

/// The requests of all peers, until they have ended.
pub(crate) struct ServingState<C> {
    requests: RateLimiter,
    kib: RateLimiter,
    budget: AnswerBudget<InboundRequestId>,
    slow: LruCache<Source, SlowReader>,
    waiting: HashMap<InboundRequestId, PendingRequest<C>>,
    /// Answers that are being made, and where each goes.
    making: HashMap<InboundRequestId, (PeerId, Source, C)>,
    /// Answers that are being sent, and since when, monotonic milliseconds.
    sending: HashMap<InboundRequestId, u64>,
}

impl<C> ServingState<C> {
    /// For answers of at most `answer_bytes_max` bytes each.
    pub(crate) fn new(answer_bytes_max: usize) -> Self {
        Self {
            requests: RateLimiter::new(REQUESTS_PER_MINUTE, REQUESTS_BURST),
            kib: RateLimiter::new(ANSWERS_KIB_PER_MINUTE, ANSWERS_KIB_BURST),
            budget: AnswerBudget::new(answer_bytes_max),
            slow: LruCache::new(SLOW_MAX),
            waiting: HashMap::new(),
            making: HashMap::new(),
            sending: HashMap::new(),
        }
    }

    /// Queues a request. Returns false if it is beyond its peer's limits: it is dropped, and its
    /// channel with it, which declines it.
    pub(crate) fn admit(
        &mut self,
        id: InboundRequestId,
        pending: PendingRequest<C>,
        now_ms: u64,
    ) -> bool {
        let (peer, source, class) = (pending.peer, pending.source, pending.class);
        let admitted = self.requests.take(&source, now_ms)
            && (class != AnswerClass::Large || !self.is_paused(&source, now_ms))
            && self.budget.admit(id, peer, source, class);
        if admitted {
            self.waiting.insert(id, pending);
        }
        admitted
    }

    /// Takes the next request whose turn it is out of the queue.
    pub(crate) fn start_next(
        &mut self,
        now_ms: u64,
    ) -> Option<(InboundRequestId, PendingRequest<C>)> {
        loop {
            let kib = &mut self.kib;
            let id = self.budget.start_next(|source| {
                // Peers on this machine share no line with others, and relays limit what they carry.
                matches!(source, Source::Peer(_)) || kib.is_open(source, now_ms)
            })?;
            match self.waiting.remove(&id) {
                Some(pending) => return Some((id, pending)),
                None => {
                    self.forget(&id);
                }
            }
        }
    }

    /// The answer to a request is now being made.
    pub(crate) fn making(
        &mut self,
        id: InboundRequestId,
        peer: PeerId,
        source: Source,
        channel: C,
    ) {
        self.making.insert(id, (peer, source, channel));
    }

    /// An answer was made. Returns whom it is for and where to send it; `None` if the peer has
    /// given up waiting.
    pub(crate) fn made(&mut self, id: &InboundRequestId) -> Option<(PeerId, Source, C)> {
        self.making.remove(id)
    }

    /// An answer of `bytes` is now being sent.
    pub(crate) fn sending(
        &mut self,
        id: InboundRequestId,
        source: &Source,
        bytes: usize,
        now_ms: u64,
    ) {
        self.budget.made(&id, bytes);
        let kib = u32::try_from(bytes >> 10).unwrap_or(u32::MAX);
        self.kib.charge(source, kib, now_ms);
        self.sending.insert(id, now_ms);
    }

    /// Whether a source gets no large answers for now.
    fn is_paused(&self, source: &Source, now_ms: u64) -> bool {
        let slow = self.slow.peek(source);
        slow.is_some_and(|slow| slow.paused_until_ms > now_ms)
    }

    /// Declines the large requests that a source has waiting. Without a word, the peer would take
    /// the pause for silence.
    fn decline_large(&mut self, source: &Source) {
        let large = |(id, pending): (&InboundRequestId, &PendingRequest<C>)| {
            (pending.class == AnswerClass::Large && pending.source == *source).then_some(*id)
        };
        let ids: Vec<InboundRequestId> = self.waiting.iter().filter_map(large).collect();
        for id in ids {
            self.forget(&id);
        }
    }

    /// Removes a request that has ended.
    pub(crate) fn forget(&mut self, id: &InboundRequestId) -> Option<EndedAnswer> {
        self.waiting.remove(id);
        self.making.remove(id);
        self.sending.remove(id);
        self.budget.ended(id)
    }

    /// An answer was sent whole. Only a large one shows that the source reads: small ones fit
    /// into the buffers on the way.
    pub(crate) fn sent(&mut self, id: &InboundRequestId) {
        if let Some(ended) = self.forget(id)
            && ended.class == AnswerClass::Large
        {
            self.slow.pop(&ended.source);
        }
    }

    /// An answer was not read in time. Returns the peer, and how many answers in a row its source
    /// has not read. Returns `None` if the answer had been sent for a moment only: then this node
    /// was slow.
    pub(crate) fn not_read(&mut self, id: &InboundRequestId, now_ms: u64) -> Option<(PeerId, u32)> {
        let sent_ms = self.sending.get(id).copied();
        let EndedAnswer { peer, source, .. } = self.forget(id)?;
        if now_ms.saturating_sub(sent_ms?) < SENDING_MS_MIN {
            return None;
        }
        let slow = self.slow.get_or_insert_mut(source, SlowReader::default);
        let doublings = slow.unread_in_a_row.min(PAUSE_DOUBLINGS_MAX);
        slow.unread_in_a_row += 1;
        slow.paused_until_ms = now_ms.saturating_add(PAUSE_MS << doublings);
        let unread_in_a_row = slow.unread_in_a_row;
        self.decline_large(&source);
        Some((peer, unread_in_a_row))
    }
}

/// What the answer to a request costs.
pub(crate) fn class_of(request: &Request, recent: &RecentBlocks) -> AnswerClass {
    match request {
        Request::Status(_) | Request::Headers { .. } => AnswerClass::Light,
        Request::Blocks(hashes) if recent.holds(hashes) => AnswerClass::Fresh,
        _ => AnswerClass::Large,
    }
}
