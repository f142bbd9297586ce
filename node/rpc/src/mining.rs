//! MiningService: work out, solutions in.

use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use pithead_api::convert;
use pithead_api::v1;
use pithead_api::v1::SubmitOutcome as Outcome;
use pithead_api::v1::mining_service_server::MiningService;
use pithead_consensus::block::VERSION_ROLL_MASK;
use pithead_consensus::check::{BlockError, HeaderError, NotYet};
use pithead_consensus::{Block, BlockCommitment, BlockHash, BlockHeader, Decode as _, Encode as _};
use tokio::sync::watch;
use tonic::{Request, Response, Status};

use super::chain::{Answers, bad_field};
use super::follow::{Closed, Outlet, too_slow, with_ending};
use super::reader::internal;
use super::{Api, status, stopped};
use crate::workers::{
    BlockCredit, Finder, HandedOut, Judged, Moment, Solution, Subscription, Telemetry, WorkBook,
    WorkerId,
};
use pithead_core::chain::AcceptError;
use pithead_core::node::BlockVerdict;
use pithead_core::sync::SyncStatus;
use pithead_core::template::BlockTemplate;
use pithead_engine::Stopped;

/// Longest worker name and agent, characters.
const NAME_CHARS_MAX: usize = 64;
/// Between two looks at how often a miner's shares come.
const RETARGET_INTERVAL: Duration = Duration::from_secs(5);
/// Longest name of a kernel, characters.
const KERNEL_CHARS_MAX: usize = 32;

/// The service.
#[derive(Clone)]
pub(super) struct Mining(pub(super) Api);

#[tonic::async_trait]
impl MiningService for Mining {
    type SubscribeWorkStream = Answers<v1::SubscribeWorkResponse>;

    async fn subscribe_work(
        &self,
        request: Request<v1::SubscribeWorkRequest>,
    ) -> Result<Response<Self::SubscribeWorkStream>, Status> {
        let remote = request
            .remote_addr()
            .map_or_else(String::new, |address| address.to_string());
        let request = request.into_inner();
        let reward_address = self
            .0
            .chain
            .address("reward_address", &request.reward_address)
            .map_err(bad_field)?;
        check_name("worker", &request.worker)?;
        check_name("agent", &request.agent)?;
        self.0.check_in_step()?;
        let worker = WorkerId {
            name: request.worker,
            reward_address,
        };
        let api = self.0.clone();
        let subscription =
            api.work_book()
                .subscribe(worker, request.agent, remote, api.engine.now());
        let guard = Subscribed {
            api: api.clone(),
            subscription,
        };
        let (outlet, answers) = Outlet::new();
        let (ending_sender, ending) = tokio::sync::oneshot::channel();
        tokio::spawn(async move {
            if send_work(&guard, &outlet).await.is_err() {
                let _ = ending_sender.send(too_slow("subscribe again"));
            }
        });
        Ok(Response::new(with_ending(answers, ending)))
    }

    async fn get_block_template(
        &self,
        request: Request<v1::GetBlockTemplateRequest>,
    ) -> Result<Response<v1::GetBlockTemplateResponse>, Status> {
        let request = request.into_inner();
        let reward_address = self
            .0
            .chain
            .address("reward_address", &request.reward_address)
            .map_err(bad_field)?;
        self.0.check_in_step()?;
        let template = self.0.fresh_template().await?;
        let commitment = template.commitment(reward_address, [0; 8]);
        let transactions = if request.include_transactions {
            let all = template.transactions.iter();
            all.map(|transaction| transaction.encode().into()).collect()
        } else {
            Vec::new()
        };
        Ok(Response::new(v1::GetBlockTemplateResponse {
            height: template.height.0,
            header: header_now(&self.0, &template, &commitment).into(),
            commitment: commitment.to_bytes().to_vec().into(),
            target: template.target.to_le_bytes().to_vec().into(),
            reward: template.reward().grains(),
            fees: template.fees.grains(),
            transaction_count: count(&template),
            transactions,
            min_time: Some(convert::timestamp(u64::from(template.time_min))),
            max_time: Some(convert::timestamp(self.0.time_max())),
        }))
    }

