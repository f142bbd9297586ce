//! Templates: when miners get new work, and what is done about a transaction
//! that spoils it.

use std::sync::Arc;

use pithead_consensus::Txid;
use pithead_consensus::check::BlockError;

use super::{Effect, Node, Sink, report};
use crate::mempool::{Mempool, PendingChange};
use crate::store::StoreError;
use crate::template::{BlockTemplate, TemplateError, assemble_template};

/// Seconds after which any growth of the reward is worth a new template: no
/// payment should miss a block for being small.
const TEMPLATE_AGE_MIN_SECS: u64 = 3;

impl Node {
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

    /// A new template if the present one is old, or if the mempool would now
    /// pay enough more.
    #[allow(clippy::type_complexity)]
    pub(super) fn template_if_due(
        &mut self,
        now: u64,
    ) -> Result<Option<(Arc<BlockTemplate>, Vec<PendingChange>)>, StoreError> {
        let Some(present) = self.template.clone() else {
            return Ok(None);
        };
        if self.sync.status().syncing {
            // Nobody is given it; `renew_stale_template` follows at the end.
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
        // The first transactions are always worth a new template: nobody
        // likes to wait for an empty block.
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

    /// Once caught up, miners are given work on the new tip.
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

    pub(super) fn renew_template(
        &mut self,
        now: u64,
    ) -> Result<(Arc<BlockTemplate>, Vec<PendingChange>), StoreError> {
        self.template_count += 1;
        self.mempool_changed = false;
        self.template_is_stale = false;
        let (template, changes) = self.assemble(self.template_count, now)?;
        self.template = Some(Arc::clone(&template));
        Ok((template, changes))
    }

    /// Assembles a template; a transaction that spoils it is dropped.
    fn assemble(
        &self,
        id: u64,
        now: u64,
    ) -> Result<(Arc<BlockTemplate>, Vec<PendingChange>), StoreError> {
        let mut changes = Vec::new();
        loop {
            let mut mempool = self.write_mempool();
            match assemble_template(&self.chain, &mempool, id, now) {
                Ok(template) => return Ok((Arc::new(template), changes)),
                Err(TemplateError::Store(error)) => return Err(error),
                Err(TemplateError::Invalid(error)) => {
                    let culprits = culprits(&mempool, &error);
                    if culprits.is_empty() {
                        return Err(StoreError::Damaged(format!(
                            "an empty block does not pass: {error}"
                        )));
                    }
                    for txid in culprits {
                        changes.extend(mempool.drop_bad(&txid));
                    }
                }
            }
        }
    }
}

/// Whom to drop so that a template passes: those who pay the account that the
/// error names; failing that, everything. Admission keeps such transactions
/// out, so this is the last resort that keeps miners at work.
fn culprits(mempool: &Mempool, error: &BlockError) -> Vec<Txid> {
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
