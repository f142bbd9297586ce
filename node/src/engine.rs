//! Runs the core on a thread of its own behind a bounded queue, and tells the
//! rest of the process what it did.

use std::sync::{Arc, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use pithead_consensus::{Block, BlockHash, Genesis, Height, SignedTransaction};
use thiserror::Error;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tracing::{debug, error, info, warn};

use crate::chain::AcceptError;
use crate::mempool::{Mempool, PendingChange};
use crate::node::{
    Answer, BlockVerdict, Effect, Event, Node, RejectedTransaction, TransactionVerdict,
};
use crate::store::schema::ChainEntry;
use crate::store::{Store, StoreError};
use crate::template::BlockTemplate;

/// Events that may wait for the core.
const QUEUE_EVENTS_MAX: usize = 1_024;
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
    clock: Clock,
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
        let engine = Self {
            commands,
            store: Arc::clone(node.chain().store()),
            genesis: Arc::new(node.chain().genesis().clone()),
            mempool: Arc::clone(node.mempool()),
            tip,
            template,
            pending: pending.clone(),
            fatal,
            clock: Arc::clone(&clock),
        };
        let worker = Worker {
            node,
            clock,
            tip: tip_sender,
            template: template_sender,
            pending,
            fatal: fatal_sender,
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
        };
        self.commands.send(command).await.map_err(|_| Stopped)?;
        receiver.await.map_err(|_| Stopped)
    }
}

/// The core's thread.
struct Worker {
    node: Node,
    clock: Clock,
    tip: watch::Sender<TipPoint>,
    template: watch::Sender<Arc<BlockTemplate>>,
    pending: broadcast::Sender<PendingChange>,
    fatal: watch::Sender<Option<String>>,
}

impl Worker {
    fn run(mut self, mut queue: mpsc::Receiver<Command>) {
        while let Some(command) = queue.blocking_recv() {
            let Command::Handle {
                event,
                answer: asker,
            } = command
            else {
                return;
            };
            let (answer, effects) = self.node.handle(event, (self.clock)());
            let mut stop = false;
            for effect in effects {
                stop |= self.carry_out(effect);
            }
            if let Some(sender) = asker {
                // Whoever asked may have gone: the work is done all the same.
                let _ = sender.send(answer);
            }
            if stop {
                return;
            }
        }
    }

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
                error!(%reason, "stopping: storage failed");
                self.fatal.send_replace(Some(reason));
                return true;
            }
        }
        false
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
