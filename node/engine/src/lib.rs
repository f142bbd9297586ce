//! Runs the core on a thread of its own behind a bounded queue, and tells the
//! rest of the process what it did.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pithead_consensus::{Block, BlockHash, Genesis, Height, SignedTransaction};
use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, mpsc, oneshot, watch};
use tracing::{debug, error, info, warn};

use pithead_core::chain::AcceptError;
use pithead_core::finality::{FinalityState, FinalityStatus};
use pithead_core::mempool::{Mempool, PendingChange};
use pithead_core::node::{
    Answer, BlockVerdict, Effect, Event, Node, Now, RejectedTransaction, TransactionVerdict,
};
use pithead_core::store::schema::ChainEntry;
use pithead_core::store::{Store, StoreError};
use pithead_core::sync::{PeerEffect, PeerEvent, SyncStatus};
use pithead_core::template::BlockTemplate;

/// Events that may wait for the core.
const QUEUE_EVENTS_MAX: usize = 1_024;
/// Of these, how many may come from peers: they never shut out the API.
const QUEUE_PEER_EVENTS_MAX: usize = 512;
/// Effects that the network shell may be behind; what exceeds them is lost, as
/// on a bad line, and made up for by time-outs.
const NETWORK_EFFECTS_MAX: usize = 16_384;
/// Disconnects that are kept for it all the same.
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
    /// Its hash.
    pub hash: BlockHash,
    /// Its height.
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

/// The core is no longer there to answer: the node is stopping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the node is stopping")]
pub struct Stopped;

enum Command {
    Handle {
        event: Event,
        answer: Option<oneshot::Sender<Answer>>,
        /// A peer's place in the queue, given back once this was handled.
        place: Option<OwnedSemaphorePermit>,
    },
    Stop,
}

/// A handle on the running core. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    commands: mpsc::Sender<Command>,
    store: Arc<dyn Store>,
    genesis: Arc<Genesis>,
    mempool: Arc<RwLock<Mempool>>,
    tip: watch::Receiver<TipPoint>,
    template: watch::Receiver<Arc<BlockTemplate>>,
    pending: broadcast::Sender<PendingChange>,
    fatal: watch::Receiver<Option<String>>,
    sync: watch::Receiver<SyncStatus>,
    finality_state: Arc<RwLock<FinalityState>>,
    finality: watch::Receiver<FinalityStatus>,
    approvals: watch::Receiver<u64>,
    network: Arc<OnceLock<mpsc::Sender<PeerEffect>>>,
    missed: Missed,
    peer_places: Arc<Semaphore>,
    clock: Clock,
}

/// Disconnects that found no room among the effects: the core has put those peers
/// away, so unlike all else they are not made up for by time-outs.
type Missed = Arc<Mutex<VecDeque<PeerEffect>>>;

/// Where the network shell puts what peers tell: bounded, so that peers who
/// talk faster than the core listens have to wait.
#[derive(Clone)]
pub struct PeerEvents {
    commands: mpsc::Sender<Command>,
    places: Arc<Semaphore>,
}

impl PeerEvents {
    /// Hands an event to the core; waits while peers fill their share of the
    /// queue.
    ///
    /// # Errors
    /// [`Stopped`] if the node is stopping.
    pub async fn send(&self, event: PeerEvent) -> Result<(), Stopped> {
        let places = Arc::clone(&self.places);
        let place = places.acquire_owned().await.map_err(|_| Stopped)?;
        let command = peer_command(event, place);
        self.commands.send(command).await.map_err(|_| Stopped)
    }

    /// The same without waiting.
    ///
    /// # Errors
    /// The event, if the queue is full or the node is stopping.
    #[allow(clippy::result_large_err, reason = "the event itself comes back")]
    pub fn try_send(&self, event: PeerEvent) -> Result<(), PeerEvent> {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            return Err(event);
        };
        match self.commands.try_send(peer_command(event, place)) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Full(command))
            | Err(mpsc::error::TrySendError::Closed(command)) => match command {
                Command::Handle {
                    event: Event::Peer(event),
                    ..
                } => Err(event),
                // Nothing else was put in.
                _ => Ok(()),
            },
        }
    }
}

fn peer_command(event: PeerEvent, place: OwnedSemaphorePermit) -> Command {
    Command::Handle {
        event: Event::Peer(event),
        answer: None,
        place: Some(place),
    }
}

