//! A simulated node: the real node core, and everything around it that is simulated.
//!
//! The core never sees this file's fields; it only gets events and a clock. What the
//! core produces is carried out in `shell`. Start reading at [`SimNode`].

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLockReadGuard};

use pithead_consensus::{Address, Block, BlockHash, Checkpoint, Genesis, Link};
use pithead_core::chain::{Budget, ReorganisationLimits};
use pithead_core::finality::{FinalityState, FinalityStatus, Voter};
use pithead_core::mempool::{Mempool, MempoolLimits};
use pithead_core::node::{Node, NodeSettings, Now, TemplatePolicy};
use pithead_core::store::{Store, StoreError};
use pithead_core::sync::{GossipId, PeerKey, RecentBlocks, Response, SyncSettings, SyncUsage};

use crate::nodes::crash_store::CrashStore;
use crate::nodes::geography::NodeLocation;
use crate::nodes::gossip::{GossipMessage, SeenCache};
use crate::nodes::vote_journal::SimVoteJournal;

/// The time of the genesis block, Unix seconds. The virtual clock starts at it.
pub(crate) const GENESIS_TIME: u32 = 1_793_491_200;
/// The limit of each node's mempool, bytes.
pub(crate) const MEMPOOL_BYTES_MAX: usize = 4 << 20;
/// Beyond a fork of one block against two, a reorganisation is worked out in pieces. Each piece is a
/// write at which the process may die, so that crashes meet reorganisations under way.
const REORGANISATION_LIMITS: ReorganisationLimits = ReorganisationLimits {
    at_once: Budget {
        blocks: 3,
        bytes: usize::MAX,
    },
    piece: Budget {
        blocks: 2,
        bytes: 16 << 10,
    },
};

/// How a node behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NodeKind {
    /// The node keeps the protocol, on an ordinary machine.
    Honest,
    /// The node keeps the protocol, on a slow machine behind a slow line.
    Slow,
    /// The node sends its peers false messages and responses.
    Liar,
    /// The node went away for good.
    Gone,
}

/// One end of a connection, as the node at this end holds it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConnectionEnd {
    /// The index of the node at the other end.
    pub(crate) other: usize,
    /// The key by which that node knows this connection.
    pub(crate) other_key: PeerKey,
    /// Whether the node at this end made the connection.
    pub(crate) outbound: bool,
    /// Median delay of a message, microseconds.
    pub(crate) latency_us: f64,
}

/// A node of the simulated network.
pub(crate) struct SimNode {
    /// The node's core; `None` while the process is down.
    pub(crate) core: Option<Node>,
    pub(crate) store: Arc<CrashStore>,
    /// Blocks that were validated lately, from which requests are answered.
    pub(crate) recent: RecentBlocks,
    pub(crate) connections: BTreeMap<PeerKey, ConnectionEnd>,
    pub(crate) seen: SeenCache,
    /// Gossip that waits for the core's verdict, each with the peer that sent it.
    pub(crate) awaiting_verdict: BTreeMap<GossipId, (PeerKey, Arc<GossipMessage>)>,
    /// The nodes that this one has banned, each with the end of its ban, microseconds.
    pub(crate) banned: BTreeMap<usize, u64>,
    /// The nodes that this one connected to first. It dials them again whenever they
    /// are lost.
    pub(crate) partners: Vec<usize>,
    pub(crate) location: NodeLocation,
    /// When the node's line has sent all that was put on it, microseconds.
    pub(crate) line_free_us: u64,
    /// How long the node takes to process a message, microseconds.
    pub(crate) processing_us: u64,
    /// How far the node's clock is ahead of the virtual clock, seconds.
    pub(crate) skew_secs: i64,
    /// How far the clock has jumped ahead besides, seconds; 0 while it is right.
    pub(crate) jumped_secs: i64,
    /// Until when the node stands still, microseconds.
    pub(crate) paused_until_us: u64,
    pub(crate) kind: NodeKind,
    /// The node's part of the network's hash rate, between 0 and 1.
    pub(crate) hash_share: f64,
    /// The number of the block search under way. Solutions of earlier searches are void.
    pub(crate) solve_number: u64,
    /// When the process started last, microseconds.
    pub(crate) online_since_us: u64,
    /// Whether the core has said that it is still catching up with the network.
    pub(crate) syncing: bool,
    pub(crate) reward_address: Address,
    /// The number of the crash that was scheduled last. Earlier ones are void.
    pub(crate) crash_number: u64,
    /// The tip and the last final block that were checked last.
    pub(crate) checked: Option<(BlockHash, Checkpoint)>,
    /// The blocks that the oracle has confirmed at this node.
    pub(crate) confirmed: HashSet<BlockHash>,
    /// The votes of lying validators that the core accepted, by validator number.
    pub(crate) accepted_lies: BTreeMap<usize, Vec<Link>>,
    /// Invalid blocks that this node has forged and serves to its peers.
    pub(crate) forged: BTreeMap<BlockHash, Block>,
    /// The last honest response of a lying node, which it may give again.
    pub(crate) last_response: Option<Response>,
    /// The most of everything that the core's sync has ever held.
    pub(crate) sync_peak: SyncUsage,
    /// The vote journal, if the node is a validator.
    pub(crate) journal: Option<SimVoteJournal>,
}

