//! The core of the node: synchronous, `handle(event, now)` → answer and
//! effects. It owns the chain and the mempool and is their only writer; it has
//! no sockets, no threads and no clock of its own.
//!
//! Start reading at [`Node::handle`].

mod approvals;
mod certificates;
mod event;
mod proofs;
mod sync;
mod templates;
mod transactions;
mod voting;

use std::collections::{BTreeSet, VecDeque};
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use pithead_consensus::check::CheckedBlock;
use pithead_consensus::{
    Account, Address, Block, BlockHash, Certificate, Decode, Encode, Genesis, SignedTransaction,
    Txid,
};

pub use event::{
    Answer, BlockVerdict, Effect, Event, Now, RejectedTransaction, Sink, TransactionVerdict,
};

use crate::chain::{AcceptContext, AcceptError, Accepted, Chain, ChainUpdate};
use crate::finality::{FinalityState, Voter};
use crate::mempool::{Admitted, Mempool, MempoolLimits, Pending, PendingChange, RejectReason};
use crate::store::schema;
use crate::store::{PendingRecord, Store, StoreError};
use crate::sync::{PeerKey, SyncSettings, SyncState, SyncStatus, SyncUsage};
use crate::template::BlockTemplate;

/// Most blocks kept while their parent is missing, or while they are ahead of
/// the clock.
const WAITING_BLOCKS_MAX: usize = 64;
/// The pending log is rewritten once it holds this many records more than
/// there are pending transactions.
const PENDING_LOG_SLACK: usize = 10_000;

/// When a new template is worth the miners' while.
#[derive(Debug, Clone, Copy)]
pub struct TemplatePolicy {
    /// Seconds after which a template is renewed in any case.
    pub refresh_secs: u64,
    /// Per cent by which the reward must have grown for a renewal before.
    pub growth_percent: u64,
}

/// The core of the node.
pub struct Node {
    chain: Chain,
    mempool: Arc<RwLock<Mempool>>,
    finality: Arc<RwLock<FinalityState>>,
    /// Certificates that peers gave and that wait to be judged: one answer at most of each
    /// peer that sync goes through.
    certificates: VecDeque<(PeerKey, VecDeque<Certificate>)>,
    voter: Option<Voter>,
    template: Option<Arc<BlockTemplate>>,
    template_count: u64,
    template_policy: TemplatePolicy,
    mempool_changed: bool,
    pending_log_records: usize,
    waiting: VecDeque<Block>,
    sync: SyncState,
    /// Templates are not renewed for every block while catching up.
    template_is_stale: bool,
    has_more: bool,
}

