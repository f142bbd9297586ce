//! The core's thread: takes commands from the queue, lets the core handle them, and passes the
//! core's effects on. Time is read here, once for each event, so that the core needs no clock.
//!
//! Start reading at [`CoreThread::run`], then [`EffectOutlets::carry_out`].

use std::sync::{Arc, PoisonError};
use std::time::Instant;

use pithead_consensus::{BlockHash, Height};
use pithead_core::finality::FinalityStatus;
use pithead_core::mempool::PendingChange;
use pithead_core::node::{Effect, Node, Now};
use pithead_core::store::schema::ChainEntry;
use pithead_core::sync::{PeerEffect, SyncStatus};
use pithead_core::template::BlockTemplate;
use tokio::sync::{broadcast, mpsc, watch};
use tracing::{debug, error, info, warn};

use crate::queue::{CoreCommand, CoreQueue};

/// Effects that the network may be behind. Effects beyond that are lost, as on a bad line; the
/// core's time-outs make up for them.
const NETWORK_EFFECTS_MAX: usize = 16_384;
/// Disconnects that are kept although the network is that far behind.
const MISSED_MAX: usize = 4_096;
/// Mempool changes that a follower may be behind.
const PENDING_CHANGES_MAX: usize = 4_096;

/// Tells the time: Unix seconds.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// The system's clock.
#[must_use]
pub fn system_clock() -> Clock {
    Arc::new(|| {
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |since| since.as_secs())
    })
}

/// The tip of the best chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TipPoint {
    pub hash: BlockHash,
    pub height: Height,
}

impl TipPoint {
    fn of(entry: &ChainEntry) -> Self {
        Self {
            hash: entry.hash(),
            height: entry.height,
        }
    }
}

/// The core together with what its thread needs.
pub(crate) struct CoreThread {
    pub(crate) node: Node,
    pub(crate) clock: Clock,
    pub(crate) outlets: EffectOutlets,
}

impl CoreThread {
    /// Handles commands until one says stop, all senders are gone, or an effect is fatal.
    pub(crate) fn run(mut self, mut queue: CoreQueue) {
        let started = Instant::now();
        while let Some(command) = queue.next(self.node.chain().tip().hash(), self.node.has_more()) {
            let CoreCommand::Handle {
                event,
                answer: asker,
                place,
            } = command
            else {
                return;
            };
            let now = Now {
                unix_secs: (self.clock)(),
                monotonic_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            };
            let mut stop = false;
            let outlets = &self.outlets;
            let answer = self.node.handle_into(event, now, &mut |effect| {
                stop |= outlets.carry_out(effect);
            });
            drop(place);
            if let Some(sender) = asker {
                // The asker may have stopped waiting. The event was handled all the same.
                let _ = sender.send(answer);
            }
            if stop {
                return;
            }
        }
    }
}

/// What followers watch. A watch channel holds the latest value only.
#[derive(Clone)]
pub(crate) struct Watched {
    pub(crate) tip: watch::Receiver<TipPoint>,
    pub(crate) template: watch::Receiver<Arc<BlockTemplate>>,
    /// Followers of the mempool subscribe to this sender.
    pub(crate) pending: broadcast::Sender<PendingChange>,
    /// Why the core had to stop.
    pub(crate) fatal: watch::Receiver<Option<String>>,
    pub(crate) sync: watch::Receiver<SyncStatus>,
    pub(crate) finality: watch::Receiver<FinalityStatus>,
    /// Counts approvals, for followers that wait for the next one.
    pub(crate) approvals: watch::Receiver<u64>,
}

/// Where the core's effects go.
pub(crate) struct EffectOutlets {
    tip: watch::Sender<TipPoint>,
    template: watch::Sender<Arc<BlockTemplate>>,
    pending: broadcast::Sender<PendingChange>,
    fatal: watch::Sender<Option<String>>,
    sync: watch::Sender<SyncStatus>,
    finality: watch::Sender<FinalityStatus>,
    approvals: watch::Sender<u64>,
    network: mpsc::Sender<PeerEffect>,
    missed: mpsc::Sender<PeerEffect>,
}

