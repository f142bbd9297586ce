//! The life of one connection: work arrives, solutions leave, reports are sent. At the
//! end of the run, the session still hands in what the workers find last.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pithead_api::v1::ReportTelemetryRequest;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::config::{LinkConfig, LinkParts};
use super::connect::{WorkConnection, authorized};
use super::status;
use super::submissions::{AfterAnswer, Submissions};
use super::submit::{Calls, SubmissionForm};
use crate::work::MiningWork;

/// The most calls under way at a time.
const IN_FLIGHT_MAX: usize = 8;
/// The most calls for blocks under way at a time.
const BLOCKS_IN_FLIGHT_MAX: usize = 4;
/// The time between two reports to the node.
const TELEMETRY_INTERVAL: Duration = Duration::from_secs(10);
/// How long a report may take.
const TELEMETRY_TIMEOUT: Duration = Duration::from_secs(5);
/// The time from connecting to the first report, which needs a hash rate.
const TELEMETRY_DELAY: Duration = Duration::from_secs(2);
/// How long the end of a run waits for the workers' last batches and for answers. A
/// block that is found then is worth several seconds.
const DRAIN_TIME: Duration = Duration::from_secs(5);

/// Why a session ended.
pub(super) enum SessionEnd {
    /// The run is over: the user stopped it, or enough blocks are accepted.
    Finished,
    /// The connection is lost, for this reason.
    Lost(String),
}

/// The parts of the link that outlive its connections.
#[derive(Debug)]
pub(super) struct SessionContext {
    pub(super) config: LinkConfig,
    pub(super) parts: LinkParts,
    pub(super) submissions: Submissions,
    /// Turns true when the run is to end.
    pub(super) stop: watch::Receiver<bool>,
}

impl SessionContext {
    /// Uses a connection until it is lost or the run ends.
    pub(super) async fn run(&mut self, mut connection: WorkConnection) -> SessionEnd {
        self.submissions.remember_node(&connection);
        if let Some(work) = connection.first_work.take() {
            self.parts.stats.count_connection();
            let work = self.new_work(work);
            self.parts.board.start_over(work);
        }
        let mut calls = Calls::default();
        for solution in self.submissions.take_carried() {
            self.submissions.hand_in(solution, &connection, &mut calls);
        }
        let end = self.exchange(&mut connection, &mut calls).await;
        if let SessionEnd::Finished = end {
            // The workers stop first: the queues close once the last batch is done.
            self.parts.board.stop();
            let drained = self.drain(&connection, &mut calls);
            if tokio::time::timeout(DRAIN_TIME, drained).await.is_err() {
                tracing::warn!("the node has not judged everything within {DRAIN_TIME:?}");
            }
        }
        self.submissions.carry(calls.cancel());
        end
    }

