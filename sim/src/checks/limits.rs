//! The limits on what a node may hold in memory.
//!
//! They repeat the node's own limits on purpose: a node that forgets one of them is found
//! here. Start reading at [`check_sync_usage`].

use pithead_consensus::{Decode as _, Encode as _};
use pithead_core::finality::{CONFLICTS_MAX, PROOFS_OF_ONE_MAX};
use pithead_core::node::Node;
use pithead_core::sync::{HEADERS_KEPT_MAX, Request, Response, SyncUsage, response_bytes_max};

use crate::nodes::sim_node::{MEMPOOL_BYTES_MAX, finality_of, mempool_of};
use crate::violation::Violation;
use crate::weather::connections::CONNECTIONS_MAX;
use crate::world::Simulation;

/// The most open requests to one peer (the node's `sync::requests`).
const PEER_REQUESTS_MAX: usize = 16;
/// The most bytes of block bodies that wait to be connected (the node's `sync::download`),
/// and of one response.
const BODY_BYTES_MAX: usize = (96 + 4) << 20;
/// The most announcements whose verdict is held back (the node's `sync::announce`).
const HELD_ANNOUNCEMENTS_MAX: usize = 128;
/// The most transactions that a node wants to fetch (the node's relay of transactions).
const WANTED_TRANSACTIONS_MAX: usize = 50_000;
/// The most transactions that came before their predecessors (the node's relay of
/// transactions).
const EARLY_TRANSACTIONS_MAX: usize = 256;
/// The most own transactions that a node announces again and again.
const OWN_TRANSACTIONS_MAX: usize = 10_000;
/// The most approvals of one validator (the node's `finality::pool`): two for each of the
/// last targets.
const APPROVALS_OF_ONE_MAX: usize = 2 * 128;

/// Compares what a node's sync holds with its limits, and raises `peak` to it. The error
/// says which limit is exceeded.
pub(crate) fn check_sync_usage(now: &SyncUsage, peak: &mut SyncUsage) -> Result<(), String> {
    let limits = [
        ("peers", now.peers, 2 * CONNECTIONS_MAX, &mut peak.peers),
        ("headers", now.headers, HEADERS_KEPT_MAX, &mut peak.headers),
        (
            "requests",
            now.requests,
            PEER_REQUESTS_MAX * 2 * CONNECTIONS_MAX,
            &mut peak.requests,
        ),
        ("bodies", now.bodies, HEADERS_KEPT_MAX, &mut peak.bodies),
        (
            "bytes of bodies",
            now.body_bytes,
            BODY_BYTES_MAX,
            &mut peak.body_bytes,
        ),
        (
            "announcements held",
            now.held_announcements,
            HELD_ANNOUNCEMENTS_MAX,
            &mut peak.held_announcements,
        ),
        (
            "transactions wanted",
            now.wanted_transactions,
            WANTED_TRANSACTIONS_MAX,
            &mut peak.wanted_transactions,
        ),
        (
            "own transactions",
            now.local_transactions,
            OWN_TRANSACTIONS_MAX,
            &mut peak.local_transactions,
        ),
        (
            "early transactions",
            now.orphan_transactions,
            EARLY_TRANSACTIONS_MAX,
            &mut peak.orphan_transactions,
        ),
    ];
    for (what, found, limit, peak) in limits {
        if found > limit {
            return Err(format!("it holds {found} {what}, more than {limit}"));
        }
        *peak = (*peak).max(found);
    }
    Ok(())
}

/// Compares a node's mempool, approvals and proofs with their limits. More validators may
/// fill more space.
fn check_pools(core: &Node, validators: usize) -> Result<(), String> {
    let bytes = mempool_of(core).bytes();
    if bytes > MEMPOOL_BYTES_MAX {
        return Err(format!(
            "its mempool holds {bytes} bytes, more than {MEMPOOL_BYTES_MAX}"
        ));
    }
    let finality = finality_of(core);
    let (approvals, proofs) = (finality.pooled(), finality.proofs().len());
    let limit = APPROVALS_OF_ONE_MAX * validators;
    if approvals > limit {
        return Err(format!("it holds {approvals} approvals, more than {limit}"));
    }
    let limit = PROOFS_OF_ONE_MAX * validators + CONFLICTS_MAX;
    if proofs > limit {
        return Err(format!("it holds {proofs} proofs, more than {limit}"));
    }
    Ok(())
}

impl Simulation {
    /// An answer to a peer is no larger than its kind may be (protocol §13), and decodes.
    pub(crate) fn check_answer_size(
        &self,
        index: usize,
        request: &Request,
        answer: &Response,
    ) -> Result<(), Violation> {
        let max = response_bytes_max(self.genesis.params.max_block_bytes);
        let max = request.response_bytes_max(max);
        let encoded = answer.encode();
        if encoded.len() > max || Response::decode(&encoded).is_err() {
            let what = format!(
                "its answer of kind {} has {} bytes of at most {max}, or does not decode",
                request.kind(),
                encoded.len()
            );
            return Err(self.violation(Some(index), what));
        }
        Ok(())
    }

    /// Compares what all running nodes hold in memory with their limits.
    pub(crate) fn check_memory(&self) -> Result<(), Violation> {
        for (index, node) in self.nodes.iter().enumerate() {
            let Some(core) = &node.core else {
                continue;
            };
            let checked = check_pools(core, self.settings.validators);
            checked.map_err(|what| self.violation(Some(index), what))?;
            let waiting = node.awaiting_verdict.len();
            if waiting > HELD_ANNOUNCEMENTS_MAX + EARLY_TRANSACTIONS_MAX {
                let what = format!("{waiting} gossip messages wait for its verdict");
                return Err(self.violation(Some(index), what));
            }
        }
        Ok(())
    }
}
