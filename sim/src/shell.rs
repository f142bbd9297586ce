//! The shell around each node's core: it hands events to the core, carries out the
//! effects, and checks both.
//!
//! The real node has its own shell of sockets and threads, which a run leaves out. Start
//! reading at [`Simulation::handle`].

use std::sync::Arc;

use pithead_consensus::{Block, BlockHash};
use pithead_core::node::{Answer, Effect, Event};
use pithead_core::store::Store as _;
use pithead_core::store::schema::ChainEntry;
use pithead_core::sync::{Gossip, GossipId, PeerEffect, PeerEvent, PeerKey, Verdict};

use crate::checks::costs::EventSize;
use crate::checks::limits::check_sync_usage;
use crate::checks::votes::ChainView;
use crate::events::SECOND_US;
use crate::nodes::crash_store::CrashStore;
use crate::nodes::gossip::GossipMessage;
use crate::nodes::vote_journal::SimVoteJournal;
use crate::settings::InjectedFault;
use crate::violation::Violation;
use crate::world::Simulation;

/// How long a node refuses a peer that it has banned.
const BAN_US: u64 = 1_800 * SECOND_US;
/// The most effects of one event, far more than a sound node has. A node that produces
/// effects without end stops the run here.
const EFFECTS_MAX: usize = 50_000;

/// Collects the effects of one event, up to the write at which the process dies.
struct EffectCollector {
    journal: Option<SimVoteJournal>,
    store: Arc<CrashStore>,
    /// The effects that left the process while it lived.
    effects: Vec<Effect>,
    /// How many effects the process produced after its death.
    dropped: usize,
    /// Whether the core noticed that a write had failed, and stopped.
    stopped: bool,
}

impl EffectCollector {
    fn new(journal: Option<SimVoteJournal>, store: Arc<CrashStore>) -> Self {
        if let Some(journal) = &journal {
            journal.begin_event();
        }
        Self {
            journal,
            store,
            effects: Vec::new(),
            dropped: 0,
            stopped: false,
        }
    }

    /// Whether the process has died at a write.
    fn is_dead(&self) -> bool {
        let at_vote = self.journal.as_ref().is_some_and(SimVoteJournal::has_died);
        at_vote || self.store.is_dead()
    }

    fn push(&mut self, effect: Effect) {
        let at_vote = self
            .journal
            .as_ref()
            .is_some_and(SimVoteJournal::count_effect);
        if at_vote || self.store.is_dead() {
            self.stopped |= matches!(effect, Effect::Fatal(_));
            self.dropped += 1;
        } else {
            self.effects.push(effect);
        }
        assert!(
            self.effects.len() + self.dropped < EFFECTS_MAX,
            "one event has more than {EFFECTS_MAX} effects"
        );
    }
}

impl Simulation {
    /// Hands an event to a node and carries its effects out. Returns `None` if the node is
    /// down, or if it died while it handled the event.
    pub(crate) fn handle(
        &mut self,
        index: usize,
        event: Event,
    ) -> Result<Option<Answer>, Violation> {
        let node = &mut self.nodes[index];
        let now = node.now(self.now_us);
        let block = own_block(&event).filter(|_| node.is_honest());
        let Some(core) = node.core.as_mut() else {
            return Ok(None);
        };
        let (size, height) = (EventSize::of(&event), core.chain().tip().height.0);
        let reads = node.store.reads();
        self.digest.event(self.now_us, index, &event);
        let before = node.journal.as_ref().map(|_| ChainView::of(core));
        let mut collector = EffectCollector::new(node.journal.clone(), Arc::clone(&node.store));
        let answer = core.handle_into(event, now, &mut |effect| collector.push(effect));
        while !collector.is_dead() && core.has_more() {
            core.handle_into(Event::Continue, now, &mut |effect| collector.push(effect));
        }
        if !collector.is_dead()
            && let Err(what) = check_sync_usage(&core.sync_usage(), &mut node.sync_peak)
        {
            return Err(self.violation(Some(index), what));
        }
        let reads = node.store.reads() - reads;
        self.check_cost(index, size, reads, (height, &collector.effects))?;
        let survived = self.conclude(index, before.as_ref(), collector)?;
        if let Some(block) = block {
            self.check_answer(index, &block, &answer)?;
        }
        Ok(survived.then_some(answer))
    }

