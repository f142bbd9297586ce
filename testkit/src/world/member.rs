//! A member of the network: its node, what it has seen, and what a test looks at afterwards. A
//! member answers honestly unless it has an [`AnswerPolicy`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use pithead_consensus::{Address, BlockHash, Link, Signature, VoteRecord, Work};
use pithead_core::finality::{FinalityStatus, JournalError, Signer, VoteJournal, Voter};
use pithead_core::node::Node;
use pithead_core::store::Store;
use pithead_core::sync::{
    Gossip, GossipId, Offence, PeerKey, RecentBlocks, Request, RequestFailure, Response, Status,
    SyncUsage, Verdict,
};

use crate::key;

/// How a member answers a request, given the honest answer to it.
pub type AnswerPolicy = Box<dyn FnMut(&Request, Response) -> Reply>;

/// What comes of a request.
pub enum Reply {
    /// The asker gets this answer.
    Answer(Response),
    /// No answer comes: the request times out.
    Silence,
    /// The asker's network shell reports this failure after one round trip.
    Fails(RequestFailure),
}

/// The status of a peer that promises far more work than any chain of a test has, on top of a
/// best block that does not exist. `honest` is its honest answer.
pub fn boastful_status(honest: Response) -> Status {
    let Response::Status(status) = honest else {
        panic!("an answer of another kind");
    };
    let mut work = status.chain_work.to_be_bytes();
    work[8] = 0xff;
    Status {
        best_hash: BlockHash([0xee; 32]),
        chain_work: Work::from_be_bytes(work),
        ..status
    }
}

/// A member of the network: its node, and what a test looks at afterwards. Other members are
/// named by their index.
pub struct Member {
    /// `None` only while the member restarts.
    pub(super) node: Option<Node>,
    pub store: Arc<dyn Store>,
    pub(super) recent: RecentBlocks,
    /// For each peer: which member it is, and under which key that member knows this one.
    pub(super) links: BTreeMap<PeerKey, (usize, PeerKey)>,
    /// `None`: it answers honestly.
    pub(super) policy: Option<AnswerPolicy>,
    /// The tip that each peer last told with a request for the status.
    pub(super) last_status: BTreeMap<PeerKey, BlockHash>,
    /// Gossip by its content, with the time when it was last seen: it is not passed on again.
    pub(super) seen: BTreeMap<Vec<u8>, u64>,
    /// Gossip that still needs the node's verdict.
    pub(super) gossiped: BTreeMap<GossipId, (PeerKey, Gossip)>,
    /// Disconnections that the node ordered: the peer, the reason, and whether it is banned.
    pub dropped: Vec<(usize, Offence, bool)>,
    /// Penalties that the node reported: the peer and the points.
    pub scored: Vec<(usize, u32)>,
    /// Verdicts on gossip, by the peer that sent it.
    pub verdicts: Vec<(usize, Verdict)>,
    /// Requests that the node made, by the peer that it asked.
    pub asked: Vec<(usize, Request)>,
    pub published: Vec<Gossip>,
    /// The most that the node's sync ever held, each number by itself.
    pub most: SyncUsage,
    /// How far the member's clock is ahead of the network's, seconds.
    pub skew_secs: i64,
    /// Each change of `syncing`: whether the node fell behind (true) or caught up (false).
    pub sync_changes: Vec<bool>,
    /// Some effects by name, for tests of their order.
    pub trace: Vec<&'static str>,
    /// Each step of finality that the node reported.
    pub moved: Vec<FinalityStatus>,
    /// The number of its test key and its vote record, if the member is a validator.
    pub journal: Option<(usize, Journal)>,
}

impl Member {
    /// An honest member without peers.
    pub(super) fn new(node: Node, store: Arc<dyn Store>) -> Self {
        Self {
            node: Some(node),
            store,
            recent: RecentBlocks::default(),
            links: BTreeMap::new(),
            policy: None,
            last_status: BTreeMap::new(),
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
        }
    }
}

/// A vote record in memory. It outlives the node, as a file would.
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

/// A validator with a test key that has cast the votes of this record.
pub fn voter(key: usize, journal: &Journal) -> Voter {
    let record = journal.record();
    Voter::new(Box::new(TestSigner(key)), Box::new(journal.clone()), record)
}
