//! The oracle: in debug builds, every verdict about a block's place on the chain, and every template,
//! is judged a second time by `consensus` alone, from the stored state and the block's own bytes.
//!
//! The chain spares itself work by what it remembers, for example a signature that was checked
//! before. The oracle remembers nothing. If the two disagree, the node has remembered a wrong fact,
//! and the process ends with the block and the rule. Builds without debug assertions contain none
//! of this. Start reading at `confirm_connection`.

use std::cell::Cell;

thread_local! {
    static SUSPENDED: Cell<bool> = const { Cell::new(false) };
}

/// Runs `act` on this thread without the oracle: for tests that count what an event costs. A build
/// without debug assertions has no oracle in any case.
pub fn without_oracle<T>(act: impl FnOnce() -> T) -> T {
    let before = SUSPENDED.replace(true);
    let result = act();
    SUSPENDED.set(before);
    result
}

#[cfg(debug_assertions)]
pub(crate) use judge::{confirm_connection, confirm_template};

#[cfg(debug_assertions)]
mod judge {
    use std::collections::HashSet;

    use pithead_consensus::check::{
        BlockError, CheckedBlock, CheckedTransaction, check_assembled, check_block,
        check_header_in_context,
    };
    use pithead_consensus::connect::{ConnectContext, ConnectedBlock, Reward, connect_block};
    use pithead_consensus::{Block, Decode as _, Encode as _};

    use super::super::{Chain, ancestors, load_accounts};
    use super::SUSPENDED;
    use crate::store::Snapshot;
    use crate::store::StoreError;
    use crate::store::schema::ChainEntry;

    /// What `consensus` makes of a block or a template.
    type Verdict = Result<ConnectedBlock, BlockError>;

    /// Confirms the verdict on a block that was connected, or refused, on top of `parent`.
    /// `at_parent` is the state after the parent.
    ///
    /// # Panics
    /// If `consensus` alone comes to another verdict.
    pub(crate) fn confirm_connection(
        chain: &Chain,
        at_parent: &dyn Snapshot,
        parent: &ChainEntry,
        block: &CheckedBlock,
        verdict: &Verdict,
    ) {
        if SUSPENDED.get() {
            return;
        }
        // A failure of storage is the caller's to report: it reads the same.
        let Ok(alone) = judge_bytes(chain, at_parent, parent, &block.block().encode()) else {
            return;
        };
        compare(&format!("block {}", block.hash()), verdict, &alone);
    }

    /// Confirms the verdict on a template for the tip, whose transactions this process may have
    /// checked when they came.
    ///
    /// # Panics
    /// If `consensus` alone comes to another verdict.
    pub(crate) fn confirm_template(
        chain: &Chain,
        at_tip: &dyn Snapshot,
        template: &CheckedBlock,
        verdict: &Verdict,
    ) {
        if SUSPENDED.get() {
            return;
        }
        let Ok(alone) = judge_template(chain, at_tip, template.block()) else {
            return;
        };
        compare("a template", verdict, &alone);
    }

    fn compare(what: &str, verdict: &Verdict, alone: &Verdict) {
        assert!(
            verdict == alone,
            "oracle: {what}: the node says {}, consensus alone says {}",
            in_words(verdict),
            in_words(alone),
        );
    }

    fn in_words(verdict: &Verdict) -> String {
        match verdict {
            Ok(connected) => format!(
                "valid, with {} accounts changed and fees of {} grains",
                connected.change.0.len(),
                connected.fees.grains()
            ),
            Err(error) => format!("invalid: {error}"),
        }
    }

    fn judge_bytes(
        chain: &Chain,
        at_parent: &dyn Snapshot,
        parent: &ChainEntry,
        bytes: &[u8],
    ) -> Result<Verdict, StoreError> {
        let damaged = |error| StoreError::Damaged(format!("a block's own encoding: {error}"));
        let block = Block::decode(bytes).map_err(damaged)?;
        let checked = match check_block(chain.params(), block) {
            Ok(checked) => checked,
            Err(error) => return Ok(Err(error)),
        };
        let header = &checked.block().header;
        let below = ancestors(at_parent, parent)?;
        if let Err(error) = check_header_in_context(chain.params(), header, &below) {
            return Ok(Err(BlockError::Header(error)));
        }
        connect(chain, at_parent, parent, &checked)
    }

    fn judge_template(
        chain: &Chain,
        at_tip: &dyn Snapshot,
        template: &Block,
    ) -> Result<Verdict, StoreError> {
        let transactions = template.transactions.iter().enumerate();
        let checked: Result<Vec<_>, BlockError> = transactions
            .map(|(index, transaction)| {
                CheckedTransaction::new(chain.params(), transaction.clone()).map_err(|failed| {
                    BlockError::Transaction {
                        index,
                        error: failed.error,
                    }
                })
            })
            .collect();
        let assembled = checked.and_then(|checked| {
            let each: Vec<_> = checked.iter().collect();
            let (header, commitment) = (template.header, template.commitment);
            check_assembled(chain.params(), header, commitment, &each)
        });
        match assembled {
            Ok(assembled) => connect(chain, at_tip, chain.tip(), &assembled),
            Err(error) => Ok(Err(error)),
        }
    }

    /// Connects a block without any signature taken as checked.
    fn connect(
        chain: &Chain,
        at_parent: &dyn Snapshot,
        parent: &ChainEntry,
        block: &CheckedBlock,
    ) -> Result<Verdict, StoreError> {
        let matured: Option<Reward> = chain.matured_reward(at_parent, parent.height.next())?;
        let accounts = load_accounts(at_parent, block.block(), matured.as_ref())?;
        let context = ConnectContext {
            params: chain.params(),
            parent_time: parent.header.time,
            state_root: parent.outcome.state_root,
            matured_reward: matured,
        };
        Ok(connect_block(&context, block, &accounts, &HashSet::new()))
    }
}
