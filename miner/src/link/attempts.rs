//! Chooses the node for the next attempt, the pause before it, and when to give up.

use std::collections::BTreeSet;
use std::time::Duration;

use super::config::LinkConfig;
use super::connect::{ConnectError, WorkConnection};
use crate::backoff::Backoff;

/// A session of at least this length was useful, and so was one in which the node
/// accepted a solution. The next attempt then needs no pause.
const SESSION_USEFUL: Duration = Duration::from_secs(5);

/// Tries the nodes in turn.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    /// Index of the node that is tried next.
    next: usize,
    backoff: Backoff,
    /// Whether the last session was useless, so that the next attempt waits first.
    pause_first: bool,
    /// How many connections have given work so far.
    connections: u64,
    /// Indices of the nodes that did not accept this miner's request.
    refused: BTreeSet<usize>,
}

impl Attempts {
    /// Tries one node after the other until one gives work.
    ///
    /// The pauses are:
    /// 1. The first attempt at each node of the run needs no pause.
    /// 2. After a useful session, each of the other nodes is tried once without a pause.
    /// 3. After a useless session, and after a round in which every node failed, a
    ///    pause comes first. Pauses grow as [`Backoff`] says.
    ///
    /// # Errors
    /// [`ConnectError::InvalidArgument`] if no node has ever given work and all of them
    /// say that the request is wrong: another attempt would get the same answer.
    pub(super) async fn connect(
        &mut self,
        config: &LinkConfig,
    ) -> Result<WorkConnection, ConnectError> {
        let nodes = config.nodes.len();
        let number = self.connections + 1;
        let mut untried = match (self.pause_first, number) {
            (true, _) => 0,
            (false, 1) => nodes,
            (false, _) => nodes.saturating_sub(1),
        };
        loop {
            if untried == 0 {
                let pause = self.backoff.next_pause(&mut rand::rng());
                tracing::debug!("next attempt in {pause:?}");
                tokio::time::sleep(pause).await;
                untried = nodes;
            }
            untried = untried.saturating_sub(1);
            let index = self.next;
            let Some(node) = config.nodes.get(index) else {
                self.next = 0;
                continue;
            };
            self.next = (index + 1) % nodes;
            match WorkConnection::open(node, config, number).await {
                Ok(connection) => {
                    self.connections = number;
                    return Ok(connection);
                }
                Err(error) => {
                    if matches!(error, ConnectError::InvalidArgument { .. }) {
                        self.refused.insert(index);
                        if self.connections == 0 && self.refused.len() == nodes {
                            return Err(error);
                        }
                    }
                    tracing::warn!("{error}");
                }
            }
        }
    }

    /// Records the end of a session: how long it lasted, and whether the node accepted
    /// a solution.
    pub(super) fn session_ended(&mut self, lasted: Duration, accepted_a_solution: bool) {
        let useful = accepted_a_solution || lasted >= SESSION_USEFUL;
        if useful {
            self.backoff.reset();
        }
        self.pause_first = !useful;
    }
}
