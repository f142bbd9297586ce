//! What happens when a block arrives: it is accepted, refused, or waits until it can be judged.
//! `chain_change` goes on from there if the best chain changed. Start reading at
//! [`Node::handle_block`].

use std::collections::VecDeque;
use std::sync::Arc;

use pithead_consensus::check::CheckedBlock;
use pithead_consensus::{Block, BlockHash, BlockHeader, Target, Work};

use super::{BlockVerdict, Effect, Node, Now, Sink};
use crate::chain::{AcceptContext, AcceptError, Accepted, Chain};
use crate::store::schema;
use crate::sync::PeerEffect;

impl Node {
    /// Takes a block that came through the API.
    pub(super) fn handle_block(
        &mut self,
        block: Block,
        now: Now,
        out: &mut Sink<'_>,
    ) -> Result<BlockVerdict, AcceptError> {
        let header = block.header;
        let result = match self.check_siblings(&header) {
            Ok(()) => self.accept_block(block, now.unix_secs, out),
            Err(error) => Err(error),
        };
        self.after_api_block(&header, &result, now, out);
        if result.is_ok() {
            self.retry_children(header.hash(), now, out);
        }
        result
    }

    /// Refuses a block beside the best chain of which enough are stored. A block that may decide
    /// the best chain is always judged: by its work, together with that of a child which waits
    /// for it, or because validators have approved it.
    fn check_siblings(&self, header: &BlockHeader) -> Result<(), AcceptError> {
        let tip = self.chain.tip();
        if !self.side_blocks.is_full(&header.prev) || header.prev == tip.hash() {
            return Ok(());
        }
        let snapshot = self.chain.store().snapshot()?;
        let Some(parent) = schema::entry(snapshot.as_ref(), &header.prev)? else {
            return Ok(());
        };
        let hash = header.hash();
        let target = header.bits.to_target();
        let own = target.map_or(Work::ZERO, Target::work);
        let above = self.waiting.work_above(&hash).unwrap_or(Work::ZERO);
        let chain_work = parent.chain_work.saturating_add(own).saturating_add(above);
        let status = self.read_finality().status();
        let is_named = hash == status.preferred().hash || hash == status.last_final.hash;
        if chain_work > tip.chain_work || is_named {
            return Ok(());
        }
        Err(AcceptError::TooManySiblings {
            parent: header.prev,
        })
    }

    /// Keeps count of side blocks, keeps a block that has to wait, and reports that storage
    /// failed.
    fn after_api_block(
        &mut self,
        header: &BlockHeader,
        result: &Result<BlockVerdict, AcceptError>,
        now: Now,
        out: &mut Sink<'_>,
    ) {
        match result {
            Ok(BlockVerdict::NewTip) => {}
            Ok(BlockVerdict::Side) => self.side_blocks.stored(header.prev),
            Err(AcceptError::NotYet { reason, block }) => {
                self.waiting.keep(Arc::clone(block), reason, now);
            }
            Err(AcceptError::Internal(error)) => out(Effect::Fatal(error.to_string())),
            Err(_) => {}
        }
    }

    /// Gives a block to the chain, and lets everything else follow if the best chain changed.
    pub(super) fn accept_block(
        &mut self,
        block: Block,
        now: u64,
        out: &mut Sink<'_>,
    ) -> Result<BlockVerdict, AcceptError> {
        self.accept_by(now, out, |chain, context, validated| {
            chain.accept_block(block, context, validated)
        })
    }

    fn accept_by(
        &mut self,
        now: u64,
        out: &mut Sink<'_>,
        accept: impl FnOnce(
            &mut Chain,
            AcceptContext<'_>,
            &mut dyn FnMut(&Arc<CheckedBlock>),
        ) -> Result<Accepted, AcceptError>,
    ) -> Result<BlockVerdict, AcceptError> {
        let finality = self.read_finality().view();
        let context = AcceptContext {
            now,
            finality: &finality,
        };
        let sync = &mut self.sync;
        let accepted = accept(&mut self.chain, context, &mut |block| {
            out(Effect::Peer(PeerEffect::BlockValidated(Arc::clone(block))));
            sync.validated(&block.block().header);
            sync.take_effects()
                .into_iter()
                .map(Effect::Peer)
                .for_each(&mut *out);
        })?;
        match accepted {
            Accepted::Side => {
                if self.chain.take_reconsider_due() {
                    let update = self.chain.reconsider(&finality, &mut |_| {})?;
                    if let Some(update) = update {
                        self.follow_chain(&update, now, out)?;
                    }
                }
                Ok(BlockVerdict::Side)
            }
            Accepted::NewTip(update) => {
                self.side_blocks.tip_changed();
                self.follow_chain(&update, now, out)?;
                Ok(BlockVerdict::NewTip)
            }
        }
    }

    /// Tries the blocks that waited for an accepted block, those that waited for one of them, and
    /// so on. Each is tried once.
    pub(super) fn retry_children(&mut self, accepted: BlockHash, now: Now, out: &mut Sink<'_>) {
        let mut parents = VecDeque::from([accepted]);
        while let Some(parent) = parents.pop_front() {
            for block in self.waiting.take_children(&parent) {
                parents.extend(self.retry(block, now, out));
            }
        }
    }

    /// Tries the blocks that the clock has reached since.
    pub(super) fn retry_due(&mut self, now: Now, out: &mut Sink<'_>) {
        for block in self.waiting.take_due(now) {
            if let Some(accepted) = self.retry(block, now, out) {
                self.retry_children(accepted, now, out);
            }
        }
    }

    /// Tries a block that has waited. Returns its hash if it is accepted.
    fn retry(
        &mut self,
        block: Arc<CheckedBlock>,
        now: Now,
        out: &mut Sink<'_>,
    ) -> Option<BlockHash> {
        let (header, hash) = (block.block().header, block.hash());
        let result = match self.check_siblings(&header) {
            Ok(()) => self.accept_by(now.unix_secs, out, |chain, context, validated| {
                chain.accept_checked(block, context, validated)
            }),
            Err(error) => Err(error),
        };
        self.after_api_block(&header, &result, now, out);
        result.ok().map(|_| hash)
    }
}
