//! The link to the nodes: keeps one connection, puts the work that comes over
//! it on the board, hands in what the workers find, and moves on to the next
//! node when one is lost.
//!
//! Start reading at [`Link::run`]; `connect` makes a connection, `submit`
//! makes one call, this file decides what is sent and what becomes of it.

mod connect;
mod submit;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pithead_api::v1::{ReportTelemetryRequest, SubmitOutcome, SubmitSolutionResponse};
use pithead_consensus::{Address, BlockHash};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tonic::Status;

use crate::backoff::Backoff;
use crate::board::WorkBoard;
use crate::endpoint::NodeAddress;
use crate::outcome::{self, Kind};
use crate::stats::Stats;
use crate::telemetry::Telemetry;
use crate::trace::Trace;
use crate::work::Work;
use crate::workers::{Solution, SolutionQueues};

pub use connect::ConnectError;
use connect::{Connection, authorized};

/// How long workers go on with the work of a lost connection: a restarting
/// node still takes it if its tip is the same, an older block pays nothing.
const WORK_OUTLIVES_CONNECTION: Duration = Duration::from_secs(10);
/// Solutions older than this are not handed in any more.
const SOLUTION_AGE_MAX: Duration = Duration::from_secs(600);
/// Calls under way at a time.
const IN_FLIGHT_MAX: usize = 8;
/// Between two reports of how this miner is doing, and how long one may take.
const TELEMETRY_INTERVAL: Duration = Duration::from_secs(10);
const TELEMETRY_TIMEOUT: Duration = Duration::from_secs(5);
/// After connecting, the first report comes when there is a hash rate to tell.
const TELEMETRY_DELAY: Duration = Duration::from_secs(2);
/// How long the end of a run waits for the answers still due.
const DRAIN_TIME: Duration = Duration::from_millis(500);

/// What the link has to know.
#[derive(Debug, Clone)]
pub struct LinkConfig {
    /// Nodes, in order of preference; never empty.
    pub nodes: Vec<NodeAddress>,
    /// Who is to be paid, as typed.
    pub reward_address: String,
    /// The same, decoded.
    pub reward_payload: Address,
    /// This miner's name.
    pub worker: String,
    /// Where the role token is.
    pub token_file: Option<PathBuf>,
    /// Stop after so many accepted blocks.
    pub blocks_max: Option<u64>,
    /// Where answers go on record; `None`: nowhere.
    pub trace: Option<Arc<Trace>>,
}

/// Keeps the miner connected.
#[derive(Debug)]
pub struct Link {
    config: LinkConfig,
    board: Arc<WorkBoard>,
    stats: Arc<Stats>,
    telemetry: Telemetry,
    queues: SolutionQueues,
    stop: watch::Receiver<bool>,
    /// The node in use, for the live line.
    node: watch::Sender<Option<NodeAddress>>,
    /// Solutions whose call was under way when the connection broke.
    carried: Vec<Arc<Solution>>,
    connections: u64,
    /// Node of the connection before: only it knows the work handed out there.
    last_node: Option<NodeAddress>,
}

/// How a connection ended.
enum SessionEnd {
    /// The run is over: asked to stop, or enough blocks are found.
    Finished,
    /// The node is gone.
    Lost(String),
}

type Answer = (Arc<Solution>, Result<SubmitSolutionResponse, Status>);

impl Link {
    /// A link that is not connected yet.
    #[must_use]
    pub fn new(
        config: LinkConfig,
        board: Arc<WorkBoard>,
        stats: Arc<Stats>,
        telemetry: Telemetry,
        queues: SolutionQueues,
        stop: watch::Receiver<bool>,
        node: watch::Sender<Option<NodeAddress>>,
    ) -> Self {
        Self {
            config,
            board,
            stats,
            telemetry,
            queues,
            stop,
            node,
            carried: Vec::new(),
            connections: 0,
            last_node: None,
        }
    }

