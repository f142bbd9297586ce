//! What is going to happen, and when: the queue that the clock follows.

use std::collections::BinaryHeap;
use std::sync::Arc;

use pithead_consensus::BlockHash;
use pithead_core::sync::{PeerEvent, PeerKey, Request, RequestId};

use crate::member::Message;
use crate::world::Simulation;

/// What is going to happen.
pub(crate) enum Happening {
    Tick(usize),
    /// Something comes to a node from one of its peers.
    Peer(usize, PeerEvent),
    /// Gossip comes to a node.
    Gossip(usize, PeerKey, Arc<Message>),
    /// A request comes to a node; when it was sent, and the answerer's name of the
    /// asker.
    Ask {
        at: usize,
        from: PeerKey,
        id: RequestId,
        request: Request,
        sent_us: u64,
    },
    /// A connection is found to be dead.
    Lost(usize, PeerKey),
    Dial(usize),
    Drop(usize),
    Solve(usize, u64),
    Pay,
    Lie(usize),
    /// A node crashes, unless it has crashed since this was drawn.
    Crash(usize, u64),
    Restart(usize),
    Split,
    Heal,
    Inspect,
    /// Liars vote for a checkpoint.
    Equivocate {
        finder: usize,
        height: u64,
        hash: BlockHash,
    },
    /// Some validators fall silent, or come back.
    TurnSilent,
}

struct Scheduled {
    at_us: u64,
    number: u64,
    what: Happening,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    /// The earliest first, since heaps give the greatest.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.at_us, other.number).cmp(&(self.at_us, self.number))
    }
}

/// Everything that is going to happen, the earliest first.
#[derive(Default)]
pub(crate) struct Schedule {
    queue: BinaryHeap<Scheduled>,
    last: u64,
}

impl Schedule {
    /// Takes out what comes next, unless it is later than this.
    pub(crate) fn next_until(&mut self, until_us: u64) -> Option<(u64, Happening)> {
        if self.queue.peek()?.at_us > until_us {
            return None;
        }
        self.queue.pop().map(|next| (next.at_us, next.what))
    }
}

impl Simulation {
    /// A number that nothing else has.
    pub(crate) fn number(&mut self) -> u64 {
        self.schedule.last += 1;
        self.schedule.last
    }

    /// Lets something happen later.
    pub(crate) fn after(&mut self, us: u64, what: Happening) {
        let number = self.number();
        self.schedule.queue.push(Scheduled {
            at_us: self.now_us + us,
            number,
            what,
        });
    }

    /// Lets something happen at a moment to come.
    pub(crate) fn at(&mut self, at_us: u64, what: Happening) {
        self.after(at_us.saturating_sub(self.now_us), what);
    }
}
