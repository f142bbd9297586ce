//! When miners get new work, and what is done about a transaction that breaks a template. Start
//! reading at [`Node::template_if_due`].

use std::sync::Arc;

use pithead_consensus::Txid;
use pithead_consensus::check::BlockError;

use super::{Effect, Node, Sink, report};
use crate::mempool::{Mempool, PendingChange};
use crate::store::StoreError;
use crate::template::{BlockTemplate, TemplateError, assemble_template};

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

    /// Assembles a template. Transactions that break it are dropped, and the rest is tried again.
    fn assemble(&self, id: u64, now: u64) -> Result<Assembled, StoreError> {
        let mut changes = Vec::new();
        loop {
            let mut mempool = self.write_mempool();
            match assemble_template(&self.chain, &mempool, id, now) {
                Ok(template) => return Ok((Arc::new(template), changes)),
                Err(TemplateError::Store(error)) => return Err(error),
                Err(TemplateError::Invalid(error)) => {
                    let offending = offending(&mempool, &error);
                    if offending.is_empty() {
                        return Err(StoreError::Damaged(format!(
                            "an empty block does not pass: {error}"
                        )));
                    }
                    for txid in offending {
                        changes.extend(mempool.drop_bad(&txid));
                    }
                }
            }
        }
    }
}

/// Which transactions to drop so that a template passes: those that pay the account which the error
/// names, or else all. Admission keeps such transactions out; this last resort keeps miners at work
/// if it fails.
fn offending(mempool: &Mempool, error: &BlockError) -> Vec<Txid> {
    let all = || {
        mempool
            .iter_by_rate()
            .map(|pending| pending.txid())
            .collect()
    };
    match error {
        BlockError::BalanceOutOfRange { address } => {
            let of_recipient: Vec<Txid> = mempool
                .iter_by_rate()
                .filter(|pending| {
                    let mut outputs = pending.body().outputs.iter();
                    outputs.any(|output| output.recipient == *address)
                })
                .map(|pending| pending.txid())
                .collect();
            if of_recipient.is_empty() {
                all()
            } else {
                of_recipient
            }
        }
        _ => all(),
    }
}
