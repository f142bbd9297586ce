//! The chain: what the store keeps, which blocks the core accepts, how it reorganises, which
//! templates it makes, and what it serves of the chain to peers.

#![allow(clippy::unwrap_used)]

mod answer_costs;
mod damage;
mod floods;
mod long_reorganisation;
mod money;
mod pending;
mod reorganisation;
mod replay;
mod serve;
mod store;
mod templates;
mod undo;
