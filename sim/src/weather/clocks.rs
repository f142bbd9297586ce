//! Clocks that jump, nodes that pause, and nodes that go away for good.
//!
//! A node whose clock is wrong follows its own clock: it may refuse the blocks of all others, or
//! mine blocks that all others refuse for now. It need not keep up while the clock is wrong, but
//! nobody may ban anybody for it, and the node must heal when its clock does. Start reading at
//! [`Simulation::jump_clock`].

use crate::events::{SECOND_US, SimEvent};
use crate::nodes::sim_node::NodeKind;
use crate::violation::Violation;
use crate::world::Simulation;

/// How far a clock jumps, seconds, at least and at most. A miner's clock jumps back only: blocks of a
/// clock that is ahead stay invalid for the others until their clocks get there, and a heavy chain
/// of them would divide the network for so long.
const JUMP_SECS: (f64, f64) = (60.0, 7_200.0);
/// How long a clock stays wrong, seconds, at least and at most.
const WRONG_SECS: (f64, f64) = (30.0, 240.0);
/// How long a node pauses, seconds, at least and at most.
const PAUSE_SECS: (f64, f64) = (2.0, 120.0);
/// When nodes go away for good, as a part of the run, at the earliest and at the latest.
const LEAVES_PART: (f64, f64) = (0.2, 0.8);

impl Simulation {
    /// Schedules jumps and pauses of a node, in scenarios that have them.
    pub(crate) fn schedule_clock(&mut self, index: usize) {
        self.schedule_jump(index);
        self.schedule_pause(index);
    }

    fn schedule_jump(&mut self, index: usize) {
        if self.weather.clock_jump_secs.is_finite() {
            let wait = self.rng.faults.exponential(self.weather.clock_jump_secs);
            self.after_secs(wait, SimEvent::JumpClock(index));
        }
    }

    fn schedule_pause(&mut self, index: usize) {
        if self.weather.pause_secs.is_finite() {
            let wait = self.rng.faults.exponential(self.weather.pause_secs);
            self.after_secs(wait, SimEvent::Pause(index));
        }
    }

    /// Schedules when the last nodes go away for good.
    pub(crate) fn schedule_leaving(&mut self) {
        let length = self.settings.secs as f64;
        for number in 0..self.weather.leaving {
            let Some(index) = self.nodes.len().checked_sub(1 + number) else {
                return;
            };
            let part = self.rng.faults.between(LEAVES_PART.0, LEAVES_PART.1);
            self.after_secs(length * part, SimEvent::Leave(index));
        }
    }

    /// A node's clock jumps, and is right again after a while.
    pub(crate) fn jump_clock(&mut self, index: usize) {
        if !self.trouble || self.nodes[index].jumped_secs != 0 {
            return;
        }
        let secs = self.rng.faults.between(JUMP_SECS.0, JUMP_SECS.1) as i64;
        let mines = self.nodes[index].hash_share > 0.0;
        let back = self.rng.faults.happens(0.5) || mines;
        let wrong = self.rng.faults.between(WRONG_SECS.0, WRONG_SECS.1);
        self.counters.clock_jumps += 1;
        let node = &mut self.nodes[index];
        node.jumped_secs = if back { -secs } else { secs };
        // Until the clock is right again, the node does not count as one that should keep up.
        node.online_since_us = self.now_us + (wrong * 1e6) as u64;
        self.after_secs(wrong, SimEvent::MendClock(index));
    }

    /// A node's clock is right again.
    pub(crate) fn mend_clock(&mut self, index: usize) {
        if self.nodes[index].jumped_secs == 0 {
            return;
        }
        self.nodes[index].jumped_secs = 0;
        self.nodes[index].online_since_us = self.now_us;
        self.schedule_solution(index);
        if self.trouble {
            self.schedule_jump(index);
        }
    }

    /// A node stands still for a while: everything that happens to it waits.
    pub(crate) fn pause(&mut self, index: usize) {
        if !self.trouble {
            return;
        }
        let secs = self.rng.faults.between(PAUSE_SECS.0, PAUSE_SECS.1);
        self.counters.pauses += 1;
        let until_us = self.now_us + (secs * 1e6) as u64;
        let node = &mut self.nodes[index];
        node.paused_until_us = until_us;
        node.online_since_us = node.online_since_us.max(until_us);
        self.schedule_pause(index);
    }

    /// If an event is for a node that pauses: when the node goes on.
    pub(crate) fn waits_until(&self, event: &SimEvent) -> Option<u64> {
        let index = match event {
            SimEvent::Tick(index)
            | SimEvent::Peer(index, _)
            | SimEvent::Gossip(index, ..)
            | SimEvent::ConnectionLost(index, _)
            | SimEvent::Dial(index)
            | SimEvent::Solve(index, _) => *index,
            SimEvent::Request(request) => request.server,
            _ => return None,
        };
        let until_us = self.nodes[index].paused_until_us;
        (until_us > self.now_us).then_some(until_us)
    }

    /// A node goes away and never comes back.
    pub(crate) fn leave(&mut self, index: usize) -> Result<(), Violation> {
        if !self.nodes[index].is_honest() {
            return Ok(());
        }
        if self.nodes[index].core.is_some() {
            self.crash_now(index)?;
        }
        self.counters.left += 1;
        let node = &mut self.nodes[index];
        node.kind = NodeKind::Gone;
        node.hash_share = 0.0;
        Ok(())
    }

    /// All clocks are right and no node pauses, from now on.
    pub(crate) fn end_clock_trouble(&mut self) {
        for index in 0..self.nodes.len() {
            self.mend_clock(index);
            let paused = self.nodes[index].paused_until_us.min(self.now_us);
            self.nodes[index].paused_until_us = paused;
            let since = self.nodes[index]
                .online_since_us
                .min(self.now_us + SECOND_US);
            self.nodes[index].online_since_us = since;
        }
    }
}
