//! What the shell around a node does: hands it events and carries its effects
//! out.

use std::sync::Arc;

use pithead_consensus::BlockHash;
use pithead_core::node::{Answer, Effect, Event};
use pithead_core::store::Store as _;
use pithead_core::sync::{Gossip, GossipId, PeerEffect, PeerEvent, PeerKey, Verdict};

use crate::checks;
use crate::finality::Stand;
use crate::member::Message;
use crate::record::Record;
use crate::settings::Plant;
use crate::store::CrashStore;
use crate::world::{SECOND_US, Simulation, Violation};

/// How long a banned peer is refused.
const BAN_US: u64 = 1_800 * SECOND_US;

/// Effects of one event, far more than any has: a node that goes round in circles
/// ends the run.
const EFFECTS_MAX: usize = 50_000;

/// A process while it handles an event: what left it before it died, if it did.
struct Life {
    record: Option<Record>,
    store: Arc<CrashStore>,
    effects: Vec<Effect>,
    dropped: usize,
    /// It noticed that it can't go on.
    gave_up: bool,
}

impl Life {
    fn new(record: Option<Record>, store: Arc<CrashStore>) -> Self {
        if let Some(record) = &record {
            record.begin();
        }
        Self {
            record,
            store,
            effects: Vec::new(),
            dropped: 0,
            gave_up: false,
        }
    }

    fn is_over(&self) -> bool {
        let at_vote = self.record.as_ref().is_some_and(Record::has_died);
        at_vote || self.store.is_dead()
    }

    fn effect(&mut self, effect: Effect) {
        let at_vote = self.record.as_ref().is_some_and(Record::effect);
        if at_vote || self.store.is_dead() {
            self.gave_up |= matches!(effect, Effect::Fatal(_));
            self.dropped += 1;
        } else {
            self.effects.push(effect);
        }
        assert!(
            self.effects.len() + self.dropped < EFFECTS_MAX,
            "one event has no end of effects"
        );
    }
}

impl Simulation {
    /// Hands an event to a node and carries its effects out. `None`: it is down, or
    /// the event was its last.
    pub(crate) fn handle(
        &mut self,
        index: usize,
        event: Event,
    ) -> Result<Option<Answer>, Violation> {
        let member = &mut self.members[index];
        let now = member.now(self.now_us);
        let Some(node) = member.node.as_mut() else {
            return Ok(None);
        };
        self.digest.event(self.now_us, index, &event);
        let before = member.record.as_ref().map(|_| Stand::of(node));
        let mut life = Life::new(member.record.clone(), Arc::clone(&member.store));
        let answer = node.handle_into(event, now, &mut |effect| life.effect(effect));
        while !life.is_over() && node.has_more() {
            node.handle_into(Event::Continue, now, &mut |effect| life.effect(effect));
        }
        if !life.is_over()
            && let Err(what) = checks::usage(&node.sync_usage(), &mut member.most)
        {
            return Err(self.violation(Some(index), what));
        }
        self.conclude(index, before.as_ref(), life, answer)
    }

    /// Looks at what an event led to, and carries it out.
    fn conclude(
        &mut self,
        index: usize,
        before: Option<&Stand>,
        life: Life,
        answer: Answer,
    ) -> Result<Option<Answer>, Violation> {
        let broken = life.record.as_ref().and_then(Record::take_broken);
        if let Some(what) = broken {
            return Err(self.violation(Some(index), what));
        }
        if let Some(before) = before {
            self.check_votes_cast(index, before, &life.effects)?;
        }
        let (dies, gave_up) = (life.is_over(), life.gave_up);
        for effect in life.effects {
            self.digest.effect(&effect);
            self.carry_out(index, effect)?;
        }
        if !dies {
            self.check_stand(index)?;
            return Ok(Some(answer));
        }
        if !gave_up {
            let what = "it goes on although what it was writing may not be on disk";
            return Err(self.violation(Some(index), what));
        }
        self.crash_now(index)?;
        Ok(None)
    }

