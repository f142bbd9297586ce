//! The course of a run: events in the order of the virtual clock, and at the end a calm
//! in which the network must come to agree.
//!
//! Start reading at [`Simulation::run`].

use pithead_core::node::Event;

use crate::checks::liveness::LAG_CHECKPOINTS_MAX;
use crate::events::{SECOND_US, SimEvent};
use crate::report::summary::Report;
use crate::violation::Violation;
use crate::world::Simulation;

/// How long honest nodes have to agree on a tip at the end, virtual seconds.
const SETTLE_SECS_MAX: u64 = 600;
/// How long messages have to arrive after mining has ended.
const ARRIVE_US: u64 = 120 * SECOND_US;
/// How long open requests have to end once all nodes agree.
const FINISH_REQUESTS_US: u64 = 60 * SECOND_US;
/// Checkpoints within which finality must catch up once there is no trouble: two to
/// approve and finalise a block, and more for nodes that first fetch the chain.
const CATCH_UP_CHECKPOINTS_MAX: u64 = 12;
/// The most events per node and second, far more than a sound network has: a tick, some
/// requests, and an approval of each validator from each neighbour.
const EVENTS_PER_NODE_SECOND_MAX: u64 = 200;
/// Events that a run may have besides those: in its first seconds all nodes connect.
const FIRST_EVENTS_MAX: u64 = 100_000;

impl Simulation {
    /// Runs to the end and reports.
    ///
    /// # Errors
    /// The first violation that is found.
    pub(crate) fn run(&mut self) -> Result<Report, Violation> {
        self.run_until(self.settings.secs * SECOND_US)?;
        self.settle()?;
        self.check_end()?;
        Ok(Report::of(self))
    }

    /// Handles all events up to a moment, and sets the clock to it.
    fn run_until(&mut self, until_us: u64) -> Result<(), Violation> {
        while let Some((at_us, event)) = self.queue.pop_until(until_us) {
            self.now_us = at_us;
            self.events_handled += 1;
            let node_seconds = self.nodes.len() as u64 * (1 + self.secs());
            let most = FIRST_EVENTS_MAX + EVENTS_PER_NODE_SECOND_MAX * node_seconds;
            if self.events_handled > most {
                let what = format!("more than {most} events: nodes keep each other busy");
                return Err(self.violation(None, what));
            }
            self.handle_event(event)?;
        }
        self.now_us = until_us;
        Ok(())
    }

    fn run_for(&mut self, time_us: u64) -> Result<(), Violation> {
        self.run_until(self.now_us + time_us)
    }

    fn handle_event(&mut self, event: SimEvent) -> Result<(), Violation> {
        if let Some(until_us) = self.waits_until(&event) {
            self.at(until_us, event);
            return Ok(());
        }
        match event {
            SimEvent::Tick(index) => {
                self.handle(index, Event::Tick)?;
                self.after(SECOND_US, SimEvent::Tick(index));
            }
            SimEvent::Peer(index, event) => self.receive_peer_event(index, event)?,
            SimEvent::Gossip(index, peer, message) => self.receive_gossip(index, peer, &message)?,
            SimEvent::Request(request) => self.receive_request(request)?,
            SimEvent::ConnectionLost(index, peer) => self.lose_connection(index, peer),
            SimEvent::Dial(index) => self.dial(index),
            SimEvent::DropConnection(index) => self.drop_connection(index),
            SimEvent::Solve(index, number) => self.solve(index, number)?,
            SimEvent::Pay => self.pay()?,
            SimEvent::Lie(index) => self.lie(index)?,
            SimEvent::Announce(index, header) => self.announce(index, *header),
            SimEvent::Crash(index, number) => self.crash(index, number)?,
            SimEvent::Restart(index) => self.restart(index)?,
            SimEvent::Split => self.split(),
            SimEvent::Heal => self.heal(),
            SimEvent::Inspect => self.inspect()?,
            SimEvent::Equivocate {
                finder,
                height,
                hash,
            } => self.equivocate(finder, height, hash),
            SimEvent::ToggleSilence => self.toggle_silence()?,
            SimEvent::Adversary => self.adversary_acts()?,
            SimEvent::JumpClock(index) => self.jump_clock(index),
            SimEvent::MendClock(index) => self.mend_clock(index),
            SimEvent::Pause(index) => self.pause(index),
            SimEvent::Leave(index) => self.leave(index)?,
        }
        Ok(())
    }

    /// Ends all trouble, lets finality catch up, and waits until all honest nodes have the
    /// same tip.
    fn settle(&mut self) -> Result<(), Violation> {
        self.end_trouble()?;
        self.finalise()?;
        self.mining = false;
        // All that is under way arrives. Then one last block decides between equal tips.
        self.run_for(ARRIVE_US)?;
        self.find_last_block()?;
        let limit_us = self.now_us + SETTLE_SECS_MAX * SECOND_US;
        while !self.honest_agree() {
            if self.now_us >= limit_us {
                return Err(self.disagreement(SETTLE_SECS_MAX));
            }
            self.run_for(SECOND_US)?;
        }
        self.run_for(FINISH_REQUESTS_US)
    }

    /// From now on no message gets lost, no node crashes or lies, and the network is whole.
    /// Nodes that are down start again.
    fn end_trouble(&mut self) -> Result<(), Violation> {
        self.trouble = false;
        self.weather.late_approvals = 0.0;
        self.weather.gossip_loss = 0.0;
        self.weather.request_loss = 0.0;
        self.end_clock_trouble();
        if self.whole_since_us.is_none() {
            self.heal();
        }
        for index in 0..self.nodes.len() {
            let node = &self.nodes[index];
            node.store.crash_at_next_write(None);
            if let Some(journal) = &node.journal {
                journal.stop_crashes();
            }
            if node.core.is_none() {
                self.restart(index)?;
            }
        }
        Ok(())
    }

    /// Mines on until finality has caught up with the chain, if enough validators are
    /// honest. It must do so within some checkpoints.
    ///
    /// The checkpoints up to the highest honest vote do not count: rule 1 may bind honest
    /// validators to different branches there. Above it, all of them can vote alike.
    fn finalise(&mut self) -> Result<(), Violation> {
        if !self.must_finalise() {
            return Ok(());
        }
        let bound = self.best_height().max(self.highest_vote());
        let interval = u64::from(self.settings.checkpoint_interval);
        // At this height, a final block that is not too far behind lies above the bound.
        let clear = bound + LAG_CHECKPOINTS_MAX * interval;
        let limit = bound + CATCH_UP_CHECKPOINTS_MAX * interval;
        while self.best_height() <= clear || self.first_lagging_node(LAG_CHECKPOINTS_MAX).is_some()
        {
            if self.best_height() > limit
                && let Some((index, what)) = self.first_lagging_node(LAG_CHECKPOINTS_MAX)
            {
                return Err(self.violation(Some(index), what + &self.describe_nodes()));
            }
            self.run_for(SECOND_US)?;
        }
        Ok(())
    }

    /// The height of the best tip among honest nodes; 0 if all of them are down.
    fn best_height(&self) -> u64 {
        let tip = self.best_honest().and_then(|index| self.nodes[index].tip());
        tip.map_or(0, |(_, height)| height)
    }
}
