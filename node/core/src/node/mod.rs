//! The core of the node: `handle(event, now)` → answer and effects. It owns the chain, the mempool
//! and the state of finality, and is their only writer. It is synchronous, and has no sockets, no
//! threads and no clock of its own.
//!
//! Start reading at [`Node::handle`]. One file follows each kind of event: `blocks` (with
//! `waiting` and `side_blocks`), `chain_change` and `reorganisation`, `pending` and
//! `transactions`, `approvals`, `certificates`, `proofs` and `voting`, `sync`, and `templates`.

mod approvals;
mod blocks;
mod certificates;
mod chain_change;
mod event;
mod pending;
mod proofs;
mod reorganisation;
mod side_blocks;
mod sync;
mod templates;
mod transactions;
mod voting;
mod waiting;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use pithead_consensus::{Certificate, Genesis};

pub use event::{
    Answer, BlockVerdict, Effect, Event, Now, RejectedTransaction, Sink, TransactionVerdict,
};

use crate::chain::{Chain, ReorganisationLimits};
use crate::finality::{FinalityState, Voter};
use crate::mempool::{Mempool, MempoolLimits, PendingChange, Waited};
use crate::store::{Store, StoreError};
use crate::sync::{PeerKey, SyncSettings, SyncState, SyncStatus, SyncUsage};
use crate::template::{BlockTemplate, TemplateBasis};
use reorganisation::TakingBack;
use side_blocks::SideBlocks;
use templates::Suspects;
use waiting::WaitingBlocks;

/// How a node is set up.
#[derive(Debug, Clone, Copy)]
pub struct NodeSettings {
    /// The limits of the mempool.
    pub mempool: MempoolLimits,
    /// When miners get new work.
    pub templates: TemplatePolicy,
}

/// When a new template is worth the miners' while.
#[derive(Debug, Clone, Copy)]
pub struct TemplatePolicy {
    /// A template is renewed in any case after this many seconds.
    pub refresh_secs: u64,
    /// A template is renewed earlier if its reward would grow by this many per cent.
    pub growth_percent: u64,
}

/// The core of the node.
pub struct Node {
    chain: Chain,
    mempool: Arc<RwLock<Mempool>>,
    /// How long pending transactions have waited.
    waited: Waited,
    finality: Arc<RwLock<FinalityState>>,
    /// Answers of peers whose certificates wait to be judged: at most one answer of each peer.
    certificates: VecDeque<(PeerKey, VecDeque<Certificate>)>,
    voter: Option<Voter>,
    template: Option<Arc<BlockTemplate>>,
    template_count: u64,
    template_basis: TemplateBasis,
    /// What templates on this tip do without, because one with it broke a rule.
    suspects: Suspects,
    template_policy: TemplatePolicy,
    mempool_changed: bool,
    pending_log_records: usize,
    /// Blocks that can't be judged yet.
    waiting: WaitingBlocks,
    /// The side blocks that were stored for the API.
    side_blocks: SideBlocks,
    sync: SyncState,
    /// While catching up, templates are not renewed for every block.
    template_is_stale: bool,
    has_more: bool,
    taking_back: TakingBack,
}

impl Node {
    /// Opens the chain and takes back the pending transactions that still hold. `dir` is only
    /// named in errors; `now` is Unix seconds.
    ///
    /// # Errors
    /// [`StoreError`] if storage fails or belongs to another chain.
    pub fn open(
        store: Arc<dyn Store>,
        genesis: Genesis,
        dir: &Path,
        settings: NodeSettings,
        now: u64,
    ) -> Result<Self, StoreError> {
        let mempool = Arc::new(RwLock::new(Mempool::new(settings.mempool)));
        let mut chain = Chain::open(Arc::clone(&store), genesis, dir)?;
        chain.spare_pending(Arc::clone(&mempool));
        let finality = FinalityState::open(chain.genesis(), &store)?;
        let mut node = Self {
            sync: SyncState::new(SyncSettings::default(), chain.tip()),
            template_is_stale: false,
            has_more: false,
            taking_back: TakingBack::default(),
            chain,
            mempool,
            waited: Waited::default(),
            finality: Arc::new(RwLock::new(finality)),
            certificates: VecDeque::new(),
            voter: None,
            template: None,
            template_count: 0,
            template_basis: TemplateBasis::default(),
            suspects: Suspects::default(),
            template_policy: settings.templates,
            mempool_changed: false,
            pending_log_records: 0,
            waiting: WaitingBlocks::default(),
            side_blocks: SideBlocks::default(),
        };
        node.resume_finality(Now::from(now))?;
        node.reload_pending(now)?;
        node.track_reloaded();
        Ok(node)
    }

    /// The chain, for reading.
    #[must_use]
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// The mempool, shared with readers.
    #[must_use]
    pub fn mempool(&self) -> &Arc<RwLock<Mempool>> {
        &self.mempool
    }

    /// The state of finality, shared with readers.
    #[must_use]
    pub fn finality(&self) -> &Arc<RwLock<FinalityState>> {
        &self.finality
    }