/// The receiving ends of [`EffectOutlets`].
pub(crate) struct EffectReceivers {
    pub(crate) watched: Watched,
    /// Effects for the network.
    pub(crate) network: mpsc::Receiver<PeerEffect>,
    /// Disconnects for which `network` had no room.
    pub(crate) missed: mpsc::Receiver<PeerEffect>,
}

impl EffectOutlets {
    /// Makes the channels of all effects; the watched values begin with those of `node`.
    pub(crate) fn new(node: &Node, template: Arc<BlockTemplate>) -> (Self, EffectReceivers) {
        let status = node.finality().read();
        let status = status.unwrap_or_else(PoisonError::into_inner).status();
        let (tip, tip_receiver) = watch::channel(TipPoint::of(node.chain().tip()));
        let (template, template_receiver) = watch::channel(template);
        let (pending, _) = broadcast::channel(PENDING_CHANGES_MAX);
        let (fatal, fatal_receiver) = watch::channel(None);
        let (sync, sync_receiver) = watch::channel(node.sync_status());
        let (finality, finality_receiver) = watch::channel(status);
        let (approvals, approvals_receiver) = watch::channel(0);
        let (network, network_receiver) = mpsc::channel(NETWORK_EFFECTS_MAX);
        let (missed, missed_receiver) = mpsc::channel(MISSED_MAX);
        let receivers = EffectReceivers {
            watched: Watched {
                tip: tip_receiver,
                template: template_receiver,
                pending: pending.clone(),
                fatal: fatal_receiver,
                sync: sync_receiver,
                finality: finality_receiver,
                approvals: approvals_receiver,
            },
            network: network_receiver,
            missed: missed_receiver,
        };
        let outlets = Self {
            tip,
            template,
            pending,
            fatal,
            sync,
            finality,
            approvals,
            network,
            missed,
        };
        (outlets, receivers)
    }

    /// Passes an effect on. Returns whether the core has to stop.
    fn carry_out(&self, effect: Effect) -> bool {
        match effect {
            Effect::TipChanged { tip, disconnected } => {
                log_tip(&tip, disconnected);
                self.tip.send_replace(TipPoint::of(&tip));
            }
            Effect::NewTemplate(template) => {
                debug!(id = template.id, height = template.height.0, "new template");
                self.template.send_replace(template);
            }
            Effect::Pending(change) => {
                // It fails if there are no followers, which is fine.
                let _ = self.pending.send(change);
            }
            Effect::Fatal(reason) => {
                error!(%reason, "stopping");
                self.fatal.send_replace(Some(reason));
                return true;
            }
            Effect::FinalityMoved(status) => {
                self.finality.send_replace(status);
            }
            Effect::ApprovalsChanged => {
                self.approvals.send_modify(|count| *count += 1);
            }
            Effect::SyncChanged(status) => {
                self.sync.send_if_modified(|present| {
                    if present.syncing != status.syncing {
                        log_sync(&status);
                    }
                    std::mem::replace(present, status) != status
                });
            }
            Effect::Peer(effect) => self.carry_out_on_network(effect),
        }
        false
    }

    /// Hands an effect to the network without waiting: the network may itself be waiting for the
    /// core. If the node is offline or its network has ended, the effect is dropped.
    ///
    /// A disconnect for which there is no room is kept apart. The core has already forgotten the
    /// peer, so no time-out would make up for a lost disconnect.
    fn carry_out_on_network(&self, effect: PeerEffect) {
        if let Err(mpsc::error::TrySendError::Full(effect)) = self.network.try_send(effect) {
            warn!("the network is too far behind: dropped");
            if matches!(effect, PeerEffect::Disconnect { .. }) {
                // Each peer is disconnected once, and there are few peers.
                let _ = self.missed.try_send(effect);
            }
        }
    }
}

fn log_sync(status: &SyncStatus) {
    let headers = status.best_header_height.0;
    if status.syncing {
        info!(headers, "catching up with the network");
    } else {
        info!(headers, "in step with the network");
    }
}

fn log_tip(tip: &ChainEntry, disconnected: usize) {
    let hash = tip.hash();
    let (height, transactions) = (tip.height.0, tip.transaction_count);
    if disconnected > 0 {
        warn!(height, %hash, transactions, disconnected, "reorganised to a better chain");
    } else {
        info!(height, %hash, transactions, "new tip");
    }
}