    async fn submit_solution(
        &self,
        request: Request<v1::SubmitSolutionRequest>,
    ) -> Result<Response<v1::SubmitSolutionResponse>, Status> {
        let request = request.into_inner();
        let extra_nonce = request.extra_nonce.as_ref().try_into().map_err(|_| {
            let found = request.extra_nonce.len();
            status::invalid("extra_nonce", format!("{found} bytes, 4 expected"))
        })?;
        let solution = Solution {
            work_id: request.work_id,
            extra_nonce,
            time: request.time,
            nonce: request.nonce,
            version: request.version,
            first_hash_ms: request.first_hash_ms,
        };
        let moment = Moment {
            tip: self.0.engine.tip().borrow().hash,
            now: self.0.engine.now(),
            max_future_secs: self.0.engine.genesis().params.max_future_secs,
        };
        let judged = self.0.work_book().judge(&solution, &moment);
        let (outcome, hash, detail) = match judged {
            Judged::Block { block, finder } => self.submit_found(*block, &finder).await?,
            Judged::Share(hash) => (Outcome::AcceptedShare, Some(hash), String::new()),
            Judged::Stale(hash) => (
                Outcome::StaleWork,
                Some(hash),
                "a newer tip came before it".to_owned(),
            ),
            Judged::UsedUp(hash) => (
                Outcome::StaleWork,
                Some(hash),
                "its work has had as many shares as are remembered: take newer work".to_owned(),
            ),
            Judged::UnknownWork => (
                Outcome::UnknownWork,
                None,
                format!(
                    "no work {:?}: too old, or from before a restart",
                    solution.work_id
                ),
            ),
            Judged::Duplicate(hash) => (
                Outcome::Duplicate,
                Some(hash),
                "it was handed in before".to_owned(),
            ),
            Judged::HighHash { hash, target } => (
                Outcome::HighHash,
                Some(hash),
                format!("the hash exceeds the share target {target}"),
            ),
            Judged::BadTime { min, max } => (
                Outcome::BadTime,
                None,
                format!("time {} is not within {min} and {max}", solution.time),
            ),
            Judged::BadVersion => (
                Outcome::Invalid,
                None,
                format!(
                    "version {:#010x}: only bits 13 to 28 may be rolled",
                    solution.version
                ),
            ),
        };
        Ok(Response::new(v1::SubmitSolutionResponse {
            outcome: outcome.into(),
            block_hash: hash.map_or_else(String::new, |hash| hash.to_string()),
            detail,
        }))
    }

    async fn submit_block(
        &self,
        request: Request<v1::SubmitBlockRequest>,
    ) -> Result<Response<v1::SubmitBlockResponse>, Status> {
        let raw = request.into_inner().raw;
        let block = match Block::decode(&raw) {
            Ok(block) => block,
            Err(error) => {
                return Ok(Response::new(v1::SubmitBlockResponse {
                    outcome: Outcome::Invalid.into(),
                    block_hash: String::new(),
                    detail: format!("the bytes are not a block: {error}"),
                }));
            }
        };
        let hash = block.header.hash();
        let (outcome, detail) = self.submit(block).await?;
        Ok(Response::new(v1::SubmitBlockResponse {
            outcome: outcome.into(),
            block_hash: hash.to_string(),
            detail,
        }))
    }

    async fn report_telemetry(
        &self,
        request: Request<v1::ReportTelemetryRequest>,
    ) -> Result<Response<v1::ReportTelemetryResponse>, Status> {
        let request = request.into_inner();
        check_name("worker", &request.worker)?;
        let reward_address = self
            .0
            .chain
            .address("reward_address", &request.reward_address)
            .map_err(bad_field)?;
        let telemetry = telemetry(request.telemetry.unwrap_or_default())?;
        let worker = WorkerId {
            name: request.worker,
            reward_address,
        };
        if !self.0.work_book().record_telemetry(&worker, telemetry) {
            return Err(status::not_found(
                "WORKER_NOT_FOUND",
                format!("no miner {:?} has subscribed", worker.name),
            ));
        }
        Ok(Response::new(v1::ReportTelemetryResponse {}))
    }

    async fn list_workers(
        &self,
        _request: Request<v1::ListWorkersRequest>,
    ) -> Result<Response<v1::ListWorkersResponse>, Status> {
        let now = self.0.engine.now();
        let book = self.0.work_book();
        let mut total = 0.0;
        let workers = book
            .workers()
            .into_iter()
            .map(|(id, record)| {
                let hash_rate = record.hash_rate(now);
                if record.subscriptions > 0 {
                    total += hash_rate;
                }
                v1::Worker {
                    name: id.name.clone(),
                    reward_address: self.0.chain.address_text(&id.reward_address),
                    agent: record.agent.clone(),
                    connected: record.subscriptions > 0,
                    accepted_blocks: record.accepted_blocks,
                    side_blocks: record.side_blocks,
                    accepted_shares: record.accepted_shares,
                    stale: record.stale,
                    rejected: record.rejected,
                    hash_rate,
                    share_difficulty: record.share_hashes,
                    connected_time: Some(convert::timestamp(record.connected_at)),
                    last_share_time: (record.last_share_at > 0)
                        .then(|| convert::timestamp(record.last_share_at)),
                    first_hash_ms: record.first_hash_ms,
                    remote_address: record.remote.clone(),
                    stale_rate: record.stale_rate(),
                    telemetry: record.telemetry.as_ref().map(telemetry_message),
                }
            })
            .collect();
        Ok(Response::new(v1::ListWorkersResponse {
            workers,
            total_hash_rate: total,
        }))
    }
}

