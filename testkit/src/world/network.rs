//! The network: members and their links, the queue of what is under way between them, and the
//! virtual clock. Requests and answers pass through the codec, as on a wire; gossip may be lost.
//! What tests do to members is in `actions`, what they look at in `observe`.

use std::collections::BTreeMap;
use std::sync::Arc;

use pithead_consensus::genesis::GenesisFile;
use pithead_consensus::{Block, Decode as _, Encode as _, Genesis};
use pithead_core::node::{Answer, Effect, Event, Now};
use pithead_core::store::Store;
use pithead_core::sync::{
    Gossip, GossipId, PeerEffect, PeerEvent, PeerKey, RecentBlocks, Request, RequestFailure,
    RequestId, Response, Status, SyncUsage, Verdict, serve,
};

use super::member::{Journal, Member, Reply, voter};
use crate::nodes;

/// How long a message is under way, milliseconds.
pub(super) const LATENCY_MS: u64 = 20;
/// How long a node's network shell waits for an answer, milliseconds.
const SHELL_TIMEOUT_MS: u64 = 20_000;
/// How long gossip is remembered, milliseconds.
const SEEN_MS: u64 = 60_000;

/// Something that is under way, for the member of an index.
pub(super) enum Delivery {
    /// A member hears of something that a peer does.
    Event(usize, PeerEvent),
    /// A request of a member comes to the peer that it asked.
    Ask(usize, PeerKey, RequestId, Request),
    /// A second has passed for a member.
    Tick(usize),
}