    /// Stays connected until told to stop or until enough blocks are found.
    ///
    /// # Errors
    /// [`ConnectError`] if a node says that trying again is in vain.
    pub async fn run(mut self) -> Result<(), ConnectError> {
        let mut next_node = 0;
        let mut backoff = Backoff::default();
        loop {
            let Some((connection, index)) = self.establish(next_node, &mut backoff).await? else {
                break;
            };
            backoff.reset();
            let node = connection.node.clone();
            tracing::info!(%node, "connected");
            self.node.send_replace(Some(node.clone()));
            let end = self.session(connection).await;
            self.node.send_replace(None);
            match end {
                SessionEnd::Finished => break,
                SessionEnd::Lost(reason) => {
                    tracing::warn!(%node, "connection lost: {reason}");
                    self.last_node = Some(node);
                    next_node = (index + 1) % self.config.nodes.len();
                }
            }
        }
        self.count_rest_as_lost();
        Ok(())
    }

    /// Tries the nodes in turn until one gives work; `None` if told to stop.
    ///
    /// Meanwhile the workers go on with the work they have, for a while.
    async fn establish(
        &mut self,
        first: usize,
        backoff: &mut Backoff,
    ) -> Result<Option<(Connection, usize)>, ConnectError> {
        self.connections += 1;
        let attempts = attempt_nodes(&self.config, first, backoff, self.connections);
        tokio::pin!(attempts);
        let board = Arc::clone(&self.board);
        let forget_work = async {
            tokio::time::sleep(WORK_OUTLIVES_CONNECTION).await;
            if board.current().is_some() {
                tracing::info!("no node for {WORK_OUTLIVES_CONNECTION:?}: hashing pauses");
                board.publish(None);
            }
            std::future::pending::<()>().await;
        };
        tokio::pin!(forget_work);
        tokio::select! {
            biased;
            () = stopped(&mut self.stop) => Ok(None),
            connection = &mut attempts => connection.map(Some),
            () = &mut forget_work => Ok(None),
        }
    }