impl Node {
    /// Opens the chain and takes back the pending transactions that still
    /// hold; `now` is Unix seconds.
    ///
    /// # Errors
    /// [`StoreError`] if storage fails or belongs to another chain.
    pub fn open(
        store: Arc<dyn Store>,
        genesis: Genesis,
        dir: &Path,
        limits: MempoolLimits,
        template_policy: TemplatePolicy,
        now: u64,
    ) -> Result<Self, StoreError> {
        let chain = Chain::open(Arc::clone(&store), genesis, dir)?;
        let finality = FinalityState::open(chain.genesis(), store.snapshot()?.as_ref())?;
        let finality = Arc::new(RwLock::new(finality));
        let sync = SyncState::new(SyncSettings::default(), chain.tip());
        let mut node = Self {
            sync,
            template_is_stale: false,
            has_more: false,
            chain,
            mempool: Arc::new(RwLock::new(Mempool::new(limits))),
            finality,
            certificates: VecDeque::new(),
            voter: None,
            template: None,
            template_count: 0,
            template_policy,
            mempool_changed: false,
            pending_log_records: 0,
            waiting: VecDeque::new(),
        };
        node.resume_finality(Now::from(now))?;
        let mut pending: Vec<(u64, SignedTransaction)> = store
            .pending()?
            .into_iter()
            .filter_map(|record| Some((record.received, Decode::decode(&record.raw).ok()?)))
            .collect();
        // By sequence, since each needs what those before it bring, and they
        // may be younger: a reorganisation takes old ones back. The order is
        // stable, so that a replacement still follows what it replaced.
        pending.sort_by_key(|(_, transaction)| transaction.body.sequence);
        for (received, transaction) in pending {
            // Ones that no longer hold are simply left out.
            let _ = node.admit(transaction, received.min(now))?;
        }
        node.write_mempool().expire(now);
        node.rewrite_pending_log()?;
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

    /// Approvals and what they secure, shared with readers.
    #[must_use]
    pub fn finality(&self) -> &Arc<RwLock<FinalityState>> {
        &self.finality
    }

    /// How far this node is behind what its peers show.
    #[must_use]
    pub fn sync_status(&self) -> SyncStatus {
        self.sync.status()
    }

    /// What sync holds, against its limits.
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

    /// Whether blocks or certificates wait that one event would have taken too
    /// long for. They go on with the next event, of whatever kind:
    /// [`Event::Continue`] if there is no other.
    #[must_use]
    pub fn has_more(&self) -> bool {
        self.has_more || !self.certificates.is_empty()
    }

    /// Handles one event; returns the answer and the effects in order.
    pub fn handle(&mut self, event: Event, now: impl Into<Now>) -> (Answer, Vec<Effect>) {
        let mut effects = Vec::new();
        let answer = self.handle_into(event, now, &mut |effect| effects.push(effect));
        (answer, effects)
    }

    /// Handles one event and hands each effect to `out` as it arises, so that
    /// a block is announced before its commit has ended.
    pub fn handle_into(
        &mut self,
        event: Event,
        now: impl Into<Now>,
        out: &mut dyn FnMut(Effect),
    ) -> Answer {
        let time = now.into();
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
            Event::Block(block) => Answer::Block(self.handle_block(*block, now, out)),
            Event::Transaction(transaction) => {
                let result = self.handle_transaction(*transaction.clone(), now, out);
                match &result {
                    Ok(_) => self.announce_own(*transaction, time, out),
                    // It may be in the pool and not in the log: no answer would
                    // be true for long.
                    Err(RejectedTransaction::Internal(error)) => {
                        out(Effect::Fatal(error.to_string()));
                    }
                    Err(RejectedTransaction::Rule(_)) => {}
                }
                Answer::Transaction(result)
            }
            Event::FreshTemplate => Answer::Template(self.fresh_template(now, out)),
            Event::Tick => {
                self.handle_tick(now, out);
                self.sweep_peers(time, out);
                Answer::None
            }
            Event::Peer(event) => {
                self.handle_peer(event, time, out);
                Answer::None
            }
            Event::Continue => Answer::None,
        }
    }

    fn handle_block(
        &mut self,
        block: Block,
        now: u64,
        out: &mut Sink<'_>,
    ) -> Result<BlockVerdict, AcceptError> {
        let result = self.accept_block(block.clone(), now, out);
        match &result {
            Err(AcceptError::NotYet(_)) => self.keep_waiting(block),
            Err(AcceptError::Internal(error)) => out(Effect::Fatal(error.to_string())),
            Ok(_) => self.retry_waiting(now, out),
            Err(_) => {}
        }
        result
    }

    fn accept_block(
        &mut self,
        block: Block,
        now: u64,
        out: &mut Sink<'_>,
    ) -> Result<BlockVerdict, AcceptError> {
        let finality = self.read_finality().view();
        let context = AcceptContext {
            now,
            finality: &finality,
        };
        let sync = &mut self.sync;
        let accepted = self.chain.accept_block(block, context, &mut |block| {
            out(Effect::BlockValidated(Arc::clone(block)));
            sync.validated(&block.block().header);
            sync.take_orders()
                .into_iter()
                .map(Effect::from)
                .for_each(&mut *out);
        })?;
        match accepted {
            Accepted::Side => Ok(BlockVerdict::Side),
            Accepted::NewTip(update) => {
                self.follow_chain(&update, now, out)?;
                Ok(BlockVerdict::NewTip)
            }
        }
    }

