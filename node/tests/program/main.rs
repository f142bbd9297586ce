//! The program: its settings, its start and stop, its files, and validators with their vote records.

#![allow(clippy::unwrap_used)]

mod config;
mod files;
mod process;
mod validators;
mod vote_record;