    /// Checks the effects of an event and carries them out. Returns whether the process
    /// still lives.
    fn conclude(
        &mut self,
        index: usize,
        before: Option<&ChainView>,
        collector: EffectCollector,
    ) -> Result<bool, Violation> {
        let journal = collector.journal.as_ref();
        if let Some(what) = journal.and_then(SimVoteJournal::take_violation) {
            return Err(self.violation(Some(index), what));
        }
        if let Some(before) = before {
            self.check_votes_cast(index, before, &collector.effects)?;
        }
        let (died, stopped) = (collector.is_dead(), collector.stopped);
        for effect in collector.effects {
            self.digest.effect(&effect);
            self.carry_out(index, effect)?;
        }
        if !died {
            self.check_chain(index)?;
            return Ok(true);
        }
        if !stopped {
            let what = "it goes on although what it was writing may not be on disk";
            return Err(self.violation(Some(index), what));
        }
        self.crash_now(index)?;
        Ok(false)
    }

    fn carry_out(&mut self, index: usize, effect: Effect) -> Result<(), Violation> {
        match effect {
            Effect::Peer(PeerEffect::Request { peer, id, request }) => {
                self.send_request(index, peer, id, request)
            }
            Effect::Peer(PeerEffect::Verdict { peer, id, verdict }) => {
                self.settle_gossip(index, peer, id, verdict)?;
            }
            Effect::Peer(PeerEffect::Publish(gossip)) => self.publish(index, gossip)?,
            Effect::Peer(PeerEffect::BlockValidated(block)) => {
                self.record_arrival(index, &block.hash());
                self.nodes[index].recent.push(block);
            }
            Effect::TipChanged { tip, disconnected } => {
                self.tip_changed(index, &tip, disconnected)?;
            }
            Effect::Peer(PeerEffect::Disconnect { peer, reason, ban }) => {
                self.disconnect(index, peer, ban, &reason.to_string())?;
            }
            Effect::Peer(PeerEffect::Scored { peer, points }) => {
                self.record_score(index, peer, points)
            }
            Effect::SyncChanged(status) => {
                let was = std::mem::replace(&mut self.nodes[index].syncing, status.syncing);
                if was && !status.syncing {
                    self.schedule_solution(index);
                }
            }
            Effect::Fatal(reason) => {
                return Err(self.violation(Some(index), format!("it gave up: {reason}")));
            }
            Effect::FinalityMoved(status) => {
                if self.nodes[index].is_honest() {
                    self.check_final(index, &status)?;
                }
            }
            Effect::NewTemplate(template) => {
                if self.nodes[index].is_honest() {
                    self.check_template(index, &template)?;
                }
            }
            Effect::ApprovalsChanged | Effect::Pending(_) => {}
        }
        Ok(())
    }

    /// Checks an honest node's new tip, and lets the node's miner work on it.
    fn tip_changed(
        &mut self,
        index: usize,
        tip: &ChainEntry,
        disconnected: usize,
    ) -> Result<(), Violation> {
        if self.nodes[index].is_honest() {
            self.counters.count_reorganisation(disconnected);
            let checked = self.model.check_tip(tip);
            checked.map_err(|what| self.violation(Some(index), what))?;
            self.check_accounts(index, &tip.hash())?;
            self.check_connected(index, &tip.hash())?;
            self.check_depth(index, disconnected)?;
        }
        self.schedule_solution(index);
        Ok(())
    }

    /// Compares a node's accounts with the model, if `tip` is still its tip.
    fn check_accounts(&self, index: usize, tip: &BlockHash) -> Result<(), Violation> {
        let node = &self.nodes[index];
        if node.tip().map(|(hash, _)| hash) != Some(*tip) {
            return Ok(());
        }
        let snapshot = node.store.snapshot();
        let checked = snapshot.and_then(|at| self.model.check_accounts(tip, at.as_ref()));
        checked
            .map_err(|error| self.storage_failed(index, &error))?
            .map_err(|what| self.violation(Some(index), what))
    }

