//! The program: its settings, its start and stop, its files, and a validator's key and votes.

#![allow(clippy::unwrap_used)]

mod config;
mod process;
mod validators;
mod vote_record;