    /// Brings mempool and template in line with a changed chain.
    fn follow_chain(
        &mut self,
        update: &ChainUpdate,
        now: u64,
        out: &mut Sink<'_>,
    ) -> Result<(), StoreError> {
        // Taken back first, so that a transaction on both branches ends as
        // mined; oldest first, so that each finds the key and the sequence that
        // those before it bring.
        for hash in update.disconnected.iter().rev() {
            let block = self.chain.block(hash)?;
            for transaction in &block.block().transactions {
                self.take_back(transaction, now, out)?;
            }
        }
        let changes = self.settle_mempool(update)?;
        tell(changes, out);
        self.publish_taken_back(update)?;
        self.log_slack_check()?;
        out(Effect::TipChanged {
            tip: Box::new(self.chain.tip().clone()),
            disconnected: update.disconnected.len(),
        });
        if self.sync.status().syncing {
            // Nobody mines on a chain that is far behind.
            self.template_is_stale = true;
            return Ok(());
        }
        let (template, changes) = self.renew_template(now)?;
        tell(changes, out);
        out(Effect::NewTemplate(template));
        Ok(())
    }

    /// Puts a transaction of a disconnected block back into the mempool, and
    /// into its log: it may be there no longer.
    fn take_back(
        &mut self,
        transaction: &SignedTransaction,
        now: u64,
        out: &mut Sink<'_>,
    ) -> Result<(), StoreError> {
        if let Ok((admitted, changes)) = self.admit(transaction.clone(), now)? {
            if admitted != Admitted::Duplicate {
                self.chain.store().append_pending(&PendingRecord {
                    received: now,
                    raw: transaction.encode(),
                })?;
                self.pending_log_records += 1;
            }
            tell(changes, out);
        }
        Ok(())
    }

    fn settle_mempool(&mut self, update: &ChainUpdate) -> Result<Vec<PendingChange>, StoreError> {
        let snapshot = self.chain.store().snapshot()?;
        let mut changes = Vec::new();
        let mut touched = BTreeSet::new();
        let mut mined = std::collections::HashMap::new();
        let mut mempool = self.write_mempool();
        // Only who has something pending is of interest: that bounds what is kept of
        // a long reorganisation.
        for hash in &update.connected {
            let block = self.connected_block(update, hash)?;
            let transactions = block.block().transactions.iter();
            for (transaction, txid) in transactions.zip(block.txids()) {
                let sender = transaction.body.sender;
                if mempool.of_sender(&sender).next().is_some() {
                    touched.insert(sender);
                    mined.insert((sender, transaction.body.sequence), *txid);
                }
                changes.extend(mempool.remove_mined(txid));
            }
        }
        for hash in &update.disconnected {
            // Credits that were undone weaken the recipients' balances too.
            for transaction in &self.chain.block(hash)?.block().transactions {
                let outputs = transaction.body.outputs.iter();
                let parties = outputs
                    .map(|out| out.recipient)
                    .chain([transaction.body.sender]);
                touched.extend(parties.filter(|one| mempool.of_sender(one).next().is_some()));
            }
        }
        if !update.disconnected.is_empty() {
            // Undone rewards may have paid anyone.
            touched.extend(mempool.senders().copied());
        }
        for sender in touched {
            let account = schema::account(snapshot.as_ref(), &sender)?;
            changes.extend(mempool.revalidate_sender(&sender, &account, |sequence| {
                mined.get(&(sender, sequence)).copied()
            }));
        }
        Ok(changes)
    }

    fn connected_block(
        &self,
        update: &ChainUpdate,
        hash: &BlockHash,
    ) -> Result<Arc<CheckedBlock>, StoreError> {
        if update.tip.hash() == *hash {
            return Ok(Arc::clone(&update.tip));
        }
        self.chain.block(hash)
    }

    fn handle_transaction(
        &mut self,
        transaction: SignedTransaction,
        now: u64,
        out: &mut Sink<'_>,
    ) -> Result<TransactionVerdict, RejectedTransaction> {
        let raw = transaction.encode();
        let txid = transaction.txid(&self.chain.params().genesis_hash);
        if self
            .is_mined(&txid)
            .map_err(RejectedTransaction::Internal)?
        {
            return Ok(TransactionVerdict::Duplicate);
        }
        let (admitted, changes) = self
            .admit(transaction, now)
            .map_err(RejectedTransaction::Internal)?
            .map_err(RejectedTransaction::Rule)?;
        let verdict = match admitted {
            Admitted::Duplicate => return Ok(TransactionVerdict::Duplicate),
            Admitted::Accepted => TransactionVerdict::Accepted,
            Admitted::Replaced { txid } => TransactionVerdict::Replaced { txid },
        };
        let record = PendingRecord { received: now, raw };
        self.chain
            .store()
            .append_pending(&record)
            .map_err(RejectedTransaction::Internal)?;
        self.pending_log_records += 1;
        self.mempool_changed = true;
        tell(changes, out);
        Ok(verdict)
    }

