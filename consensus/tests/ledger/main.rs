//! The account ledger over chains of blocks.

#![allow(clippy::unwrap_used)]

mod state_tree;
mod transitions;
