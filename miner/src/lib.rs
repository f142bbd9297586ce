//! The Pithead miner: takes work from a node and searches nonces on every core.
//!
//! Start reading at [`mine::mine`], which puts the parts together:
//!
//! 1. [`link`] connects to a node and puts the node's work on the [`board`].
//! 2. [`workers`] take the work from the board and try nonces with a [`kernel`].
//! 3. The link hands the [solutions](solution) in, and [`report`] shows the progress.
//!
//! *Invariant:* only the kernels hash in bulk. The miner holds no second copy of the
//! consensus rules: `pithead_consensus` decides whether a header is a solution.

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

// Kernels need `unsafe`: they use instructions that not every processor has. No
// other module may use it.
#[allow(unsafe_code)]
pub mod kernel;

pub mod bench;

pub mod report;
pub mod stats;
pub mod telemetry;
pub mod trace;

/// The name and version under which this program introduces itself to nodes.
pub const AGENT: &str = concat!("pithead-miner/", env!("CARGO_PKG_VERSION"));
