//! One connection's life: work comes, solutions go, reports are made; and the end
//! of a run, which hands in what the workers still find.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pithead_api::v1::ReportTelemetryRequest;
use tokio::time::MissedTickBehavior;

use super::connect::{Connection, authorized};
use super::submit::{Calls, Form};
use super::{Link, Next, SessionEnd, status, stopped};
use crate::work::Work;

/// Calls under way at a time, and of these, how many for blocks.
const IN_FLIGHT_MAX: usize = 8;
const BLOCKS_IN_FLIGHT_MAX: usize = 4;
/// Connections whose node is remembered.
const CONNECTIONS_KNOWN_MAX: usize = 64;
/// Between two reports of how this miner is doing, and how long one may take.
const TELEMETRY_INTERVAL: Duration = Duration::from_secs(10);
const TELEMETRY_TIMEOUT: Duration = Duration::from_secs(5);
/// After connecting, the first report comes when there is a hash rate to tell.
const TELEMETRY_DELAY: Duration = Duration::from_secs(2);
/// How long the end of a run waits for the workers' last batches and for the
/// answers still due: a block found then is worth several seconds.
const DRAIN_TIME: Duration = Duration::from_secs(5);

impl Link {
    /// One connection's life.
    pub(super) async fn session(&mut self, mut connection: Connection) -> SessionEnd {
        self.nodes
            .insert(connection.number, connection.node.clone());
        while self.nodes.len() > CONNECTIONS_KNOWN_MAX {
            self.nodes.pop_first();
        }
        if let Some(work) = connection.first_work.take() {
            self.stats.count_connection();
            self.publish(work);
        }
        let mut calls = Calls::default();
        for solution in std::mem::take(&mut self.carried) {
            self.hand_in(solution, &connection, &mut calls);
        }
        let mut reports = tokio::time::interval_at(
            tokio::time::Instant::now() + TELEMETRY_DELAY,
            TELEMETRY_INTERVAL,
        );
        reports.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let end = loop {
            let (block_free, slot_free) = self.free(&calls);
            tokio::select! {
                biased;
                () = stopped(&mut self.stop) => break SessionEnd::Finished,
                work = connection.next_work(&self.config) => match work {
                    Ok(work) => self.publish(work),
                    Err(reason) => break SessionEnd::Lost(reason),
                },
                Some(answer) = calls.next() => {
                    match self.judge(answer) {
                        Next::GoOn => {}
                        Next::HandInBlock(solution) => {
                            calls.start(solution, Form::Block, &connection);
                        }
                        Next::Leave(reason) => break SessionEnd::Lost(reason),
                    }
                    if self.has_all_blocks() {
                        break SessionEnd::Finished;
                    }
                }
                Some(solution) = self.queues.blocks.recv(), if block_free => {
                    self.hand_in(Arc::new(solution), &connection, &mut calls);
                }
                Some(solution) = self.queues.shares.recv(), if slot_free => {
                    self.hand_in(Arc::new(solution), &connection, &mut calls);
                }
                _ = reports.tick() => self.report(&connection),
            }
        };
        if let SessionEnd::Finished = end {
            // First the workers: their ends of the queues close with the last batch.
            self.board.stop();
            let drained = self.drain(&connection, &mut calls);
            if tokio::time::timeout(DRAIN_TIME, drained).await.is_err() {
                tracing::warn!("the node has not judged everything within {DRAIN_TIME:?}");
            }
        }
        self.carried.append(&mut calls.abandon());
        end
    }

    /// Whether another block, and another share, may be handed in now.
    fn free(&self, calls: &Calls) -> (bool, bool) {
        // One at a time if they are counted: after the last one asked for, none
        // follows.
        let blocks_max = match self.config.blocks_max {
            Some(_) => 1,
            None => BLOCKS_IN_FLIGHT_MAX,
        };
        (calls.blocks() < blocks_max, calls.len() < IN_FLIGHT_MAX)
    }

    /// Hands in what the workers still find until they have ended, and waits for
    /// the answers.
    async fn drain(&mut self, connection: &Connection, calls: &mut Calls) {
        let (mut blocks_open, mut shares_open) = (true, true);
        while blocks_open || shares_open || calls.len() > 0 {
            let (block_free, slot_free) = self.free(calls);
            tokio::select! {
                biased;
                Some(answer) = calls.next() => match self.judge(answer) {
                    Next::HandInBlock(solution) => calls.start(solution, Form::Block, connection),
                    Next::GoOn | Next::Leave(_) => {}
                },
                solution = self.queues.blocks.recv(), if blocks_open && block_free => {
                    match solution {
                        // More than were asked for.
                        Some(solution) if self.has_all_blocks() => {
                            self.carried.push(Arc::new(solution));
                        }
                        Some(solution) => self.hand_in(Arc::new(solution), connection, calls),
                        None => blocks_open = false,
                    }
                }
                solution = self.queues.shares.recv(), if shares_open && slot_free => {
                    match solution {
                        Some(solution) => self.hand_in(Arc::new(solution), connection, calls),
                        None => shares_open = false,
                    }
                }
            }
        }
    }

    /// Tells the node how this miner is doing. Nothing waits for it, and nothing
    /// depends on it: a node that does not want to know is no trouble.
    fn report(&mut self, connection: &Connection) {
        let message = ReportTelemetryRequest {
            worker: self.config.worker.clone(),
            reward_address: self.config.reward_address.clone(),
            telemetry: Some(self.telemetry.report(&self.stats, Instant::now())),
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

    fn publish(&self, work: Work) {
        let previous = self.board.current();
        let workers = self.stats.workers();
        let first_us = previous.as_deref().and_then(Work::first_hash_us);
        let last_us = previous.and_then(|work| work.last_worker_us(workers));
        self.stats.count_work(first_us, last_us);
        tracing::debug!(
            id = work.id,
            height = work.height,
            clean = work.clean,
            transactions = work.transaction_count,
            previous_first_hash_us = first_us,
            previous_last_worker_us = last_us,
            "new work"
        );
        self.board.publish(Some(Arc::new(work)));
    }
}
