//! The order in which requests are answered. An answer stays in memory until the peer has read it, so the
//! bytes of answers that are being made or sent are bounded, and each source gets a small share
//! of them. A peer that reads slowly, or not at all, delays only its own source.
//!
//! Knows no sockets and no clock.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

use libp2p::PeerId;

use crate::policy::limiter::Source;

/// Open requests of one peer. A node itself leaves as many unanswered with one peer, so no honest
/// peer is declined.
const PER_PEER_MAX: usize = 16;
/// Small answers to one source at a time.
const LIGHT_PER_SOURCE_MAX: usize = 8;
/// Large answers to one source at a time: as many as a node asks for.
const LARGE_PER_SOURCE_MAX: usize = 2;
/// Bytes of large answers at a time.
const LARGE_BYTES_MAX: usize = 64 << 20;

/// What an answer costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum AnswerClass {
    /// Blocks of the last minutes. Their bytes are in memory anyway, and all peers ask for them
    /// at once.
    Fresh,
    /// Small answers: status and headers.
    Light,
    /// Any other answer: up to the limit of an answer.
    Large,
}

/// A request whose answer was begun, and that has ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EndedAnswer {
    pub(crate) peer: PeerId,
    pub(crate) source: Source,
    pub(crate) class: AnswerClass,
}

#[derive(Debug)]
struct OpenRequest {
    peer: PeerId,
    source: Source,
    class: AnswerClass,
    /// Bytes that are booked for the answer; `None` while the request waits.
    booked: Option<usize>,
}

/// Open requests: those that wait and those that are being answered. `K` names a request.
#[derive(Debug)]
pub(crate) struct AnswerBudget<K> {
    answer_bytes_max: usize,
    open: HashMap<K, OpenRequest>,
    waiting: VecDeque<K>,
    started: HashMap<(Source, AnswerClass), usize>,
    large_bytes: usize,
}

impl<K: Copy + Eq + Hash> AnswerBudget<K> {
    /// A budget for answers of at most `answer_bytes_max` bytes each.
    #[must_use]
    pub(crate) fn new(answer_bytes_max: usize) -> Self {
        Self {
            answer_bytes_max,
            open: HashMap::new(),
            waiting: VecDeque::new(),
            started: HashMap::new(),
            large_bytes: 0,
        }
    }

    /// Queues a request. Returns false if its peer has too many open requests.
    pub(crate) fn admit(
        &mut self,
        id: K,
        peer: PeerId,
        source: Source,
        class: AnswerClass,
    ) -> bool {
        let of_peer = self.open.values().filter(|open| open.peer == peer);
        if of_peer.count() >= PER_PEER_MAX {
            return false;
        }
        let request = OpenRequest {
            peer,
            source,
            class,
            booked: None,
        };
        self.open.insert(id, request);
        self.waiting.push_back(id);
        true
    }

    /// Starts the first request, in the order of arrival, that may be answered now. Large answers
    /// go only to sources that `may_have_large`.
    pub(crate) fn start_next(
        &mut self,
        mut may_have_large: impl FnMut(&Source) -> bool,
    ) -> Option<K> {
        let place = self.waiting.iter().position(|id| {
            let Some(open) = self.open.get(id) else {
                return true;
            };
            let key = (open.source, open.class);
            let started = self.started.get(&key).copied().unwrap_or_default();
            match open.class {
                AnswerClass::Fresh => true,
                AnswerClass::Light => started < LIGHT_PER_SOURCE_MAX,
                AnswerClass::Large => {
                    self.has_room_for_large(started) && may_have_large(&open.source)
                }
            }
        })?;
        let id = self.waiting.remove(place)?;
        let open = self.open.get_mut(&id)?;
        let bytes = if open.class == AnswerClass::Large {
            self.answer_bytes_max
        } else {
            0
        };
        open.booked = Some(bytes);
        self.large_bytes += bytes;
        *self.started.entry((open.source, open.class)).or_default() += 1;
        Some(id)
    }

    /// Whether a large answer may start for a source that `started` others are under way to. A
    /// source's first answer may use the whole budget, its second one only the first half. A
    /// single answer goes out even if it is larger than the budget.
    fn has_room_for_large(&self, started: usize) -> bool {
        let free = if started == 0 {
            LARGE_BYTES_MAX
        } else {
            LARGE_BYTES_MAX / 2
        };
        let fits = self.large_bytes + self.answer_bytes_max <= free;
        started < LARGE_PER_SOURCE_MAX && (fits || self.large_bytes == 0)
    }

    /// Notes the true size of an answer, instead of the largest possible one.
    pub(crate) fn made(&mut self, id: &K, bytes: usize) {
        if let Some(open) = self.open.get_mut(id)
            && open.class == AnswerClass::Large
            && let Some(booked) = &mut open.booked
        {
            self.large_bytes = self.large_bytes - *booked + bytes;
            *booked = bytes;
        }
    }

