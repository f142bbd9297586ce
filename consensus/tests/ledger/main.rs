//! The account ledger over chains of blocks.

#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;

mod state_tree;
mod transitions;
