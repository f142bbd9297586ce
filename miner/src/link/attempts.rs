//! Which node is tried when, and when none is tried any more.

use std::collections::BTreeSet;
use std::time::Duration;

use super::LinkConfig;
use super::connect::{ConnectError, Connection};
use crate::backoff::Backoff;

/// A node that gives work for so long, or takes a solution, is a good one:
/// attempts after it begin with the shortest pause again.
const SESSION_GOOD: Duration = Duration::from_secs(5);

/// Tries the nodes in turn.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    /// The node that is tried next.
    next: usize,
    backoff: Backoff,
    /// The last connection was of no use.
    pause_first: bool,
    /// Connections so far.
    connections: u64,
    /// Nodes that do not accept what this miner asks for.
    refused: BTreeSet<usize>,
}

impl Attempts {
    /// Tries one node after the other until one gives work. Pauses before it
    /// tries one again.
    ///
    /// # Errors
    /// [`ConnectError::InvalidArgument`] if all of them say that what this miner
    /// asks for is wrong, and none has ever given work: trying again is in vain.
    pub(super) async fn connect(
        &mut self,
        config: &LinkConfig,
    ) -> Result<Connection, ConnectError> {
        let nodes = config.nodes.len();
        let number = self.connections + 1;
        // The first connection of the run, and the first attempt at another node
        // than the one just lost, need no pause.
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
            match Connection::open(node, config, number).await {
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

    /// Tells how a connection was.
    pub(super) fn lost(&mut self, lasted: Duration, took_a_solution: bool) {
        let good = took_a_solution || lasted >= SESSION_GOOD;
        if good {
            self.backoff.reset();
        }
        self.pause_first = !good;
    }
}
