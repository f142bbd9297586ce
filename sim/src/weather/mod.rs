//! Everything that happens to nodes from outside: the network between them, crashes and
//! splits, miners and payments.
//!
//! How often something happens is decided in `scenario`, and whether a node copes with it
//! in `checks`. Start reading at [`network`].

pub(crate) mod clocks;
pub(crate) mod connections;
pub(crate) mod crashes;
pub(crate) mod mining;
pub(crate) mod network;
pub(crate) mod partitions;
pub(crate) mod payments;
pub(crate) mod silence;
