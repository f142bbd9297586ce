//! The tests of the command `pithead`, as a real process: against a fake node, and
//! in networks of real nodes and miners.
#![allow(clippy::unwrap_used)]

/// Shared with the tests of the library.
#[path = "../../../tests/it/proofs.rs"]
mod proofs;
mod support;

mod evidence;
mod finality;
mod payments;
mod queries;
mod validators;
mod wallets;
mod watching;

#[cfg(unix)]
mod devnet;
#[cfg(unix)]
mod network;