    /// Closes a connection as a node wishes. An honest node must never ban another.
    fn disconnect(
        &mut self,
        index: usize,
        peer: PeerKey,
        ban: bool,
        reason: &str,
    ) -> Result<(), Violation> {
        let Some(end) = self.nodes[index].connections.get(&peer) else {
            return Ok(());
        };
        let other = end.other;
        if ban {
            let until = self.now_us + BAN_US;
            self.nodes[index].banned.insert(other, until);
            self.counters.bans += 1;
        }
        let both_honest = self.nodes[index].is_honest() && self.nodes[other].is_honest();
        if ban && both_honest {
            let what = format!("it banned node {other}, an honest one: {reason}");
            return Err(self.violation(Some(index), what));
        }
        self.counters.dismissals += u64::from(!ban && both_honest);
        self.close_connection(index, peer);
        Ok(())
    }

    /// Notes how many penalty points an honest node gives another honest one.
    fn record_score(&mut self, index: usize, peer: PeerKey, points: u32) {
        let node = &self.nodes[index];
        let other = node.connections.get(&peer).map(|end| end.other);
        if let Some(other) = other
            && node.is_honest()
            && self.nodes[other].is_honest()
        {
            let most = &mut self.counters.honest_points_max;
            *most = (*most).max(points);
        }
    }

    /// The core has given its verdict on a gossip message: accepted messages are forwarded.
    fn settle_gossip(
        &mut self,
        index: usize,
        peer: PeerKey,
        id: GossipId,
        verdict: Verdict,
    ) -> Result<(), Violation> {
        let waiting = self.nodes[index].awaiting_verdict.remove(&id);
        let Some((from, message)) = waiting else {
            // Messages of a peer that is gone are dropped without a verdict.
            if self.nodes[index].connections.contains_key(&peer) {
                let what = "a verdict on gossip that did not come, or a second one";
                return Err(self.violation(Some(index), what));
            }
            return Ok(());
        };
        if verdict == Verdict::Accept
            && let Gossip::Approval(signed) = &message.gossip
        {
            self.check_vote_accepted(index, signed)?;
        }
        let is_forwarded = self.settings.fault == Some(InjectedFault::ForwardUnjudged);
        if verdict == Verdict::Accept && !is_forwarded {
            self.forward(index, &message, Some(from));
        }
        Ok(())
    }

    fn publish(&mut self, index: usize, gossip: Gossip) -> Result<(), Violation> {
        if let Gossip::Approval(signed) = &gossip {
            self.check_vote_sent(index, signed)?;
        }
        let message = Arc::new(GossipMessage::new(gossip));
        let now_us = self.now_us;
        self.nodes[index].seen.insert(message.id, now_us);
        self.forward(index, &message, None);
        Ok(())
    }

    /// Hands a gossip message to a node that has not seen it yet.
    pub(crate) fn receive_gossip(
        &mut self,
        index: usize,
        peer: PeerKey,
        message: &Arc<GossipMessage>,
    ) -> Result<(), Violation> {
        let now_us = self.now_us;
        let id = GossipId(self.next_number());
        let node = &mut self.nodes[index];
        if node.core.is_none()
            || !node.connections.contains_key(&peer)
            || !node.seen.insert(message.id, now_us)
        {
            return Ok(());
        }
        node.awaiting_verdict
            .insert(id, (peer, Arc::clone(message)));
        if self.settings.fault == Some(InjectedFault::ForwardUnjudged) {
            self.forward(index, message, Some(peer));
        }
        let gossip = message.gossip.clone();
        let event = PeerEvent::Gossip { peer, id, gossip };
        self.handle(index, Event::Peer(event)).map(drop)
    }

    /// Notes when a block was validated at an honest node that was up and had caught up
    /// when the block was found.
    fn record_arrival(&mut self, index: usize, hash: &BlockHash) {
        let (now_us, node) = (self.now_us, &self.nodes[index]);
        let Some(found) = self.model.get_mut(hash) else {
            return;
        };
        if node.syncing || node.online_since_us > found.at_us || !node.is_honest() {
            return;
        }
        let ms = u32::try_from((now_us - found.at_us) / 1_000).unwrap_or(u32::MAX - 1);
        if let Some(arrival) = found.arrivals_ms.get_mut(index) {
            *arrival = (*arrival).min(ms);
        }
    }
}

/// The block that a node's own user hands in by this event.
fn own_block(event: &Event) -> Option<Block> {
    match event {
        Event::Block(block) => Some(block.as_ref().clone()),
        _ => None,
    }
}
