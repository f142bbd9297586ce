//! The settings of the link, and the parts of the program that it works on.

use std::path::PathBuf;
use std::sync::Arc;

use pithead_consensus::Address;

use crate::board::WorkBoard;
use crate::endpoint::NodeAddress;
use crate::stats::Stats;
use crate::telemetry::TelemetryCollector;
use crate::trace::Trace;
use crate::workers::SolutionQueues;

/// The settings of the link.
#[derive(Debug, Clone)]
pub struct LinkConfig {
    /// The nodes, in order of preference; never empty.
    pub nodes: Vec<NodeAddress>,
    /// The address that blocks pay, as the user typed it.
    pub reward_address: String,
    /// The same address, decoded.
    pub reward_payload: Address,
    /// The name under which the node lists this miner.
    pub worker: String,
    /// The file with the role token; `None` if the node asks for no token.
    pub token_file: Option<PathBuf>,
    /// Stop after this many accepted blocks; `None`: never.
    pub blocks_max: Option<u64>,
    /// The record of answers; `None`: no record.
    pub trace: Option<Arc<Trace>>,
}

/// The parts of the program that the link works on.
#[derive(Debug)]
pub struct LinkParts {
    /// The board that the link puts work on.
    pub board: Arc<WorkBoard>,
    /// The counts of the run.
    pub stats: Arc<Stats>,
    /// The source of the reports to the node.
    pub telemetry: TelemetryCollector,
    /// The queues that the workers put solutions into.
    pub queues: SolutionQueues,
}
