//! The events of a run, and the queue that orders them.
//!
//! The queue drives the virtual clock: `run` takes the earliest event, sets the clock to
//! its time and handles it. Events of the same time keep the order in which they were
//! scheduled. Start reading at [`SimEvent`].

use std::collections::BinaryHeap;
use std::sync::Arc;

use pithead_consensus::{BlockHash, BlockHeader};
use pithead_core::sync::{PeerEvent, PeerKey, Request, RequestId};

use crate::nodes::gossip::GossipMessage;

/// A second of the virtual clock, microseconds.
pub(crate) const SECOND_US: u64 = 1_000_000;

/// An event of the simulated world. A `usize` is the index of a node.
pub(crate) enum SimEvent {
    /// A node's timer fires, as it does every second.
    Tick(usize),
    /// A peer's event, for example a response, arrives at a node.
    Peer(usize, PeerEvent),
    /// A gossip message arrives at a node from one of its peers.
    Gossip(usize, PeerKey, Arc<GossipMessage>),
    /// A request arrives at a node.
    Request(RequestInFlight),
    /// A node notices that a connection is dead.
    ConnectionLost(usize, PeerKey),
    /// A node looks whether it has enough connections.
    Dial(usize),
    /// A node drops one of its connections.
    DropConnection(usize),
    /// A node's miner finds a block, unless the number of its search is outdated.
    Solve(usize, u64),
    /// Some wallet makes a payment.
    Pay,
    /// A lying node sends its peers something false.
    Lie(usize),
    /// A lying node announces a block that it has forged.
    Announce(usize, Box<BlockHeader>),
    /// A node crashes, unless the number of the crash is outdated.
    Crash(usize, u64),
    /// A crashed node starts again.
    Restart(usize),
    /// The network splits.
    Split,
    /// The parts of a split network find each other again.
    Heal,
    /// The simulation checks the whole network.
    Inspect,
    /// The lying validators vote for a checkpoint that the node `finder` has found.
    Equivocate {
        finder: usize,
        height: u64,
        hash: BlockHash,
    },
    /// The silent validators stop voting, or start again.
    ToggleSilence,
    /// The adversary takes a step.
    Adversary,
    /// A node's clock jumps.
    JumpClock(usize),
    /// A node's clock is right again.
    MendClock(usize),
    /// A node stands still for a while.
    Pause(usize),
    /// A node goes away for good.
    Leave(usize),
}

/// A request on its way to the node that is to answer it.
pub(crate) struct RequestInFlight {
    /// The index of the node that is to answer.
    pub(crate) server: usize,
    /// The key by which that node knows the connection.
    pub(crate) server_key: PeerKey,
    pub(crate) id: RequestId,
    pub(crate) request: Request,
    /// When the request was sent, from which its time-out counts.
    pub(crate) sent_us: u64,
}

struct QueuedEvent {
    at_us: u64,
    number: u64,
    event: SimEvent,
}

impl PartialEq for QueuedEvent {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for QueuedEvent {}

impl PartialOrd for QueuedEvent {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for QueuedEvent {
    /// Earlier events are greater, since a heap gives its greatest element first.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.at_us, other.number).cmp(&(self.at_us, self.number))
    }
}

/// The events that are still to come.
#[derive(Default)]
pub(crate) struct EventQueue {
    events: BinaryHeap<QueuedEvent>,
    last_number: u64,
}

impl EventQueue {
    /// A number that this queue has not given before.
    pub(crate) fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// Schedules an event.
    pub(crate) fn push(&mut self, at_us: u64, event: SimEvent) {
        let number = self.next_number();
        self.events.push(QueuedEvent {
            at_us,
            number,
            event,
        });
    }

    /// Takes out the earliest event with its time, unless it is later than `until_us`.
    pub(crate) fn pop_until(&mut self, until_us: u64) -> Option<(u64, SimEvent)> {
        if self.events.peek()?.at_us > until_us {
            return None;
        }
        self.events.pop().map(|next| (next.at_us, next.event))
    }
}
