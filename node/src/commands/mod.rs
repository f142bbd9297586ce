//! The commands of the program, one file each: run the node, verify its data, work on a vote
//! record. `pithead-node config` is one line of `main.rs`.

pub(crate) mod start;
pub(crate) mod verify;
pub(crate) mod votes;
