//! When miners get new work, and what is done about a transaction that breaks a template. Start
//! reading at [`Node::template_if_due`].

use std::collections::HashSet;
use std::sync::Arc;

use pithead_consensus::check::BlockError;
use pithead_consensus::{Address, Amount, BlockHash, Txid};
use tracing::error;

use super::{Effect, Node, Sink, report};
use crate::mempool::{Pending, PendingChange, Selection, VerifiedTransaction};
use crate::store::StoreError;
use crate::store::schema;
use crate::template::{
    BlockTemplate, TemplateError, assemble_template, block_room, keep_creditable,
};

/// After this many seconds any growth of the reward is worth a new template: a payment should not
/// miss a block because its fee is small.
const TEMPLATE_AGE_MIN_SECS: u64 = 3;

/// A template, and the transactions that were dropped to assemble it.
type Assembled = (Arc<BlockTemplate>, Vec<PendingChange>);

impl Node {
    /// A template with every pending transaction that fits.
    pub(super) fn fresh_template(
        &mut self,
        now: u64,
        out: &mut Sink<'_>,
    ) -> Result<Arc<BlockTemplate>, StoreError> {
        match &self.template {
            Some(template) if !self.mempool_changed && !self.template_is_stale => {
                Ok(Arc::clone(template))
            }
            _ => {
                let (template, changes) = self.renew_template(now)?;
                report(changes, out);
                out(Effect::NewTemplate(Arc::clone(&template)));
                Ok(template)
            }
        }
    }

    /// A new template, if there is a reason for one:
    /// 1. the present one has reached the age at which templates are renewed in any case,
    /// 2. the reward has grown by the percentage of the policy,
    /// 3. the present one is empty and there are transactions now, or
    /// 4. the reward has grown at all, and the present one is a few seconds old.
    pub(super) fn template_if_due(&mut self, now: u64) -> Result<Option<Assembled>, StoreError> {
        let Some(present) = self.template.clone() else {
            return Ok(None);
        };
        if self.sync.status().syncing {
            // Miners get no work while catching up; `renew_stale_template` follows at the end.
            return Ok(None);
        }
        if self.template_is_stale {
            return self.renew_template(now).map(Some);
        }
        let age = now.saturating_sub(u64::from(present.time));
        let old = age >= self.template_policy.refresh_secs;
        if !old && !std::mem::take(&mut self.mempool_changed) {
            return Ok(None);
        }
        let next_id = self.template_count + 1;
        let (template, changes) = self.assemble(next_id, now)?;
        let grown = template.reward().grains() as u128 * 100
            >= present.reward().grains() as u128
                * u128::from(100 + self.template_policy.growth_percent);
        // The first payment for an empty template is reason enough: otherwise its sender would wait
        // a block longer.
        let first = present.transactions.is_empty() && !template.transactions.is_empty();
        let settled = age >= TEMPLATE_AGE_MIN_SECS && template.reward() > present.reward();
        if !(old || grown || first || settled) {
            self.mempool_changed = true;
            return Ok(None);
        }
        self.template_count = next_id;
        self.template = Some(Arc::clone(&template));
        Ok(Some((template, changes)))
    }

    /// Gives miners work on the new tip, once the node has caught up.
    pub(super) fn renew_stale_template(
        &mut self,
        now: u64,
        out: &mut Sink<'_>,
    ) -> Result<(), StoreError> {
        if self.template_is_stale && !self.sync.status().syncing {
            let (template, changes) = self.renew_template(now)?;
            report(changes, out);
            out(Effect::NewTemplate(template));
        }
        Ok(())
    }

    /// Assembles a template on the tip and keeps it.
    pub(super) fn renew_template(&mut self, now: u64) -> Result<Assembled, StoreError> {
        self.template_count += 1;
        self.mempool_changed = false;
        self.template_is_stale = false;
        let (template, changes) = self.assemble(self.template_count, now)?;
        self.template = Some(Arc::clone(&template));
        Ok((template, changes))
    }

