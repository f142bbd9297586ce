//! One simulated node, and what belongs to it alone: its disk, its keys, its vote journal,
//! its memory of gossip and its place on the Earth.
//!
//! Nothing here knows other nodes or the network. Start reading at
//! [`sim_node::SimNode`], which holds the rest together.

pub(crate) mod crash_store;
pub(crate) mod geography;
pub(crate) mod gossip;
pub(crate) mod keys;
pub(crate) mod sim_node;
pub(crate) mod vote_journal;
