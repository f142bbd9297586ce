//! Runs the core of a node on a thread of its own, behind a bounded queue, and tells the rest of
//! the process what the core did. It knows no rule of the chain, no sockets and no API.
//!
//! Start reading at [`Engine::start`]. `queue` holds what goes in, `thread` the loop and what
//! comes out.

mod queue;
mod thread;

use std::sync::{Arc, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use pithead_consensus::check::check_proof_of_work;
use pithead_consensus::{Block, BlockHeader, Genesis, SignedTransaction};
use pithead_core::chain::AcceptError;
use pithead_core::finality::{FinalityState, FinalityStatus};
use pithead_core::mempool::{Mempool, PendingChange};
use pithead_core::node::{
    Answer, BlockVerdict, Event, Node, RejectedTransaction, TransactionVerdict,
};
use pithead_core::store::{Store, StoreError};
use pithead_core::sync::{PeerEffect, SyncStatus};
use pithead_core::template::BlockTemplate;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use queue::{CommandSender, CoreCommand, core_queue};
use thread::{CoreThread, EffectOutlets, Watched};

pub use queue::{PeerEvents, Stopped};
pub use thread::{Clock, TipPoint, system_clock};

/// A core that has been started.
pub struct Started {
    /// The handle for the rest of the process.
    pub engine: Engine,
    /// The core's ends for the network. An offline node drops them: effects for peers are then
    /// dropped as well.
    pub network: NetworkSide,
    /// The core's thread.
    pub thread: JoinHandle<()>,
}

/// The ends of the core's channels that belong to the network.
pub struct NetworkSide {
    /// Takes peers' events to the core.
    pub events: PeerEvents,
    /// What the network has to carry out: requests, verdicts, publications, validated blocks,
    /// disconnects and peers' points.
    pub effects: mpsc::Receiver<PeerEffect>,
    /// Disconnects for which `effects` had no room, each once.
    pub missed_disconnects: mpsc::Receiver<PeerEffect>,
}

/// A handle on the running core. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    commands: CommandSender,
    shared: SharedState,
    watched: Watched,
    clock: Clock,
}

/// What readers share with the core.
#[derive(Clone)]
struct SharedState {
    store: Arc<dyn Store>,
    genesis: Arc<Genesis>,
    mempool: Arc<RwLock<Mempool>>,
    finality: Arc<RwLock<FinalityState>>,
}

impl Engine {
    /// Starts the core's thread. It ends after [`Engine::stop`], once every handle is gone, or on
    /// a fatal error.
    ///
    /// # Errors
    /// [`StoreError`] if the first template can't be assembled, or the thread can't be started.
    pub fn start(mut node: Node, clock: Clock) -> Result<Started, StoreError> {
        let template = node.template(clock())?;
        let (commands, queue, events) = core_queue();
        let (outlets, receivers) = EffectOutlets::new(&node, template);
        let engine = Self {
            commands,
            shared: SharedState {
                store: Arc::clone(node.chain().store()),
                genesis: Arc::new(node.chain().genesis().clone()),
                mempool: Arc::clone(node.mempool()),
                finality: Arc::clone(node.finality()),
            },
            watched: receivers.watched,
            clock: Arc::clone(&clock),
        };
        let core = CoreThread {
            node,
            clock,
            outlets,
        };
        let thread = std::thread::Builder::new()
            .name("core".to_owned())
            .spawn(move || core.run(queue))
            .map_err(|error| StoreError::Database(format!("starting the core: {error}")))?;
        let network = NetworkSide {
            events,
            effects: receivers.network,
            missed_disconnects: receivers.missed,
        };
        Ok(Started {
            engine,
            network,
            thread,
        })
    }

    /// Sends the core a tick every second until the core stops.
    pub async fn tick_every_second(&self) {
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let commands = self.commands.downgrade();
        loop {
            ticks.tick().await;
            let Some(commands) = commands.upgrade() else {
                return;
            };
            let tick = CoreCommand::unanswered(Event::Tick);
            if commands.send(tick).await.is_err() {
                return;
            }
        }
    }

    /// Hands a block to the core. A block on the present tip goes ahead of the core's queue.
    ///
    /// # Errors
    /// [`Stopped`] if the node is stopping. The inner result is the verdict on the block.
    pub async fn submit_block(
        &self,
        block: Block,
    ) -> Result<Result<BlockVerdict, AcceptError>, Stopped> {
        let goes_ahead = self.is_work_on_tip(&block.header);
        let (command, answer) = question(Event::Block(Box::new(block)));
        if goes_ahead {
            self.commands.send_tip_block(command).await?;
        } else {
            self.commands.send(command).await?;
        }
        match answer.await.map_err(|_| Stopped)? {
            Answer::Block(verdict) => Ok(verdict),
            _ => Err(Stopped),
        }
    }

