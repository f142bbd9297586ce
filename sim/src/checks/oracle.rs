//! What honest nodes accept and refuse must be what `consensus` alone accepts and refuses.
//!
//! The verdicts come from `model::oracle`; this file asks it about each block that a node connects,
//! each template, each refusal, and each block that a node has marked invalid. Start reading at
//! [`Simulation::check_connected`].

use pithead_consensus::{Block, BlockHash, Decode as _};
use pithead_core::chain::AcceptError;
use pithead_core::node::Answer;
use pithead_core::store::schema::{self, BlockStatus, ChainEntry};
use pithead_core::store::{Snapshot, Store as _, StoreError, Table};
use pithead_core::template::BlockTemplate;

use crate::model::oracle::Verdict;
use crate::violation::Violation;
use crate::world::Simulation;

impl Simulation {
    /// An honest node has a new tip: the body of each block that it connected, as the node stores
    /// it, keeps every rule.
    pub(crate) fn check_connected(
        &mut self,
        index: usize,
        tip: &BlockHash,
    ) -> Result<(), Violation> {
        let blocks = self.unconfirmed(index, tip);
        let blocks = blocks.map_err(|error| self.storage_failed(index, &error))?;
        for block in blocks.iter().rev() {
            let hash = block.header.hash();
            let verdict = self.oracle.judge(block);
            if verdict != Verdict::Valid {
                let what = format!("oracle: it follows block {hash}, which is {verdict:?}");
                return Err(self.violation(Some(index), what));
            }
            self.nodes[index].confirmed.insert(hash);
        }
        Ok(())
    }

    /// The blocks from `tip` down that were not yet confirmed at this node, newest first.
    fn unconfirmed(&self, index: usize, tip: &BlockHash) -> Result<Vec<Block>, StoreError> {
        let node = &self.nodes[index];
        let snapshot = node.store.snapshot()?;
        let mut blocks = Vec::new();
        let mut at = *tip;
        while at != self.genesis.params.genesis_hash && !node.confirmed.contains(&at) {
            let block = schema::expect_block(snapshot.as_ref(), &at)?;
            at = block.header.prev;
            blocks.push(block);
        }
        Ok(blocks)
    }

    /// An honest node has answered to a block of its own user: what it calls invalid is invalid, by
    /// the same rule.
    pub(crate) fn check_answer(
        &mut self,
        index: usize,
        block: &Block,
        answer: &Answer,
    ) -> Result<(), Violation> {
        let Answer::Block(Err(error)) = answer else {
            return Ok(());
        };
        let verdict = self.oracle.judge(block);
        let agrees = match error {
            AcceptError::Invalid(rule) => verdict == Verdict::Invalid(rule.clone()),
            AcceptError::InvalidAncestor { ancestor } => self.oracle.condemns(ancestor),
            _ => true,
        };
        if agrees {
            return Ok(());
        }
        let hash = block.header.hash();
        let what = format!("oracle: it says of block {hash}: {error}; alone it is {verdict:?}");
        Err(self.violation(Some(index), what))
    }

    /// An honest node has made a template: each of its transactions keeps every rule.
    pub(crate) fn check_template(
        &mut self,
        index: usize,
        template: &BlockTemplate,
    ) -> Result<(), Violation> {
        let verdict = self.oracle.judge_template(template);
        verdict.map_err(|error| {
            let what = format!("oracle: its template breaks a rule: {error}");
            self.violation(Some(index), what)
        })
    }

    /// At the end of a run: every block that an honest node has marked invalid breaks a rule, or
    /// descends from a block that does.
    pub(crate) fn check_condemned(&self) -> Result<(), Violation> {
        for (index, node) in self.nodes.iter().enumerate() {
            if !node.is_honest() {
                continue;
            }
            let condemned = node.store.snapshot().and_then(|at| condemned(at.as_ref()));
            let condemned = condemned.map_err(|error| self.storage_failed(index, &error))?;
            if let Some(hash) = condemned.iter().find(|hash| self.oracle.knows_valid(hash)) {
                let what = format!("oracle: it holds block {hash} for invalid, which is valid");
                return Err(self.violation(Some(index), what));
            }
        }
        Ok(())
    }
}

/// The blocks that a node has marked invalid.
fn condemned(at: &dyn Snapshot) -> Result<Vec<BlockHash>, StoreError> {
    let all = at.range(Table::Entries, &[], &[0xff; 33], usize::MAX, false)?;
    let entries = all
        .iter()
        .filter_map(|(_, raw)| ChainEntry::decode(raw).ok());
    let invalid = entries.filter(|entry| entry.status == BlockStatus::Invalid);
    Ok(invalid.map(|entry| entry.hash()).collect())
}
