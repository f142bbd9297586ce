//! Decides how each solution is handed in, and handles the answer.
//!
//! A solution may be handed in over another connection than the one that its work came
//! over, because a connection may break in between. `submit` makes the calls.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pithead_api::v1::{SubmitOutcome, SubmitSolutionResponse};

use super::config::LinkConfig;
use super::connect::WorkConnection;
use super::status;
use super::submit::{Calls, SubmissionAnswer, SubmissionForm};
use crate::board::WorkBoard;
use crate::endpoint::NodeAddress;
use crate::outcome::{self, AnswerKind};
use crate::solution::Solution;
use crate::stats::Stats;
use crate::trace::Trace;

/// Shares of work older than this are not handed in any more.
const SHARE_AGE_MAX: Duration = Duration::from_secs(600);
/// The nodes of this many connections are remembered, the newest ones.
const CONNECTIONS_KNOWN_MAX: usize = 64;

/// The solutions of a run and their state.
#[derive(Debug)]
pub(super) struct Submissions {
    board: Arc<WorkBoard>,
    stats: Arc<Stats>,
    trace: Option<Arc<Trace>>,
    blocks_max: Option<u64>,
    /// Solutions whose call was under way when the connection broke.
    carried: Vec<Arc<Solution>>,
    /// The node of each connection. A node knows only work that it gave itself.
    nodes: BTreeMap<u64, NodeAddress>,
}

/// What the session does after an answer.
pub(super) enum AfterAnswer {
    /// Go on.
    Continue,
    /// Hand the same solution in as a whole block. The node does not know the work, but
    /// it can still judge the block.
    HandInBlock(Arc<Solution>),
    /// Leave the connection, for this reason.
    Leave(String),
}

impl Submissions {
    /// A run without solutions.
    pub(super) fn new(config: &LinkConfig, board: Arc<WorkBoard>, stats: Arc<Stats>) -> Self {
        Self {
            board,
            stats,
            trace: config.trace.clone(),
            blocks_max: config.blocks_max,
            carried: Vec::new(),
            nodes: BTreeMap::new(),
        }
    }

    /// Remembers which node is behind a connection.
    pub(super) fn remember_node(&mut self, connection: &WorkConnection) {
        self.nodes
            .insert(connection.number, connection.node.clone());
        while self.nodes.len() > CONNECTIONS_KNOWN_MAX {
            self.nodes.pop_first();
        }
    }

    /// Keeps solutions for the next connection.
    pub(super) fn carry(&mut self, solutions: Vec<Arc<Solution>>) {
        self.carried.extend(solutions);
    }

    /// Takes the solutions that were kept.
    pub(super) fn take_carried(&mut self) -> Vec<Arc<Solution>> {
        std::mem::take(&mut self.carried)
    }

    /// Starts the call for a solution, unless the solution can't be valid any more.
    pub(super) fn hand_in(
        &self,
        solution: Arc<Solution>,
        connection: &WorkConnection,
        calls: &mut Calls,
    ) {
        match self.form_of(&solution, connection) {
            Ok(form) => calls.start(solution, form, connection),
            Err(reason) => {
                self.count_lost(&solution, "in_vain");
                let height = solution.work.height;
                if solution.is_block() {
                    tracing::warn!(height, hash = %solution.hash, "block lost: {reason}");
                } else {
                    tracing::debug!(height, hash = %solution.hash, "share lost: {reason}");
                }
            }
        }
    }