impl Engine {
    /// Starts the core's thread. It ends when told to, once every handle is
    /// gone, or on a fatal error.
    ///
    /// # Errors
    /// [`StoreError`] if the first template can't be assembled or the thread
    /// not be started.
    pub fn start(mut node: Node, clock: Clock) -> Result<(Self, JoinHandle<()>), StoreError> {
        let template = node.template(clock())?;
        let (commands, queue) = mpsc::channel(QUEUE_EVENTS_MAX);
        let (tip_sender, tip) = watch::channel(TipPoint::of(node.chain().tip()));
        let (template_sender, template) = watch::channel(template);
        let (pending, _) = broadcast::channel(PENDING_CHANGES_MAX);
        let (fatal_sender, fatal) = watch::channel(None);
        let (sync_sender, sync) = watch::channel(node.sync_status());
        let state = Arc::clone(node.finality());
        let status = state
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .status();
        let (finality_sender, finality) = watch::channel(status);
        let (approvals_sender, approvals) = watch::channel(0);
        let network = Arc::new(OnceLock::new());
        let missed = Missed::default();
        let engine = Self {
            commands,
            store: Arc::clone(node.chain().store()),
            genesis: Arc::new(node.chain().genesis().clone()),
            mempool: Arc::clone(node.mempool()),
            tip,
            template,
            pending: pending.clone(),
            fatal,
            sync,
            finality_state: state,
            finality,
            approvals,
            network: Arc::clone(&network),
            missed: Missed::clone(&missed),
            peer_places: Arc::new(Semaphore::new(QUEUE_PEER_EVENTS_MAX)),
            clock: Arc::clone(&clock),
        };
        let worker = Worker {
            node,
            clock,
            outlets: Outlets {
                tip: tip_sender,
                template: template_sender,
                pending,
                fatal: fatal_sender,
                sync: sync_sender,
                finality: finality_sender,
                approvals: approvals_sender,
                network,
                missed,
            },
        };
        let thread = std::thread::Builder::new()
            .name("core".to_owned())
            .spawn(move || worker.run(queue))
            .map_err(|error| StoreError::Database(format!("starting the core: {error}")))?;
        Ok((engine, thread))
    }

    /// Sends a tick every second until the core stops.
    pub async fn tick_every_second(&self) {
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let commands = self.commands.downgrade();
        loop {
            ticks.tick().await;
            let Some(commands) = commands.upgrade() else {
                return;
            };
            let command = Command::Handle {
                event: Event::Tick,
                answer: None,
                place: None,
            };
            if commands.send(command).await.is_err() {
                return;
            }
        }
    }

    /// Hands a block to the core.
    ///
    /// # Errors
    /// [`Stopped`] if the node is stopping; the inner result is the verdict.
    pub async fn submit_block(
        &self,
        block: Block,
    ) -> Result<Result<BlockVerdict, AcceptError>, Stopped> {
        match self.ask(Event::Block(Box::new(block))).await? {
            Answer::Block(verdict) => Ok(verdict),
            _ => Err(Stopped),
        }
    }

    /// Hands a transaction to the core.
    ///
    /// # Errors
    /// [`Stopped`] if the node is stopping; the inner result is the verdict.
    pub async fn submit_transaction(
        &self,
        transaction: SignedTransaction,
    ) -> Result<Result<TransactionVerdict, RejectedTransaction>, Stopped> {
        match self.ask(Event::Transaction(Box::new(transaction))).await? {
            Answer::Transaction(verdict) => Ok(verdict),
            _ => Err(Stopped),
        }
    }

    /// A template with everything pending in it.
    ///
    /// # Errors
    /// [`Stopped`] if the node is stopping; the inner error is storage's.
    pub async fn fresh_template(&self) -> Result<Result<Arc<BlockTemplate>, StoreError>, Stopped> {
        match self.ask(Event::FreshTemplate).await? {
            Answer::Template(template) => Ok(template),
            _ => Err(Stopped),
        }
    }

    /// Where the chain is kept.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// The genesis.
    #[must_use]
    pub fn genesis(&self) -> &Genesis {
        &self.genesis
    }

    /// The mempool, for reading.
    #[must_use]
    pub fn mempool(&self) -> &RwLock<Mempool> {
        &self.mempool
    }

    /// Follows the tip.
    #[must_use]
    pub fn tip(&self) -> watch::Receiver<TipPoint> {
        self.tip.clone()
    }

    /// Follows the template.
    #[must_use]
    pub fn template(&self) -> watch::Receiver<Arc<BlockTemplate>> {
        self.template.clone()
    }

    /// Follows the mempool.
    #[must_use]
    pub fn pending_changes(&self) -> broadcast::Receiver<PendingChange> {
        self.pending.subscribe()
    }

    /// Follows how far this node is behind.
    #[must_use]
    pub fn sync(&self) -> watch::Receiver<SyncStatus> {
        self.sync.clone()
    }

