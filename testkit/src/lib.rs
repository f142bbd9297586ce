//! What the tests of all crates share: test-only keys, a small chain under the real rules, nodes
//! without a process on a network without sockets, and real `pithead-node` processes.
//!
//! Only tests, benchmarks and the simulation use this crate. Its functions panic where a test
//! should fail. Start with [`key`] and [`chain::SmallChain`]; `world` (feature `nodes`) is the network in
//! memory, `process` (feature `process`) the real programs.

#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a panic is how a test fails"
)]

pub mod chain;
pub mod keys;

#[cfg(feature = "nodes")]
pub mod nodes;
#[cfg(feature = "nodes")]
pub mod votes;
#[cfg(feature = "nodes")]
pub mod watched_store;
#[cfg(feature = "nodes")]
pub mod world;

#[cfg(feature = "process")]
pub mod process;

pub use keys::{KEYS, TestKey, checkpoint, grains, key, link};

/// One PIT in grains.
pub const PIT: u64 = 100_000_000;
/// What each of the first four test keys owns in the genesis of a test network, grains.
pub const ALLOCATION: u64 = 1_000 * PIT;
/// A fee that is enough for a test transaction of ordinary size, grains.
pub const FEE: u64 = 1_000;
