//! Work for miners: block templates, the stream of work, and when new work is due.
//!
//! Start at [`send_work`].

use std::sync::Arc;
use std::time::Duration;

use pithead_api::convert;
use pithead_api::v1;
use pithead_consensus::block::VERSION_ROLL_MASK;
use pithead_consensus::{Address, BlockCommitment, BlockHeader, Encode as _};
use pithead_core::sync::SyncStatus;
use pithead_core::template::BlockTemplate;
use tokio::sync::watch;
use tonic::Status;

use crate::api::Api;
use crate::outlet::{Outlet, StreamEnd};
use crate::status;
use crate::workers::{AssignedWork, WorkSubscription, WorkerId};

/// Time between two looks at how often a miner's shares come.
const RETARGET_INTERVAL: Duration = Duration::from_secs(5);

/// A miner's subscription. It ends when the stream does, however that comes about.
pub(super) struct OpenSubscription {
    api: Api,
    subscription: WorkSubscription,
}

impl OpenSubscription {
    /// `remote` is the address that the miner connects from, for ListWorkers.
    pub(super) fn open(api: &Api, worker: WorkerId, agent: String, remote: String) -> Self {
        let now = api.engine.now();
        let subscription = api.work_book().subscribe(worker, agent, remote, now);
        Self {
            api: api.clone(),
            subscription,
        }
    }
}

impl Drop for OpenSubscription {
    fn drop(&mut self) {
        let now = self.api.engine.now();
        self.api.work_book().unsubscribe(&self.subscription, now);
    }
}

/// Whether miners get work. They get none while the node, or its clock, is far behind its peers: a
/// block that a miner then finds would extend an old chain.
pub(crate) fn has_work(sync: &SyncStatus) -> bool {
    !sync.syncing && sync.clock_behind_secs == 0
}

/// Refuses to give work unless [`has_work`].
pub(super) fn check_has_work(api: &Api) -> Result<(), Status> {
    let sync = *api.engine.sync().borrow();
    if has_work(&sync) {
        Ok(())
    } else {
        Err(no_work(api, &sync))
    }
}

fn no_work(api: &Api, sync: &SyncStatus) -> Status {
    if sync.clock_behind_secs > 0 {
        return status::clock_behind(sync.clock_behind_secs);
    }
    let height = api.engine.tip().borrow().height.0;
    status::syncing(height, sync.best_header_height.0)
}

/// GetBlockTemplate: a template for a miner that fills in everything by itself.
pub(super) async fn block_template(
    api: &Api,
    reward_address: Address,
    include_transactions: bool,
) -> Result<v1::GetBlockTemplateResponse, Status> {
    check_has_work(api)?;
    let template = api.fresh_template().await?;
    let commitment = template.commitment(reward_address, [0; 8]);
    let transactions = if include_transactions {
        let all = template.transactions.iter();
        all.map(|transaction| transaction.encode().into()).collect()
    } else {
        Vec::new()
    };
    Ok(v1::GetBlockTemplateResponse {
        height: template.height.0,
        header: header_now(api, &template, &commitment).into(),
        commitment: commitment.to_bytes().to_vec().into(),
        target: template.target.to_le_bytes().to_vec().into(),
        reward: template.reward().grains(),
        fees: template.fees.grains(),
        transaction_count: transaction_count(&template),
        transactions,
        min_time: Some(convert::timestamp(u64::from(template.time_min))),
        max_time: Some(convert::timestamp(time_max(api))),
    })
}

/// Sends work on the present template at once, and then whenever the work should change: with
/// every new template, and when the share target no longer fits the miner. Ends when
/// there is no work any more ([`has_work`]).
pub(super) async fn send_work(
    miner: OpenSubscription,
    outlet: Outlet<v1::SubscribeWorkResponse>,
) -> Result<(), StreamEnd> {
    let api = &miner.api;
    let mut templates = api.engine.template();
    let mut sync = api.engine.sync();
    let mut parent = None;
    loop {
        // Asked before the template is taken: a node that has caught up makes a new template
        // before it says so.
        let status = *sync.borrow_and_update();
        if !has_work(&status) {
            return Err(no_work(api, &status).into());
        }
        let template = Arc::clone(&templates.borrow_and_update());
        let clean = parent != Some(template.parent);
        parent = Some(template.parent);
        let message = {
            let now = api.engine.now();
            let mut book = api.work_book();
            let work = book.assign(&miner.subscription, template, now);
            work_message(api, &work, clean)
        };
        outlet.send(message).await?;
        tokio::select! {
            changed = templates.changed() => if changed.is_err() { return Ok(()) },
            () = until_no_work(&mut sync) => {}
            () = until_share_target_is_off(&miner) => {}
            end = outlet.until_over(api) => return Err(end),
        }
    }
}

/// Completes when miners are to get no more work. It never completes once the core has
/// stopped, which other channels show.
async fn until_no_work(sync: &mut watch::Receiver<SyncStatus>) {
    if sync.wait_for(|status| !has_work(status)).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Completes when the miner's shares have come to be much too frequent, or too rare, for the work
/// that it has.
async fn until_share_target_is_off(miner: &OpenSubscription) {
    loop {
        tokio::time::sleep(RETARGET_INTERVAL).await;
        let now = miner.api.engine.now();
        let book = miner.api.work_book();
        if book.needs_share_target(&miner.subscription, now) {
            return;
        }
    }
}

/// `clean` tells the miner to drop its earlier work: the tip is another one.
fn work_message(api: &Api, work: &AssignedWork, clean: bool) -> v1::SubscribeWorkResponse {
    let template = &work.template;
    v1::SubscribeWorkResponse {
        work_id: work.work_id.clone(),
        height: template.height.0,
        header: header_now(api, template, &work.commitment).into(),
        commitment: work.commitment.to_bytes().to_vec().into(),
        target: template.target.to_le_bytes().to_vec().into(),
        share_target: work.share_target.to_le_bytes().to_vec().into(),
        reward: template.reward().grains(),
        fees: template.fees.grains(),
        transaction_count: transaction_count(template),
        min_time: Some(convert::timestamp(u64::from(template.time_min))),
        max_time: Some(convert::timestamp(time_max(api))),
        clean,
        version_mask: VERSION_ROLL_MASK,
        sent_time: Some(convert::timestamp(api.engine.now())),
    }
}

/// The header over a commitment with the present time: the template may have been assembled a
/// while ago.
fn header_now(api: &Api, template: &BlockTemplate, commitment: &BlockCommitment) -> Vec<u8> {
    let now = u32::try_from(api.engine.now()).unwrap_or(u32::MAX);
    let header = BlockHeader {
        time: template.time.max(now),
        ..template.header(commitment)
    };
    header.to_bytes().to_vec()
}

fn transaction_count(template: &BlockTemplate) -> u32 {
    u32::try_from(template.transactions.len()).unwrap_or(u32::MAX)
}

/// The latest time that a header may carry now.
fn time_max(api: &Api) -> u64 {
    api.engine.now() + u64::from(api.engine.genesis().params.max_future_secs)
}