    /// Hands a transaction to the core.
    ///
    /// # Errors
    /// [`Stopped`] if the node is stopping. The inner result is the verdict on the transaction.
    pub async fn submit_transaction(
        &self,
        transaction: SignedTransaction,
    ) -> Result<Result<TransactionVerdict, RejectedTransaction>, Stopped> {
        match self.ask(Event::Transaction(Box::new(transaction))).await? {
            Answer::Transaction(verdict) => Ok(verdict),
            _ => Err(Stopped),
        }
    }

    /// Has the core assemble a template from the present mempool.
    ///
    /// # Errors
    /// [`Stopped`] if the node is stopping. The inner error means that storage failed.
    pub async fn fresh_template(&self) -> Result<Result<Arc<BlockTemplate>, StoreError>, Stopped> {
        match self.ask(Event::FreshTemplate).await? {
            Answer::Template(template) => Ok(template),
            _ => Err(Stopped),
        }
    }

    /// The store of the chain, for snapshots.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.shared.store
    }

    /// The genesis of the node's network.
    #[must_use]
    pub fn genesis(&self) -> &Genesis {
        &self.shared.genesis
    }

    /// The mempool, for reading. Only the core writes it.
    #[must_use]
    pub fn mempool(&self) -> &RwLock<Mempool> {
        &self.shared.mempool
    }

    /// Approvals and certificates, for reading. Only the core writes them.
    #[must_use]
    pub fn finality_state(&self) -> &RwLock<FinalityState> {
        &self.shared.finality
    }

    /// Follows the tip of the best chain.
    #[must_use]
    pub fn tip(&self) -> watch::Receiver<TipPoint> {
        self.watched.tip.clone()
    }

    /// Follows the block template that miners work on.
    #[must_use]
    pub fn template(&self) -> watch::Receiver<Arc<BlockTemplate>> {
        self.watched.template.clone()
    }

    /// Follows the changes of the mempool.
    #[must_use]
    pub fn pending_changes(&self) -> broadcast::Receiver<PendingChange> {
        self.watched.pending.subscribe()
    }

    /// Follows how far this node is behind its network.
    #[must_use]
    pub fn sync(&self) -> watch::Receiver<SyncStatus> {
        self.watched.sync.clone()
    }

    /// Follows which blocks are approved and final.
    #[must_use]
    pub fn finality(&self) -> watch::Receiver<FinalityStatus> {
        self.watched.finality.clone()
    }

    /// Changes with every approval that arrives.
    #[must_use]
    pub fn approvals(&self) -> watch::Receiver<u64> {
        self.watched.approvals.clone()
    }

    /// Waits until the core had to stop. Returns why.
    pub async fn fatal(&self) -> String {
        let mut fatal = self.watched.fatal.clone();
        match fatal.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            // The core's thread has ended without giving a reason.
            Err(_) => "the core has ended".to_owned(),
        }
    }

    /// The time of the engine's clock, Unix seconds.
    #[must_use]
    pub fn now(&self) -> u64 {
        (self.clock)()
    }

    /// Tells the core to end once it has handled all earlier events.
    pub async fn stop(&self) {
        // It fails only if the core has ended already.
        let _ = self.commands.send(CoreCommand::Stop).await;
    }

    /// Whether a header has the parent and the work of a new tip.
    fn is_work_on_tip(&self, header: &BlockHeader) -> bool {
        let template = Arc::clone(&self.watched.template.borrow());
        header.prev == template.parent
            && header.bits == template.bits
            && check_proof_of_work(&self.shared.genesis.params, header).is_ok()
    }

    async fn ask(&self, event: Event) -> Result<Answer, Stopped> {
        let (command, answer) = question(event);
        self.commands.send(command).await?;
        answer.await.map_err(|_| Stopped)
    }
}

/// A command to handle an event, and where its answer comes.
fn question(event: Event) -> (CoreCommand, oneshot::Receiver<Answer>) {
    let (sender, receiver) = oneshot::channel();
    let command = CoreCommand::Handle {
        event,
        answer: Some(sender),
        place: None,
    };
    (command, receiver)
}
