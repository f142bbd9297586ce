//! The link to the nodes. It keeps one connection, puts the node's work on the board,
//! hands in what the workers find, and moves on to the next node when one is lost.
//!
//! Start reading at [`NodeLink::run`]:
//!
//! 1. `attempts` chooses a node, and `connect` opens the connection to it.
//! 2. `session` uses the connection until it is lost or the run ends.
//! 3. `submissions` decides the form of each solution and handles the answer; `submit`
//!    makes the calls, and `status` reads their errors.
//!
//! The link knows neither kernels nor threads.

mod attempts;
mod config;
mod connect;
mod session;
mod status;
mod submissions;
mod submit;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::endpoint::NodeAddress;
use attempts::Attempts;
pub use config::{LinkConfig, LinkParts};
pub use connect::ConnectError;
use connect::WorkConnection;
use session::{SessionContext, SessionEnd, stopped};
use submissions::Submissions;

/// How long workers go on with the work of a lost connection. A node that restarts
/// within this time still takes solutions of it, if its tip is the same.
const WORK_OUTLIVES_CONNECTION: Duration = Duration::from_secs(10);

/// Keeps the miner connected to a node.
#[derive(Debug)]
pub struct NodeLink {
    context: SessionContext,
    attempts: Attempts,
    /// The node in use, for the live line.
    node: watch::Sender<Option<NodeAddress>>,
}

impl NodeLink {
    /// A link that is not connected yet. It ends the run when `stop` turns true, and
    /// tells `node` which node it is connected to.
    #[must_use]
    pub fn new(
        config: LinkConfig,
        parts: LinkParts,
        stop: watch::Receiver<bool>,
        node: watch::Sender<Option<NodeAddress>>,
    ) -> Self {
        let (board, stats) = (Arc::clone(&parts.board), Arc::clone(&parts.stats));
        Self {
            context: SessionContext {
                submissions: Submissions::new(&config, board, stats),
                config,
                parts,
                stop,
            },
            attempts: Attempts::default(),
            node,
        }
    }

    /// Stays connected until the run is stopped or enough blocks are accepted. It then
    /// ends the workers and hands in their last solutions.
    ///
    /// # Errors
    /// [`ConnectError`] if every node says that this miner's request is wrong.
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
            let (began, accepted) = (Instant::now(), self.context.submissions.accepted());
            let end = self.context.run(connection).await;
            self.node.send_replace(None);
            match end {
                SessionEnd::Finished => break Ok(()),
                SessionEnd::Lost(reason) => {
                    tracing::warn!(%node, "connection lost: {reason}");
                    let accepted_a_solution = self.context.submissions.accepted() > accepted;
                    self.attempts
                        .session_ended(began.elapsed(), accepted_a_solution);
                }
            }
        };
        self.context.parts.board.stop();
        self.context.count_rest_as_lost();
        ended
    }

    /// Tries the nodes in turn until one gives work; `None` if the run is stopped.
    ///
    /// Meanwhile the workers go on with their present work, for a limited time.
    async fn establish(&mut self) -> Result<Option<WorkConnection>, ConnectError> {
        let attempts = self.attempts.connect(&self.context.config);
        tokio::pin!(attempts);
        let board = Arc::clone(&self.context.parts.board);
        let withdraw_work = async {
            tokio::time::sleep(WORK_OUTLIVES_CONNECTION).await;
            if board.newest().is_some() {
                tracing::info!("no node for {WORK_OUTLIVES_CONNECTION:?}: hashing pauses");
                board.publish(None);
            }
            std::future::pending::<()>().await;
        };
        tokio::pin!(withdraw_work);
        tokio::select! {
            biased;
            () = stopped(&mut self.context.stop) => Ok(None),
            connection = &mut attempts => connection.map(Some),
            () = &mut withdraw_work => Ok(None),
        }
    }
}