    /// How far this node is behind the chains that its peers show.
    #[must_use]
    pub fn sync_status(&self) -> SyncStatus {
        self.sync.status()
    }

    /// How much sync holds of each thing that has a limit.
    #[must_use]
    pub fn sync_usage(&self) -> SyncUsage {
        self.sync.usage()
    }

    /// Sets how to sync; to be called before the first event.
    #[must_use]
    pub fn with_sync(mut self, settings: SyncSettings) -> Self {
        self.sync = SyncState::new(settings, self.chain.tip());
        self.track_reloaded();
        self
    }

    /// How many submitted blocks wait for their parent or for the clock, and their encoded bytes.
    #[must_use]
    pub fn waiting_blocks(&self) -> (usize, usize) {
        self.waiting.usage()
    }

    /// Sets what a reorganisation may take; to be called before the first event.
    #[must_use]
    pub fn with_reorganisations(mut self, limits: ReorganisationLimits) -> Self {
        self.chain.set_limits(limits);
        self
    }

    /// The template on the tip; assembled if there is none yet.
    ///
    /// # Errors
    /// [`StoreError`] if storage fails.
    pub fn template(&mut self, now: u64) -> Result<Arc<BlockTemplate>, StoreError> {
        match &self.template {
            Some(template) if !self.template_is_stale => Ok(Arc::clone(template)),
            _ => self.renew_template(now).map(|(template, _)| template),
        }
    }

    /// Whether something waits that would have taken too long for one event: blocks, certificates,
    /// or a long reorganisation. While no other event waits, send [`Event::Continue`]. Every event
    /// goes on with blocks and certificates; only that one, and the tick, with a reorganisation.
    #[must_use]
    pub fn has_more(&self) -> bool {
        self.has_more
            || !self.certificates.is_empty()
            || self.chain.has_more()
            || !self.taking_back.is_done()
    }

    /// Handles one event; returns the answer and the effects in order.
    pub fn handle(&mut self, event: Event, now: impl Into<Now>) -> (Answer, Vec<Effect>) {
        let mut effects = Vec::new();
        let answer = self.handle_into(event, now, &mut |effect| effects.push(effect));
        (answer, effects)
    }

    /// Handles one event and hands each effect to `out` as it arises: a block is announced before
    /// its commit has ended.
    pub fn handle_into(
        &mut self,
        event: Event,
        now: impl Into<Now>,
        out: &mut dyn FnMut(Effect),
    ) -> Answer {
        let time = now.into();
        self.waited.read(time.monotonic_ms);
        let mut failed = false;
        let answer = self.handle_one(event, time, &mut |effect| {
            failed |= matches!(effect, Effect::Fatal(_));
            out(effect);
        });
        if !failed {
            self.advance(time, out);
        }
        answer
    }

    fn handle_one(&mut self, event: Event, time: Now, out: &mut Sink<'_>) -> Answer {
        let now = time.unix_secs;
        match event {
            Event::Block(block) => Answer::Block(self.handle_block(*block, time, out)),
            Event::Transaction(transaction) => {
                Answer::Transaction(self.submit_transaction(*transaction, time, out))
            }
            Event::FreshTemplate => Answer::Template(self.fresh_template(now, out)),
            Event::Tick => {
                self.handle_tick(time, out);
                self.sweep_peers(time, out);
                self.go_on_reorganising(time, out);
                Answer::None
            }
            Event::Peer(event) => {
                self.handle_peer(event, time, out);
                Answer::None
            }
            Event::Continue => {
                self.go_on_reorganising(time, out);
                Answer::None
            }
        }
    }

    fn handle_tick(&mut self, time: Now, out: &mut Sink<'_>) {
        let now = time.unix_secs;
        let expired = self.write_mempool().expire(self.waited.ms());
        self.mempool_changed |= !expired.is_empty();
        report(expired, out);
        self.retry_due(time, out);
        match self.template_if_due(now) {
            Ok(Some((template, changes))) => {
                report(changes, out);
                out(Effect::NewTemplate(template));
            }
            Ok(None) => {}
            Err(error) => out(Effect::Fatal(error.to_string())),
        }
        if let Err(error) = self.shorten_pending_log() {
            out(Effect::Fatal(error.to_string()));
        }
    }

    // If a thread panicked while it held one of these locks, that fault was reported. Readers
    // change nothing, and the writer's invariants hold between calls: a poisoned lock is good.

    fn write_finality(&self) -> RwLockWriteGuard<'_, FinalityState> {
        self.finality
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn read_finality(&self) -> RwLockReadGuard<'_, FinalityState> {
        self.finality.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_mempool(&self) -> RwLockWriteGuard<'_, Mempool> {
        self.mempool.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_mempool(&self) -> RwLockReadGuard<'_, Mempool> {
        self.mempool.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reports changes of the mempool to those who follow it.
fn report(changes: Vec<PendingChange>, out: &mut Sink<'_>) {
    changes.into_iter().map(Effect::Pending).for_each(out);
}
