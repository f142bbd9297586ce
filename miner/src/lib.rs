//! The Pithead miner: takes work from a node and looks for nonces on every core.
//!
//! `mine` puts the parts together: a `link` to a node hangs work on a `board`,
//! `workers` take it from there and try nonces with a `kernel`, what they find
//! goes back through the link, and `report` shows how it goes. The kernels are
//! the only place that hashes in bulk; that a solution is one is for
//! `pithead_consensus` to say, never for a second copy of its rules.

#![deny(unsafe_code, clippy::undocumented_unsafe_blocks)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod cli;
pub mod mine;

pub mod link;
pub mod outcome;

mod backoff;
pub mod endpoint;

pub mod board;
pub mod clock;
pub mod placement;
pub mod solution;
mod versions;
pub mod work;
pub mod workers;

// The only place for `unsafe`: instructions that not every processor has.
#[allow(unsafe_code)]
pub mod kernel;

pub mod bench;

pub mod report;
pub mod stats;
pub mod telemetry;
pub mod trace;

/// How this program introduces itself to nodes.
pub const AGENT: &str = concat!("pithead-miner/", env!("CARGO_PKG_VERSION"));
