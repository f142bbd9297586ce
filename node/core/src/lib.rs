//! The core of a Pithead node: the store, the chain, the mempool, finality, sync, and
//! [`node::Node`], which joins them. Events go in, effects come out.
//!
//! The core opens no socket, reads no clock and starts no thread. It does not know libp2p, gRPC
//! or tokio. A caller passes the time with each event, hence every run can be replayed.
//!
//! Start reading at [`node::Node::handle`]. Each module uses only those named after it: `node`,
//! `sync`, `template`, `chain`, then `credits`, then `finality` and `mempool`, then `store`.

pub mod store;

pub mod chain;
pub mod finality;
pub mod mempool;

mod credits;

pub mod template;

pub mod sync;

pub mod node;

#[cfg(feature = "fault-injection")]
pub mod fault_injection;
