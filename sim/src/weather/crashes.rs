//! Crashes of nodes, and their starts afterwards.
//!
//! What a crash leaves on disk is decided in `nodes::crash_store` and
//! `nodes::vote_journal`. Start reading at [`Simulation::crash`].

use crate::events::SimEvent;
use crate::nodes::crash_store::CrashPoint;
use crate::nodes::sim_node::NodeKind;
use crate::violation::Violation;
use crate::world::Simulation;

/// Seconds that a crashed node stays down, at least and at most.
const DOWN_SECS: (f64, f64) = (5.0, 300.0);
/// Seconds until a peer notices the crash, at least and at most.
const NOTICED_SECS: (f64, f64) = (0.05, 5.0);

impl Simulation {
    /// Schedules a node's next crash, in scenarios with crashes.
    pub(crate) fn schedule_crash(&mut self, index: usize) {
        let mean = self.weather.crash_secs;
        if mean.is_finite() {
            let wait = self.rng.faults.exponential(mean);
            self.nodes[index].crash_number += 1;
            let number = self.nodes[index].crash_number;
            self.after_secs(wait, SimEvent::Crash(index, number));
        }
    }

    /// Lets a node crash: at once, during its next write, or after that write and before
    /// the node can act on it. Each is equally likely.
    pub(crate) fn crash(&mut self, index: usize, number: u64) -> Result<(), Violation> {
        let node = &self.nodes[index];
        if !self.trouble || node.core.is_none() || node.crash_number != number {
            return Ok(());
        }
        let point = match self.rng.faults.below(3) {
            0 => return self.crash_now(index),
            1 => CrashPoint::DuringWrite,
            _ => CrashPoint::AfterWrite,
        };
        node.store.crash_at_next_write(Some(point));
        Ok(())
    }

    /// Ends a node's process, and schedules when it starts again.
    pub(crate) fn crash_now(&mut self, index: usize) -> Result<(), Violation> {
        self.counters.crashes += 1;
        if let Some(journal) = &self.nodes[index].journal {
            journal.crash();
        }
        let connections = std::mem::take(&mut self.nodes[index].connections);
        for end in connections.values() {
            let noticed = self.rng.faults.between(NOTICED_SECS.0, NOTICED_SECS.1);
            let event = SimEvent::ConnectionLost(end.other, end.other_key);
            self.after_secs(noticed, event);
        }
        let node = &mut self.nodes[index];
        node.core = None;
        node.awaiting_verdict.clear();
        let crashed = node.store.crash(&mut self.rng.faults);
        crashed.map_err(|error| self.storage_failed(index, &error))?;
        let down = self.rng.faults.between(DOWN_SECS.0, DOWN_SECS.1);
        self.after_secs(down, SimEvent::Restart(index));
        Ok(())
    }

    /// Starts a node again on what the crash has left, and checks what it starts on.
    pub(crate) fn restart(&mut self, index: usize) -> Result<(), Violation> {
        if self.nodes[index].core.is_some() || self.nodes[index].kind == NodeKind::Gone {
            return Ok(());
        }
        self.start_node(index)?;
        self.check_tip_after_start(index)?;
        self.check_chain(index)?;
        self.schedule_crash(index);
        self.schedule_solution(index);
        Ok(())
    }

    /// The tip on which a node has started must be in the model.
    fn check_tip_after_start(&mut self, index: usize) -> Result<(), Violation> {
        let node = &self.nodes[index];
        let tip = node.core.as_ref().map(|core| core.chain().tip());
        let genesis = self.genesis.params.genesis_hash;
        let Some(tip) = tip.filter(|tip| tip.hash() != genesis) else {
            return Ok(());
        };
        if self.model.get(&tip.hash()).is_none() {
            let what = "it starts on a tip that was never found by a miner";
            return Err(self.violation(Some(index), what));
        }
        if node.is_honest() {
            let checked = self.model.check_tip(tip);
            checked.map_err(|what| self.violation(Some(index), what))?;
        }
        Ok(())
    }
}
