//! Nodes wired by a queue under a virtual clock: a network without sockets.
//! Start with [`World::new`] and [`World::add`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use pithead_consensus::genesis::GenesisFile;
use pithead_consensus::{
    Address, Block, BlockHash, BlockHeader, Decode as _, Encode as _, Genesis, Link, Signature,
    SignedTransaction, Txid, VoteRecord,
};
use pithead_core::finality::{FinalityStatus, JournalError, Signer, VoteJournal, Voter};
use pithead_core::node::{Answer, BlockVerdict, Effect, Event, Node, Now, TransactionVerdict};
use pithead_core::store::Store;
use pithead_core::sync::{
    Gossip, GossipId, Offence, PeerEffect, PeerEvent, PeerKey, RecentBlocks, Request,
    RequestFailure, RequestId, Response, Status, SyncUsage, Verdict, serve,
};

use crate::chain::mine;
use crate::{key, nodes};

/// Milliseconds of one way.
const LATENCY_MS: u64 = 20;
/// The shell's own limit for a request, milliseconds.
const SHELL_TIMEOUT_MS: u64 = 20_000;
/// How long gossip is remembered, milliseconds.
const SEEN_MS: u64 = 60_000;

/// How a member answers, other than honestly.
pub type Manner = Box<dyn FnMut(&Request, Response) -> Reply>;

/// What comes of a request.
pub enum Reply {
    /// This answer.
    Answer(Response),
    /// None at all.
    Silence,
    /// The shell says so at once.
    Fails(RequestFailure),
}

/// A member of the network.
pub struct Member {
    node: Option<Node>,
    pub store: Arc<dyn Store>,
    recent: RecentBlocks,
    links: BTreeMap<PeerKey, (usize, PeerKey)>,
    manner: Option<Manner>,
    /// The tip that each peer last told unasked.
    told: BTreeMap<PeerKey, BlockHash>,
    seen: BTreeMap<Vec<u8>, u64>,
    gossiped: BTreeMap<GossipId, (PeerKey, Gossip)>,
    /// Disconnections that it ordered: who, why, whether with a ban.
    pub dropped: Vec<(usize, Offence, bool)>,
    /// Points that it told of: who and how many.
    pub scored: Vec<(usize, u32)>,
    /// Verdicts that it gave.
    pub verdicts: Vec<(usize, Verdict)>,
    /// Requests that it made, by whom they were made of.
    pub asked: Vec<(usize, Request)>,
    /// What it published.
    pub published: Vec<Gossip>,
    /// The most that its sync ever held.
    pub most: SyncUsage,
    /// How far its clock is off, seconds.
    pub skew_secs: i64,
    /// How often it fell behind or caught up.
    pub sync_changes: Vec<bool>,
    /// Effects in order, by name: for tests of their order.
    pub trace: Vec<&'static str>,
    /// How finality moved.
    pub moved: Vec<FinalityStatus>,
    /// Its votes, if it is a validator, and its key.
    pub journal: Option<(usize, Journal)>,
}

/// A vote record in memory: what it holds outlives the node.
#[derive(Debug, Clone, Default)]
pub struct Journal(pub Arc<Mutex<Vec<Link>>>);

impl VoteJournal for Journal {
    fn append(&mut self, link: &Link) -> Result<(), JournalError> {
        self.0.lock().unwrap().push(*link);
        Ok(())
    }
}

impl Journal {
    /// The record as it is read back.
    pub fn record(&self) -> VoteRecord {
        let mut record = VoteRecord::default();
        for link in self.0.lock().unwrap().iter() {
            record.record(*link).unwrap();
        }
        record
    }
}

/// A test key as a validator's.
struct TestSigner(usize);

impl Signer for TestSigner {
    fn address(&self) -> Address {
        key(self.0).address
    }

    fn sign(&self, message: &[u8]) -> Result<Signature, String> {
        Ok(key(self.0).sign(message))
    }
}

/// A validator with a test key and the votes of this journal.
pub fn voter(key: usize, journal: &Journal) -> Voter {
    let record = journal.record();
    Voter::new(Box::new(TestSigner(key)), Box::new(journal.clone()), record)
}

enum Delivery {
    Event(usize, PeerEvent),
    Ask(usize, PeerKey, RequestId, Request),
    Tick(usize),
}

/// The network.
pub struct World {
    pub file: GenesisFile,
    pub genesis: Genesis,
    pub members: Vec<Member>,
    /// One in so many gossip messages is lost; 0: none.
    pub loss: u64,
    now_ms: u64,
    queue: BTreeMap<(u64, u64), Delivery>,
    last: u64,
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

    /// On a network of another genesis.
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

    fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    fn after(&mut self, ms: u64, delivery: Delivery) {
        let number = self.number();
        self.queue.insert((self.now_ms + ms, number), delivery);
    }

