//! A node on a store that counts, and what an event costs it.

use std::fmt;
use std::sync::Arc;

use pithead_consensus::genesis::GenesisFile;
use pithead_consensus::key::counter::signature_checks;
use pithead_consensus::{Block, Checkpoint, Genesis, Height, Work};
use pithead_core::chain::oracle::without_oracle;
use pithead_core::mempool::MempoolLimits;
use pithead_core::node::{Answer, Effect, Event, Node, NodeSettings, Now, TemplatePolicy};
use pithead_core::store::Store;
use pithead_core::sync::{
    Gossip, GossipId, PeerEffect, PeerEvent, PeerKey, RecentBlocks, Request, RequestId, Response,
    Status, serve,
};
use pithead_testkit::nodes::{NOW, give_all};
use pithead_testkit::watched_store::Watched;

/// The only peer of the node.
pub(crate) const PEER: PeerKey = PeerKey(1);
/// How many seconds pass until the node has asked the peer for something, at most.
const ASKED_SECS_MAX: u64 = 60;

/// What an input costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cost {
    /// Questions to the store.
    pub(crate) reads: usize,
    /// Bytes that the store gave.
    pub(crate) bytes: usize,
    /// Signatures that were checked.
    pub(crate) signatures: usize,
}

impl Cost {
    pub(crate) fn is_within(&self, budget: &Self) -> bool {
        self.reads <= budget.reads
            && self.bytes <= budget.bytes
            && self.signatures <= budget.signatures
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} reads, {} bytes, {} signatures",
            self.reads, self.bytes, self.signatures
        )
    }
}

/// A node under measurement.
pub(crate) struct Bench {
    pub(crate) genesis: Genesis,
    pub(crate) store: Arc<Watched>,
    pub(crate) node: Node,
    now: Now,
    gossiped: u64,
    /// The requests that the node has made and that were not answered, oldest first.
    asked: Vec<(RequestId, Request)>,
}

impl Bench {
    /// A node with these blocks and a mempool of this size.
    pub(crate) fn with_pool(file: &GenesisFile, blocks: &[Block], mempool_bytes: usize) -> Self {
        let genesis = file.check().unwrap();
        let store = Watched::new();
        let settings = NodeSettings {
            mempool: MempoolLimits {
                bytes_max: mempool_bytes,
                expiry_secs: 3_600,
                min_fee_rate: 1,
            },
            templates: TemplatePolicy {
                refresh_secs: 30,
                growth_percent: 1,
            },
        };
        let shared: Arc<dyn Store> = store.clone();
        let path = std::path::Path::new("test");
        let mut node = Node::open(shared, genesis.clone(), path, settings, NOW).unwrap();
        give_all(&mut node, blocks, NOW);
        Self {
            genesis,
            store,
            node,
            now: Now::from(NOW),
            gossiped: 0,
            asked: Vec::new(),
        }
    }

    /// A node with these blocks.
    pub(crate) fn new(file: &GenesisFile, blocks: &[Block]) -> Self {
        Self::with_pool(file, blocks, 1 << 20)
    }

    /// What `act` costs.
    pub(crate) fn cost(&mut self, act: impl FnOnce(&mut Self)) -> Cost {
        let before = (
            self.store.reads(),
            self.store.bytes_read(),
            signature_checks(),
        );
        without_oracle(|| act(self));
        Cost {
            reads: self.store.reads() - before.0,
            bytes: self.store.bytes_read() - before.1,
            signatures: usize::try_from(signature_checks() - before.2).unwrap(),
        }
    }

    /// What an event costs.
    pub(crate) fn cost_of(&mut self, event: Event) -> Cost {
        self.cost(|bench| drop(bench.handle(event)))
    }

    /// Handles an event, and notes what the node asks of its peer.
    pub(crate) fn handle(&mut self, event: Event) -> (Answer, Vec<Effect>) {
        let (answer, effects) = self.node.handle(event, self.now);
        for effect in &effects {
            match effect {
                Effect::Peer(PeerEffect::Request { id, request, .. }) => {
                    self.asked.push((*id, request.clone()));
                }
                Effect::Fatal(reason) => panic!("{reason}"),
                _ => {}
            }
        }
        (answer, effects)
    }

    /// A second passes.
    pub(crate) fn tick(&mut self) {
        self.now.unix_secs += 1;
        self.now.monotonic_ms += 1_000;
        self.handle(Event::Tick);
    }

    /// Connects the peer. It claims a chain with far more work than the node's, and a higher
    /// approved checkpoint.
    pub(crate) fn connect_peer(&mut self, approved: Checkpoint) {
        self.handle(Event::Peer(PeerEvent::Connected {
            peer: PEER,
            inbound: false,
        }));
        let status = self.boast(approved);
        let id = self.await_request(|request| matches!(request, Request::Status(_)));
        self.answer(id, Response::Status(status));
    }

    fn boast(&self, approved: Checkpoint) -> Status {
        let tip = self.node.chain().tip();
        let mut work = tip.chain_work.to_be_bytes();
        work[8] = 0xff;
        Status {
            best_hash: pithead_consensus::BlockHash([0xee; 32]),
            height: Height(tip.height.0 + 10_000),
            chain_work: Work::from_be_bytes(work),
            approved,
        }
    }

    /// Waits until the node has asked its peer such a question.
    pub(crate) fn await_request(&mut self, is_it: impl Fn(&Request) -> bool) -> RequestId {
        for _ in 0..ASKED_SECS_MAX {
            if let Some(at) = self.asked.iter().position(|(_, request)| is_it(request)) {
                return self.asked.remove(at).0;
            }
            self.tick();
        }
        panic!("the node does not ask; it asked {:?}", self.asked);
    }

    /// The peer answers.
    pub(crate) fn answer(&mut self, id: RequestId, response: Response) {
        self.handle(answer_event(id, response));
    }

    /// The event of gossip from the peer.
    pub(crate) fn gossip(&mut self, gossip: Gossip) -> Event {
        self.gossiped += 1;
        Event::Peer(PeerEvent::Gossip {
            peer: PEER,
            id: GossipId(self.gossiped),
            gossip,
        })
    }

    /// What the answer to a peer's request costs.
    pub(crate) fn cost_of_answer(&mut self, request: &Request) -> Cost {
        self.cost(|bench| {
            let snapshot = bench.store.snapshot().unwrap();
            let (mempool, finality) = (bench.node.mempool(), bench.node.finality());
            let recent = RecentBlocks::default();
            serve(snapshot.as_ref(), mempool, finality, &recent, request).unwrap();
        })
    }
}

/// The event of an answer from the peer.
pub(crate) fn answer_event(id: RequestId, response: Response) -> Event {
    Event::Peer(PeerEvent::Response {
        peer: PEER,
        id,
        response: Ok(response),
    })
}