    /// One connection's life.
    async fn session(&mut self, mut connection: Connection) -> SessionEnd {
        let first = connection.first_work.take();
        if let Some(work) = first {
            self.stats.count_connection();
            self.publish(work);
        }
        let mut calls: JoinSet<Answer> = JoinSet::new();
        let mut in_flight: Vec<Arc<Solution>> = Vec::new();
        for solution in std::mem::take(&mut self.carried) {
            self.hand_in(solution, &connection, &mut calls, &mut in_flight);
        }
        let mut reports = tokio::time::interval_at(
            tokio::time::Instant::now() + TELEMETRY_DELAY,
            TELEMETRY_INTERVAL,
        );
        reports.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let end = loop {
            // Blocks go one at a time: after the last one asked for, none
            // follows.
            let block_free = !in_flight.iter().any(|solution| solution.is_block());
            let slot_free = in_flight.len() < IN_FLIGHT_MAX;
            tokio::select! {
                biased;
                () = stopped(&mut self.stop) => break SessionEnd::Finished,
                work = connection.next_work(&self.config) => match work {
                    Ok(work) => self.publish(work),
                    Err(reason) => break SessionEnd::Lost(reason),
                },
                Some(answer) = calls.join_next(), if !calls.is_empty() => {
                    let Ok((solution, answer)) = answer else { continue };
                    in_flight.retain(|other| !Arc::ptr_eq(other, &solution));
                    if let Some(reason) = self.judge(solution, answer) {
                        break SessionEnd::Lost(reason);
                    }
                    if self.has_all_blocks() {
                        break SessionEnd::Finished;
                    }
                }
                Some(solution) = self.queues.blocks.recv(), if block_free => {
                    self.hand_in(Arc::new(solution), &connection, &mut calls, &mut in_flight);
                }
                Some(solution) = self.queues.shares.recv(), if slot_free => {
                    self.hand_in(Arc::new(solution), &connection, &mut calls, &mut in_flight);
                }
                _ = reports.tick() => self.report(&connection),
            }
        };
        match end {
            SessionEnd::Finished => {
                // First the workers: nothing new may come while this drains.
                self.board.stop();
                self.drain(&connection, calls, in_flight).await;
            }
            SessionEnd::Lost(_) => self.carried.append(&mut in_flight),
        }
        end
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
            if let Err(status) = client.report_telemetry(request).await {
                tracing::debug!("no telemetry: {}", submit::describe(&status));
            }
        });
    }

    fn publish(&self, work: Work) {
        let previous = self.board.current();
        self.stats
            .count_work(previous.as_deref().and_then(Work::first_hash_us));
        tracing::debug!(
            id = work.id,
            height = work.height,
            clean = work.clean,
            transactions = work.transaction_count,
            previous_first_hash_us = previous.as_deref().and_then(Work::first_hash_us),
            "new work"
        );
        self.board.publish(Some(Arc::new(work)));
    }

    /// Starts the call for a solution, unless it can't be valid any more.
    fn hand_in(
        &self,
        solution: Arc<Solution>,
        connection: &Connection,
        calls: &mut JoinSet<Answer>,
        in_flight: &mut Vec<Arc<Solution>>,
    ) {
        if let Some(reason) = self.why_in_vain(&solution, connection) {
            self.stats.count_lost();
            self.record(&solution.hash, "in_vain");
            let height = solution.work.height;
            if solution.is_block() {
                tracing::warn!(height, hash = %solution.hash, "block lost: {reason}");
            } else {
                tracing::debug!(height, hash = %solution.hash, "share lost: {reason}");
            }
            return;
        }
        in_flight.push(Arc::clone(&solution));
        let request = submit::request(&solution);
        let client = connection.client.clone();
        let token = connection.token.clone();
        calls.spawn(async move {
            let answer = submit::call(client, token, request).await;
            (solution, answer)
        });
    }

    fn why_in_vain(&self, solution: &Solution, connection: &Connection) -> Option<&'static str> {
        let work = &solution.work;
        if work.connection == connection.number {
            return None;
        }
        // From a connection before this one.
        if self.last_node.as_ref() != Some(&connection.node)
            || work.connection + 1 != connection.number
        {
            return Some("the node that knows its work is not the one connected now");
        }
        if work.arrived.elapsed() > SOLUTION_AGE_MAX {
            return Some("its work is too old");
        }
        let same_parent = self
            .board
            .current()
            .is_some_and(|current| current.header.prev == work.header.prev);
        if !same_parent && !solution.is_block() {
            return Some("a newer tip has made its work stale while the node was away");
        }
        None
    }

    /// Counts what became of a solution; a text if the connection is no longer
    /// of use.
    fn judge(
        &mut self,
        solution: Arc<Solution>,
        answer: Result<SubmitSolutionResponse, Status>,
    ) -> Option<String> {
        match answer {
            Ok(response) => {
                let outcome = outcome::from_number(response.outcome);
                self.stats.count_outcome(outcome);
                self.record(&solution.hash, outcome::name(outcome));
                log_answer(&solution, outcome, &response);
                None
            }
            Err(status) if submit::is_about_the_connection(&status) => {
                // Kept for the next connection; see `why_in_vain`.
                self.carried.push(solution);
                Some(submit::describe(&status))
            }
            Err(status) => {
                self.stats.count_failed();
                self.record(&solution.hash, "failed");
                tracing::warn!(
                    height = solution.work.height,
                    hash = %solution.hash,
                    "the node did not judge the solution: {}",
                    submit::describe(&status)
                );
                None
            }
        }
    }

    fn has_all_blocks(&self) -> bool {
        self.config
            .blocks_max
            .is_some_and(|max| self.stats.outcome(SubmitOutcome::AcceptedBlock) >= max)
    }

    /// Sends what is queued and waits for the answers, but not for long.
    async fn drain(
        &mut self,
        connection: &Connection,
        mut calls: JoinSet<Answer>,
        mut in_flight: Vec<Arc<Solution>>,
    ) {
        if !self.has_all_blocks() {
            while let Ok(solution) = self
                .queues
                .blocks
                .try_recv()
                .or_else(|_| self.queues.shares.try_recv())
            {
                self.hand_in(Arc::new(solution), connection, &mut calls, &mut in_flight);
            }
        }
        let deadline = Instant::now() + DRAIN_TIME;
        while let Ok(Some(answer)) =
            tokio::time::timeout_at(deadline.into(), calls.join_next()).await
        {
            if let Ok((solution, answer)) = answer {
                in_flight.retain(|other| !Arc::ptr_eq(other, &solution));
                self.judge(solution, answer);
            }
        }
        self.carried.append(&mut in_flight);
    }

    /// At the end: whatever has no answer gets none.
    fn count_rest_as_lost(&mut self) {
        for solution in std::mem::take(&mut self.carried) {
            self.stats.count_lost();
            self.record(&solution.hash, "at_the_end");
        }
        self.queues.blocks.close();
        self.queues.shares.close();
        while let Ok(solution) = self
            .queues
            .blocks
            .try_recv()
            .or_else(|_| self.queues.shares.try_recv())
        {
            self.stats.count_lost();
            self.record(&solution.hash, "at_the_end");
        }
    }

    fn record(&self, hash: &BlockHash, what: &str) {
        if let Some(trace) = &self.config.trace {
            trace.answer(hash, what);
        }
    }
}

