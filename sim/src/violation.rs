//! How a run can end early.
//!
//! These errors know nothing of the simulated network. Start reading at [`RunError`].

use pithead_consensus::genesis::GenesisError;
use thiserror::Error;

/// Why a run ended early.
#[derive(Debug, Error)]
pub enum RunError {
    /// The simulation found a fault in a node.
    #[error(transparent)]
    Violation(#[from] Violation),
    /// The settings contradict each other; the text says what they must meet.
    #[error("these settings make no network: {0}")]
    Settings(String),
    /// The genesis that follows from the settings breaks a consensus rule.
    #[error(transparent)]
    Genesis(#[from] GenesisError),
}

/// A state that must never occur, and where the run met it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{secs} s into the run{}: {what}", node.map(|node| format!(", node {node}")).unwrap_or_default())]
pub struct Violation {
    /// When the run met it, virtual seconds from the start.
    pub secs: u64,
    /// The index of the node at fault; `None` if it concerns the whole network.
    pub node: Option<usize>,
    /// The rule that was broken, and how, in words.
    pub what: String,
}