/// How a node is made: everything about it that is drawn or set at the start of a run.
pub(crate) struct NodeTraits {
    pub(crate) kind: NodeKind,
    pub(crate) location: NodeLocation,
    pub(crate) processing_us: u64,
    pub(crate) skew_secs: i64,
    pub(crate) reward_address: Address,
}

impl SimNode {
    /// A node that has not started yet.
    pub(crate) fn new(
        traits: NodeTraits,
        store: CrashStore,
        journal: Option<SimVoteJournal>,
    ) -> Self {
        Self {
            core: None,
            store: Arc::new(store),
            recent: RecentBlocks::default(),
            connections: BTreeMap::new(),
            seen: SeenCache::default(),
            awaiting_verdict: BTreeMap::new(),
            banned: BTreeMap::new(),
            partners: Vec::new(),
            location: traits.location,
            line_free_us: 0,
            processing_us: traits.processing_us,
            skew_secs: traits.skew_secs,
            jumped_secs: 0,
            paused_until_us: 0,
            kind: traits.kind,
            hash_share: 0.0,
            solve_number: 0,
            online_since_us: 0,
            syncing: false,
            reward_address: traits.reward_address,
            crash_number: 0,
            checked: None,
            confirmed: HashSet::new(),
            accepted_lies: BTreeMap::new(),
            forged: BTreeMap::new(),
            last_response: None,
            sync_peak: SyncUsage::default(),
            journal,
        }
    }

    /// Whether the node is there and keeps the protocol; slow nodes do.
    pub(crate) fn is_honest(&self) -> bool {
        !matches!(self.kind, NodeKind::Liar | NodeKind::Gone)
    }

    /// The node's clocks at a moment of the virtual clock.
    pub(crate) fn now(&self, now_us: u64) -> Now {
        let secs = u64::from(GENESIS_TIME) + now_us / 1_000_000;
        Now {
            unix_secs: secs.saturating_add_signed(self.skew_secs + self.jumped_secs),
            monotonic_ms: now_us / 1_000,
        }
    }

    /// Starts the process on what the store holds.
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
        let core = Node::open(
            store,
            genesis.clone(),
            Path::new("simulation"),
            settings,
            now.unix_secs,
        )?
        .with_reorganisations(REORGANISATION_LIMITS)
        .with_sync(SyncSettings {
            seed: sync_seed,
            ..SyncSettings::default()
        });
        let core = match voter {
            Some(voter) => core.with_voter(voter),
            None => core,
        };
        self.syncing = core.sync_status().syncing;
        self.core = Some(core);
        self.recent = RecentBlocks::default();
        self.seen = SeenCache::default();
        self.awaiting_verdict.clear();
        self.accepted_lies.clear();
        self.line_free_us = now_us;
        self.online_since_us = now_us;
        Ok(())
    }

    /// The hash and the height of the node's tip; `None` while the process is down.
    pub(crate) fn tip(&self) -> Option<(BlockHash, u64)> {
        let tip = self.core.as_ref()?.chain().tip();
        Some((tip.hash(), tip.height.0))
    }

    /// How many connections the node has made itself.
    pub(crate) fn outbound_count(&self) -> usize {
        let ends = self.connections.values();
        ends.filter(|end| end.outbound).count()
    }

    /// Whether the node has a connection with another one.
    pub(crate) fn is_connected_to(&self, other: usize) -> bool {
        self.connections.values().any(|end| end.other == other)
    }

    /// Whether the node bans another one at this moment.
    pub(crate) fn has_banned(&self, other: usize, now_us: u64) -> bool {
        self.banned.get(&other).is_some_and(|until| *until > now_us)
    }
}

/// A node's transactions that wait to be mined.
pub(crate) fn mempool_of(core: &Node) -> RwLockReadGuard<'_, Mempool> {
    let mempool = core.mempool().read();
    mempool.unwrap_or_else(PoisonError::into_inner)
}

/// A node's approvals, certificates and proofs.
pub(crate) fn finality_of(core: &Node) -> RwLockReadGuard<'_, FinalityState> {
    let finality = core.finality().read();
    finality.unwrap_or_else(PoisonError::into_inner)
}

/// How far a node's chain is approved and final.
pub(crate) fn finality_status(core: &Node) -> FinalityStatus {
    finality_of(core).status()
}