    /// The form of a solution for this connection:
    ///
    /// 1. A solution of this connection's own work: a nonce.
    /// 2. A block for work of an earlier connection to the same node: a nonce. If the
    ///    node has restarted, it answers that it does not know the work.
    /// 3. A block for another node's work: the whole block, if it has no transactions.
    /// 4. A share of earlier work: a nonce, if this node gave that work, the work is not
    ///    too old, and its parent is still the tip.
    ///
    /// # Errors
    /// The reason why handing the solution in would be in vain.
    fn form_of(
        &self,
        solution: &Solution,
        connection: &WorkConnection,
    ) -> Result<SubmissionForm, &'static str> {
        let work = &solution.work;
        let same_node = self.nodes.get(&work.connection) == Some(&connection.node);
        if work.connection == connection.number {
            return Ok(SubmissionForm::Nonce);
        }
        if solution.is_block() {
            return match solution.whole_block() {
                _ if same_node => Ok(SubmissionForm::Nonce),
                Some(_) => Ok(SubmissionForm::Block),
                None => Err("only the node that gave its work has its transactions"),
            };
        }
        if !same_node {
            return Err("the node that knows its work is not the one connected now");
        }
        if work.arrived.elapsed() > SHARE_AGE_MAX {
            return Err("its work is too old");
        }
        let current = self.board.newest();
        if current.is_some_and(|current| current.header.prev != work.header.prev) {
            return Err("a newer tip has made its work stale while the node was away");
        }
        Ok(SubmissionForm::Nonce)
    }

    /// Counts the answer to a solution and says what the session does next.
    pub(super) fn handle_answer(&mut self, answer: SubmissionAnswer) -> AfterAnswer {
        let SubmissionAnswer {
            solution,
            form,
            result,
        } = answer;
        match result {
            Ok(response) => {
                let outcome = outcome::from_number(response.outcome);
                if outcome == SubmitOutcome::UnknownWork
                    && form == SubmissionForm::Nonce
                    && solution.whole_block().is_some()
                {
                    return AfterAnswer::HandInBlock(solution);
                }
                self.stats.count_outcome(outcome);
                self.record(&solution, outcome::name(outcome));
                // After any other answer, the node has work on another tip.
                if outcome::kind(outcome) == AnswerKind::Rejected
                    || outcome == SubmitOutcome::UnknownWork
                {
                    self.mine_on(&solution);
                }
                log_answer(&solution, outcome, &response);
                AfterAnswer::Continue
            }
            Err(error) if status::is_about_the_connection(&error) => {
                // `form_of` decides again once the next connection is open.
                self.carried.push(solution);
                AfterAnswer::Leave(status::describe(&error))
            }
            Err(error) => {
                self.stats.count_failed();
                self.record(&solution, "failed");
                self.mine_on(&solution);
                tracing::warn!(
                    height = solution.work.height,
                    hash = %solution.hash,
                    "the node did not judge the solution: {}",
                    status::describe(&error)
                );
                AfterAnswer::Continue
            }
        }
    }

    /// How many solutions nodes have accepted in this run.
    pub(super) fn accepted(&self) -> u64 {
        self.stats.kind(AnswerKind::Block) + self.stats.kind(AnswerKind::Share)
    }

    /// Whether the number of accepted blocks is limited.
    pub(super) fn has_block_limit(&self) -> bool {
        self.blocks_max.is_some()
    }

    /// Whether the limit of accepted blocks is reached.
    pub(super) fn has_all_blocks(&self) -> bool {
        self.blocks_max
            .is_some_and(|max| self.stats.outcome(SubmitOutcome::AcceptedBlock) >= max)
    }

    /// Lets the workers go on after a block that no node has accepted.
    fn mine_on(&self, solution: &Solution) {
        if solution.is_block() {
            self.board.give_tip_back(&solution.work.header.prev);
        }
    }

    /// Counts a solution that will never get an answer.
    pub(super) fn count_lost(&self, solution: &Solution, why: &str) {
        self.mine_on(solution);
        self.stats.count_lost();
        self.record(solution, why);
    }

    fn record(&self, solution: &Solution, outcome: &str) {
        if let Some(trace) = &self.trace {
            trace.answer(&solution.hash, outcome);
        }
    }
}

fn log_answer(solution: &Solution, outcome: SubmitOutcome, response: &SubmitSolutionResponse) {
    let height = solution.work.height;
    let hash = solution.hash;
    let text = outcome::explain(outcome);
    match (outcome::kind(outcome), outcome) {
        (AnswerKind::Block, _) => {
            let reward = pit(solution.work.reward);
            tracing::info!(height, %hash, reward, "{text}");
        }
        (AnswerKind::Share, _) => tracing::debug!(height, %hash, "{text}"),
        (AnswerKind::Stale, _) => {
            tracing::info!(height, %hash, detail = response.detail, "{text}");
        }
        (AnswerKind::Rejected, SubmitOutcome::Unspecified) => {
            tracing::warn!(height, %hash, number = response.outcome, "{text}");
        }
        (AnswerKind::Rejected, _) => {
            tracing::warn!(height, %hash, detail = response.detail, "{text}");
        }
    }
}

/// An amount of grains as PIT, without rounding.
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
