//! What the shell around a node does: hands it events and carries its effects
//! out.

use std::sync::Arc;

use pithead_consensus::BlockHash;
use pithead_node::node::{Answer, Effect, Event};
use pithead_node::sync::{Gossip, GossipId, PeerEvent, PeerKey, Verdict};

use crate::checks;
use crate::member::Message;
use crate::settings::Plant;
use crate::world::{SECOND_US, Simulation, Violation};

/// How long a banned peer is refused.
const BAN_US: u64 = 1_800 * SECOND_US;

impl Simulation {
    /// Hands an event to a node and carries its effects out.
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
        let mut effects = Vec::new();
        let answer = node.handle_into(event, now, &mut |effect| effects.push(effect));
        while node.has_more() {
            node.handle_into(Event::Continue, now, &mut |effect| effects.push(effect));
        }
        let usage = node.sync_usage();
        if let Err(what) = checks::usage(&usage, &mut member.most) {
            return Err(self.violation(Some(index), what));
        }
        for effect in effects {
            self.digest.effect(&effect);
            self.carry_out(index, effect)?;
        }
        Ok(Some(answer))
    }

    fn died_at_vote(&self, index: usize) -> bool {
        let record = &self.members[index].record;
        record.as_ref().is_some_and(|record| record.take_death())
    }

    fn carry_out(&mut self, index: usize, effect: Effect) -> Result<(), Violation> {
        match effect {
            Effect::Request { peer, id, request } => self.ask(index, peer, id, request),
            Effect::Verdict { peer, id, verdict } => return self.verdict(index, peer, id, verdict),
            Effect::Publish(gossip) => {
                if let Gossip::Approval(signed) = &gossip {
                    self.check_vote(index, signed)?;
                }
                self.publish(index, gossip);
            }
            Effect::BlockValidated(block) => {
                let hash = block.hash();
                self.arrived(index, &hash);
                self.members[index].recent.push(block);
            }
            Effect::TipChanged { tip, disconnected } => {
                if self.members[index].is_honest() {
                    self.measure.reorganised(disconnected);
                    let judged = self.ledger.judge(&tip);
                    judged.map_err(|what| self.violation(Some(index), what))?;
                }
                self.schedule_solution(index);
            }
            Effect::Disconnect { peer, reason, ban } => {
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
            Effect::PeerScored { peer, points } => {
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
            Effect::Fatal(_) if self.died_at_vote(index) => self.crash_now(index)?,
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
