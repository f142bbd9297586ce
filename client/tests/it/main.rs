//! The tests of the library that need no node. What needs one is tested through
//! the command, in `client/cli/tests/`.
#![allow(clippy::unwrap_used)]

mod proofs;

mod evidence;
mod keys;