/// Tries one node after the other. Pauses before it tries one again.
async fn attempt_nodes(
    config: &LinkConfig,
    first: usize,
    backoff: &mut Backoff,
    number: u64,
) -> Result<(Connection, usize), ConnectError> {
    let mut index = first;
    // The first connection of the run, and the first attempt at another node
    // than the one just lost, need no pause.
    let mut untried = match (number, config.nodes.len()) {
        (1, nodes) => nodes,
        (_, nodes) => nodes - 1,
    };
    loop {
        if untried == 0 {
            let pause = backoff.next_pause(&mut rand::rng());
            tracing::debug!("next attempt in {pause:?}");
            tokio::time::sleep(pause).await;
            untried = config.nodes.len();
        }
        untried -= 1;
        let Some(node) = config.nodes.get(index) else {
            index = 0;
            continue;
        };
        match Connection::open(node, config, number).await {
            Ok(connection) => return Ok((connection, index)),
            Err(error) if error.is_final() => return Err(error),
            Err(error) => tracing::warn!("{error}"),
        }
        index = (index + 1) % config.nodes.len();
    }
}

/// Completes when the run is to end.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // A sender that is gone can't ask for anything else any more.
    let _ = stop.wait_for(|stop| *stop).await;
}

fn log_answer(solution: &Solution, outcome: SubmitOutcome, response: &SubmitSolutionResponse) {
    let height = solution.work.height;
    let hash = solution.hash;
    let text = outcome::explain(outcome);
    match (outcome::kind(outcome), outcome) {
        (Kind::Block, _) => {
            let reward = pit(solution.work.reward);
            tracing::info!(height, %hash, reward, "{text}");
        }
        (Kind::Share, _) => tracing::debug!(height, %hash, "{text}"),
        (Kind::Stale, _) => tracing::info!(height, %hash, detail = response.detail, "{text}"),
        (Kind::Rejected, SubmitOutcome::Unspecified) => {
            tracing::warn!(height, %hash, number = response.outcome, "{text}");
        }
        (Kind::Rejected, _) => tracing::warn!(height, %hash, detail = response.detail, "{text}"),
    }
}

/// Grains as PIT, exactly.
fn pit(grains: u64) -> String {
    const GRAINS_PER_PIT: u64 = 100_000_000;
    let whole = grains / GRAINS_PER_PIT;
    let text = format!("{whole}.{:08}", grains % GRAINS_PER_PIT);
    text.trim_end_matches('0').trim_end_matches('.').to_owned() + " PIT"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_shown_exactly() {
        for (grains, text) in [
            (5_000_000_000, "50 PIT"),
            (1, "0.00000001 PIT"),
            (0, "0 PIT"),
            (10_050_000_000, "100.5 PIT"),
        ] {
            assert_eq!(pit(grains), text);
        }
    }
}