    /// Passes work, solutions, answers and reports on, until something ends the session.
    async fn exchange(&mut self, connection: &mut WorkConnection, calls: &mut Calls) -> SessionEnd {
        let mut reports = tokio::time::interval_at(
            tokio::time::Instant::now() + TELEMETRY_DELAY,
            TELEMETRY_INTERVAL,
        );
        reports.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let (block_free, share_free) = self.free(calls);
            tokio::select! {
                biased;
                () = stopped(&mut self.stop) => return SessionEnd::Finished,
                work = connection.next_work(&self.config) => match work {
                    Ok(work) => self.parts.board.publish(Some(self.new_work(work))),
                    Err(reason) => return SessionEnd::Lost(reason),
                },
                Some(answer) = calls.next() => {
                    match self.submissions.handle_answer(answer) {
                        AfterAnswer::Continue => {}
                        AfterAnswer::HandInBlock(solution) => {
                            calls.start(solution, SubmissionForm::Block, connection);
                        }
                        AfterAnswer::Leave(reason) => return SessionEnd::Lost(reason),
                    }
                    if self.submissions.has_all_blocks() {
                        return SessionEnd::Finished;
                    }
                }
                Some(solution) = self.parts.queues.blocks.recv(), if block_free => {
                    self.submissions.hand_in(Arc::new(solution), connection, calls);
                }
                Some(solution) = self.parts.queues.shares.recv(), if share_free => {
                    self.submissions.hand_in(Arc::new(solution), connection, calls);
                }
                _ = reports.tick() => self.report(connection),
            }
        }
    }

    /// Whether another block, and another share, may be handed in now.
    fn free(&self, calls: &Calls) -> (bool, bool) {
        // With a limit of accepted blocks, one block at a time is handed in: no further
        // block may be accepted after the last one of the limit.
        let blocks_max = if self.submissions.has_block_limit() {
            1
        } else {
            BLOCKS_IN_FLIGHT_MAX
        };
        (calls.blocks() < blocks_max, calls.len() < IN_FLIGHT_MAX)
    }

    /// Hands in what the workers find until they have ended, and waits for all answers.
    async fn drain(&mut self, connection: &WorkConnection, calls: &mut Calls) {
        let (mut blocks_open, mut shares_open) = (true, true);
        while blocks_open || shares_open || calls.len() > 0 {
            let (block_free, share_free) = self.free(calls);
            tokio::select! {
                biased;
                Some(answer) = calls.next() => match self.submissions.handle_answer(answer) {
                    AfterAnswer::HandInBlock(solution) => {
                        calls.start(solution, SubmissionForm::Block, connection);
                    }
                    AfterAnswer::Continue | AfterAnswer::Leave(_) => {}
                },
                solution = self.parts.queues.blocks.recv(), if blocks_open && block_free => {
                    match solution.map(Arc::new) {
                        // The limit of accepted blocks is reached already.
                        Some(solution) if self.submissions.has_all_blocks() => {
                            self.submissions.carry(vec![solution]);
                        }
                        Some(solution) => self.submissions.hand_in(solution, connection, calls),
                        None => blocks_open = false,
                    }
                }
                solution = self.parts.queues.shares.recv(), if shares_open && share_free => {
                    match solution.map(Arc::new) {
                        Some(solution) => self.submissions.hand_in(solution, connection, calls),
                        None => shares_open = false,
                    }
                }
            }
        }
    }

    /// Sends a report to the node. Mining never waits for it, and a node that refuses
    /// it does no harm.
    fn report(&mut self, connection: &WorkConnection) {
        let telemetry = self
            .parts
            .telemetry
            .report(&self.parts.stats, Instant::now());
        let message = ReportTelemetryRequest {
            worker: self.config.worker.clone(),
            reward_address: self.config.reward_address.clone(),
            telemetry: Some(telemetry),
        };
        let mut request = authorized(message, connection.token.as_ref());
        request.set_timeout(TELEMETRY_TIMEOUT);
        let mut client = connection.client.clone();
        tokio::spawn(async move {
            if let Err(error) = client.report_telemetry(request).await {
                tracing::debug!("no telemetry: {}", status::describe(&error));
            }
        });
    }

    /// Stores the latencies of the previous work, before new work is put on the board.
    fn new_work(&self, work: MiningWork) -> Arc<MiningWork> {
        let previous = self.parts.board.newest();
        let workers = self.parts.stats.workers();
        let first_us = previous.as_deref().and_then(MiningWork::first_hash_us);
        let last_us = previous.and_then(|work| work.last_worker_us(workers));
        self.parts.stats.count_work(first_us, last_us);
        tracing::debug!(
            id = work.id,
            height = work.height,
            clean = work.clean,
            transactions = work.transaction_count,
            previous_first_hash_us = first_us,
            previous_last_worker_us = last_us,
            "new work"
        );
        Arc::new(work)
    }

    /// Counts all solutions without an answer as lost, at the end of the run.
    pub(super) fn count_rest_as_lost(&mut self) {
        for solution in self.submissions.take_carried() {
            self.submissions.count_lost(&solution, "at_the_end");
        }
        let queues = &mut self.parts.queues;
        queues.blocks.close();
        queues.shares.close();
        while let Ok(solution) = queues
            .blocks
            .try_recv()
            .or_else(|_| queues.shares.try_recv())
        {
            self.submissions.count_lost(&solution, "at_the_end");
        }
    }
}

/// Completes when the run is to end.
pub(super) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone; then nothing can stop the run any more, and
    // it ends as well.
    let _ = stop.wait_for(|stop| *stop).await;
}