impl Mining {
    async fn submit_found(
        &self,
        block: Block,
        finder: &Finder,
    ) -> Result<(Outcome, Option<BlockHash>, String), Status> {
        let hash = block.header.hash();
        let (outcome, detail) = self.submit(block).await?;
        let credit = match outcome {
            Outcome::AcceptedBlock => BlockCredit::Tip,
            Outcome::AcceptedSide => BlockCredit::Side,
            _ => BlockCredit::Rejected,
        };
        let now = self.0.engine.now();
        self.0.work_book().record_block(finder, credit, now);
        if credit == BlockCredit::Tip {
            tracing::info!(worker = %finder.worker.name, %hash, "block found");
        }
        Ok((outcome, Some(hash), detail))
    }

    /// Hands a block to the core and words its verdict.
    async fn submit(&self, block: Block) -> Result<(Outcome, String), Status> {
        let verdict = self.0.engine.submit_block(block).await.map_err(stopped)?;
        let error = match verdict {
            Ok(BlockVerdict::NewTip) => return Ok((Outcome::AcceptedBlock, String::new())),
            Ok(BlockVerdict::Side) => {
                let detail = "valid, but another chain has at least as much work";
                return Ok((Outcome::AcceptedSide, detail.to_owned()));
            }
            Err(error) => error,
        };
        let outcome = match &error {
            AcceptError::Known { .. } => Outcome::Duplicate,
            AcceptError::NotYet {
                reason: NotYet::TimeTooFarAhead { .. },
                ..
            } => Outcome::BadTime,
            AcceptError::NotYet {
                reason: NotYet::MissingParent { .. },
                ..
            } => Outcome::NotSynced,
            AcceptError::Invalid(BlockError::Header(HeaderError::HighHash { .. })) => {
                Outcome::HighHash
            }
            AcceptError::Invalid(BlockError::Header(HeaderError::TimeBeforeParent { .. })) => {
                Outcome::BadTime
            }
            AcceptError::Invalid(_) | AcceptError::InvalidAncestor { .. } => Outcome::Invalid,
            AcceptError::TooDeep { .. } => Outcome::AcceptedSide,
            AcceptError::Internal(_) => {
                return Err(status::internal(
                    "the node could not store the block; its log says more",
                ));
            }
        };
        Ok((outcome, error.to_string()))
    }
}

/// A subscription that ends with the stream.
struct Subscribed {
    api: Api,
    subscription: Subscription,
}

impl Drop for Subscribed {
    fn drop(&mut self) {
        let now = self.api.engine.now();
        self.api.work_book().unsubscribe(&self.subscription, now);
    }
}

impl Api {
    /// The book of work and workers.
    pub(super) fn work_book(&self) -> MutexGuard<'_, WorkBook> {
        self.work_book
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// A template with everything pending in it.
    pub(super) async fn fresh_template(&self) -> Result<Arc<BlockTemplate>, Status> {
        let template = self.engine.fresh_template().await.map_err(stopped)?;
        template.map_err(internal)
    }

    /// Nobody should mine on a chain that is far behind.
    fn check_in_step(&self) -> Result<(), Status> {
        let sync = *self.engine.sync().borrow();
        if sync.syncing {
            return Err(self.syncing(&sync));
        }
        Ok(())
    }

    fn syncing(&self, sync: &SyncStatus) -> Status {
        let (height, best) = (
            self.engine.tip().borrow().height.0,
            sync.best_header_height.0,
        );
        status::syncing(height, best)
    }

    /// The latest time that a header may carry now.
    fn time_max(&self) -> u64 {
        self.engine.now() + u64::from(self.engine.genesis().params.max_future_secs)
    }
}

