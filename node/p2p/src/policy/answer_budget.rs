//! Whose answer is made next. An answer stays in memory until its asker has read it,
//! so what is being made or sent is bounded in bytes, and no source gets more than
//! a small share: whoever reads slowly, or not at all, keeps only itself waiting.
//! Knows no sockets and no clock.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

use libp2p::PeerId;

use crate::policy::limiter::Source;

/// Requests of one peer that wait or are being answered: as many as a node leaves
/// unanswered with one peer itself, so that no honest one is declined.
const PER_PEER_MAX: usize = 16;
/// Small answers to one source at a time.
const LIGHT_PER_SOURCE_MAX: usize = 8;
/// Large answers to one source at a time: as many as a node asks for.
const LARGE_PER_SOURCE_MAX: usize = 2;
/// Bytes of large answers at a time.
const LARGE_BYTES_MAX: usize = 64 << 20;

/// What an answer costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Class {
    /// Bytes that are in memory anyhow: a block of the last minutes, which all peers
    /// ask for at once.
    Fresh,
    /// Little: status and headers.
    Light,
    /// Up to the limit of an answer.
    Large,
}

/// A request whose answer had been begun.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ended {
    pub(crate) peer: PeerId,
    pub(crate) source: Source,
    pub(crate) class: Class,
}

#[derive(Debug)]
struct Open {
    peer: PeerId,
    source: Source,
    class: Class,
    /// Bytes booked; none while it waits.
    booked: Option<usize>,
}

/// Requests that wait or are being answered, by `K`.
#[derive(Debug)]
pub(crate) struct Budget<K> {
    answer_bytes_max: usize,
    open: HashMap<K, Open>,
    waiting: VecDeque<K>,
    started: HashMap<(Source, Class), usize>,
    large_bytes: usize,
}

impl<K: Copy + Eq + Hash> Budget<K> {
    /// For answers of at most so many bytes.
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

    /// Takes a request in to wait for its turn; false if its peer has too many.
    pub(crate) fn admit(&mut self, id: K, peer: PeerId, source: Source, class: Class) -> bool {
        let of_peer = self.open.values().filter(|open| open.peer == peer);
        if of_peer.count() >= PER_PEER_MAX {
            return false;
        }
        let booked = None;
        let open = Open {
            peer,
            source,
            class,
            booked,
        };
        self.open.insert(id, open);
        self.waiting.push_back(id);
        true
    }

    /// The first request in the order of arrival whose answer may be made now;
    /// large ones only for sources that `may_have_large`.
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
                Class::Fresh => true,
                Class::Light => started < LIGHT_PER_SOURCE_MAX,
                Class::Large => {
                    // The second half is for those who have none yet.
                    let free = if started == 0 {
                        LARGE_BYTES_MAX
                    } else {
                        LARGE_BYTES_MAX / 2
                    };
                    let fits = self.large_bytes + self.answer_bytes_max <= free;
                    // One goes out however large answers may be.
                    started < LARGE_PER_SOURCE_MAX
                        && (fits || self.large_bytes == 0)
                        && may_have_large(&open.source)
                }
            }
        })?;
        let id = self.waiting.remove(place)?;
        let open = self.open.get_mut(&id)?;
        let bytes = if open.class == Class::Large {
            self.answer_bytes_max
        } else {
            0
        };
        open.booked = Some(bytes);
        self.large_bytes += bytes;
        *self.started.entry((open.source, open.class)).or_default() += 1;
        Some(id)
    }

    /// An answer turned out to have so many bytes.
    pub(crate) fn made(&mut self, id: &K, bytes: usize) {
        if let Some(open) = self.open.get_mut(id)
            && open.class == Class::Large
            && let Some(booked) = &mut open.booked
        {
            self.large_bytes = self.large_bytes - *booked + bytes;
            *booked = bytes;
        }
    }

    /// A request has ended one way or another; what is known of it, if its answer had
    /// been begun.
    pub(crate) fn ended(&mut self, id: &K) -> Option<Ended> {
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
        Some(Ended {
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

    /// Peers, each on a host of its own, with all their requests.
    struct Crowd {
        budget: Budget<usize>,
        next: usize,
    }

    impl Crowd {
        fn new() -> Self {
            Self {
                budget: Budget::new(ANSWER),
                next: 0,
            }
        }

        fn ask(&mut self, peer: PeerId, host: u8, class: Class) -> Option<usize> {
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
            let asked = (0..20).filter_map(|_| crowd.ask(slow, host, Class::Large));
            assert_eq!(asked.count(), PER_PEER_MAX);
        }
        assert_eq!(crowd.start_all().len(), 4 * LARGE_PER_SOURCE_MAX);
        let honest = PeerId::random();
        let classes = [Class::Large, Class::Light, Class::Fresh];
        let asked: Vec<_> = classes
            .iter()
            .map(|class| crowd.ask(honest, 9, *class).unwrap())
            .collect();
        assert_eq!(crowd.start_all(), asked);
    }

    #[test]
    fn what_is_under_way_is_bounded_in_bytes_and_small_answers_go_on() {
        let mut crowd = Crowd::new();
        for host in 1..=100 {
            for _ in 0..4 {
                crowd.ask(PeerId::random(), host, Class::Large).unwrap();
            }
        }
        let started = crowd.start_all();
        assert_eq!(started.len(), LARGE_BYTES_MAX / ANSWER);
        // A few do not take it all: the second half goes to one each.
        let hosts = LARGE_BYTES_MAX / ANSWER * 3 / 4;
        let got_in = crowd.budget.started.len();
        assert_eq!(got_in, hosts);
        let small = crowd.ask(PeerId::random(), 101, Class::Light).unwrap();
        let fresh = crowd.ask(PeerId::random(), 101, Class::Fresh).unwrap();
        assert_eq!(crowd.start_all(), [small, fresh]);
        // One that proves small makes room for as many as fit, one that ends as well.
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
            crowd.ask(PeerId::random(), 1, Class::Large).unwrap();
        }
        assert_eq!(crowd.start_all().len(), LARGE_PER_SOURCE_MAX);
    }

    #[test]
    fn nothing_is_left_once_all_have_ended() {
        let mut crowd = Crowd::new();
        let peer = PeerId::random();
        let mut ids = Vec::new();
        for class in [Class::Large, Class::Light, Class::Large, Class::Large] {
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
    fn a_source_that_may_not_waits_and_others_pass() {
        let mut crowd = Crowd::new();
        let (paused, other) = (PeerId::random(), PeerId::random());
        crowd.ask(paused, 1, Class::Large).unwrap();
        let passes = crowd.ask(other, 2, Class::Large).unwrap();
        let address = "/ip4/203.0.113.1/tcp/9".parse().unwrap();
        let source = Source::of(&paused, Some(&address));
        let started = crowd.budget.start_next(|asker| *asker != source);
        assert_eq!(started, Some(passes));
    }
}