    /// Removes a request that has ended, answered or not. Returns what is known of it if its
    /// answer had been begun.
    pub(crate) fn ended(&mut self, id: &K) -> Option<EndedAnswer> {
        let open = self.open.remove(id)?;
        let Some(booked) = open.booked else {
            self.waiting.retain(|waiting| waiting != id);
            return None;
        };
        self.large_bytes -= booked;
        let key = (open.source, open.class);
        if let Some(started) = self.started.get_mut(&key) {
            *started -= 1;
            if *started == 0 {
                self.started.remove(&key);
            }
        }
        Some(EndedAnswer {
            peer: open.peer,
            source: open.source,
            class: open.class,
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const ANSWER: usize = 4 << 20;

    /// A budget, and numbers for the requests of its peers.
    struct Crowd {
        budget: AnswerBudget<usize>,
        next: usize,
    }

    impl Crowd {
        fn new() -> Self {
            Self {
                budget: AnswerBudget::new(ANSWER),
                next: 0,
            }
        }

        fn ask(&mut self, peer: PeerId, host: u8, class: AnswerClass) -> Option<usize> {
            let address = format!("/ip4/203.0.113.{host}/tcp/1").parse().unwrap();
            let source = Source::of(&peer, Some(&address));
            self.next += 1;
            let id = self.next;
            self.budget.admit(id, peer, source, class).then_some(id)
        }

        fn start_all(&mut self) -> Vec<usize> {
            std::iter::from_fn(|| self.budget.start_next(|_| true)).collect()
        }
    }

    #[test]
    fn slow_readers_keep_only_themselves_waiting() {
        let mut crowd = Crowd::new();
        for host in 1..=4 {
            let slow = PeerId::random();
            let asked = (0..20).filter_map(|_| crowd.ask(slow, host, AnswerClass::Large));
            assert_eq!(asked.count(), PER_PEER_MAX);
        }
        assert_eq!(crowd.start_all().len(), 4 * LARGE_PER_SOURCE_MAX);
        let honest = PeerId::random();
        let classes = [AnswerClass::Large, AnswerClass::Light, AnswerClass::Fresh];
        let asked: Vec<_> = classes
            .iter()
            .map(|class| crowd.ask(honest, 9, *class).unwrap())
            .collect();
        assert_eq!(crowd.start_all(), asked);
    }

    #[test]
    fn large_answers_are_bounded_in_bytes_and_small_ones_go_on() {
        let mut crowd = Crowd::new();
        for host in 1..=100 {
            for _ in 0..4 {
                crowd
                    .ask(PeerId::random(), host, AnswerClass::Large)
                    .unwrap();
            }
        }
        let started = crowd.start_all();
        assert_eq!(started.len(), LARGE_BYTES_MAX / ANSWER);
        // A few sources do not take it all: of the second half, each source gets one answer.
        let hosts = LARGE_BYTES_MAX / ANSWER * 3 / 4;
        let got_in = crowd.budget.started.len();
        assert_eq!(got_in, hosts);
        let small = crowd
            .ask(PeerId::random(), 101, AnswerClass::Light)
            .unwrap();
        let fresh = crowd
            .ask(PeerId::random(), 101, AnswerClass::Fresh)
            .unwrap();
        assert_eq!(crowd.start_all(), [small, fresh]);
        // Answers that turn out small, and answers that end, make room for others.
        crowd.budget.made(&started[0], 1_000);
        assert!(crowd.start_all().is_empty());
        crowd.budget.made(&started[1], 0);
        assert_eq!(crowd.start_all().len(), 1);
        assert!(crowd.budget.ended(&started[2]).is_some());
        assert_eq!(crowd.start_all().len(), 1);
    }

    #[test]
    fn identities_of_one_host_share_its_part() {
        let mut crowd = Crowd::new();
        for _ in 0..10 {
            crowd.ask(PeerId::random(), 1, AnswerClass::Large).unwrap();
        }
        assert_eq!(crowd.start_all().len(), LARGE_PER_SOURCE_MAX);
    }

    #[test]
    fn nothing_is_left_once_all_have_ended() {
        let mut crowd = Crowd::new();
        let peer = PeerId::random();
        let mut ids = Vec::new();
        for class in [
            AnswerClass::Large,
            AnswerClass::Light,
            AnswerClass::Large,
            AnswerClass::Large,
        ] {
            ids.push(crowd.ask(peer, 1, class).unwrap());
        }
        assert_eq!(crowd.start_all().len(), 3);
        let begun = ids.iter().filter(|id| crowd.budget.ended(id).is_some());
        assert_eq!(begun.count(), 3);
        let budget = &crowd.budget;
        assert!(budget.open.is_empty() && budget.waiting.is_empty());
        assert!(budget.started.is_empty() && budget.large_bytes == 0);
    }

    #[test]
    fn a_paused_source_waits_and_others_pass() {
        let mut crowd = Crowd::new();
        let (paused, other) = (PeerId::random(), PeerId::random());
        crowd.ask(paused, 1, AnswerClass::Large).unwrap();
        let passes = crowd.ask(other, 2, AnswerClass::Large).unwrap();
        let address = "/ip4/203.0.113.1/tcp/9".parse().unwrap();
        let source = Source::of(&paused, Some(&address));
        let started = crowd.budget.start_next(|asker| *asker != source);
        assert_eq!(started, Some(passes));
    }
}
