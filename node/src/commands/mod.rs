//! What the program can do: run the node, verify its data, or work on a vote record. One file
//! each; `pithead-node config` is one line of `main.rs`.

pub(crate) mod start;
pub(crate) mod verify;
pub(crate) mod votes;
