//! What one event may cost a node: the reads of its store, whoever caused the event.
//!
//! The budgets are wide, since a simulated node answers to events of all sizes; those of single
//! inputs are in the tests of the core. Start reading at [`Simulation::check_cost`].

use pithead_core::node::{Effect, Event};
use pithead_core::sync::PeerEvent;

use crate::violation::Violation;
use crate::world::Simulation;

/// Reads of a tick, besides those for blocks. Two for each of the 64 blocks that may wait for their
/// parent are more: waiting costs nothing.
const TICK_READS_MAX: u64 = 120;
/// Reads of any other event that brings no answer of a peer. An approval may make the node compare
/// long branches.
const SMALL_READS_MAX: u64 = 600;
/// Reads of an event with an answer of a peer: two for each of 2,000 headers, and some more.
const ANSWER_READS_MAX: u64 = 4_200;
/// Reads for each block that is connected, disconnected or kept.
const BLOCK_READS_MAX: u64 = 400;
/// Reads for an answer to a peer: two for each of 2,000 headers, and one for each hash.
const SERVED_READS_MAX: u64 = 4_200;

/// The size of an event, as far as its budget goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EventSize {
    Tick,
    Small,
    Answer,
}

impl EventSize {
    pub(crate) fn of(event: &Event) -> Self {
        match event {
            Event::Peer(PeerEvent::Response { .. }) | Event::Continue => Self::Answer,
            Event::Tick => Self::Tick,
            _ => Self::Small,
        }
    }
}

/// How many blocks an event has moved, and one.
fn blocks_moved(before: u64, effects: &[Effect]) -> u64 {
    let mut height = before;
    let mut moved = 1;
    for effect in effects {
        if let Effect::TipChanged { tip, disconnected } = effect {
            let off = *disconnected as u64;
            let on = (tip.height.0 + off).saturating_sub(height);
            moved += on + off;
            height = tip.height.0;
        }
    }
    moved
}

impl Simulation {
    /// A node has handled an event with so many reads. `before` is the height of its tip before.
    pub(crate) fn check_cost(
        &mut self,
        index: usize,
        size: EventSize,
        reads: u64,
        (before, effects): (u64, &[Effect]),
    ) -> Result<(), Violation> {
        let each = match size {
            EventSize::Tick => TICK_READS_MAX,
            EventSize::Small => SMALL_READS_MAX,
            EventSize::Answer => ANSWER_READS_MAX,
        };
        let moved = blocks_moved(before, effects) - 1;
        let peak = &mut self.counters.reads_max[size as usize];
        if moved == 0 {
            *peak = (*peak).max(reads);
        }
        let most = each + BLOCK_READS_MAX * moved;
        if reads > most {
            let what = format!("a {size:?} event costs it {reads} reads, more than {most}");
            return Err(self.violation(Some(index), what));
        }
        Ok(())
    }

    /// A node has answered to a peer with so many reads.
    pub(crate) fn check_served(&self, index: usize, reads: u64) -> Result<(), Violation> {
        if reads > SERVED_READS_MAX {
            let what = format!("one answer costs it {reads} reads, more than {SERVED_READS_MAX}");
            return Err(self.violation(Some(index), what));
        }
        Ok(())
    }
}
