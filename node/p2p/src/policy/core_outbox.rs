//! Events that wait for room in the core's queue. Nothing in the network waits for the core:
//! while many events wait, gossip that can be made up for is dropped, and then peers have to wait.
//!
//! | events that wait | the network |
//! |---|---|
//! | fewer than 256 | takes everything |
//! | 256 or more | drops transactions: comparing mempools makes up for them |
//! | 768 or more | drops approvals as well: they can be asked for again |
//! | 1,024 or more | reads nothing more from peers |

use std::collections::VecDeque;

use pithead_core::sync::PeerEvent;

use crate::policy::gossip_queue::GossipTopic;

/// Events from which on transactions are dropped.
const TRANSACTIONS_MAX: usize = 256;
/// Events from which on approvals are dropped. The limit is higher than that of transactions,
/// because attackers can't make approvals: only validators sign them.
const APPROVALS_MAX: usize = 768;
/// Events from which on peers have to wait.
const EVENTS_MAX: usize = 1_024;

/// Events for the core, the oldest first.
#[derive(Default)]
pub(crate) struct CoreOutbox(VecDeque<PeerEvent>);

impl CoreOutbox {
    pub(crate) fn push(&mut self, event: PeerEvent) {
        self.0.push_back(event);
    }

    pub(crate) fn pop(&mut self) -> Option<PeerEvent> {
        self.0.pop_front()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether peers have to wait.
    pub(crate) fn is_full(&self) -> bool {
        self.0.len() >= EVENTS_MAX
    }

    /// Whether gossip of this topic is dropped for now. Blocks never are.
    pub(crate) fn drops(&self, topic: GossipTopic) -> bool {
        match topic {
            GossipTopic::Blocks => false,
            GossipTopic::Transactions => self.0.len() >= TRANSACTIONS_MAX,
            GossipTopic::Approvals => self.0.len() >= APPROVALS_MAX,
        }
    }
}