    /// The time of the rules, Unix seconds.
    pub fn unix_secs(&self) -> u64 {
        nodes::NOW + self.now_ms / 1_000
    }

    fn now(&self, index: usize) -> Now {
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

    /// The same on a given store.
    pub fn add_on(&mut self, store: Arc<dyn Store>, blocks: &[Block]) -> usize {
        let mut node = nodes::open(&store, &self.genesis, self.unix_secs());
        nodes::give_all(&mut node, blocks, self.unix_secs());
        let index = self.members.len();
        self.members.push(Member {
            node: Some(node),
            store,
            recent: RecentBlocks::default(),
            links: BTreeMap::new(),
            manner: None,
            told: BTreeMap::new(),
            seen: BTreeMap::new(),
            gossiped: BTreeMap::new(),
            dropped: Vec::new(),
            scored: Vec::new(),
            verdicts: Vec::new(),
            asked: Vec::new(),
            published: Vec::new(),
            most: SyncUsage::default(),
            skew_secs: 0,
            sync_changes: Vec::new(),
            trace: Vec::new(),
            moved: Vec::new(),
            journal: None,
        });
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

    /// How far a member's chain is secured: heights of approved and final.
    pub fn secured(&self, index: usize) -> (u64, u64) {
        let state = self.node(index).finality().read().unwrap();
        let status = state.status();
        (status.approved.height.0, status.last_final.height.0)
    }

    /// One that has these blocks and answers in its own manner.
    pub fn add_odd(
        &mut self,
        blocks: &[Block],
        manner: impl FnMut(&Request, Response) -> Reply + 'static,
    ) -> usize {
        let index = self.add(blocks);
        self.members[index].manner = Some(Box::new(manner));
        index
    }

    pub fn node(&self, index: usize) -> &Node {
        self.members[index].node.as_ref().unwrap()
    }

    pub fn tip(&self, index: usize) -> BlockHash {
        self.node(index).chain().tip().hash()
    }

    pub fn height(&self, index: usize) -> u64 {
        self.node(index).chain().tip().height.0
    }

    pub fn has_pending(&self, index: usize, txid: &Txid) -> bool {
        let mempool = self.node(index).mempool();
        let mempool = mempool.read().unwrap_or_else(PoisonError::into_inner);
        mempool.get(txid).is_some()
    }

    /// Connects two members; the first one calls.
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

    /// Takes a link away; the far side is told.
    fn cut(&mut self, index: usize, key: PeerKey) {
        if let Some((other, other_key)) = self.members[index].links.remove(&key) {
            self.members[other].links.remove(&other_key);
            let event = PeerEvent::Disconnected { peer: other_key };
            self.after(LATENCY_MS, Delivery::Event(other, event));
        }
    }

    /// Whether two members are connected.
    pub fn are_connected(&self, a: usize, b: usize) -> bool {
        let mut links = self.members[a].links.values();
        links.any(|(other, _)| *other == b)
    }

    fn key_of(&self, at: usize, other: usize) -> PeerKey {
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

    /// Lets one member gossip something to another, whatever it believes
    /// itself.
    pub fn gossip_to(&mut self, from: usize, to: usize, gossip: Gossip) {
        let peer = self.key_of(to, from);
        let id = GossipId(self.number());
        self.members[to].gossiped.insert(id, (peer, gossip.clone()));
        let event = PeerEvent::Gossip { peer, id, gossip };
        self.after(LATENCY_MS, Delivery::Event(to, event));
    }

    /// The same, and the other's gossip remembers it.
    pub fn spread_to(&mut self, from: usize, to: usize, gossip: Gossip) {
        let now_ms = self.now_ms;
        self.members[to].seen.insert(name_of(&gossip), now_ms);
        self.gossip_to(from, to, gossip);
    }

    /// Lets one member send another an answer that nobody asked for.
    pub fn answer_unasked(&mut self, from: usize, to: usize, response: Response) {
        let event = PeerEvent::Response {
            peer: self.key_of(to, from),
            id: RequestId(u64::MAX - self.last),
            response: Ok(response),
        };
        self.after(LATENCY_MS, Delivery::Event(to, event));
    }

    /// Hands an event to a node and carries its effects out.
    fn handle(&mut self, index: usize, event: Event) -> Option<Answer> {
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
                // Gossip carries nothing twice; of blocks, peers are told directly.
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

    /// Sends gossip on to everyone but where it came from.
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

    /// Tells every peer how far a member's chain reaches.
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
                    // Injected gossip is entered already and always judged.
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
        // What odd ones say of themselves is for their manner to say.
        if let (Request::Status(status), None) = (request, &self.members[asker].manner) {
            let told = &mut self.members[other].told;
            if told.insert(key, status.best_hash) != Some(status.best_hash) {
                let (peer, status) = (key, *status);
                self.handle(other, Event::Peer(PeerEvent::Status { peer, status }));
            }
        }
        let member = &mut self.members[other];
        let Some(node) = &member.node else {
            return;
        };
        let snapshot = node.chain().store().snapshot().unwrap();
        let honest = {
            let mempool = node.mempool().read().unwrap();
            let finality = node.finality().read().unwrap();
            serve(
                snapshot.as_ref(),
                &mempool,
                &finality,
                &member.recent,
                request,
            )
            .unwrap()
        };
        let reply = match &mut member.manner {
            Some(manner) => manner(request, honest),
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

    /// Lets time pass until something holds; fails after `limit_ms`.
    pub fn run_until(&mut self, limit_ms: u64, mut holds: impl FnMut(&Self) -> bool) {
        let limit = self.now_ms + limit_ms;
        while !holds(self) {
            assert!(self.now_ms < limit, "it did not come about in time");
            self.run_for(10);
        }
    }

    /// Lets a node find a block with all that is pending.
    pub fn mine(&mut self, index: usize) -> BlockHeader {
        let Some(Answer::Template(template)) = self.handle(index, Event::FreshTemplate) else {
            panic!("no template");
        };
        let template = template.unwrap();
        let commitment = template.commitment(key(index % 4).address, [index as u8; 8]);
        let mut header = template.header(&commitment);
        header.time = u32::try_from(self.now(index).unix_secs)
            .unwrap()
            .max(template.time_min);
        mine(&mut header);
        self.found(index, template.block(header, commitment));
        header
    }

    /// Hands a node a block of its own miner.
    pub fn found(&mut self, index: usize, block: Block) {
        let answer = self.handle(index, Event::Block(Box::new(block)));
        match answer {
            Some(Answer::Block(Ok(BlockVerdict::NewTip))) => {}
            other => panic!("{other:?}"),
        }
    }

    /// Lets a node have a block that it tells nobody of, whatever its clock.
    pub fn give_later(&mut self, index: usize, block: &Block) {
        let node = self.members[index].node.as_mut().unwrap();
        let now = u64::from(block.header.time).max(nodes::NOW);
        node.handle(Event::Block(Box::new(block.clone())), now);
    }

    /// Hands a node a transaction of its own user.
    pub fn submit(&mut self, index: usize, transaction: SignedTransaction) -> Txid {
        let txid = transaction.txid(&self.genesis.params.genesis_hash);
        let event = Event::Transaction(Box::new(transaction));
        match self.handle(index, event) {
            Some(Answer::Transaction(Ok(TransactionVerdict::Accepted))) => txid,
            other => panic!("{other:?}"),
        }
    }

    /// The same, unless the node refuses it; tells whether it took it.
    pub fn try_submit(&mut self, index: usize, transaction: SignedTransaction) -> bool {
        let event = Event::Transaction(Box::new(transaction));
        let answer = self.handle(index, event);
        matches!(
            answer,
            Some(Answer::Transaction(Ok(TransactionVerdict::Accepted)))
        )
    }

    /// Who of these holds something against whom.
    pub fn blamed_by(&self, members: std::ops::Range<usize>) -> Vec<(usize, usize)> {
        let mut blamed = Vec::new();
        for by in members {
            let scored = self.members[by].scored.iter().map(|(who, _)| *who);
            blamed.extend(scored.map(|who| (by, who)));
        }
        blamed
    }

    /// Members that somebody holds something against.
    pub fn blamed(&self) -> BTreeSet<usize> {
        let scored = self.members.iter().flat_map(|member| &member.scored);
        let dropped = self.members.iter().flat_map(|member| &member.dropped);
        scored
            .map(|(who, _)| *who)
            .chain(dropped.map(|(who, ..)| *who))
            .collect()
    }

    /// Whether one member banned another, and why.
    pub fn ban(&self, by: usize, who: usize) -> Option<Offence> {
        let mut dropped = self.members[by].dropped.iter();
        dropped
            .find(|(other, _, ban)| *other == who && *ban)
            .map(|(_, reason, _)| *reason)
    }

    /// The verdicts that one member gave on what another gossiped.
    pub fn verdicts_on(&self, by: usize, who: usize) -> Vec<Verdict> {
        let verdicts = self.members[by].verdicts.iter();
        verdicts
            .filter(|(other, _)| *other == who)
            .map(|(_, verdict)| *verdict)
            .collect()
    }
}

/// A number that looks random (a step of xorshift64*).
fn scatter(number: u64) -> u64 {
    let mixed = number ^ (number << 13) ^ 0x5555;
    (mixed ^ (mixed >> 7)).wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32
}

fn name_of(gossip: &Gossip) -> Vec<u8> {
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
