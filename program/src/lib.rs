//! What the long-running programs, node and miner, share. It knows neither of them, no runtime and
//! no log: the caller decides what to do and what to say.
//!
//! Start with [`stdin`].

#![forbid(unsafe_code)]

pub mod stdin;
