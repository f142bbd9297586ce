//! What happens when a block arrives: it is accepted, refused, or waits until it can be judged.
//! `chain_change` goes on from there if the best chain changed. Start reading at
//! [`Node::handle_block`].

use std::sync::Arc;

use pithead_consensus::Block;
use pithead_consensus::check::CheckedBlock;

use super::{BlockVerdict, Effect, Node, Sink};
use crate::chain::{AcceptContext, AcceptError, Accepted, Chain};
use crate::sync::PeerEffect;

/// Most blocks that wait for their parent, or for the clock to reach them.
const WAITING_BLOCKS_MAX: usize = 64;

impl Node {
    /// Takes a block that came through the API.
    pub(super) fn handle_block(
        &mut self,
        block: Block,
        now: u64,
        out: &mut Sink<'_>,
    ) -> Result<BlockVerdict, AcceptError> {
        let result = self.accept_block(block, now, out);
        match &result {
            Err(AcceptError::NotYet { block, .. }) => self.keep_waiting(Arc::clone(block)),
            Err(AcceptError::Internal(error)) => out(Effect::Fatal(error.to_string())),
            Ok(_) => self.retry_waiting(now, out),
            Err(_) => {}
        }
        result
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
                self.follow_chain(&update, now, out)?;
                Ok(BlockVerdict::NewTip)
            }
        }
    }

    fn keep_waiting(&mut self, block: Arc<CheckedBlock>) {
        let header = block.block().header;
        let mut waiting = self.waiting.iter();
        if waiting.any(|kept| kept.block().header == header) {
            return;
        }
        if self.waiting.len() >= WAITING_BLOCKS_MAX {
            self.waiting.pop_front();
        }
        self.waiting.push_back(block);
    }

    /// Tries the waiting blocks again, until none of them is accepted any more: each accepted one
    /// may be the parent of another.
    pub(super) fn retry_waiting(&mut self, now: u64, out: &mut Sink<'_>) {
        let mut progress = true;
        while progress && !self.waiting.is_empty() {
            progress = false;
            for block in std::mem::take(&mut self.waiting) {
                let result = self.accept_by(now, out, |chain, context, validated| {
                    chain.accept_checked(block, context, validated)
                });
                match result {
                    Err(AcceptError::NotYet { block, .. }) => self.waiting.push_back(block),
                    Err(AcceptError::Internal(error)) => {
                        out(Effect::Fatal(error.to_string()));
                    }
                    Ok(_) => progress = true,
                    Err(_) => {}
                }
            }
        }
    }
}
