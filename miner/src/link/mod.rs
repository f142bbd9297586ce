//! The link to the nodes: keeps one connection, puts the work that comes over
//! it on the board, hands in what the workers find, and moves on to the next
//! node when one is lost.
//!
//! Start reading at [`Link::run`]; `attempts` chooses a node, `connect` makes a
//! connection, `session` is its life, `submit` makes the calls; this file decides
//! in which form a solution is sent and what becomes of it.

mod attempts;
mod connect;
mod session;
mod status;
mod submit;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pithead_api::v1::{SubmitOutcome, SubmitSolutionResponse};
use pithead_consensus::{Address, BlockHash};
use tokio::sync::watch;

use crate::board::WorkBoard;
use crate::endpoint::NodeAddress;
use crate::outcome::{self, Kind};
use crate::solution::Solution;
use crate::stats::Stats;
use crate::telemetry::Telemetry;
use crate::trace::Trace;
use crate::workers::SolutionQueues;
use attempts::Attempts;
pub use connect::ConnectError;
use connect::Connection;
use submit::{Answer, Calls, Form};

/// How long workers go on with the work of a lost connection: a restarting
/// node still takes it if its tip is the same, an older block pays nothing.
const WORK_OUTLIVES_CONNECTION: Duration = Duration::from_secs(10);
/// Shares older than this are not handed in any more.
const SHARE_AGE_MAX: Duration = Duration::from_secs(600);

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
    /// The nodes of the last connections: only they know the work handed out there.
    nodes: BTreeMap<u64, NodeAddress>,
    attempts: Attempts,
}

/// How a connection ended.
enum SessionEnd {
    /// The run is over: asked to stop, or enough blocks are found.
    Finished,
    /// The node is gone.
    Lost(String),
}

/// What is to be done after an answer.
enum Next {
    /// Nothing.
    GoOn,
    /// The node does not know the work; it can still judge the whole block.
    HandInBlock(Arc<Solution>),
    /// The connection is of no use any more.
    Leave(String),
}

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
            nodes: BTreeMap::new(),
            attempts: Attempts::default(),
        }
    }

    /// Stays connected until told to stop or until enough blocks are found; then
    /// ends the workers and hands in what they still found.
    ///
    /// # Errors
    /// [`ConnectError`] if all nodes say that trying again is in vain.
    pub async fn run(mut self) -> Result<(), ConnectError> {
        let ended = loop {
            let connection = match self.establish().await {
                Ok(Some(connection)) => connection,
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            };
            let node = connection.node.clone();
            tracing::info!(%node, "connected");
            self.node.send_replace(Some(node.clone()));
            let (began, accepted) = (Instant::now(), self.accepted());
            let end = self.session(connection).await;
            self.node.send_replace(None);
            match end {
                SessionEnd::Finished => break Ok(()),
                SessionEnd::Lost(reason) => {
                    tracing::warn!(%node, "connection lost: {reason}");
                    let took_a_solution = self.accepted() > accepted;
                    self.attempts.lost(began.elapsed(), took_a_solution);
                }
            }
        };
        self.board.stop();
        self.count_rest_as_lost();
        ended
    }

    fn accepted(&self) -> u64 {
        self.stats.kind(Kind::Block) + self.stats.kind(Kind::Share)
    }

    /// Tries the nodes in turn until one gives work; `None` if told to stop.
    ///
    /// Meanwhile the workers go on with the work they have, for a while.
    async fn establish(&mut self) -> Result<Option<Connection>, ConnectError> {
        let attempts = self.attempts.connect(&self.config);
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

    /// Starts the call for a solution, unless it can't be valid any more.
    fn hand_in(&self, solution: Arc<Solution>, connection: &Connection, calls: &mut Calls) {
        match self.form_of(&solution, connection) {
            Ok(form) => calls.start(solution, form, connection),
            Err(reason) => {
                self.stats.count_lost();
                self.record(&solution.hash, "in_vain");
                let height = solution.work.height;
                if solution.is_block() {
                    tracing::warn!(height, hash = %solution.hash, "block lost: {reason}");
                } else {
                    tracing::debug!(height, hash = %solution.hash, "share lost: {reason}");
                }
            }
        }
    }

    /// How a solution is handed in to the node connected now; a text if it would
    /// be in vain.
    fn form_of(&self, solution: &Solution, connection: &Connection) -> Result<Form, &'static str> {
        let work = &solution.work;
        let same_node = self.nodes.get(&work.connection) == Some(&connection.node);
        if work.connection == connection.number {
            return Ok(Form::Nonce);
        }
        if solution.is_block() {
            // That node may have restarted; then it says that it does not know
            // the work.
            return match solution.whole_block() {
                _ if same_node => Ok(Form::Nonce),
                Some(_) => Ok(Form::Block),
                None => Err("only the node that gave its work has its transactions"),
            };
        }
        if !same_node {
            return Err("the node that knows its work is not the one connected now");
        }
        if work.arrived.elapsed() > SHARE_AGE_MAX {
            return Err("its work is too old");
        }
        let current = self.board.current();
        if current.is_some_and(|current| current.header.prev != work.header.prev) {
            return Err("a newer tip has made its work stale while the node was away");
        }
        Ok(Form::Nonce)
    }

    /// Counts what became of a solution, and says what is to be done now.
    fn judge(&mut self, answer: Answer) -> Next {
        let Answer {
            solution,
            form,
            result,
        } = answer;
        match result {
            Ok(response) => {
                let outcome = outcome::from_number(response.outcome);
                if outcome == SubmitOutcome::UnknownWork
                    && form == Form::Nonce
                    && solution.whole_block().is_some()
                {
                    return Next::HandInBlock(solution);
                }
                self.stats.count_outcome(outcome);
                self.record(&solution.hash, outcome::name(outcome));
                log_answer(&solution, outcome, &response);
                Next::GoOn
            }
            Err(error) if status::is_about_the_connection(&error) => {
                // Kept for the next connection; see `form_of`.
                self.carried.push(solution);
                Next::Leave(status::describe(&error))
            }
            Err(error) => {
                self.stats.count_failed();
                self.record(&solution.hash, "failed");
                tracing::warn!(
                    height = solution.work.height,
                    hash = %solution.hash,
                    "the node did not judge the solution: {}",
                    status::describe(&error)
                );
                Next::GoOn
            }
        }
    }

    fn has_all_blocks(&self) -> bool {
        self.config
            .blocks_max
            .is_some_and(|max| self.stats.outcome(SubmitOutcome::AcceptedBlock) >= max)
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