    /// Approvals and what they secure, for reading.
    #[must_use]
    pub fn finality_state(&self) -> &RwLock<FinalityState> {
        &self.finality_state
    }

    /// Follows what is approved and final.
    #[must_use]
    pub fn finality(&self) -> watch::Receiver<FinalityStatus> {
        self.finality.clone()
    }

    /// Changes with every approval that comes.
    #[must_use]
    pub fn approvals(&self) -> watch::Receiver<u64> {
        self.approvals.clone()
    }

    /// Where the network shell puts what peers tell.
    #[must_use]
    pub fn peer_events(&self) -> PeerEvents {
        PeerEvents {
            commands: self.commands.clone(),
            places: Arc::clone(&self.peer_places),
        }
    }

    /// What the network shell has to carry out: requests, verdicts,
    /// publications, validated blocks, disconnections, peers' points. Handed
    /// out once; `None` after that. Without a shell they are dropped.
    #[must_use]
    pub fn network_effects(&self) -> Option<mpsc::Receiver<PeerEffect>> {
        let (sender, receiver) = mpsc::channel(NETWORK_EFFECTS_MAX);
        self.network.set(sender).ok().map(|()| receiver)
    }

    /// Disconnects that found no room among the effects, each once.
    #[must_use]
    pub fn missed_disconnects(&self) -> VecDeque<PeerEffect> {
        let missed = self.missed.lock();
        std::mem::take(&mut *missed.unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until the core had to stop; returns why.
    pub async fn fatal(&self) -> String {
        let mut fatal = self.fatal.clone();
        match fatal.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            // The core's thread has ended without a reason of its own.
            Err(_) => "the core has ended".to_owned(),
        }
    }

    /// The time, Unix seconds.
    #[must_use]
    pub fn now(&self) -> u64 {
        (self.clock)()
    }

    /// Tells the core to end once it has handled what came before.
    pub async fn stop(&self) {
        // A core that has ended already needs no telling.
        let _ = self.commands.send(Command::Stop).await;
    }

    async fn ask(&self, event: Event) -> Result<Answer, Stopped> {
        let (sender, receiver) = oneshot::channel();
        let command = Command::Handle {
            event,
            answer: Some(sender),
            place: None,
        };
        self.commands.send(command).await.map_err(|_| Stopped)?;
        receiver.await.map_err(|_| Stopped)
    }
}

/// The core's thread.
struct Worker {
    node: Node,
    clock: Clock,
    outlets: Outlets,
}

impl Worker {
    fn run(mut self, mut queue: mpsc::Receiver<Command>) {
        let started = Instant::now();
        while let Some(command) = self.next_command(&mut queue) {
            let Command::Handle {
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
                // Whoever asked may have gone: the work is done all the same.
                let _ = sender.send(answer);
            }
            if stop {
                return;
            }
        }
    }
}

impl Worker {
    /// What comes next; if nothing does, what was put off.
    fn next_command(&self, queue: &mut mpsc::Receiver<Command>) -> Option<Command> {
        if !self.node.has_more() {
            return queue.blocking_recv();
        }
        match queue.try_recv() {
            Ok(command) => Some(command),
            Err(mpsc::error::TryRecvError::Empty) => Some(Command::Handle {
                event: Event::Continue,
                answer: None,
                place: None,
            }),
            Err(mpsc::error::TryRecvError::Disconnected) => None,
        }
    }
}

/// Where the core's effects go.
struct Outlets {
    tip: watch::Sender<TipPoint>,
    template: watch::Sender<Arc<BlockTemplate>>,
    pending: broadcast::Sender<PendingChange>,
    fatal: watch::Sender<Option<String>>,
    sync: watch::Sender<SyncStatus>,
    finality: watch::Sender<FinalityStatus>,
    /// Counts approvals, for those who wait for one.
    approvals: watch::Sender<u64>,
    network: Arc<OnceLock<mpsc::Sender<PeerEffect>>>,
    missed: Missed,
}

impl Outlets {
    /// Returns whether to stop.
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
                // No followers is fine.
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

    /// Never waits for the shell: it may itself be waiting for the core.
    fn carry_out_on_network(&self, effect: PeerEffect) {
        let Some(network) = self.network.get() else {
            return;
        };
        if let Err(mpsc::error::TrySendError::Full(effect)) = network.try_send(effect) {
            warn!("the network is too far behind: dropped");
            if matches!(effect, PeerEffect::Disconnect { .. }) {
                let missed = self.missed.lock();
                let mut missed = missed.unwrap_or_else(PoisonError::into_inner);
                // Each peer is disconnected once, and there are few.
                if missed.len() < MISSED_MAX {
                    missed.push_back(effect);
                }
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
