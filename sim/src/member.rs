//! A node and the shell around it: its links, its memory of gossip, its line.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::Path;
use std::sync::Arc;

use pithead_consensus::hash::sha256;
use pithead_consensus::{Address, Block, BlockHash, Checkpoint, Encode as _, Genesis};
use pithead_core::finality::Voter;
use pithead_core::mempool::MempoolLimits;
use pithead_core::node::{Node, NodeSettings, Now, TemplatePolicy};
use pithead_core::store::{Store, StoreError};
use pithead_core::sync::{
    Gossip, GossipId, PeerKey, RecentBlocks, Response, SyncSettings, SyncUsage,
};

use crate::geography::Place;
use crate::record::Record;
use crate::store::CrashStore;

/// The genesis time of the simulated network, and the moment at which it starts.
pub(crate) const GENESIS_TIME: u32 = 1_793_491_200;
/// How long gossip is remembered, as the node's shell does.
const SEEN_US: u64 = 120_000_000;
/// Bytes in front of what is gossiped or asked: names of topics and protocols,
/// frames of gossipsub, Yamux, Noise and TCP/IP.
pub(crate) const FRAME_BYTES: usize = 150;
/// The memory pool of a simulated node, bytes.
pub(crate) const MEMPOOL_BYTES_MAX: usize = 4 << 20;

/// What a node is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    Honest,
    /// Honest, with a poor machine behind a poor line.
    Slow,
    Liar,
}

/// A message that is gossiped, the same at every node.
pub(crate) struct Message {
    pub(crate) name: [u8; 32],
    pub(crate) gossip: Gossip,
    pub(crate) bytes: usize,
}

impl Message {
    pub(crate) fn new(gossip: Gossip) -> Self {
        let (name, bytes) = match &gossip {
            Gossip::Block(header) => (header.hash().0, header.encode().len()),
            Gossip::Transaction(transaction) => (transaction.leaf_hash().0, transaction.size()),
            Gossip::Approval(signed) => {
                let raw = signed.encode();
                (sha256(&raw), raw.len())
            }
        };
        Self {
            name,
            gossip,
            bytes: bytes + FRAME_BYTES,
        }
    }
}

/// One end of a connection.
pub(crate) struct Link {
    pub(crate) other: usize,
    pub(crate) other_key: PeerKey,
    pub(crate) outbound: bool,
    /// Median delay, microseconds.
    pub(crate) latency_us: f64,
}

/// Which gossip came lately.
#[derive(Default)]
pub(crate) struct Seen {
    when: HashMap<[u8; 32], u64>,
    order: VecDeque<([u8; 32], u64)>,
}

impl Seen {
    /// Remembers a message; `false` if it is remembered already.
    pub(crate) fn enter(&mut self, name: [u8; 32], now_us: u64) -> bool {
        while let Some((oldest, at)) = self.order.front().copied() {
            if at + SEEN_US > now_us {
                break;
            }
            self.order.pop_front();
            self.when.remove(&oldest);
        }
        if self.when.contains_key(&name) {
            return false;
        }
        self.when.insert(name, now_us);
        self.order.push_back((name, now_us));
        true
    }
}

/// A node of the network.
pub(crate) struct Member {
    /// `None` while it is down.
    pub(crate) node: Option<Node>,
    pub(crate) store: Arc<CrashStore>,
    pub(crate) recent: RecentBlocks,
    pub(crate) links: BTreeMap<PeerKey, Link>,
    pub(crate) seen: Seen,
    /// Gossip that waits for its verdict.
    pub(crate) judged: BTreeMap<GossipId, (PeerKey, Arc<Message>)>,
    /// Until when others are refused, microseconds.
    pub(crate) banned: BTreeMap<usize, u64>,
    /// Whom it connected to first: called again when they are lost.
    pub(crate) partners: Vec<usize>,
    pub(crate) place: Place,
    /// When its line is free again.
    pub(crate) line_free_us: u64,
    /// What it takes to see to a message.
    pub(crate) think_us: u64,
    pub(crate) skew_secs: i64,
    pub(crate) manner: Manner,
    /// Its part of the hash rate.
    pub(crate) hash_share: f64,
    /// The solution that it works towards; an earlier one is void.
    pub(crate) solve_number: u64,
    pub(crate) online_since_us: u64,
    pub(crate) syncing: bool,
    pub(crate) reward_address: Address,
    /// Which of its crashes is due; an earlier one is void.
    pub(crate) crash_number: u64,
    /// Its tip and its last final block, as last looked at.
    pub(crate) stand: Option<(BlockHash, Checkpoint)>,
    /// Votes of validators that lie which its node took for sound, by their number.
    pub(crate) heard: BTreeMap<usize, Vec<pithead_consensus::Link>>,
    /// Blocks of a liar that break a rule, kept to be served.
    pub(crate) forged: BTreeMap<BlockHash, Block>,
    /// What a liar answered before.
    pub(crate) earlier: Option<Response>,
    /// The most that its sync ever held.
    pub(crate) most: SyncUsage,
    /// Its votes, if it is a validator.
    pub(crate) record: Option<Record>,
}

impl Member {
    pub(crate) fn is_honest(&self) -> bool {
        self.manner != Manner::Liar
    }

    /// Its clocks at a moment.
    pub(crate) fn now(&self, now_us: u64) -> Now {
        let secs = u64::from(GENESIS_TIME) + now_us / 1_000_000;
        Now {
            unix_secs: secs.saturating_add_signed(self.skew_secs),
            monotonic_ms: now_us / 1_000,
        }
    }

    /// Starts its node on what is stored.
    pub(crate) fn start(
        &mut self,
        genesis: &Genesis,
        sync_seed: u64,
        voter: Option<Voter>,
        now_us: u64,
    ) -> Result<(), StoreError> {
        let settings = NodeSettings {
            mempool: MempoolLimits {
                bytes_max: MEMPOOL_BYTES_MAX,
                expiry_secs: 3_600,
                min_fee_rate: 1,
            },
            templates: TemplatePolicy {
                refresh_secs: 30,
                growth_percent: 1,
            },
        };
        let store: Arc<dyn Store> = self.store.clone();
        let now = self.now(now_us);
        let node = Node::open(
            store,
            genesis.clone(),
            Path::new("simulation"),
            settings,
            now.unix_secs,
        )?
        .with_sync(SyncSettings {
            seed: sync_seed,
            ..SyncSettings::default()
        });
        let node = match voter {
            Some(voter) => node.with_voter(voter),
            None => node,
        };
        self.syncing = node.sync_status().syncing;
        self.node = Some(node);
        self.recent = RecentBlocks::default();
        self.seen = Seen::default();
        self.judged.clear();
        self.heard.clear();
        self.line_free_us = now_us;
        self.online_since_us = now_us;
        Ok(())
    }

    /// The hash and height of its tip; `None` while it is down.
    pub(crate) fn tip(&self) -> Option<(BlockHash, u64)> {
        let tip = self.node.as_ref()?.chain().tip();
        Some((tip.hash(), tip.height.0))
    }

    /// Connections that it made itself.
    pub(crate) fn outbound(&self) -> usize {
        self.links.values().filter(|link| link.outbound).count()
    }

    pub(crate) fn is_linked(&self, other: usize) -> bool {
        self.links.values().any(|link| link.other == other)
    }

    pub(crate) fn refuses(&self, other: usize, now_us: u64) -> bool {
        self.banned.get(&other).is_some_and(|until| *until > now_us)
    }
}