/// A network in memory.
pub struct World {
    pub file: GenesisFile,
    pub genesis: Genesis,
    pub members: Vec<Member>,
    /// One gossip message in so many is lost; with 0, all arrive.
    pub loss: u64,
    pub(super) now_ms: u64,
    /// By the time of arrival; of one time, in the order of sending.
    queue: BTreeMap<(u64, u64), Delivery>,
    /// The last number given to a link, a message or a delivery.
    pub(super) last: u64,
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl World {
    /// A network on the genesis of [`nodes::file`], without members.
    pub fn new() -> Self {
        Self::on(nodes::file())
    }

    /// A network on another genesis, without members.
    pub fn on(file: GenesisFile) -> Self {
        Self {
            genesis: file.check().unwrap(),
            file,
            members: Vec::new(),
            loss: 0,
            now_ms: 0,
            queue: BTreeMap::new(),
            last: 0,
        }
    }

    pub(super) fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    pub(super) fn after(&mut self, ms: u64, delivery: Delivery) {
        let number = self.number();
        self.queue.insert((self.now_ms + ms, number), delivery);
    }

    /// The network's time, Unix seconds; a member's clock may differ.
    pub fn unix_secs(&self) -> u64 {
        nodes::NOW + self.now_ms / 1_000
    }

    pub(super) fn now(&self, index: usize) -> Now {
        Now {
            unix_secs: self
                .unix_secs()
                .saturating_add_signed(self.members[index].skew_secs),
            monotonic_ms: self.now_ms,
        }
    }

    /// A node that has these blocks.
    pub fn add(&mut self, blocks: &[Block]) -> usize {
        self.add_on(nodes::memory(), blocks)
    }

    /// A node on a given store that gets these blocks.
    pub fn add_on(&mut self, store: Arc<dyn Store>, blocks: &[Block]) -> usize {
        let mut node = nodes::open(&store, &self.genesis, self.unix_secs());
        nodes::give_all(&mut node, blocks, self.unix_secs());
        let index = self.members.len();
        self.members.push(Member::new(node, store));
        let phase = 37 * index as u64 % 1_000;
        self.after(phase, Delivery::Tick(index));
        index
    }

    /// A validator with a test key that has these blocks.
    pub fn add_validator(&mut self, blocks: &[Block], key: usize) -> usize {
        let index = self.add(blocks);
        let journal = Journal::default();
        let node = self.members[index].node.take().unwrap();
        self.members[index].node = Some(node.with_voter(voter(key, &journal)));
        self.members[index].journal = Some((key, journal));
        index
    }

    /// A node that has these blocks and answers by a policy of its own.
    pub fn add_odd(
        &mut self,
        blocks: &[Block],
        policy: impl FnMut(&Request, Response) -> Reply + 'static,
    ) -> usize {
        let index = self.add(blocks);
        self.members[index].policy = Some(Box::new(policy));
        index
    }

    /// Connects two members: an outbound connection of the first, an inbound one of the second.
    pub fn connect(&mut self, a: usize, b: usize) {
        let (key_a, key_b) = (PeerKey(self.number()), PeerKey(self.number()));
        self.members[a].links.insert(key_a, (b, key_b));
        self.members[b].links.insert(key_b, (a, key_a));
        for (index, peer, inbound) in [(a, key_a, false), (b, key_b, true)] {
            let event = PeerEvent::Connected { peer, inbound };
            self.after(0, Delivery::Event(index, event));
        }
    }

    /// Cuts the connection between two members.
    pub fn disconnect(&mut self, a: usize, b: usize) {
        let keys: Vec<PeerKey> = self.members[a]
            .links
            .iter()
            .filter(|(_, (other, _))| *other == b)
            .map(|(key, _)| *key)
            .collect();
        for key in keys {
            self.cut(a, key);
            let event = PeerEvent::Disconnected { peer: key };
            self.after(0, Delivery::Event(a, event));
        }
    }

    /// Takes a link away. The other member hears of it after the usual latency.
    fn cut(&mut self, index: usize, key: PeerKey) {
        if let Some((other, other_key)) = self.members[index].links.remove(&key) {
            self.members[other].links.remove(&other_key);
            let event = PeerEvent::Disconnected { peer: other_key };
            self.after(LATENCY_MS, Delivery::Event(other, event));
        }
    }

    pub(super) fn key_of(&self, at: usize, other: usize) -> PeerKey {
        let mut links = self.members[at].links.iter();
        let (key, _) = links.find(|(_, (to, _))| *to == other).expect("a link");
        *key
    }

    /// Ends a node and starts it again on its store.
    pub fn restart(&mut self, index: usize) {
        let others: Vec<usize> = self.members[index]
            .links
            .values()
            .map(|(other, _)| *other)
            .collect();
        for other in &others {
            self.disconnect(index, *other);
        }
        self.members[index].node = None;
        let store = Arc::clone(&self.members[index].store);
        let mut node = nodes::open(&store, &self.genesis, self.unix_secs());
        if let Some((key, journal)) = &self.members[index].journal {
            node = node.with_voter(voter(*key, journal));
        }
        self.members[index].node = Some(node);
        self.members[index].recent = RecentBlocks::default();
        for other in others {
            self.connect(index, other);
        }
    }

    /// Hands an event to a node and carries its effects out.
    pub(super) fn handle(&mut self, index: usize, event: Event) -> Option<Answer> {
        let now = self.now(index);
        let member = &mut self.members[index];
        let node = member.node.as_mut()?;
        let mut effects = Vec::new();
        let answer = node.handle_into(event, now, &mut |effect| effects.push(effect));
        while node.has_more() {
            node.handle_into(Event::Continue, now, &mut |effect| effects.push(effect));
        }
        let usage = node.sync_usage();
        raise(&mut member.most, &usage);
        for effect in effects {
            self.carry_out(index, effect);
        }
        Some(answer)
    }

    fn carry_out(&mut self, index: usize, effect: Effect) {
        let other = |world: &Self, peer: &PeerKey| {
            let links = &world.members[index].links;
            links.get(peer).map(|(other, _)| *other)
        };
        match effect {
            Effect::Peer(PeerEffect::Request { peer, id, request }) => {
                if let Some(other) = other(self, &peer) {
                    self.members[index].asked.push((other, request.clone()));
                    // Through the codec, as on a wire.
                    let request = Request::decode(&request.encode()).unwrap();
                    self.after(LATENCY_MS, Delivery::Ask(index, peer, id, request));
                }
            }
            Effect::Peer(PeerEffect::Verdict { peer, id, verdict }) => {
                let Some((from, gossip)) = self.members[index].gossiped.remove(&id) else {
                    panic!("a verdict on what did not come, or a second one");
                };
                assert_eq!(from, peer);
                if let Some(other) = other(self, &peer) {
                    self.members[index].verdicts.push((other, verdict));
                }
                if verdict == Verdict::Accept {
                    self.members[index].trace.push("accept");
                    self.spread(index, &gossip, Some(peer));
                }
            }
            Effect::Peer(PeerEffect::Publish(gossip)) => {
                self.members[index].trace.push("publish");
                self.members[index].published.push(gossip.clone());
                let before = self.members[index].seen.get(&name_of(&gossip)).copied();
                let fresh = self.now_ms.saturating_sub(SEEN_MS);
                // Gossip carries no message twice: peers hear of a block by the status instead.
                if before.is_none_or(|when| when <= fresh) {
                    self.spread(index, &gossip, None);
                } else if matches!(gossip, Gossip::Block(_)) {
                    self.tell_status(index);
                }
            }
            Effect::Peer(PeerEffect::BlockValidated(block)) => {
                self.members[index].trace.push("validated");
                self.members[index].recent.push(block);
            }
            Effect::TipChanged { .. } => self.members[index].trace.push("tip"),
            Effect::Peer(PeerEffect::Disconnect { peer, reason, ban }) => {
                if let Some(other) = other(self, &peer) {
                    self.members[index].dropped.push((other, reason, ban));
                    self.cut(index, peer);
                    let event = PeerEvent::Disconnected { peer };
                    self.after(0, Delivery::Event(index, event));
                }
            }
            Effect::Peer(PeerEffect::Scored { peer, points }) => {
                if let Some(other) = other(self, &peer) {
                    self.members[index].scored.push((other, points));
                }
            }
            Effect::SyncChanged(status) => {
                let changes = &mut self.members[index].sync_changes;
                if changes.last() != Some(&status.syncing) {
                    changes.push(status.syncing);
                }
            }
            Effect::Fatal(reason) => panic!("{reason}"),
            Effect::FinalityMoved(status) => self.members[index].moved.push(status),
            Effect::ApprovalsChanged | Effect::NewTemplate(_) | Effect::Pending(_) => {}
        }
    }

    /// Sends gossip to all peers but the one that it came from.
    fn spread(&mut self, index: usize, gossip: &Gossip, from: Option<PeerKey>) {
        let name = name_of(gossip);
        let now_ms = self.now_ms;
        self.members[index].seen.insert(name.clone(), now_ms);
        let links: Vec<(PeerKey, usize, PeerKey)> = self.members[index]
            .links
            .iter()
            .filter(|(key, _)| Some(**key) != from)
            .map(|(key, (other, other_key))| (*key, *other, *other_key))
            .collect();
        for (_, other, peer) in links {
            let id = GossipId(self.number());
            if self.loss > 0 && scatter(id.0).is_multiple_of(self.loss) {
                continue;
            }
            let gossip = gossip.clone();
            let event = PeerEvent::Gossip { peer, id, gossip };
            self.after(LATENCY_MS, Delivery::Event(other, event));
        }
    }

    /// Sends a member's status to all its peers.
    fn tell_status(&mut self, index: usize) {
        let status = {
            let node = self.node(index);
            let tip = node.chain().tip();
            let finality = node.finality().read().unwrap();
            Status {
                best_hash: tip.hash(),
                height: tip.height,
                chain_work: tip.chain_work,
                approved: finality.status().approved,
            }
        };
        let links: Vec<_> = self.members[index].links.values().copied().collect();
        for (other, peer) in links {
            let event = PeerEvent::Status { peer, status };
            self.after(LATENCY_MS, Delivery::Event(other, event));
        }
    }

    fn deliver(&mut self, delivery: Delivery) {
        match delivery {
            Delivery::Tick(index) => {
                self.handle(index, Event::Tick);
                self.after(1_000, Delivery::Tick(index));
            }
            Delivery::Ask(asker, peer, id, request) => self.answer(asker, peer, id, &request),
            Delivery::Event(index, event) => {
                if let PeerEvent::Gossip { peer, id, gossip } = &event {
                    if !self.members[index].links.contains_key(peer) {
                        return;
                    }
                    let fresh = self.now_ms.saturating_sub(SEEN_MS);
                    let name = name_of(gossip);
                    let member = &mut self.members[index];
                    // Gossip that a test injected is registered already, and always judged.
                    if !member.gossiped.contains_key(id) {
                        let before = member.seen.insert(name, self.now_ms);
                        if before.is_some_and(|when| when >= fresh) {
                            return;
                        }
                        member.gossiped.insert(*id, (*peer, gossip.clone()));
                    }
                }
                self.handle(index, Event::Peer(event));
            }
        }
    }

    fn answer(&mut self, asker: usize, peer: PeerKey, id: RequestId, request: &Request) {
        let Some((other, key)) = self.members[asker].links.get(&peer).copied() else {
            return;
        };
        if self.members[other].node.is_none() {
            return;
        }
        // A request for the status tells the asker's own. With a policy, only answers do.
        if let (Request::Status(status), None) = (request, &self.members[asker].policy) {
            let last = &mut self.members[other].last_status;
            if last.insert(key, status.best_hash) != Some(status.best_hash) {
                let (peer, status) = (key, *status);
                self.handle(other, Event::Peer(PeerEvent::Status { peer, status }));
            }
        }
        let member = &mut self.members[other];
        let Some(node) = &member.node else {
            return;
        };
        let snapshot = node.chain().store().snapshot().unwrap();
        let honest = serve(
            snapshot.as_ref(),
            node.mempool(),
            node.finality(),
            &member.recent,
            request,
        )
        .unwrap();
        let reply = match &mut member.policy {
            Some(policy) => policy(request, honest),
            None => Reply::Answer(honest),
        };
        let (wait, response) = match reply {
            Reply::Answer(response) => {
                let response = Response::decode(&response.encode()).unwrap();
                (LATENCY_MS, Ok(response))
            }
            Reply::Silence => (SHELL_TIMEOUT_MS, Err(RequestFailure::Timeout)),
            Reply::Fails(failure) => (LATENCY_MS, Err(failure)),
        };
        let event = PeerEvent::Response { peer, id, response };
        self.after(wait, Delivery::Event(asker, event));
    }

    /// Lets time pass.
    pub fn run_for(&mut self, ms: u64) {
        let until = self.now_ms + ms;
        while let Some(next) = self.queue.first_entry() {
            let (at, _) = *next.key();
            if at > until {
                break;
            }
            let delivery = next.remove();
            self.now_ms = at;
            self.deliver(delivery);
        }
        self.now_ms = until;
    }

    /// Lets time pass until a condition holds; fails after `limit_ms`.
    pub fn run_until(&mut self, limit_ms: u64, mut holds: impl FnMut(&Self) -> bool) {
        let limit = self.now_ms + limit_ms;
        while !holds(self) {
            assert!(self.now_ms < limit, "it did not come about in time");
            self.run_for(10);
        }
    }
}

/// A number that looks random (a step of xorshift64*).
fn scatter(number: u64) -> u64 {
    let mixed = number ^ (number << 13) ^ 0x5555;
    (mixed ^ (mixed >> 7)).wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32
}

/// The content by which gossip recognises a message.
pub(super) fn name_of(gossip: &Gossip) -> Vec<u8> {
    match gossip {
        Gossip::Block(header) => header.hash().0.to_vec(),
        Gossip::Transaction(transaction) => transaction.encode(),
        Gossip::Approval(signed) => signed.encode(),
    }
}

fn raise(most: &mut SyncUsage, now: &SyncUsage) {
    let up = |most: &mut usize, now: usize| *most = (*most).max(now);
    up(&mut most.peers, now.peers);
    up(&mut most.headers, now.headers);
    up(&mut most.requests, now.requests);
    up(&mut most.bodies, now.bodies);
    up(&mut most.body_bytes, now.body_bytes);
    up(&mut most.held_announcements, now.held_announcements);
    up(&mut most.wanted_transactions, now.wanted_transactions);
    up(&mut most.local_transactions, now.local_transactions);
    up(&mut most.orphan_transactions, now.orphan_transactions);
}