    fn carry_out(&mut self, index: usize, effect: Effect) -> Result<(), Violation> {
        match effect {
            Effect::Peer(PeerEffect::Request { peer, id, request }) => {
                self.ask(index, peer, id, request)
            }
            Effect::Peer(PeerEffect::Verdict { peer, id, verdict }) => {
                return self.verdict(index, peer, id, verdict);
            }
            Effect::Peer(PeerEffect::Publish(gossip)) => {
                if let Gossip::Approval(signed) = &gossip {
                    self.check_vote_leaves(index, signed)?;
                }
                self.publish(index, gossip);
            }
            Effect::Peer(PeerEffect::BlockValidated(block)) => {
                let hash = block.hash();
                self.arrived(index, &hash);
                self.members[index].recent.push(block);
            }
            Effect::TipChanged { tip, disconnected } => {
                if self.members[index].is_honest() {
                    self.measure.reorganised(disconnected);
                    let judged = self.ledger.judge(&tip);
                    judged.map_err(|what| self.violation(Some(index), what))?;
                    self.judge_accounts(index, &tip.hash())?;
                }
                self.schedule_solution(index);
            }
            Effect::Peer(PeerEffect::Disconnect { peer, reason, ban }) => {
                let Some(link) = self.members[index].links.get(&peer) else {
                    return Ok(());
                };
                let other = link.other;
                if ban {
                    let until = self.now_us + BAN_US;
                    self.members[index].banned.insert(other, until);
                    self.measure.bans += 1;
                }
                let unjust = self.members[index].is_honest() && self.members[other].is_honest();
                if ban && unjust {
                    let what = format!("it banned node {other}, an honest one: {reason}");
                    return Err(self.violation(Some(index), what));
                }
                self.measure.dismissals += u64::from(!ban && unjust);
                self.cut(index, peer);
            }
            Effect::Peer(PeerEffect::Scored { peer, points }) => {
                let other = self.members[index].links.get(&peer).map(|link| link.other);
                if let Some(other) = other
                    && self.members[index].is_honest()
                    && self.members[other].is_honest()
                {
                    self.measure.honest_points_max = self.measure.honest_points_max.max(points);
                }
            }
            Effect::SyncChanged(status) => {
                let was = std::mem::replace(&mut self.members[index].syncing, status.syncing);
                if was && !status.syncing {
                    self.schedule_solution(index);
                }
            }
            Effect::Fatal(reason) => {
                return Err(self.violation(Some(index), format!("it gave up: {reason}")));
            }
            Effect::FinalityMoved(status) => {
                if self.members[index].is_honest() {
                    self.check_final(index, &status)?;
                }
            }
            Effect::ApprovalsChanged | Effect::NewTemplate(_) | Effect::Pending(_) => {}
        }
        Ok(())
    }

    /// Compares a node's accounts with the simulation's, if this is its tip still.
    fn judge_accounts(&self, index: usize, tip: &BlockHash) -> Result<(), Violation> {
        let member = &self.members[index];
        if member.tip().map(|(hash, _)| hash) != Some(*tip) {
            return Ok(());
        }
        let snapshot = member.store.snapshot();
        let judged = snapshot.and_then(|at| self.ledger.judge_accounts(tip, at.as_ref()));
        judged
            .map_err(|error| self.storage_failed(index, &error))?
            .map_err(|what| self.violation(Some(index), what))
    }

    fn verdict(
        &mut self,
        index: usize,
        peer: PeerKey,
        id: GossipId,
        verdict: Verdict,
    ) -> Result<(), Violation> {
        let Some((from, message)) = self.members[index].judged.remove(&id) else {
            if self.members[index].links.contains_key(&peer) {
                let what = "a verdict on gossip that did not come, or a second one";
                return Err(self.violation(Some(index), what));
            }
            return Ok(());
        };
        if verdict == Verdict::Accept
            && let Gossip::Approval(signed) = &message.gossip
        {
            self.check_heard(index, signed)?;
        }
        let early = self.settings.plant == Some(Plant::ForwardUnjudged);
        if verdict == Verdict::Accept && !early {
            self.spread(index, &message, Some(from));
        }
        Ok(())
    }

    fn publish(&mut self, index: usize, gossip: Gossip) {
        let message = Arc::new(Message::new(gossip));
        let now_us = self.now_us;
        self.members[index].seen.enter(message.name, now_us);
        self.spread(index, &message, None);
    }

    pub(crate) fn gossip_came(
        &mut self,
        index: usize,
        peer: PeerKey,
        message: &Arc<Message>,
    ) -> Result<(), Violation> {
        let now_us = self.now_us;
        let id = GossipId(self.number());
        let member = &mut self.members[index];
        if member.node.is_none()
            || !member.links.contains_key(&peer)
            || !member.seen.enter(message.name, now_us)
        {
            return Ok(());
        }
        member.judged.insert(id, (peer, Arc::clone(message)));
        if self.settings.plant == Some(Plant::ForwardUnjudged) {
            self.spread(index, message, Some(peer));
        }
        let gossip = message.gossip.clone();
        let event = PeerEvent::Gossip { peer, id, gossip };
        self.handle(index, Event::Peer(event)).map(drop)
    }

    /// Notes that a block has come to a node.
    fn arrived(&mut self, index: usize, hash: &BlockHash) {
        let (now_us, member) = (self.now_us, &self.members[index]);
        let Some(found) = self.ledger.get_mut(hash) else {
            return;
        };
        if member.syncing || member.online_since_us > found.at_us || !member.is_honest() {
            return;
        }
        let ms = u32::try_from((now_us - found.at_us) / 1_000).unwrap_or(u32::MAX - 1);
        if let Some(arrival) = found.arrivals_ms.get_mut(index) {
            *arrival = (*arrival).min(ms);
        }
    }
}