    /// Admits to the mempool: the outer error is storage's, the inner one a
    /// verdict.
    #[allow(clippy::type_complexity)]
    fn admit(
        &mut self,
        transaction: SignedTransaction,
        now: u64,
    ) -> Result<Result<(Admitted, Vec<PendingChange>), RejectReason>, StoreError> {
        let account = self.account(&transaction.body.sender)?;
        let leaf = transaction.leaf_hash();
        let verified = self.chain.verified().contains(&leaf);
        let result = self
            .mempool
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .accept(self.chain.params(), transaction, &account, now, verified);
        // A duplicate has the txid of a pending transaction, and perhaps another signature:
        // a txid does not cover it, and nothing has checked it.
        if matches!(&result, Ok((admitted, _)) if *admitted != Admitted::Duplicate) {
            self.chain.remember_verified(leaf);
        }
        Ok(result)
    }

    fn handle_tick(&mut self, now: u64, out: &mut Sink<'_>) {
        let expired = self.write_mempool().expire(now);
        self.mempool_changed |= !expired.is_empty();
        tell(expired, out);
        self.retry_waiting(now, out);
        match self.template_if_due(now) {
            Ok(Some((template, changes))) => {
                tell(changes, out);
                out(Effect::NewTemplate(template));
            }
            Ok(None) => {}
            Err(error) => out(Effect::Fatal(error.to_string())),
        }
        if let Err(error) = self.log_slack_check() {
            out(Effect::Fatal(error.to_string()));
        }
    }

    fn keep_waiting(&mut self, block: Block) {
        if self.waiting.iter().any(|kept| kept.header == block.header) {
            return;
        }
        if self.waiting.len() >= WAITING_BLOCKS_MAX {
            self.waiting.pop_front();
        }
        self.waiting.push_back(block);
    }

    /// Tries blocks again that could not be judged before.
    fn retry_waiting(&mut self, now: u64, out: &mut Sink<'_>) {
        let mut progress = true;
        while progress && !self.waiting.is_empty() {
            progress = false;
            for block in std::mem::take(&mut self.waiting) {
                match self.accept_block(block.clone(), now, out) {
                    Err(AcceptError::NotYet(_)) => self.waiting.push_back(block),
                    Err(AcceptError::Internal(error)) => {
                        out(Effect::Fatal(error.to_string()));
                    }
                    Ok(_) => progress = true,
                    Err(_) => {}
                }
            }
        }
    }

    fn is_mined(&self, txid: &Txid) -> Result<bool, StoreError> {
        let snapshot = self.chain.store().snapshot()?;
        Ok(schema::place(snapshot.as_ref(), txid)?.is_some())
    }

    fn account(&self, address: &Address) -> Result<Account, StoreError> {
        schema::account(self.chain.store().snapshot()?.as_ref(), address)
    }

    fn log_slack_check(&mut self) -> Result<(), StoreError> {
        let live = self.read_mempool().len();
        if self.pending_log_records > live + PENDING_LOG_SLACK {
            self.rewrite_pending_log()?;
        }
        Ok(())
    }

    fn rewrite_pending_log(&mut self) -> Result<(), StoreError> {
        let records: Vec<PendingRecord> = self
            .read_mempool()
            .in_order_of_arrival()
            .iter()
            .map(|pending: &Arc<Pending>| PendingRecord {
                received: pending.received,
                raw: pending.transaction.encode(),
            })
            .collect();
        self.pending_log_records = records.len();
        self.chain.store().rewrite_pending(&records)
    }

    // A panic while the lock is held is a fault in this program that has been
    // reported; the pool's own invariants hold between its methods.
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

fn tell(changes: Vec<PendingChange>, out: &mut Sink<'_>) {
    changes.into_iter().map(Effect::Pending).for_each(out);
}
