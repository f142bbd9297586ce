//! The Pithead chain node.
//!
//! A synchronous core ([`node`]) owns the chain and the mempool; [`engine`]
//! runs it on one thread behind a bounded queue; [`rpc`] serves the gRPC API
//! from snapshots and by sending events to the core.
//!
//! Layers, never backwards: rpc → engine → node → sync → chain, finality, mempool,
//! template → store.

pub mod store;

pub mod chain;
pub mod finality;
pub mod mempool;
pub mod sync;
pub mod template;

pub mod node;
pub mod workers;

pub mod engine;
pub mod p2p;

#[cfg(feature = "planted")]
pub mod planted;

pub mod config;
pub mod logging;
pub mod rpc;