/// Sends work as long as the miner listens and the node is in step: the present
/// template at once, then every new one.
async fn send_work(
    subscribed: &Subscribed,
    outlet: &Outlet<v1::SubscribeWorkResponse>,
) -> Result<(), Closed> {
    let api = &subscribed.api;
    let mut templates = api.engine.template();
    let mut sync = api.engine.sync();
    let mut parent = None;
    loop {
        // Before the template: once in step, the node has a new one first.
        let status = *sync.borrow_and_update();
        if status.syncing {
            outlet.fail(api.syncing(&status)).await;
            return Ok(());
        }
        let template = Arc::clone(&templates.borrow_and_update());
        let clean = parent != Some(template.parent);
        parent = Some(template.parent);
        let message = {
            let now = api.engine.now();
            let mut book = api.work_book();
            let work = book.hand_out(&subscribed.subscription, template, now);
            work_message(api, &work, clean)
        };
        outlet.send(message).await?;
        tokio::select! {
            changed = templates.changed() => if changed.is_err() { return Ok(()) },
            () = until_syncing(&mut sync) => {}
            () = until_share_target_is_off(subscribed) => {}
            () = outlet.closed() => return Ok(()),
            () = api.until_stopping() => {
                outlet.fail(stopped(Stopped)).await;
                return Ok(());
            }
        }
    }
}

/// Completes when the node falls far behind; never once the core is gone, which
/// shows elsewhere.
async fn until_syncing(sync: &mut watch::Receiver<SyncStatus>) {
    if sync.wait_for(|status| status.syncing).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Completes when the subscriber's shares have come to be much too frequent, or
/// too rare, for the work it has.
async fn until_share_target_is_off(subscribed: &Subscribed) {
    let api = &subscribed.api;
    loop {
        tokio::time::sleep(RETARGET_INTERVAL).await;
        let now = api.engine.now();
        let book = api.work_book();
        if book.needs_share_target(&subscribed.subscription, now) {
            return;
        }
    }
}

fn work_message(api: &Api, work: &HandedOut, clean: bool) -> v1::SubscribeWorkResponse {
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
        transaction_count: count(template),
        min_time: Some(convert::timestamp(u64::from(template.time_min))),
        max_time: Some(convert::timestamp(api.time_max())),
        clean,
        version_mask: VERSION_ROLL_MASK,
        sent_time: Some(convert::timestamp(api.engine.now())),
    }
}

/// The header over a commitment, with the time that it is: a template may have
/// been assembled a while ago.
fn header_now(api: &Api, template: &BlockTemplate, commitment: &BlockCommitment) -> Vec<u8> {
    let now = u32::try_from(api.engine.now()).unwrap_or(u32::MAX);
    let header = BlockHeader {
        time: template.time.max(now),
        ..template.header(commitment)
    };
    header.to_bytes().to_vec()
}

fn count(template: &BlockTemplate) -> u32 {
    u32::try_from(template.transactions.len()).unwrap_or(u32::MAX)
}

/// What a miner says of itself, as far as it makes sense: figures that are no
/// numbers count as not said.
fn telemetry(message: v1::MinerTelemetry) -> Result<Telemetry, Status> {
    if message.kernel.chars().count() > KERNEL_CHARS_MAX
        || message.kernel.chars().any(char::is_control)
    {
        return Err(status::invalid(
            "telemetry.kernel",
            format!("at most {KERNEL_CHARS_MAX} printable characters"),
        ));
    }
    let sound = |figure: Option<f64>| figure.filter(|figure| figure.is_finite());
    Ok(Telemetry {
        kernel: message.kernel,
        threads: message.threads,
        hash_rate: sound(Some(message.hash_rate)).unwrap_or(0.0).max(0.0),
        first_hash_p50_ms: sound(message.first_hash_p50_ms),
        first_hash_p99_ms: sound(message.first_hash_p99_ms),
        temperature_celsius: sound(message.temperature_celsius),
        power_watts: sound(message.power_watts),
    })
}

fn telemetry_message(telemetry: &Telemetry) -> v1::MinerTelemetry {
    v1::MinerTelemetry {
        kernel: telemetry.kernel.clone(),
        threads: telemetry.threads,
        hash_rate: telemetry.hash_rate,
        first_hash_p50_ms: telemetry.first_hash_p50_ms,
        first_hash_p99_ms: telemetry.first_hash_p99_ms,
        temperature_celsius: telemetry.temperature_celsius,
        power_watts: telemetry.power_watts,
    }
}

fn check_name(field: &str, name: &str) -> Result<(), Status> {
    let printable = name.chars().all(|char| !char.is_control());
    if name.chars().count() > NAME_CHARS_MAX || !printable {
        return Err(status::invalid(
            field,
            format!("at most {NAME_CHARS_MAX} printable characters"),
        ));
    }
    Ok(())
}