    /// Assembles a template of what is pending.
    ///
    /// A template that breaks a rule is a fault of this node, since admission and every change of
    /// the chain keep the mempool to the rules. The node reports it and gives miners an empty
    /// template. The transaction that the error names is judged again by itself. It is dropped if
    /// that fails, too, and otherwise left out until the tip changes. Nothing else leaves the
    /// mempool, and the next second's template holds the rest.
    fn assemble(&mut self, id: u64, now: u64) -> Result<Assembled, StoreError> {
        self.suspects.keep_to(self.chain.tip().hash());
        let selection = if self.suspects.all {
            Selection::default()
        } else {
            let room = block_room(self.chain.params());
            let selection = self.read_mempool().select(room, &self.suspects.txids);
            keep_creditable(&self.chain, &mut self.template_basis, selection)?
        };
        let error = match self.assemble_of(&selection, id, now) {
            Ok(template) => return Ok((Arc::new(template), Vec::new())),
            Err(TemplateError::Store(error)) => return Err(error),
            Err(TemplateError::Invalid(error)) => error,
        };
        error!(
            %error,
            height = self.chain.tip().height.next().0,
            "ALARM: a template breaks a rule; miners get an empty one. This is a fault of the node: please report it"
        );
        let changes = self.judge_again(&selection, &error)?;
        self.mempool_changed = true;
        match self.assemble_of(&Selection::default(), id, now) {
            Ok(template) => Ok((Arc::new(template), changes)),
            Err(TemplateError::Store(error)) => Err(error),
            Err(TemplateError::Invalid(error)) => Err(StoreError::Damaged(format!(
                "an empty block does not pass: {error}"
            ))),
        }
    }

    fn assemble_of(
        &mut self,
        selection: &Selection,
        id: u64,
        now: u64,
    ) -> Result<BlockTemplate, TemplateError> {
        assemble_template(&self.chain, &mut self.template_basis, selection, id, now)
    }

    /// Judges the transactions again that an error in a template names. If it names none, the tip
    /// gets empty templates only.
    fn judge_again(
        &mut self,
        selection: &Selection,
        error: &BlockError,
    ) -> Result<Vec<PendingChange>, StoreError> {
        let mut changes = Vec::new();
        let mut named = Vec::new();
        match error {
            BlockError::Transaction { index, .. } => {
                named.extend(selection.transactions.get(*index).cloned());
                if let Some(pending) = named.first() {
                    changes.extend(self.settle_again(pending)?);
                }
            }
            BlockError::BalanceOutOfRange { address } => {
                let paying = |pending: &&Arc<Pending>| paid_to(pending, address) > 0;
                named.extend(selection.transactions.iter().filter(paying).cloned());
                let snapshot = self.chain.store().snapshot()?;
                let balance = schema::account(snapshot.as_ref(), address)?.balance;
                let room = Amount::MAX_MONEY.grains().saturating_sub(balance.grains());
                let too_much = named
                    .iter()
                    .filter(|pending| paid_to(pending, address) > u128::from(room));
                for pending in too_much {
                    changes.extend(self.write_mempool().drop_bad(&pending.txid()));
                }
            }
            _ => {}
        }
        self.suspects.all |= named.is_empty();
        let txids = named.iter().map(|pending| pending.txid());
        self.suspects.txids.extend(txids);
        Ok(changes)
    }

    /// Holds the queue of a transaction's sender against the stored account, and checks the
    /// signature of the transaction again.
    fn settle_again(&mut self, pending: &Pending) -> Result<Vec<PendingChange>, StoreError> {
        let sender = &pending.body().sender;
        let snapshot = self.chain.store().snapshot()?;
        let account = schema::account(snapshot.as_ref(), sender)?;
        let mut changes = self
            .write_mempool()
            .revalidate_sender(sender, &account, |_| None);
        let key = {
            let mempool = self.read_mempool();
            mempool.signing_key(pending.checked(), &account).cloned()
        };
        let params = self.chain.params();
        if VerifiedTransaction::check(params, pending.checked().clone(), key.as_ref()).is_err() {
            changes.extend(self.write_mempool().drop_bad(&pending.txid()));
        }
        Ok(changes)
    }
}

/// Sum that a transaction pays to an address, grains.
fn paid_to(pending: &Pending, address: &Address) -> u128 {
    let outputs = pending.body().outputs.iter();
    outputs
        .filter(|output| output.recipient == *address)
        .map(|output| u128::from(output.amount.grains()))
        .sum()
}

/// What templates on one tip do without, because a template with it broke a rule. Another tip has
/// other accounts, so that nothing of this holds there.
#[derive(Debug, Default)]
pub(super) struct Suspects {
    tip: Option<BlockHash>,
    txids: HashSet<Txid>,
    /// The fault could not be laid on any transaction.
    all: bool,
}

impl Suspects {
    fn keep_to(&mut self, tip: BlockHash) {
        if self.tip != Some(tip) {
            *self = Self {
                tip: Some(tip),
                ..Self::default()
            };
        }
    }
}
